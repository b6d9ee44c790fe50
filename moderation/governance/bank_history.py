"""What became of one entry of a bank: who did what to it, and how many items it matched on which day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from moderation.storage.tables import AuditEvent, BankEntry, BankHit

DAYS = 14
MOST = 200
ADDED = "bank.entry_added"


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that was done to an entry; `details` are numbers, names and ids."""

    at: datetime
    actor: str
    action: str
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class History:
    """The newest `MOST` happenings, newest first, and the items matched on each of the last days, oldest first."""

    happenings: tuple[Happening, ...]
    days: tuple[tuple[date, int], ...]
    last_matched: date | None


def of_entry(session: Session, entry_id: UUID, now: datetime) -> History:
    """The history of an entry that is there; who added it, in a list too, is its first word."""
    rows = session.scalars(
        select(AuditEvent)
        .where(AuditEvent.subject_id == str(entry_id), AuditEvent.action.startswith("bank."))
        .order_by(AuditEvent.id.desc())
        .limit(MOST)
    )
    told = [Happening(row.at, row.actor, row.action, row.details) for row in rows]
    entry = session.get_one(BankEntry, entry_id)
    if len(told) < MOST and all(one.action != ADDED for one in told):
        told.append(Happening(entry.added_at, entry.added_by, ADDED, {}))
    days = _days(session, entry_id, now)
    matched = [day for day, hits in days if hits]
    last = matched[-1] if matched else entry.last_matched_at.date() if entry.last_matched_at else None
    return History(tuple(told), days, last)


def _days(session: Session, entry_id: UUID, now: datetime) -> tuple[tuple[date, int], ...]:
    today = now.astimezone(UTC).date()
    first = today - timedelta(days=DAYS - 1)
    begin = datetime.combine(first, time(), UTC)
    day = func.date_trunc("day", BankHit.hour, "UTC")
    counts = session.execute(
        select(day, func.sum(BankHit.hits))
        .where(
            BankHit.entry_id == entry_id,
            BankHit.hour >= begin,
        )
        .group_by(day)
    )
    by_day = {moment.astimezone(UTC).date(): hits for moment, hits in counts}
    return tuple(
        (one, int(by_day.get(one, 0))) for one in (first + timedelta(days=back) for back in range(DAYS))
    )
