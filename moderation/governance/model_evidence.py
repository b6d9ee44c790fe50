"""What the pages of a version show beside its gates: curves, what it learned from, and how long it may serve on.

Curves and sources are read from its manifest, as training writes them; whatever has another shape is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from models import registry
from models.registry import ArtifactError
from moderation.domain.policy import Policy
from moderation.governance import model_ages, models
from moderation.governance.model_lists import Version
from moderation.storage.tables import Bundle

MOST_DIGITS = 16
LARGEST = 12  # sources that are named; the rest is counted together


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows of about the same probability: its mean, the share of them that were positive, and how many."""

    probability: float
    share: float
    rows: float

    @property
    def points(self) -> tuple[float, float, float]:
        """As plain numbers."""
        return self.probability, self.share, self.rows


@dataclass(frozen=True, slots=True)
class Cut:
    """What a threshold would find: how much of it is right, and how much of what there is it finds."""

    threshold: float
    precision: float
    recall: float

    @property
    def points(self) -> tuple[float, float, float]:
        """As plain numbers."""
        return self.threshold, self.precision, self.recall


@dataclass(frozen=True, slots=True)
class Curves:
    """One category on held-out rows; empty where training kept no points."""

    category: str
    reliability: tuple[Bin, ...]
    precision_recall: tuple[Cut, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Where labels came from, and how many rows."""

    name: str
    rows: int


@dataclass(frozen=True, slots=True)
class Learned:
    """A bundle it learned from; without `created_at` it is not known here any more."""

    id: UUID
    created_at: datetime | None
    rows: int
    withdrawn: int
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that is told of one version beside its gates.

    `erased` rows of what it learned from are gone since; then `due_at` is when it has to be retired.
    """

    curves: tuple[Curves, ...]
    bundles: tuple[Learned, ...]
    sources: tuple[Source, ...]
    agreement: tuple[Source, ...]  # the same labels by how they were settled
    policies: tuple[str, ...]
    base: str
    erased: int
    tainted_at: datetime | None
    due_at: datetime | None
    retired_at: datetime | None


def of(session: Session, policy: Policy, version: Version) -> Evidence:
    """What is known of a version that exists."""
    row = models.find(session, version.name, version.version)
    try:
        document = registry.read(version.folder).document
    except ArtifactError:
        document = {}
    labels = _mapping(_mapping(document.get("training")).get("labels"))
    return Evidence(
        curves=tuple(_curves(document)),
        bundles=tuple(_learned(session, one) for one in row.bundles),
        sources=tuple(_sources(labels, document)),
        agreement=tuple(_counted(labels.get("by_agreement"))),
        policies=tuple(sorted(_mapping(labels.get("by_policy_version")), key=lambda one: (len(one), one))),
        base=_base(document),
        erased=row.erased,
        tainted_at=row.tainted_at,
        due_at=model_ages.due_at(policy, row),
        retired_at=row.retired_at,
    )


def _curves(document: Mapping[str, Any]) -> list[Curves]:
    metrics = _mapping(document.get("metrics"))
    found = [
        Curves(
            str(name),
            tuple(Bin(*point) for point in _points(_mapping(entry).get("reliability"))),
            tuple(Cut(*point) for point in _points(_mapping(entry).get("precision_recall"))),
        )
        for name, entry in _mapping(metrics.get("curves")).items()
    ]
    return [one for one in found if one.reliability or one.precision_recall]


def _points(value: object) -> list[tuple[float, float, float]]:
    """Triples of numbers; nothing where one of them is something else."""
    found = []
    for point in _sequence(value):
        numbers = _sequence(point)
        if len(numbers) != 3 or not all(isinstance(number, int | float) for number in numbers):
            return []
        found.append((float(numbers[0]), float(numbers[1]), float(numbers[2])))
    return found


def _sources(labels: Mapping[str, Any], document: Mapping[str, Any]) -> list[Source]:
    """Labels by source: as whoever fitted a head counted them, or the rows a network was trained on."""
    trained = _mapping(_mapping(_mapping(document.get("data")).get("counts")).get("train"))
    rows = {name: _mapping(entry).get("rows") for name, entry in trained.items()}
    counted = _counted(labels.get("by_source") or rows)
    rest = counted[LARGEST:]
    if len(rest) > 1:
        return [*counted[:LARGEST], Source(f"{len(rest)} others", sum(one.rows for one in rest))]
    return counted


def _counted(value: object) -> list[Source]:
    """Numbers by name, the largest first."""
    found = [
        Source(str(name), int(str(count))) for name, count in _mapping(value).items() if _is_count(count)
    ]
    return sorted(found, key=lambda one: (-one.rows, one.name))


def _is_count(value: object) -> bool:
    """Whether it is a number of rows; counts of sources are written as words."""
    return str(value).isdecimal() and len(str(value)) < MOST_DIGITS and int(str(value)) > 0


def _base(document: Mapping[str, Any]) -> str:
    """The version that a head stands on, in words."""
    base = _mapping(_mapping(document.get("input")).get("base"))
    return f"{base['name']} {base['version']}" if {"name", "version"} <= set(base) else ""


def _learned(session: Session, bundle_id: UUID) -> Learned:
    row = session.get(Bundle, bundle_id)
    if row is None:
        return Learned(bundle_id, None, 0, 0, None)
    return Learned(bundle_id, row.created_at, row.rows, row.withdrawn, row.ended_at)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: object) -> Sequence[Any]:
    return value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else ()
