"""Stage 3: a linear model on n-grams of characters and words, which reads the spelling that the encoder can't.

One logistic regression per head on the same rows, labels and weights as the encoder's, so that the two differ in
what they see and in nothing else. How much each counts is fitted by stage `calibrate`.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from models.ngrams import BITS, Features, NgramModel, features, weighted
from models.registry import file_sha256
from models.text import normalise
from training.common import Run, TrainingError, progress
from training.dataset import HEADS, Row, read, target

FILE = "ngrams.npz"
STRENGTH = 8.0
"""Inverse of the penalty on squared weights."""
HEAVIEST = 8.0
"""A positive's weight at most, as for the encoder: the square root of negatives per positive."""

Vector = NDArray[np.float64]


def gather(rows: Sequence[Row]) -> Features:
    """The features of all rows, a few thousand at a time."""
    found: list[Features] = []
    ends: list[NDArray[np.int64]] = []
    with progress("features", len(rows)) as advance:
        for start in range(0, len(rows), 2048):
            chunk = rows[start : start + 2048]
            found.append(features([normalise(row.text) for row in chunk]))
            ends.append(found[-1].ends + (ends[-1][-1] if ends else 0))
            advance(len(chunk))
    buckets, counts = (np.concatenate([getattr(one, name) for one in found]) for name in ("bucket", "count"))
    return Features(buckets, counts, np.concatenate(ends))


def rarity_of(found: Features) -> NDArray[np.float32]:
    """Per bucket how rare it is among the texts: the smoothed logarithm of its inverse document frequency."""
    seen = np.bincount(found.bucket, minlength=1 << BITS)
    rarity: NDArray[np.float32] = (np.log((1 + len(found.ends)) / (1 + seen)) + 1).astype(np.float32)
    # What training never saw has no weight, and must not make the rest of a text weigh less.
    rarity[seen == 0] = 0
    return rarity


def fit_head(table: csr_matrix, truth: Vector, weight: Vector) -> tuple[Vector, float]:
    """Weights per bucket and bias of one head, from the rows where `weight` is not nought.

    Raises:
        TrainingError: there are no positives, or nothing else.
    """
    known = np.flatnonzero(weight)
    y, w = truth[known], weight[known]
    if not 0 < y.sum() < len(y):
        raise TrainingError("A head has no positive training rows, or nothing else: look at dataset.json.")
    heavier = np.clip(np.sqrt(((1 - y) * w).sum() / (y * w).sum()), 1.0, HEAVIEST)
    model = LogisticRegression(C=STRENGTH, solver="liblinear", random_state=0)
    model.fit(table[known], y, sample_weight=w * np.where(y > 0, heavier, 1.0))
    return model.coef_[0], float(model.intercept_[0])


def main(run: Run, arguments: Namespace) -> None:
    """Fit every head on the training part; write `ngrams.npz` and the record."""
    started = time.monotonic()
    rows = read(run, "train")
    if not rows:
        raise TrainingError("The training part is empty: look at the counts in dataset.json.")
    found = gather(rows)
    rarity = rarity_of(found)
    begins = np.concatenate([[0], found.ends])
    table = csr_matrix((weighted(found, rarity), found.bucket, begins), shape=(len(rows), 1 << BITS))
    targets = np.array([target(row) for row in rows])
    columns, bias = [], []
    with progress("heads", len(HEADS)) as advance:
        for index, head in enumerate(HEADS):
            weights, shift = fit_head(table, targets[:, index, 0], targets[:, index, 1])
            columns.append(weights)
            bias.append(shift)
            advance(1, head)
    exact = np.stack(columns, axis=1)
    scale = np.maximum(np.abs(exact).max(axis=0), 1e-12) / 127
    quantised = np.round(exact / scale).astype(np.int8)
    NgramModel(quantised, scale.astype(np.float32), np.array(bias, dtype=np.float32), rarity).save(
        run.path(FILE)
    )
    run.finish(
        "ngrams",
        arguments,
        started,
        rows=len(rows),
        rows_sha256=run.learned_from(),
        buckets=1 << BITS,
        used=int((quantised != 0).any(axis=1).sum()),
        ngrams_sha256=file_sha256(run.path(FILE)),
    )
