"""Certificates: up to which threshold a promise of few mistakes is kept, proved from blind checks.

Learn-then-Test (Angelopoulos, Bates, Candès, Jordan and Lei, 2021). A grid of thresholds is fixed from scores
alone, and tested from the strictest on; what can't be proved ends the walk. The walk has several starts, which
share the level, and what gets as far as the next start takes its part along (the fallback procedure; Wiens, 2003).

Each test is a game of betting (Waudby-Smith and Ramdas, 2024). A decision was drawn with probability q; of each
that was drawn the player stakes that it was right, on z = (wrong - allowed) / q. Were the share of mistakes among
*all* decisions of the region `allowed` or more, the money would be 1 at most on average, whatever the stakes: for
what was not drawn nothing changes hands, and the mean of z over drawing and not drawing is wrong - allowed. So the
money comes to 1 / level with a chance of `level` at most (Markov). That needs the draws to be independent, and
nothing of scores, mistakes or their order: it holds of the very decisions that were made. Where all were drawn
with one probability the exact binomial test is a little stronger, and takes the game's place.

What was drawn with nearly no probability can't be betted on. It is left out and counts as wrong, all of it, where
that costs less than it gains.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, log, log1p

import numpy as np
from numpy.typing import NDArray

from moderation.domain.promises import Side

Floats = NDArray[np.float64]

STEP = 0.0001
"""Scores are kept to four digits, so that a threshold lies between two of them: on half a step."""

_STAKES = np.array([0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95, 1.0 - 1e-9])
"""Of what a mistake may cost, how much is staked. The best is 1 - risk / allowed, which nobody knows beforehand."""
_MONEY = np.log(np.array([0.05] * 10 + [0.5]))
"""The money spread over the stakes, as logarithms: half is on all there is, for where nothing is ever wrong."""

_STARTS = (1.25, 2.5, 5.0, 10.0)
"""Where walks start: where this many times as many checks are expected as would do, were all of them right."""
_DOUBTS = (2.5, 1.6, 1.0)
"""By how much more often than their scores say decisions are taken to be wrong when a start is chosen."""
_FINE = 400  # thresholds looked at before the steps are chosen
_KINDS = 64  # different propensities told apart when a grid is planned
_FORGONE = (0.0, 0.05, 0.1, 0.2, 0.4)  # of what is allowed, what may go to decisions hardly ever drawn


@dataclass(frozen=True, slots=True, eq=False)
class Checks:
    """What people found of the decisions that were drawn, as three arrays of one length.

    The score, the probability with which it was drawn, and whether it was wrong (1) or right (0).
    """

    score: Floats
    propensity: Floats
    wrong: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Thresholds, the strictest first, and of each what is known without any label. Arrays of one length.

    `coverage` is the share of the decisions that lies in its region. `share` is which part of the level it starts
    with; `floor` the least propensity that is betted on, `unseen` the share of the region that lies below that;
    `worth` what an average check counts, one of the floor's counting 1; `even`: all have one propensity.
    """

    thresholds: Floats
    coverage: Floats
    share: Floats
    floor: Floats
    unseen: Floats
    worth: Floats
    even: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Point:
    """A threshold and what was found in its region. `risk` is the weighted share of mistakes, None without checks.

    `bound`: the share of mistakes is at most this, at the level of the promise; of this point by itself.
    """

    threshold: float
    coverage: float
    checks: int
    mistakes: int
    risk: float | None
    bound: float
    proved: bool


@dataclass(frozen=True, slots=True)
class Proof:
    """The loosest threshold that was proved, or None; `checks` and `mistakes` are of its region.

    Without one they are of the region that comes nearest, and `needed` says how many checks more it takes if
    all of them turn out right.
    """

    threshold: float | None
    bound: float | None
    checks: int
    mistakes: int
    curve: tuple[Point, ...]
    needed: int


