"""From blind checks to proofs: what a period holds for each promise, and how far each of them can be proved.

Nothing is written here. How a proof is made is `domain.certificates`; what counts as evidence is decided here:
decisions made under rules that say the same of the category as today's, by models that decide today, in slices
that can be told apart as today's.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation.domain import certificates, drift
from moderation.domain.certificates import Checks, Proof
from moderation.domain.policy import Policy
from moderation.domain.promises import EVERYTHING, Side, Stratum
from moderation.governance import checks, lineups, policies
from moderation.governance.checks import Drawn, Period, Seen, State
from moderation.governance.lineups import Known, Name
from moderation.governance.policies import PolicyCache
from moderation.governance.restating import Candidate, Tally, all_there, restated
from moderation.storage.ids import lower_bound
from moderation.storage.tables import Decision

RECENT = timedelta(days=7)
RECENTLY = 5_000
"""What decides today is read off so many of the newest decisions."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of one promise: for a category, a side, a slice and a lineup.

    `drawn` are the blind checks of the period. Those that nobody answered in time are `overdue` and count as
    mistakes; those whose content ended before anybody looked are `withdrawn` and left out. `checks` and `mistakes`
    are of the region that was proved, or of the one that comes nearest. `share` is what the rule would decide by
    itself, of `decisions`. `tried`: part of the level was spent on it. `data` is the digest of the checks.
    """

    category: str
    side: Side
    slice: str
    lineup: str
    allowed: float
    level: float
    tried: bool
    threshold: float | None
    bound: float | None
    share: float | None
    decisions: int
    drawn: int
    overdue: int
    withdrawn: int
    checks: int
    mistakes: int
    needed: int
    curve: Sequence[Mapping[str, Any]] = ()
    data: str = ""
    reference: Mapping[str, Any] = field(default_factory=dict)
    certificate: UUID | None = None

    @property
    def proved(self) -> bool:
        """Whether the promise was proved."""
        return self.threshold is not None


@dataclass(slots=True)
class Stream:
    """What a period holds of one category, slice and lineup: the traffic, and the checks."""

    scores: array[float] = field(default_factory=lambda: array("d"))
    propensities: array[float] = field(default_factory=lambda: array("d"))
    judged: array[int] = field(default_factory=lambda: array("b"))  # `_KIND` of each
    drawn: list[Drawn] = field(default_factory=list)
    drawn_scores: list[float] = field(default_factory=list)

    def count(self, state: State) -> int:
        """How many checks are in a state."""
        return sum(one.state is state for one in self.drawn)

    def thin(self, tally: Tally) -> None:
        """Keep of what a back-test scored so much that judged and other decisions are as frequent as they are."""
        shares = {_KIND[judged]: tally.kept(judged=judged) for judged in (True, False)}
        if min(shares.values()) > _EVEN:
            return
        chances = np.random.default_rng(0).random(len(self.judged))
        kept = chances < np.array([shares.get(kind, 1.0) for kind in self.judged])
        self.scores = array("d", np.asarray(self.scores)[kept])
        self.propensities = array("d", np.asarray(self.propensities)[kept])
        self.judged = array("b", np.asarray(self.judged)[kept])


_KIND = {None: 0, False: 1, True: 2}
_EVEN = 0.9
Key = tuple[str, str, str]
"""Category, slice, lineup."""


def promised(policy: Policy) -> list[tuple[str, Side, float]]:
    """What a policy promises: category, side, and the share of mistakes it allows."""
    found = []
    for name, rule in policy.categories.items():
        for side, allowed in (
            (Side.REMOVE, rule.promise.wrong_at_most),
            (Side.ALLOW, rule.promise.missed_at_most),
        ):
            if allowed is not None:
                found.append((name, side, allowed))
    return found


def period_of(policy: Policy, at: datetime) -> Period:
    """What is looked at in a certification made `at`: what is younger than the time people have is left out."""
    rules = policy.certificates
    settle = timedelta(hours=rules.settle_hours)
    return Period(at - settle - timedelta(days=rules.period_days), at - settle, at, settle)


def deciding(session: Session, policy: Policy, known: Known, now: datetime) -> dict[str, list[str]]:
    """The lineups that decide today, by promised category: of the newest decisions those whose models all serve.

    Where there are none yet it is the champions that score the category.
    """
    serving = lineups.with_alias(session, *lineups.SERVING)
    champions = lineups.with_alias(session, lineups.SERVING[0])
    rows = session.execute(
        select(Decision.detectors, Decision.findings)
        .where(
            Decision.id >= lower_bound(now - RECENT),
            Decision.decided_by == "machine",
            Decision.supersedes.is_(None),
            Decision.stratum.in_([str(one) for one in Stratum if one is not Stratum.OTHER]),
        )
        .order_by(Decision.id.desc())
        .limit(RECENTLY)
    )
    wanted = sorted({category for category, _, _ in promised(policy)})
    found: dict[str, set[str]] = {category: set() for category in wanted}
    reader = lineups.Reader(known)
    for detectors, findings in rows:
        versions = tuple((one["name"], one["version"]) for one in detectors)
        for finding in findings:
            if (category := finding["category"]) in found:
                found[category].add(reader.of(category, versions))
    result = {}
    for category, seen in found.items():
        there = sorted(one for one in seen if one and lineups.serves(one, serving))
        alone = reader.of(category, tuple(sorted(champions)))
        result[category] = there or ([alone] if alone else [])
    return result


def with_candidate(
    session: Session, policy: Policy, known: Known, streams: Mapping[Key, Stream], candidate: Candidate
) -> dict[str, list[str]]:
    """The lineups that would decide with a candidate in its place, by promised category.

    Categories that it does not score stay as they are, and are none of its business.
    """
    version = (candidate.name, candidate.version)
    serving = lineups.with_alias(session, *lineups.SERVING)
    champions = {one for one in lineups.with_alias(session, lineups.SERVING[0]) if one[0] != candidate.name}
    found = {}
    for category in {name for name, _, _ in promised(policy)}:
        seen = {lineup for name, _, lineup in streams if name == category}
        there = sorted(
            one
            for one in seen
            if version in lineups.members(one) and lineups.serves(one, serving | {version})
        )
        alone = lineups.Reader(known).of(category, tuple(sorted({*champions, version})))
        scored = known[version].categories
        found[category] = there or ([alone] if category in scored else [])
    return found


def usable(session: Session, policy: Policy, period: Period) -> dict[tuple[str, str], frozenset[int]]:
    """Which versions' decisions count, by category and slice.

    Going back from `policy` as long as the clauses of the category say the same: what people were asked about a
    decision is what they would be asked today. The slices of a version have to tell what belongs to today's.
    """
    cache, rules = PolicyCache(), policy.certificates
    older = [cache.version(session, version) for version in _were_in_force(session, policy.version, period)]
    found = {}
    for category in {name for name, _, _ in promised(policy)}:
        asked = policy.clauses_of(category)
        same = [policy]
        for before in older:
            if before.clauses_of(category) != asked:
                break
            same.append(before)
        for slice_ in rules.slices:
            found[category, slice_] = frozenset(
                one.version for one in same if _can_be_told(slice_, rules.languages, one)
            )
    return found


def _were_in_force(session: Session, version: int, period: Period) -> list[int]:
    """Versions before `version` that were in force at some time of the period, the newest first."""
    found: list[int] = []
    for one in policies.versions(session, period.at):
        if one.version >= version or one.state in (policies.State.OVERTAKEN, policies.State.ANNOUNCED):
            continue
        found.append(one.version)
        if one.effective_at <= period.since:
            break
    return found


def _can_be_told(slice_: str, languages: Collection[str], before: Policy) -> bool:
    """Whether the slices of an older version say what belongs to `slice_`.

    A language that it did not name can't be told from the others; one that it named can be put with them.
    """
    then = before.certificates.languages
    return set(languages) <= set(then) if slice_ == EVERYTHING else slice_ in then


def gather(
    session: Session,
    policy: Policy,
    known: Known,
    period: Period,
    sets: Sequence[tuple[Name, ...]],
    *,
    most: int = checks.MOST,
) -> dict[Key, Stream]:
    """What the period holds of each promise that can be kept, by category, slice and lineup.

    Beside what decided then it is read as each of `sets` (`restating.stand_ins`) would have scored it, where the
    shadow tells. Of the traffic about `most` decisions are read, of the checks every one.
    """
    counted = usable(session, policy, period)
    wanted = {category for category, _ in counted}
    youngest = all_there(policy, period)
    reader, slice_of = lineups.Reader(known), policy.certificates.slice_of
    streams: dict[Key, Stream] = {}

    def streams_of(views: Sequence[Seen]) -> Iterator[tuple[Stream, Seen, float]]:
        counted_in: set[Key] = set()  # a model that does not score a category changes nothing of its lineup
        for one in views:
            for category in wanted & one.scores.keys():
                key = (category, slice_of(one.slice), reader.of(category, one.versions))
                usable_here = one.policy_version in counted.get(key[:2], ()) and key[2]
                if usable_here and key not in counted_in:
                    counted_in.add(key)
                    yield streams.setdefault(key, Stream()), one, one.scores[category]

    tally = Tally()
    seen = checks.traffic(session, period, wanted, most)
    for views in restated(session, known, sets, seen, youngest, tally):
        for stream, one, score in streams_of(views):
            stream.scores.append(score)
            stream.propensities.append(one.propensity)
            stream.judged.append(_KIND[one.judged])
    for stream in streams.values():
        stream.thin(tally)
    found = checks.drawn(session, period, wanted)
    others = restated(session, known, sets, [one.seen for one in found], youngest, Tally())
    for check, views in zip(found, others, strict=True):
        for stream, one, score in streams_of(views):
            stream.drawn.append(replace(check, seen=one))
            stream.drawn_scores.append(score)
    return streams


def attempts(
    policy: Policy, streams: Mapping[Key, Stream], deciding: Mapping[str, Sequence[str]], level: float
) -> list[Attempt]:
    """Try every promise for every slice and lineup; `level` is of all of it, divided over what is tried.

    What could not be proved even if every check were right, with all of the level, is not tried and costs nothing:
    that is known from the number of checks alone.
    """
    rules = policy.certificates
    wanted = [
        (category, side, allowed, slice_, lineup)
        for category, side, allowed in promised(policy)
        for slice_ in rules.slices
        for lineup in deciding.get(category, ())
    ]
    possible = [
        len(streams[category, slice_, lineup].drawn)
        >= certificates.enough(_proved_of(policy, allowed), level)
        if (category, slice_, lineup) in streams
        else False
        for category, _, allowed, slice_, lineup in wanted
    ]
    each = level / max(1, sum(possible))
    later = level / max(1, len(wanted))
    return [
        _attempt(policy, one, streams.get((one[0], one[3], one[4])), each if tried else later, tried=tried)
        for one, tried in zip(wanted, possible, strict=True)
    ]


def _proved_of(policy: Policy, allowed: float) -> float:
    """What is proved of the checks, so that `allowed` holds of the decisions: a check may overlook a mistake."""
    return allowed * (1 - policy.certificates.overlooked)


def _attempt(
    policy: Policy,
    promise: tuple[str, Side, float, str, str],
    stream: Stream | None,
    level: float,
    *,
    tried: bool,
) -> Attempt:
    category, side, allowed, slice_, lineup = promise
    target = _proved_of(policy, allowed)
    nothing = Attempt(
        category=category, side=side, slice=slice_, lineup=lineup, allowed=allowed, level=level, tried=tried,
        threshold=None, bound=None, share=None, decisions=0, drawn=0, overdue=0, withdrawn=0, checks=0,
        mistakes=0, needed=certificates.enough(target, level),
    )  # fmt: skip
    if stream is None or not stream.scores:
        return nothing
    scores = np.asarray(stream.scores, dtype=np.float64)
    propensities = np.asarray(stream.propensities, dtype=np.float64)
    proof = _proof(stream, scores, propensities, side, category, target, level)
    corrected = 1 / (1 - policy.certificates.overlooked)
    curve: list[dict[str, Any]] = [
        {
            "threshold": round(point.threshold, 5),
            "coverage": round(point.coverage, 6),
            "checks": point.checks,
            "mistakes": point.mistakes,
            "risk": None if point.risk is None else round(point.risk, 6),
            "bound": round(min(1.0, point.bound * corrected), 6),
            "proved": point.proved and tried,
        }
        for point in proof.curve
    ]
    last = _certified(curve)
    return replace(
        nothing,
        threshold=last["threshold"] if last else None,
        bound=min(last["bound"], allowed) if last else None,
        share=last["coverage"] if last else None,
        decisions=len(scores),
        drawn=len(stream.drawn),
        overdue=stream.count(State.OVERDUE),
        withdrawn=stream.count(State.WITHDRAWN),
        checks=proof.checks,
        mistakes=proof.mistakes,
        needed=proof.needed,
        curve=curve,
        data=checks.digest(stream.drawn, stream.drawn_scores),
        # `least` is for the watch over checks: hardly anything is drawn with less.
        reference=drift.reference(scores).document()
        | {
            "least": float(np.quantile(propensities[propensities > 0], 0.05))
            if (propensities > 0).any()
            else None
        },
    )


def _certified(curve: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The point that is certified: the loosest that is proved, but not into a stretch where nothing was seen."""
    loosest = next((point for point in reversed(curve) if point["proved"]), None)
    if loosest is None:
        return None
    return next(point for point in curve if point["proved"] and point["coverage"] == loosest["coverage"])


def _proof(
    stream: Stream,
    scores: certificates.Floats,
    propensities: certificates.Floats,
    side: Side,
    category: str,
    allowed: float,
    level: float,
) -> Proof:
    counted = [
        (score, one.seen.propensity, float(one.wrong(side, category)))
        for one, score in zip(stream.drawn, stream.drawn_scores, strict=True)
        if one.state in (State.SETTLED, State.OVERDUE)
    ]
    table = np.asarray(counted, dtype=np.float64).reshape(-1, 3)
    positive = np.concatenate([propensities[propensities > 0], table[:, 1]])
    least = float(positive.min()) if len(positive) else 1.0
    # Of very many decisions only a sample was read: so many checks were drawn of each of them.
    expected = float(propensities.sum())
    each = max(1.0, len(stream.drawn) / expected) if expected > 0 else 1.0
    grid = certificates.grid(scores, propensities, side, allowed, level, each=each)
    found = Checks(table[:, 0], table[:, 1], table[:, 2])
    return certificates.prove(found, grid, side, allowed, level, least)
