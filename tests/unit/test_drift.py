"""Drift: no alarm without a change, an alarm soon after one, and states that survive being written down."""

from __future__ import annotations

import json
from itertools import product
from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.domain import drift
from moderation.domain.drift import MeanWatch, RiskWatch, ShareWatch, State, reference

TOLERANCE = 0.5


def scores(dice: np.random.Generator, items: int, prevalence: float = 0.1) -> np.ndarray:
    bad = dice.random(items) < prevalence
    return np.round(np.where(bad, dice.beta(4, 1.5, items), dice.beta(0.4, 8, items)), 4)


def money(state: State) -> float:
    """What all games of a watch have, on average."""
    return float(np.mean(np.exp(state.money)))


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=300), st.integers(2, 12))
def test_bins_hold_every_score_once_and_are_about_even(scored: list[int], bins: int) -> None:
    found = np.array([one / 10_000 for one in scored])
    made = reference(found, bins)
    assert 1 <= len(made.shares) <= bins
    assert len(made.edges) == len(made.shares) - 1
    assert sum(made.shares) == pytest.approx(1)
    assert min(made.shares) > 0
    assert sum(made.counts(found)) == len(found)
    assert made.mean == pytest.approx(found.mean())
    assert drift.Reference.of(json.loads(json.dumps(made.document()))) == made


def test_what_scored_alike_is_one_bin_and_nothing_has_no_reference() -> None:
    made = reference(np.array([0.0] * 90 + [0.5] * 10))
    assert made.shares == (0.9, 0.1)
    assert made.counts(np.array([0.0, 0.5, 0.7, 1.0])) == (1, 3)
    with pytest.raises(ValueError):
        reference(np.zeros(0))


@pytest.mark.parametrize("batch", [1, 2])
def test_at_the_edge_of_the_tolerance_the_money_is_at_most_the_batches_on_average(batch: int) -> None:
    watch = ShareWatch((0.3, 0.7), TOLERANCE)
    by_mean = MeanWatch(0.3, TOLERANCE)
    totals = np.zeros(2)
    for outcome in product((0, 1), repeat=4):
        chance = np.prod([0.45 if hit else 0.55 for hit in outcome])
        state, other = watch.begin(), by_mean.begin()
        for begin in range(0, 4, batch):
            hits = outcome[begin : begin + batch]
            state = watch.update(state, [sum(hits), len(hits) - sum(hits)])
            other = by_mean.update(other, np.array(hits, dtype=float))
        by_bin = np.exp(state.money).reshape(4, -1).mean(axis=1)
        totals += chance * np.array([by_bin[0], money(other)])
    assert totals == pytest.approx([4 / batch, 4 / batch])  # the first bin rises to just 0.3 * 1.5


def test_a_kept_promise_is_worth_one_at_most_on_average_whenever_it_is_looked_at() -> None:
    watch = RiskWatch(0.2, 0.5)
    for length in (1, 2, 3):
        mean = 0.0
        # Half of the decisions are drawn with 0.5 and 30 % of them are wrong, half always and 10 % of them are.
        kinds = [(0.5, 0.3 / 3, 1.0), (0.5, 0.7 / 3, 0.0), (1.0, 0.1 * 2 / 3, 1.0), (1.0, 0.9 * 2 / 3, 0.0)]
        for found in product(kinds, repeat=length):
            chance, state = 1.0, watch.begin()
            for propensity, share, wrong in found:
                chance *= share
                state = watch.update(state, np.array([wrong]), np.array([propensity]))
            mean += chance * money(state)
        assert mean == pytest.approx(1 - 1 / (length + 1))  # the stakes that have been begun


def test_no_alarm_without_a_change_nor_within_the_tolerance() -> None:
    dice = np.random.default_rng(1)
    made = reference(scores(dice, 50_000))
    for prevalence in (0.1, 0.12):
        shares, mean = ShareWatch(made.shares, TOLERANCE), MeanWatch(made.mean, TOLERANCE)
        falls = MeanWatch(made.mean, TOLERANCE, falling=True)
        state, other, third = shares.begin(), mean.begin(), falls.begin()
        for _ in range(300):
            batch = scores(dice, int(dice.integers(1, 600)), prevalence)
            state, other = shares.update(state, made.counts(batch)), mean.update(other, batch)
            third = falls.update(third, batch)
            assert not shares.alarm(state)
            assert not mean.alarm(other)
            assert not falls.alarm(third)


