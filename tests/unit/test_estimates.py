"""The share of wrong decisions from few that were drawn: right on average, with an interval that holds it."""

from __future__ import annotations

import random

import pytest

from moderation.domain.estimates import share_wrong


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
