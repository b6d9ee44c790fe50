"""What tests of several folders do alike: posts, callers, and relay and workers run in the test's own thread."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import Connection, Engine, NullPool, create_engine, select, text

from api.app import create_app
from moderation import jobs, relay, worker
from moderation.embedded.postgres import OWNER
from moderation.governance import accounts, banks
from moderation.governance.accounts import Scope
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.keystore import KeystoreBase
from moderation.storage.tables import Base, Item
from moderation.storage.vault import Vault
from tests import hostile

MILD = "Lovely weather in Lisbon today."


def text_part(content: str = MILD, name: str = "body") -> dict[str, Any]:
    """A text part as JSON."""
    return {"type": "text", "name": name, "text": content}


def image_part(data: bytes | None = None, name: str = "photo") -> dict[str, Any]:
    """A picture part as JSON, a gradient unless told otherwise."""
    picture = hostile.saved(hostile.gradient(), "PNG") if data is None else data
    return {"type": "image", "name": name, "data": base64.b64encode(picture).decode()}


def post(external_id: str = "post-1", *parts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A post as JSON: one mild text unless told otherwise."""
    body = {"external_id": external_id, "author": "acct-1", "kind": "comment"}
    return body | {"parts": list(parts) or [text_part()]} | changes


def new_key(databases: Databases, vault: Vault, client: str, *scopes: Scope) -> str:
    """An API key for `client`, with every scope unless told otherwise."""
    with transaction(databases.content) as session:
        return accounts.create_api_key(
            session, vault, client, list(scopes or Scope), datetime.now(UTC), "operator"
        )


@contextmanager
def calling(settings: Settings, key: str | None) -> Iterator[TestClient]:
    """A caller of an API of its own."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with TestClient(create_app(settings), headers=headers) as client:
        yield client


def drain(settings: Settings, dice: float = 1.0) -> None:
    """What relay and workers do until nothing is due: the real ones, in this thread.

    With `dice` at 0 every automatic decision is drawn for the audit, at 1 none is.
    """
    with (
        relay.opened(settings) as relaying,
        worker.opened(settings, jobs.SCREENING, lambda: dice) as screening,
    ):
        while relay.tick(relaying, datetime.now(UTC)):
            screening.work(burst=True, logging_level="WARNING")


def bank_of(databases: Databases, digest: bytes, action: str, now: datetime, **changes: Any) -> None:
    """A bank with one verified entry, so that a mild post is limited, removed or reviewed for certain."""
    options: dict[str, Any] = {"kind": "text", "category": "spam", "allow": False, "verified": True} | changes
    verified = options.pop("verified")
    with transaction(databases.content) as session:
        name = f"bank_{digest.hex()[:8]}_{action}"
        banks.create(session, name=name, action=action, actor="operator", now=now, **options)
        banks.add_entry(
            session, bank=name, digest=digest, note="", verified=verified, actor="operator", now=now
        )


def items(databases: Databases) -> list[Item]:
    """Every item, oldest first."""
    with transaction(databases.content) as session:
        return list(session.scalars(select(Item).order_by(Item.id)))


def count(engine: Engine, table: str) -> int:
    """How many rows a table has."""
    with engine.connect() as connection:
        return int(connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


UNCHANGING = ("audit_events", "audit_tiles", "audit_checkpoints", "policies")


@contextmanager
def as_owner(engine: Engine) -> Iterator[Connection]:
    """A transaction as the owner of the tables, who may do what the application may not."""
    owner = create_engine(engine.url.set(username=OWNER), poolclass=NullPool)
    with owner.begin() as connection:
        yield connection


def unprotected(engine: Engine, *statements: str) -> None:
    """Run statements on tables whose rows are never changed, as only their owner may."""
    with as_owner(engine) as connection:
        for table in UNCHANGING:
            connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
        for statement in statements:
            connection.execute(text(statement))
        for table in UNCHANGING:
            connection.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER USER"))


def emptied(databases: Databases) -> None:
    """Empty every table but the installation's own set-up: service keys, the first policy, models."""
    kept = {"service_keys", "kek_epochs", "policies", "models", "model_aliases"}
    for engine, metadata in ((databases.content, Base.metadata), (databases.keystore, KeystoreBase.metadata)):
        names = [name for name in metadata.tables if name not in kept]
        with as_owner(engine) as connection:
            # Without triggers and foreign keys. A test leaves few rows in few tables: to truncate all of them would
            # take five times as long.
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            filled = " UNION ALL ".join(
                f"SELECT '{name}' WHERE EXISTS (SELECT FROM {name})" for name in names
            )
            for name in connection.scalars(text(filled)).all():
                connection.execute(text(f"DELETE FROM {name}"))
            if metadata is Base.metadata:
                connection.execute(text("DELETE FROM policies WHERE version > 1"))
