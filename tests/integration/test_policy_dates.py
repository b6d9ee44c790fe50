"""A version may take effect at a date to come: announced, told, and cited by nothing before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from moderation.domain.errors import Conflict, InvalidInput, NotFound
from moderation.governance import drafts, policies, webhooks
from moderation.governance.policies import Emergency, PolicyCache, default_document
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, Outbox
from moderation.storage.vault import Vault

DEFAULT = default_document()
STRICTER = DEFAULT.replace("name: default", "name: stricter")
MILDER = DEFAULT.replace("name: default", "name: milder")
PROMISING = DEFAULT + "\nnotice_days: 14\n"
DAY = timedelta(days=1)
HOOK = "http://127.0.0.1:9999/"


@pytest.fixture
def now() -> datetime:
    """Later than the version that every test database begins with."""
    return datetime.now(UTC) + timedelta(minutes=1)


def publish(databases: Databases, document: str, now: datetime, **options: Any) -> int:
    with transaction(databases.content) as session:
        return policies.publish(session, document, "operator", now, **options).version


def in_force(databases: Databases, now: datetime) -> int:
    with transaction(databases.content) as session:
        return PolicyCache().current(session, now).version


def states(databases: Databases, now: datetime) -> list[str]:
    with transaction(databases.content) as session:
        return [one.state for one in reversed(policies.versions(session, now))]


def test_a_version_is_announced_until_its_date_and_then_in_force(databases: Databases, now: datetime) -> None:
    date = now + 10 * DAY
    assert publish(databases, STRICTER, now, effective_at=date) == 2
    assert in_force(databases, now) == in_force(databases, date - timedelta(seconds=1)) == 1
    assert in_force(databases, date) == 2
    assert states(databases, now) == ["in_force", "announced"]
    assert states(databases, date) == ["past", "in_force"]
    with transaction(databases.content) as session:
        assert PolicyCache().current(session).version == 1, "by the database's clock too"
        assert policies.document_in_force(session, now)[0] == 1
        assert policies.newest_document(session) == (2, STRICTER), "an editor builds on what is coming"


def test_an_announced_version_ends_by_one_that_takes_effect_no_later(
    databases: Databases, now: datetime
) -> None:
    date = now + 10 * DAY
    publish(databases, STRICTER, now, effective_at=date)
    assert publish(databases, DEFAULT, now) == 3
    assert states(databases, now) == ["past", "overtaken", "in_force"]
    assert in_force(databases, date + DAY) == 3
    with transaction(databases.content) as session:
        assert policies.announced(session, now) == []


def test_one_that_takes_effect_later_leaves_it_its_time(databases: Databases, now: datetime) -> None:
    publish(databases, STRICTER, now, effective_at=now + 5 * DAY)
    publish(databases, MILDER, now, effective_at=now + 10 * DAY)
    assert [in_force(databases, now + days * DAY) for days in (0, 5, 9, 10)] == [1, 2, 2, 3]
    assert states(databases, now) == ["in_force", "announced", "announced"]


def test_the_same_announced_twice_is_one_version_and_with_another_date_another(
    databases: Databases, now: datetime
) -> None:
    date = now + 10 * DAY
    assert publish(databases, STRICTER, now, effective_at=date) == 2
    assert publish(databases, STRICTER, now, effective_at=date) == 2
    assert publish(databases, STRICTER, now, effective_at=date - DAY) == 3
    assert publish(databases, STRICTER, now) == 4
    assert in_force(databases, now) == 4


@pytest.mark.parametrize("wrong", [-DAY, timedelta(), timedelta(days=731)])
def test_a_date_lies_ahead_and_not_too_far(databases: Databases, now: datetime, wrong: timedelta) -> None:
    with pytest.raises(InvalidInput, match="time to come"):
        publish(databases, STRICTER, now, effective_at=now + wrong)


def test_notice_that_is_promised_is_kept(databases: Databases, now: datetime) -> None:
    assert publish(databases, PROMISING, now) == 2
    for too_near in ({}, {"effective_at": now + 13 * DAY}):
        with pytest.raises(InvalidInput, match="14 days of notice"):
            publish(databases, STRICTER, now, **too_near)
    assert publish(databases, STRICTER, now, effective_at=now + 14 * DAY) == 3
    assert publish(databases, PROMISING, now) == 4, "going back to what is in force changes nothing"
    assert in_force(databases, now + 15 * DAY) == 4


def test_an_emergency_is_on_record(databases: Databases, now: datetime) -> None:
    publish(databases, PROMISING, now)
    assert publish(databases, STRICTER, now, emergency=Emergency.LEGAL_ORDER) == 3
    with transaction(databases.content) as session:
        event = session.scalars(select(AuditEvent).where(AuditEvent.subject_id == "3")).one()
    assert (event.action, event.details["emergency"]) == ("policy.published", "legal_order")


def test_every_client_is_told_before_it_takes_effect(
    databases: Databases, vault: Vault, now: datetime
) -> None:
    with transaction(databases.content) as session:
        for client, event in (
            ("app", "policy.announced"),
            ("shop", "policy.announced"),
            ("deaf", "item.decided"),
        ):
            webhooks.register(session, vault, client, "hook", HOOK, [event], True, now)
    date = now + 10 * DAY
    publish(databases, STRICTER, now, effective_at=date)
    with transaction(databases.content) as session:
        told = session.scalars(select(Outbox)).all()
    assert {one.client for one in told} == {"app", "shop"}
    for one in told:
        assert one.event == "policy.announced"
        assert one.not_before < date
        assert one.payload["version"] == 2
        assert one.payload["effective_at"] == f"{date:%Y-%m-%dT%H:%M:%SZ}"
        assert len(one.payload["sha256"]) == 64


def save(databases: Databases, now: datetime, **changes: Any) -> Any:
    options = {"name": "mine", "document": STRICTER, "base": 1, "by": "person:1", "now": now} | changes
    with transaction(databases.content) as session:
        return drafts.save(session, **options)


def test_a_draft_is_kept_with_its_faults_changed_and_ended(databases: Databases, now: datetime) -> None:
    draft = save(databases, now, document="name: [")
    with transaction(databases.content) as session:
        assert drafts.load(session, draft).faults == 1
    assert save(databases, now + DAY, draft_id=draft, by="person:2") == draft
    with transaction(databases.content) as session:
        (found,) = drafts.listing(session)
        assert (found.name, found.document, found.faults) == ("mine", STRICTER, 0)
        assert (found.saved_by, found.saved_at) == ("person:2", now + DAY)
        drafts.end(session, draft, "person:2", now, version=2)
    with transaction(databases.content) as session:
        assert drafts.listing(session) == []
        with pytest.raises(NotFound):
            drafts.load(session, draft)
        said = session.scalars(select(AuditEvent.action).where(AuditEvent.subject_id == str(draft))).all()
    assert sorted(said) == ["policy.draft_ended", "policy.draft_saved", "policy.draft_saved"]


def test_nobody_writes_over_what_somebody_saved_meanwhile(databases: Databases, now: datetime) -> None:
    draft = save(databases, now)
    save(databases, now + DAY, draft_id=draft, by="person:2", seen=now)
    with pytest.raises(Conflict, match="saved this draft"):
        save(databases, now + 2 * DAY, draft_id=draft, seen=now)


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"name": "  "}, InvalidInput), ({"document": "x" * 200_001}, InvalidInput), ({"base": 9}, NotFound)],
)
def test_a_draft_that_can_not_be_kept(
    databases: Databases, now: datetime, changes: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        save(databases, now, **changes)
