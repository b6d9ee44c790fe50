"""From what detectors say to what the policy does, with the reason in words and numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from moderation.domain.policy import Bands, CategoryRule, Fail, Policy
from moderation.domain.signals import BankAction, DetectorStatus, How, Match, Signal


class Route(StrEnum):
    """What the policy says of an item, mildest first."""

    ALLOW = "allow"
    LIMIT = "limit"
    REVIEW = "review"
    REMOVE = "remove"


_GRAVITY = {route: rank for rank, route in enumerate(Route)}


@dataclass(frozen=True, slots=True)
class Finding:
    """The highest score of one category the policy names: in which part, and which detector gave it."""

    category: str
    probability: float
    part: str
    detector: str
    version: str


@dataclass(frozen=True, slots=True)
class Routing:
    """The route of one item; `category` and `probability` name what weighed most, if anything did.

    `matches` are those with banks that counted: what only labels, allows or was cleared is left out.
    """

    route: Route
    category: str | None
    probability: float
    reasons: tuple[str, ...]
    findings: tuple[Finding, ...]
    matches: tuple[Match, ...] = ()
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Opinion:
    route: Route
    category: str | None
    probability: float
    reason: str


def route(policy: Policy, signals: Sequence[Signal], matches: Sequence[Match]) -> Routing:
    """Decide what happens to an item.

    Order: a part that equals a verified entry of an allow bank is left out; bank matches; scores per
    category; failed detectors. The gravest opinion wins, with uncertainty above a mere limit: an item that
    one category would limit and another can't tell is looked at by a person.
    """
    cleared = {match.part for match in matches if match.clears}
    findings = highest(policy, (signal for signal in signals if signal.part not in cleared))
    counted = tuple(match for match in matches if _counts(match, cleared))
    opinions = [
        *(_of_match(match) for match in counted),
        *(_of_finding(policy.categories[finding.category], finding) for finding in findings),
        *_of_failures(policy, signals),
    ]
    strong = sorted(
        (opinion for opinion in opinions if opinion.route is not Route.ALLOW),
        key=lambda o: (_GRAVITY[o.route], _severity(policy, o.category), o.probability),
        reverse=True,
    )
    failed = tuple(dict.fromkeys(s.detector for s in signals if s.status is DetectorStatus.FAILED))
    if not strong:
        return Routing(
            Route.ALLOW, None, 0.0, _harmless(policy, findings, cleared), findings, counted, failed
        )
    return Routing(
        route=strong[0].route,
        category=strong[0].category,
        probability=strong[0].probability,
        reasons=tuple(opinion.reason for opinion in strong),
        findings=findings,
        matches=counted,
        failed=failed,
    )


def audit_propensity(policy: Policy, routing: Routing) -> float:
    """With which probability people check, blind, what a machine decided alone; 0 where people decide anyway.

    Two strata: a larger share is drawn of what a slightly different score would have sent elsewhere.
    """
    if routing.route is Route.REVIEW:
        return 0.0
    audit = policy.review.audit
    if routing.route is Route.ALLOW:
        scored = [(finding.category, finding.probability) for finding in routing.findings]
    else:
        scored = [(routing.category, routing.probability)] if routing.category else []
    near = any(
        _near(policy.categories[category].bands, routing.route, probability, audit.margin)
        for category, probability in scored
    )
    return audit.near_share if near else audit.share


def _near(bands: Bands, route: Route, probability: float, margin: float) -> bool:
    """Whether a threshold lies within `margin`, or within half of the band if that is narrower.

    Without the second condition everything would lie near a threshold of 0.05, and nothing would be a stratum.
    The ends of the scale are no thresholds: no score lies beyond them.
    """
    top = bands.remove_from if bands.limit_from is None else bands.limit_from
    ends = {
        Route.ALLOW: (0.0, bands.allow_below),
        Route.LIMIT: (top, bands.remove_from),
        Route.REMOVE: (bands.remove_from, 1.0),
    }
    low, high = ends[route]
    reach = min(margin, (high - low) / 2)
    return (low > 0 and 0 <= probability - low <= reach) or (high < 1 and 0 < high - probability <= reach)


def highest(policy: Policy, signals: Iterable[Signal]) -> tuple[Finding, ...]:
    """Per category of the policy the highest score over parts and detectors, highest first."""
    best: dict[str, Finding] = {}
    for signal in signals:
        for category, score in signal.scores.items():
            if category not in policy.categories:
                continue
            if category not in best or score > best[category].probability:
                best[category] = Finding(category, score, signal.part, signal.detector, signal.version)
    return tuple(sorted(best.values(), key=lambda finding: -finding.probability))


def _counts(match: Match, cleared: set[str]) -> bool:
    return not match.allow and match.part not in cleared and match.action is not BankAction.LABEL


def _severity(policy: Policy, category: str | None) -> int:
    rule = policy.categories.get(category) if category else None
    return rule.severity if rule else 0


def _of_match(match: Match) -> _Opinion:
    asked = Route(str(match.action))
    said = told(match)
    if match.quarantined:
        return _Opinion(
            Route.REVIEW, match.category, 0.5, f"{said}, which suddenly matches far more than ever: review."
        )
    if match.how is How.ALIKE:
        return _Opinion(Route.REVIEW, match.category, 0.5, f"{said}: people compare the two.")
    if match.verified:
        return _Opinion(asked, match.category, 1.0, f"{said}: {asked}.")
    return _Opinion(Route.REVIEW, match.category, 0.5, f"{said}, which nobody has verified: review.")


_SAID = {
    How.EQUAL: "equals",
    How.NEAR: "resembles",
    How.TERM: "contains the term of",
    How.PATTERN: "fits the pattern of",
    How.HOST: "links to the host of",
    How.URL: "links to the address of",
    How.LOOKALIKE: "links to a host that looks like that of",
    How.CONTACT: "names the contact of",
    How.CLAIM: "means nearly the same as",
    How.PICTURE: "shows the picture of",
    How.ALIKE: "may show the picture of",
}


def told(match: Match) -> str:
    """The match as the beginning of a sentence: which part, how, which entry of which bank."""
    degree = f" ({match.score:.2f})" if match.how in (How.NEAR, How.CLAIM) else ""
    if match.distance is not None and match.how is not How.EQUAL:
        degree = f" ({match.distance} of 256 bits differ)"
    disguised = f", disguised ({match.view})" if match.view else ""
    return f"{match.part} {_SAID[match.how]} entry {match.entry} of bank {match.bank}{degree}{disguised}"


def _of_finding(rule: CategoryRule, finding: Finding) -> _Opinion:
    """One category's opinion. Thresholds: allow below, limit from, remove from; between them people."""
    p, bands = finding.probability, rule.bands
    scored = f"{finding.category} {p:.2f} in {finding.part}"
    if bands.remove_from <= p and bands.remove_from < 1:
        return _Opinion(
            Route.REMOVE, finding.category, p, f"{scored} reaches remove from {bands.remove_from:.2f}."
        )
    if p < bands.allow_below:
        return _Opinion(Route.ALLOW, finding.category, p, f"{scored} lies below {bands.allow_below:.2f}.")
    if bands.limit_from is not None and p >= bands.limit_from:
        return _Opinion(
            Route.LIMIT,
            finding.category,
            p,
            f"{scored} lies between limit from {bands.limit_from:.2f} and remove from {bands.remove_from:.2f}.",
        )
    upper = "remove" if bands.limit_from is None else "limit"
    top = bands.remove_from if bands.limit_from is None else bands.limit_from
    return _Opinion(
        Route.REVIEW,
        finding.category,
        p,
        f"{scored} lies between allow below {bands.allow_below:.2f} and {upper} from {top:.2f}.",
    )


