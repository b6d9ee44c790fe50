"""Stage 6: one ONNX file, in int8 if that costs nothing measurable, calibrated again, with its papers.

The gate: int8 ships if no category loses more than `GATE` of its AUC against fp32 on the held-out rows.
What ships is measured once more, as it ships, through `models.text.TextClassifier` itself.
"""

from __future__ import annotations

import shutil
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from models.registry import ARTIFACTS, MANIFEST, Manifest, file_sha256, newest, write_manifest
from models.runtime import check_golden, open_session
from models.text import NORMALISER, Forward, Logits, TextClassifier
from training.calibrate import (
    combined,
    described,
    fit_outputs,
    fit_thresholds,
    fit_weights,
    ngram_logits,
    probabilities,
    score_rows,
    torch_logits,
    windowing,
)  # fmt: skip
from training.card import card
from training.common import Matrix, Run, TrainingError, digest, progress, write_json
from training.dataset import HEADS, Row, held_out_labels, read
from training.evaluate import curves_by_head, evaluate_elsewhere, evaluate_held_out, rounded
from training.gating import Asked, gates, measure
from training.judged import learned_from
from training.metrics import Platt, auc
from training.quantise import export_fp32, quantise_rows

GATE = 0.005
"""AUC a category may lose to quantisation."""
SAME = 1e-3
"""Largest difference in logits between torch and the fp32 ONNX file that still counts as rounding."""
NEIGHBOURS = 500
COMPARED = 4_000
"""Held-out rows on which candidate and champion are compared, at most."""

# What the manifest takes over from the records of the earlier stages.
TRAINING_FACTS = (
    "arguments", "began_with", "rows", "texts_seen", "repeats", "log", "torch", "model_sha256"
)  # fmt: skip
DATA_FACTS = (
    "data", "rows_sha256", "mapping", "readers", "unseen", "caps", "held_out", "assumed_no", "implied_by_not_toxic",
    "counts",
)  # fmt: skip

# Mild sentences of our own. A machine on which these score otherwise computes something else.
GOLDEN = (
    "Thank you for the kind words, the concert was lovely.",
    "You are an idiot and nobody here likes you.",
    "Congratulations! You have won a free prize, call now to claim your reward.",
    "I feel hopeless and I do not want to be alive any more.",
    "Could somebody explain how to prune an apple tree? \N{DECIDUOUS TREE}",
)


def onnx_forward(path: Path, threads: int) -> Forward:
    """An ONNX file as a `models.text.Forward`."""
    session = open_session(path, threads)

    def forward(ids: Any, mask: Any) -> Logits:
        (logits,) = session.run(["logits"], {"input_ids": ids, "attention_mask": mask})
        return np.asarray(logits, dtype=np.float32)

    return forward


def score_file(path: Path, run: Run, part: str, rows: list[Row], arguments: Namespace) -> Logits:
    """Logits (n, heads) of a part's rows under an ONNX file."""
    from training.train import TOKENIZER

    name, forward = f"{path.stem}-{file_sha256(path)[:8]}", onnx_forward(path, arguments.threads)
    return score_rows(run, name, part, rows, forward, windowing(arguments), str(TOKENIZER))


def compare(path: Path, run: Run, arguments: Namespace) -> float:
    """Largest absolute difference in logits between torch and the fp32 file, over up to 256 held-out rows.

    Raises:
        TrainingError: it is more than rounding.
    """
    rows = read(run, "evaluate")[:256]
    exact = torch_logits(run, "compared", rows, arguments)
    found = score_file(path, run, "compared", rows, arguments)
    difference = float(np.abs(exact - found).max())
    if difference > SAME:
        raise TrainingError(f"The ONNX file differs from torch by {difference:.2g}: don't ship it.")
    return difference


