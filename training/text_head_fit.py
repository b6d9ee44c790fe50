"""The fit of a text head for one category: logistic regression, held to what its base says (ridge to the prior).

    logit = scores . base log-odds + max over windows of (vector . window) + bias

With the prior, `scores` picks the base's own log-odds of this category and all else is nought, so that a head
without labels says what its base says, and each label moves it a little. Cross-validation says how far labels may
move it. What the held-out folds said is what calibrates: no row is calibrated on a model that has seen it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.text_heads import Seen
from training.common import TrainingError, digest
from training.metrics import Platt, Vector
from training.weighted import Rows

FOLDS = 5
FREE = (0.0, 0.1, 0.3, 1.0, 3.0)
"""How far the vectors may move a log-odds: the variance of the correction before any label is seen."""
MIXED = (0.0, 0.1, 0.3, 1.0)
"""The same for each of the base's log-odds, in units of `ODDS`."""
ODDS = 3.0
BIAS = 25.0
"""The variance of the bias: communities differ by far in how much of what is posted breaks a rule."""
DIRECTIONS = 64
"""Of the vectors' 384, those along which what was judged differs most."""
STEPS = 30
"""Of Newton's method, at most; it takes about six."""
TURNS = 3
"""How often the window that says most is looked for again, where texts have several."""
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Features:
    """What the base has seen of n texts: log-odds (n, outputs), windows (m, dimensions), the first of each text."""

    odds: Matrix
    windows: Matrix
    starts: NDArray[np.intp]

    @classmethod
    def of(cls, seen: Sequence[Seen]) -> Features:
        counts = [len(one.windows) for one in seen]
        starts = np.cumsum([0, *counts[:-1]]).astype(np.intp)
        windows = np.concatenate([one.windows for one in seen]).astype(np.float64)
        return cls(np.array([one.logodds for one in seen]), windows, starts)

    @property
    def ends(self) -> NDArray[np.intp]:
        return np.append(self.starts[1:], len(self.windows))

    def only(self, chosen: NDArray[np.bool_]) -> Features:
        rows = np.flatnonzero(chosen)
        counts = (self.ends - self.starts)[rows]
        kept = np.concatenate([np.arange(self.starts[i], self.ends[i]) for i in rows]) if len(rows) else rows
        return Features(self.odds[rows], self.windows[kept], np.cumsum([0, *counts[:-1]]).astype(np.intp))


@dataclass(frozen=True, slots=True)
class Texts:
    """What is fitted on: features, truth and weight (n,), and the scores (outputs,) of no labels."""

    features: Features
    truth: Vector
    weight: Vector
    prior: Vector

    def only(self, chosen: NDArray[np.bool_]) -> Texts:
        return Texts(self.features.only(chosen), self.truth[chosen], self.weight[chosen], self.prior)


@dataclass(frozen=True, slots=True)
class Freedom:
    """How far labels may move a head from its prior: by the vectors, and by the base's other log-odds."""

    vector: float
    scores: float


