"""The databases are what the tables say, month after month, and the records that are never changed refuse it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from alembic import command
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError

from moderation.embedded import Postgres
from moderation.storage import migrate, partitions
from moderation.storage.ids import new_id

NOW = datetime(2026, 11, 22, tzinfo=UTC)
MONTHS = ("202611", "202612", "202701", "202702")
PARTITIONS = {
    f"{table}_p{month}" for table in ("items", "parts", "part_features", "signals") for month in MONTHS
}


@pytest.fixture(scope="module")
def urls(postgres: Postgres) -> dict[str, str]:
    """Two databases of this module's own, freshly migrated."""
    postgres.create_database("fresh_content")
    postgres.create_database("fresh_keystore")
    urls = {"content": postgres.url("fresh_content"), "keystore": postgres.url("fresh_keystore")}
    migrate.migrate(urls["content"], urls["keystore"], NOW)
    return urls


@pytest.fixture
def connection(urls: dict[str, str]) -> Iterator[Connection]:
    """The content database; what a test writes is rolled back."""
    engine = create_engine(urls["content"])
    with engine.connect() as connection:
        yield connection
        connection.rollback()
    engine.dispose()


def tables(connection: Connection) -> set[str]:
    return set(connection.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")))


def lands_in(connection: Connection, moment: datetime) -> str:
    """The partition that a signal of an item of `moment` is stored in."""
    return str(
        connection.scalar(
            text(
                "INSERT INTO signals (item_id, part, detector, version, status, scores, evidence) "
                "VALUES (:id, 'body', 'd', '1', 'ok', '{}', '{}') RETURNING tableoid::regclass"
            ),
            {"id": new_id(moment)},
        )
    )


@pytest.mark.parametrize("branch", ["content", "keystore"])
def test_tables_and_migrations_agree(urls: dict[str, str], branch: str) -> None:
    engine = create_engine(urls[branch])
    with engine.begin() as connection:
        command.check(migrate.config(branch, connection))
    engine.dispose()


def test_a_difference_would_be_seen(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE items DROP COLUMN reach"))
    with pytest.raises(Exception, match="New upgrade operations detected"):
        command.check(migrate.config("content", connection))


@pytest.mark.parametrize("branch", ["content", "keystore"])
def test_nothing_is_pending_after_it(urls: dict[str, str], branch: str) -> None:
    engine = create_engine(urls[branch])
    with engine.connect() as connection:
        assert migrate.pending(branch, connection) == []
    engine.dispose()


def test_what_is_pending_is_named(connection: Connection) -> None:
    connection.execute(text("DELETE FROM alembic_version"))
    assert migrate.pending("content", connection)[0] == "0001_content"


def test_a_second_time_changes_nothing(urls: dict[str, str], connection: Connection) -> None:
    def everything() -> list[tuple[object, ...]]:
        ours = "relnamespace = 'public'::regnamespace"
        rows = connection.execute(
            text(f"SELECT oid, relname, relkind, relfilenode FROM pg_class WHERE {ours}")
        )
        connection.commit()
        return sorted(tuple(row) for row in rows)

    before = everything()
    migrate.migrate(urls["content"], urls["keystore"], NOW)
    assert everything() == before


def test_the_months_before_have_a_place_for_what_is_made_of_their_pictures(postgres: Postgres) -> None:
    postgres.create_database("filled_content")
    engine = create_engine(postgres.url("filled_content"))
    with engine.begin() as connection:
        settings = migrate.config("content", connection)
        command.upgrade(settings, "0004_content")
        connection.execute(text("SELECT ensure_partition('items', '2026-09-01')"))
        command.upgrade(settings, "0005_content")
        assert "part_features_p202609" in tables(connection)
    engine.dispose()


OF_0005 = (
    (
        "INSERT INTO signals (item_id, part, detector, version, status, scores, evidence) "
        "VALUES ('019ab000-0000-7000-8000-00000000000{n}', 'body', 'd', '1', 'ok', '{{}}', '{{}}')"
    ),
    (
        "INSERT INTO models (name, version, kind, manifest_sha256, folder, added_at, origin) "
        "VALUES ('text-own', '{n}', 'text', '', 'text-own/{n}', now(), 'own')"
    ),
    "INSERT INTO model_aliases (name, alias, version, set_at) VALUES ('text-own', 'alias-{n}', '{n}', now())",
    (
        "INSERT INTO bundles (id, created_at, created_by, rows, sha256, expires_at) "
        "VALUES ('019ab000-0000-7000-8000-00000000000{n}', now(), 'operator', 3, '', now())"
    ),
)
"""What the release before writes, once for each n."""


def test_what_the_release_before_wrote_stays_and_what_it_still_writes_is_taken(postgres: Postgres) -> None:
    postgres.create_database("before_content")
    engine = create_engine(postgres.url("before_content"))
    with engine.begin() as connection:
        settings = migrate.config("content", connection)
        command.upgrade(settings, "0005_content")
        partitions.ensure(connection, NOW)
        for number in (1, 2):
            for statement in OF_0005:
                connection.execute(text(statement.format(n=number)))
            if number == 1:
                command.upgrade(settings, "0006_content")
        for query, expected in (
            ("SELECT shadow FROM signals", (False,)),
            ("SELECT bundles, erased, tainted_at, retired_at, outputs FROM models", ([], 0, None, None, {})),
            ("SELECT share FROM model_aliases", (None,)),
            ("SELECT withdrawn, withdrawn_at FROM bundles", (0, None)),
        ):
            assert [tuple(row) for row in connection.execute(text(query))] == [expected] * 2
    engine.dispose()


def test_partitions_of_this_month_and_three_more(connection: Connection) -> None:
    found = {name for name in tables(connection) if name.split("_p")[-1].isdecimal()}
    assert found == PARTITIONS


def test_new_months_are_added_as_time_goes_by(connection: Connection) -> None:
    created = partitions.ensure(connection, datetime(2026, 12, 31, 23, 59, tzinfo=UTC))
    assert created == ["items_p202703", "parts_p202703", "part_features_p202703", "signals_p202703"]
    assert partitions.ensure(connection, datetime(2026, 12, 1, tzinfo=UTC)) == []


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (NOW, "signals_p202611"),
        (datetime(2026, 11, 1, tzinfo=UTC), "signals_p202611"),
        (datetime(2026, 11, 30, 23, 59, 59, 999000, UTC), "signals_p202611"),
        (datetime(2026, 12, 1, tzinfo=UTC), "signals_p202612"),
        (datetime(2027, 2, 28, tzinfo=UTC), "signals_p202702"),
        (datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC), "signals_default"),
        (datetime(2027, 3, 1, tzinfo=UTC), "signals_default"),
    ],
)
def test_a_row_lands_in_its_month(connection: Connection, moment: datetime, expected: str) -> None:
    assert lands_in(connection, moment) == expected