@dataclass(frozen=True, slots=True, eq=False)
class _Region:
    """The checks of one region by kind: how many right and wrong, each kind's propensity as floor / q."""

    right: Floats
    wrong: Floats
    ratio: Floats
    even: bool

    @property
    def checks(self) -> int:
        return int(self.right.sum() + self.wrong.sum())

    @property
    def mistakes(self) -> int:
        return int(self.wrong.sum())

    def risk(self) -> float | None:
        weight = float(((self.right + self.wrong) * self.ratio).sum())
        return float((self.wrong * self.ratio).sum()) / weight if weight else None

    def evidence(self, allowed: float, more: float = 0.0, worth: float = 1.0) -> float:
        """Logarithm of what speaks against a share of mistakes of `allowed` or more; 1 / level proves it.

        `more`: with so many right checks on top, each of the `worth` of an average one.
        """
        if not 0 < allowed < 1:
            return inf if allowed >= 1 else -inf
        if self.even:
            return -_binomial_tail(self.checks + round(more), self.mistakes, allowed)
        gain = _STAKES * allowed / (1 - allowed)
        money = np.log1p(np.outer(gain, self.ratio)) @ self.right
        money += np.log1p(-np.outer(_STAKES, self.ratio)) @ self.wrong
        money += more * np.log1p(gain * worth) + _MONEY
        return float(np.logaddexp.reduce(money))

    def bound(self, level: float) -> float:
        """The least share of mistakes still disproved at `level`, a thousandth of itself too high at most."""
        low, high, goal = max(self.risk() or 0.0, 1e-6), 1.0, -log(level)
        while high / low > 1.001:
            middle = (low * high) ** 0.5
            low, high = (low, middle) if self.evidence(middle) >= goal else (middle, high)
        return high


def grid(
    scores: Floats,
    propensities: Floats,
    side: Side,
    allowed: float,
    level: float,
    steps: int = 40,
    each: float = 1.0,
) -> Grid:
    """Which thresholds to test, chosen from the scores and propensities of *every* decision of the period.

    Whether a decision was drawn, and what was found, must play no part in it. The steps run from the first region
    in which a proof can be expected at all to the loosest, half of them even in coverage and half in threshold. Of
    very many decisions an even sample will do; each of it then stands for `each`.
    """
    if not len(scores):
        none = np.zeros(0)
        return Grid(none, none, none, none, none, none, np.zeros(0, np.bool_))
    fine = _candidates(scores, side)
    kinds, kind = _kinds(propensities)
    counts = _nested(scores, kind, len(kinds), fine, side)
    whole, drawn = _plan(fine, counts, kinds, allowed, len(scores))
    starts = _starts(whole, each * drawn, _predicted(scores, fine, side), allowed, level)
    kept = np.linspace(min(starts, default=0), len(fine) - 1, steps).round().astype(int)
    kept = np.unique(np.concatenate([kept, list(starts)]).astype(int))
    whole.share[list(starts)] = list(starts.values())
    return Grid(*(getattr(whole, name)[kept] for name in Grid.__slots__))


def prove(checks: Checks, grid: Grid, side: Side, allowed: float, level: float, least: float) -> Proof:
    """Walk the grid and say up to where at most `allowed` of the decisions are wrong, but for a chance of `level`.

    `least` is the least positive propensity there may be. Regions: REMOVE p >= threshold, ALLOW p < threshold. The
    probabilities of draws may hang on earlier draws, as with a budget, but on nothing that people found.
    """
    kinds, kind = np.unique(checks.propensity, return_inverse=True)
    bad = checks.wrong > 0.5
    right = _nested(checks.score[~bad], kind[~bad], len(kinds), grid.thresholds, side)
    wrong = _nested(checks.score[bad], kind[bad], len(kinds), grid.thresholds, side)
    regions, budgets = [], _seen(allowed, grid.unseen).tolist()
    for index, floor in enumerate(np.maximum(grid.floor, least)):
        seen = kinds >= floor * (1 - 1e-9)
        good, bad_ones = right[index][seen], wrong[index][seen]
        even = bool(grid.even[index]) and int(np.count_nonzero(good + bad_ones)) <= 1
        regions.append(_Region(good, bad_ones, floor / kinds[seen], even))
    evidence = [region.evidence(budget) for region, budget in zip(regions, budgets, strict=True)]
    spent = _walk(evidence, grid.share * level)
    curve = tuple(
        _point(grid, index, region, spent[index] or level, spent[index] > 0)
        for index, region in enumerate(regions)
    )
    proved = [point for point in curve if point.proved]
    if proved:
        last = proved[-1]
        return Proof(last.threshold, min(last.bound, allowed), last.checks, last.mistakes, curve, 0)
    needed, nearest = _needed(grid, regions, budgets, level, allowed)
    if nearest is None:
        return Proof(None, None, 0, 0, curve, needed)
    return Proof(None, None, nearest.checks, nearest.mistakes, curve, needed)


