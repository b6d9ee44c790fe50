"""What another policy would have done with what was screened: routed again from what was found at the time.

Two policies are compared over the same findings, so that a difference comes from the rules and from nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from moderation.domain.policy import Policy
from moderation.domain.routing import NOTHING_CERTIFIED, Route, Thresholds, audit_propensity, route
from moderation.domain.signals import BankAction, DetectorStatus, How, Match, Signal

SHOWN = 20  # items of one flip that are named

UNKNOWN: Sequence[str] = (
    "What a detector or bank entry that was added since would have found: what was found then is routed again.",
    "What a bank that was changed or removed since would do now: a match counts with the action it had then.",
    "What an allow bank cleared: such a part stays cleared.",
    "What people would have decided: reports, appeals and opinions are not played again.",
    "Probabilities beyond the four digits kept: an item within 0.0001 of a threshold may fall on the other side.",
    "Which certificates held when an item was decided: both sides stand on what holds or could be proved today.",
)
"""What a simulation can't know, in sentences that stand under every result."""


@dataclass(frozen=True, slots=True)
class Screened:
    """What screening found in one item, as its decision keeps it: no content."""

    item: UUID
    decided: str
    version: int
    signals: Sequence[Signal]
    matches: Sequence[Match]
    slice: str | None = None
    models: tuple[tuple[str, str], ...] = ()  # (name, version) of whoever was asked

    def said_by(self, scores: Mapping[str, float], models: tuple[tuple[str, str], ...]) -> Screened:
        """The same item with the scores of other models; what could not be judged stays so."""
        failed = [one for one in self.signals if one.status is DetectorStatus.FAILED]
        said = Signal("content", "simulated", "", DetectorStatus.OK, dict(scores))
        return replace(self, signals=[said, *failed], models=models)


ThresholdsOf = Callable[[Screened], Mapping[str, Thresholds]]
"""The thresholds that are certified for an item on one side, by category."""


def uncertified(one: Screened) -> Mapping[str, Thresholds]:  # noqa: ARG001 - whatever it is
    """No certificate: the policy's own bands hold."""
    return NOTHING_CERTIFIED


@dataclass(slots=True)
class Side:
    """What one policy does with everything."""

    routes: Counter[str] = field(default_factory=Counter)
    categories: Counter[tuple[str, str]] = field(default_factory=Counter)  # (category, route)
    drawn: float = 0.0  # expected blind checks of what a machine decides alone


@dataclass(slots=True)
class Comparison:
    """Both policies, item by item."""

    before: Policy
    after: Policy
    was_certified: ThresholdsOf = uncertified
    becomes_certified: ThresholdsOf = uncertified
    items: int = 0
    was: Side = field(default_factory=Side)
    becomes: Side = field(default_factory=Side)
    flips: Counter[tuple[str, str]] = field(default_factory=Counter)
    named: dict[tuple[str, str], list[UUID]] = field(default_factory=dict)
    same_version: int = 0  # decided under `before` itself
    reproduced: int = 0  # and routed the same again

    def add(self, one: Screened, then: Screened | None = None) -> None:
        """Route one item under both; `then` is what another model found in it, if that is what is compared."""
        was = _count(self.was, self.before, one, self.was_certified)
        becomes = _count(self.becomes, self.after, then or one, self.becomes_certified)
        self.items += 1
        if one.version == self.before.version:
            self.same_version += 1
            self.reproduced += was == one.decided
        if was != becomes:
            self.flips[was, becomes] += 1
            named = self.named.setdefault((was, becomes), [])
            if len(named) < SHOWN:
                named.append(one.item)


def _count(side: Side, policy: Policy, one: Screened, certified: ThresholdsOf) -> str:
    routing = route(policy, one.signals, one.matches, certified(one))
    name = str(routing.route)
    side.routes[name] += 1
    side.categories[routing.category or "none", name] += 1
    if routing.route is not Route.REVIEW:  # what people decide anyway is no more work where it is drawn
        side.drawn += audit_propensity(policy, routing)
    return name


@dataclass(frozen=True, slots=True)
class Flip:
    """Items that one policy routes one way and the other another; the first of them by id."""

    before: str
    after: str
    items: int
    named: Sequence[UUID]


@dataclass(frozen=True, slots=True)
class Load:
    """What comes before people in a day, blind checks included, and the hours it takes."""

    cases: float
    hours: float | None


@dataclass(frozen=True, slots=True)
class Promised:
    """A promise on both sides: from where it is certified now, and from where it could be under the other.

    A threshold is None without a certificate, and `allowed` where nothing is promised. Checks, mistakes, what is
    still needed, and the share that the rule would decide by itself are of the other side.
    """

    category: str
    side: str
    slice: str
    lineup: str
    allowed_before: float | None
    allowed: float | None
    before: float | None
    after: float | None
    share: float | None = None
    checks: int = 0
    mistakes: int = 0
    needed: int = 0

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "category": self.category,
            "side": self.side,
            "slice": self.slice,
            "lineup": self.lineup,
            "allowed": {"before": self.allowed_before, "after": self.allowed},
            "threshold": {"before": self.before, "after": self.after},
            "share": self.share,
            "checks": self.checks,
            "mistakes": self.mistakes,
            "needed": self.needed,
        }