def test_a_month_can_be_dropped_at_once(connection: Connection) -> None:
    lands_in(connection, NOW)
    connection.execute(text("DROP TABLE signals_p202611"))
    assert connection.scalar(text("SELECT count(*) FROM signals")) == 0


@pytest.mark.parametrize("table", ["audit_events", "policies"])
@pytest.mark.parametrize(
    "statement", ["UPDATE {} SET {} = {}", "DELETE FROM {}", "TRUNCATE {}", "TRUNCATE {} CASCADE"]
)
def test_what_is_on_record_is_never_changed(connection: Connection, table: str, statement: str) -> None:
    column = {"audit_events": "action", "policies": "document"}[table]
    row = {
        "audit_events": "VALUES (gen_random_uuid(), now(), 'operator', 'a', 's', '1', '{}')",
        "policies": "VALUES (1, 'x', 'y', now(), 'operator')",
    }
    connection.execute(text(f"INSERT INTO {table} {row[table]}"))
    with pytest.raises(DBAPIError, match=f"rows of {table} are never changed|foreign key"):
        connection.execute(text(statement.format(table, column, "'other'")))


def test_what_the_default_partition_caught_moves_into_its_month(connection: Connection) -> None:
    """Upkeep that was forgotten for months must not stand in the way of the next one, or of a start."""
    assert lands_in(connection, datetime(2027, 3, 15, tzinfo=UTC)) == "signals_default"
    assert lands_in(connection, datetime(2027, 4, 15, tzinfo=UTC)) == "signals_default"
    assert "signals_p202703" in partitions.ensure(connection, datetime(2026, 12, 5, tzinfo=UTC))
    assert lands_in(connection, datetime(2027, 3, 16, tzinfo=UTC)) == "signals_p202703"
    counts = {
        name: connection.scalar(text(f"SELECT count(*) FROM {name}"))
        for name in ("signals", "signals_p202703", "signals_default")
    }
    assert counts == {"signals": 3, "signals_p202703": 2, "signals_default": 1}


def test_a_partition_is_as_strict_and_as_quick_as_its_table(connection: Connection) -> None:
    def indexes(name: str) -> int:
        query = text("SELECT count(*) FROM pg_index WHERE indrelid = CAST(:name AS regclass)")
        return int(connection.scalar(query, {"name": name}) or 0)

    assert indexes("items_p202611") == indexes("items") == indexes("items_default")
    constraints = (
        "SELECT count(*) FROM pg_constraint WHERE conrelid = 'items_p202611'::regclass AND contype = 'c'"
    )
    assert connection.scalar(text(constraints)) == 2
