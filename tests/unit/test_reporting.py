"""Which reports are owed, by an injected clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from moderation.domain.reporting import GRACE, Owed, Period, ReportKind, Schedule, owed, periods

BEGUN = datetime(2026, 9, 17, 8, tzinfo=UTC)


def at(month: int, day: int = 1, hour: int = 0) -> datetime:
    return datetime(2026, month, day, hour, tzinfo=UTC)


def test_every_month_that_is_over_is_a_period_from_the_first_on() -> None:
    found = list(periods(Schedule.MONTHLY, BEGUN, at(11, 22)))
    assert found == [Period(at(10), at(11)), Period(at(9), at(10))]


def test_a_period_is_over_only_once_its_last_moment_is_committed() -> None:
    assert list(periods(Schedule.MONTHLY, BEGUN, at(10))) == []
    assert list(periods(Schedule.MONTHLY, BEGUN, at(10, 1, 2))) == [Period(at(9), at(10))]


def test_a_week_begins_on_monday() -> None:
    (last, *_) = periods(Schedule.WEEKLY, BEGUN, at(11, 22))
    assert last == Period(at(11, 9), at(11, 16))
    assert last.since.weekday() == 0


def test_an_old_installation_is_not_asked_for_everything_since() -> None:
    old = datetime(2001, 1, 1, tzinfo=UTC)
    assert len(list(periods(Schedule.MONTHLY, old, at(11, 22)))) == 24


def test_nothing_is_owed_before_a_period_is_over_or_without_a_schedule() -> None:
    assert owed(Schedule.MONTHLY, BEGUN, [], at(9, 30)) == []
    assert owed(Schedule.OFF, BEGUN, [], at(12)) == []


def test_of_each_kind_one_is_owed_and_some_days_later_overdue() -> None:
    soon = owed(Schedule.MONTHLY, BEGUN, [], at(10, 1, 2))
    assert soon == [Owed(Period(at(9), at(10)), kind, overdue=False) for kind in sorted(ReportKind)]
    assert all(one.overdue for one in owed(Schedule.MONTHLY, BEGUN, [], at(10) + GRACE))


@pytest.mark.parametrize(
    ("made", "left"),
    [
        (Period(at(9), at(10)), 0),
        (Period(at(9, 1), at(9, 30)), 0),  # by hand, from the same day on: it stands in its place
        (Period(at(8), at(10)), 0),
        (Period(at(9, 5), at(10)), 1),
    ],
)
def test_what_is_made_is_owed_no_more(made: Period, left: int) -> None:
    found = owed(Schedule.MONTHLY, BEGUN, [(ReportKind.AUDIT, made)], at(10) + timedelta(days=1))
    assert sum(one.kind is ReportKind.AUDIT for one in found) == left
