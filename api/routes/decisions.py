"""Decisions in full, and that somebody was told of one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from sqlalchemy.orm import Session

from api import promised, views
from api.auth import caller, services
from api.schemas import DecisionOut, InformedIn
from api.services import Services
from api.statement_schemas import NoticeOut, StatementOut
from moderation.domain.routing import Route
from moderation.governance import notices, statements
from moderation.governance.accounts import Principal, Scope
from moderation.review import appeals, measures
from moderation.storage.database import transaction
from moderation.storage.tables import Author, Decision
from moderation.storage.vault import VaultError

router = APIRouter(prefix="/v1/decisions", tags=["decisions"])

Held = Annotated[Services, Depends(services)]
Reader = Annotated[Principal, Depends(caller(Scope.ITEMS_READ))]
Informing = Annotated[Principal, Depends(caller(Scope.APPEALS_WRITE))]


@router.get("/{decision_id}", response_model=DecisionOut, response_model_exclude_none=True)
def get_decision(decision_id: UUID, held: Held, principal: Reader) -> dict[str, Any]:
    """A decision with all that a webhook leaves out: restrictions, measures, the reason for the author.

    A person's decision is there once its undo window is over, some seconds after it was made.
    """
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        row = appeals.visible(session, principal.client, decision_id, now)
        return _shown(held, session, row, now)


@router.get("/{decision_id}/statement", response_model=StatementOut, response_model_exclude_none=True)
def get_statement(decision_id: UUID, held: Held, principal: Reader) -> dict[str, Any]:
    """The statement of reasons of a decision that restricts, as the EU's transparency database takes it.

    It is derived from the decision each time and never holds content. A decision that restricts nothing has none.
    """
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        row = appeals.visible(session, principal.client, decision_id, now)
        return statements.of_decision(session, held.policies, row, now)


@router.get("/{decision_id}/notice", response_model=NoticeOut, response_model_exclude_none=True)
def get_notice(
    decision_id: UUID,
    held: Held,
    principal: Reader,
    language: Annotated[
        str | None, Query(max_length=35, description="en, de, es, fr, it or nl; default: that of the post.")
    ] = None,
) -> dict[str, Any]:
    """What to tell the author of a post of a decision that restricts it, or that lifts a restriction.

    What was done and why, how it was found and who decided, and what the author can do: appeal here and until
    when, turn to a settlement body, go to court. It never repeats the post.
    """
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        row = appeals.visible(session, principal.client, decision_id, now)
        until = appeals.appeal_until(session, held.policies.current(session, now), row)
        notice = notices.of_decision(session, held.policies, row, language, until, now)
    return {
        "decision_id": str(row.id),
        "language": notice.language,
        "subject": notice.subject,
        "text": notice.text,
        "paragraphs": list(notice.paragraphs),
        "redress": notice.redress,
        "appeal_until": notice.appeal_until,
    }


@router.post("/{decision_id}/informed", status_code=204)
def informed(decision_id: UUID, held: Held, principal: Informing, body: InformedIn | None = None) -> None:
    """Say when the author (or the reporter) was told of a decision: the time to appeal counts from there.

    The first word counts; saying it again changes nothing. Where nobody says it, the time counts from the
    delivery of the decision's webhook.
    """
    now = datetime.now(UTC)
    at = body.at if body and body.at else now
    with transaction(held.databases.content) as session:
        row = appeals.visible(session, principal.client, decision_id, now)
        appeals.inform(session, row, at, principal.actor, now)


def _shown(held: Services, session: Session, row: Decision, now: datetime) -> dict[str, Any]:
    # The clause as it read when it was cited; the time to appeal as it is now.
    policy = held.policies.current(session)
    clause = held.policies.version(session, row.policy_version).clause(row.clause) if row.clause else None
    superseded = row.superseded_at if row.superseded_at and row.superseded_at <= now else None
    appealable = row.route != Route.REVIEW and superseded is None
    return {
        "id": str(row.id),
        "item_id": str(row.item_id),
        "author": _author(held, session, row, now),
        "verdict": row.route,
        "category": row.category,
        "clause": row.clause,
        "reason": (clause.reason or clause.rule) if clause else None,
        "restrictions": row.restrictions,
        "measures": [
            {
                "measure": action.kind,
                "effective_at": action.effective_at,
                "until": action.until,
                "reversed_at": action.reversed_at
                if action.reversed_at and action.reversed_at <= now
                else None,
            }
            for action in measures.of_decision(session, row.id)
        ],
        "decided_by": row.decided_by,
        "decided_at": row.decided_at,
        "effective_at": row.effective_at,
        "superseded_at": superseded,
        "reverses": str(row.reverses) if row.reverses else None,
        "policy_version": row.policy_version,
        **views.promise(row, promised.cited(session, [row])),
        "informed_at": row.informed_at,
        "appeal_until": appeals.appeal_until(session, policy, row) if appealable else None,
    }


def _author(held: Services, session: Session, row: Decision, now: datetime) -> str | None:
    author = session.get(Author, row.author_id)
    if author is None:
        return None
    try:
        key = held.vault.author_keys([author.id], now)[author.id]
        return key.decrypt(author.reference, "authors", "reference", str(author.id)).decode()
    except VaultError:
        return None
