"""The ways into the database that are ours: COPY for many rows, arrays for many values, leases that may be lost."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from moderation.domain.content import Lane
from moderation.storage.database import Databases, among, insert_many, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import AuditEvent, Author
from tests.conftest import NOW

AWKWARD = "tab\t, line\n, backslash \\, \\N, quote ', accent é, emoji 🌿"


def author(identifier: UUID, reference: bytes = b"\x00\xff\\N\t\n") -> dict[str, Any]:
    digest = identifier.bytes * 2
    row = {"id": identifier, "client": "app", "reference_digest": digest, "reference": reference}
    return row | {"created_at": NOW}


def test_rows_come_back_as_they_went_in(databases: Databases) -> None:
    event = {
        "id": new_id(NOW),
        "at": NOW,
        "actor": AWKWARD,
        "action": Lane.BULK,
        "subject": "",
        "subject_id": "null",
        "details": {"said": AWKWARD, "nothing": None, "number": 1.5, "list": [1, "2"]},
    }
    people = [author(new_id(NOW)) for _ in range(3)]
    with transaction(databases.content) as session:
        insert_many(session, AuditEvent, [event])
        insert_many(session, Author, people)
        insert_many(session, Author, [])
    with transaction(databases.content) as session:
        row = session.scalars(select(AuditEvent).where(AuditEvent.id == event["id"])).one()
        assert {name: getattr(row, name) for name in event} == event | {"action": "bulk"}
        found = session.scalars(select(Author).where(among(Author.id, [p["id"] for p in people[:2]]))).all()
        assert {one.id for one in found} == {p["id"] for p in people[:2]}
        assert all(one.reference == b"\x00\xff\\N\t\n" for one in found)
        assert not session.scalars(select(Author).where(among(Author.reference_digest, []))).all()


def test_a_refused_row_is_refused_as_by_any_insert_and_says_no_content(databases: Databases) -> None:
    one = author(new_id(NOW), b"secret")
    with pytest.raises(IntegrityError) as caught, transaction(databases.content) as session:
        insert_many(session, Author, [one, one])
    assert "secret" not in str(caught.value)
    with transaction(databases.content) as session:
        assert not session.scalars(select(Author)).all(), "all or nothing"


def test_a_lost_connection_is_told_as_an_outage_and_leaves_the_pool_usable(databases: Databases) -> None:
    def insert_over_a_dead_connection() -> None:
        with transaction(databases.content) as session:
            pid = session.scalar(text("SELECT pg_backend_pid()"))
            with databases.content.begin() as other:
                other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
            insert_many(session, Author, [author(new_id(NOW))])

    with pytest.raises(DBAPIError) as caught:
        insert_over_a_dead_connection()
    assert isinstance(caught.value, OperationalError)
    assert caught.value.connection_invalidated
    with transaction(databases.content) as session:
        insert_many(session, Author, [author(new_id(NOW))])


def test_only_a_lease_may_be_forgotten(databases: Databases) -> None:
    def asked(*, durable: bool) -> object:
        with transaction(databases.content, durable=durable) as session:
            return session.scalar(text("SHOW synchronous_commit"))

    assert asked(durable=False) == "off"
    assert asked(durable=True) == "on", "the setting ends with its transaction"
