"""400 draws of worlds in which everything is known: promises are broken no more often than they may be.

The same with larger samples, and weeks and drifts beside it, is `benchmarks/promises.py`.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from moderation.domain.certificates import grid, prove
from moderation.domain.promises import Side
from tests import promised
from tests.promised import Shares, Truth, World

DRAWS = 400
LEVEL = 0.05
# Three standard deviations above the level: once in seven hundred runs a right method would be called wrong.
MOST = LEVEL + 3 * sqrt(LEVEL * (1 - LEVEL) / DRAWS)


@pytest.mark.parametrize(
    ("world", "side", "allowed", "shares"),
    [
        (promised.OVERCONFIDENT, Side.ALLOW, 0.02, Shares(0.2, 0.2, 0.2)),
        (promised.HIDDEN, Side.REMOVE, 0.1, Shares(0.4, 0.5, 0.6)),
    ],
    ids=["scores too sure, equal chances", "blind in two places"],
)
def test_promises_are_broken_as_rarely_as_is_said_and_thresholds_by_the_eye_are_not(
    world: World, side: Side, allowed: float, shares: Shares
) -> None:
    truth = Truth.of(world, side, 100_000)
    certified = broken = by_eye = 0
    for seed in range(DRAWS):
        made = promised.draw(world, 2_500, shares, np.random.default_rng(seed))
        checks = made.checks(side)
        steps = grid(made.scores, made.propensity, side, allowed, LEVEL, steps=14)
        proof = prove(checks, steps, side, allowed, LEVEL, shares.far)
        certified += proof.threshold is not None
        broken += proof.threshold is not None and truth.risk(proof.threshold) > allowed
        naive = promised.empirical(checks, steps, side, allowed)
        by_eye += naive is not None and truth.risk(naive) > allowed
    assert certified >= DRAWS / 4, "hardly anything was certified: that proves nothing"
    assert broken / DRAWS <= MOST
    assert by_eye / DRAWS > 2 * MOST


def test_where_every_threshold_would_break_the_promise_hardly_anything_is_certified() -> None:
    allowed, shares = 0.02, Shares(0.2, 0.3, 0.5)
    hopeless = World("a little too much everywhere", promised.CALIBRATED.scores, lambda s: s * 0 + 0.0201)
    certified = by_eye = 0
    for seed in range(DRAWS):
        made = promised.draw(hopeless, 2_000, shares, np.random.default_rng(seed))
        checks = made.checks(Side.ALLOW)
        steps = grid(made.scores, made.propensity, Side.ALLOW, allowed, LEVEL, steps=8)
        certified += prove(checks, steps, Side.ALLOW, allowed, LEVEL, shares.far).threshold is not None
        by_eye += promised.empirical(checks, steps, Side.ALLOW, allowed) is not None
    assert certified / DRAWS <= MOST
    assert by_eye / DRAWS > 2 * MOST