def gate(truth: Matrix, quantised: Logits, reference: Logits) -> dict[str, Any]:
    """AUC per head under both models where `truth` (n, heads) is not NaN, and whether int8 passes.

    A head without both classes can't be compared and doesn't pass.
    """
    heads, passed = {}, True
    for i, head in enumerate(HEADS):
        known = ~np.isnan(truth[:, i])
        fp32, int8 = (auc(truth[known, i], x[known, i].astype(np.float64)) for x in (reference, quantised))
        heads[head] = {"fp32": rounded(fp32), "int8": rounded(int8), "loss": rounded(fp32 - int8)}
        passed &= fp32 - int8 <= GATE
    return {"allowed_loss": GATE, "passed": passed, "heads": heads}


def neighbours(classifier: TextClassifier, texts: list[str]) -> dict[str, float]:
    """How far a text's probabilities move between being scored alone and in a batch of 32."""
    together = np.concatenate([classifier.score(texts[i : i + 32]) for i in range(0, len(texts), 32)])
    alone = np.concatenate([classifier.score([text]) for text in texts])
    difference = np.abs(together - alone)
    return {"texts": len(texts), "max": float(difference.max()), "p99": float(np.quantile(difference, 0.99))}


def document(
    run: Run, arguments: Namespace, weights: Mapping[str, float], outputs: dict[str, Platt]
) -> dict[str, Any]:
    """The manifest without its files, golden vectors and metrics."""
    dataset, train = run.record("dataset"), run.record("train")
    windows = windowing(arguments)
    return {
        "name": arguments.name,
        "version": arguments.version,
        "kind": "text",
        "licence": "Apache-2.0",
        "language": ["en"],
        "base": train["base"],
        "input": {
            "normaliser": NORMALISER,
            "heads": list(HEADS),
            "window": windows.size,
            "overlap": windows.overlap,
            "windows": windows.limit,
            "bucket": windows.bucket,
            "ngram_weights": dict(weights),
        },
        "outputs": [
            {"category": head, "head": head, "scale": outputs[head].scale, "shift": outputs[head].shift}
            for head in HEADS
        ],
        "training": {
            **{key: train[key] for key in TRAINING_FACTS},
            "ngrams": ngram_facts(run),
            "bundles": learned_from(dataset, train),
            "labels": dataset.get("labels", {}),
        },
        "data": {key: dataset[key] for key in DATA_FACTS if key in dataset},
    }


def ngram_facts(run: Run) -> dict[str, Any]:
    """What the manifest says of the n-gram model: its size, and its file's hash before it was copied."""
    record = run.record("ngrams")
    return {key: record[key] for key in ("rows", "buckets", "used", "ngrams_sha256")}


def golden(classifier: TextClassifier) -> list[dict[str, Any]]:
    """The golden sentences with the scores this machine gives them."""
    rows = []
    for text in GOLDEN:
        scores = classifier.score([text])[0]
        named = zip(classifier.manifest.categories, scores, strict=True)
        rows.append({"input": text, "scores": {category: round(float(p), 4) for category, p in named}})
    return rows


def champion(arguments: Namespace) -> Path | None:
    """The artifact to compare with: what `--champion` names, or else the newest of the name that is shipped.

    Raises:
        TrainingError: `--champion` names no artifact.
    """
    if arguments.champion is not None:
        if not (arguments.champion / MANIFEST).exists():
            raise TrainingError(
                f"{arguments.champion} holds no {MANIFEST}: give --champion an artifact's folder."
            )
        return Path(arguments.champion)
    shipped = [path.parent for path in (ARTIFACTS / arguments.name).glob(f"*/{MANIFEST}")]
    others = {path.name: path for path in shipped if path.name != arguments.version}
    return others[newest(list(others))] if others else None


