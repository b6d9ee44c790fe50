"""Prevalence from blind draws by stratum: right on average, an interval that holds it, and no false certainty."""

from __future__ import annotations

import random

import pytest

from moderation.domain.estimates import share_wrong
from moderation.domain.prevalence import Stratum, covered, prevalence


def judged(share: float, checks: int, breaking: int) -> list[tuple[float, bool]]:
    return [(share, index < breaking) for index in range(checks)]


def test_strata_count_by_their_size_and_not_by_how_many_were_drawn() -> None:
    found = prevalence([Stratum(9_000, judged(0.01, 90, 9)), Stratum(1_000, judged(0.5, 500, 250))])
    assert found.share == pytest.approx(0.9 * 0.1 + 0.1 * 0.5)
    assert (found.checked, found.wrong) == (590, 259)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.share < found.high


def test_one_stratum_is_the_plain_estimate() -> None:
    drawn = judged(0.1, 100, 8)
    assert prevalence([Stratum(1_000, drawn)]) == share_wrong(drawn)


def test_what_nobody_found_anything_in_still_widens_the_interval() -> None:
    sure = Stratum(1_000, judged(1.0, 1_000, 500), everything=True)
    found = prevalence([Stratum(9_000, judged(0.01, 90, 0)), sure])
    assert found.share == pytest.approx(0.05)
    assert found.low == pytest.approx(0.05), "nothing below: none was found, and of the rest all is known"
    assert found.high == pytest.approx(0.05 + 0.9 * 3.8415 / 93.8415, abs=1e-4)


def test_what_was_judged_as_a_whole_leaves_nothing_to_chance() -> None:
    found = prevalence([Stratum(200, judged(1.0, 200, 50), everything=True)])
    assert found.low == found.share == found.high == 0.25
    half = prevalence([Stratum(400, judged(1.0, 200, 50), everything=True)])
    assert half.low is not None
    assert half.low < 0.25


def test_where_nobody_looked_nothing_is_known() -> None:
    assert prevalence([]).share is None
    strata = [Stratum(900, []), Stratum(100, judged(0.1, 10, 1))]
    assert prevalence([Stratum(900, [])]).share is None
    assert prevalence(strata).share == pytest.approx(0.1)
    assert covered(strata) == pytest.approx(0.1)
    assert covered([]) == 0.0


def test_over_many_draws_the_interval_holds_the_truth() -> None:
    dice = random.Random(2)
    # As the default policy draws: most is far from any threshold, and hardly any of it breaks a rule.
    strata = [(20_000, 0.004, 0.02, False), (3_000, 0.06, 0.1, False), (2_000, 0.4, 0.2, False),
              (300, 0.6, 1.0, True)]  # fmt: skip
    population = [[dice.random() < rate for _ in range(size)] for size, rate, _, _ in strata]
    truth = sum(map(sum, population)) / sum(map(len, population))
    shares, held = [], 0
    for _ in range(400):
        drawn = [
            Stratum(size, [(share, one) for one in everything if dice.random() < share], everything=whole)
            for (size, _, share, whole), everything in zip(strata, population, strict=True)
        ]
        found = prevalence(drawn)
        assert found.share is not None
        shares.append(found.share)
        held += (found.low or 0) <= truth <= (found.high or 0)
    assert sum(shares) / len(shares) == pytest.approx(truth, rel=0.02)
    assert held >= 0.92 * 400  # 95 % promised; three standard errors below it by chance
