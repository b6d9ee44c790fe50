"""Decisions: the outcome of an item as a record, by a machine or a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from moderation.domain.cases import CaseReason, Verdict
from moderation.domain.errors import InvalidInput
from moderation.domain.policy import Policy
from moderation.domain.promises import Stratum
from moderation.domain.reviewing import Strikes
from moderation.domain.routing import Route, Routing, audit_propensity


class DecidedBy(StrEnum):
    MACHINE = "machine"
    PERSON = "person"


class Restriction(StrEnum):
    """How an item is limited."""

    AGE_GATE = "age_gate"
    DEMOTE = "demote"
    LABEL = "label"
    NO_INTERACTION = "no_interaction"


class AccountMeasure(StrEnum):
    """What happens to the account, mildest first."""

    WARN = "warn"
    STRIKE = "strike"
    SUSPEND = "suspend"
    BAN = "ban"


@dataclass(frozen=True, slots=True)
class CaseDraft:
    """A case to be opened with a decision.

    `blind`: it was drawn, with `propensity`, so that whoever decides it is shown no score. Checks are blind anyway.
    """

    reason: CaseReason
    category: str | None
    severity: int
    probability: float
    propensity: float = 1.0
    blind: bool = False


UNKNOWN_SEVERITY = 3


def blind_draft(
    reason: CaseReason, policy: Policy, category: str | None, propensity: float = 1.0
) -> CaseDraft:
    """A case that checks a decision. `category` is that of the item's highest score, whatever was decided.

    Neither the queue it lies in nor its place there may tell what anybody thought: all count as a toss-up.
    """
    rule = policy.categories.get(category) if category else None
    return CaseDraft(reason, category, rule.severity if rule else UNKNOWN_SEVERITY, 0.5, propensity)


def drafted(routing: Routing, policy: Policy, dice: float, scale: float = 1.0) -> CaseDraft | None:
    """The case that a machine's routing asks for; `dice`, in [0, 1), draws what people judge blind.

    Of what a machine decided that is a check of its own. What people decide anyway keeps its case, and with it its
    place in the queue; only its scores are kept from them. `scale` is as in `audit_propensity`.
    """
    propensity = audit_propensity(policy, routing, scale)
    drawn = dice < propensity
    if routing.route is Route.REVIEW:
        asked = _asked_for(routing, policy)
        return replace(asked, blind=True, propensity=propensity) if drawn else asked
    if not drawn:
        return None
    category = routing.findings[0].category if routing.findings else None
    return blind_draft(CaseReason.AUDIT, policy, category, propensity)


def _asked_for(routing: Routing, policy: Policy) -> CaseDraft:
    rule = policy.categories.get(routing.category) if routing.category else None
    if routing.category is None and routing.failed:
        reason = CaseReason.DETECTOR_FAILED
    else:
        reason = CaseReason.BANK if routing.matches else CaseReason.UNCERTAIN
    # What nobody could judge is as urgent as a toss-up of middling gravity.
    severity, probability = (rule.severity, routing.probability) if rule else (UNKNOWN_SEVERITY, 0.5)
    return CaseDraft(reason, routing.category, severity, probability)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What screening made of one item: the route, every signal behind it, and whether people are asked.

    `slice` of languages, `stratum` and `propensity` say with what it is compared and how likely it was drawn; None
    of what no machine judged.
    """

    routing: Routing
    findings: tuple[Mapping[str, Any], ...]
    detectors: tuple[Mapping[str, str], ...]
    case: CaseDraft | None
    slice: str | None = None
    stratum: Stratum | None = None
    propensity: float | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a person decides of an item, and of its author's account."""

    verdict: Verdict
    category: str | None = None
    clause: str | None = None
    restrictions: tuple[Restriction, ...] = ()
    measure: AccountMeasure | None = None
    until: datetime | None = None


def checked(judgement: Judgement, policy: Policy, now: datetime) -> Judgement:
    """The judgement with its clause filled in, if it is one that the policy allows.

    Raises:
        InvalidInput: a sentence for whoever judged, saying what is missing or does not go together.
    """
    if judgement.verdict is Verdict.ALLOW:
        if judgement.restrictions or judgement.measure:
            raise InvalidInput(
                "What is allowed is not restricted; choose limit or remove, or drop the restriction."
            )
        return Judgement(Verdict.ALLOW)
    if judgement.category is None or judgement.category not in policy.categories:
        raise InvalidInput("Say which rule it breaks: choose one of the policy's categories.")
    if judgement.verdict is Verdict.LIMIT and not judgement.restrictions:
        raise InvalidInput("Say how it is limited: age gate, demote, label or no interaction.")
    if judgement.verdict is Verdict.REMOVE and judgement.restrictions:
        raise InvalidInput("What is removed can't be limited as well; choose one of the two.")
    clauses = policy.clauses_of(judgement.category)
    clause = judgement.clause or clauses[0].id
    if clause not in {one.id for one in clauses}:
        raise InvalidInput(f"Clause {clause} is not one of {judgement.category}; choose one that is.")
    until = _until(judgement, policy.review.strikes, now)
    return Judgement(
        judgement.verdict, judgement.category, clause, judgement.restrictions, judgement.measure, until
    )


def _until(judgement: Judgement, strikes: Strikes, now: datetime) -> datetime | None:
    """Until when the measure lasts; None is for ever."""
    if judgement.measure is AccountMeasure.STRIKE:
        return now + timedelta(days=strikes.window_days)
    if judgement.measure is not AccountMeasure.SUSPEND:
        if judgement.until is not None:
            raise InvalidInput("Only a suspension has an end of its own; leave the date out.")
        return None
    until = judgement.until or now + timedelta(days=strikes.suspend_days)
    if until <= now:
        raise InvalidInput("A suspension must end in the future; choose a later date, or another measure.")
    return until


@dataclass(frozen=True, slots=True)
class Standing:
    """How an account stands: strikes that still count, and what the policy advises for the next one."""

    strikes: int
    advice: AccountMeasure | None
    suspended_until: datetime | None = None
    banned: bool = False


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure that was taken against an account and not reversed."""

    kind: AccountMeasure
    effective_at: datetime
    until: datetime | None = None


def standing(measures: Sequence[Measure], strikes: Strikes, now: datetime) -> Standing:
    """The account as it stands at `now`: a strike decays at the end of its window."""
    live = [m for m in measures if m.effective_at <= now and (m.until is None or m.until > now)]
    count = sum(m.kind is AccountMeasure.STRIKE for m in live)
    ends = [m.until for m in live if m.kind is AccountMeasure.SUSPEND and m.until]
    advice = None
    if count + 1 >= strikes.ban_at:
        advice = AccountMeasure.BAN
    elif count + 1 >= strikes.suspend_at:
        advice = AccountMeasure.SUSPEND
    banned = any(m.kind is AccountMeasure.BAN for m in live)
    return Standing(count, advice, max(ends, default=None), banned)


@dataclass(frozen=True, slots=True)
class Undo:
    """What one act did, for as long as it can be taken back without a trace outside."""

    id: str
    until: datetime
    cases: tuple[str, ...] = field(default=())
