"""A head over the backbone's vectors, from reviewed labels to an artifact, in seconds.

    python -m training image-head --data own.bundle --category illegal_goods --version own-1
    python -m training image-head --data FOLDER --positive screenshots --category spam --version try-1

A bundle holds the vectors of pictures that people judged (`moderation labels export --pictures`); a folder holds
pictures in one subfolder per class, of which one is the yes. Near-duplicates by meaning are dropped before anything
is split, so that no picture is measured on whose twin was learned from. Half of the rows fit a logistic model, a
quarter calibrates it, and the last quarter says what it is worth. What it writes goes the way of every other model.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.backbone import ImageEmbedder
from models.gates import Gate, check, failures, judge
from models.heads import WEIGHTS, ImageHead
from models.preparation import synthetic
from models.registry import (
    ARTIFACTS,
    MANIFEST,
    NAME,
    VERSION,
    ArtifactError,
    Manifest,
    load,
    shipped,
    write_manifest,
)
from models.runtime import check_golden
from moderation.domain.cases import MINORS
from training.common import TrainingError
from training.head_card import card
from training.image_examples import PARTS, Examples, distinct, divided, of_bundle, of_folder
from training.metrics import (
    Metric,
    Platt,
    Vector,
    auc,
    average_precision,
    brier,
    ece,
    interval,
    paired,
    platt,
)
from training.register import commands, line
from training.weighted import curves

COPY = 0.90
"""Cosine from which two pictures count as one: near-duplicates by meaning. Of 70 photographs no two lay above 0.67.
Of copies with a caption, without a tenth or as JPEG of quality 30 three in four lie above it, of mirrored ones
all."""
BINS = 5
"""Groups of a reliability curve: a quarter of a few hundred rows fills no more."""
STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0)
"""How large weights may grow; cross-validation on the fitting half takes one."""
FOLDS = 5
RESAMPLES = 1000
GOLDEN = ("gradient", "rings", "board")
LICENCE = """\
This head was fitted by the installation that uses it, on labels of its own people. It is not published: whoever
passes it on sees to it that the labels may be used so. The backbone it belongs to has a licence of its own.
"""


def fitted(examples: Examples, seed: int) -> tuple[Vector, float, float]:
    """Weights (dimensions,), bias, and the strength under which cross-validation was surprised least.

    Raises:
        TrainingError: there is too little of one class.
    """
    if min(examples.counted.values()) < FOLDS:
        raise TrainingError(
            f"Too few distinct pictures to fit on: {examples.counted['yes']} yes and {examples.counted['no']} no."
        )
    vectors, truth = examples.vectors.astype(np.float64), examples.truth
    fold = np.empty(len(truth), dtype=np.intp)
    for value in (0.0, 1.0):
        mine = np.random.default_rng(seed).permutation(np.flatnonzero(truth == value))
        fold[mine] = np.arange(len(mine)) % FOLDS

    def surprise(strength: float) -> float:
        total = 0.0
        for one in range(FOLDS):
            weights, bias = _logistic(vectors[fold != one], truth[fold != one], strength)
            logits = vectors[fold == one] @ weights + bias
            total += float(np.sum(np.logaddexp(0, logits) - truth[fold == one] * logits))
        return total

    best = min(STRENGTHS, key=surprise)
    return *_logistic(vectors, truth, best), best


def _logistic(vectors: NDArray[np.float64], truth: Vector, strength: float) -> tuple[Vector, float]:
    """Logistic regression, its weights held small (ridge), both classes counting alike however rare one is."""
    from scipy.optimize import minimize

    share = truth.mean()
    count = np.where(truth == 1, 0.5 / share, 0.5 / (1 - share))

    def loss(given: Vector) -> tuple[float, Vector]:
        weights, bias = given[:-1], given[-1]
        logits = vectors @ weights + bias
        error = count * (1 / (1 + np.exp(-np.clip(logits, -60, 60))) - truth)
        value = np.sum(count * (np.logaddexp(0, logits) - truth * logits)) + weights @ weights / (
            2 * strength
        )
        return float(value), np.append(vectors.T @ error + weights / strength, error.sum())

    start = np.zeros(vectors.shape[1] + 1)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000})
    return np.asarray(found.x[:-1]), float(found.x[-1])


def evaluated(truth: Vector, logits: Vector, calibration: Platt, seed: int) -> dict[str, list[float]]:
    """Each measure with its 95 % bootstrap interval: value, low, high."""
    scores = calibration(logits)
    measures: dict[str, Metric] = {
        "auc": auc, "ap": average_precision, "brier": brier, "ece": lambda t, p: ece(t, p, BINS),
    }  # fmt: skip
    return {
        name: [
            round(float(x), 4) for x in (one(truth, scores), *interval(one, truth, scores, RESAMPLES, seed))
        ]
        for name, one in measures.items()
    }


def against(
    champion: ImageHead, held_out: Examples, logits: Vector, category: str, seed: int
) -> dict[str, Any]:
    """AUC and AP less those of the head that serves, on the same rows.

    Raises:
        TrainingError: it says nothing of the category.
    """
    if category not in champion.manifest.categories:
        raise TrainingError(
            f"{champion.manifest.name} {champion.manifest.version} says nothing of {category}."
        )
    theirs = champion.score(list(held_out.vectors))[:, champion.manifest.categories.index(category)]
    result: dict[str, Any] = {"name": champion.manifest.name, "version": champion.manifest.version}
    for name, metric in (("auc", auc), ("ap", average_precision)):
        found = paired(metric, held_out.truth, logits, theirs, RESAMPLES, seed)
        result[name] = [round(float(x), 4) for x in (found.value, found.low, found.high)]
    return result


def gates(category: str, metrics: Mapping[str, Any]) -> list[Gate]:
    """The gates of a head from its metrics, in the frame of `models.gates`."""
    counts, held_out = metrics["distinct"], metrics["held_out"]
    result = [
        judge(f"head_positives:{category}", counts["yes"]),
        judge(f"head_negatives:{category}", counts["no"]),
        judge(f"head_held_out:{category}", metrics["parts"]["evaluate"]["yes"]),
        judge(f"head_copies:{category}", metrics["copies"]),
        *(judge(f"head_{name}:{category}", *held_out[name]) for name in ("auc", "ap", "ece", "brier")),
    ]
    if "champion" in metrics:
        result += [judge(f"champion_{name}:{category}", *metrics["champion"][name]) for name in ("auc", "ap")]
    return result


def document(
    arguments: argparse.Namespace,
    backbone: Manifest,
    calibration: Platt,
    metrics: Mapping[str, Any],
    origin: Mapping[str, Any],
) -> dict[str, Any]:
    """The manifest without its files and golden vectors."""
    category = arguments.category
    return {
        "name": arguments.name or f"image-head-{category.replace('_', '-')}",
        "version": arguments.version,
        "kind": "head",
        "licence": "of the installation's own",
        "outputs": [
            {"category": category, "head": category, "scale": calibration.scale, "shift": calibration.shift}
        ],
        "input": {
            "backbone": {"name": backbone.name, "version": backbone.version, "sha256": backbone.sha256},
            "dimensions": backbone.input["dimensions"],
            "heads": [category],
        },
        "training": {
            "seed": arguments.seed,
            "strength": metrics["strength"],
            "data": metrics["data"],
            "bundles": origin.get("bundles", []),
            "labels": origin.get("labels", {}),
        },
        "metrics": dict(metrics),
        "gates": [gate.document() for gate in gates(category, metrics)],
    }


def write(
    folder: Path, weights: Vector, bias: float, full: dict[str, Any], embedder: ImageEmbedder
) -> Manifest:
    """Write the artifact's folder, golden vectors and manifest last."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / WEIGHTS, weights=weights[None].astype(np.float32), bias=np.array([bias], np.float32))
    (folder / "MODEL_CARD.md").write_text(card(full), encoding="utf-8")
    (folder / "LICENSE.txt").write_text(LICENCE, encoding="utf-8")
    files = (WEIGHTS, "MODEL_CARD.md", "LICENSE.txt")
    head = ImageHead(write_manifest(folder, full, files))
    golden = []
    for vector in embedder.embed([synthetic(name, 224) for name in GOLDEN]):
        kept = np.round(vector.astype(np.float64), 5)
        (score,) = head.score([kept.astype(np.float32)])
        scores = dict(zip(head.manifest.categories, (round(float(p), 6) for p in score), strict=True))
        golden.append({"input": {"vector": kept.tolist()}, "scores": scores})
    manifest = write_manifest(folder, {**full, "golden": golden}, files)
    check_golden(ImageHead(manifest))
    return manifest


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m training image-head", description=(__doc__ or "").splitlines()[0]
    )
    result.add_argument(
        "--data", type=Path, required=True, help="a bundle of labels, or a folder with a subfolder per class"
    )
    result.add_argument("--category", required=True, help="the policy's category that the head speaks of")
    result.add_argument("--version", required=True, help="the artifact's version")
    result.add_argument("--name", help="the artifact's name (default: image-head-CATEGORY)")
    result.add_argument("--positive", help="of a folder, the subfolder that is a yes (default: the category)")
    result.add_argument("--key", type=Path, help="the bundle's key file (default: BUNDLE.key)")
    result.add_argument("--backbone", type=Path, help="the backbone's artifact (default: the shipped one)")
    result.add_argument("--champion", type=Path, help="the head that serves now, to compare with")
    result.add_argument("--out", type=Path, help="the artifact's folder (default: runs/NAME-VERSION)")
    result.add_argument(
        "--copies-from", type=float, default=COPY, metavar="COSINE",
        help="from which two pictures count as one (default: %(default)s)",
    )  # fmt: skip
    result.add_argument("--seed", type=int, default=20260)
    return result


