"""How long things live: clocks, floors, and what a verdict does to them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.domain.policy import Policy
from moderation.domain.retention import Clock, RetentionClass, deletable_at, due
from moderation.domain.routing import Route
from moderation.domain.signals import Category

RECEIVED = datetime(2026, 3, 1, tzinfo=UTC)
DECIDED = RECEIVED + timedelta(days=2)
DAY = timedelta(days=1)

CLASSES = st.integers(0, 3650).flatmap(
    lambda days: st.builds(
        RetentionClass, st.just("any"), st.sampled_from(Clock), st.just(days), st.integers(0, days)
    )
)
SPANS = st.timedeltas(timedelta(0), timedelta(days=4000))


def test_a_clock_counts_from_its_own_moment() -> None:
    assert due(RetentionClass("a", Clock.RECEIVED, 30), RECEIVED, DECIDED) == RECEIVED + 30 * DAY
    assert due(RetentionClass("b", Clock.DECIDED, 30), RECEIVED, DECIDED) == DECIDED + 30 * DAY


def test_a_clock_that_has_not_started_counts_from_receipt() -> None:
    assert due(RetentionClass("a", Clock.DECIDED, 30), RECEIVED, None) == RECEIVED + 30 * DAY


def test_without_a_floor_a_request_ends_content_at_once() -> None:
    allowed = RetentionClass("allowed", Clock.DECIDED, 30)
    assert deletable_at(allowed, RECEIVED, DECIDED, DECIDED + DAY) == DECIDED + DAY


def test_a_floor_keeps_it_until_its_end() -> None:
    kept = RetentionClass("appealable", Clock.DECIDED, 213, 213)
    assert deletable_at(kept, RECEIVED, DECIDED, DECIDED + DAY) == DECIDED + 213 * DAY
    assert deletable_at(kept, RECEIVED, DECIDED, DECIDED + 300 * DAY) == DECIDED + 300 * DAY


@given(CLASSES, SPANS, SPANS)
def test_nothing_ends_before_it_is_asked_for_or_before_its_floor(
    kind: RetentionClass, until_decided: timedelta, until_asked: timedelta
) -> None:
    decided, asked = RECEIVED + until_decided, RECEIVED + until_asked
    end = deletable_at(kind, RECEIVED, decided, asked)
    start = decided if kind.clock is Clock.DECIDED else RECEIVED
    assert end >= asked
    assert not kind.floor_days or end >= start + kind.floor_days * DAY
    assert end <= max(asked, due(kind, RECEIVED, decided)), "a request never makes it live longer"


@pytest.mark.parametrize(
    ("verdict", "category", "expected"),
    [
        (Route.ALLOW, None, "allowed"),
        (Route.ALLOW, Category.UNDERAGE, "allowed"),
        (Route.REVIEW, None, "waiting"),
        (Route.REVIEW, Category.UNDERAGE, "waiting"),
        (Route.LIMIT, Category.SPAM, "appealable"),
        (Route.REMOVE, Category.SPAM, "appealable"),
        (Route.REMOVE, None, "appealable"),
        (Route.REMOVE, Category.SEXUAL_MINORS, "grave"),
        (Route.LIMIT, Category.UNDERAGE, "appealable"),
    ],
)
def test_the_verdict_chooses_the_class(
    policy: Policy, verdict: Route, category: str | None, expected: str
) -> None:
    rule = policy.categories[category].retention if category else None
    assert policy.retention.for_verdict(verdict, rule).name == expected


def test_what_the_default_policy_promises(policy: Policy) -> None:
    classes = policy.retention.classes
    assert policy.retention.received == "pending"
    assert min(kind.days for kind in classes.values()) == classes["allowed"].days == 30
    assert classes["appealable"].floor_days >= 6 * 30, "six months to appeal"
    assert classes["grave"].floor_days == 365
    assert all(kind.basis for kind in classes.values()), "each class names its basis"
