"""Certificates: regions, evidence and walks by hand, by enumerating every possible draw, and by symmetries."""

from __future__ import annotations

from itertools import product
from math import comb, exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.domain import certificates
from moderation.domain.certificates import Checks, Grid, enough, grid, prove
from moderation.domain.promises import Side
from tests import promised
from tests.promised import Shares

SHARE = st.floats(0.001, 0.9)


def one_step(threshold: float, propensity: float, *, even: bool = False, unseen: float = 0.0) -> Grid:
    """A grid of one region that has all of the level."""
    by = [threshold, 1.0, 1.0, propensity, unseen, 1.0]
    return Grid(*(np.array([one]) for one in by), np.array([even]))


def checks(*found: tuple[float, float, bool]) -> Checks:
    score, propensity, wrong = zip(*found, strict=True) if found else ((), (), ())
    return Checks(np.array(score, float), np.array(propensity, float), np.array(wrong, float))


def evidence(right: int, wrong: int, allowed: float) -> float:
    region = certificates._Region(np.array([right, 0.0]), np.array([wrong, 0.0]), np.array([1.0, 0.5]), False)
    return region.evidence(allowed)


@pytest.mark.parametrize(
    ("allowed", "labels"), [(0.05, 59), (0.02, 149), (0.01, 299), (0.005, 598), (0.001, 2_995)]
)
def test_as_many_faultless_checks_as_tables_of_audits_say_prove_it_and_one_fewer_does_not(
    allowed: float, labels: int
) -> None:
    assert enough(allowed, 0.05) == labels
    for count, proved in ((labels, True), (labels - 1, False)):
        found = checks(*[(0.1, 0.2, False)] * count)
        proof = prove(found, one_step(0.5, 0.2, even=True), Side.ALLOW, allowed, 0.05, 0.2)
        assert (proof.threshold is not None) is proved
        assert proof.needed == (0 if proved else 1)


def test_betting_costs_a_faultless_audit_little_more_than_the_exact_test() -> None:
    for allowed, level in ((0.05, 0.05), (0.02, 0.003), (0.005, 0.0008)):
        count = next(n for n in range(1, 10_000) if evidence(n, 0, allowed) >= -log(level))
        assert enough(allowed, level) < count <= enough(allowed, level) + log(2) / allowed


@given(
    st.lists(st.tuples(st.floats(0.05, 1.0), st.booleans()), min_size=1, max_size=7),
    st.sampled_from([1.0, 0.9, 0.3]),
)
def test_where_too_much_is_wrong_the_money_is_one_on_average_over_every_possible_draw(
    decisions: list[tuple[float, bool]], part: float
) -> None:
    allowed = part * sum(wrong for _, wrong in decisions) / len(decisions)
    if not 0.001 < allowed < 0.999:
        return
    floor = min(q for q, _ in decisions)
    mean = 0.0
    for drawn in product((False, True), repeat=len(decisions)):
        chance = np.prod([q if taken else 1 - q for (q, _), taken in zip(decisions, drawn, strict=True)])
        seen = [one for one, taken in zip(decisions, drawn, strict=True) if taken]
        region = certificates._Region(
            np.array([0.0 if wrong else 1.0 for _, wrong in seen]),
            np.array([1.0 if wrong else 0.0 for _, wrong in seen]),
            np.array([floor / q for q, _ in seen]),
            even=False,
        )
        mean += chance * exp(region.evidence(allowed))
    assert mean <= 1 + 1e-9


@given(st.integers(0, 300), st.integers(0, 60), SHARE)
def test_the_exact_tail_is_the_binomials(right: int, wrong: int, share: float) -> None:
    total = right + wrong
    tail = sum(comb(total, k) * share**k * (1 - share) ** (total - k) for k in range(wrong + 1))
    assert exp(certificates._binomial_tail(total, wrong, share)) == pytest.approx(min(tail, 1.0), rel=1e-6)