@dataclass(frozen=True, slots=True)
class Simulated:
    """The result. Counts are of what was routed again; `total` is what there was, more if only a sample was.

    With a `model` the other side is that version in place of the one that serves, and `unheard` are the items of
    which it has said nothing; they are in neither side.
    """

    base: int
    days: float
    total: int
    items: int
    unscreened: int
    routes: Mapping[str, tuple[int, int]]
    categories: Mapping[str, Mapping[str, tuple[int, int]]]
    flips: Sequence[Flip]
    before: Load
    after: Load
    seconds_a_case: float | None
    same_version: int
    reproduced: int
    promises: Sequence[Promised] = ()
    model: tuple[str, str] | None = None
    unheard: int = 0
    sampled: bool = False  # whether only some of the items were routed again

    @property
    def automated(self) -> tuple[float, float]:
        """Which share no person decides, before and after."""
        before, after = self.routes[Route.REVIEW]
        return (1 - before / self.items, 1 - after / self.items) if self.items else (0.0, 0.0)

    def document(self) -> dict[str, Any]:
        """The same as plain data, for a file."""
        return {
            "against_version": self.base,
            "days": self.days,
            "screened": self.total,
            "routed_again": self.items,
            "not_screened_by_machine": self.unscreened,
            "routes": {name: {"before": b, "after": a} for name, (b, a) in self.routes.items()},
            "categories": {
                category: {name: {"before": b, "after": a} for name, (b, a) in routes.items()}
                for category, routes in self.categories.items()
            },
            "flips": [
                {
                    "before": one.before,
                    "after": one.after,
                    "items": one.items,
                    "some": list(map(str, one.named)),
                }
                for one in self.flips
            ],
            "automated": {"before": round(self.automated[0], 4), "after": round(self.automated[1], 4)},
            "promises": [one.document() for one in self.promises],
            "model": list(self.model) if self.model else None,
            "not_heard_by_model": self.unheard,
            "cases_a_day": {"before": round(self.before.cases, 1), "after": round(self.after.cases, 1)},
            "seconds_a_case": self.seconds_a_case,
            "decided_under_the_same_version": self.same_version,
            "reproduced": self.reproduced,
            "unknown": list(UNKNOWN),
        }


@dataclass(frozen=True, slots=True)
class Read:
    """How much there was to be compared: in how many days, in all, by no machine, by no other model."""

    days: float
    total: int
    unscreened: int
    unheard: int = 0
    sampled: bool = False


def result(compared: Comparison, read: Read, seconds_a_case: float | None) -> Simulated:
    """What a comparison of `compared.items` out of `read.total` comes to."""
    scale = max(0, read.total - read.unscreened) / compared.items if compared.items else 1.0
    days = read.days
    pairs = {
        str(one): (compared.was.routes[one], compared.becomes.routes[one]) for one in reversed(list(Route))
    }
    named = sorted({category for side in (compared.was, compared.becomes) for category, _ in side.categories})
    return Simulated(
        base=compared.before.version,
        days=days,
        total=read.total,
        items=compared.items,
        unscreened=read.unscreened,
        routes=pairs,
        categories={
            category: {
                name: (compared.was.categories[category, name], compared.becomes.categories[category, name])
                for name in pairs
            }
            for category in named
        },
        flips=[
            Flip(before, after, count, tuple(compared.named[before, after]))
            for (before, after), count in compared.flips.most_common()
        ],
        before=_load(compared.was, scale, days, seconds_a_case),
        after=_load(compared.becomes, scale, days, seconds_a_case),
        seconds_a_case=seconds_a_case,
        same_version=compared.same_version,
        reproduced=compared.reproduced,
        unheard=read.unheard,
        sampled=read.sampled,
    )


def _load(side: Side, scale: float, days: float, seconds: float | None) -> Load:
    cases = (side.routes[Route.REVIEW] + side.drawn) * scale / days
    return Load(cases, None if seconds is None else cases * seconds / 3600)


def screened(
    item: UUID,
    decided: str,
    version: int,
    findings: Sequence[Mapping[str, Any]],
    matches: Sequence[Mapping[str, Any]],
    detectors: Sequence[Mapping[str, str]],
    categories: Mapping[str, str],
    slice_: str | None = None,
) -> Screened | None:
    """What a decision keeps of the screening, as the router takes it; None if no machine looked.

    `categories` are those of the banks by name, `slice_` of languages as the decision has it.
    """
    if not findings and not matches and not detectors:
        return None
    signals = [
        Signal(
            one["part"],
            one["detector"],
            one["version"],
            DetectorStatus.OK,
            {one["category"]: one["probability"]},
        )
        for one in findings
    ]
    signals += [
        Signal("content", one["name"], one["version"], DetectorStatus.FAILED)
        for one in detectors
        if one["status"] == DetectorStatus.FAILED
    ]
    found = [
        Match(
            one["part"],
            one["bank"],
            one["entry"],
            categories.get(one["bank"], ""),
            BankAction(one["action"]),
            one["verified"],
            how=How(one.get("how", How.EQUAL)),
            score=one.get("score", 1.0),
            view=one.get("view", ""),
            distance=one.get("distance"),
            source=one.get("source"),
            quarantined=one.get("quarantined", False),
        )
        for one in matches
    ]
    models = tuple((one["name"], one["version"]) for one in detectors)
    return Screened(item, decided, version, signals, found, slice_, models)
