"""Tables out of a database and back into one, by COPY: text, gzip, one file a table, as of one moment."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from psycopg import Connection as Driver
from psycopg import sql
from sqlalchemy import Connection, Engine, MetaData, text

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 1 << 20
REVISIONS = "alembic_version"
# The audit log is verified in its own order, out of a backup too; what has no number comes last.
ORDER = {"audit_events": "leaf_index", "audit_checkpoints": "size"}
# What ends within the hour must not live on in a backup.
PASSING = frozenset({"bursts"})


def tables(metadata: MetaData) -> dict[str, list[str]]:
    """Tables with their columns, each after those it refers to; none of what passes by itself."""
    return {
        table.name: [column.name for column in table.columns]
        for table in metadata.sorted_tables
        if table.name not in PASSING
    }


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees the database as of now, however long it takes, and writes nothing."""
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        yield connection


def revision(connection: Connection) -> str:
    """The schema's revision."""
    return str(connection.scalar(text(f"SELECT version_num FROM {REVISIONS}")))  # noqa: S608  our own constant


def write(connection: Connection, table: str, columns: Sequence[str], file: IO[bytes]) -> int:
    """Write a table's rows, compressed; how many."""
    order = sql.SQL(" ORDER BY {}").format(sql.Identifier(ORDER[table])) if table in ORDER else sql.SQL("")
    statement = sql.SQL("COPY (SELECT {} FROM {}{}) TO STDOUT").format(
        _listed(columns), sql.Identifier(table), order
    )
    # Mostly ciphertext in hexadecimal: the first level halves it, and higher ones find nothing more.
    with (
        gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1, mtime=0) as packed,
        _driver(connection).cursor() as cursor,
    ):
        with cursor.copy(statement) as copy:
            for data in copy:
                packed.write(data)
        return cursor.rowcount


def read(connection: Connection, table: str, columns: Sequence[str], file: IO[bytes]) -> int:
    """Insert rows that `write` wrote; how many."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), _listed(columns))
    with gzip.GzipFile(fileobj=file, mode="rb") as packed, _driver(connection).cursor() as cursor:
        with cursor.copy(statement) as copy:
            while data := packed.read(CHUNK):
                copy.write(data)
        return cursor.rowcount


def clear(connection: Connection, names: Sequence[str], protected: Sequence[str]) -> None:
    """Empty tables, those too whose triggers refuse it: as their owner, before a restore."""
    run = _driver(connection).execute
    for name in protected:
        run(sql.SQL("ALTER TABLE {} DISABLE TRIGGER USER").format(sql.Identifier(name)))
    run(sql.SQL("TRUNCATE {}").format(_listed(names)))
    for name in protected:
        run(sql.SQL("ALTER TABLE {} ENABLE TRIGGER USER").format(sql.Identifier(name)))


def _listed(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _driver(connection: Connection) -> Driver[tuple[object, ...]]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, Driver)
    return driver
