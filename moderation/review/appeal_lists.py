"""Appeals as a page lists them: the open ones by deadline, the answered ones by when, and what they came to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, func, select, tuple_
from sqlalchemy.orm import Session

from moderation.storage.ids import lower_bound
from moderation.storage.tables import Appeal, Case, Decision

PAGE = 50
OPEN = "open"


@dataclass(frozen=True, slots=True)
class AppealRow:
    """An appeal with the decision it is about and the case that answers it; its statement stays closed."""

    id: UUID
    item_id: UUID
    case_id: UUID | None
    by: str
    client: str
    verdict: str
    category: str | None
    clause: str | None
    lodged_at: datetime
    deadline: datetime
    state: str
    closed_at: datetime | None
    in_hands: bool

    @property
    def late(self) -> bool:
        """Whether it was answered after its deadline."""
        return self.closed_at is not None and self.closed_at > self.deadline


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What the appeals lodged in a period came to."""

    lodged: int
    open: int
    upheld: int
    reversed: int
    withdrawn: int

    @property
    def reversed_share(self) -> float | None:
        """The share of answered appeals that changed the decision."""
        answered = self.upheld + self.reversed
        return self.reversed / answered if answered else None


def open_by_deadline(session: Session, now: datetime, after: UUID | None = None) -> list[AppealRow]:
    """A page of open appeals and one more, the nearest deadline first, those after the appeal `after`."""
    query = _rows().where(Appeal.state == OPEN).order_by(Appeal.deadline, Appeal.id)
    last = session.get(Appeal, after) if after else None
    if last is not None:
        query = query.where(tuple_(Appeal.deadline, Appeal.id) > tuple_(last.deadline, last.id))
    return _read(session, query, now)


def answered(session: Session, now: datetime, before: UUID | None = None) -> list[AppealRow]:
    """A page of appeals that are answered and one more, the last lodged first, those before `before`."""
    query = _rows().where(Appeal.state != OPEN).order_by(Appeal.id.desc())
    if before is not None:
        query = query.where(Appeal.id < before)
    return _read(session, query, now)


def outcomes(session: Session, since: datetime) -> dict[str, Outcomes]:
    """What appeals lodged since then came to, by who lodged them."""
    rows = session.execute(
        select(Appeal.by, Appeal.state, func.count())
        .where(Appeal.id >= lower_bound(since))
        .group_by(Appeal.by, Appeal.state)
    )
    counts: dict[str, dict[str, int]] = {}
    for by, state, number in rows:
        counts.setdefault(by, {})[state] = number
    return {
        by: Outcomes(
            lodged=sum(states.values()),
            open=states.get(OPEN, 0),
            upheld=states.get("upheld", 0),
            reversed=states.get("reversed", 0),
            withdrawn=states.get("withdrawn", 0),
        )
        for by, states in sorted(counts.items())
    }


def _rows() -> Select[Appeal, Decision, Case]:
    # The join by item has an index; by appeal alone there is none.
    return (
        select(Appeal, Decision, Case)
        .join(Decision, Decision.id == Appeal.decision_id)
        .outerjoin(Case, (Case.item_id == Appeal.item_id) & (Case.appeal_id == Appeal.id))
        .limit(PAGE + 1)
    )


def _read(session: Session, query: Select[Appeal, Decision, Case], now: datetime) -> list[AppealRow]:
    rows: dict[UUID, AppealRow] = {}
    appeal: Appeal
    decision: Decision
    case: Case | None  # the row of the outer join is there or not, which its type does not say
    for appeal, decision, case in session.execute(query):
        rows[appeal.id] = AppealRow(
            id=appeal.id,
            item_id=appeal.item_id,
            case_id=case.id if case else None,
            by=appeal.by,
            client=appeal.client,
            verdict=decision.route,
            category=decision.category,
            clause=decision.clause,
            lodged_at=appeal.lodged_at,
            deadline=appeal.deadline,
            state=appeal.state,
            closed_at=appeal.closed_at,
            in_hands=case is not None and case.claim_until is not None and case.claim_until > now,
        )
    return list(rows.values())
