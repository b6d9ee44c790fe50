"""Stage 4: from logits to probabilities, on texts that training never saw.

First how much the n-gram model counts beside the encoder, a weight per head; then one Platt pair per head. Few
numbers, because most heads have far fewer than a thousand positives here; isotonic regression would fit the
noise. Stage `export` does the same again on the logits of the model that ships: quantising moves them.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.ngrams import NgramModel
from models.text import Forward, Logits, Windowing, mixed, normalise, open_tokenizer, window_logits
from training.common import Matrix, Run, TrainingError, digest, progress
from training.dataset import HEADS, Row, held_out_labels, read
from training.metrics import Platt, Vector, best_threshold, platt

ENOUGH = 100
"""Positives that a head needs for a weight of its own."""
WEIGHTS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.8, 1.0, 1.3)


def windowing(arguments: Namespace) -> Windowing:
    """How long texts are cut, here and when serving."""
    return Windowing(size=arguments.tokens, overlap=arguments.tokens // 4, limit=192, bucket=32)


def score_rows(
    run: Run, name: str, part: str, rows: Sequence[Row], forward: Forward, windows: Windowing, tokenizer: str
) -> Logits:
    """Logits (n, heads) of a part's rows under the model called `name`; kept in the run's folder.

    `name` must change with the model's weights; the file's name also says which texts it was for.
    """
    texts_seen = digest("\0".join(row.text for row in rows)) % 2**32
    kept = run.path(f"logits-{name}-{part}-{texts_seen:08x}.npy")
    if kept.exists():
        found: Logits = np.load(kept)
        return found
    opened = open_tokenizer(tokenizer)
    pieces = [np.empty((0, len(HEADS)), np.float32)]
    with progress(f"{name} on {part}", len(rows)) as advance:
        for start in range(0, len(rows), 512):
            texts = [normalise(row.text) for row in rows[start : start + 512]]
            pieces.append(window_logits(texts, opened, windows, forward, len(HEADS)))
            advance(len(texts))
    logits = np.concatenate(pieces)
    partial = kept.with_name(f"partial-{kept.name}")
    np.save(partial, logits)
    partial.replace(kept)
    return logits


def torch_logits(run: Run, part: str, rows: Sequence[Row], arguments: Namespace) -> Logits:
    """Logits (n, heads) of a part's rows under the fine-tuned model.

    Raises:
        TrainingError: stage `train` has not finished.
    """
    name = f"torch-{run.record('train')['model_sha256'][:8]}"
    from training.train import TOKENIZER, load_model, torch_forward  # slow to import, and not always there

    forward = torch_forward(load_model(run), arguments.threads)
    return score_rows(run, name, part, rows, forward, windowing(arguments), str(TOKENIZER))


def ngram_logits(run: Run, rows: Sequence[Row]) -> Logits:
    """Logits (n, heads) of rows under the run's n-gram model.

    Raises:
        TrainingError: stage `ngrams` has not finished.
    """
    run.record("ngrams")
    model = NgramModel.load(run.path("ngrams.npz"))
    chunks = [rows[start : start + 512] for start in range(0, len(rows), 512)]
    empty = np.empty((0, len(HEADS)), np.float32)
    return np.concatenate(
        [empty, *(model.logits([normalise(row.text) for row in chunk]) for chunk in chunks)]
    )


def fit_weights(encoder: Logits, ngrams: Logits, labels: Matrix) -> dict[str, float]:
    """Per head the weight of the n-gram model under which a Platt fit explains the labels best.

    A head with few positives would follow the noise: it takes the mean of the heads that have enough.
    """
    best = {}
    for column, head in enumerate(HEADS):
        known = ~np.isnan(labels[:, column])
        truth = labels[known, column]
        if truth.sum() >= ENOUGH:
            sides = encoder[known, column].astype(np.float64), ngrams[known, column].astype(np.float64)
            best[head] = min(WEIGHTS, key=lambda weight: _surprise(truth, sides[0] + weight * sides[1]))
    middle = round(float(np.mean(list(best.values()))), 3) if best else WEIGHTS[len(WEIGHTS) // 2]
    return {head: best.get(head, middle) for head in HEADS}


def _surprise(truth: Vector, logits: Vector) -> float:
    """Mean negative log-likelihood of the labels under the best Platt pair for `logits`."""
    probability = np.clip(platt(logits, truth)(logits), 1e-9, 1 - 1e-9)
    return float(-np.mean(truth * np.log(probability) + (1 - truth) * np.log(1 - probability)))


def combined(encoder: Logits, ngrams: Logits, weights: Mapping[str, float]) -> Logits:
    """Logits (n, heads) of both models together, as `models.text` serves them."""
    return mixed(encoder, ngrams, np.array([weights[head] for head in HEADS], dtype=np.float32))


def fit_outputs(logits: Logits, labels: Matrix) -> dict[str, Platt]:
    """Per head its Platt pair, fitted where `labels` (n, heads) are not NaN.

    Raises:
        TrainingError: a head has no positives or no negatives to fit on, or ranks the wrong way round.
    """
    result = {}
    for column, head in enumerate(HEADS):
        known = ~np.isnan(labels[:, column])
        try:
            result[head] = platt(logits[known, column].astype(np.float64), labels[known, column])
        except ValueError as error:
            raise TrainingError(f"Head {head!r} can't be calibrated: {error}.") from error
    return result


def probabilities(logits: Logits, outputs: dict[str, Platt]) -> Matrix:
    """Calibrated probabilities of shape (n, heads)."""
    columns = [outputs[head](logits[:, i].astype(np.float64)) for i, head in enumerate(HEADS)]
    return np.stack(columns, axis=1)


def fit_thresholds(probability: Matrix, labels: Matrix) -> dict[str, float]:
    """Per head the probability from which it says yes where a yes or no is asked: the best F1 on these rows.

    Of a calibrated score it lies at half of the best F1 (Lipton et al. 2014), so seldom above one half. A head
    with few positives takes the mean of the others. A policy has bands of its own; suites and comparisons need
    one number.
    """
    best = {}
    for column, head in enumerate(HEADS):
        known = ~np.isnan(labels[:, column])
        if np.nansum(labels[:, column]) >= ENOUGH:
            best[head] = round(best_threshold(labels[known, column], probability[known, column]), 4)
    middle = round(float(np.mean(list(best.values()))), 4) if best else 0.5
    return {head: best.get(head, middle) for head in HEADS}


def described(outputs: dict[str, Platt], labels: Matrix) -> dict[str, Any]:
    """The fit as it is written down: the two numbers and what they rest on."""
    return {
        head: {
            "scale": outputs[head].scale,
            "shift": outputs[head].shift,
            "labelled": int((~np.isnan(labels[:, i])).sum()),
            "positives": int(np.nansum(labels[:, i])),
        }
        for i, head in enumerate(HEADS)
    }


def main(run: Run, arguments: Namespace) -> None:
    """Score the calibration part with the fine-tuned model and fit each head.

    Raises:
        TrainingError: model or n-grams are not of the run's rows, or a head can't be calibrated.
    """
    started = time.monotonic()
    run.same_rows("train", "ngrams")
    rows = read(run, "calibrate")
    encoder, ngrams = torch_logits(run, "calibrate", rows, arguments), ngram_logits(run, rows)
    labels = held_out_labels(rows)
    weights = fit_weights(encoder, ngrams, labels)
    outputs = fit_outputs(combined(encoder, ngrams, weights), labels)
    run.finish("calibrate", arguments, started, ngram_weights=weights, outputs=described(outputs, labels))
