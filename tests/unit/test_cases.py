"""Cases: why, how urgent, by when, and what opinions come to."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.domain import cases
from moderation.domain.cases import CaseKind, CaseReason, Judged, Next, Stage, Turn
from moderation.domain.policy import Policy

VERDICTS = ("allow", "limit", "remove")


def said(*verdicts: str) -> list[Judged]:
    """Opinions of different people, the newest last."""
    return [Judged(verdict, None, str(number)) for number, verdict in enumerate(verdicts)]


@pytest.mark.parametrize("reason", CaseReason)
def test_every_reason_has_one_kind_and_only_checks_are_blind(reason: CaseReason) -> None:
    kind = cases.kind_of(reason)
    assert cases.is_blind(reason) == (kind in (CaseKind.QUALITY, CaseKind.GOLDEN))
    assert (kind is CaseKind.APPEAL) == (reason is CaseReason.APPEAL)


@pytest.mark.parametrize("reason", [CaseReason.UNCERTAIN, CaseReason.BANK, CaseReason.REPORT])
@pytest.mark.parametrize("category", ["sexual_minors", "underage"])
def test_what_minors_brought_is_a_reason_of_its_own(reason: CaseReason, category: str) -> None:
    assert cases.reason_of(reason, category) is CaseReason.MINOR
    assert cases.reason_of(reason, "spam") is reason


def test_a_check_about_minors_stays_a_check() -> None:
    assert cases.reason_of(CaseReason.AUDIT, "underage") is CaseReason.AUDIT


@given(st.floats(0, 1), st.integers(1, 5), st.none() | st.integers(0, 10**10))
def test_priority_rises_with_each_of_its_factors(p: float, severity: int, reach: int | None) -> None:
    base = cases.priority(p, severity, reach)
    assert cases.priority(min(1.0, p + 0.1), severity, reach) >= base
    assert cases.priority(p, severity + 1, reach) >= base
    assert cases.priority(p, severity, (100 if reach is None else reach) * 10 + 10) >= base


def test_reach_counts_in_orders_of_magnitude() -> None:
    few, many = cases.priority(0.5, 3, 100), cases.priority(0.5, 3, 1_000_000)
    assert few * 2.5 < many < few * 3.5
    assert cases.priority(0.5, 3, None) == few


def test_deadlines_come_from_the_category_the_appeal_or_the_policy(policy: Policy, now: datetime) -> None:
    def hours(category: str | None, reason: CaseReason) -> float:
        return (cases.deadline(policy, category, reason, now) - now) / timedelta(hours=1)

    assert hours("threat", CaseReason.UNCERTAIN) == 12
    assert hours("spam", CaseReason.UNCERTAIN) == 72
    assert hours(None, CaseReason.DEAD_LETTER) == 72
    assert hours("threat", CaseReason.APPEAL) == policy.review.appeal_deadline_hours
    assert hours("threat", CaseReason.AUDIT) == 72, "a check promises nobody anything"


def test_urgent_is_what_has_a_promised_deadline(policy: Policy) -> None:
    assert cases.is_urgent(policy, "threat", CaseReason.UNCERTAIN)
    assert cases.is_urgent(policy, "spam", CaseReason.APPEAL)
    assert cases.is_urgent(policy, None, CaseReason.MINOR)
    assert not cases.is_urgent(policy, "spam", CaseReason.UNCERTAIN)
    assert not cases.is_urgent(policy, "threat", CaseReason.AUDIT)


@given(st.floats(0, 1), st.floats(0, 1, exclude_max=True))
def test_deadlines_are_always_looked_for_first_and_harm_is_always_looked_for(
    share: float, dice: float
) -> None:
    turns = cases.turns(share, dice)
    assert turns[0] is Turn.URGENT
    assert turns[-1] is Turn.HARM
    assert (Turn.OLDEST in turns) == (dice < share)


def test_who_settles_a_case_sees_everything_and_a_second_person_nothing() -> None:
    assert not cases.hides(False, Stage.REVIEW)
    assert cases.hides(True, Stage.REVIEW)
    assert cases.hides(False, Stage.SECOND)
    assert not cases.hides(True, Stage.ADJUDICATION)


REVIEWS = [
    (1, ["remove"], Next.DECIDE),
    (2, ["remove"], Next.SECOND),
    (2, ["remove", "remove"], Next.DECIDE),
    (2, ["remove", "allow"], Next.ADJUDICATE),
    (1, ["limit", "remove"], Next.ADJUDICATE),  # the first was late
]


@pytest.mark.parametrize(("wanted", "verdicts", "following"), REVIEWS)
@pytest.mark.parametrize("kind", [CaseKind.REVIEW, CaseKind.APPEAL])
def test_reviews(kind: CaseKind, wanted: int, verdicts: list[str], following: Next) -> None:
    assert cases.after_opinion(kind, Stage.REVIEW, wanted, said(*verdicts), None) is following


CHECKS = [
    (["allow"], Next.CONFIRM),
    (["remove"], Next.SECOND),
    (["remove", "remove"], Next.DECIDE),
    (["remove", "allow"], Next.ADJUDICATE),
    (["remove", "limit"], Next.ADJUDICATE),
]


@pytest.mark.parametrize(("verdicts", "following"), CHECKS)
def test_one_slip_in_a_check_overturns_nothing(verdicts: list[str], following: Next) -> None:
    assert cases.after_opinion(CaseKind.QUALITY, Stage.REVIEW, 1, said(*verdicts), "allow") is following


@given(
    st.sampled_from(CaseKind),
    st.sampled_from(Stage),
    st.integers(1, 2),
    st.lists(st.sampled_from(VERDICTS), min_size=1, max_size=4),
    st.none() | st.sampled_from(VERDICTS),
)
def test_whatever_was_said_the_rules_hold(
    kind: CaseKind, stage: Stage, wanted: int, verdicts: list[str], standing: str | None
) -> None:
    following = cases.after_opinion(kind, stage, wanted, said(*verdicts), standing)
    if kind is CaseKind.GOLDEN:
        assert following is Next.CONFIRM
        return
    if stage is Stage.ADJUDICATION:
        assert following in (Next.DECIDE, Next.CONFIRM), "an adjudicator settles it"
        return
    agree = all(one == other for one, other in pairwise(verdicts))
    if following is Next.DECIDE:
        assert agree, "no decision over somebody's head"
        assert len(verdicts) >= (2 if kind is CaseKind.QUALITY else wanted)
    if following is Next.CONFIRM:
        assert verdicts == [standing]
    if not agree:
        assert following is Next.ADJUDICATE


@given(st.sampled_from(VERDICTS), st.sampled_from(VERDICTS))
def test_an_adjudicator_who_finds_a_check_right_changes_nothing(first: str, standing: str) -> None:
    following = cases.after_opinion(CaseKind.QUALITY, Stage.ADJUDICATION, 1, said(first, standing), standing)
    assert following is Next.CONFIRM