def _of_failures(policy: Policy, signals: Sequence[Signal]) -> list[_Opinion]:
    routes = {Fail.REVIEW: Route.REVIEW, Fail.CLOSED: Route.LIMIT}
    opinions = []
    for signal in signals:
        if signal.status is not DetectorStatus.FAILED:
            continue
        mode = policy.fail_mode(signal.detector)
        if mode in routes:
            opinions.append(
                _Opinion(
                    routes[mode],
                    None,
                    0.0,
                    f"{signal.detector} could not judge {signal.part}"
                    f"{_cause(signal)}; the policy then says {routes[mode]}.",
                )
            )
    return opinions


def _cause(signal: Signal) -> str:
    cause = signal.evidence.get("cause")
    return f" ({cause})" if cause else ""


def _harmless(policy: Policy, findings: Sequence[Finding], cleared: set[str]) -> tuple[str, ...]:
    said = [f"{part} equals an entry of an allow bank." for part in sorted(cleared)]
    if findings:
        top = findings[0]
        below = policy.categories[top.category].bands.allow_below
        said.append(
            f"Every scored category lies below its allow threshold; the highest is {top.category} "
            f"{top.probability:.2f} in {top.part}, allow below {below:.2f}."
        )
    return tuple(said) or ("No detector found anything to judge.",)
