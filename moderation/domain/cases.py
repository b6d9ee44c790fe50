"""Cases: why an item is before people, how urgent it is, by when, and what opinions come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from math import log10

from moderation.domain.policy import Policy
from moderation.domain.signals import Category


class CaseReason(StrEnum):
    """Why people are asked."""

    UNCERTAIN = "uncertain"
    BANK = "bank"
    DETECTOR_FAILED = "detector_failed"
    DEAD_LETTER = "dead_letter"
    REPORT = "report"
    MINOR = "minor"
    APPEAL = "appeal"
    AUDIT = "audit"
    SECOND_OPINION = "second_opinion"
    CONFLICT = "conflict"
    SAMPLE = "sample"
    REQUESTED = "requested"  # a lead asks for a check of this very item: like a sample, but nobody drew it
    LOOK_AGAIN = "look_again"  # what people found and what machines say differ by too much to be learned from
    GOLDEN = "golden"
    RESTRICTED = "restricted"  # its author may not be judged by machines


class CaseKind(StrEnum):
    """What a case can lead to. One of each kind at most is open for an item, but for golden ones."""

    REVIEW = "review"  # the decision
    QUALITY = "quality"  # a check of a decision that stands: audit draws, blind second opinions, samples
    APPEAL = "appeal"  # an answer to whoever asked
    GOLDEN = "golden"  # nothing: the right answer is known


class CaseState(StrEnum):
    OPEN = "open"
    CLOSED = "closed"


class Stage(StrEnum):
    """How far a case has come."""

    REVIEW = "review"
    SECOND = "second"  # one opinion is there; somebody else is asked, who does not see it
    ADJUDICATION = "adjudication"  # opinions differ, or somebody escalated: a lead settles it


DRAWN_REASONS = {CaseReason.AUDIT, CaseReason.SECOND_OPINION, CaseReason.SAMPLE}
CHOSEN_REASONS = {CaseReason.REQUESTED, CaseReason.LOOK_AGAIN}
QUALITY_REASONS = DRAWN_REASONS | CHOSEN_REASONS
MINORS = {Category.SEXUAL_MINORS, Category.UNDERAGE}
_OF_MINORS = {CaseReason.UNCERTAIN, CaseReason.BANK, CaseReason.REPORT}


def kind_of(reason: CaseReason) -> CaseKind:
    """The kind of a case that was opened for `reason`."""
    if reason in QUALITY_REASONS:
        return CaseKind.QUALITY
    named = {CaseReason.APPEAL: CaseKind.APPEAL, CaseReason.GOLDEN: CaseKind.GOLDEN}
    return named.get(reason, CaseKind.REVIEW)


def reason_of(reason: CaseReason, category: str | None) -> CaseReason:
    """The reason under which a case is opened: one that a finding or a report of minors brought is of its own."""
    return CaseReason.MINOR if reason in _OF_MINORS and category in MINORS else reason


def is_blind(reason: CaseReason) -> bool:
    """Whether scores, and what others thought, are kept from whoever judges."""
    return reason in QUALITY_REASONS or reason is CaseReason.GOLDEN


def hides(blind: bool, stage: Stage) -> bool:
    """Whether whoever has the case now sees no scores, and nothing of what others thought.

    So it is for checks and for second opinions. Who settles a case sees everything.
    """
    return stage is Stage.SECOND or (blind and stage is not Stage.ADJUDICATION)


def priority(probability: float, severity: int, reach: int | None) -> float:
    """Expected harm: probability x severity x reach, the reach counted in orders of magnitude.

    An unknown reach counts as 100 readers. A post read by a million is worth three times one read by
    a hundred, not ten thousand times: otherwise one popular author starves everybody else.
    """
    readers = 100 if reach is None else reach
    return probability * severity * log10(10 + readers)


def deadline(policy: Policy, category: str | None, reason: CaseReason, opened_at: datetime) -> datetime:
    """By when a person should have looked: an appeal's deadline, the category's own, or the common one."""
    named = policy.categories.get(category) if category else None
    if reason is CaseReason.APPEAL:
        hours = policy.review.appeal_deadline_hours
    elif named is None or named.deadline_hours is None or is_blind(reason):
        hours = policy.deadline_hours
    else:
        hours = named.deadline_hours
    return opened_at + timedelta(hours=hours)


def opinions_wanted(policy: Policy, category: str | None, kind: CaseKind) -> int:
    """How many people must agree before their opinion is the decision."""
    named = policy.categories.get(category) if category else None
    return named.opinions if named and kind in (CaseKind.REVIEW, CaseKind.APPEAL) else 1


def is_urgent(policy: Policy, category: str | None, reason: CaseReason) -> bool:
    """Whether a case is taken by its deadline, before all that is taken by expected harm.

    Appeals and minors have a deadline by promise; a category has one if the policy gives it hours of its own.
    """
    if reason in (CaseReason.APPEAL, CaseReason.MINOR):
        return True
    named = policy.categories.get(category) if category else None
    return not is_blind(reason) and named is not None and named.deadline_hours is not None


class Turn(StrEnum):
    """By what the next case is chosen."""

    URGENT = "urgent"  # whatever has a promised deadline, the nearest first
    HARM = "harm"  # the greatest expected harm
    OLDEST = "oldest"  # what has waited longest: the floor below which nothing is left to age for ever


def turns(oldest_share: float, dice: float) -> tuple[Turn, ...]:
    """The order in which a claim looks for work; `dice` is uniform in [0, 1).

    Under overload the greatest harm always comes first and the rest would wait for ever. A fixed share of
    claims therefore takes the oldest case: a share and not an age, because once everything is past an age
    the queue would be first-in-first-out again.
    """
    if dice < oldest_share:
        return (Turn.URGENT, Turn.OLDEST, Turn.HARM)
    return (Turn.URGENT, Turn.HARM)


class Verdict(StrEnum):
    """What a person may find; the graver, the later."""

    ALLOW = "allow"
    LIMIT = "limit"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Judged:
    """What an opinion comes down to when it is compared with others."""

    verdict: str
    category: str | None
    person: str


class Next(StrEnum):
    """What happens to a case after an opinion."""

    DECIDE = "decide"  # the newest opinion is the decision
    SECOND = "second"  # another person is asked
    ADJUDICATE = "adjudicate"
    CONFIRM = "confirm"  # a decision that stands was found right: nothing changes


def after_opinion(
    kind: CaseKind,
    stage: Stage,
    wanted: int,
    opinions: Sequence[Judged],
    standing: str | None,
    *,
    surprising: bool = False,
) -> Next:
    """What an opinion leads to. `opinions` are those given so far, the newest last.

    `standing` is the verdict that a quality case checks, or that a case came to before it was opened again. A
    difference found in a check is looked at by a second person before it counts: one slip must not overturn a
    decision, nor spoil an estimate of error. So is a `surprising` opinion of a case that counts as a check.
    """
    newest = opinions[-1]
    if kind is CaseKind.GOLDEN:
        return Next.CONFIRM
    if stage is Stage.ADJUDICATION:
        return Next.CONFIRM if newest.verdict == standing else Next.DECIDE
    if kind is CaseKind.QUALITY:
        if newest.verdict == standing:
            return Next.CONFIRM if len(opinions) == 1 else Next.ADJUDICATE
        wanted = 2
    if surprising:
        wanted = max(wanted, 2)
    if len({opinion.verdict for opinion in opinions}) > 1:
        return Next.ADJUDICATE
    return Next.DECIDE if len(opinions) >= wanted else Next.SECOND
