"""Certificates against MAPIE, which does Learn-then-Test by other hands."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest

from moderation.domain.certificates import grid, prove
from moderation.domain.promises import Side
from tests import mapie_oracle, promised
from tests.promised import Shares

EVEN = Shares(0.2, 0.2, 0.2)


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("world", promised.WORLDS, ids=lambda world: str(world.name))
def test_mapie_proves_the_same_thresholds(world: promised.World, side: Side) -> None:
    allowed = 0.05 if side is Side.REMOVE else 0.01
    certified = 0
    for seed in range(4):
        made = promised.draw(world, 15_000, EVEN, np.random.default_rng(seed))
        checks, steps = made.checks(side), grid(made.scores, made.propensity, side, allowed, 0.05)
        ours = mapie_oracle.ours(checks, steps, side, allowed, 0.05)
        theirs = mapie_oracle.theirs(checks, steps, side, allowed, 0.05)
        curve = prove(checks, steps, side, allowed, 0.05, 0.2).curve
        # It multiplies the share of mistakes by the checks again and rounds up: at times that is one mistake more.
        exact = [
            ceil(one.checks * (one.mistakes / one.checks)) == one.mistakes if one.checks else False
            for one in curve
        ]
        for mine, other, same in zip(ours.chances, theirs.chances, exact, strict=True):
            assert mine == pytest.approx(other, rel=1e-6, abs=1e-12) if same else mine <= other
        if all(exact):
            assert ours.proved == theirs.proved
        else:
            assert all(mine or not other for mine, other in zip(ours.proved, theirs.proved, strict=True))
        certified += any(ours.proved)
    assert certified, "nothing was proved: the test has compared nothing"
