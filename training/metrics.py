"""What is measured, in plain numpy: ranking (AUC, AP), calibration (ECE, Brier), intervals, Platt scaling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Metric = Callable[[Vector, Vector], float]


def auc(truth: Vector, score: Vector) -> float:
    """Area under the ROC curve: how often a positive outranks a negative, ties counting half; NaN if one-sided."""
    positives = float(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((rank[truth == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(truth: Vector, score: Vector) -> float:
    """Mean precision over the recall steps, no interpolation; equal scores are one step. NaN without positives."""
    if not truth.sum():
        return float("nan")
    order = np.argsort(-score, kind="stable")
    ranked, hits = score[order], np.cumsum(truth[order])
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    precision = hits[ends] / (ends + 1)
    return float(np.sum(np.diff(hits[ends], prepend=0.0) * precision) / truth.sum())


def brier(truth: Vector, probability: Vector) -> float:
    """Mean squared error of the probability (Brier 1950)."""
    return float(np.mean((probability - truth) ** 2))


def reliability(truth: Vector, probability: Vector, bins: int = 15) -> list[tuple[float, float, int]]:
    """Mean probability, share of positives and count in `bins` groups of equal size, by rising probability."""
    order = np.argsort(probability, kind="stable")
    groups = [group for group in np.array_split(order, bins) if len(group)]
    return [(float(probability[g].mean()), float(truth[g].mean()), len(g)) for g in groups]


def ece(truth: Vector, probability: Vector, bins: int = 15) -> float:
    """Expected calibration error over equal-mass bins (Naeini et al. 2015, binned as in Nixon et al. 2019)."""
    groups = reliability(truth, probability, bins)
    return sum(abs(mean - share) * count for mean, share, count in groups) / len(truth)


def interval(metric: Metric, truth: Vector, score: Vector, resamples: int, seed: int) -> tuple[float, float]:
    """95 % percentile bootstrap (Efron 1979) over texts; resamples without both classes are left out."""
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        drawn = generator.integers(0, len(truth), len(truth))
        values.append(metric(truth[drawn], score[drawn]))
    kept = np.array([value for value in values if np.isfinite(value)])
    if not len(kept):
        return float("nan"), float("nan")
    low, high = np.quantile(kept, (0.025, 0.975))
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Platt:
    """probability = sigmoid(scale * logit + shift)."""

    scale: float
    shift: float

    def __call__(self, logit: Vector) -> Vector:
        z = np.clip(self.scale * logit + self.shift, -60, 60)
        return np.asarray(1 / (1 + np.exp(-z)), dtype=np.float64)


def platt(logit: Vector, truth: Vector, steps: int = 50) -> Platt:
    """Platt's (1999) two numbers, by Newton's method on his smoothed targets (Lin, Lin and Weng 2007).

    Raises:
        ValueError: only one class is present, or the fit would turn the ranking round.
    """
    positives, negatives = float(truth.sum()), float(len(truth) - truth.sum())
    if not positives or not negatives:
        raise ValueError("calibration needs both classes")
    target = np.where(truth == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    design = np.stack([logit, np.ones_like(logit)], axis=1)
    weights = np.array([1.0, 0.0])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(design @ weights, -60, 60)))
        gradient = design.T @ (p - target)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        # Far from the optimum a full step can overshoot; the problem is convex, so a bounded one can't.
        weights -= step * min(1.0, 2.0 / float(np.abs(step).max() + 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    if weights[0] <= 0:
        raise ValueError("the logit ranks the wrong way round; look at the labels")
    return Platt(float(weights[0]), float(weights[1]))


@dataclass(frozen=True, slots=True)
class Difference:
    """How much more one score is worth than another on the same rows, with its 95 % interval."""

    value: float
    low: float
    high: float


def paired(
    metric: Metric, truth: Vector, candidate: Vector, champion: Vector, resamples: int, seed: int
) -> Difference:
    """Candidate minus champion; each resample of the paired bootstrap draws the same rows for both."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        drawn = generator.integers(0, len(truth), len(truth))
        y = truth[drawn]
        found.append(metric(y, candidate[drawn]) - metric(y, champion[drawn]))
    kept = np.array([value for value in found if np.isfinite(value)])
    low, high = np.quantile(kept, (0.025, 0.975)) if len(kept) else (np.nan, np.nan)
    return Difference(metric(truth, candidate) - metric(truth, champion), float(low), float(high))


@dataclass(frozen=True, slots=True)
class GroupAucs:
    """The three AUCs of one group (Borkan et al. 2019), NaN where a side is empty.

    `subgroup`: within the group. `bpsn`, background positive and subgroup negative: low where harmless texts that
    name the group score above harmful ones that do not. `bnsp` the other way round: low where harmful texts about
    the group score below harmless others.
    """

    subgroup: float
    bpsn: float
    bnsp: float


def group_aucs(truth: Vector, score: Vector, member: NDArray[np.bool_]) -> GroupAucs:
    """The three AUCs of the texts for which `member` is true against all others."""
    yes = truth == 1
    parts = (member, (member & ~yes) | (~member & yes), (member & yes) | (~member & ~yes))
    return GroupAucs(*(auc(truth[part], score[part]) for part in parts))


def power_mean(values: Vector, power: float = -5.0) -> float:
    """Borkan's generalized mean over groups: at -5 the worst of them weigh most. NaN left out."""
    kept = values[np.isfinite(values)]
    if not len(kept):
        return float("nan")
    return float(np.mean(np.maximum(kept, 1e-9) ** power) ** (1 / power))


def wilson(right: int, cases: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    z, p = 1.959964, right / cases
    middle, spread = p + z * z / (2 * cases), z * np.sqrt(p * (1 - p) / cases + z * z / (4 * cases * cases))
    scale = 1 + z * z / cases
    return float((middle - spread) / scale), float((middle + spread) / scale)


def best_threshold(truth: Vector, probability: Vector) -> float:
    """The probability from which to say yes so that F1 is highest; 0.5 without positives."""
    if not truth.sum():
        return 0.5
    order = np.argsort(-probability, kind="stable")
    ranked, hits = probability[order], np.cumsum(truth[order])
    # Equal scores are one step: only behind the last of them can a threshold stand.
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    f1 = 2 * hits[ends] / (ends + 1 + truth.sum())
    return float(ranked[ends[np.argmax(f1)]])
