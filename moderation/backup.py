"""Backups: the content database and its blobs in one file, the keystore in another, and the way back.

What was erased is unreadable in every backup of content at once: its key is gone from the keystore, which such a
backup does not hold. A backup of the keystore is worth something as long as the epoch of the key-encryption key
that wraps it lasts (docs/backup.md). Each call owns its transactions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, create_engine, make_url, select, text
from sqlalchemy.orm import Session

from moderation import setup
from moderation.domain.errors import Conflict
from moderation.governance import audit, erasure
from moderation.pipeline import hash_files
from moderation.settings import Settings
from moderation.storage import archive, dump, partitions
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import connect, transaction
from moderation.storage.ids import new_id
from moderation.storage.keystore import ServiceKey
from moderation.storage.migrate import BRANCHES
from moderation.storage.roles import NARROWER
from moderation.storage.vault import Vault, VaultError

OPERATOR = "operator"
CONTENT, KEYSTORE = "content", "keystore"
# What an installation has once something was done with it; a first run fills none of these.
FILLED = {
    CONTENT: ("items", "authors", "decisions", "cases", "erasures"),
    KEYSTORE: ("author_keys", "package_keys"),
}
# Whoever was logged in then is not let in by the copy of a session.
ENDED = ("person_sessions",)
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that is whole: how many rows and blobs it holds, how large it is."""

    identifier: UUID
    rows: int
    blobs: int
    size: int


def make(settings: Settings, path: Path, kind: str, now: datetime, say: Say) -> Made:
    """Write a backup of the content, or of the keystore, as of one moment, while the service runs.

    Raises:
        InvalidInput: the file exists or can't be written.
    """
    databases = connect(settings.database_url, settings.keystore_url, pool_size=1)
    identifier = new_id(now)
    try:
        vault = Vault(databases.keystore, settings.kek)
        engine = databases.content if kind == CONTENT else databases.keystore
        with archive.writing(path) as file:
            rows = _write(file, engine, settings.blob_dir, identifier, kind, _fingerprint(vault), now, say)
        size = path.stat().st_size
        details = {"kind": kind, "rows": rows, "blobs": file.blobs, "bytes": size}
        with transaction(databases.content) as session:
            event = audit.Event(OPERATOR, "backup.made", "backup", str(identifier), details)
            audit.record(session, [event], now)
    finally:
        databases.dispose()
    return Made(identifier, rows, file.blobs, size)


def _write(
    file: archive.Writer,
    engine: Engine,
    blob_dir: Path,
    identifier: UUID,
    kind: str,
    fingerprint: str,
    now: datetime,
    say: Say,
) -> int:
    tables: dict[str, dict[str, Any]] = {}
    with dump.snapshot(engine) as connection:
        facts = {"revision": dump.revision(connection), "months": []}
        if kind == CONTENT:
            facts["months"] = [month.isoformat() for month in partitions.months(connection)]
        for name, columns in dump.tables(BRANCHES[kind]).items():
            rows = file.table(name, lambda spool, n=name, c=columns: dump.write(connection, n, c, spool))  # type: ignore[misc]
            tables[name] = {"columns": columns, "rows": rows}
            if rows:
                say(f"{name}: {rows} rows")
    if kind == CONTENT:
        # After the snapshot: whatever it refers to was there before it, save what was destroyed meanwhile.
        for reference, data in FolderBlobs(blob_dir).everything():
            file.blob(reference, data)
        say(f"{file.blobs} blobs")
    file.finish(
        {
            **facts,
            "id": str(identifier),
            "kind": kind,
            "made_at": now.isoformat(),
            "version": version("moderation"),
            "fingerprint": fingerprint,
            "tables": tables,
        }
    )
    return sum(int(table["rows"]) for table in tables.values())


def restore(settings: Settings, path: Path, now: datetime, say: Say) -> dict[str, Any]:
    """Fill an empty installation from a backup, and hide again whatever was erased since; its manifest.

    Raises:
        InvalidInput: the file is not whole, was altered, or is none of ours.
        Conflict: the installation is in use or not empty, the schema or the keystore is another one, or the KEK
            does not open the keystore.
    """
    say(f"Checking {path}")
    manifest = archive.verified(path)
    setup.upgrade(settings, now)
    kind = str(manifest["kind"])
    owner = settings.owner_url if kind == CONTENT else settings.owner_keystore_url
    application = settings.database_url if kind == CONTENT else settings.keystore_url
    engine = create_engine(owner or application, hide_parameters=True)
    try:
        with engine.begin() as connection:
            _refuse_unless_fit(connection, manifest, application)
            if kind == CONTENT:
                _refuse_other_keystore(settings, manifest, now)
            _load(connection, path, manifest, settings, say)
            if kind == KEYSTORE:
                _refuse_other_kek(connection, settings)
            else:
                _record(connection, manifest, now)
    finally:
        engine.dispose()
    if kind == CONTENT:
        # It is of what was here before, and may know versions of banks that these never had.
        hash_files.forget(settings.index)
        _forget_again(settings, say)
    return manifest


