"""Bring both databases to the newest level, safely from any number of processes at once."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, create_engine, text

from moderation.storage import partitions, roles
from moderation.storage.keystore import KeystoreBase
from moderation.storage.tables import Base

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 7_203_002

BRANCHES: dict[str, MetaData] = {"content": Base.metadata, "keystore": KeystoreBase.metadata}


def migrate(
    database_url: str, keystore_url: str, now: datetime, *, applications: tuple[str, str] | None = None
) -> None:
    """Upgrade both databases, create the partitions of the coming months, and grant the application its rights.

    The addresses are those of the owner, `applications` those by which the service itself will connect. Does
    nothing the second time.

    Raises:
        Conflict: as `roles.grant`.
    """
    content, keystore = applications or (database_url, keystore_url)
    for branch, url, application in (
        ("keystore", keystore_url, keystore),
        ("content", database_url, content),
    ):
        engine = create_engine(url)
        try:
            with engine.begin() as connection:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
                command.upgrade(config(branch, connection), "head")
                if branch == "content":
                    partitions.ensure(connection, now)
                roles.grant(connection, BRANCHES[branch].tables, application)
        finally:
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
