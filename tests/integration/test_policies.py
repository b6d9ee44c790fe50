"""Policies are published as versions that never change, each with its hash in the log."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.exc import DBAPIError

from moderation.domain.errors import NotFound, PolicyInvalid
from moderation.governance import policies
from moderation.governance.policies import PolicyCache, default_document
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, PolicyRow
from tests import support

DEFAULT = default_document()
STRICTER = DEFAULT.replace("name: default", "name: stricter")


def publish(databases: Databases, document: str, now: datetime) -> int:
    with transaction(databases.content) as session:
        return policies.publish(session, document, "person:1", now).version


def published(databases: Databases) -> list[tuple[int, str]]:
    with transaction(databases.content) as session:
        return [
            (row.version, row.sha256)
            for row in session.scalars(select(PolicyRow).order_by(PolicyRow.version))
        ]


def events(databases: Databases) -> list[AuditEvent]:
    with transaction(databases.content) as session:
        query = select(AuditEvent).where(AuditEvent.action == "policy.published").order_by(AuditEvent.id)
        return list(session.scalars(query))


def test_a_new_document_is_the_next_version_and_audited(databases: Databases, now: datetime) -> None:
    assert publish(databases, STRICTER, now) == 2
    sha256 = hashlib.sha256(STRICTER.encode()).hexdigest()
    assert published(databases)[1] == (2, sha256)
    (event,) = events(databases)
    assert (event.actor, event.subject_id, event.details) == ("person:1", "2", {"sha256": sha256})


def test_the_same_document_twice_is_one_version(databases: Databases, now: datetime) -> None:
    assert [publish(databases, STRICTER, now) for _ in range(3)] == [2, 2, 2]
    assert len(events(databases)) == 1


def test_going_back_is_a_new_version_too(databases: Databases, now: datetime) -> None:
    publish(databases, STRICTER, now)
    assert publish(databases, DEFAULT, now) == 3
    with transaction(databases.content) as session:
        current = PolicyCache().current(session)
    assert (current.version, current.name) == (3, "default")
    assert len({sha256 for _, sha256 in published(databases)}) == 3


def test_published_at_once_by_many_it_is_one_version(databases: Databases, now: datetime) -> None:
    with ThreadPoolExecutor(4) as pool:
        versions = list(pool.map(lambda _: publish(databases, STRICTER, now), range(8)))
    assert versions == [2] * 8
    assert len(published(databases)) == 2


def test_a_faulty_document_publishes_nothing(databases: Databases, now: datetime) -> None:
    with pytest.raises(PolicyInvalid, match="line "):
        publish(databases, STRICTER.replace("severity: 4", "severity: 44", 1), now)
    assert len(published(databases)) == 1
    assert not events(databases)


def test_a_published_version_can_not_be_changed(databases: Databases, now: datetime) -> None:
    publish(databases, STRICTER, now)
    for change in (update(PolicyRow).values(document=DEFAULT), delete(PolicyRow)):
        with transaction(databases.content) as session, pytest.raises(DBAPIError, match="permission denied"):
            session.execute(change.where(PolicyRow.version == 2))


def test_the_newest_is_in_force_from_the_moment_it_is_committed(databases: Databases, now: datetime) -> None:
    cache = PolicyCache()
    with transaction(databases.content) as session:
        first = cache.current(session)
        assert cache.current(session) is first, "a version is parsed once"
    publish(databases, STRICTER, now)
    with transaction(databases.content) as session:
        assert cache.current(session).name == "stricter"


def test_without_a_policy_nothing_is_decided(databases: Databases, now: datetime) -> None:
    with transaction(databases.content) as session:
        (row,) = session.scalars(select(PolicyRow)).all()
    kept = {column: getattr(row, column) for column in PolicyRow.__table__.columns.keys()}  # noqa: SIM118
    support.unprotected(databases.content, "DELETE FROM policies")
    try:
        with transaction(databases.content) as session:
            assert not policies.published(session)
            with pytest.raises(NotFound, match="moderation migrate"):
                PolicyCache().current(session)
    finally:
        with transaction(databases.content) as session:
            session.add(PolicyRow(**kept))