def enough(allowed: float, level: float) -> int:
    """How many checks prove it if every single one is right, all drawn with one probability."""
    return ceil(log(level) / log1p(-allowed) - 1e-9)


def _walk(evidence: list[float], shares: Floats) -> list[float]:
    """Of each step the level it was proved at, 0 where it wasn't: what is proved hands its level on."""
    spent, carried = [], 0.0
    for found, share in zip(evidence, shares, strict=True):
        level = carried + float(share)
        carried = level if level > 0 and found >= -log(level) else 0.0
        spent.append(carried)
    return spent


def _point(grid: Grid, index: int, region: _Region, level: float, proved: bool) -> Point:
    unseen = float(grid.unseen[index])
    bound = min(1.0, unseen + (1 - unseen) * region.bound(level)) if region.checks else 1.0
    return Point(
        threshold=float(grid.thresholds[index]),
        coverage=float(grid.coverage[index]),
        checks=region.checks,
        mistakes=region.mistakes,
        risk=region.risk(),
        bound=bound,
        proved=proved,
    )


def _needed(
    grid: Grid, regions: list[_Region], budgets: list[float], level: float, allowed: float
) -> tuple[int, _Region | None]:
    """The fewest right checks more with which some start would be proved, and of which region."""
    fresh = ceil((log(2) - log(level)) / -log1p(-allowed))
    best: tuple[int, _Region | None] = (100 * fresh, None)
    # With too little traffic for any start, every region may become one.
    waiting = len(grid.share) > 0 and grid.share.max() == 1.0
    for index in range(len(regions)) if waiting else np.flatnonzero(grid.share > 0):
        region, budget, worth = regions[index], budgets[index], float(grid.worth[index])
        goal = -log(level * (float(grid.share[index]) or 1.0))
        low, high = 0, best[0]
        if budget <= 0 or region.evidence(budget, high, worth) < goal:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if region.evidence(budget, middle, worth) >= goal else (middle, high)
        best = (high, region)
    return best if best[1] else (fresh, None)


def _seen(allowed: float, unseen: Floats) -> Floats:
    """What is allowed of those that can be drawn, if all others were wrong; 0 or less if nothing is."""
    return np.divide(allowed - unseen, 1 - unseen, out=np.zeros_like(unseen), where=unseen < 1)


def _starts(whole: Grid, drawn: Floats, predicted: Floats, allowed: float, level: float) -> dict[int, float]:
    """Where to begin, and with which part of the level: half where the scores, if they are right, promise most.

    The rest is shared by regions in which so many times as many checks are expected as would do without a mistake.
    """
    budget = np.clip(_seen(allowed, whole.unseen), 1e-9, None)[:, None]
    gain = np.log1p(_STAKES * (budget / (1 - budget)) * whole.worth[:, None])
    loss = np.log1p(-_STAKES * whole.worth[:, None])
    # Half of the level makes one factor of two, and half of the money, lost on the other stakes, makes one more.
    need = log(4 / level)
    best = 0
    for doubt in _DOUBTS:
        feared = np.minimum(doubt * predicted, 1.0)[:, None]
        hoped = drawn * ((1 - feared) * gain + feared * loss).max(axis=1)
        best = int(np.argmax(hoped))
        if hoped[best] >= need:
            break
    need += log(len(_STARTS))
    faultless = np.where(predicted < allowed, drawn * gain[:, -1], 0.0)
    found = {
        int(np.argmax(faultless >= times * need)) for times in _STARTS if faultless.max() >= times * need
    }
    starts = dict.fromkeys(sorted(found), 0.5 / max(len(found), 1))
    starts[best] = starts.get(best, 0.0) + (0.5 if found else 1.0)
    return starts


def _predicted(scores: Floats, thresholds: Floats, side: Side) -> Floats:
    """The share of mistakes of each region if the scores were what they claim to be."""
    ordered = np.sort(scores if side is Side.ALLOW else 1 - scores)
    ends = np.searchsorted(ordered, thresholds if side is Side.ALLOW else 1 - thresholds)
    return np.concatenate([[1.0], np.cumsum(ordered) / np.arange(1, len(ordered) + 1)])[ends]


