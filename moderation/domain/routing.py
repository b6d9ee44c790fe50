"""From what detectors say to what the policy does, with the reason in words and numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from moderation.domain.policy import Bands, Fail, Policy
from moderation.domain.promises import Certificate, InForce, Side, Stratum
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

    `matches` are those with banks that counted: what only labels, allows or was cleared is left out. An automatic
    decision stands on `certificates`: a removal on that of the rule which decided, what is let pass on those of
    every scored category that has one. `stratum` is where a check of it is drawn from.
    """

    route: Route
    category: str | None
    probability: float
    reasons: tuple[str, ...]
    findings: tuple[Finding, ...]
    matches: tuple[Match, ...] = ()
    failed: tuple[str, ...] = ()
    certificates: tuple[UUID, ...] = ()
    stratum: Stratum = Stratum.OTHER


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where one category's rules lie for one item: `bands` as they apply, and what they stand on.

    A side without a certificate has the threshold that the policy says until there is one, and promises nothing.
    """

    bands: Bands
    remove: Certificate | None = None
    allow: Certificate | None = None

    @classmethod
    def of(cls, bands: Bands, remove: Certificate | None, allow: Certificate | None) -> Thresholds:
        """The policy's `bands` with what is certified in their place.

        They stay in order. Removing comes first: letting pass ends where it begins, and so does a mere limit,
        which no certificate speaks of. Whatever is cut down so was proved with the rest: strictest first.
        """
        removed = bands.remove_from if remove is None else remove.threshold
        allowed = min(bands.allow_below if allow is None else allow.threshold, removed)
        limit = bands.limit_from
        return cls(
            Bands(allowed, removed, None if limit is None else min(max(limit, allowed), removed)),
            remove,
            allow,
        )


NOTHING_CERTIFIED: Mapping[str, Thresholds] = {}


def thresholds(
    policy: Policy, in_force: InForce, slice_: str, lineups: Mapping[str, str]
) -> dict[str, Thresholds]:
    """The thresholds of each category that has a certificate in force for an item; of the others there is nothing.

    `slice_` is of the item, `lineups` say of each category which models judge the item for it.
    """
    found = {}
    for category, models in lineups.items() if in_force.certificates else ():
        remove = in_force.find(category, Side.REMOVE, slice_, models)
        allow = in_force.find(category, Side.ALLOW, slice_, models)
        if (remove or allow) and category in policy.categories:
            found[category] = Thresholds.of(policy.categories[category].bands, remove, allow)
    return found


@dataclass(frozen=True, slots=True)
class _Opinion:
    route: Route
    category: str | None
    probability: float
    reason: str
    scored: bool = False
    certificate: Certificate | None = None


def route(
    policy: Policy,
    signals: Sequence[Signal],
    matches: Sequence[Match],
    certified: Mapping[str, Thresholds] = NOTHING_CERTIFIED,
) -> Routing:
    """Decide what happens to an item; `certified` are the thresholds of the categories that have a certificate.

    Order: a part that equals a verified entry of an allow bank is left out; bank matches; scores per
    category; failed detectors. The gravest opinion wins, with uncertainty above a mere limit: an item that
    one category would limit and another can't tell is looked at by a person.
    """
    cleared = {match.part for match in matches if match.clears}
    findings = highest(policy, (signal for signal in signals if signal.part not in cleared))
    counted = tuple(match for match in matches if _counts(match, cleared))
    rules = {one.category: _thresholds(policy, certified, one.category) for one in findings}
    opinions = [
        *(_of_match(match) for match in counted),
        *(_of_finding(rules[finding.category], finding) for finding in findings),
        *_of_failures(policy, signals),
    ]
    strong = sorted(
        (opinion for opinion in opinions if opinion is not None),
        key=lambda o: (_GRAVITY[o.route], _severity(policy, o.category), o.probability),
        reverse=True,
    )
    failed = tuple(dict.fromkeys(s.detector for s in signals if s.status is DetectorStatus.FAILED))
    if not strong:
        stands_on = tuple(rule.allow.id for rule in rules.values() if rule.allow is not None)
        stratum = _stratum(policy, rules, Route.ALLOW, findings) if findings else Stratum.OTHER
        said = _harmless(rules, findings, cleared)
        return Routing(Route.ALLOW, None, 0.0, said, findings, counted, failed, stands_on, stratum)
    first = strong[0]
    # Scores had a say if without them it would have been less.
    decided = all(one.scored for one in strong if one.route is first.route)
    weighed = [one for one in findings if one.category == first.category]
    return Routing(
        route=first.route,
        category=first.category,
        probability=first.probability,
        reasons=tuple(opinion.reason for opinion in strong),
        findings=findings,
        matches=counted,
        failed=failed,
        certificates=(first.certificate.id,) if decided and first.certificate is not None else (),
        stratum=_stratum(policy, rules, first.route, weighed) if decided else Stratum.OTHER,
    )


def _thresholds(policy: Policy, certified: Mapping[str, Thresholds], category: str) -> Thresholds:
    known = certified.get(category)
    return Thresholds(policy.categories[category].bands) if known is None else known


def audit_propensity(policy: Policy, routing: Routing, scale: float = 1.0) -> float:
    """With which probability an item is drawn to be judged blind; `scale`, at most 1, keeps to the day's budget.

    A larger share is drawn of what a slightly different score would have sent elsewhere. Of what people decide
    anyway some are shown no score; where a bank or a failure brought it to them they have to know, and none is.
    """
    audit = policy.review.audit
    if routing.stratum is Stratum.OTHER:
        return 0.0 if routing.route is Route.REVIEW else audit.share * scale
    shares = {
        Stratum.FAR: audit.share,
        Stratum.NEAR: audit.near_share,
        Stratum.UNCERTAIN: audit.uncertain_share,
    }
    return shares[routing.stratum] * scale


def _stratum(
    policy: Policy, rules: Mapping[str, Thresholds], route: Route, weighed: Sequence[Finding]
) -> Stratum:
    """The stratum of an item that scores decided; `weighed` are those that had a part in it."""
    if route is Route.REVIEW:
        return Stratum.UNCERTAIN
    margin = policy.review.audit.margin
    near = any(_near(rules[one.category].bands, route, one.probability, margin) for one in weighed)
    return Stratum.NEAR if near else Stratum.FAR


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


def _of_finding(rule: Thresholds, finding: Finding) -> _Opinion | None:
    """One category's opinion, None where it lets pass. Thresholds: allow below, limit from, remove from."""
    p, bands = finding.probability, rule.bands
    removes = bands.remove_from <= p and bands.remove_from < 1
    if p < bands.allow_below and not removes:
        return None
    scored = f"{finding.category} {_number(p, rule)} in {finding.part}"
    if removes:
        said = f"{scored} reaches remove from {_number(bands.remove_from, rule)}{_promised(rule.remove)}."
        return _Opinion(Route.REMOVE, finding.category, p, said, scored=True, certificate=rule.remove)
    remove = _number(bands.remove_from, rule)
    if bands.limit_from is not None and p >= bands.limit_from:
        limit = _number(bands.limit_from, rule)
        said = f"{scored} lies between limit from {limit} and remove from {remove}{_promised(None)}."
        return _Opinion(Route.LIMIT, finding.category, p, said, scored=True)
    upper = (
        f"remove from {remove}"
        if bands.limit_from is None
        else f"limit from {_number(bands.limit_from, rule)}"
    )
    said = f"{scored} lies between allow below {_number(bands.allow_below, rule)} and {upper}."
    return _Opinion(Route.REVIEW, finding.category, p, said, scored=True)


