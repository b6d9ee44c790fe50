"""Judged pictures as vectors: from a bundle or a folder, without near-duplicates, parted to fit and to measure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.backbone import ImageEmbedder, Vectors, pooled
from moderation import bundles
from training import judged
from training.common import TrainingError, digest
from training.metrics import Vector
from training.photographs import SUFFIXES, photographs_of

PARTS = ("fit", "calibrate", "evaluate")


@dataclass(frozen=True, slots=True)
class Examples:
    """Judged pictures: unit vectors (n, dimensions), yes or no, and a name each that says nothing of them.

    `origin` is what the manifest says of bundles and labels.
    """

    vectors: Vectors
    truth: Vector
    names: tuple[str, ...]
    origin: Mapping[str, Any] = field(default_factory=dict)

    def only(self, rows: NDArray[np.intp]) -> Examples:
        return Examples(self.vectors[rows], self.truth[rows], tuple(self.names[i] for i in rows), self.origin)

    @property
    def counted(self) -> dict[str, int]:
        yes = int(self.truth.sum())
        return {"yes": yes, "no": len(self.truth) - yes}


@dataclass(frozen=True, slots=True)
class Distinct:
    """Examples without near-duplicates: `copies` went, among them those of `torn` groups, judged both ways."""

    kept: Examples
    copies: int
    torn: int


def of_bundle(path: Path, key: Path | None, category: str, maker: str, now: datetime) -> Examples:
    """The pictures of a bundle in which somebody judged `category`.

    Raises:
        TrainingError: it does not open, a row is malformed, or its vectors are of another backbone.
    """
    vectors, truth, used, others = [], [], [], 0
    named, rows = judged.read(path, key, now)
    for row in rows:
        if wrong := bundles.flaw(row):
            raise TrainingError(f"{path}: the field {wrong.field} of a row must be {wrong.wanted}.")
        if "embedding" not in row or category not in row["labels"]:
            continue
        if row.get("maker") != maker:
            others += 1
            continue
        vectors.append(row["embedding"])
        truth.append(float(row["labels"][category]))
        used.append(row)
    if not vectors:
        raise TrainingError(
            f"{path} holds no picture with a vector of {maker} in which {category} was judged ({others} have one "
            "of another backbone): export with `--pictures`, from a period in which people judged some."
        )
    if others:
        print(f"left out: {others} pictures whose vectors are of another backbone than {maker}")
    names = tuple(str(row["ref"]) for row in used)
    origin = {"bundles": [named], "labels": judged.lineage([judged.of_row(row) for row in used], [category])}
    return Examples(_units(vectors), np.array(truth), names, origin)


def of_folder(folder: Path, positive: str, embedder: ImageEmbedder) -> Examples:
    """The pictures of a folder with a subfolder per class; a yes is what lies in `positive`.

    Raises:
        TrainingError: there are no such subfolders.
    """
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    if positive not in {path.name for path in classes} or len(classes) < 2:
        raise TrainingError(
            f"{folder} needs a subfolder {positive!r} with what is a yes, and another one with what is not; "
            "--positive names another subfolder."
        )
    vectors, truth, names = [], [], []
    for path in classes:
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
        for photo in photographs_of(files, path):
            vectors.append(pooled(embedder.embed([frame.rgb for frame in photo.picture.frames])))
            truth.append(float(path.name == positive))
            names.append(photo.sha256)
    if not vectors:
        raise TrainingError(f"No picture below {folder} can be read.")
    return Examples(_units(vectors), np.array(truth), tuple(names))


def _units(rows: Iterable[Sequence[float] | Vectors]) -> Vectors:
    found = np.asarray(list(rows), dtype=np.float32)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    unit: Vectors = found / np.maximum(lengths, 1e-12)
    return unit


def distinct(examples: Examples, least: float) -> Distinct:
    """The examples of which no two lie nearer than `least`; none whose near-duplicates were judged the other way.

    One after the other in the order of their hashes, each is kept unless one that is kept lies near. Nothing is
    chained: a series of pictures in which only neighbours are alike does not end as one.
    """
    order = np.argsort(np.array([digest(name) for name in examples.names], dtype=np.uint64), kind="stable")
    ordered = examples.only(order)
    kept: list[int] = []
    leaders = np.empty_like(ordered.vectors)
    torn: set[int] = set()
    for row, vector in enumerate(ordered.vectors):
        near = leaders[: len(kept)] @ vector
        if not len(near) or near.max() < least:
            leaders[len(kept)] = vector
            kept.append(row)
        elif ordered.truth[leader := kept[int(near.argmax())]] != ordered.truth[row]:
            torn.add(leader)
    rows = np.array([row for row in kept if row not in torn], dtype=np.intp)
    return Distinct(ordered.only(rows), len(order) - len(rows), len(torn))


def divided(examples: Examples, seed: int) -> dict[str, Examples]:
    """Half to fit, a quarter to calibrate, a quarter to evaluate; each with its share of yes and no, by hash."""
    rows: dict[str, list[int]] = {part: [] for part in PARTS}
    for truth in (0.0, 1.0):
        mine = [int(i) for i in np.flatnonzero(examples.truth == truth)]
        mine.sort(key=lambda i: digest(f"{seed} {examples.names[i]}"))
        for place, row in enumerate(mine):
            rows[("fit", "calibrate", "fit", "evaluate")[place % 4]].append(row)
    return {part: examples.only(np.array(sorted(found), dtype=np.intp)) for part, found in rows.items()}
