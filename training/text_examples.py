"""Judged texts from sealed bundles: what each row is worth, which are near duplicates, and which part measures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moderation import bundles
from moderation.domain.cases import MINORS
from moderation.features.sketch import ALIKE, BANDS, of_text
from training import judged
from training.common import TrainingError, digest
from training.dataset import NEIGHBOURS, key
from training.judged import Judged
from training.metrics import Vector

HELD_OUT = 0.25
"""Share of the groups of near duplicates that measures and is never fitted on, by hash: the same in every round."""
HEAVIEST = 20.0
"""The most that one row may count for. Unclipped, a check drawn once in 200 would outvote 200 reviewed rows."""
CERTAIN: Mapping[str, float] = {"single": 0.8, "agreed": 1.0, "adjudicated": 1.0, "overruled": 0.9}
"""How much a label counts in fitting by how far people agreed. Judgement, not measured: about (1 - 2e)^2 for people
who err once in twenty."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a head is fitted on, and the bundles it came from: each with its id and its manifest's SHA-256."""

    rows: Sequence[Judged]
    bundles: Sequence[Mapping[str, str]] = ()


def of_bundles(
    paths: Sequence[Path], key_path: Path | None, clients: Collection[str], policy_from: int, now: datetime
) -> Given:
    """The texts of bundles: those of `clients` where rows say whose they are, judged under `policy_from` or later.

    A text that stands in several bundles counts once, as the last one says it.

    Raises:
        TrainingError: one does not open, has ended, holds malformed rows or labels of minors, or nothing is left.
    """
    if key_path is not None and len(paths) > 1:
        raise TrainingError("--key is for one bundle; lay each other's key beside it, as BUNDLE.key.")
    found: dict[str, list[Judged]] = {}
    read = []
    for path in paths:
        mine: dict[str, list[Judged]] = defaultdict(list)
        named, rows = judged.read(path, key_path, now)
        for number, row in enumerate(rows, 1):
            one = _judged(path, number, row)
            if one is None or one.policy_version < policy_from:
                continue
            if not clients or one.client in (None, *clients):
                mine[one.text].append(one)
        found |= mine
        read.append(named)
    if not found:
        raise TrainingError(
            "The bundles hold no judged text of this kind: export a period in which people judged."
        )
    return Given([one for same in found.values() for one in same], read)


def _judged(path: Path, number: int, row: Mapping[str, Any]) -> Judged | None:
    """A row of a bundle; None of one that holds an embedding and no text.

    Raises:
        TrainingError: it is malformed, or is of minors.
    """
    if wrong := bundles.flaw(row):
        raise TrainingError(f"{path}, row {number}: the field {wrong.field} must be {wrong.wanted}.")
    if set(row["labels"]) & set(MINORS):
        raise TrainingError(f"{path}, row {number}: no model learns what is about minors; take the row out.")
    return judged.of_row(row) if row.get("text") else None


@dataclass(frozen=True, slots=True)
class Parted:
    """Rows with their groups of near duplicates, and which of them measure; all (n,)."""

    group: NDArray[np.intp]
    measures: NDArray[np.bool_]


def parted(texts: Sequence[str], seed: int) -> Parted:
    """Near duplicates as groups, none of which is on both sides; a quarter of the groups measures."""
    keys = [key(text) for text in texts]
    group = alike(texts, keys)
    first: dict[int, str] = {}
    for one, name in zip(group.tolist(), keys, strict=True):
        first[one] = min(first.get(one, name), name)
    held = {one: digest(f"{seed} {name}") / 2**64 < HELD_OUT for one, name in first.items()}
    return Parted(group, np.array([held[one] for one in group.tolist()], dtype=np.bool_))


def alike(texts: Sequence[str], keys: Sequence[str]) -> NDArray[np.intp]:
    """A number for each text, the same for texts that are near duplicates, also by way of others."""
    leader = list(range(len(texts)))

    def find(one: int) -> int:
        while leader[one] != one:
            leader[one] = one = leader[leader[one]]
        return one

    same: dict[str, int] = {}
    owners: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for row, (text, name) in enumerate(zip(texts, keys, strict=True)):
        if same.setdefault(name, row) != row:
            leader[find(row)] = find(same[name])
            continue
        bands = list(enumerate(of_text(text).bands))
        near = Counter(owner for band in bands for owner in owners.get(band, ()))
        for owner, shared in near.items():
            if shared >= ALIKE * BANDS:
                leader[find(row)] = find(owner)
        for band in bands:
            if len(owners[band]) < NEIGHBOURS:
                owners[band].append(row)
    return np.array([find(row) for row in range(len(texts))], dtype=np.intp)


def stands_for(rows: Sequence[Judged], heaviest: float) -> Vector:
    """How many items each row stands for: the inverse of its propensity, clipped."""
    return np.array([min(1 / row.propensity, heaviest) for row in rows])


def certainty(rows: Sequence[Judged]) -> Vector:
    """How much each label counts by how far people agreed; of an unknown word as much as of one person."""
    return np.array([CERTAIN.get(row.agreement, CERTAIN["single"]) for row in rows])
