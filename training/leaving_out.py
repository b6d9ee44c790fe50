"""Which sources are left out together to measure transfer, and which rows that leaves to learn from.

Sisters go together: four sources quote the same two forums. What nearly equals a measured row is in no other part.
A category that one published source alone labels is measured on a part of that source's clusters of near
duplicates too: what our own annotations and sentences teach elsewhere is little.
"""

from __future__ import annotations

import csv
import hashlib
from argparse import Namespace
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moderation.features.sketch import ALIKE, BANDS, of_text
from training.common import digest, progress
from training.dataset import ANNOTATIONS, NEIGHBOURS, Row, key

THIN = ("threat", "sexual", "self_harm", "fraud")
"""Heads whose positives are taken first where a source is cut to size."""
UNPUBLISHED = ("fraud",)
"""Heads that no published source labels: they are measured on our own annotations, all others are not."""
SPLIT_SHARE = 0.3
"""Of a source's clusters, where a category has no other source."""


@dataclass(frozen=True, slots=True)
class Group:
    """Sources left out whole, and sources of which clusters are left out for the heads only they label."""

    name: str
    sources: tuple[str, ...]
    split: Mapping[str, tuple[str, ...]]


GROUPS: tuple[Group, ...] = (
    Group(
        "encyclopaedia and news comments",
        ("jigsaw_bin", "jigsaw_ml", "toxic_spans", "context_toxicity"),
        {"sbic": ("sexual",)},
    ),
    Group("forums and short posts", ("cad", "davidson", "stormfront"), {"reddit27": ("self_harm",)}),
    Group(
        "written to fool models, text messages, a forum on suicide",
        ("dynahate", "hatemoji", "edos", "sms_spam", "smishing", "reddit27"),
        {},
    ),
    Group(
        "implied harm, paraphrases, mail",
        ("sbic", "toxigen", "paradetox", "spamassassin"),
        {"jigsaw_ml": ("profanity",)},
    ),
)


@dataclass(frozen=True, slots=True)
class Parts:
    """A group's rows: to learn from, to calibrate on, to measure on."""

    train: list[Row]
    calibrate: list[Row]
    test: list[Row]


def clusters(rows: Sequence[Row]) -> NDArray[np.int64]:
    """Per row the number of its cluster of near duplicates: what is alike to one of a cluster belongs to it."""
    parents = list(range(len(rows)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    owners: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    with progress("clusters", len(rows)) as advance:
        for index, row in enumerate(rows):
            bands = list(enumerate(of_text(row.text).bands))
            near = Counter(owner for band in bands for owner in owners.get(band, ()))
            for owner, shared in near.items():
                if shared >= ALIKE * BANDS:
                    parents[root(index)] = root(owner)
            for band in bands:
                if len(owners[band]) < NEIGHBOURS:
                    owners[band].append(index)
            advance(1)
    return np.array([root(index) for index in range(len(rows))], np.int64)


def thin_first(rows: Iterable[Row], most: int, thin: int) -> list[Row]:
    """At most `most` rows: up to `thin` with a positive of a thin head, then by hash."""
    ordered = sorted(rows, key=lambda row: digest(row.text))
    rare = [row for row in ordered if any(row.labels.get(head) == 1 for head in THIN)][:thin]
    chosen = {id(row) for row in rare}
    return (rare + [row for row in ordered if id(row) not in chosen])[:most]


def divided(rows: Sequence[Row], cluster: NDArray[np.int64], group: Group, options: Namespace) -> Parts:
    """The rows of one group; nothing to learn from is near to anything measured, and that is labelled by others."""
    held = {
        int(number)
        for number, row in zip(cluster, rows, strict=True)
        if row.source in group.split and digest(f"transfer {number}") < SPLIT_SHARE * 2**64
    }
    test, rest = defaultdict(list), []
    for number, row in zip(cluster, rows, strict=True):
        if row.source in group.sources:
            test[row.source].append(row)
        elif row.source in group.split and int(number) in held:
            known = {head: row.labels[head] for head in group.split[row.source] if head in row.labels}
            if known:
                test[row.source].append(replace(row, labels=known))
        else:
            rest.append((int(number), row))
    touched = held | {int(n) for n, row in zip(cluster, rows, strict=True) if row.source in group.sources}
    train, calibrate = defaultdict(list), []
    for number, row in rest:
        if number not in touched and row.part == "train":
            train[row.source].append(row)
        elif number not in touched and row.part == "calibrate":
            calibrate.append(row)
    return Parts(
        [row for mine in train.values() for row in thin_first(mine, options.train_rows, options.train_rows)],
        thin_first(calibrate, options.calibrate_rows, 0),
        [
            row
            for mine in test.values()
            for row in thin_first(published(mine), options.test_rows, options.thin)
        ],
    )


def published(rows: Iterable[Row], path: Path = ANNOTATIONS) -> list[Row]:
    """The rows without our own annotations, but for heads that have no others; rows without any label left out."""
    with path.open(encoding="utf-8", newline="") as file:
        own = {(record["key"], record["head"]) for record in csv.DictReader(file)}
    result = []
    for row in rows:
        name = hashlib.sha256(key(row.text).encode()).hexdigest()[:16]
        known = {h: v for h, v in row.labels.items() if h in UNPUBLISHED or (name, h) not in own}
        if known:
            result.append(replace(row, labels=known))
    return result
