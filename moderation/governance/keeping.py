"""What is due when: the retention report, by class, with what something keeps beyond its time and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import and_, case, cast, exists, func, select
from sqlalchemy.dialects.postgresql import DATE
from sqlalchemy.orm import Session

from moderation.domain.content import ItemState
from moderation.domain.retention import Retention
from moderation.governance.erasing.ending import under_appeal
from moderation.storage.ids import lower_bound
from moderation.storage.tables import Decision, Erasure, Item

WEEKS = 12  # of the calendar
HELD, APPEAL, RESTRICTED, LIVE = "held", "appeal", "restricted", "live"


@dataclass(frozen=True, slots=True)
class Line:
    """One retention class: what it says, what is due when, and what is kept beyond that."""

    name: str
    clock: str
    days: int | None  # None: no policy knows this class any more
    floor_days: int
    basis: str
    overdue: int = 0
    today: int = 0
    week: int = 0  # the 7 days after today
    month: int = 0  # the 30 days after today, those 7 included
    later: int = 0
    held: int = 0
    appeal: int = 0
    restricted: int = 0  # of the above, hidden and kept for a floor

    @property
    def all(self) -> int:
        """Everything that is still there."""
        return self.overdue + self.today + self.month + self.later + self.held + self.appeal


@dataclass(frozen=True, slots=True)
class Report:
    """The whole of it at one moment. `days` is the calendar, `months` what is due in each month."""

    at: datetime
    lines: tuple[Line, ...]
    days: Mapping[date, int]
    months: Mapping[str, int]
    records_days: int
    records_due: int
    erasures_open: int
    erasures_held: int
    oldest_open: datetime | None

    @property
    def total(self) -> Line:
        """All classes together."""
        sums: Counter[str] = Counter()
        for line in self.lines:
            for name in COUNTED:
                sums[name] += getattr(line, name)
        return Line("all", "", None, 0, "", **sums)

    def document(self) -> dict[str, Any]:
        """As JSON; counts and names, never content."""
        return {
            "at": self.at.isoformat(),
            "classes": {
                line.name: {
                    "from": line.clock,
                    "days": line.days,
                    "floor_days": line.floor_days,
                    "basis": line.basis,
                    **{name: getattr(line, name) for name in COUNTED},
                }
                for line in self.lines
            },
            "months": dict(self.months),
            "days": {day.isoformat(): number for day, number in self.days.items()},
            "records": {"days": self.records_days, "due": self.records_due},
            "erasures": {
                "open": self.erasures_open,
                "held": self.erasures_held,
                "oldest_open": self.oldest_open.isoformat() if self.oldest_open else None,
            },
        }


COUNTED = ("overdue", "today", "week", "month", "later", "held", "appeal", "restricted")


@dataclass(slots=True)
class _Counts:
    by: Counter[str] = field(default_factory=Counter)


def report(session: Session, classes: Retention, now: datetime) -> Report:
    """Count what there is, in one pass over the items that are not destroyed."""
    now = now.astimezone(UTC)
    today = now.date()
    found: dict[str, _Counts] = {name: _Counts() for name in classes.classes}
    days, months = Counter[date](), Counter[str]()
    for name, day, kind, over, number in _rows(session, now):
        counts = found.setdefault(name, _Counts()).by
        if kind in (HELD, APPEAL):
            counts[kind] += number
            continue
        counts[RESTRICTED] += number if kind == RESTRICTED else 0
        for bucket in _buckets(day, today, over=over):
            counts[bucket] += number
        days[today if over else day] += number
        months[f"{today if over else day:%Y-%m}"] += number
    lines = tuple(_line(name, counts.by, classes) for name, counts in found.items())
    before = lower_bound(now - timedelta(days=classes.records_days))
    waiting = Erasure.completed_at.is_(None)
    opened, kept, oldest = session.execute(
        select(
            func.count().filter(Erasure.state == "hidden"),
            func.count().filter(Erasure.state == "held"),
            func.min(Erasure.requested_at).filter(Erasure.state == "hidden"),
        ).where(waiting)
    ).one()
    end = today + timedelta(weeks=WEEKS)
    return Report(
        at=now,
        lines=lines,
        days={day: days[day] for day in _days(today, end)},
        months={month: months[month] for month in sorted(months)},
        records_days=classes.records_days,
        records_due=session.scalar(select(func.count()).where(Decision.id < before)) or 0,
        erasures_open=opened,
        erasures_held=kept,
        oldest_open=oldest,
    )


def _rows(session: Session, now: datetime) -> list[tuple[str, date, str, bool, int]]:
    kind = case(
        (Item.holds > 0, HELD),
        (under_appeal(Item.id), APPEAL),
        (and_(Item.state == ItemState.DELETED, Item.expires_at > now), RESTRICTED),
        else_=LIVE,
    )
    inner = (
        select(
            Item.retention_class.label("name"),
            cast(func.timezone("UTC", Item.expires_at), DATE).label("day"),
            kind.label("kind"),
            (Item.expires_at <= now).label("over"),
        )
        .where(Item.destroyed_at.is_(None))
        .subquery()
    )
    columns = (inner.c.name, inner.c.day, inner.c.kind, inner.c.over)
    rows = session.execute(select(*columns, func.count()).group_by(*columns)).all()
    return [(name, day, kind, over, number) for name, day, kind, over, number in rows]


def _buckets(day: date, today: date, *, over: bool) -> tuple[str, ...]:
    ahead = (day - today).days
    if over:
        return ("overdue",)
    if ahead <= 0:
        return ("today",)
    if ahead <= 7:
        return ("week", "month")
    return ("month",) if ahead <= 30 else ("later",)


def _days(first: date, end: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((end - first).days)]


def _line(name: str, counts: Counter[str], classes: Retention) -> Line:
    known = classes.classes.get(name)
    return Line(
        name,
        str(known.clock) if known else "",
        known.days if known else None,
        known.floor_days if known else 0,
        known.basis if known else "in no policy any more",
        **{one: counts[one] for one in COUNTED},
    )


@dataclass(frozen=True, slots=True)
class Evidence:
    """An item in the restricted state: whose, as what it is kept, since when hidden, until when."""

    id: UUID
    client: str
    author_id: UUID
    kept_as: str
    because: str
    hidden_at: datetime
    until: datetime
    holds: int


def restricted(session: Session, now: datetime, after: UUID | None = None, limit: int = 50) -> list[Evidence]:
    """Items that ended for everybody else and are still there: for a floor, for a hold. The newest first."""
    query = (
        select(Item)
        .where(
            Item.state == ItemState.DELETED,
            Item.destroyed_at.is_(None),
            Item.doomed_at.is_(None),
            (Item.expires_at > now) | (Item.holds > 0),
            ~under_appeal(Item.id),
        )
        .order_by(Item.id.desc())
        .limit(limit)
    )
    rows = session.scalars(query if after is None else query.where(Item.id < after))
    return [
        Evidence(
            row.id,
            row.client,
            row.author_id,
            row.retention_class,
            row.deleted_because or "",
            row.deleted_at or now,
            row.expires_at,
            row.holds,
        )
        for row in rows
    ]


def is_restricted(session: Session, item: Item, now: datetime) -> bool:
    """Whether an item is in the restricted state: for the legal role, and for nobody else."""
    kept = item.holds > 0 or item.expires_at > now
    over = item.state == ItemState.DELETED or item.expires_at <= now
    if not (over and kept) or item.doomed_at is not None or item.destroyed_at is not None:
        return False
    return not session.scalar(select(exists().where(Item.id == item.id, under_appeal(Item.id))))
