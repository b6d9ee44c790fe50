"""Simulated traffic of which everything is known, for tests and `benchmarks/promises.py`.

A world says how scores come about and with which probability an item of a score breaks the rule. A draw is what the
service would see: every decision with its score and the probability of its check, and of those drawn the finding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.domain.certificates import Checks, Grid
from moderation.domain.promises import Side

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class World:
    """`scores(dice, n)` as a model gives them, `chance(scores)` of breaking the rule."""

    name: str
    scores: Callable[[np.random.Generator, int], Floats]
    chance: Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True)
class Shares:
    """Which share is drawn: of the bulk, near a threshold, and of what people decide anyway."""

    far: float
    near: float
    uncertain: float

    def of(self, scores: Floats) -> Floats:
        """The probability of being drawn, with bands of 0.1 and 0.9."""
        bulk = (scores < 0.05) | (scores >= 0.95)
        near = ~bulk & ((scores < 0.1) | (scores >= 0.9))
        return np.where(bulk, self.far, np.where(near, self.near, self.uncertain))


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """The decisions of a period. `breaks`: what is so; `drawn`: who looked."""

    scores: Floats
    propensity: Floats
    breaks: NDArray[np.bool_]
    drawn: NDArray[np.bool_]

    def wrong(self, side: Side) -> NDArray[np.bool_]:
        """Whether it would be a mistake to remove it, or to let it pass."""
        return self.breaks if side is Side.ALLOW else ~self.breaks

    def checks(self, side: Side, found: NDArray[np.bool_] | None = None) -> Checks:
        """What people found; `found` if they did not find what is so."""
        wrong = self.wrong(side) if found is None else found
        return Checks(self.scores[self.drawn], self.propensity[self.drawn], wrong[self.drawn].astype(float))


def draw(world: World, decisions: int, shares: Shares, dice: np.random.Generator) -> Draw:
    """Let so many decisions be made, and checks be drawn."""
    scores = np.round(world.scores(dice, decisions), 4)
    propensity = shares.of(scores)
    breaks = dice.random(decisions) < world.chance(scores)
    return Draw(scores, propensity, breaks, dice.random(decisions) < propensity)


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What is so of a world: of each threshold the share of mistakes and how much lies in its region."""

    side: Side
    ordered: Floats
    risks: Floats

    @classmethod
    def of(cls, world: World, side: Side, items: int = 2_000_000) -> Truth:
        """From so many items that nobody has to judge: their chances are known."""
        scores = np.round(world.scores(np.random.default_rng(0), items), 4)
        chance = world.chance(scores)
        order = np.argsort(scores if side is Side.ALLOW else -scores, kind="stable")
        wrong = chance[order] if side is Side.ALLOW else 1 - chance[order]
        return cls(side, scores[order], np.cumsum(wrong) / np.arange(1, items + 1))

    def risk(self, threshold: float) -> float:
        """The true share of mistakes from (below) a threshold on."""
        inside = self._inside(threshold)
        return float(self.risks[inside - 1]) if inside else 0.0

    def coverage(self, threshold: float) -> float:
        """The share of all decisions there."""
        return self._inside(threshold) / len(self.ordered)

    def best(self, allowed: float) -> float:
        """The greatest share that could be automated if everything were known."""
        within = np.flatnonzero(self.risks <= allowed)
        return float(within[-1] + 1) / len(self.risks) if len(within) else 0.0

    def _inside(self, threshold: float) -> int:
        if self.side is Side.ALLOW:
            return int(np.searchsorted(self.ordered, threshold, side="left"))
        return int(np.searchsorted(-self.ordered, -threshold, side="right"))


def empirical(checks: Checks, grid: Grid, side: Side, allowed: float) -> float | None:
    """The method everybody would think of: the loosest threshold at which the checks show few enough mistakes."""
    found = None
    weight = 1 / checks.propensity
    for threshold in grid.thresholds:
        inside = checks.score >= threshold if side is Side.REMOVE else checks.score < threshold
        if inside.any() and (checks.wrong * weight)[inside].sum() <= allowed * weight[inside].sum():
            found = float(threshold)
    return found


def _typical(dice: np.random.Generator, items: int) -> Floats:
    """Most of it harmless and known to be, a twentieth plainly not, some in between."""
    kind = dice.random(items)
    plain, between = dice.beta(6, 0.15, items), dice.beta(2, 2, items)
    return np.where(kind < 0.06, plain, np.where(kind < 0.12, between, dice.beta(0.25, 12, items)))


def _logit(scores: Floats) -> Floats:
    inside = np.clip(scores, 1e-5, 1 - 1e-5)
    return np.log(inside / (1 - inside))


def shifted(by: float, steeper: float = 1.0) -> Callable[[Floats], Floats]:
    """What breaks the rule more often (or, below 0, less) than the score says, by so much on the logit scale."""
    return lambda scores: 1 / (1 + np.exp(-(steeper * _logit(scores) + by)))


def _hidden(scores: Floats) -> Floats:
    """As the score says, but for two places where the model is blind: just where thresholds would lie."""
    missed = (scores >= 0.012) & (scores < 0.02)
    harmless = (scores >= 0.93) & (scores < 0.955)
    return np.where(missed, 0.12, np.where(harmless, 0.6, scores))


CALIBRATED = World("the scores are right", _typical, lambda scores: scores)
OVERCONFIDENT = World("the scores are too sure", _typical, shifted(0.0, 0.75))
HIDDEN = World("the model is blind in two places", _typical, _hidden)
WORLDS = (CALIBRATED, OVERCONFIDENT, HIDDEN)
