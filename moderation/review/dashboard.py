"""Numbers of the service as it runs, without content: what comes in and goes out, and what waits or fails.

Nothing here may read the whole of a large table. Time is a range of ids (UUIDv7), which is what the primary
keys are ordered by; what is counted row by row is counted up to a fixed number of the newest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import case, func, literal_column, select, text
from sqlalchemy.orm import Session

from moderation.domain.cases import CaseKind
from moderation.domain.decisions import DecidedBy
from moderation.domain.routing import Route
from moderation.storage.ids import lower_bound
from moderation.storage.tables import Appeal, Case, Decision, Outbox

HOUR = timedelta(hours=1)
NEWEST_SIGNALS = 50_000
COUNTED_AT_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Hour:
    """What happened in one hour. `decided` counts decisions by who decided and what."""

    start: datetime
    received: int = 0
    decided: Mapping[tuple[str, str], int] | None = None
    opened: int = 0
    closed: int = 0
    late: int = 0

    def by(self, decided_by: DecidedBy) -> int:
        """Final decisions by machines or by people; handing an item to people is none."""
        counts = (self.decided or {}).items()
        return sum(number for (by, route), number in counts if by == decided_by and route != Route.REVIEW)


def start_of_hour(moment: datetime) -> datetime:
    """The full hour before `moment`."""
    return moment.replace(minute=0, second=0, microsecond=0)


def hours(
    session: Session, since: datetime, until: datetime, decided_since: datetime | None = None
) -> list[Hour]:
    """One entry for each hour from `since` to `until`, which are full hours, the oldest first.

    Decisions are looked at one by one, unlike items: with `decided_since` only from then on.
    """
    starts = [since + number * HOUR for number in range(int((until - since) / HOUR))]
    if not starts:
        return []
    received = _received(session, starts)
    decided = _decided(session, max(since, decided_since or since), until)
    opened, closed, late = _case_flow(session, since, until)
    return [
        Hour(
            start,
            count,
            decided.get(start, {}),
            opened.get(start, 0),
            closed.get(start, 0),
            late.get(start, 0),
        )
        for start, count in zip(starts, received, strict=True)
    ]


# One index scan an hour and not one aggregate: an hour that is over is answered from the index alone.
_RECEIVED = text("""
    SELECT counted.number FROM unnest(CAST(:lows AS uuid[]), CAST(:highs AS uuid[]))
        WITH ORDINALITY AS hour (low, high, place)
    CROSS JOIN LATERAL (
        SELECT count(*) AS number FROM items WHERE id >= hour.low AND id < hour.high
    ) AS counted ORDER BY hour.place
""")


def _received(session: Session, starts: Sequence[datetime]) -> list[int]:
    bounds = {
        "lows": [lower_bound(start) for start in starts],
        "highs": [lower_bound(start + HOUR) for start in starts],
    }
    return list(session.execute(_RECEIVED, bounds).scalars())


def _decided(
    session: Session, since: datetime, until: datetime
) -> dict[datetime, dict[tuple[str, str], int]]:
    hour = func.date_trunc(literal_column("'hour'"), Decision.decided_at, literal_column("'UTC'"))
    rows = session.execute(
        select(hour.label("hour"), Decision.decided_by, Decision.route, func.count())
        .where(
            Decision.id >= lower_bound(since),
            Decision.id < lower_bound(until),
            Decision.undone_at.is_(None),
        )
        .group_by("hour", Decision.decided_by, Decision.route)
    )
    found: dict[datetime, dict[tuple[str, str], int]] = {}
    for start, by, route, count in rows:
        found.setdefault(start, {})[by, route] = count
    return found


def _case_flow(
    session: Session, since: datetime, until: datetime
) -> tuple[dict[datetime, int], dict[datetime, int], dict[datetime, int]]:
    """Cases opened, closed, and of these closed after their deadline, by hour; golden ones are no work."""
    opened_hour = func.date_trunc(literal_column("'hour'"), Case.opened_at, literal_column("'UTC'"))
    opened = session.execute(
        select(opened_hour.label("hour"), func.count())
        .where(Case.id >= lower_bound(since), Case.id < lower_bound(until), Case.kind != CaseKind.GOLDEN)
        .group_by("hour")
    )
    closed_hour = func.date_trunc(literal_column("'hour'"), Case.closed_at, literal_column("'UTC'"))
    ended = session.execute(
        select(
            closed_hour.label("hour"),
            func.count(),
            func.count(case((Case.closed_at > Case.deadline, 1))),
        )
        .where(
            Case.state == literal_column("'closed'"),
            Case.closed_at >= since,
            Case.closed_at < until,
            Case.kind != CaseKind.GOLDEN,
        )
        .group_by("hour")
    ).all()
    return (
        dict(opened.all()),
        {hour: count for hour, count, _ in ended},
        {hour: late for hour, _, late in ended},
    )


@dataclass(frozen=True, slots=True)
class DetectorHealth:
    """How often a detector spoke, failed, or had nothing to look at, in the time that was counted."""

    name: str
    ok: int
    failed: int
    skipped: int

    @property
    def failing(self) -> float:
        """The share of failures where it should have spoken."""
        tried = self.ok + self.failed
        return self.failed / tried if tried else 0.0


# The newest first and then no more than so many: an hour of a flood must not make this page slow.
_HEALTH = text("""
    SELECT detector, count(*) FILTER (WHERE status = 'ok') AS ok,
           count(*) FILTER (WHERE status = 'failed') AS failed,
           count(*) FILTER (WHERE status = 'skipped') AS skipped
    FROM (
        SELECT detector, status, shadow FROM signals WHERE item_id >= :low ORDER BY item_id DESC LIMIT :most
    ) AS newest WHERE NOT shadow GROUP BY detector ORDER BY detector
