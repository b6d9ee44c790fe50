"""The life of a key-encryption key: begun, wrapped under, and destroyed some time after the next one took over.

An epoch bounds how long an old copy of the keystore is worth anything: once its key is gone from the KEK file, the
keys of authors erased since can't be opened from any copy. Engines that span keystore, file and log, as here, own
their transactions.

Whoever rotates writes the KEK file. `moderation up` has the relay do it, which runs as the user who owns the file;
where the file is mounted read-only, an operator adds the line and everything else goes on by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from moderation import keks
from moderation.domain.errors import Conflict
from moderation.governance import audit
from moderation.keks import KekError
from moderation.storage import rotation
from moderation.storage.database import Databases, transaction
from moderation.storage.keystore import KekEpoch
from moderation.storage.vault import Vault

NO_FILE = (
    "The key-encryption key comes from MODERATION_KEK, which no command can change. Give the processes a file "
    "instead (MODERATION_KEK_FILE), or rotate in your secret store: set it to `{newest} BASE64,{next} BASE64`, the "
    "key you have and 32 random bytes, restart every process, run `moderation kek rotate --no-new-key`, and after "
    "a day `moderation kek retire`, which says what to remove."
)


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch as an operator sees it."""

    number: int
    since: datetime
    here: bool  # its key is in our file or environment
    rewrapped_at: datetime | None
    retired_at: datetime | None


@dataclass(frozen=True, slots=True)
class Status:
    """Every epoch, oldest first; how many keys still wait for the newest; when older ones may be retired."""

    epochs: tuple[Epoch, ...]
    behind: int
    retire_at: datetime | None


def note(databases: Databases, vault: Vault, now: datetime, actor: str) -> None:
    """Write down epochs that are new in the file, whoever added them; each is an event."""
    present = list(vault.wrapper.keks.keys)
    with databases.keystore.begin() as connection:
        if {row.epoch for row in rotation.known(connection)} >= set(present):
            return
        fresh = rotation.register(connection, present, now)
        if fresh:
            with transaction(databases.content) as session:
                events = [audit.Event(actor, "key.rotated", "kek", str(epoch)) for epoch in fresh]
                audit.record(session, events, now)


def begin(
    databases: Databases, vault: Vault, now: datetime, actor: str, grace_hours: float | None = None
) -> int:
    """Begin a new epoch with a fresh key in the file, or go on with one that is not finished; its number.

    Raises:
        Conflict: the key comes from no file, or the file can't be written.
    """
    path = _file(vault)
    note(databases, vault, now, actor)
    with databases.keystore.begin() as connection:
        rotation.lock(connection)
        epochs = {row.epoch: row for row in rotation.known(connection)}
        newest = vault.wrapper.keks.newest
        unfinished = newest in epochs and epochs[newest].rewrapped_at is None and len(epochs) > 1
        if not unfinished:
            try:
                newest = keks.append(path)
            except KekError as error:
                raise Conflict(str(error)) from error
    # Crashed here, the next call finds the line in the file and notes it.
    note(databases, vault, now, actor)
    if grace_hours is not None:
        with databases.keystore.begin() as connection:
            rotation.keep(connection, newest, grace_hours)
    return newest


def run(databases: Databases, vault: Vault, now: datetime, seconds: float) -> int:
    """Re-wrap for some seconds; how many keys. 0 when there is nothing left.

    Raises:
        VaultError: a key does not open; nothing is lost, and nothing is retired.
    """
    return rotation.rewrap(databases.keystore, vault.wrapper, now, seconds)


def retire(databases: Databases, vault: Vault, now: datetime, actor: str) -> list[int]:
    """End every epoch but the newest, now: its key goes from the file. Which ones.

    Raises:
        Conflict: there is none to end.
        VaultError: as `run`.
    """
    note(databases, vault, now, actor)
    while run(databases, vault, now, 5.0):
        pass  # what is left for the last pass, which shuts writers out, should be next to nothing
    ended = rotation.end(databases.keystore, vault.wrapper, now)
    if ended:
        with transaction(databases.content) as session:
            audit.record(session, [audit.Event(actor, "key.retired", "kek", str(e)) for e in ended], now)
    left = _remove_retired(databases, vault)
    if not ended and not left:
        raise Conflict(
            "There is one epoch of the key-encryption key only: begin another, `moderation kek rotate`."
        )
    return sorted({*ended, *left})


def _remove_retired(databases: Databases, vault: Vault) -> list[int]:
    """Remove from the file what was retired, also by a process that crashed before it could; what was there."""
    with databases.keystore.connect() as connection:
        retired = {row.epoch for row in rotation.known(connection) if row.retired_at is not None}
    there = sorted(retired & set(vault.wrapper.keks.keys))
    path = vault.wrapper.keks.file
    if path is not None and keks.writable(path):
        for epoch in there:
            keks.remove(path, epoch)
    return there


def status(databases: Databases, vault: Vault, grace_hours: float) -> Status:
    """Where the epochs stand."""
    present = vault.wrapper.keks
    with databases.keystore.connect() as connection:
        rows = rotation.known(connection)
        waiting = rotation.behind(connection, present.newest)
    epochs = tuple(
        Epoch(row.epoch, row.created_at, row.epoch in present.keys, row.rewrapped_at, row.retired_at)
        for row in rows
    )
    return Status(epochs, waiting, _retire_at(rows, grace_hours))


def tend(
    databases: Databases, vault: Vault, now: datetime, days: float, grace_hours: float, seconds: float
) -> Status:
    """What is done by itself, now and then: note, begin when due, re-wrap, retire when the grace is over.

    A process that may not write the file does all but those two.
    """
    note(databases, vault, now, audit.MACHINE)
    held = vault.wrapper.keks
    may_write = held.file is not None and keks.writable(held.file)
    if days and may_write:
        with databases.keystore.connect() as connection:
            since = max(row.created_at for row in rotation.known(connection))
        if since <= now - timedelta(days=days):
            begin(databases, vault, now, audit.MACHINE)
    run(databases, vault, now, seconds)
    found = status(databases, vault, grace_hours)
    if may_write and found.behind == 0 and found.retire_at is not None and found.retire_at <= now:
        retire(databases, vault, now, audit.MACHINE)
        found = status(databases, vault, grace_hours)
    elif may_write:
        _remove_retired(databases, vault)
    return found


def _retire_at(rows: list[KekEpoch], grace_hours: float) -> datetime | None:
    """When the older epochs may end; None while there is none, or keys still wait."""
    newest = rows[-1] if rows else None
    if newest is None or newest.rewrapped_at is None or all(row.retired_at for row in rows[:-1]):
        return None
    grace = newest.grace_hours if newest.grace_hours is not None else grace_hours
    return newest.rewrapped_at + timedelta(hours=grace)


def _file(vault: Vault) -> Path:
    held = vault.wrapper.keks
    if held.file is None:
        raise Conflict(NO_FILE.format(newest=held.newest, next=held.newest + 1))
    if not keks.writable(held.file):
        raise Conflict(
            f"{held.file} can't be written by this user. Run this as its owner, or add the line "
            f"`{held.newest + 1} BASE64` (32 random bytes) where the file comes from: the relay does the rest."
        )
    return held.file