def _candidates(scores: Floats, side: Side) -> Floats:
    """Half steps between the scores there are, strictest first: even in coverage, and even in threshold."""
    ordered = np.sort(scores)
    ends = np.quantile(ordered, np.linspace(0, 1, _FINE // 2))
    even = np.linspace(ordered[0], ordered[-1], _FINE // 2)
    found = np.floor(np.concatenate([ends, even]) / STEP + 1e-6) * STEP + STEP / 2
    found = np.unique(np.round(np.clip(found, STEP / 2, 1 - STEP / 2), 5))
    return found if side is Side.ALLOW else found[::-1]


def _kinds(propensities: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """The different propensities and which each decision has; of very many only the lower ends of classes."""
    kinds = np.unique(propensities)
    if len(kinds) > _KINDS:
        kinds = np.unique(kinds[np.linspace(0, len(kinds) - 1, _KINDS).astype(int)])
    return kinds, np.searchsorted(kinds, propensities, side="right") - 1


def _nested(scores: Floats, kind: NDArray[np.intp], kinds: int, thresholds: Floats, side: Side) -> Floats:
    """How many of each kind lie in the region of each threshold, (thresholds, kinds); strictest first."""
    if side is Side.ALLOW:
        step = np.searchsorted(thresholds, scores, side="right")  # the first threshold above the score
    else:
        step = np.searchsorted(-thresholds, -scores, side="left")  # the first at or below it
    table = np.bincount(step * kinds + kind, minlength=(len(thresholds) + 1) * kinds)
    return np.cumsum(table.reshape(len(thresholds) + 1, kinds)[:-1], axis=0).astype(np.float64)


def _plan(
    thresholds: Floats, counts: Floats, kinds: Floats, allowed: float, decisions: int
) -> tuple[Grid, Floats]:
    """Everything of a grid but its starts, and how many checks are expected in each region."""
    best = _with_floor(counts, kinds, allowed, 0.0)
    for forgone in _FORGONE:
        other = _with_floor(counts, kinds, allowed, forgone)
        best = np.where(other[0] > best[0], other, best)
    _, floor, unseen, worth, drawn, single = best
    coverage = counts.sum(axis=1) / decisions
    even = (single > 0) & (len(kinds) < _KINDS)
    return Grid(thresholds, coverage, np.zeros(len(thresholds)), floor, unseen, worth, even), drawn


def _with_floor(counts: Floats, kinds: Floats, allowed: float, forgone: float) -> Floats:
    """Per region, if at most `forgone` of what is allowed goes to what lies below a floor.

    Rows: evidence if nothing is wrong, floor, unseen share, worth of a check, checks expected, single propensity.
    """
    total, rank = np.maximum(counts.sum(axis=1), 1), np.arange(len(kinds))
    below = np.cumsum(counts, axis=1) - counts  # decisions of a smaller propensity
    column = np.argmax(np.where(below <= forgone * allowed * total[:, None], rank, -1), axis=1)
    if kinds[0] <= 0 and len(kinds) > 1:
        column = np.maximum(column, 1)  # what is never drawn is never seen
    floor = kinds[column]
    unseen = np.where(floor > 0, below[np.arange(len(counts)), column] / total, 1.0)
    seen = np.where(rank >= column[:, None], counts, 0) * (floor > 0)[:, None]
    drawn = seen * kinds
    ratio = np.divide(floor[:, None], kinds, out=np.zeros_like(seen), where=kinds > 0)
    budget = np.maximum(_seen(allowed, unseen), 0.0)
    evidence = (drawn * np.log1p(ratio * (budget / (1 - budget))[:, None])).sum(axis=1)
    checks = drawn.sum(axis=1)
    worth = np.divide((drawn * ratio).sum(axis=1), checks, out=np.ones_like(checks), where=checks > 0)
    floor = np.where(floor > 0, floor, 1.0)
    return np.array([evidence, floor, unseen, worth, checks, (seen > 0).sum(axis=1) == 1])


def _binomial_tail(checks: int, mistakes: int, share: float) -> float:
    """Logarithm of the chance of at most so many mistakes among so many checks."""
    k = np.arange(1, min(mistakes, checks) + 1)
    steps = np.log((checks - k + 1) / k) + log(share) - log1p(-share)
    terms = checks * log1p(-share) + np.concatenate([[0.0], np.cumsum(steps)])
    return min(0.0, float(np.logaddexp.reduce(terms)))
