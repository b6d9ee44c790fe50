"""What waits: lists of open cases, and the state of each queue. Golden cases are in neither: it would tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select, tuple_
from sqlalchemy.orm import Session

from moderation.domain.cases import CaseKind, CaseReason, CaseState
from moderation.review.views import CaseRow, Claim, QueueState
from moderation.storage.database import among
from moderation.storage.tables import Case

# Word for word the conditions of the partial indexes.
_OPEN = Case.state == CaseState.OPEN
_SHOWN = and_(_OPEN, Case.kind != CaseKind.GOLDEN)
# A filter must not tell what a list hides.
_SHOWN_REASON = case((Case.kind == CaseKind.GOLDEN, CaseReason.AUDIT), else_=Case.reason)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which cases somebody wants to see or be given; None is any."""

    queue: str | None = None
    language: str | None = None
    reason: str | None = None
    client: str | None = None
    stage: str | None = None
    mine: bool = False


def view(case: Case, now: datetime) -> CaseRow:
    """A case as it is shown. A golden one looks like an audit draw."""
    golden = case.kind == CaseKind.GOLDEN
    alive = case.claim_until is not None and case.claim_until > now
    return CaseRow(
        id=case.id,
        item_id=case.item_id,
        author_id=case.author_id,
        client=case.client,
        decision_id=case.decision_id,
        kind=CaseKind.QUALITY if golden else case.kind,
        reason=CaseReason.AUDIT if golden else case.reason,
        queue=case.queue,
        category=case.category,
        language=case.language,
        severity=case.severity,
        priority=case.priority,
        deadline=case.deadline,
        urgent=case.urgent,
        blind=case.blind,
        state=case.state,
        stage=case.stage,
        opened_at=case.opened_at,
        closed_at=case.closed_at,
        claimed_by=case.claimed_by if alive else None,
        claim_until=case.claim_until if alive else None,
        reserved_for=None if golden else case.reserved_for,
        appeal_id=case.appeal_id,
    )


def claim_of(case: Case, person_id: UUID, now: datetime) -> Claim | None:
    """The live claim that a person holds on a case."""
    if case.state != CaseState.OPEN or case.claimed_by != person_id:
        return None
    if case.claim_until is None or case.claim_until <= now:
        return None
    return Claim(case.id, case.claim_number, case.claim_until)


def listing(
    session: Session,
    wanted: Filter,
    now: datetime,
    after: UUID | None = None,
    limit: int = 50,
    *,
    person_id: UUID | None = None,
) -> list[CaseRow]:
    """Open cases in the order in which they are taken: deadlines first, then expected harm.

    `after` is the last case of the page before; one that was closed meanwhile still says where that ended.
    `person_id` is whose `mine` is about.
    """
    last = session.get(Case, after) if after else None
    conditions = [*_conditions(wanted, person_id, now), _shown_to(person_id)]
    rows: list[Case] = []
    if last is None or last.urgent:
        urgent = select(Case).where(_OPEN, Case.urgent, *conditions).order_by(Case.deadline, Case.id)
        if last is not None:
            urgent = urgent.where(tuple_(Case.deadline, Case.id) > tuple_(last.deadline, last.id))
        rows += _page(session, urgent, limit)
    if len(rows) < limit:
        harm = select(Case).where(_OPEN, ~Case.urgent, *conditions)
        if last is not None and not last.urgent:
            level = and_(Case.priority == last.priority, Case.id > last.id)
            harm = harm.where(Case.priority <= last.priority, or_(Case.priority < last.priority, level))
        rows += _page(session, harm.order_by(Case.priority.desc(), Case.id), limit - len(rows))
    return [view(row, now) for row in rows]


def _shown_to(person_id: UUID | None) -> ColumnElement[bool]:
    ordinary = Case.kind != CaseKind.GOLDEN
    return ordinary if person_id is None else or_(ordinary, Case.reserved_for == person_id)


def _page(session: Session, query: Select[Case], limit: int) -> Sequence[Case]:
    return session.scalars(query.limit(limit)).all()


def _conditions(wanted: Filter, person_id: UUID | None, now: datetime) -> list[ColumnElement[bool]]:
    named: Iterable[tuple[Any, str | None]] = (
        (Case.queue, wanted.queue),
        (Case.language, wanted.language),
        (_SHOWN_REASON, wanted.reason),
        (Case.client, wanted.client),
        (Case.stage, wanted.stage),
    )
    conditions: list[ColumnElement[bool]] = [column == value for column, value in named if value]
    if wanted.mine:
        held = and_(Case.claimed_by == person_id, Case.claim_until > now)
        conditions.append(or_(held, Case.reserved_for == person_id))
    return conditions


def of_items(session: Session, item_ids: Sequence[UUID], now: datetime) -> list[CaseRow]:
    """The open cases about the decision of these items, in the order of `item_ids`."""
    rows = session.scalars(
        select(Case).where(among(Case.item_id, item_ids), _OPEN, Case.kind == CaseKind.REVIEW)
    )
    found = {row.item_id: view(row, now) for row in rows}
    return [found[item] for item in item_ids if item in found]


def queues(session: Session, now: datetime) -> list[QueueState]:
    """Every queue in which something waits, the most overdue first."""
    rows = session.execute(
        select(
            Case.queue,
            func.count(),
            func.count().filter(Case.claim_until > now),
            func.min(Case.opened_at),
            func.count().filter(Case.deadline < now),
            func.min(Case.deadline),
        )
        .where(_SHOWN)
        .group_by(Case.queue)
    ).all()
    return sorted((QueueState(*row) for row in rows), key=lambda queue: queue.next_deadline)


def oldest_open(session: Session) -> dict[str, datetime]:
    """Since when the oldest open case of each queue has waited."""
    rows = session.execute(select(Case.queue, func.min(Case.opened_at)).where(_SHOWN).group_by(Case.queue))
    return dict(rows.all())


def missed(session: Session, now: datetime) -> dict[str, int]:
    """How many open cases of each queue are past their deadline."""
    rows = session.execute(
        select(Case.queue, func.count()).where(_SHOWN, Case.deadline < now).group_by(Case.queue)
    )
    return dict(rows.all())
