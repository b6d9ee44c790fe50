"""Engines and the one way to a transaction: commit first, then send what was noted on the session."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from sqlalchemy import ARRAY, ColumnElement, Connection, Engine, Table, any_, create_engine, literal, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Session

AFTER_COMMIT = "after_commit"
CONNECT_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Databases:
    """The content database and the keystore, each with a pool of its own."""

    content: Engine
    keystore: Engine

    def dispose(self) -> None:
        """Close every pooled connection."""
        self.content.dispose()
        self.keystore.dispose()


def connect(database_url: str, keystore_url: str, pool_size: int = 5) -> Databases:
    """Engines for both databases; nothing is opened before the first use."""
    return Databases(_engine(database_url, pool_size), _engine(keystore_url, pool_size))


def _engine(url: str, pool_size: int) -> Engine:
    return create_engine(
        url,
        pool_size=pool_size,
        max_overflow=2 * pool_size,
        pool_pre_ping=True,
        # A refused statement's parameters would otherwise stand in the error, and the error in a log.
        hide_parameters=True,
        connect_args={"connect_timeout": CONNECT_SECONDS, "application_name": "moderation"},
    )


@contextmanager
def transaction(engine: Engine, *, durable: bool = True) -> Iterator[Session]:
    """One transaction. Commits at the end, rolls back on any exception, then runs `after_commit` notes.

    With `durable=False` the commit does not wait for the disk: for what may be forgotten in a crash, because it
    is then done again, such as a lease. It is visible at once, and never survives anything that came before it.

    The notes run here and not in a session event, because SQLAlchemy also fires `after_commit` when a
    savepoint is released, and what was sent can't be rolled back.
    """
    with Session(engine, expire_on_commit=False) as session:
        with session.begin():
            if not durable:
                session.execute(_NOT_DURABLE)
            yield session
        for send in session.info.pop(AFTER_COMMIT, ()):
            send()


_NOT_DURABLE = text("SET LOCAL synchronous_commit TO off")


def after_commit(session: Session, send: Callable[[], None]) -> None:
    """Have `send` called once the transaction of `session` is committed, and never if it is not."""
    session.info.setdefault(AFTER_COMMIT, []).append(send)


def among(column: InstrumentedAttribute[Any], values: Collection[Any]) -> ColumnElement[bool]:
    """`column` is one of `values`, as one array: with IN every number of values is another statement."""
    return column == any_(literal(list(values), ARRAY(column.type)))


def insert_many(
    target: Session | Connection, table: type[DeclarativeBase], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert `rows`, which name the same columns, by COPY; one alone by a prepared INSERT.

    One statement a row would cost more than the screening of a short text; COPY parses, plans and routes to
    its partition once for all of them, but needs a round trip more.

    Raises:
        sqlalchemy.exc.DBAPIError: as an INSERT would, a lost connection included.
    """
    if not rows:
        return
    connection = target.connection() if isinstance(target, Session) else target
    mapped = table.__table__
    assert isinstance(mapped, Table)
    columns = tuple(rows[0])
    documents = [isinstance(mapped.c[column].type, JSONB) for column in columns]
    values = (
        [
            Jsonb(row[column]) if document else row[column]
            for column, document in zip(columns, documents, strict=True)
        ]
        for row in rows
    )
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor:
            if len(rows) == 1:
                cursor.execute(_insert(mapped.name, columns), next(values), prepare=True)
                return
            with cursor.copy(_copy(mapped.name, columns)) as copy:
                for row in values:
                    copy.write_row(row)
    except psycopg.Error as error:
        raise _as_sqlalchemy_says(error, connection, mapped.name) from error


@cache
def _insert(table: str, columns: tuple[str, ...]) -> str:
    """The statement as text, which the driver knows again without composing it."""
    places = sql.SQL(", ").join([sql.Placeholder()] * len(columns))
    return sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(*_named(table, columns), places).as_string()


@cache
def _copy(table: str, columns: tuple[str, ...]) -> str:
    return sql.SQL("COPY {} ({}) FROM STDIN").format(*_named(table, columns)).as_string()


def _named(table: str, columns: tuple[str, ...]) -> tuple[sql.Composable, sql.Composable]:
    return sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))


def _as_sqlalchemy_says(error: psycopg.Error, connection: Connection, table: str) -> Exception:
    """The error in the shape that callers handle, with a dead connection taken out of its pool."""
    lost = connection.dialect.is_disconnect(error, connection.connection, None)  # type: ignore[arg-type]
    if lost:
        connection.invalidate(error)
    wrapped: Exception = DBAPIError.instance(
        f"COPY {table}",
        None,
        error,
        psycopg.Error,
        hide_parameters=True,
        connection_invalidated=lost,
        dialect=connection.dialect,
    )
    return wrapped
