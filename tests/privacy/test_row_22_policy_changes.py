"""Row 22: a published version never changes, is told before it takes effect, and stands behind every decision."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete, select, update
from sqlalchemy.exc import DBAPIError

from moderation.domain.routing import Route
from moderation.governance import policies, webhooks
from moderation.governance.policies import PolicyCache, default_document
from moderation.settings import Settings
from moderation.storage.database import Databases, insert_many, transaction
from moderation.storage.tables import AuditEvent, Decision, Outbox, PolicyRow
from moderation.storage.vault import Vault
from tests import support
from tests.caseload import Caseload

STRICTER = default_document().replace("name: default", "name: stricter")
DAY = timedelta(days=1)


def publish(databases: Databases, now: datetime, effective_at: datetime | None = None) -> None:
    with transaction(databases.content) as session:
        policies.publish(session, STRICTER, "person:1", now, effective_at=effective_at)


@pytest.mark.parametrize(
    "change",
    [
        update(PolicyRow).values(document=STRICTER + "# milder"),
        update(PolicyRow).values(effective_at=datetime(2020, 1, 1, tzinfo=UTC)),
        delete(PolicyRow),
    ],
    ids=["its text", "its date", "all of it"],
)
def test_a_published_version_is_immutable(databases: Databases, now: datetime, change: object) -> None:
    publish(databases, now, now + 10 * DAY)
    for version in (1, 2):
        with transaction(databases.content) as session, pytest.raises(DBAPIError):
            session.execute(change.where(PolicyRow.version == version))  # type: ignore[attr-defined]


def test_clients_are_told_before_it_takes_effect(databases: Databases, vault: Vault) -> None:
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        events = ["policy.announced"]
        webhooks.register(session, vault, "app", "hook", "http://127.0.0.1:9999/", events, True, now)
    publish(databases, now, now + 10 * DAY)
    with transaction(databases.content) as session:
        (told,) = session.scalars(select(Outbox)).all()
        row = session.get_one(PolicyRow, 2)
        assert row.effective_at is not None
        assert told.not_before < row.effective_at
        assert told.payload["effective_at"] == f"{row.effective_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        assert told.payload["sha256"] == row.sha256


def test_its_hash_is_in_the_audit_log(databases: Databases, now: datetime) -> None:
    publish(databases, now)
    with transaction(databases.content) as session:
        event = session.scalars(select(AuditEvent).where(AuditEvent.action == "policy.published")).one()
        document = policies.document_of(session, int(event.subject_id))
    assert event.details["sha256"] == hashlib.sha256(document.encode()).hexdigest()


def test_there_is_no_decision_without_a_version(load: Caseload) -> None:
    load.routed(load.items(), Route.ALLOW)
    with transaction(load.databases.content) as session:
        row = session.scalars(select(Decision)).one()
        values = {column.key: getattr(row, column.key) for column in Decision.__table__.columns}
    for version in (None, 99):
        other = values | {"id": load.items()[0], "item_id": load.items()[0], "policy_version": version}
        with transaction(load.databases.content) as session, pytest.raises(DBAPIError):
            insert_many(session, Decision, [other])


def test_a_decision_cites_the_version_in_force_and_not_the_announced_one(
    client: TestClient, settings: Settings, databases: Databases
) -> None:
    now = datetime.now(UTC)
    publish(databases, now, now + 10 * DAY)
    client.post("/v1/items", json=support.post("before"))
    support.drain(settings)
    with transaction(databases.content) as session:
        assert set(session.scalars(select(Decision.policy_version))) == {1}
        assert PolicyCache().current(session, now + 11 * DAY).version == 2
        policies.publish(session, STRICTER, "person:1", now)
    client.post("/v1/items", json=support.post("after"))
    support.drain(settings)
    with transaction(databases.content) as session:
        cited = session.scalars(select(Decision.policy_version).order_by(Decision.id)).all()
    assert cited == [1, 3]
