"""What was decided by one model, scored by another: decisions restated from what was found in the shadow.

What a version says of an item does not depend on whether anybody acted on it, and whether an item was drawn did not
depend on what the version said. So the blind checks of what others decided are evidence for it too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation.domain.policy import Policy
from moderation.domain.signals import DetectorStatus
from moderation.governance import lineage, lineups
from moderation.governance.checks import CHUNK, Period, Seen
from moderation.governance.lineups import Known, Name
from moderation.storage.database import among
from moderation.storage.ids import lower_bound
from moderation.storage.tables import Case, Opinion, SignalRow


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that decides nothing yet, whose shadow signals take the place of the champion's of its name."""

    name: str
    version: str


@dataclass(slots=True)
class Tally:
    """How many decisions a shadow could have scored, and how many it has: of those people judged, and of the rest.

    A back-test scores everything that people judged and a draw of the rest. Read as the traffic, that would be too
    much of what was judged: `kept` says which share of either is to be kept.
    """

    there: Counter[bool] = field(default_factory=Counter)
    scored: Counter[bool] = field(default_factory=Counter)

    def add(self, asked: Sequence[UUID], scored: Collection[UUID], judged: Collection[UUID]) -> None:
        """Count a piece."""
        for item in asked:
            self.there[item in judged] += 1
            self.scored[item in judged] += item in scored

    def kept(self, *, judged: bool) -> float:
        """Which share of the restated decisions of this kind makes both kinds as frequent as they are."""
        share = {kind: self.scored[kind] / self.there[kind] for kind in self.there if self.scored[kind]}
        return min(share.values()) / share[judged] if judged in share else 1.0


def stand_ins(session: Session, candidate: Candidate | None) -> list[tuple[Name, ...]]:
    """Which versions could have decided together: the champions, and these with a canary or the candidate."""
    champions = lineups.with_alias(session, lineups.SERVING[0])
    others = sorted(lineups.with_alias(session, *lineups.SERVING) - champions)
    others += [(candidate.name, candidate.version)] if candidate else []
    sets = [champions, *({one for one in champions if one[0] != other[0]} | {other} for other in others)]
    return [tuple(sorted(one)) for one in sets]


def all_there(policy: Policy, period: Period) -> datetime:
    """From when on no item has ended by its clock: shadow signals end with their item, the allowed ones first.

    Read further back, what people removed would still be there and what they let pass would not.
    """
    kept = policy.retention
    named = {kept.review, kept.allow, kept.limit, kept.remove, *kept.by_category.values()}
    days = min(kept.classes[name].days for name in named)
    return max(period.since, period.at - timedelta(days=days))


def restated(
    session: Session,
    known: Known,
    sets: Sequence[tuple[Name, ...]],
    rows: Iterable[Seen],
    youngest: datetime,
    tally: Tally,
) -> Iterator[list[Seen]]:
    """Each decision as it was, and as it would be with each of `sets` in place of what decided, where known.

    So one decision may stand for several lineups, and for each of them once. `tally` counts what could be restated.
    """
    bound = lower_bound(youngest)
    names = sorted({version for one in sets for version in one})
    taken = lineage.taken(session, names)
    left = iter(rows)
    while chunk := list(islice(left, CHUNK)):
        wanted = [
            one.item
            for one in chunk
            if one.decision >= bound
            and taken.leaves(one.decision, one.item)
            and any(version not in one.versions and asked(known, version, one) for version in names)
        ]
        signals = _signals(session, names, wanted)
        # What a version has learned from proves nothing of it: as if it had never been scored.
        learned = lineage.learned(session, names, list(signals))
        signals = {item: those for item, those in signals.items() if item not in learned}
        judged = _judged(session, wanted) if signals else set[UUID]()
        tally.add(wanted, signals, judged)
        for one in chunk:
            views = {frozenset(one.versions): one}
            for versions in sets if one.item in signals else ():
                made = _as_scored(known, versions, one, signals[one.item])
                views.setdefault(frozenset(made.versions), replace(made, judged=one.item in judged))
            yield list(views.values())


def _judged(session: Session, items: Sequence[UUID]) -> set[UUID]:
    """Those of `items` that people judged, or are asked about blind."""
    drawn = select(Case.item_id).where(among(Case.item_id, items), Case.blind)
    return set(session.scalars(select(Opinion.item_id).where(among(Opinion.item_id, items)).union(drawn)))


_Signal = tuple[str, str, bool, Mapping[str, float]]  # part, detector, whether in the shadow, scores


def _signals(session: Session, stand_ins: Sequence[Name], items: Sequence[UUID]) -> dict[UUID, list[_Signal]]:
    """The signals of those of `items` that a stand-in has scored in the shadow."""
    if not items or not stand_ins:
        return {}
    names = [f"{name}:{version}" for name, version in stand_ins]
    shadowed = session.scalars(
        select(SignalRow.item_id).where(
            among(SignalRow.item_id, items),
            SignalRow.shadow,
            SignalRow.detector.in_(names),
            SignalRow.status == DetectorStatus.OK,
        )
    )
    found: dict[UUID, list[_Signal]] = {item: [] for item in set(shadowed)}
    if not found:
        return {}
    rows = session.execute(
        select(
            SignalRow.item_id, SignalRow.part, SignalRow.detector, SignalRow.shadow, SignalRow.scores
        ).where(among(SignalRow.item_id, list(found)), SignalRow.status == DetectorStatus.OK)
    )
    for item, part, detector, shadow, scores in rows:
        if not shadow or detector in names:
            found[item].append((part, detector, shadow, scores))
    return found


def _as_scored(known: Known, stand_ins: Sequence[Name], one: Seen, signals: Sequence[_Signal]) -> Seen:
    """A decision's scores and detectors with those stand-ins in place that have scored it in the shadow."""
    there = [
        version
        for version in stand_ins
        if version not in one.versions and asked(known, version, one) and _said_all(known, version, signals)
    ]
    if not there:
        return one
    names = {name for name, _ in there}
    overruled: dict[str, set[str]] = {}  # base -> categories that a head takes over
    for version in there:
        if (about := known.get(version)) is not None and about.base:
            overruled.setdefault(about.base, set()).update(about.categories)
    wanted = {f"{name}:{version}" for name, version in there}
    scores: dict[str, float] = {}
    for _, detector, shadow, given in signals:
        if (detector not in wanted) if shadow else (detector in names):
            continue
        base = detector.partition(":")[0]
        for category, score in given.items():
            if category not in overruled.get(base, ()):
                scores[category] = max(round(score, 4), scores.get(category, 0.0))
    versions = tuple(version for version in one.versions if version[0] not in names)
    return replace(one, scores=scores, versions=(*versions, *there))


def _said_all(known: Known, version: Name, signals: Sequence[_Signal]) -> bool:
    """Whether a stand-in has scored each part that was scored by what it stands in for.

    A shadow that ran out of time, or failed, has scored some: the worst may be in the others.
    """
    name, about = version[0], known.get(version)
    said = {part for part, detector, shadow, _ in signals if shadow and detector == ":".join(version)}
    scored = {detector: set[str]() for _, detector, shadow, _ in signals if not shadow}
    for part, detector, shadow, _ in signals:
        if not shadow:
            scored[detector].add(part)
    base = about.base if about is not None and about.base else name
    return bool(said) and scored.get(name, scored.get(base, set())) <= said


def asked(known: Known, version: Name, one: Seen) -> bool:
    """Whether an item of this content service would be put before the version."""
    about = known.get(version)
    return about is None or not about.clients or one.client in about.clients
