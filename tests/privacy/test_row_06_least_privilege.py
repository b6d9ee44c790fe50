"""Row 6: least privilege. What is not allowed is refused, by the routes and by the database itself.

The matrix of roles and routes is `tests/integration/test_role_matrix.py`; that every route asks for something,
`tests/unit/test_architecture.py`. Here: both would fail on a route without a permission, and the role as which the
application runs can change nothing that is on record.
"""

from __future__ import annotations

from datetime import datetime

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError

from api.app import create_app
from moderation.governance import audit
from moderation.settings import Settings
from moderation.storage import partitions, roles
from moderation.storage.database import Databases, transaction
from moderation.storage.keystore import KeystoreBase
from moderation.storage.tables import AuditCheckpoint, AuditEvent, AuditTile, Base
from tests import support
from tests.unit.test_architecture import DOOR, PUBLIC, asked, walk

DENIED = "permission denied|must be owner|permission to set"


@pytest.fixture
def recorded(databases: Databases, now: datetime) -> Databases:
    """One row in each table that is never changed."""
    with transaction(databases.content) as session:
        audit.record(session, [audit.Event("operator", "policy.published", "policy", "1")], now)
        session.execute(insert(AuditTile).values(level=0, index=0, hashes=b"x"))
        session.execute(insert(AuditCheckpoint).values(size=1, root=b"x", note="n", at=now))
    return databases


def refused(databases: Databases, statement: str) -> None:
    with pytest.raises(DBAPIError, match=DENIED), databases.content.begin() as connection:
        connection.execute(text(statement))


def open_to_all(app: FastAPI) -> set[str]:
    """The routes of an application that ask for no scope, permission or right."""
    return {
        route.path for route in walk(app.routes) if isinstance(route, APIRoute) and not asked(route.dependant)
    }


def test_no_route_is_open_unless_on_purpose_and_one_that_is_would_be_seen(settings: Settings) -> None:
    def everything() -> None:
        """All there is, to anybody."""

    app = create_app(settings)
    assert open_to_all(app) <= PUBLIC | DOOR
    app.add_api_route("/v1/everything", everything)
    assert open_to_all(app) - PUBLIC - DOOR == {"/v1/everything"}


@pytest.mark.parametrize(
    "path", ["/v1/items", "/v1/review/cases", "/console/queue", "/console/audit", "/console/people"]
)
def test_nobody_gets_in_without_a_key_or_a_session(settings: Settings, path: str) -> None:
    with support.calling(settings, None) as nobody:
        assert nobody.get(path, follow_redirects=False).status_code in (303, 308, 401)


@pytest.mark.parametrize("table", support.UNCHANGING)
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM {}",
        "TRUNCATE {}",
        "ALTER TABLE {} DISABLE TRIGGER USER",
        "ALTER TABLE {} ADD COLUMN more text",
        "DROP TABLE {} CASCADE",
        "CREATE RULE quiet AS ON INSERT TO {} DO INSTEAD NOTHING",
    ],
)
def test_the_application_can_not_change_what_is_on_record(
    recorded: Databases, table: str, statement: str
) -> None:
    refused(recorded, statement.format(table))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET action = 'other'",
        "UPDATE audit_events SET at = now()",
        "UPDATE audit_events SET actor = 'operator', details = '{}'",
        "UPDATE audit_tiles SET hashes = 'y'",
        "UPDATE audit_checkpoints SET note = 'other'",
        "UPDATE policies SET document = 'other'",
        "INSERT INTO policies SELECT * FROM policies ON CONFLICT (version) DO UPDATE SET document = 'other'",
    ],
)
def test_nor_rewrite_a_row_of_it(recorded: Databases, statement: str) -> None:
    refused(recorded, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SET ROLE moderation",
        "SET SESSION AUTHORIZATION moderation",
        "SET session_replication_role = replica",
        "CREATE TABLE mine (said text)",
        "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
        "ALTER ROLE moderation_app SUPERUSER",
        "GRANT moderation TO moderation_app",
        "COPY audit_events TO PROGRAM 'cat'",
        "SELECT pg_read_file('/etc/passwd')",
        "DROP TABLE items_default",
        "DELETE FROM items_default",
        "UPDATE alembic_version SET version_num = '0001_content'",
        "SELECT lo_import('/etc/passwd')",
    ],
)
def test_nor_become_somebody_who_can(databases: Databases, statement: str) -> None:
    with pytest.raises(DBAPIError) as caught, databases.content.begin() as connection:
        connection.execute(text(statement))
    assert caught.value.orig is not None
    assert getattr(caught.value.orig, "sqlstate", "") == "42501", caught.value


