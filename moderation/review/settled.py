"""What people settled: labels, derived each time from the log of opinions and decisions.

An item has a label once people have settled what it is: the decision in force is backed by at least one opinion
that was not undone, and nothing about it is open. What a label leaves unsaid is unknown: somebody who found that
an item breaks one rule has not judged the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ColumnElement, Select, exists, or_, select
from sqlalchemy.orm import Session

from moderation.domain.cases import MINORS, CaseKind, CaseReason, CaseState, Stage, Verdict
from moderation.domain.content import ItemState
from moderation.domain.routing import Route
from moderation.domain.signals import Category
from moderation.governance.restriction import set_apart
from moderation.review import held_back
from moderation.review.appealed import AppealState
from moderation.storage.database import among
from moderation.storage.ids import lower_bound
from moderation.storage.tables import Appeal, Case, Decision, Item, Opinion, Report

CATEGORIES = tuple(category for category in Category if category not in MINORS)
_AT_ONCE = 500


class Source(StrEnum):
    """How an item came before people; the most telling one first where there are several."""

    REVIEW = "review"  # routed to people
    AUDIT = "audit"
    SAMPLE = "sample"
    SECOND_OPINION = "second_opinion"
    REQUESTED = "requested"  # somebody chose it for a check
    LOOK_AGAIN = "look_again"  # its label and its scores were at odds
    REPORT = "report"
    APPEAL = "appeal"


class Settled(StrEnum):
    """How far people agreed."""

    SINGLE = "single"  # one person judged
    AGREED = "agreed"  # several, all of one verdict
    ADJUDICATED = "adjudicated"  # they differed, or somebody escalated, and a lead settled it
    OVERRULED = "overruled"  # they differed, and more opinions or an appeal decided


@dataclass(frozen=True, slots=True)
class Label:
    """What people found of one item: per category whether it breaks that rule, absent where nobody judged.

    `propensity` is the probability with which the item came before people by way of `source`; of what nobody
    drew (requests, reports, appeals) it is not known and stands as 1. `score_shown` if anybody who backs the
    label saw a score before.
    """

    item_id: UUID
    author_id: UUID
    labels: Mapping[str, int]
    policy_version: int
    propensity: float
    score_shown: bool
    reviewers: int
    agreement: Settled
    source: Source


def labels(
    session: Session,
    now: datetime,
    *,
    since: datetime,
    until: datetime,
    category: str | None = None,
    client: str | None = None,
) -> Iterator[Label]:
    """Every label settled in the period, the oldest first; with `category` those in which that one is known.

    With `client` of what that content service posted.

    Left out: minors and whatever a case, report, opinion or decision ever connected with them; authors who are
    suspected to be one, or who restricted what is done with what they posted; items whose
    content is gone; items with an appeal, a dispute or an undo window open; opinions that were undone, came late,
    or answered a golden case; and what is in doubt (`held_back`).
    """
    settled = session.execute(_settled(now, since, until, client)).all()
    for start in range(0, len(settled), _AT_ONCE):
        chunk = settled[start : start + _AT_ONCE]
        given = _opinions(session, [row.id for row in chunk])
        for item, author, verdict in chunk:
            label = _label(item, author, verdict, given[item])
            if label is not None and (category is None or category in label.labels):
                yield label


def _settled(now: datetime, since: datetime, until: datetime, client: str | None) -> Select[UUID, UUID, str]:
    """Items with a decision in force that nothing calls into question, and that have nothing to do with minors."""
    open_case = exists().where(
        Case.item_id == Item.id,
        Case.state == CaseState.OPEN,
        Case.kind != CaseKind.GOLDEN,
        # A check that nobody has begun to answer leaves the label as it is.
        or_(Case.kind != CaseKind.QUALITY, Case.stage != Stage.REVIEW),
    )
    judged = exists().where(
        Opinion.item_id == Item.id,
        Opinion.undone_at.is_(None),
        Opinion.late.is_(False),
        Opinion.id >= lower_bound(since),
        Opinion.id < lower_bound(until),
    )
    appealed = exists().where(Appeal.item_id == Item.id, Appeal.state == AppealState.OPEN)
    return (
        select(Item.id, Item.author_id, Decision.route)
        .join(Decision, Decision.item_id == Item.id)
        .where(
            Item.state.in_([ItemState.DONE, ItemState.DEAD]),
            Item.destroyed_at.is_(None),
            Item.expires_at > now,
            Decision.superseded_at.is_(None),
            Decision.effective_at <= now,
            Decision.route.in_(list(Verdict)),
            judged,
            ~open_case,
            ~appealed,
            ~held_back.look_again(),
            ~held_back.contested(),
            *far_from_minors(),
            ~set_apart(Item.author_id),
            *([Item.client == client] if client else []),
        )
        .order_by(Item.id)
    )


def far_from_minors() -> list[ColumnElement[bool]]:
    """Conditions on an item and its decision in force: nothing ever connected it with minors."""
    minors = list(MINORS)
    case = exists().where(
        Case.item_id == Item.id, or_(Case.category.in_(minors), Case.reason == CaseReason.MINOR)
    )
    opinion = exists().where(Opinion.item_id == Item.id, Opinion.category.in_(minors))
    report = exists().where(Report.item_id == Item.id, Report.category.in_(minors))
    return [~case, ~opinion, ~report, or_(Decision.category.is_(None), Decision.category.not_in(minors))]


@dataclass(frozen=True, slots=True)
class _Given:
    """One opinion that counts, with the case it was given in."""

    person: UUID
    stage: str
    verdict: str
    category: str | None
    score_shown: bool
    policy_version: int
    propensity: float
    source: Source


def _opinions(session: Session, ids: Sequence[UUID]) -> dict[UUID, list[_Given]]:
    """The opinions on `ids` that count, in the order they were given."""
    rows = session.execute(
        select(Opinion, Case.kind, Case.reason, Case.blind, Decision.route)
        .join(Case, Case.id == Opinion.case_id)
        .join(Decision, Decision.id == Case.decision_id)
        .where(
            among(Opinion.item_id, ids),
            Opinion.undone_at.is_(None),
            Opinion.late.is_(False),
            Case.kind != CaseKind.GOLDEN,
        )
        .order_by(Opinion.id)
    )
    given: dict[UUID, list[_Given]] = defaultdict(list)
    for opinion, kind, reason, blind, asked_about in rows:
        given[opinion.item_id].append(
            _Given(
                opinion.person_id,
                opinion.stage,
                opinion.verdict,
                opinion.category,
                opinion.score_shown,
                opinion.policy_version,
                # What people decide anyway has a label for certain, drawn to be judged blind or not.
                1.0 if kind == CaseKind.REVIEW else opinion.propensity,
                _source(kind, reason, asked_about, blind=blind),
            )
        )
    return given


def _source(kind: str, reason: str, asked_about: str, *, blind: bool) -> Source:
    """How an item came before people. `asked_about` is the route of the decision that its case was opened with.

    What people decide anyway and was drawn to be judged without a score is of the audit, as all that was drawn.
    """
    if kind == CaseKind.QUALITY:
        return Source(reason) if reason in set(Source) else Source.SECOND_OPINION
    if kind == CaseKind.APPEAL:
        return Source.APPEAL
    if blind and kind == CaseKind.REVIEW:
        return Source.AUDIT
    return Source.REVIEW if asked_about == Route.REVIEW else Source.REPORT


_RANK = {source: rank for rank, source in enumerate(Source)}
_DRAWN = {Source.AUDIT, Source.SAMPLE, Source.SECOND_OPINION}


def _label(item: UUID, author: UUID, verdict: str, given: Sequence[_Given]) -> Label | None:
    backing = [one for one in given if one.verdict == verdict]
    known = _known(verdict, backing)
    if not known:
        return None
    first = min(given, key=lambda one: _RANK[one.source])
    return Label(
        item_id=item,
        author_id=author,
        labels=known,
        policy_version=backing[-1].policy_version,
        propensity=first.propensity if first.source in _DRAWN else 1.0,
        score_shown=any(one.score_shown for one in backing),
        reviewers=len({one.person for one in given}),
        agreement=_agreement(given, backing),
        source=first.source,
    )


def _known(verdict: str, backing: Sequence[_Given]) -> dict[str, int]:
    """What those who back the verdict said of each category: allow means that no rule is broken."""
    if verdict == Verdict.ALLOW:
        return dict.fromkeys(CATEGORIES, 0) if backing else {}
    return {one.category: 1 for one in backing if one.category in set(CATEGORIES)}


def _agreement(given: Sequence[_Given], backing: Sequence[_Given]) -> Settled:
    if any(one.stage == Stage.ADJUDICATION for one in backing):
        return Settled.ADJUDICATED
    if len({one.person for one in given}) == 1:
        return Settled.SINGLE
    return Settled.AGREED if len(backing) == len(given) else Settled.OVERRULED
