"""Bring both databases to the newest level, safely from any number of processes at once."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, create_engine, text

from moderation.storage import partitions
from moderation.storage.keystore import KeystoreBase
from moderation.storage.tables import Base

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 7_203_002

BRANCHES: dict[str, MetaData] = {"content": Base.metadata, "keystore": KeystoreBase.metadata}


def migrate(database_url: str, keystore_url: str, now: datetime) -> None:
    """Upgrade both databases and create the partitions of the coming months. Does nothing the second time."""
    for branch, url in (("keystore", keystore_url), ("content", database_url)):
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            command.upgrade(config(branch, connection), "head")
            if branch == "content":
                partitions.ensure(connection, now)
        engine.dispose()


def pending(branch: str, connection: Connection) -> list[str]:
    """The revisions of `branch` that the database has not had yet, oldest first."""
    script = ScriptDirectory.from_config(config(branch, connection))
    current = MigrationContext.configure(connection).get_current_revision()
    return [
        revision.revision for revision in reversed(list(script.iterate_revisions("head", current or "base")))
    ]


def config(branch: str, connection: Connection) -> Config:
    """Alembic's configuration for one of the two databases, over an open connection."""
    settings = Config()
    settings.set_main_option("script_location", str(MIGRATIONS))
    settings.set_main_option("version_locations", str(MIGRATIONS / branch))
    settings.set_main_option("path_separator", "os")
    settings.attributes.update(connection=connection, metadata=BRANCHES[branch])
    return settings