def _number(value: float, rule: Thresholds) -> str:
    """Two digits; more where a threshold is certified, which may be anywhere between two scores."""
    if rule.remove is None and rule.allow is None:
        return f"{value:.2f}"
    whole, digits = f"{value:.5f}".split(".")
    return f"{whole}.{digits.rstrip('0'):0<2}"


def _promised(certificate: Certificate | None) -> str:
    """What follows a threshold that acts by itself: what is promised of it, or that nothing is."""
    if certificate is None:
        return " (no certificate: no promise)"
    return f", certified: {promise(certificate)} (certificate {certificate.id})"


def promise(certificate: Certificate) -> str:
    """What a certificate promises, in words and a number."""
    mistakes = "wrong" if certificate.side is Side.REMOVE else "missed"
    return f"at most {certificate.allowed * 100:g} % {mistakes}"


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


def _harmless(
    rules: Mapping[str, Thresholds], findings: Sequence[Finding], cleared: set[str]
) -> tuple[str, ...]:
    said = [f"{part} equals an entry of an allow bank." for part in sorted(cleared)]
    if findings:
        top = findings[0]
        rule = rules[top.category]
        held = sum(one.allow is not None for one in rules.values())
        several = (
            f" {held} of {len(rules)} scored categories have a certificate."
            if held and len(rules) > 1
            else ""
        )
        said.append(
            f"Every scored category lies below its allow threshold; the highest is {top.category} "
            f"{_number(top.probability, rule)} in {top.part}, allow below {_number(rule.bands.allow_below, rule)}"
            f"{_promised(rule.allow)}.{several}"
        )
    return tuple(said) or ("No detector found anything to judge.",)
