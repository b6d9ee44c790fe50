"""Taking a decision back before anybody outside has heard of it: all of it, or none of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import and_, exists, or_, select, update
from sqlalchemy.orm import Session

from moderation.domain.cases import CaseKind, CaseState
from moderation.domain.content import ItemState
from moderation.domain.errors import Conflict, NotFound
from moderation.domain.policy import Policy
from moderation.governance import audit, outbox
from moderation.governance.sessions import PersonPrincipal
from moderation.review import measures, reporters
from moderation.review.force import lock_items, restore_clock
from moderation.storage.database import among
from moderation.storage.tables import Appeal, Case, Decision, Item, Opinion, Report

OVER = "This can't be undone any more; decide anew, or have it reversed."


def undo(
    session: Session, policy: Policy, person: PersonPrincipal, undo_id: UUID, now: datetime
) -> list[UUID]:
    """Take back what `person` decided under `undo_id`; the cases, open again and claimed by them.

    Doing it twice is doing it once.

    Raises:
        NotFound: the person decided nothing under this id.
        Conflict: the window is over, or somebody has gone on from there: judged, decided, deleted or been told.
    """
    rows = _decided(session, person, undo_id)
    items = lock_items(session, [row.item_id for row in rows])
    cases = _lock_cases(session, [row.case_id for row in rows if row.case_id])
    rows = _decided(session, person, undo_id)
    if all(row.undone_at for row in rows):
        return [case.id for case in cases]
    _check_decisions(rows, items, now)
    ids = [row.id for row in rows]
    checks = _spawned(session, list(items), ids)
    _check_opinions(session, rows, checks)
    # A message that is on its way decides: then nothing is undone.
    if not outbox.withdraw(session, undo_id):
        raise Conflict(OVER, code="undo_over")
    _take_back(session, rows, items, now)
    for check in checks:
        check.state, check.closed_at = CaseState.CLOSED, now
    _take_back_opinions(session, person, ids, now)
    measures.undo(session, ids)
    reporters.unresolve(session, ids, now)
    _reopen_appeals(session, list(items), ids)
    for case in cases:
        _reopen(session, policy, person, case, now)
    session.flush()
    events = [
        audit.Event(person.actor, "decision.undone", "item", str(row.item_id), {"decision": str(row.id)})
        for row in rows
    ]
    events += [audit.Event(person.actor, "case.claimed", "case", str(case.id)) for case in cases]
    audit.record(session, events, now)
    return [case.id for case in cases]


def _decided(session: Session, person: PersonPrincipal, undo_id: UUID) -> Sequence[Decision]:
    rows = session.scalars(
        select(Decision)
        .where(Decision.undo_id == undo_id, Decision.person_id == person.person_id)
        .order_by(Decision.id)
        .execution_options(populate_existing=True)
    ).all()
    if not rows:
        raise NotFound("There is nothing of yours to undo under this id.")
    return rows


def _lock_cases(session: Session, ids: Sequence[UUID]) -> Sequence[Case]:
    return session.scalars(
        select(Case)
        .where(among(Case.id, ids))
        .order_by(Case.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()


def _check_decisions(rows: Sequence[Decision], items: Mapping[UUID, Item], now: datetime) -> None:
    if any(row.effective_at <= now for row in rows):
        raise Conflict(OVER, code="undo_over")
    if any(row.superseded_at for row in rows):
        raise Conflict("Somebody has decided anew meanwhile; this can't be undone.", code="superseded")
    if any(row.item_id not in items or items[row.item_id].state == ItemState.DELETED for row in rows):
        raise Conflict("The post was deleted meanwhile; there is nothing left to decide.", code="deleted")


def _spawned(session: Session, item_ids: Sequence[UUID], decisions: Sequence[UUID]) -> Sequence[Case]:
    """Open cases that check what is now taken back."""
    return session.scalars(
        select(Case)
        .where(
            among(Case.item_id, item_ids),
            among(Case.decision_id, decisions),
            Case.kind == CaseKind.QUALITY,
            Case.state == CaseState.OPEN,
        )
        .order_by(Case.id)
        .with_for_update()
    ).all()


def _check_opinions(session: Session, rows: Sequence[Decision], checks: Sequence[Case]) -> None:
    ids = [row.id for row in rows]
    newer = select(Opinion.id).where(
        Opinion.case_id == Decision.case_id,
        Opinion.undone_at.is_(None),
        or_(
            Opinion.given_at > Decision.decided_at,
            and_(Opinion.late, Opinion.given_at >= Decision.decided_at),
        ),
    )
    judged = exists().where(among(Opinion.case_id, [case.id for case in checks]))
    later = session.scalar(select(Decision.id).where(among(Decision.id, ids), newer.exists()).limit(1))
    if later is not None or session.scalar(select(judged)):
        raise Conflict("Somebody has judged it since; this can't be undone.", code="judged_since")


def _take_back(session: Session, rows: Sequence[Decision], items: Mapping[UUID, Item], now: datetime) -> None:
    # First out of force, then the former ones back: one alone may stand at a time.
    for row in rows:
        row.superseded_at = row.undone_at = now
    session.flush()
    session.execute(
        update(Decision)
        .where(among(Decision.id, [row.supersedes for row in rows if row.supersedes]))
        .values(superseded_at=None)
        .execution_options(synchronize_session="fetch")
    )
    for row in rows:
        if row.clock_before:
            restore_clock(items[row.item_id], row.clock_before)


def _take_back_opinions(
    session: Session, person: PersonPrincipal, decisions: Sequence[UUID], now: datetime
) -> None:
    """Theirs is undone; those of others that it had led to the same decision count on."""
    opinions = session.scalars(
        select(Opinion)
        .join(Decision, Decision.case_id == Opinion.case_id)
        .where(among(Decision.id, decisions), among(Opinion.decision_id, decisions))
        .execution_options(populate_existing=True)
    )
    for opinion in opinions:
        if opinion.person_id == person.person_id and opinion.undone_at is None:
            opinion.undone_at = now
        elif opinion.undone_at is None:
            opinion.decision_id = None


def _reopen_appeals(session: Session, item_ids: Sequence[UUID], decisions: Sequence[UUID]) -> None:
    session.execute(
        update(Appeal)
        .where(among(Appeal.item_id, item_ids), among(Appeal.outcome_id, decisions))
        .values(state="open", outcome_id=None, closed_at=None)
        .execution_options(synchronize_session=False)
    )


def _reopen(session: Session, policy: Policy, person: PersonPrincipal, case: Case, now: datetime) -> None:
    _merge(session, case, now)
    case.state, case.closed_at = CaseState.OPEN, None
    case.claimed_by, case.claimed_at = person.person_id, now
    case.claim_number += 1
    case.claim_until = now + timedelta(minutes=policy.review.claim_minutes)
    session.flush()


def _merge(session: Session, case: Case, now: datetime) -> None:
    """Close a case that was opened for the same meanwhile: there is one of a kind."""
    other = session.scalar(
        select(Case)
        .where(Case.item_id == case.item_id, Case.kind == case.kind, Case.state == CaseState.OPEN)
        .with_for_update()
    )
    if other is None or other.id == case.id:
        return
    if session.scalar(select(exists().where(Opinion.case_id == other.id))):
        raise Conflict("Somebody has judged it since; this can't be undone.", code="judged_since")
    other.state, other.closed_at = CaseState.CLOSED, now
    case.priority, case.urgent = max(case.priority, other.priority), case.urgent or other.urgent
    session.execute(
        update(Report)
        .where(Report.item_id == case.item_id, Report.case_id == other.id)
        .values(case_id=case.id)
        .execution_options(synchronize_session=False)
    )
    session.flush()