@given(st.integers(0, 2_000), st.integers(0, 50), st.floats(0.001, 0.3))
def test_one_more_right_check_never_speaks_against_and_one_more_mistake_never_for(
    right: int, wrong: int, allowed: float
) -> None:
    assert evidence(right + 1, wrong, allowed) >= evidence(right, wrong, allowed)
    assert evidence(right, wrong + 1, allowed) <= evidence(right, wrong, allowed)
    assert evidence(right, wrong, allowed * 1.1) >= evidence(right, wrong, allowed) - 1e-9


@given(st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from([0.01, 0.1, 0.5])), min_size=1), st.data())
def test_regions_hold_what_routing_would_act_on(scored: list[tuple[int, float]], data: st.DataObject) -> None:
    scores = np.array([score / 10_000 for score, _ in scored])
    side = data.draw(st.sampled_from(Side))
    found = grid(scores, np.array([q for _, q in scored]), side, 0.02, 0.05)
    for threshold, coverage in zip(found.thresholds, found.coverage, strict=True):
        inside = scores >= threshold if side is Side.REMOVE else scores < threshold
        assert coverage == pytest.approx(inside.mean())
        assert abs(threshold * 10_000 % 1 - 0.5) < 1e-6  # no score lies on it, however it was rounded
    assert list(found.thresholds) == sorted(found.thresholds, reverse=side is Side.REMOVE)
    assert found.share.sum() == pytest.approx(1.0)


def test_what_is_counted_is_of_the_region_and_weighted() -> None:
    found = checks((0.95, 0.1, True), (0.9, 0.5, False), (0.2, 0.1, True), (0.91, 0.1, False))
    steps = one_step(0.89995, 0.1)
    point = prove(found, steps, Side.REMOVE, 0.02, 0.05, 0.1).curve[0]
    assert (point.checks, point.mistakes) == (3, 1)
    assert point.risk == pytest.approx(10 / 22)
    low = prove(found, steps, Side.ALLOW, 0.02, 0.05, 0.1).curve[0]
    assert (low.checks, low.mistakes, low.risk) == (1, 1, pytest.approx(1.0))


def test_the_order_of_checks_says_nothing() -> None:
    made = promised.draw(promised.CALIBRATED, 6_000, Shares(0.2, 0.3, 0.4), np.random.default_rng(3))
    steps = grid(made.scores, made.propensity, Side.ALLOW, 0.02, 0.05)
    found = made.checks(Side.ALLOW)
    turned = Checks(found.score[::-1], found.propensity[::-1], found.wrong[::-1])
    first, second = (prove(one, steps, Side.ALLOW, 0.02, 0.05, 0.2) for one in (found, turned))
    assert first.threshold is not None
    assert first == second


def test_what_is_proved_hands_its_level_on_and_what_is_not_loses_it() -> None:
    walk = certificates._walk
    shares = np.array([0.02, 0.0, 0.03, 0.0])
    strong, weak, middling = -log(0.001), 0.0, -log(0.04)
    assert walk([strong, strong, middling, middling], shares) == pytest.approx([0.02, 0.02, 0.05, 0.05])
    # The second is lost, and with it what was carried: the third stands on its own 0.03, which is not enough.
    assert walk([strong, weak, middling, strong], shares) == pytest.approx([0.02, 0, 0, 0])
    assert walk([weak, strong, strong, weak], shares) == pytest.approx([0, 0, 0.03, 0])


def test_the_bound_is_where_the_proof_would_just_succeed_and_never_above_what_was_promised() -> None:
    found = checks(*[(0.1, 0.2, False)] * 400, (0.1, 0.2, True))
    proof = prove(found, one_step(0.5, 0.2), Side.ALLOW, 0.02, 0.05, 0.2)
    assert proof.bound is not None
    assert 1 / 401 < proof.bound < 0.02
    assert prove(found, one_step(0.5, 0.2), Side.ALLOW, proof.bound * 1.002, 0.05, 0.2).threshold
    assert not prove(found, one_step(0.5, 0.2), Side.ALLOW, proof.bound * 0.998, 0.05, 0.2).threshold


