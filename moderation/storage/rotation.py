"""Re-wrap the keystore from one epoch of the key-encryption key to the next, while the service runs.

What the KEK wraps is small (32 bytes a row) and is all that a new KEK has to touch: item keys hang on their
author's key, content hangs on those. Every step may be repeated and broken off anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from moderation.storage.keystore import AuthorKey, KekEpoch, PackageKey, ServiceKey
from moderation.storage.vault import Wrapper

BATCH = 1000
LOCK = 7_203_010
PATIENCE = "20s"  # for those who write when an epoch ends


@dataclass(frozen=True, slots=True)
class _Wrapped:
    """A table of keys under the KEK: its key column, that column's type, and what its ciphertexts are bound to."""

    table: type[ServiceKey | AuthorKey | PackageKey]
    column: str
    kind: str
    bound_to: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.table.__tablename__


WRAPPED = (
    _Wrapped(ServiceKey, "name", "text", ("service_keys",)),
    _Wrapped(AuthorKey, "author_id", "uuid", ("author_keys", "wrapped")),
    _Wrapped(PackageKey, "id", "uuid", ("package_keys", "wrapped")),
)


def lock(connection: Connection) -> None:
    """One rotation at a time, until the transaction ends."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})


def keep(connection: Connection, epoch: int, grace_hours: float) -> None:
    """Keep the epochs before this one for so long after the last key was re-wrapped."""
    connection.execute(update(KekEpoch).where(KekEpoch.epoch == epoch).values(grace_hours=grace_hours))


def known(connection: Connection) -> list[KekEpoch]:
    """Every epoch there ever was, oldest first."""
    rows = connection.execute(select(KekEpoch.__table__).order_by(KekEpoch.epoch)).mappings()
    return [KekEpoch(**row) for row in rows]


def register(connection: Connection, epochs: Sequence[int], now: datetime) -> list[int]:
    """Note the epochs that are new here; returns them, save the first epoch of all, which replaces nothing."""
    lock(connection)
    before = set(connection.scalars(select(KekEpoch.epoch)))
    fresh = sorted(set(epochs) - before)
    for epoch in fresh:
        # An installation from before there were epochs: its key is as old as its service keys.
        since = connection.scalar(select(func.min(ServiceKey.created_at)).where(ServiceKey.epoch == epoch))
        connection.execute(insert(KekEpoch), {"epoch": epoch, "created_at": min(since or now, now)})
    return fresh if before else fresh[1:]


def behind(connection: Connection, newest: int) -> int:
    """How many keys are wrapped under an older epoch than `newest`."""
    counts = [
        connection.scalar(select(func.count()).select_from(one.table).where(one.table.epoch < newest))
        for one in WRAPPED
    ]
    return sum(int(count or 0) for count in counts)


def rewrap(keystore: Engine, wrapper: Wrapper, now: datetime, seconds: float) -> int:
    """Wrap keys of older epochs under the newest, a batch a transaction, for some seconds; how many.

    Notes on the newest epoch when there is nothing older left. Rows that others hold are left for the next turn.

    Raises:
        EpochUnknown: a key needs an epoch whose line is missing.
    """
    end = time.monotonic() + seconds
    total = 0
    for one in WRAPPED:
        while time.monotonic() < end:
            with keystore.begin() as connection:
                done = _batch(connection, one, wrapper)
            total += done
            if done == 0:
                break
    with keystore.begin() as connection:
        _note_if_done(connection, wrapper.keks.newest, now)
    return total


def end(keystore: Engine, wrapper: Wrapper, now: datetime, *, patience: str = PATIENCE) -> list[int]:
    """End every epoch but the newest: from here on nothing is wrapped under one, whoever still has its key.

    The last pass runs with writers shut out, so that a row which a process with the old key inserted meanwhile is
    re-wrapped and not lost; a trigger refuses those that would come later. Rows that others hold are waited for,
    and not passed over as they are before.

    Raises:
        sqlalchemy.exc.DBAPIError: somebody held a key for longer than `patience`; nothing has ended.
    """
    newest = wrapper.keks.newest
    with keystore.begin() as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = '{patience}'"))
        lock(connection)
        names = ", ".join(one.name for one in WRAPPED)
        connection.execute(text(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE"))
        for one in WRAPPED:
            while _batch(connection, one, wrapper, wait=True):
                pass
        if behind(connection, newest):
            raise AssertionError("A key still waits for the newest epoch: no older one may end.")
        _note_if_done(connection, newest, now)
        ended = connection.scalars(
            update(KekEpoch)
            .where(KekEpoch.epoch < newest, KekEpoch.retired_at.is_(None))
            .values(retired_at=now)
            .returning(KekEpoch.epoch)
        ).all()
    return sorted(ended)


def _batch(connection: Connection, one: _Wrapped, wrapper: Wrapper, *, wait: bool = False) -> int:
    key = getattr(one.table, one.column)
    newest = wrapper.keks.newest
    rows = connection.execute(
        select(key, one.table.epoch, one.table.wrapped)
        .where(one.table.epoch < newest)
        .limit(BATCH)
        # Not in the way of an item's new key, which shares the row of its author's until it is committed.
        .with_for_update(skip_locked=not wait, key_share=True)
    ).all()
    if not rows:
        return 0
    owners: list[Any] = []
    epochs: list[int] = []
    wrapped: list[bytes] = []
    for owner, epoch, old in rows:
        place = (*one.bound_to, str(owner))
        fresh_epoch, fresh = wrapper.wrap(wrapper.unwrap(epoch, old, *place), *place)
        owners.append(owner)
        epochs.append(fresh_epoch)
        wrapped.append(fresh)
    # Table, column and type are words of `WRAPPED`.
    connection.execute(
        text(
            f"UPDATE {one.name} AS old SET wrapped = new.wrapped, epoch = new.epoch "  # noqa: S608
            f"FROM unnest(CAST(:keys AS {one.kind}[]), CAST(:epochs AS int[]), CAST(:wrapped AS bytea[])) "
            f"AS new(key, epoch, wrapped) WHERE old.{one.column} = new.key"
        ),
        {"keys": owners, "epochs": epochs, "wrapped": wrapped},
    )
    return len(rows)


def _note_if_done(connection: Connection, newest: int, now: datetime) -> None:
    row = connection.execute(select(KekEpoch.rewrapped_at).where(KekEpoch.epoch == newest)).one_or_none()
    if row is not None and row[0] is None and behind(connection, newest) == 0:
        connection.execute(update(KekEpoch).where(KekEpoch.epoch == newest).values(rewrapped_at=now))
