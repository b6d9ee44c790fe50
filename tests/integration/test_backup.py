"""Backups: what is in them, what is not, how they come back, and what makes one be refused."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, func, select, text

from moderation import backup, keks, setup
from moderation.domain.errors import Conflict, InvalidInput
from moderation.embedded import Postgres
from moderation.embedded.postgres import APPLICATION
from moderation.settings import Settings
from moderation.storage import archive
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, connect, transaction
from moderation.storage.keystore import KeystoreBase
from moderation.storage.tables import AuditEvent, Base, Item
from moderation.storage.vault import Vault
from tests import support
from tests.canary import hits_in
from tests.support import calling, drain, image_part, post, text_part

CANARY = "zq7kanarienvogel9x"


def quiet(_line: str) -> None:
    """Nobody listens."""


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def filled(client: TestClient, settings: Settings, databases: Databases) -> Settings:
    """An installation with its admin and items of two authors, screened."""
    setup.prepare(settings)
    for number, author in enumerate(("acct-1", "acct-1", "acct-2")):
        parts = [text_part(f"Lovely weather, says {CANARY}."), image_part()]
        sent = post(f"post-{number} {CANARY}", *parts, author=author)
        assert client.post("/v1/items", json=sent).status_code == 202
    drain(settings)
    return settings


@pytest.fixture
def saved(filled: Settings, tmp_path: Path) -> Path:
    """A backup of the content."""
    path = tmp_path / "content.backup"
    backup.make(filled, path, backup.CONTENT, now(), quiet)
    return path


@pytest.fixture
def saved_keys(filled: Settings, tmp_path: Path) -> Path:
    """A backup of the keystore."""
    path = tmp_path / "keystore.backup"
    backup.make(filled, path, backup.KEYSTORE, now(), quiet)
    return path


@pytest.fixture
def empty(filled: Settings, postgres: Postgres, tmp_path: Path) -> Iterator[Settings]:
    """A new installation with the same KEK on databases of its own, never started."""
    names = [f"restored_{kind}_{uuid4().hex[:8]}" for kind in ("content", "keystore")]
    for name in names:
        postgres.create_database(name)
    yield replace(
        filled,
        database_url=postgres.url(names[0], APPLICATION),
        keystore_url=postgres.url(names[1], APPLICATION),
        owner_url=postgres.url(names[0]),
        owner_keystore_url=postgres.url(names[1]),
        blob_dir=tmp_path / "restored-blobs",
    )
    engine = create_engine(postgres.url("postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for name in names:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


def contents(settings: Settings) -> dict[str, set[str]]:
    """Every row of both databases as text, but for what a restore itself adds or ends."""
    databases = connect(settings.database_url, settings.keystore_url, 1)
    found = {}
    for engine, metadata in ((databases.content, Base.metadata), (databases.keystore, KeystoreBase.metadata)):
        with engine.connect() as connection:
            for name in metadata.tables:
                rows = connection.execute(text(f"SELECT t::text FROM {name} AS t"))
                found[name] = {row[0] for row in rows if "backup." not in row[0]}
    databases.dispose()
    return found


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """A copy of a backup with its members changed, or left out."""
    altered = path.with_name("altered")
    with tarfile.open(path) as source, tarfile.open(altered, "w") as target:
        for member in source:
            file = source.extractfile(member)
            assert file is not None
            data = change(member.name, file.read())
            if data is not None:
                member.size = len(data)
                target.addfile(member, io.BytesIO(data))
    return altered


def test_everything_comes_back(filled: Settings, saved: Path, saved_keys: Path, empty: Settings) -> None:
    before = contents(filled)
    assert len(before["items"]) == 3
    backup.restore(empty, saved_keys, now(), quiet)
    backup.restore(empty, saved, now(), quiet)
    after = contents(empty)
    assert before["bursts"]
    assert not after["bursts"], "what ends within the hour is in no backup"
    for name in before.keys() - {"bursts"}:
        # What happened since: a partition's month is noted nowhere, and a first start found all set up.
        assert after[name] == before[name], name
    kept = {path.name: path.read_bytes() for path in filled.blob_dir.rglob("*") if path.is_file()}
    assert kept
    assert {path.name: path.read_bytes() for path in empty.blob_dir.rglob("*") if path.is_file()} == kept
    databases = connect(empty.database_url, empty.keystore_url, 1)
    try:
        key = support.new_key(databases, Vault(databases.keystore, empty.kek), "app")
        with calling(empty, key) as client:
            found = client.get("/v1/items", params={"external_id": f"post-1 {CANARY}"}).json()["items"]
            assert len(found) == 1, "an external id is found again by its digest"
            posted = client.post("/v1/items", json=post("post-9", image_part()))
            assert posted.status_code == 202
        with databases.content.connect() as connection:
            actions = set(connection.scalars(select(AuditEvent.action)))
        assert {"backup.restored"} <= actions
        with support.as_owner(databases.content) as connection:
            assert connection.scalar(text("SELECT count(*) FROM items_default")) == 0, (
                "months have partitions"
            )
    finally:
        databases.dispose()


def test_a_backup_is_recorded_and_private(filled: Settings, saved: Path, databases: Databases) -> None:
    assert saved.stat().st_mode & 0o777 == 0o600
    with databases.content.connect() as connection:
        details = connection.scalar(select(AuditEvent.details).where(AuditEvent.action == "backup.made"))
    assert details["kind"] == "content"
    assert details["blobs"] == 3
    assert details["bytes"] == saved.stat().st_size


def test_no_key_and_no_word_of_content_is_in_a_backup(
    filled: Settings, saved: Path, saved_keys: Path, databases: Databases, tmp_path: Path
) -> None:
    unpacked = tmp_path / "unpacked"
    for path in (saved, saved_keys):
        with tarfile.open(path) as tar:
            tar.extractall(unpacked / path.name, filter="data")
    for packed in unpacked.rglob("*.gz"):
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    found, looked_at = hits_in(unpacked, (CANARY, filled.kek.keys[1].hex()))
    assert found == {}
    assert looked_at > 10_000
    names = {path.name for path in (unpacked / saved.name / "tables").iterdir()}
    assert not names & {f"{name}.gz" for name in KeystoreBase.metadata.tables}
    assert names >= {"items.gz", "parts.gz", "audit_events.gz"}


def test_what_was_erased_is_unreadable_in_a_backup_of_content_at_once(
    filled: Settings, saved: Path, databases: Databases, vault: Vault, empty: Settings
) -> None:
    """The old content comes back beside the keystore of today: of the erased author nothing opens."""
    with databases.content.connect() as connection:
        authors = connection.execute(
            select(Item.author_id, func.count()).group_by(Item.author_id).order_by(func.count())
        ).all()
        erased = authors[1][0]
    vault.destroy_author_keys([erased])
    beside = replace(empty, keystore_url=filled.keystore_url, owner_keystore_url=filled.owner_keystore_url)
    databases.keystore.dispose()
    backup.restore(beside, saved, now(), quiet)
    restored = connect(beside.database_url, beside.keystore_url, 1)
    try:
        with transaction(restored.content) as session:
            items = session.scalars(select(Item)).all()
            assert len(items) == 3
            keys = vault.item_keys([item.id for item in items])
            assert {item.author_id for item in items if item.id in keys} == {authors[0][0]}
            for item in items:
                assert (item.state == "deleted") == (item.author_id == erased), (
                    "hidden before anything serves"
                )
    finally:
        restored.dispose()


def test_an_old_keystore_opens_nothing_once_its_epoch_has_ended(
    filled: Settings, saved_keys: Path, empty: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "kek"
    keks._write(file, {1: filled.kek.keys[1], 2: os.urandom(32)})
    keks.remove(file, 1)
    with pytest.raises(Conflict, match="does not open this keystore"):
        backup.restore(replace(empty, kek=keks.read(file)), saved_keys, now(), quiet)
    databases = connect(empty.database_url, empty.keystore_url, 1)
    assert support.count(databases.keystore, "author_keys") == 0, "nothing was committed"
    databases.dispose()


def test_content_of_another_keystore_is_refused(saved: Path, empty: Settings) -> None:
    with pytest.raises(Conflict, match="belongs to another keystore"):
        backup.restore(empty, saved, now(), quiet)


def test_an_installation_that_is_not_empty_is_refused(saved: Path, saved_keys: Path, empty: Settings) -> None:
    backup.restore(empty, saved_keys, now(), quiet)
    with pytest.raises(Conflict, match="not empty"):
        backup.restore(empty, saved_keys, now(), quiet)
    backup.restore(empty, saved, now(), quiet)
    with pytest.raises(Conflict, match="not empty"):
        backup.restore(empty, saved, now(), quiet)


def test_a_first_run_counts_as_empty(saved: Path, saved_keys: Path, empty: Settings) -> None:
    assert setup.prepare(empty) is not None
    backup.restore(empty, saved_keys, now(), quiet)
    backup.restore(empty, saved, now(), quiet)


def test_another_schema_is_refused(saved_keys: Path, saved: Path, empty: Settings) -> None:
    def older(name: str, data: bytes) -> bytes:
        if name != archive.MANIFEST:
            return data
        return json.dumps(json.loads(data) | {"revision": "0002_content"}).encode()

    backup.restore(empty, saved_keys, now(), quiet)
    with pytest.raises(Conflict, match="schema 0002_content"):
        backup.restore(empty, rewritten(saved, older), now(), quiet)


def test_an_installation_in_use_is_refused(saved_keys: Path, empty: Settings) -> None:
    setup.prepare(empty)
    databases = connect(empty.database_url, empty.keystore_url, 1)
    with databases.keystore.connect(), pytest.raises(Conflict, match="stop the API"):
        backup.restore(empty, saved_keys, now(), quiet)
    databases.dispose()


def _flipped(name: str) -> Callable[[str, bytes], bytes]:
    def change(member: str, data: bytes) -> bytes:
        wanted = member == name or (name == "blobs/" and member.startswith(name))
        return bytes([data[0] ^ 1]) + data[1:] if wanted and data else data

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_flipped("tables/items.gz"), "tables/items.gz is not what was backed up"),
        (_flipped("blobs/"), "its blobs are not"),
        (_flipped(archive.DIGESTS), "not what was backed up"),
        (
            lambda name, data: None if name == archive.MANIFEST else data,
            "manifest, which comes last, is missing",
        ),
        (lambda name, data: None if name == "tables/decisions.gz" else data, "tables/decisions.gz is not"),
        (lambda name, data: None if name.startswith("blobs/") else data, "its blobs are not"),
        (lambda name, data: b"{}" if name == archive.MANIFEST else data, "manifest that can't be read"),
        (lambda name, data: b"[]" if name == archive.MANIFEST else data, "manifest that can't be read"),
    ],
)
def test_an_altered_backup_is_refused(saved: Path, change: Any, said: str) -> None:
    archive.verified(saved)
    with pytest.raises(InvalidInput, match=said):
        archive.verified(rewritten(saved, change))


def test_a_backup_that_was_broken_off_is_refused_wherever(saved: Path) -> None:
    whole = saved.read_bytes()
    part = saved.with_name("part")
    # Up to eleven kilobytes at the end of a tar file are padding, and no loss.
    for share in (0.0, 0.1, 0.5, 0.7):
        part.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(InvalidInput, match=r"is missing|can't be read"):
            archive.verified(part)
    part.write_text("This is no backup.")
    with pytest.raises(InvalidInput, match="can't be read as a backup"):
        archive.verified(part)


@pytest.mark.parametrize(
    "name", ["../escape", "tables/../../escape.gz", "/etc/passwd", "blobs/x", "tables/Items.gz"]
)
def test_a_member_with_a_strange_name_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "strange"
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo(name)
        tar.addfile(member)
    with pytest.raises(InvalidInput, match="no backup of ours"):
        archive.verified(path)


def test_a_failed_backup_leaves_no_file(
    filled: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "content.backup"

    def fails(_self: FolderBlobs) -> Iterator[tuple[str, bytes]]:
        yield "0" * 32, b"one"
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(FolderBlobs, "everything", fails)
        with pytest.raises(OSError, match="No space"):
            backup.make(filled, path, backup.CONTENT, now(), quiet)
    assert list(tmp_path.iterdir()) == []
    backup.make(filled, path, backup.CONTENT, now(), quiet)
    with pytest.raises(InvalidInput, match="never replaces another"):
        backup.make(filled, path, backup.CONTENT, now(), quiet)


def test_a_backup_is_of_one_moment(
    filled: Settings, tmp_path: Path, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Items that come in while it is written are not in it, not even in half of its tables."""
    path = tmp_path / "content.backup"
    written = archive.Writer.table

    def meanwhile(self: archive.Writer, name: str, write: Any) -> int:
        if name in ("authors", "items", "parts"):
            client.post("/v1/items", json=post(f"late-{name}", author=f"late-{name}"))
        return written(self, name, write)

    monkeypatch.setattr(archive.Writer, "table", meanwhile)
    backup.make(filled, path, backup.CONTENT, now(), quiet)
    tables = archive.verified(path)["tables"]
    assert (tables["items"]["rows"], tables["authors"]["rows"], tables["parts"]["rows"]) == (3, 2, 6)


def test_a_backup_opens_no_door_again(
    filled: Settings, saved: Path, saved_keys: Path, empty: Settings
) -> None:
    """A session that was open then would be one that nobody knows of now."""
    shutil.rmtree(empty.blob_dir, ignore_errors=True)
    backup.restore(empty, saved_keys, now(), quiet)
    backup.restore(empty, saved, now(), quiet)
    databases = connect(empty.database_url, empty.keystore_url, 1)
    assert support.count(databases.content, "person_sessions") == 0
    databases.dispose()
