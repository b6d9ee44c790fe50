"""What the stages hand to each other: the content of a batch in the clear, for as long as it is screened."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import numpy as np
import structlog
from numpy.typing import NDArray

from models.registry import Manifest
from models.runtime import Classifier, Scores
from models.serving import Trials, in_share
from moderation import metrics
from moderation.domain.signals import DetectorStatus, Match, Signal
from moderation.features import ocr, views
from moderation.features.decode import Picture
from moderation.features.fingerprints import Asked
from moderation.features.views import Reading
from moderation.storage.tables import Item

log = structlog.get_logger()
NO_TRIALS = Trials()
T = TypeVar("T")
Model = TypeVar("Model", bound=Classifier[Any])
Row = NDArray[np.float64]
PARTLY = "only a part of it was looked at"
AGE = "age"
BURST = "burst"
SHADOW_SECONDS = 10.0
"""What a shadow may add to a batch at most; what it has not scored by then it does not score."""
SHADOW_CHUNK = 16
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
    # Which models judge each item, whether they find anything in it to look at or not.
    asked_models: dict[UUID, list[Manifest]] = field(default_factory=dict)
    # What versions say that decide nothing: recorded beside the signals, and no verdict hears of it.
    shadow_signals: dict[UUID, list[Signal]] = field(default_factory=dict)
    # Of what is only scored and is no item: who asked, where that is known.
    clients: dict[UUID, str] = field(default_factory=dict)

    @property
    def ids(self) -> set[UUID]:
        """Of every item: those that are leased, and those that are only scored."""
        looked_at: tuple[Text | Image, ...] = (*self.texts, *self.images)
        return {item.id for item in self.items} | {one.item for one in looked_at}

    def posted_by(self) -> Mapping[UUID, str]:
        """By whom each item was posted."""
        return self.clients or {item.id: item.client for item in self.items}

    def add_signal(self, item: UUID, signal: Signal) -> None:
        self.signals.setdefault(item, []).append(signal)

    def add_asked(self, items: Iterable[UUID], manifest: Manifest) -> None:
        for item in items:
            self.asked_models.setdefault(item, []).append(manifest)

    def add_shadow(self, item: UUID, signal: Signal) -> None:
        self.shadow_signals.setdefault(item, []).append(signal)
        metrics.SHADOWS.labels(signal.detector, str(signal.status)).inc()

    def add_late(self, manifest: Manifest, parts: int = 1) -> None:
        """Count parts that a shadow had no time for: nothing is recorded of them."""
        metrics.SHADOWS.labels(manifest.name, "late").inc(parts)

    def add_feature(self, item: UUID, part: str, name: str, maker: str, value: bytes) -> None:
        self.features.setdefault((item, part), {})[name] = (maker, value)

    def read(self, text: str) -> Reading:
        """The views of a text and the tricks in it, found once."""
        if text not in self.readings:
            self.readings[text] = views.read(text)
        return self.readings[text]

    def add_match(self, item: UUID, match: Match) -> None:
        self.matches.setdefault(item, []).append(match)


def shown(batch: Batch) -> list[tuple[Image, Picture]]:
    """The pictures that could be decoded."""
    return [(image, image.picture) for image in batch.images if image.picture is not None]


@dataclass(frozen=True, slots=True)
class Turn(Generic[Model]):
    """A model, and the items that it judges."""

    model: Model
    items: frozenset[UUID]


def turns(
    batch: Batch, champions: Sequence[Model], canaries: Sequence[Model], shares: Mapping[str, float]
) -> list[Turn[Model]]:
    """Who judges which items: a canary its share of them, the champion of this name the rest.

    The rest of a canary whose name has no champion is judged by nobody under this name.
    """
    ids = frozenset(batch.ids)
    mine = {
        one.manifest.name: frozenset(
            item for item in ids if in_share(item, shares.get(one.manifest.name, 0.0))
        )
        for one in canaries
    }
    found = [Turn(one, ids - mine.get(one.manifest.name, frozenset())) for one in champions]
    found += [Turn(one, mine[one.manifest.name]) for one in canaries]
    return [turn for turn in found if turn.items]


@contextmanager
def contained(manifest: Manifest) -> Iterator[None]:
    """Whatever happens in here keeps nobody from a verdict: it is written to the log and counted."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the verdict is made, and what is only watched must not undo it
        log.warning(
            "shadow_failed", model=manifest.name, version=manifest.version, error=type(error).__name__
        )
        metrics.SHADOWS.labels(manifest.name, "failed").inc()


def in_time(score: Callable[[Sequence[T]], Scores], inputs: Sequence[T]) -> list[Row | None]:
    """As `each_or_none`, of the first inputs, as many as there is time for.

    A shadow that is far slower than what decides must not hold up everybody's verdicts.
    """
    until = time.monotonic() + SHADOW_SECONDS
    found: list[Row | None] = []
    while len(found) < len(inputs) and time.monotonic() < until:
        found += each_or_none(score, inputs[len(found) : len(found) + SHADOW_CHUNK])
    return found


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