def test_an_alarm_comes_soon_after_a_change_however_long_there_was_none() -> None:
    dice = np.random.default_rng(2)
    made = reference(scores(dice, 50_000))
    watches = (ShareWatch(made.shares, TOLERANCE), MeanWatch(made.mean, TOLERANCE))
    states = [watch.begin() for watch in watches]

    def see(batch: np.ndarray) -> None:
        states[0] = watches[0].update(states[0], made.counts(batch))
        states[1] = watches[1].update(states[1], batch)

    for _ in range(200):
        see(scores(dice, 500))
    for _ in range(4):
        see(scores(dice, 500, prevalence=0.3))
    assert watches[0].alarm(states[0])
    assert watches[1].alarm(states[1])


def test_a_fall_of_prevalence_is_seen_by_shares_and_by_the_mean_that_watches_for_it() -> None:
    dice = np.random.default_rng(3)
    made = reference(scores(dice, 50_000))
    shares, rises = ShareWatch(made.shares, TOLERANCE), MeanWatch(made.mean, TOLERANCE)
    falls = MeanWatch(made.mean, TOLERANCE, falling=True)
    state, other, third = shares.begin(), rises.begin(), falls.begin()
    for _ in range(60):
        batch = scores(dice, 500, prevalence=0.01)
        state, other = shares.update(state, made.counts(batch)), rises.update(other, batch)
        third = falls.update(third, batch)
    assert shares.alarm(state)
    assert falls.alarm(third)
    assert not rises.alarm(other)


def test_checks_disprove_a_broken_promise_and_leave_a_kept_one_alone() -> None:
    dice = np.random.default_rng(4)
    watch = RiskWatch(0.02, 0.1)
    false_alarms = 0
    for risk in [0.02] * 60 + [0.1]:
        state = watch.begin()
        alarmed = False
        for _ in range(40):
            wrong = (dice.random(20) < risk).astype(float)
            state = watch.update(state, wrong, np.full(20, 0.1))
            alarmed |= watch.alarm(state)
        if risk > 0.02:
            assert alarmed
        else:
            false_alarms += alarmed
    assert false_alarms <= 1  # one in a thousand, of sixty


def test_checks_less_likely_than_any_that_was_certified_are_left_out() -> None:
    watch = RiskWatch(0.02, 0.1)
    assert watch.update(watch.begin(), np.array([1.0]), np.array([0.01])) == watch.begin()


def test_a_state_written_down_and_read_is_the_same_and_nothing_changes_nothing() -> None:
    dice = np.random.default_rng(6)
    made = reference(scores(dice, 2_000))
    watch = ShareWatch(made.shares, TOLERANCE)
    state = watch.begin()
    assert State.of(json.loads(json.dumps(state.document()))) == state
    for _ in range(5):
        state = watch.update(state, made.counts(scores(dice, 400, 0.2)))
        state = State.of(json.loads(json.dumps(state.document())))
    whole = watch.begin()
    dice = np.random.default_rng(6)
    scores(dice, 2_000)
    for _ in range(5):
        whole = watch.update(whole, made.counts(scores(dice, 400, 0.2)))
    assert state.money == pytest.approx(whole.money, abs=1e-4)
    assert watch.update(state, [0] * len(made.shares)) == state
    mean = MeanWatch(made.mean, TOLERANCE)
    assert mean.update(mean.begin(), np.zeros(0)) == mean.begin()


def test_the_height_runs_from_nothing_to_the_alarm() -> None:
    watch = MeanWatch(0.1, TOLERANCE, items=1000)
    assert watch.height(watch.begin()) == 0
    half = State((log(1000) / 2,) * len(drift._STAKES), 1)
    assert watch.height(half) == pytest.approx(0.5)
    assert not watch.alarm(half)
    assert watch.alarm(State((log(1001),) * len(drift._STAKES), 1))


def test_a_bin_that_can_not_grow_beyond_the_tolerance_gives_no_alarm() -> None:
    watch = ShareWatch((0.9, 0.1), TOLERANCE)
    state = watch.begin()
    for _ in range(50):
        state = watch.update(state, [95, 5])
    json.dumps(state.document(), allow_nan=False)
    assert all(np.isfinite(state.money))
