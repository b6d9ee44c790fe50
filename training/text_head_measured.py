"""One category of a text head: fitted on its rows, measured on the others beside its base, with its gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.gates import Gate, judge
from models.text_heads import Seen, TextHead
from training import weighted
from training.common import TrainingError
from training.metrics import Vector
from training.text_examples import HEAVIEST, Given, Parted
from training.text_head_fit import Features, Fitted, fit

SEED = 20260
RESAMPLES = 400
MEASURES: Mapping[str, weighted.Measure] = {
    "auc": weighted.auc,
    "ap": weighted.average_precision,
    "ece": weighted.ece,
    "brier": weighted.brier,
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be made: for whose items, of which categories (none: those with enough labels), and where."""

    version: str
    out: Path
    clients: Sequence[str] = ()
    categories: Sequence[str] = ()
    name: str = ""
    champion: Path | None = None
    heaviest: float = HEAVIEST
    seed: int = SEED
    resamples: int = RESAMPLES


@dataclass(slots=True)
class Made:
    """What is known of each category as the fit goes on."""

    fitted: dict[str, Fitted] = field(default_factory=dict)
    metrics: dict[str, Any] = field(
        default_factory=lambda: {
            "parts": {},
            "distinct": {},
            "held_out": {},
            "base": {},
            "less_base": {},
            "curves": {},
        }
    )


@dataclass(frozen=True, slots=True)
class Table:
    """Every judged text as the base has seen it, and how it is parted and weighed."""

    given: Given
    seen: Sequence[Seen]
    parts: Parted
    stands_for: Vector
    counts: Vector

    def of(self, category: str) -> tuple[NDArray[np.bool_], Vector]:
        """Where the category was judged (n,), and what was found there."""
        said = [row.labels.get(category) for row in self.given.rows]
        known = np.array([one is not None for one in said])
        return known, np.array([float(one) for one in said if one is not None])

    def distinct(self, category: str) -> dict[str, int]:
        """Groups of near duplicates with a yes, and with a no."""
        known, truth = self.of(category)
        group = self.parts.group[known]
        return {word: len(np.unique(group[truth == value])) for word, value in (("yes", 1), ("no", 0))}


def fit_one(table: Table, category: str, knows: Sequence[str], wanted: Wanted, made: Made) -> None:
    """Fit, calibrate and measure one category. `knows` are the categories of the base, in its order.

    Raises:
        TrainingError: there is too little of one side.
    """
    known, truth = table.of(category)
    measures = table.parts.measures[known]
    features = Features.of([one for one, judged in zip(table.seen, known, strict=True) if judged])
    rows = weighted.Rows(truth, table.stands_for[known], table.parts.group[known])
    fits = ~measures
    prior = np.array([float(one == category) for one in knows])
    try:
        fitted = fit(features.only(fits), rows.only(fits), table.counts[known][fits], prior)
    except TrainingError as error:
        raise TrainingError(f"{category}: {error}") from error
    made.fitted[category] = fitted
    metrics, held = made.metrics, rows.only(measures)
    metrics["distinct"][category] = table.distinct(category)
    metrics["parts"][category] = {
        "fit": _sides(rows.only(fits)), "measure": _sides(held), "measure_distinct": _distinct(held),
    }  # fmt: skip
    logits = fitted.weights.logits(features.only(measures)) if len(held.truth) else np.empty(0)
    score = fitted.calibration(logits)
    metrics["held_out"][category] = _measured(held, score, wanted)
    metrics["curves"][category] = weighted.curves(held.truth, score, held.weight)
    if category in knows:
        theirs = _sigmoid(features.only(measures).odds[:, knows.index(category)])
        metrics["base"][category] = _measured(held, theirs, wanted)
        metrics["less_base"][category] = _less(held, score, theirs, wanted)


def _measured(held: weighted.Rows, score: Vector, wanted: Wanted) -> dict[str, Any]:
    """Each measure with its interval, left out where it could not be measured."""
    found = {
        name: weighted.interval(measure, held, score, wanted.resamples, wanted.seed)
        for name, measure in MEASURES.items()
    }
    counted = {"labelled": len(held.truth), "positives": int(held.truth.sum())}
    return {**_known(found), **counted, "effective": round(held.effective, 1)}


def _less(held: weighted.Rows, score: Vector, other: Vector, wanted: Wanted) -> dict[str, Any]:
    """Each measure less that of another score on the same rows."""
    return _known(
        {
            name: weighted.difference(measure, held, score, other, wanted.resamples, wanted.seed)
            for name, measure in MEASURES.items()
        }
    )


def _known(found: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    return {
        name: [round(one, 4) for one in values] for name, values in found.items() if np.isfinite(values).all()
    }


def against(
    champion: TextHead, table: Table, categories: Sequence[str], made: Made, wanted: Wanted
) -> dict[str, Any]:
    """The head less the one that serves, on the rows that measure, in the categories of both."""
    less = {}
    for category in set(categories) & set(champion.manifest.categories):
        known, truth = table.of(category)
        chosen = known & table.parts.measures
        if not chosen.any():
            continue
        seen = [one for one, measured in zip(table.seen, chosen, strict=True) if measured]
        held = weighted.Rows(
            truth[table.parts.measures[known]], table.stands_for[chosen], table.parts.group[chosen]
        )
        theirs = champion.score(seen)[:, champion.manifest.categories.index(category)]
        fitted = made.fitted[category]
        ours = fitted.calibration(fitted.weights.logits(Features.of(seen)))
        less[category] = _less(held, ours, theirs, wanted)
    return {"name": champion.manifest.name, "version": champion.manifest.version, "less": less}


def _sides(rows: weighted.Rows) -> dict[str, int]:
    yes = int(rows.truth.sum())
    return {"yes": yes, "no": len(rows.truth) - yes}


def _distinct(rows: weighted.Rows) -> dict[str, int]:
    return {word: len(np.unique(rows.group[rows.truth == value])) for word, value in (("yes", 1), ("no", 0))}


def _sigmoid(logits: Vector) -> Vector:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -60, 60))))


def gates(categories: Sequence[str], metrics: Mapping[str, Any]) -> list[Gate]:
    """The gates of a text head from its metrics, in the frame of `models.gates`."""
    result = []
    for category in categories:
        counts, held_out = metrics["distinct"][category], metrics["held_out"][category]
        measured_on = metrics["parts"][category]["measure_distinct"]["yes"]
        result += [
            judge(f"text_head_positives:{category}", counts["yes"]),
            judge(f"text_head_negatives:{category}", counts["no"]),
            judge(f"text_head_held_out:{category}", measured_on),
            *(judge(f"text_head_{name}:{category}", *held_out.get(name, (None,))) for name in MEASURES),
        ]
        if (less := metrics["less_base"].get(category)) is not None:
            result += [
                judge(f"text_head_base_{name}:{category}", *less.get(name, (None,)))
                for name in ("auc", "brier")
            ]
        if (less := metrics.get("champion", {}).get("less", {}).get(category)) is not None:
            result += [
                judge(f"champion_{name}:{category}", *less.get(name, (None,))) for name in ("auc", "ap")
            ]
    return result