def test_where_nothing_is_ever_drawn_all_of_it_is_unseen() -> None:
    """A check with a certain draw may turn up where a sample of the traffic has none."""
    steps = grid(np.linspace(0, 1, 1000), np.zeros(1000), Side.ALLOW, 0.05, 0.05)
    assert (steps.unseen == 1).all()
    found = checks(*[(0.01, 1.0, False)] * 1000)
    assert prove(found, steps, Side.ALLOW, 0.05, 0.05, least=1.0).threshold is None


def test_decisions_that_are_never_drawn_count_as_wrong() -> None:
    scores, dice = np.linspace(0, 0.0999, 20_000), np.random.default_rng(5)
    for never, proved in ((0.0, True), (0.008, True), (0.03, False)):
        propensity = np.where(dice.random(20_000) < never, 0.0, 0.1)
        drawn = dice.random(20_000) < propensity
        found = Checks(scores[drawn], propensity[drawn], np.zeros(int(drawn.sum())))
        steps = grid(scores, propensity, Side.ALLOW, 0.02, 0.05)
        proof = prove(found, steps, Side.ALLOW, 0.02, 0.05, 0.1)
        assert (proof.threshold is not None) is proved
        assert proof.curve[-1].bound >= steps.unseen[-1]


def test_what_could_not_be_seen_is_taken_off_what_is_allowed() -> None:
    found = checks(*[(0.1, 0.2, False)] * 400)
    for unseen, proved in ((0.0, True), (0.011, True), (0.013, False), (0.02, False), (0.5, False)):
        # 400 right checks prove 0.92 %, with half of the money on that.
        proof = prove(found, one_step(0.5, 0.2, unseen=unseen), Side.ALLOW, 0.02, 0.05, 0.2)
        assert (proof.threshold is not None) is proved


def test_an_hour_of_hardly_any_draws_costs_little() -> None:
    made = promised.draw(promised.CALIBRATED, 20_000, Shares(0.2, 0.2, 0.2), np.random.default_rng(8))
    propensity = made.propensity.copy()
    propensity[:20] = 0.0001  # a flood, in which the budget of checks was spent
    steps = grid(made.scores, propensity, Side.ALLOW, 0.02, 0.05)
    assert (steps.floor == 0.2).all()
    assert 0 < steps.unseen.max() < 0.002 * 0.4 / 0.02


def test_without_traffic_or_checks_nothing_is_proved_and_it_says_what_is_missing() -> None:
    nothing, none = np.zeros(0), Checks(np.zeros(0), np.zeros(0), np.zeros(0))
    empty = grid(nothing, nothing, Side.ALLOW, 0.02, 0.05)
    proof = prove(none, empty, Side.ALLOW, 0.02, 0.05, 1.0)
    assert (proof.threshold, proof.curve) == (None, ())
    assert enough(0.02, 0.05) <= proof.needed <= enough(0.02, 0.025) + 1
    few = grid(np.array([0.01, 0.5]), np.array([0.1, 0.1]), Side.ALLOW, 0.02, 0.05)
    assert prove(none, few, Side.ALLOW, 0.02, 0.05, 0.1).needed == enough(0.02, 0.05)


def test_as_many_right_checks_as_are_said_to_be_needed_do() -> None:
    found = [(0.01, 0.1, False)] * 100 + [(0.01, 0.1, True)]
    steps = one_step(0.5, 0.1)
    needed = prove(checks(*found), steps, Side.ALLOW, 0.02, 0.05, 0.1).needed
    assert needed > 0
    enough_ = checks(*found, *[(0.01, 0.1, False)] * needed)
    assert prove(enough_, steps, Side.ALLOW, 0.02, 0.05, 0.1).threshold == 0.5
    too_few = checks(*found, *[(0.01, 0.1, False)] * (needed - 1))
    assert prove(too_few, steps, Side.ALLOW, 0.02, 0.05, 0.1).threshold is None