def assemble(
    folder: Path, model: Path, base: dict[str, Any], metrics: dict[str, Any], run: Run, arguments: Namespace
) -> Manifest:
    """Write the artifact: model, tokenizer, card, and the manifest last; load it and check its golden vectors."""
    from training.train import TOKENIZER

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    shutil.copyfile(model, folder / "model.onnx")
    shutil.copyfile(TOKENIZER, folder / "tokenizer.json")
    shutil.copyfile(run.path("ngrams.npz"), folder / "ngrams.npz")
    files = ("model.onnx", "tokenizer.json", "ngrams.npz")
    draft = write_manifest(folder, base, files)
    classifier = TextClassifier(draft)
    held_out = sorted(read(run, "evaluate"), key=lambda row: digest(row.text))
    metrics["batch_against_single"] = neighbours(classifier, [row.text for row in held_out[:NEIGHBOURS]])
    asked = Asked(arguments.data, champion(arguments), arguments.resamples, arguments.seed)
    metrics |= measure(classifier, held_out[:COMPARED], asked)
    judged = [gate.document() for gate in gates(metrics)]
    full = {
        **base,
        "golden": golden(classifier),
        "metrics": metrics,
        "gates": judged,
        "waived": dict(arguments.waive),
    }
    (folder / "MODEL_CARD.md").write_text(card(full), encoding="utf-8")
    manifest = write_manifest(folder, full, (*files, "MODEL_CARD.md"))
    check_golden(TextClassifier(manifest))
    return manifest


def main(run: Run, arguments: Namespace) -> None:
    """Export, quantise, gate, calibrate again, measure what ships, and write the artifact.

    Raises:
        TrainingError: model or n-grams are not of the run's rows, or the export computes something else.
    """
    from training.train import load_model

    started = time.monotonic()
    run.same_rows("train", "ngrams")
    fp32, int8 = run.path("fp32.onnx"), run.path("int8.onnx")
    with progress("export", 2) as advance:
        export_fp32(load_model(run, "eager"), fp32)
        advance(1, "int8")
        quantise_rows(fp32, int8)
        advance(1)
    difference = compare(fp32, run, arguments)
    rows = {part: read(run, part) for part in ("calibrate", "evaluate")}
    ngrams = {part: ngram_logits(run, rows[part]) for part in rows}
    encoder = {part: score_file(int8, run, part, rows[part], arguments) for part in rows}
    reference = {part: torch_logits(run, part, rows[part], arguments) for part in rows}
    labels = held_out_labels(rows["calibrate"])
    weights = fit_weights(encoder["calibrate"], ngrams["calibrate"], labels)
    logits, exact = (
        {part: combined(side[part], ngrams[part], weights) for part in rows} for side in (encoder, reference)
    )
    verdict = gate(held_out_labels(rows["evaluate"]), logits["evaluate"], exact["evaluate"])
    path = int8
    if not verdict["passed"]:
        path, logits = fp32, exact
    outputs = fit_outputs(logits["calibrate"], labels)
    thresholds = fit_thresholds(probabilities(logits["calibrate"], outputs), labels)

    def score(part: str, rows: list[Row]) -> Logits:
        return combined(score_file(path, run, part, rows, arguments), ngram_logits(run, rows), weights)

    metrics = {
        "held_out": evaluate_held_out(run, path.stem, logits["evaluate"], outputs, arguments),
        **evaluate_elsewhere(run, score, outputs, arguments),
    }
    metrics |= {
        "precision": path.stem,
        "calibration": described(outputs, labels),
        "quantisation_gate": verdict,
        "curves": curves_by_head(
            probabilities(logits["evaluate"], outputs), held_out_labels(rows["evaluate"])
        ),
        "onnx_against_torch": {"rows": min(256, len(rows["evaluate"])), "max_abs_logit": difference},
    }
    folder = arguments.out or run.path("artifact")
    base = document(run, arguments, weights, outputs) | {"thresholds": thresholds}
    manifest = assemble(folder, path, base, metrics, run, arguments)
    write_json(run.path("metrics.json"), metrics)
    run.finish("export", arguments, started, manifest_sha256=manifest.sha256, gate=verdict)
