"""Which reports are owed: one of each kind for every period that is over."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

# What was done in a period's last moment may be committed a little later.
RIPE = timedelta(hours=1)
GRACE = timedelta(days=3)
MOST = 24  # periods of one kind: nobody is owed what ended before


class ReportKind(StrEnum):
    """What a signed report counts."""

    AUDIT = "audit"
    RETENTION = "retention"
    ACCESS = "access"


class Schedule(StrEnum):
    """How long a period is; none at all with `off`."""

    MONTHLY = "monthly"
    WEEKLY = "weekly"
    OFF = "off"


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """From `since` up to and without `until`."""

    since: datetime
    until: datetime

    def covers(self, other: Period) -> bool:
        """Whether a report on this period leaves nothing to say on `other`, or stands in its place."""
        return self.since == other.since or (self.since < other.since and other.until <= self.until)


@dataclass(frozen=True, slots=True, order=True)
class Owed:
    """A report that is to be made; `overdue` from some days after its period on."""

    period: Period
    kind: ReportKind
    overdue: bool


def periods(schedule: Schedule, begun: datetime, now: datetime) -> Iterator[Period]:
    """Every period from the one in which the installation was `begun` to the last that is over, newest first."""
    if schedule is Schedule.OFF:
        return
    until = _start(schedule, now.astimezone(UTC) - RIPE)
    for _ in range(MOST):
        since = _start(schedule, until - timedelta(seconds=1))
        if until <= begun:
            return
        yield Period(since, until)
        until = since


def owed(
    schedule: Schedule, begun: datetime, made: Collection[tuple[ReportKind, Period]], now: datetime
) -> list[Owed]:
    """What is to be made and is not, the oldest first."""
    return sorted(
        Owed(period, kind, period.until + GRACE <= now)
        for period in periods(schedule, begun, now)
        for kind in ReportKind
        if not any(one is kind and known.covers(period) for one, known in made)
    )


def _start(schedule: Schedule, moment: datetime) -> datetime:
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if schedule is Schedule.WEEKLY:
        return day - timedelta(days=day.weekday())
    return day.replace(day=1)
