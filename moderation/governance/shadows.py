"""Shadows: what versions said that decided nothing, and how far they agree with what decided.

A shadow's scores stand among the signals of an item, marked, and under a name of their own: `text-minilm:3`. They
end with their item. No verdict, no finding and no page of a case reads them; this module does.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from heapq import nlargest
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from moderation.domain.policy import Bands, Policy
from moderation.domain.routing import Route, route
from moderation.domain.signals import DetectorStatus, Signal
from moderation.storage.database import among
from moderation.storage.ids import lower_bound
from moderation.storage.tables import SignalRow

INSTEAD_OF = "instead_of"
"""In a shadow's evidence: whose scores it would take the place of, where that is not the model of its own name."""
NEWEST_SIGNALS = 200_000
MOST_ITEMS = 2_000
MOST_EXAMPLES = 20
PAGE = 500

Scores = Mapping[str, float]
"""The highest score of each category over an item's parts."""
Said = Row[tuple[UUID, str, str, dict[str, float], dict[str, Any], bool]]
_SAID = select(
    SignalRow.item_id,
    SignalRow.detector,
    SignalRow.version,
    SignalRow.scores,
    SignalRow.evidence,
    SignalRow.shadow,
)


def detector_of(name: str, version: str) -> str:
    """How the signals of a shadow name it: no name of a model has a colon."""
    return f"{name}:{version}"


def row(item: UUID, signal: Signal, *, shadow: bool = False) -> dict[str, Any]:
    """A signal as it is stored."""
    return {
        "item_id": item,
        "part": signal.part,
        "detector": detector_of(signal.detector, signal.version) if shadow else signal.detector,
        "version": signal.version,
        "status": signal.status,
        "scores": {category: round(score, 5) for category, score in signal.scores.items()},
        "evidence": dict(signal.evidence),
        "shadow": shadow,
    }


def store(session: Session, found: Mapping[UUID, Sequence[Signal]]) -> int:
    """Add what a version says of items that were decided long ago; what it said before stays. How many were new."""
    rows = [row(item, signal, shadow=True) for item, signals in found.items() for signal in signals]
    if not rows:
        return 0
    added = session.scalars(
        insert(SignalRow).values(rows).on_conflict_do_nothing().returning(SignalRow.item_id)
    ).all()
    return len(added)


@dataclass(frozen=True, slots=True)
class Both:
    """One item's scores as they were, and as they would be with the shadow in the champion's place."""

    was: Scores
    would_be: Scores
    shadow: Scores  # what the shadow itself said


@dataclass(frozen=True, slots=True)
class CategoryAgreement:
    """How far a shadow agrees on one category. `changed` counts items by route as it was and as it would be.

    `correlation` is Spearman's, of the scores; None with fewer than three items, or where all are alike.
    """

    category: str
    items: int
    changed: Mapping[tuple[Route, Route], int]
    correlation: float | None

    @property
    def changes(self) -> int:
        return sum(self.changed.values())


@dataclass(frozen=True, slots=True)
class Example:
    """An item on which the two differ most, in one category. It holds no content."""

    item: UUID
    category: str
    was: float
    would_be: float
    route: Route
    would_route: Route


@dataclass(frozen=True, slots=True)
class Agreement:
    """A shadow beside what decided, over the newest items that both scored, by the policy's bands.

    `changed` of `items` would have another route, as far as scores decide it; `failed` items it could not judge.
    """

    name: str
    version: str
    items: int
    changed: int
    failed: int
    categories: tuple[CategoryAgreement, ...] = ()
    examples: tuple[Example, ...] = ()


def agreement(
    session: Session,
    policy: Policy,
    name: str,
    version: str,
    since: datetime,
    *,
    most_items: int = MOST_ITEMS,
    most_examples: int = MOST_EXAMPLES,
) -> Agreement:
    """How a version that decides nothing agrees with what decides, over the newest items received since then.

    Thresholds are the bands of `policy`, without what certificates in force put in their place. What the same
    version has decided as a canary is left out, for it would agree with itself.
    """
    ids, failed = _seen(session, name, version, since, most_items)
    compared = _Compared(policy)
    for item, both in read(session, name, version, ids).items():
        compared.add(item, both)
    return Agreement(
        name,
        version,
        compared.items,
        compared.moved,
        failed,
        compared.categories(),
        compared.examples(most_examples),
    )


def read(session: Session, name: str, version: str, ids: Collection[UUID]) -> dict[UUID, Both]:
    """Both scores of every item of `ids` that this version has scored without deciding it, and others have too."""
    found = {}
    for page in _pages(ids):
        rows: dict[UUID, list[Said]] = {}
        wanted = or_(~SignalRow.shadow, SignalRow.detector == detector_of(name, version))
        for one in session.execute(_SAID.where(among(SignalRow.item_id, page), wanted)):
            rows.setdefault(one.item_id, []).append(one)
        for item, its in rows.items():
            both = _both(name, version, its)
            if both is not None:
                found[item] = both
    return found


def scores(session: Session, name: str, version: str, ids: Collection[UUID]) -> dict[UUID, Scores]:
    """What a version said without deciding: of each item that it scored, the highest score of each category."""
    found: dict[UUID, Scores] = {}
    for page in _pages(ids):
        mine = _SAID.where(among(SignalRow.item_id, page), SignalRow.detector == detector_of(name, version))
        by_item: dict[UUID, list[Said]] = {}
        for one in session.execute(mine):
            by_item.setdefault(one.item_id, []).append(one)
        found |= {item: highest for item, its in by_item.items() if (highest := _highest(its))}
    return found