@dataclass(frozen=True, slots=True)
class Weights:
    """A head of one category: vector (dimensions,), scores (outputs,) and bias."""

    vector: Vector
    scores: Vector
    bias: float

    def logits(self, features: Features) -> Vector:
        """(n,), before calibration."""
        peaks = np.maximum.reduceat(features.windows @ self.vector, features.starts)
        return np.asarray(features.odds @ self.scores + peaks + self.bias)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A head with its calibration, and what cross-validation took and found."""

    weights: Weights
    freedom: Freedom
    calibration: Platt
    surprise: dict[str, float]  # mean loss of the folds: of the prior alone, and of what was taken


@dataclass(frozen=True, slots=True)
class _Basis:
    """The directions in which windows differ most: what few labels can tell apart, in numbers of about 1."""

    centre: Vector
    directions: Matrix  # (dimensions, kept)

    @classmethod
    def of(cls, windows: Matrix) -> _Basis:
        centre = windows.mean(axis=0)
        moved = windows - centre
        variance, directions = np.linalg.eigh(moved.T @ moved / len(moved))
        kept = directions[:, ::-1][:, :DIRECTIONS]
        return cls(centre, kept / np.sqrt(max(float(variance.sum()), 1e-12)))

    def along(self, features: Features) -> Features:
        """The same texts, their windows as (m, kept)."""
        return replace(features, windows=(features.windows - self.centre) @ self.directions)

    def back(self, weights: Weights) -> Weights:
        """What was fitted along the directions, for windows as they are."""
        vector = self.directions @ weights.vector
        return Weights(vector, weights.scores, weights.bias - float(vector @ self.centre))


def fit(features: Features, rows: Rows, weight: Vector, prior: Vector) -> Fitted:
    """A head from labelled texts. `weight` is what each label counts, `prior` the scores (outputs,) of no labels.

    Of all freedoms it takes the least whose loss on held-out folds is no more than one standard error above the
    best one's (Breiman et al. 1984): few labels change little.

    Raises:
        TrainingError: there is too little of one side.
    """
    counted = int(rows.truth.sum())
    if min(counted, len(rows.truth) - counted) < FOLDS:
        raise TrainingError(
            f"Too few judged texts to fit on: {counted} yes and {len(rows.truth) - counted} no."
        )
    weight, fold, basis = weight / weight.mean(), _folds(rows.group), _Basis.of(features.windows)
    texts = Texts(basis.along(features), rows.truth, weight, prior)
    said = _held_out(texts, fold, [Freedom(vector, scores) for vector in FREE for scores in MIXED])
    losses = {freedom: weight * _loss(rows.truth, logits) for freedom, logits in said.items()}
    best = min(losses.values(), key=lambda loss: float(loss.mean()))
    near = [
        freedom
        for freedom, loss in losses.items()
        if (loss - best).mean() <= (loss - best).std() / np.sqrt(len(best))
    ]
    freedom = min(near, key=lambda one: (one.vector + 10 * one.scores, float(losses[one].mean())))
    found = {"prior": losses[Freedom(0.0, 0.0)], "taken": losses[freedom]}
    return Fitted(
        basis.back(solve(texts, freedom)),
        freedom,
        platt(said[freedom], rows.truth, weight),
        {name: float(loss.mean()) for name, loss in found.items()},
    )


def _folds(group: NDArray[np.intp]) -> NDArray[np.intp]:
    """A fold for every row; near duplicates are in the same one."""
    names, place = np.unique(group, return_inverse=True)
    order = np.argsort([digest(f"fold {name}") for name in names.tolist()])
    fold = np.empty(len(names), dtype=np.intp)
    fold[order] = np.arange(len(names)) % FOLDS
    return fold[place]


def _held_out(texts: Texts, fold: NDArray[np.intp], freedoms: Sequence[Freedom]) -> dict[Freedom, Vector]:
    """The logit of every row under a model that has not seen its fold, by freedom."""
    logits = {freedom: np.empty(len(fold)) for freedom in freedoms}
    for one in np.unique(fold):
        out = fold == one
        seen, asked = texts.only(~out), texts.features.only(out)
        for freedom in freedoms:
            logits[freedom][out] = solve(seen, freedom).logits(asked)
    return logits


def solve(texts: Texts, freedom: Freedom) -> Weights:
    """Weights of the least weighted log loss, each held to the prior by its freedom."""
    features = texts.features
    counts = features.ends - features.starts
    weights = _solve(
        texts, np.add.reduceat(features.windows, features.starts, axis=0) / counts[:, None], freedom
    )
    if freedom.vector > 0 and counts.max() > 1:
        # For given windows it is convex; which one says most is then asked anew (Felzenszwalb et al. 2010).
        for _ in range(TURNS):
            spoken = features.windows @ weights.vector
            pieces = zip(features.starts.tolist(), features.ends.tolist(), strict=True)
            loudest = [start + int(spoken[start:end].argmax()) for start, end in pieces]
            weights = _solve(texts, features.windows[loudest], freedom)
    return weights


def _solve(texts: Texts, said: Matrix, freedom: Freedom) -> Weights:
    """The same for one vector a text."""
    odds, prior = texts.features.odds, texts.prior
    centre, width = odds.mean(axis=0), said.shape[1]
    parts = [np.full((len(odds), 1), np.sqrt(BIAS))]
    if freedom.vector > 0:
        parts.append(said * np.sqrt(freedom.vector))
    if freedom.scores > 0:
        parts.append((odds - centre) / ODDS * np.sqrt(freedom.scores))
    given = _logistic(np.concatenate(parts, axis=1), odds @ prior, texts.truth, texts.weight)
    vector, scores, bias = np.zeros(width), prior, float(given[0] * np.sqrt(BIAS))
    if freedom.vector > 0:
        vector = given[1 : 1 + width] * np.sqrt(freedom.vector)
    if freedom.scores > 0:
        moved = given[-odds.shape[1] :] * np.sqrt(freedom.scores) / ODDS
        scores, bias = prior + moved, bias - float(moved @ centre)
    return Weights(vector, scores, bias)


def _logistic(design: Matrix, offset: Vector, truth: Vector, weight: Vector) -> Vector:
    """The coefficients of a logistic regression under a ridge, beside a fixed part of the logit."""

    def loss(given: Vector) -> float:
        logits = offset + design @ given
        return float(weight @ (np.logaddexp(0, logits) - truth * logits) + given @ given / 2)

    given = np.zeros(design.shape[1])
    value = loss(given)
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-np.clip(offset + design @ given, -60, 60)))
        gradient = design.T @ (weight * (p - truth)) + given
        hessian = (design * (weight * p * (1 - p))[:, None]).T @ design + np.eye(len(given))
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while (fresh := loss(given - size * step)) > value and size > 1e-6:
            size /= 2
        gained, given, value = value - fresh, given - size * step, min(fresh, value)
        if gained < 1e-7 * (1 + abs(value)):
            break
    return given


def platt(logit: Vector, truth: Vector, weight: Vector) -> Platt:
    """Platt's (1999) two numbers by weight, held to "as it is": a scale to 1 by a half, a shift to 0 by 1 (ridge).

    Raises:
        TrainingError: the fit would turn the ranking round.
    """
    design = np.stack([logit / 2, np.ones_like(logit)], axis=1)
    more, shift = _logistic(design, logit, truth, weight)
    if 1 + more / 2 <= 0:
        raise TrainingError("The head ranks the wrong way round; look at the labels.")
    return Platt(float(1 + more / 2), float(shift))


def _loss(truth: Vector, logits: Vector) -> Vector:
    """The log loss of each row."""
    return np.asarray(np.logaddexp(0, logits) - truth * logits)
