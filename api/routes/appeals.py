"""Appeals of decisions, by authors and reporters."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from api.auth import caller, services
from api.schemas import AppealIn, AppealOut
from api.services import Services
from moderation.governance.accounts import Principal, Scope
from moderation.review import appeals
from moderation.review.appealed import AppealState, By
from moderation.storage.database import transaction
from moderation.storage.tables import Appeal, Decision

router = APIRouter(prefix="/v1", tags=["appeals"])

Held = Annotated[Services, Depends(services)]
Reader = Annotated[Principal, Depends(caller(Scope.ITEMS_READ))]
Appealing = Annotated[Principal, Depends(caller(Scope.APPEALS_WRITE))]


@router.post(
    "/decisions/{decision_id}/appeals",
    status_code=201,
    response_model=AppealOut,
    response_model_exclude_none=True,
    responses={200: {"model": AppealOut, "description": "This side has appealed already; the same appeal."}},
)
def lodge_appeal(
    decision_id: UUID, body: AppealIn, response: Response, held: Held, principal: Appealing
) -> dict[str, Any]:
    """Have a person who had no part in a decision look at it again.

    An author appeals a limit or a removal, with whatever it did to the account; a reporter appeals that a
    reported item was allowed. Each side can do so once, within the policy's time (`appeal_until` of the decision).
    """
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        appeal = appeals.lodge(
            session,
            held.vault,
            held.policies.current(session),
            principal.client,
            decision_id,
            By(body.by),
            body.reporter,
            body.statement,
            now,
        )
        if appeal.lodged_at != now:
            response.status_code = 200
        response.headers["Location"] = f"/v1/appeals/{appeal.id}"
        return _shown(*appeals.of_client(session, principal.client, appeal.id, now))


@router.get("/appeals/{appeal_id}", response_model=AppealOut, response_model_exclude_none=True)
def get_appeal(appeal_id: UUID, held: Held, principal: Reader) -> dict[str, Any]:
    """An appeal and, once a person has answered it, its outcome."""
    with transaction(held.databases.content) as session:
        return _shown(*appeals.of_client(session, principal.client, appeal_id, datetime.now(UTC)))


def _shown(appeal: Appeal, outcome: Decision | None) -> dict[str, Any]:
    # What may still be undone is not told: until then the appeal is open to whoever asks.
    settled = outcome is not None or appeal.state == AppealState.WITHDRAWN
    return {
        "id": str(appeal.id),
        "decision_id": str(appeal.decision_id),
        "item_id": str(appeal.item_id),
        "by": appeal.by,
        "state": appeal.state if settled else AppealState.OPEN,
        "lodged_at": appeal.lodged_at,
        "deadline": appeal.deadline,
        "outcome_id": str(outcome.id) if outcome else None,
        "verdict": outcome.route if outcome else None,
        "closed_at": appeal.closed_at if settled else None,
    }