def checked(arguments: argparse.Namespace) -> Path:
    """The folder to write to, if all that was given can be.

    Raises:
        TrainingError: name, version or category can't be, or an artifact lies there.
    """
    name = arguments.name or f"image-head-{arguments.category.replace('_', '-')}"
    if not NAME.fullmatch(name) or not VERSION.fullmatch(arguments.version):
        raise TrainingError(
            "--name takes lower-case letters, digits and hyphens; --version takes letters, digits and .-_ as well."
        )
    if arguments.category in set(MINORS):
        raise TrainingError("No model learns what is about minors: people and known hashes decide that.")
    out: Path = arguments.out or Path("runs") / f"{name}-{arguments.version}"
    if (out / MANIFEST).exists():
        raise TrainingError(f"{out} holds an artifact already: give another --version or --out.")
    return out


def backbone(folder: Path | None) -> ImageEmbedder:
    """The backbone in a folder, or the one that ships.

    Raises:
        ArtifactError: there is none, or it computes something else here.
    """
    if folder is None:
        folder = next(one.folder for one in shipped(ARTIFACTS) if one.kind == "backbone")
    embedder = ImageEmbedder(load(folder), threads=2)
    check_golden(embedder)
    return embedder


def run(arguments: argparse.Namespace, now: datetime) -> Manifest:
    """Read, fit, calibrate, measure and write.

    Raises:
        TrainingError: the data can't be used.
        ArtifactError: backbone or champion can't be loaded.
    """
    out, category, seed = checked(arguments), arguments.category, arguments.seed
    embedder = backbone(arguments.backbone)
    if arguments.data.is_dir():
        examples = of_folder(arguments.data, arguments.positive or category, embedder)
    else:
        examples = of_bundle(arguments.data, arguments.key, category, embedder.maker, now)
    if examples.vectors.shape[1] != embedder.dimensions:
        raise TrainingError(f"The vectors are not of {embedder.maker}.")
    found = distinct(examples, arguments.copies_from)
    parts = divided(found.kept, seed)
    weights, bias, strength = fitted(parts["fit"], seed)
    logits = {part: parts[part].vectors.astype(np.float64) @ weights + bias for part in PARTS}
    try:
        calibration = platt(logits["calibrate"], parts["calibrate"].truth)
    except ValueError as error:
        raise TrainingError(f"The head can't be calibrated: {error}; label more pictures.") from error
    metrics: dict[str, Any] = {
        "data": "bundle" if arguments.data.is_file() else "folder",
        "labelled": examples.counted,
        "distinct": found.kept.counted,
        "copies": found.copies,
        "torn": found.torn,
        "least_cosine_of_copies": arguments.copies_from,
        "parts": {part: some.counted for part, some in parts.items()},
        "strength": strength,
        "held_out": evaluated(parts["evaluate"].truth, logits["evaluate"], calibration, seed),
    }
    everything = np.ones(len(parts["evaluate"].truth))
    measured = parts["evaluate"].truth, calibration(logits["evaluate"]), everything
    metrics["curves"] = {category: curves(*measured)}
    if arguments.champion is not None:
        champion = ImageHead(load(arguments.champion))
        metrics["champion"] = against(champion, parts["evaluate"], logits["evaluate"], category, seed)
    full = document(arguments, embedder.manifest, calibration, metrics, examples.origin)
    return write(out, weights, bias, full, embedder)


def main(argv: list[str] | None = None) -> int:
    """Make a head and judge it; 1 if it fails a gate or can't be made."""
    arguments = parser().parse_args(argv)
    try:
        manifest = run(arguments, datetime.now(UTC))
    except (TrainingError, ArtifactError) as error:
        print(f"image-head: {error}", file=sys.stderr)
        return 1
    metrics = manifest.document["metrics"]
    print(
        f"{metrics['labelled']['yes']} yes and {metrics['labelled']['no']} no; {metrics['copies']} near-duplicates "
        f"by meaning left out (cosine from {arguments.copies_from}), {metrics['torn']} groups judged both ways."
    )
    found = check(manifest)
    for gate in found:
        print(line(gate))
    if failed := failures(found):
        names = ", ".join(gate.name for gate in failed)
        print(f"image-head: {manifest.name} {manifest.version} fails {names}: label more.", file=sys.stderr)
        return 1
    print(f"\n{manifest.name} {manifest.version} passes its {len(found)} gates. On the installation:")
    for step in commands(manifest):
        print(f"  {step}")
    print("Then somebody else promotes it, logged in, in the console under Models.")
    return 0
