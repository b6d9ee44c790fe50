"""Judgements: what goes together, and how an account stands after them."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.domain import decisions
from moderation.domain.cases import Verdict
from moderation.domain.decisions import AccountMeasure, Judgement, Measure, Restriction
from moderation.domain.errors import InvalidInput
from moderation.domain.policy import Policy
from moderation.domain.reviewing import Strikes
from tests.conftest import NOW

DAY = timedelta(days=1)
GATE = (Restriction.AGE_GATE,)


def test_a_clause_is_filled_in(policy: Policy, now: datetime) -> None:
    assert decisions.checked(Judgement(Verdict.REMOVE, "spam"), policy, now).clause == "S1"
    assert decisions.checked(Judgement(Verdict.REMOVE, "violence"), policy, now).clause == "violence"


def test_what_is_allowed_breaks_no_rule(policy: Policy, now: datetime) -> None:
    assert decisions.checked(Judgement(Verdict.ALLOW, "spam", "S1"), policy, now) == Judgement(Verdict.ALLOW)


WRONG = [
    (Judgement(Verdict.ALLOW, restrictions=GATE), "not restricted"),
    (Judgement(Verdict.ALLOW, measure=AccountMeasure.WARN), "not restricted"),
    (Judgement(Verdict.REMOVE), "which rule"),
    (Judgement(Verdict.REMOVE, "no_such"), "which rule"),
    (Judgement(Verdict.LIMIT, "spam"), "how it is limited"),
    (Judgement(Verdict.REMOVE, "spam", restrictions=GATE), "limited as well"),
    (Judgement(Verdict.REMOVE, "spam", "H1"), "Clause H1 is not one of spam"),
    (Judgement(Verdict.REMOVE, "spam", measure=AccountMeasure.BAN, until=NOW + DAY), "Only a suspension"),
    (Judgement(Verdict.REMOVE, "spam", measure=AccountMeasure.SUSPEND, until=NOW), "in the future"),
]


@pytest.mark.parametrize(("judgement", "sentence"), WRONG)
def test_what_does_not_go_together_is_refused_with_what_to_do(
    policy: Policy, now: datetime, judgement: Judgement, sentence: str
) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        decisions.checked(judgement, policy, now)


def test_measures_end_as_the_policy_says(policy: Policy, now: datetime) -> None:
    def until(measure: AccountMeasure, at: datetime | None = None) -> datetime | None:
        return decisions.checked(Judgement(Verdict.REMOVE, "spam", None, (), measure, at), policy, now).until

    assert until(AccountMeasure.WARN) is None
    assert until(AccountMeasure.BAN) is None
    assert until(AccountMeasure.STRIKE) == now + policy.review.strikes.window_days * DAY
    assert until(AccountMeasure.SUSPEND) == now + policy.review.strikes.suspend_days * DAY
    assert until(AccountMeasure.SUSPEND, now + DAY) == now + DAY


def strikes(*days_ago: float) -> list[Measure]:
    return [Measure(AccountMeasure.STRIKE, NOW - ago * DAY, NOW - ago * DAY + 90 * DAY) for ago in days_ago]


def test_a_strike_decays_and_the_advice_with_it(now: datetime) -> None:
    rules = Strikes()
    assert decisions.standing(strikes(1, 89), rules, now).advice is AccountMeasure.SUSPEND
    assert decisions.standing(strikes(1, 90), rules, now) == decisions.standing(strikes(1), rules, now)
    assert decisions.standing(strikes(1), rules, now).advice is None
    assert decisions.standing(strikes(1, 2, 3, 4), rules, now).advice is AccountMeasure.BAN


def test_what_can_still_be_undone_does_not_count(now: datetime) -> None:
    soon = Measure(AccountMeasure.BAN, now + timedelta(seconds=10))
    assert decisions.standing([soon], Strikes(), now) == decisions.standing([], Strikes(), now)


def test_the_longest_suspension_counts_until_it_ends(now: datetime) -> None:
    both = [Measure(AccountMeasure.SUSPEND, now - DAY, now + days * DAY) for days in (1, 3)]
    assert decisions.standing(both, Strikes(), now).suspended_until == now + 3 * DAY
    assert decisions.standing(both, Strikes(), now + 3 * DAY).suspended_until is None


@given(st.lists(st.floats(0, 200), max_size=8), st.floats(0, 200))
def test_time_never_adds_a_strike(ages: list[float], later: float) -> None:
    taken = strikes(*ages)
    before = decisions.standing(taken, Strikes(), NOW)
    assert decisions.standing(taken, Strikes(), NOW + later * DAY).strikes <= before.strikes
