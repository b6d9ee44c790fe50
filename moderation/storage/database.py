"""Engines and the one way to a transaction: commit first, then send what was noted on the session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

AFTER_COMMIT = "after_commit"


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
        # An error quotes its parameters otherwise, and errors end up in logs.
        hide_parameters=True,
        connect_args={"connect_timeout": 5, "application_name": "moderation"},
    )


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """One transaction. Commits at the end, rolls back on any exception, then runs `after_commit` notes.

    The notes run here and not in a session event, because SQLAlchemy also fires `after_commit` when a
    savepoint is released, and what was sent can't be rolled back.
    """
    with Session(engine, expire_on_commit=False) as session:
        with session.begin():
            yield session
        for send in session.info.pop(AFTER_COMMIT, ()):
            send()


def after_commit(session: Session, send: Callable[[], None]) -> None:
    """Have `send` called once the transaction of `session` is committed, and never if it is not."""
    session.info.setdefault(AFTER_COMMIT, []).append(send)