def test_what_the_log_needs_is_allowed_and_bound_by_its_trigger(recorded: Databases) -> None:
    with recorded.content.begin() as connection:
        connection.execute(text("UPDATE audit_events SET leaf_index = 0"))
    with (
        pytest.raises(DBAPIError, match="never changed"),
        recorded.content.begin() as connection,
    ):
        connection.execute(text("UPDATE audit_events SET leaf_index = 7"))
    with recorded.content.connect() as connection:
        assert connection.scalar(select(AuditEvent.leaf_index)) == 0


def test_the_application_owns_nothing_and_the_owner_is_noticed(databases: Databases) -> None:
    for engine in (databases.content, databases.keystore):
        with engine.connect() as connection:
            assert not roles.is_owner(connection)
        with support.as_owner(engine) as connection:
            assert roles.is_owner(connection)


def test_every_table_is_there_to_work_with(databases: Databases) -> None:
    """A grant that was forgotten for a new table would show here before it shows in production."""
    for engine, metadata in ((databases.content, Base.metadata), (databases.keystore, KeystoreBase.metadata)):
        with engine.connect() as connection:
            for table in metadata.tables:
                wanted = (
                    {"SELECT", "INSERT"} if table in roles.NARROWER else set(roles.EVERYTHING.split(", "))
                )
                query = text("SELECT has_table_privilege(:table, :privilege)")
                held = {
                    one
                    for one in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
                    if connection.scalar(query, {"table": table, "privilege": one})
                }
                assert held == wanted, table


@pytest.mark.parametrize(
    "arguments",
    [
        "'people', date '2026-11-01'",
        "'items; DROP TABLE people', date '2026-11-01'",
        "'items', date '2026-11-02'",
        "'items', date '1970-01-01'",
        "NULL, date '2026-11-01'",
        "'items', NULL",
    ],
)
@pytest.mark.parametrize("function", ["ensure_partition", "drop_partition"])
def test_the_owners_functions_take_a_known_table_and_a_month(
    databases: Databases, function: str, arguments: str
) -> None:
    with pytest.raises(DBAPIError, match="no such partition"), databases.content.begin() as connection:
        connection.execute(text(f"SELECT {function}({arguments})"))


def test_partitions_are_made_and_dropped_without_owning_them(databases: Databases, now: datetime) -> None:
    old = now.replace(year=2021, month=5)
    with databases.content.begin() as connection:
        made = [f"{table}_p202105" for table in partitions.PARTITIONED]
        assert partitions.ensure(connection, old, 0) == made
        month = partitions.months(connection)[0]
        assert (month.year, month.month) == (2021, 5)
        connection.execute(
            text(
                "INSERT INTO signals (item_id, part, detector, version, status, scores, evidence) "
                "VALUES (partition_bound(:month), 'body', 'd', '1', 'ok', '{}', '{}')"
            ),
            {"month": month},
        )
        assert not partitions.drop_empty(connection, "signals", month), "there is a row in it"
        connection.execute(text("DELETE FROM signals"))
        for table in partitions.PARTITIONED:
            assert partitions.drop_empty(connection, table, month)
            assert not partitions.drop_empty(connection, table, month)
    with databases.content.begin() as connection:
        assert partitions.months(connection)[0] > month
        assert not partitions.drop_empty(connection, "items", partitions.months(connection)[-1]), (
            "it is to come"
        )
