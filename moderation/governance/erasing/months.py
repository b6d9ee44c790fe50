"""Whole months that are over: their partitions are dropped, which costs the same for one row and for a million."""

from __future__ import annotations

from datetime import UTC, date, datetime
from uuid import UUID

from sqlalchemy import ColumnElement, and_, exists, or_, select
from sqlalchemy.exc import DBAPIError

from moderation.governance import audit
from moderation.governance.erasing.carrying import Pace
from moderation.governance.erasing.ending import doom, finish, under_appeal
from moderation.storage import partitions
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.ids import lower_bound
from moderation.storage.tables import Item
from moderation.storage.vault import Vault

AT_ONCE = 2000


def end_due(
    databases: Databases, vault: Vault, blobs: FolderBlobs, now: datetime, seconds: float
) -> list[str]:
    """End the months in which everything is due, and drop what is over; the partitions that were dropped.

    Owns its transactions. The day's sweep takes item by item what is due; this is for what waited: a backlog, or a
    content service that left.
    """
    pace, dropped = Pace(seconds), list[str]()
    with databases.content.connect() as connection:
        months = partitions.months(connection)
    for month in months:
        end = _next(month)
        if lower_bound(datetime.combine(end, datetime.min.time(), UTC)) > lower_bound(now):
            break
        if not _end(databases, vault, blobs, _of(month), now, pace):
            break
        with transaction(databases.content) as session:
            left = session.scalar(select(exists().where(_of(month), Item.destroyed_at.is_(None))))
        # A month that is in use is not even locked for a look.
        dropped += [] if left else _drop(databases, month, now)
    return dropped


def _next(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def _of(month: date) -> ColumnElement[bool]:
    low, high = (
        lower_bound(datetime.combine(one, datetime.min.time(), UTC)) for one in (month, _next(month))
    )
    return and_(Item.id >= low, Item.id < high)


def _end(
    databases: Databases,
    vault: Vault,
    blobs: FolderBlobs,
    month: ColumnElement[bool],
    now: datetime,
    pace: Pace,
) -> bool:
    """End everything of a month if all of it is due; False if time ran out."""
    needed = or_(Item.expires_at > now, Item.holds > 0, under_appeal(Item.id))
    with transaction(databases.content) as session:
        left = session.scalar(select(exists().where(month, Item.destroyed_at.is_(None))))
        if not left or session.scalar(select(exists().where(month, Item.destroyed_at.is_(None), needed))):
            return True
    while True:
        with transaction(databases.content) as session:
            ids: list[UUID] = doom(session, month, now, AT_ONCE)
            if not ids:
                ids = list(
                    session.scalars(
                        select(Item.id)
                        .where(month, Item.doomed_at.is_not(None), Item.destroyed_at.is_(None))
                        .limit(AT_ONCE)
                    )
                )
        if not ids:
            return True
        finish(databases, vault, blobs, ids, now, whole_month=True)
        if not pace.on():
            return False


def _drop(databases: Databases, month: date, now: datetime) -> list[str]:
    dropped = []
    for parent in ("parts", "part_features", "signals", "items"):
        try:
            with transaction(databases.content) as session:
                if partitions.drop_empty(session.connection(), parent, month):
                    name = f"{parent}_p{month:%Y%m}"
                    event = audit.Event(audit.MACHINE, "retention.partition_dropped", "partition", name)
                    audit.record(session, [event], now)
                    dropped.append(name)
        except DBAPIError:
            continue  # others were using it; there will be another time
    return dropped