""")


def detectors(session: Session, since: datetime) -> list[DetectorHealth]:
    """The health of every detector that was heard of since then, of the newest 50,000 signals at most."""
    rows = session.execute(_HEALTH, {"low": lower_bound(since), "most": NEWEST_SIGNALS})
    return [DetectorHealth(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Webhooks: due and not delivered, since when the oldest, and given up (both counted up to 10,000)."""

    due: int
    oldest: datetime | None
    dead: int


def outgoing(session: Session, now: datetime) -> Outgoing:
    """How the outbox stands."""
    due = (
        select(Outbox.not_before.label("due_at"))
        .where(Outbox.state == literal_column("'pending'"), Outbox.not_before <= now)
        .limit(COUNTED_AT_MOST)
        .subquery()
    )
    count, oldest = session.execute(select(func.count(), func.min(due.c.due_at))).one()
    dead = select(Outbox.id).where(Outbox.state == literal_column("'dead'")).limit(COUNTED_AT_MOST).subquery()
    return Outgoing(count, oldest, session.scalar(select(func.count()).select_from(dead)) or 0)


@dataclass(frozen=True, slots=True)
class AppealsDue:
    """Open appeals: how many, how many past their deadline or due within a day, and the next deadline."""

    open: int
    overdue: int
    within_a_day: int
    next_deadline: datetime | None


def appeals_due(session: Session, now: datetime) -> AppealsDue:
    """How the open appeals stand against their deadlines."""
    day = now + timedelta(days=1)
    count, overdue, soon, nearest = session.execute(
        select(
            func.count(),
            func.count(case((Appeal.deadline <= now, 1))),
            func.count(case(((Appeal.deadline > now) & (Appeal.deadline <= day), 1))),
            func.min(Appeal.deadline),
        ).where(Appeal.state == literal_column("'open'"))
    ).one()
    return AppealsDue(count, overdue, soon, nearest)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Items that are not screened yet, and since when the oldest of them is due."""

    items: int
    oldest: datetime | None


# Each half has a partial index of its own; a count over both conditions at once would read the table.
_WAITING = text("""
    SELECT sum(number)::bigint AS number, min(oldest) AS oldest FROM (
        SELECT count(*) AS number, min(not_before) AS oldest FROM items
        WHERE state = 'received' AND attempts = 0
        UNION ALL
        SELECT count(*), min(not_before) FROM items WHERE state = 'received' AND attempts > 0
        UNION ALL
        SELECT count(*), min(not_before) FROM items WHERE state = 'leased'
    ) AS halves
""")


def waiting(session: Session) -> Waiting:
    """The machines' own backlog."""
    number, oldest = session.execute(_WAITING).one()
    return Waiting(number, oldest)


def decided_total(flow: Sequence[Hour]) -> dict[tuple[str, str], int]:
    """Decisions of all those hours, by who decided and what."""
    total: dict[tuple[str, str], int] = {}
    for hour in flow:
        for key, count in (hour.decided or {}).items():
            total[key] = total.get(key, 0) + count
    return total


def automated_share(total: Mapping[tuple[str, str], int]) -> float | None:
    """The share of items that machines settled by themselves; None where none was decided.

    Of what machines looked at, and not of all decisions: an item that people judged twice is still one.
    """
    alone = sum(n for (by, route), n in total.items() if by == DecidedBy.MACHINE and route != Route.REVIEW)
    handed = total.get((DecidedBy.MACHINE, Route.REVIEW), 0)
    return alone / (alone + handed) if alone + handed else None
