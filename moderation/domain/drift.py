"""Drift: whether what comes in since a certificate was issued is still what it was proved for.

E-detectors (Shin, Ramdas and Rinaldo, 2022). A player bets on each item that the traffic has changed, and begins
anew with every batch; the money of all these games together grows without end once there is a change. As long as
there is none, it is at most the number of batches on average. So an alarm at `items` times the number of things
watched comes, on average, after `items` items at the earliest: however often one looks, at whatever sizes of
batches. "No change" means within the tolerance: a share or a mean between reference / (1 + tolerance) and
reference * (1 + tolerance), at each moment.

The watch of the risk is one game over the checks that people make (Waudby-Smith and Ramdas, 2024), with later
starts at ever smaller stakes. If the promise is kept it gives an alarm with probability `chance` at most, ever.

States are small and written as JSON: `State.document()`, `State.of(document)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ITEMS = 10_000_000
"""Without a change, an alarm comes after so many items on average at the earliest."""
CHANCE = 0.001
"""With which probability the checks give a false alarm, ever, of a promise that is kept."""

_STAKES = np.array([0.0025, 0.0075, 0.02, 0.06, 0.15, 0.35, 0.6, 0.9])
"""Of what may be lost in one bet, how much is staked; the best depends on the size of the change."""


@dataclass(frozen=True, slots=True)
class State:
    """The money of each game as a logarithm (none before the first batch), and the batches seen."""

    money: tuple[float, ...]
    batches: int = 0

    def document(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {"money": [round(one, 6) for one in self.money], "batches": self.batches}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> State:
        """From what `document()` gave."""
        return cls(tuple(float(one) for one in document["money"]), int(document["batches"]))


@dataclass(frozen=True, slots=True)
class Reference:
    """What the scores of the certified period were: `edges` between the bins, the share in each, and the mean."""

    edges: tuple[float, ...]
    shares: tuple[float, ...]
    mean: float

    def counts(self, scores: Floats) -> tuple[int, ...]:
        """How many of these scores lie in each bin; a score on an edge lies above it."""
        bins = np.searchsorted(np.array(self.edges), scores, side="right")
        return tuple(np.bincount(bins, minlength=len(self.shares)).tolist())

    def document(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {"edges": list(self.edges), "shares": list(self.shares), "mean": self.mean}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Reference:
        """From what `document()` gave."""
        return cls(tuple(document["edges"]), tuple(document["shares"]), float(document["mean"]))


def reference(scores: Floats, bins: int = 10) -> Reference:
    """Bins of about as many scores each; fewer where one score is that frequent. Scores have four digits.

    Raises:
        ValueError: if there is no score.
    """
    if not len(scores):
        raise ValueError("A reference needs scores.")
    ends = np.quantile(scores, np.linspace(0, 1, bins + 1)[1:-1], method="higher")
    edges = np.unique(np.round(ends - 0.00005, 5))
    edges = edges[(edges > scores.min()) & (edges <= scores.max())]
    counted = Reference(tuple(edges.tolist()), (0.0,) * (len(edges) + 1), 0.0).counts(scores)
    shares = tuple(count / len(scores) for count in counted)
    return Reference(tuple(edges.tolist()), shares, float(scores.mean()))


@dataclass(frozen=True, slots=True)
class ShareWatch:
    """Whether the share of any bin has left its reference, upwards or downwards, by more than the tolerance."""

    shares: tuple[float, ...]
    tolerance: float
    items: float = ITEMS

    def begin(self) -> State:
        """Before the first batch."""
        return State(())

    def update(self, state: State, counts: Sequence[int]) -> State:
        """After a batch with so many items in each bin."""
        if not sum(counts):
            return state
        shares, hits = np.array(self.shares), np.array(counts, dtype=np.float64)
        rises = _rising(shares * (1 + self.tolerance), hits, hits.sum() - hits)
        falls = _rising(1 - shares / (1 + self.tolerance), hits.sum() - hits, hits)
        return _restarted(state, np.concatenate([rises, falls]).ravel())

    def alarm(self, state: State) -> bool:
        """Whether there is a change beyond the tolerance."""
        return self.height(state) >= 1

    def height(self, state: State) -> float:
        """How near the alarm is: 0 nothing, 1 alarm (logarithms)."""
        return _height(state, log(self.items * 2 * len(self.shares)))


@dataclass(frozen=True, slots=True)
class MeanWatch:
    """Whether the mean of what lies between 0 and 1 has risen (or has fallen) by more than the tolerance."""

    mean: float
    tolerance: float
    falling: bool = False
    items: float = ITEMS

    def begin(self) -> State:
        """Before the first batch."""
        return State(())

    def update(self, state: State, values: Floats) -> State:
        """After a batch of values."""
        if not len(values):
            return state
        if self.falling:
            limit, found = 1 - self.mean / (1 + self.tolerance), 1 - values
        else:
            limit, found = self.mean * (1 + self.tolerance), values
        if not 0 < limit < 1:
            return state  # nothing can lie beyond
        factors = np.log1p(np.outer(_STAKES, (found - limit) / limit)).sum(axis=1)
        return _restarted(state, factors)

    def alarm(self, state: State) -> bool:
        """Whether there is a change beyond the tolerance."""
        return self.height(state) >= 1

    def height(self, state: State) -> float:
        """How near the alarm is: 0 nothing, 1 alarm (logarithms)."""
        return _height(state, log(self.items))


@dataclass(frozen=True, slots=True)
class RiskWatch:
    """Whether checks made since say that more than `allowed` of the decisions are wrong.

    `least` is the least positive propensity that is betted on; checks that were less likely are left out.
    """

    allowed: float
    least: float
    chance: float = CHANCE

    def begin(self) -> State:
        """Before the first batch."""
        return State(())

    def update(self, state: State, wrong: Floats, propensity: Floats) -> State:
        """After a batch of checks: mistaken (1 or 0), and with which probability each was drawn."""
        seen = propensity >= self.least * (1 - 1e-9)
        if not seen.any():
            return state
        z = (wrong[seen] - self.allowed) / self.allowed * np.minimum(self.least / propensity[seen], 1.0)
        factors = np.log1p(np.outer(_STAKES, z)).sum(axis=1)
        turn = state.batches + 1
        return _restarted(state, factors, -log(turn * (turn + 1)))

    def alarm(self, state: State) -> bool:
        """Whether the promise is disproved."""
        return self.height(state) >= 1

    def height(self, state: State) -> float:
        """How near the alarm is: 0 nothing, 1 alarm (logarithms)."""
        return _height(state, -log(self.chance))


def _rising(limits: Floats, hits: Floats, others: Floats) -> Floats:
    """Logarithms of what a batch does to the money that is on shares above their limits, (bins, stakes)."""
    possible = (limits > 0) & (limits < 1)
    limit = np.where(possible, limits, 0.5)[:, None]
    won = np.log1p(_STAKES * (1 - limit) / limit) * hits[:, None]
    return np.where(possible[:, None], won + np.log1p(-_STAKES) * others[:, None], -np.inf)


def _restarted(state: State, factors: Floats, start: float = 0.0) -> State:
    """The money after a batch, with another game begun before it (the e-detector of Shiryaev and Roberts)."""
    before = np.array(state.money) if state.money else np.full(len(factors), -np.inf)
    after = np.logaddexp(before, start) + factors
    # A game that can't be won is kept as a very small number, for JSON knows no infinity.
    return State(tuple(np.maximum(after, -1e6).tolist()), state.batches + 1)


def _height(state: State, goal: float) -> float:
    """The money, averaged over the stakes, on the way from 1 to the goal (a logarithm)."""
    if not state.money:
        return 0.0
    by_game = np.array(state.money).reshape(-1, len(_STAKES))
    best = float((np.logaddexp.reduce(by_game, axis=1) - log(len(_STAKES))).max())
    return max(0.0, best / goal)