def _refuse_unless_fit(connection: Connection, manifest: dict[str, Any], application: str) -> None:
    used = connection.scalar(
        text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND (usename = :user OR application_name = 'moderation')"
        ),
        {"user": make_url(application).username},
    )
    if used:
        raise Conflict(
            "Something is connected to this database: stop the API, the relay and the workers first."
        )
    revision = dump.revision(connection)
    if manifest["revision"] != revision:
        raise Conflict(
            f"This backup has schema {manifest['revision']} (moderation {manifest['version']}), and this "
            f"installation {revision}: restore it with the version it is from, then upgrade."
        )
    for table in FILLED[manifest["kind"]]:
        if connection.scalar(text(f"SELECT EXISTS (SELECT FROM {table})")):  # noqa: S608  our own words
            raise Conflict(
                f"This installation is not empty (there are {table.replace('_', ' ')}): restore into a new one."
            )


def _refuse_other_keystore(settings: Settings, manifest: dict[str, Any], now: datetime) -> None:
    databases = connect(settings.database_url, settings.keystore_url, pool_size=1)
    try:
        vault = Vault(databases.keystore, settings.kek)
        vault.ensure_service_keys(setup.SERVICE_KEYS, now)
        ours = _fingerprint(vault)
    except VaultError as error:
        raise Conflict(f"The keystore does not open: {error}") from error
    finally:
        databases.dispose()
    if ours != manifest["fingerprint"]:
        raise Conflict(
            "This content belongs to another keystore and could not be read here: restore the keystore's backup "
            "first, or give MODERATION_KEYSTORE_URL the keystore it was made with."
        )


def _refuse_other_kek(connection: Connection, settings: Settings) -> None:
    """Look whether the restored keys open, before anything is committed."""
    wrapper = Vault(connection.engine, settings.kek).wrapper
    try:
        for name, epoch, wrapped in connection.execute(
            select(ServiceKey.name, ServiceKey.epoch, ServiceKey.wrapped)
        ):
            wrapper.unwrap(epoch, wrapped, "service_keys", name)
    except VaultError as error:
        raise Conflict(
            "The key-encryption key does not open this keystore. Put the KEK file that belonged to it where "
            "MODERATION_KEK_FILE is (DIR/secrets/kek with --data-dir); once its epoch is retired, nothing opens it."
        ) from error


def _load(connection: Connection, path: Path, manifest: dict[str, Any], settings: Settings, say: Say) -> None:
    kind = manifest["kind"]
    tables: dict[str, dict[str, Any]] = manifest["tables"]
    known = dump.tables(BRANCHES[kind])
    if {name: table["columns"] for name, table in tables.items()} != known:
        raise Conflict(
            "This backup has other tables than this version: restore it with the version it is from."
        )
    for month in manifest["months"]:
        partitions.ensure(connection, datetime.fromisoformat(month).replace(tzinfo=UTC), 0)
    protected = [name for name in NARROWER if name in known]
    dump.clear(connection, list(known), protected)
    blobs = FolderBlobs(settings.blob_dir)
    restored = 0
    for member, file in archive.members(path):
        folder, _, name = member.partition("/")
        table = name.removesuffix(".gz")
        if folder == "tables" and table not in ENDED:
            rows = dump.read(connection, table, known[table], file)
            if rows != tables[table]["rows"]:
                raise Conflict(f"{table}: {rows} rows came back, and {tables[table]['rows']} were backed up.")
            if rows:
                say(f"{table}: {rows} rows")
        elif folder == "blobs":
            blobs.put_back(name, file.read())
            restored += 1
    if kind == CONTENT:
        say(f"{restored} blobs")


def _record(connection: Connection, manifest: dict[str, Any], now: datetime) -> None:
    with Session(connection) as session:
        details = {"kind": manifest["kind"], "made_at": manifest["made_at"]}
        event = audit.Event(OPERATOR, "backup.restored", "backup", str(manifest["id"]), details)
        audit.record(session, [event], now)
        session.flush()


def _forget_again(settings: Settings, say: Say) -> None:
    """Hide whatever was erased after the backup was made, before anything serves."""
    setup.prepare(settings)
    databases = connect(settings.database_url, settings.keystore_url, pool_size=2)
    try:
        erasure.replay(databases, datetime.now(UTC), every_item=True)
    finally:
        databases.dispose()
    say("What was erased since is hidden again.")


def _fingerprint(vault: Vault) -> str:
    """By which a backup of content and the keystore it belongs to know each other."""
    return vault.digest("backup", "fingerprint").hex()[:32]