def _pages(ids: Collection[UUID]) -> Iterator[list[UUID]]:
    every = list(ids)
    for start in range(0, len(every), PAGE):
        yield every[start : start + PAGE]


def _seen(session: Session, name: str, version: str, since: datetime, most: int) -> tuple[list[UUID], int]:
    """The newest items of which the version said something, and of how many it could say nothing."""
    newest = (
        select(
            SignalRow.item_id,
            SignalRow.detector,
            or_(SignalRow.status == DetectorStatus.OK, SignalRow.scores != {}).label("spoke"),
        )
        .where(SignalRow.item_id >= lower_bound(since))
        .order_by(SignalRow.item_id.desc())
        .limit(NEWEST_SIGNALS)
        .subquery()
    )
    rows = session.execute(
        select(newest.c.item_id, func.bool_and(newest.c.spoke))
        .where(newest.c.detector == detector_of(name, version))
        .group_by(newest.c.item_id)
        .order_by(newest.c.item_id.desc())
        .limit(most)
    ).all()
    spoke = [item for item, good in rows if good]
    return spoke, len(rows) - len(spoke)


def _both(name: str, version: str, rows: Sequence[Said]) -> Both | None:
    """What was said of one item, and what would be; None where the two can't be told apart or one said nothing."""
    mine = [one for one in rows if one.shadow]
    others = [one for one in rows if not one.shadow]
    if not mine or any((one.detector, one.version) == (name, version) for one in others):
        return None
    shadow, was = _highest(mine), _highest(others)
    replaced = {str(one.evidence.get(INSTEAD_OF, name)) for one in mine} | {name}
    left = [
        {
            category: score
            for category, score in one.scores.items()
            # A new version stands for the whole of the old one; a head only for what it speaks of.
            if one.detector != name and (one.detector not in replaced or category not in shadow)
        }
        for one in others
    ]
    would_be = dict(shadow)
    for those in left:
        for category, score in those.items():
            would_be[category] = max(score, would_be.get(category, 0.0))
    return Both(was, would_be, shadow) if shadow and was else None


def _highest(rows: Sequence[Said]) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in rows:
        for category, score in one.scores.items():
            found[category] = max(score, found.get(category, 0.0))
    return found


@dataclass(slots=True)
class _Compared:
    """What was compared so far: by category the two scores of each item, and where they lead elsewhere."""

    policy: Policy
    items: int = 0
    moved: int = 0
    pairs: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    changed: dict[str, Counter[tuple[Route, Route]]] = field(default_factory=dict)
    found: list[tuple[bool, float, UUID, str, float, float]] = field(default_factory=list)

    def add(self, item: UUID, both: Both) -> None:
        """Count one item, in each category that the shadow speaks of."""
        self.items += 1
        elsewhere = False
        for category in both.shadow:
            rule = self.policy.categories.get(category)
            if rule is None or category not in both.was:
                continue
            was, would_be = both.was[category], both.would_be[category]
            self.pairs.setdefault(category, []).append((was, would_be))
            moved = _zone(rule.bands, was) != _zone(rule.bands, would_be)
            if moved:
                before, after = (_route(self.policy, {category: score}) for score in (was, would_be))
                moved = before is not after
                self.changed.setdefault(category, Counter())[before, after] += moved
            elsewhere |= moved
            self.found.append((moved, abs(would_be - was), item, category, was, would_be))
        if elsewhere:
            self.moved += _route(self.policy, both.was) is not _route(self.policy, both.would_be)

    def examples(self, most: int) -> tuple[Example, ...]:
        """Where the two differ most, first where that leads elsewhere."""
        return tuple(
            Example(
                item,
                category,
                was,
                would_be,
                _route(self.policy, {category: was}),
                _route(self.policy, {category: would_be}),
            )
            for _, _, item, category, was, would_be in nlargest(most, self.found, key=lambda one: one[:2])
        )

    def categories(self) -> tuple[CategoryAgreement, ...]:
        """In the order of the policy."""
        return tuple(
            CategoryAgreement(
                name,
                len(self.pairs[name]),
                dict(+self.changed.get(name, Counter())),
                spearman(self.pairs[name]),
            )
            for name in self.policy.categories
            if name in self.pairs
        )


def _zone(bands: Bands, score: float) -> int:
    """Between which thresholds a score lies."""
    limits = (bands.allow_below, bands.limit_from, bands.remove_from)
    return bisect_right(sorted(limit for limit in limits if limit is not None), score)


def _route(policy: Policy, said: Scores) -> Route:
    """Where these scores alone would lead."""
    return route(policy, [Signal("", "", "", DetectorStatus.OK, said)], ()).route


def spearman(pairs: Sequence[tuple[float, float]]) -> float | None:
    """The correlation of ranks (Spearman 1904), ties by their mean rank; None where it says nothing."""
    if len(pairs) < 3:
        return None
    left, right = (_ranks([pair[side] for pair in pairs]) for side in (0, 1))
    mean = (len(pairs) + 1) / 2
    across = sum((a - mean) * (b - mean) for a, b in zip(left, right, strict=True))
    spread = [sum((rank - mean) ** 2 for rank in side) for side in (left, right)]
    return None if 0 in spread else float(across / (spread[0] * spread[1]) ** 0.5)


def _ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    for start, end in _ties([values[index] for index in ordered]):
        for index in ordered[start:end]:
            ranks[index] = (start + end + 1) / 2
    return ranks


def _ties(ordered: Sequence[float]) -> Iterator[tuple[int, int]]:
    """Runs of equal values, as slices."""
    start = 0
    for index in range(1, len(ordered) + 1):
        if index == len(ordered) or ordered[index] != ordered[start]:
            yield start, index
            start = index
