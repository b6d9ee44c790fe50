"""Identifiers carry their moment, sort by it, and a month of them is one range."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import RFC_4122

from hypothesis import given
from hypothesis import strategies as st

from moderation.storage.ids import lower_bound, moment_of, new_id

MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2199, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


@given(MOMENTS)
def test_is_a_uuid_of_version_7(moment: datetime) -> None:
    identifier = new_id(moment)
    assert (identifier.version, identifier.variant) == (7, RFC_4122)


@given(MOMENTS)
def test_carries_its_moment_to_the_millisecond(moment: datetime) -> None:
    assert timedelta(0) <= moment - moment_of(new_id(moment)) < timedelta(milliseconds=1.001)


@given(MOMENTS, MOMENTS)
def test_sorts_by_moment(one: datetime, other: datetime) -> None:
    early, late = sorted((one, other))
    if late - early >= timedelta(milliseconds=2):
        assert new_id(early) < new_id(late)


@given(MOMENTS)
def test_a_bound_lies_between_what_came_before_and_what_comes_from_then_on(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    assert new_id(moment - timedelta(milliseconds=1)) < lower_bound(moment) <= new_id(moment)


def test_no_two_are_alike() -> None:
    moment = datetime(2026, 11, 22, tzinfo=UTC)
    assert len({new_id(moment) for _ in range(10_000)}) == 10_000
