"""Measures over rows that stand for different numbers of items, with intervals over groups of near duplicates.

A row drawn with probability p stands for 1/p items (Horvitz and Thompson 1952). A resample of the bootstrap
draws whole groups, since near duplicates are one observation and not several; it is nothing but other weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.metrics import Vector

Measure = Callable[[Vector, Vector, Vector], float]
"""Of truth, score and weight, all (n,)."""
BINS = 10
POINTS = 40


@dataclass(frozen=True, slots=True)
class Rows:
    """What is measured on: truth as 0 or 1, how many items each row stands for, and its group; all (n,)."""

    truth: Vector
    weight: Vector
    group: NDArray[np.intp]

    @property
    def effective(self) -> float:
        """How many rows of one weight would say as much (Kish 1965)."""
        return float(self.weight.sum() ** 2 / (self.weight**2).sum()) if len(self.weight) else 0.0

    def only(self, chosen: NDArray[np.bool_]) -> Rows:
        return Rows(self.truth[chosen], self.weight[chosen], self.group[chosen])


def auc(truth: Vector, score: Vector, weight: Vector) -> float:
    """How often a positive outranks a negative, by weight, ties counting half; NaN if one-sided."""
    yes, no = weight * truth, weight * (1 - truth)
    if not yes.sum() or not no.sum():
        return float("nan")
    _, place = np.unique(score, return_inverse=True)
    above, level = np.bincount(place, yes), np.bincount(place, no)
    below = np.cumsum(level) - level
    return float(above @ (below + level / 2) / (yes.sum() * no.sum()))


def average_precision(truth: Vector, score: Vector, weight: Vector) -> float:
    """Mean precision over the recall steps, by weight; equal scores are one step. NaN without positives."""
    _, precision, recall = _steps(truth, score, weight)
    if not len(recall):
        return float("nan")
    return float(np.diff(recall, prepend=0.0) @ precision)


def brier(truth: Vector, probability: Vector, weight: Vector) -> float:
    """Weighted mean of the squared error of the probability (Brier 1950)."""
    return float(np.average((probability - truth) ** 2, weights=weight)) if weight.sum() else float("nan")


def ece(truth: Vector, probability: Vector, weight: Vector) -> float:
    """Expected calibration error over bins of equal weight."""
    groups = reliability(truth, probability, weight)
    total = sum(size for *_, size in groups)
    return sum(abs(mean - share) * size for mean, share, size in groups) / total if total else float("nan")


def reliability(
    truth: Vector, probability: Vector, weight: Vector, bins: int = BINS
) -> list[tuple[float, float, float]]:
    """Mean probability, share of positives and weight in up to `bins` groups of about equal weight."""
    order = np.argsort(probability, kind="stable")
    reached = np.cumsum(weight[order])
    if not len(order) or not reached[-1]:
        return []
    # A row belongs where its middle lies: in float, the last one's end may lie beyond the last bin.
    bin_of = np.minimum(((reached - weight[order] / 2) / reached[-1] * bins).astype(np.intp), bins - 1)
    found = []
    for one in range(bins):
        mine = order[bin_of == one]
        if (size := float(weight[mine].sum())) > 0:
            mean, share = (float(np.average(of[mine], weights=weight[mine])) for of in (probability, truth))
            found.append((mean, share, size))
    return found


def precision_recall(
    truth: Vector, probability: Vector, weight: Vector, points: int = POINTS
) -> list[tuple[float, float, float]]:
    """Threshold, precision and recall at up to `points` thresholds, the highest threshold first."""
    threshold, precision, recall = _steps(truth, probability, weight)
    if not len(threshold):
        return []
    kept = np.unique(np.linspace(0, len(threshold) - 1, min(points, len(threshold))).round().astype(np.intp))
    return [(float(threshold[i]), float(precision[i]), float(recall[i])) for i in kept]


def curves(truth: Vector, probability: Vector, weight: Vector) -> dict[str, list[list[float]]]:
    """What a manifest keeps of both curves, to be drawn where the model is looked at."""
    found = {
        "reliability": reliability(truth, probability, weight),
        "precision_recall": precision_recall(truth, probability, weight),
    }
    return {name: [[round(one, 4) for one in point] for point in points] for name, points in found.items()}


def _steps(truth: Vector, score: Vector, weight: Vector) -> tuple[Vector, Vector, Vector]:
    """Each score that occurs, falling, with precision and recall from there on; empty without positives."""
    values, place = np.unique(-score, return_inverse=True)
    hits, all_ = (np.cumsum(np.bincount(place, of, len(values))) for of in (weight * truth, weight))
    kept = all_ > 0
    if not kept.any() or not hits[-1]:
        return np.empty(0), np.empty(0), np.empty(0)
    return -values[kept], hits[kept] / all_[kept], hits[kept] / hits[-1]


def resamples(rows: Rows, count: int, seed: int) -> Iterator[Vector]:
    """The weights of each bootstrap resample (Efron 1979): groups are drawn, and what is in them with them."""
    generator = np.random.default_rng(seed)
    _, place = np.unique(rows.group, return_inverse=True)
    size = int(place.max()) + 1 if len(place) else 0
    for _ in range(count):
        drawn = np.bincount(generator.integers(0, size, size), minlength=size)
        yield rows.weight * drawn[place]


def interval(measure: Measure, rows: Rows, score: Vector, count: int, seed: int) -> list[float]:
    """Value, low and high end: 95 % percentile bootstrap; NaN where it can't be measured."""
    found = [measure(rows.truth, score, weight) for weight in resamples(rows, count, seed)]
    return _ends(measure(rows.truth, score, rows.weight), found)


def difference(
    measure: Measure, rows: Rows, score: Vector, other: Vector, count: int, seed: int
) -> list[float]:
    """How much more `score` is worth than `other`; each resample draws the same rows for both."""

    def both(weight: Vector) -> float:
        return measure(rows.truth, score, weight) - measure(rows.truth, other, weight)

    return _ends(both(rows.weight), [both(weight) for weight in resamples(rows, count, seed)])


def _ends(value: float, found: list[float]) -> list[float]:
    kept = [one for one in found if np.isfinite(one)]
    low, high = np.quantile(kept, (0.025, 0.975)) if kept else (np.nan, np.nan)
    return [float(value), float(low), float(high)]
