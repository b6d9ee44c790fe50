"""The share of wrong decisions from few that were drawn: right on average, with an interval that holds it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.domain.estimates import auc, share_wrong


def test_each_check_counts_for_the_decisions_it_stands_for() -> None:
    # 1 of 10 wrong where one in ten is drawn, 0 of 10 where every one is: 10 wrong of 110.
    drawn = [(0.1, True), *[(0.1, False)] * 9, *[(1.0, False)] * 10]
    found = share_wrong(drawn)
    assert (found.checked, found.wrong) == (20, 1)
    assert found.share == pytest.approx(10 / 110)
    assert found.low is not None
    assert found.high is not None
    assert 0 < found.low < found.share < found.high < 1


def test_equal_chances_give_wilsons_interval() -> None:
    found = share_wrong([(0.05, index < 8) for index in range(100)])
    assert found.share == pytest.approx(0.08)
    # Wilson's interval of 8 in 100, as tables have it.
    assert found.low == pytest.approx(0.0411, abs=1e-4)
    assert found.high == pytest.approx(0.1500, abs=1e-4)


def test_no_error_seen_is_not_none_there_and_nothing_checked_is_nothing_known() -> None:
    found = share_wrong([(0.005, False)] * 50)
    assert (found.share, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(3.8415 / 53.8415, abs=1e-4)
    assert share_wrong([]).share is None
    assert share_wrong([(1.0, True)]).high == pytest.approx(1.0)


def test_unequal_chances_make_a_sample_say_less() -> None:
    equal = share_wrong([(0.1, index % 10 == 0) for index in range(100)])
    unequal = share_wrong([(0.01 if index < 10 else 0.5, index % 10 == 0) for index in range(100)])
    widths = [(one.high or 0) - (one.low or 0) for one in (equal, unequal)]
    assert widths[1] > widths[0]


def test_over_many_draws_the_mean_is_the_truth_and_the_interval_holds_it() -> None:
    dice = random.Random(1)
    # Two strata as the policy draws them: 5 % near a threshold, where errors are frequent, 0.5 % elsewhere.
    near, far = [dice.random() < 0.1 for _ in range(4_000)], [dice.random() < 0.01 for _ in range(36_000)]
    truth = (sum(near) + sum(far)) / (len(near) + len(far))
    shares, held = [], 0
    for _ in range(200):
        drawn = [(0.05, wrong) for wrong in near if dice.random() < 0.05]
        drawn += [(0.005, wrong) for wrong in far if dice.random() < 0.005]
        found = share_wrong(drawn)
        assert found.share is not None
        shares.append(found.share)
        held += (found.low or 0) <= truth <= (found.high or 0)
    assert sum(shares) / len(shares) == pytest.approx(truth, rel=0.08)
    assert held >= 180  # 95 % promised; 90 % would already be far below it by chance alone


def test_auc_counts_pairs_ties_half_and_weights_items() -> None:
    # Of four pairs three are the right way round, and one is a tie.
    assert auc([(0.9, 1, True), (0.4, 1, True), (0.4, 1, False), (0.1, 1, False)]) == pytest.approx(3.5 / 4)
    # The harmless one with the high score stands for nine others: 1 pair right, 9 wrong.
    assert auc([(0.5, 1, True), (0.1, 1, False), (0.9, 1 / 9, False)]) == pytest.approx(0.1)
    assert auc([(0.5, 1, True), (0.2, 0.0, False)]) is None
    assert auc([]) is None


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=30))
def test_auc_is_the_share_of_pairs_and_of_the_turned_scale_the_rest(judged: list[tuple[int, bool]]) -> None:
    found = auc((score, 0.5, bad) for score, bad in judged)
    pairs = [(a, b) for a, bad in judged if bad for b, worse in judged if not worse]
    if not pairs:
        assert found is None
        return
    right = sum((a > b) + (a == b) / 2 for a, b in pairs)
    assert found == pytest.approx(right / len(pairs))
    assert auc((-score, 0.5, bad) for score, bad in judged) == pytest.approx(1 - right / len(pairs))


def test_reviewed_items_alone_mislead_and_drawn_ones_do_not() -> None:
    dice = random.Random(4)
    items = [(score, dice.random() < score) for score in (dice.betavariate(0.3, 3) for _ in range(60_000))]
    truth = auc((score, 1.0, bad) for score, bad in items)
    prevalence = sum(bad for _, bad in items) / len(items)
    reviewed = [(score, 1.0, bad) for score, bad in items if 0.1 <= score < 0.9]
    drawn = [(s, 0.05, bad) for s, bad in items if not 0.1 <= s < 0.9 and dice.random() < 0.05]
    assert truth is not None
    assert (auc(reviewed) or 0) < truth - 0.1
    assert auc(reviewed + drawn) == pytest.approx(truth, abs=0.02)
    whole = share_wrong([(q, bad) for _, q, bad in reviewed + drawn])
    alone = share_wrong([(q, bad) for _, q, bad in reviewed])
    assert (whole.low or 1) <= prevalence <= (whole.high or 0)
    assert (alone.share or 0) > 2 * prevalence
