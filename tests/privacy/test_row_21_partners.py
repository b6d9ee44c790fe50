"""Row 21: partners read assigned items in their fields only, each read is logged, deletions sent until heard."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from sqlalchemy import select

from moderation.governance import erasure, partners
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent
from moderation.storage.vault import Vault
from tests import reviewing, support
from tests.unit.test_architecture import rights, walk


@pytest.fixture
def lab(settings: Settings, databases: Databases, vault: Vault) -> Iterator[TestClient]:
    """A partner for texts alone."""
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        token = partners.create(
            session, vault, name="lab", purpose="review", fields=["text"], actor="operator",
            expires_at=now + timedelta(days=1), now=now,
        )  # fmt: skip
    with support.calling(settings, token) as client:
        yield client


def submitted(client: TestClient, name: str, author: str) -> UUID:
    parts = [support.text_part(f"Text of {name}."), support.image_part()]
    context = {"thread": "zq95thread", "language": "pt"}
    return reviewing.submitted(client, name, author=author, parts=parts, context=context)


def assign(databases: Databases, item: UUID) -> None:
    with transaction(databases.content) as session:
        partners.assign(session, "lab", "operator", datetime.now(UTC), items=[item])


def reads(databases: Databases) -> list[tuple[str, str]]:
    with transaction(databases.content) as session:
        found = session.scalars(select(AuditEvent).where(AuditEvent.action == "partner.item_read"))
        return sorted((row.actor, row.subject_id) for row in found)


def test_only_what_was_assigned_and_only_its_fields(
    client: TestClient, lab: TestClient, databases: Databases
) -> None:
    given, other = submitted(client, "given", "acct-1"), submitted(client, "other", "acct-2")
    assign(databases, given)
    shown = lab.get(f"/v1/partner/items/{given}").json()
    assert shown == {
        "id": str(given),
        "kind": "comment",
        "parts": [{"type": "text", "name": "body", "text": "Text of given."}],
    }
    assert lab.get(f"/v1/partner/items/{other}").status_code == 404
    assert [row["id"] for row in lab.get("/v1/partner/items").json()["items"]] == [str(given)]


def test_every_other_door_is_shut_to_them(lab: TestClient) -> None:
    doors = [
        route
        for route in walk(lab.app.routes)  # type: ignore[attr-defined]
        if isinstance(route, APIRoute) and route.path.startswith("/v1/") and not rights(route.dependant)
    ]
    assert len(doors) > 40
    for route in doors:
        for method in route.methods - {"HEAD"}:
            path = route.path.replace(":path}", "}").replace("{", "").replace("}", "")
            status = lab.request(method, path, json={}).status_code
            # A session is made by whoever has a password: there a key counts for nothing.
            assert status in ((401, 422) if route.path == "/v1/sessions" else (401,)), (method, route.path)


def test_reads_and_read_events_are_the_same_set(
    client: TestClient, lab: TestClient, databases: Databases
) -> None:
    items = [submitted(client, f"post-{number}", f"acct-{number}") for number in range(3)]
    for item in items[:2]:
        assign(databases, item)
    answers = {item: lab.get(f"/v1/partner/items/{item}").status_code for item in (*items, items[0])}
    assert answers == {items[0]: 200, items[1]: 200, items[2]: 404}
    expected = [("partner:lab", str(item)) for item in (items[0], items[0], items[1])]
    assert reads(databases) == sorted(expected)


def test_deletions_are_sent_until_they_are_acknowledged(
    client: TestClient, lab: TestClient, databases: Databases, vault: Vault, blobs: FolderBlobs
) -> None:
    item = submitted(client, "given", "acct-1")
    assign(databases, item)
    body = {"kind": "erase", "identity_verified": True}
    client.post("/v1/subjects/acct-1/requests", json=body).raise_for_status()
    erasure.run(databases, vault, blobs, datetime.now(UTC), 20)
    assert lab.get(f"/v1/partner/items/{item}").status_code == 410
    for _ in range(3):
        assert [row["item_id"] for row in lab.get("/v1/partner/deletions").json()["deletions"]] == [str(item)]
    lab.post(f"/v1/partner/deletions/{item}/ack").raise_for_status()
    assert lab.get("/v1/partner/deletions").json() == {"deletions": []}
    assert not reads(databases)
