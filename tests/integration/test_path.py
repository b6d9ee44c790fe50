"""One item travels its whole path: over HTTP, through relay, broker and worker, to a verdict and back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from api.app import create_app
from moderation import jobs, relay, worker
from moderation.governance import accounts
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, Item
from moderation.storage.vault import Vault
from tests.conftest import NOW


@pytest.fixture
def api_key(databases: Databases, vault: Vault) -> str:
    with transaction(databases.content) as session:
        return accounts.create_api_key(session, vault, "app", list(accounts.Scope), NOW, "operator")


@pytest.fixture
def client(settings: Settings, api_key: str) -> Iterator[TestClient]:
    with TestClient(create_app(settings), headers={"Authorization": f"Bearer {api_key}"}) as client:
        yield client


def drain(settings: Settings) -> None:
    """What relay and workers do until nothing is due: the real ones, in this thread."""
    with relay.opened(settings) as relaying, worker.opened(settings, jobs.SCREENING) as screening:
        while relay.tick(relaying, datetime.now(UTC)):
            screening.work(burst=True, logging_level="WARNING")


POST = {
    "external_id": "post-1",
    "author": "acct-1",
    "kind": "comment",
    "parts": [{"type": "text", "name": "body", "text": "Lovely weather in Lisbon today."}],
}


def test_accepts(client: TestClient, databases: Databases) -> None:
    answer = client.post("/v1/items", json=POST)
    assert answer.status_code == 202, answer.text
    again = client.post("/v1/items", json=POST)
    assert again.json() == answer.json()
    with transaction(databases.content) as session:
        assert len(session.scalars(select(Item)).all()) == 1
        assert session.scalars(select(AuditEvent.action)).all() == ["api_key.created", "item.received"]


def test_a_harmless_text_is_allowed(client: TestClient, settings: Settings, databases: Databases) -> None:
    item = client.post("/v1/items", json=POST).json()
    assert item["status"] == "received"
    drain(settings)
    shown = client.get(item["status_url"]).json()
    assert shown["status"] == "decided"
    assert shown["verdict"] == "allow"
