"""Row 11: nothing is kept longer than its class says. Hidden at T, gone by T and a sweep, the rest untouched."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fastapi.testclient import TestClient
from sqlalchemy import Table

from moderation import upkeep
from moderation.domain.retention import RecordClass
from moderation.governance import erasure
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases
from moderation.storage.keystore import KeystoreBase
from moderation.storage.tables import Base
from moderation.storage.vault import Vault
from tests.integration.test_erasure_time import ends
from tests.support import count, drain, image_part, post, text_part

SLO = timedelta(seconds=upkeep.SWEEP_SECONDS)


def test_hidden_at_its_time_gone_by_the_next_sweep_and_live_data_untouched(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault, blobs: FolderBlobs
) -> None:
    ending, living = (
        client.post("/v1/items", json=post(name, text_part(), image_part())).json()
        for name in ("post-1", "post-2")
    )
    drain(settings)
    before = client.get(living["status_url"]).json()
    at = datetime.now(UTC) - timedelta(milliseconds=1)
    ends(databases, ending["id"], at)
    assert client.get(ending["status_url"]).status_code == 404, "at its time, before any sweep"
    assert count(databases.content, "parts") == 4
    assert erasure.sweep(databases, vault, blobs, at + SLO) == 1
    for table in ("parts", "signals"):
        assert count(databases.content, f"{table} WHERE item_id = '{ending['id']}'") == 0
        assert count(databases.content, f"{table} WHERE item_id = '{living['id']}'") > 0
    assert count(databases.keystore, "item_keys") == 1
    assert len([path for path in settings.blob_dir.rglob("*") if path.is_file()]) == 1
    assert client.get(living["status_url"]).json() == before


def unclassed(tables: list[Table]) -> list[str]:
    """Columns that don't say how long they live."""
    return [
        f"{table.name}.{column.name}"
        for table in tables
        for column in table.columns
        if column.info.get("retention") not in set(RecordClass)
    ]


def test_every_column_is_classed() -> None:
    tables = [*Base.metadata.tables.values(), *KeystoreBase.metadata.tables.values()]
    assert unclassed(tables) == []
    column = tables[0].columns[0]
    try:
        said = column.info.pop("retention")
        assert unclassed(tables) == [f"{tables[0].name}.{column.name}"], "one that stays silent is found"
    finally:
        column.info["retention"] = said
