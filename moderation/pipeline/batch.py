"""What the stages hand to each other: the content of a batch in the clear, for as long as it is screened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from models.registry import Manifest
from models.runtime import Scores
from moderation.domain.signals import DetectorStatus, Match, Signal
from moderation.features import ocr, views
from moderation.features.decode import Picture
from moderation.features.fingerprints import Asked
from moderation.features.views import Reading
from moderation.storage.tables import Item

T = TypeVar("T")
Row = NDArray[np.float64]
PARTLY = "only a part of it was looked at"
AGE = "age"
BURST = "burst"
RULES = frozenset({AGE, BURST})
"""Detectors that tell one thing of a text, with a probability, and have judged it for nothing else."""


@dataclass(frozen=True, slots=True)
class Text:
    """One text part, with the digest by which a bank knows it."""

    item: UUID
    part: str
    text: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Image:
    """One image part: its digest, and its picture unless it could not be decoded."""

    item: UUID
    part: str
    digest: bytes
    picture: Picture | None


@dataclass(slots=True)
class Batch:
    """The items leased under one token, their content, and what the stages found so far."""

    items: Sequence[Item]
    now: datetime
    texts: list[Text] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    signals: dict[UUID, list[Signal]] = field(default_factory=dict)
    matches: dict[UUID, list[Match]] = field(default_factory=dict)
    kinds: dict[UUID, set[str]] = field(default_factory=dict)  # of each item's parts, opened or not
    languages: dict[tuple[UUID, str], str] = field(default_factory=dict)  # of each text, by item and part
    readings: dict[str, Reading] = field(default_factory=dict)  # of each text, once it was asked for
    restricted: set[UUID] = field(default_factory=set)  # no stage looks at these: people decide
    # What banks are asked by, of each picture that was hashed, by item and part.
    asked: dict[tuple[UUID, str], Asked] = field(default_factory=dict)
    # What is kept of pictures to find their like again: by item and part, under its name, who made it and what.
    features: dict[tuple[UUID, str], dict[str, tuple[str, bytes]]] = field(default_factory=dict)
    # What stands in pictures, by item and the picture's part; its text is one of `texts` as well.
    written: dict[tuple[UUID, str], ocr.Reading] = field(default_factory=dict)

    def add_signal(self, item: UUID, signal: Signal) -> None:
        self.signals.setdefault(item, []).append(signal)

    def add_feature(self, item: UUID, part: str, name: str, maker: str, value: bytes) -> None:
        self.features.setdefault((item, part), {})[name] = (maker, value)

    def read(self, text: str) -> Reading:
        """The views of a text and the tricks in it, found once."""
        if text not in self.readings:
            self.readings[text] = views.read(text)
        return self.readings[text]

    def add_match(self, item: UUID, match: Match) -> None:
        self.matches.setdefault(item, []).append(match)


def each_or_none(score: Callable[[Sequence[T]], Scores], inputs: Sequence[T]) -> list[Row | None]:
    """Scores of all inputs at once; if that raises, of each alone, with None for those that raise.

    So one text that breaks a classifier costs its batch a second pass and nobody else their verdict.
    """
    if not inputs:
        return []
    try:
        return list(score(inputs))
    except Exception:  # noqa: BLE001 - whatever a model raises, the item is told that it failed
        return [_alone(score, one) for one in inputs]


def _alone(score: Callable[[Sequence[T]], Scores], one: T) -> Row | None:
    try:
        row: Row = score([one])[0]
    except Exception:  # noqa: BLE001 - as above
        return None
    return row


def over_frames(part: str, manifest: Manifest, picture: Picture, rows: Sequence[Row | None]) -> Signal:
    """The signal of a classifier that judged each frame of a picture: of each category the highest score.

    Failed where it could not judge one of them, and where an animation goes on beyond what was looked at.
    """
    said = [row for row in rows if row is not None]
    if len(said) < len(rows) or not rows:
        return failed(part, manifest.name, manifest.version, "error")
    scores = dict(zip(manifest.categories, map(float, np.max(said, axis=0)), strict=True))
    status, evidence = DetectorStatus.OK, {}
    if picture.reached < picture.total:
        status, evidence = DetectorStatus.FAILED, {"cause": PARTLY}
    return Signal(part, manifest.name, manifest.version, status, scores, evidence)


def part_name(picture: str) -> str:
    """What the text that stands in a picture is called; no posted part has a dot in its name."""
    return f"{picture}.text"


def failed(part: str, detector: str, version: str, cause: str) -> Signal:
    """The signal of a detector that could not speak, naming the cause in one word."""
    return Signal(part, detector, version, DetectorStatus.FAILED, {}, {"cause": cause})
