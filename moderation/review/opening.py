"""Open cases: what an item brings with it becomes a place in people's queues.

Below everything else in this package, so that whoever finds a reason to ask people can do so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import case, func, or_, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from moderation.domain import cases
from moderation.domain.cases import CaseKind, CaseState, Stage
from moderation.domain.decisions import CaseDraft
from moderation.domain.policy import Policy
from moderation.governance import audit
from moderation.storage.ids import new_id
from moderation.storage.tables import Case, Item

OTHER_QUEUE = "other"


def open_case(
    session: Session,
    policy: Policy,
    item: Item,
    decision_id: UUID,
    draft: CaseDraft,
    now: datetime,
    *,
    appeal_id: UUID | None = None,
    reserved_for: UUID | None = None,
    stage: Stage = Stage.REVIEW,
    matches: Sequence[Mapping[str, Any]] = (),
) -> UUID:
    """Open a case, or raise the open one of its kind: in priority, urgency and stage; its id.

    A claim on it stays. Golden cases are never shared: each is a new one. `matches` are shown with those of the
    item's decisions.
    """
    row = case_row(policy, item, decision_id, draft, now)
    row |= {"appeal_id": appeal_id, "reserved_for": reserved_for, "stage": stage}
    row |= {"matches": [dict(one) for one in matches]}
    insert = upsert(Case).values(row)
    graver = insert.excluded.severity > Case.severity
    identifier: UUID
    identifier, fresh = session.execute(
        insert.on_conflict_do_update(
            index_elements=[Case.item_id, Case.kind],
            index_where=_OPEN,
            set_={
                "priority": func.greatest(Case.priority, insert.excluded.priority),
                "severity": func.greatest(Case.severity, insert.excluded.severity),
                "deadline": func.least(Case.deadline, insert.excluded.deadline),
                "urgent": or_(Case.urgent, insert.excluded.urgent),
                "opinions_wanted": func.greatest(Case.opinions_wanted, insert.excluded.opinions_wanted),
                # Whoever knows the graver category should get it.
                "queue": _either(graver, insert.excluded.queue, Case.queue),
                "category": _either(graver, insert.excluded.category, Case.category),
                "reason": _either(
                    graver & (Case.kind == CaseKind.REVIEW), insert.excluded.reason, Case.reason
                ),
                "stage": _either(insert.excluded.stage == Stage.ADJUDICATION, Stage.ADJUDICATION, Case.stage),
                "appeal_id": func.coalesce(Case.appeal_id, insert.excluded.appeal_id),
                "matches": Case.matches.op("||")(insert.excluded.matches),
            },
        ).returning(Case.id, Case.id == row["id"]),
        execution_options={"synchronize_session": False},
    ).one()
    if fresh:
        details = {"item": str(item.id), "reason": str(row["reason"])}
        audit.record(
            session, [audit.Event(audit.MACHINE, "case.opened", "case", str(identifier), details)], now
        )
    known = session.identity_map.get(session.identity_key(Case, identifier))
    if known is not None:
        session.expire(known)
    return identifier


_OPEN = text("state = 'open' AND kind <> 'golden'")


def _either(condition: Any, yes: Any, no: Any) -> Any:
    return case((condition, yes), else_=no)


def case_row(
    policy: Policy, item: Item, decision_id: UUID, draft: CaseDraft, now: datetime
) -> dict[str, Any]:
    """A new case as its row."""
    reason = cases.reason_of(draft.reason, draft.category)
    kind = cases.kind_of(reason)
    return {
        "id": new_id(now),
        "item_id": item.id,
        "author_id": item.author_id,
        "client": item.client,
        "decision_id": decision_id,
        "kind": kind,
        "reason": reason,
        "queue": draft.category or OTHER_QUEUE,
        "category": draft.category,
        "language": primary(item.language),
        "severity": draft.severity,
        "priority": cases.priority(draft.probability, draft.severity, item.reach),
        "deadline": cases.deadline(policy, draft.category, reason, now),
        "urgent": cases.is_urgent(policy, draft.category, reason),
        "blind": draft.blind or cases.is_blind(reason),
        "propensity": draft.propensity,
        "state": CaseState.OPEN,
        "stage": Stage.REVIEW,
        "opinions_wanted": cases.opinions_wanted(policy, draft.category, kind),
        "opened_at": now,
    }


def primary(language: str | None) -> str | None:
    """The language of a BCP 47 tag without its region, by which people's skills are named."""
    return language.split("-", 1)[0].lower() if language else None
