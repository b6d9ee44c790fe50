"""Reports of an item by users of the content service."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends

from api.auth import caller, services
from api.schemas import ReportIn, ReportOut
from api.services import Services
from moderation.governance.accounts import Principal, Scope
from moderation.review import reports
from moderation.storage.database import transaction

router = APIRouter(prefix="/v1/items", tags=["reports"])

Held = Annotated[Services, Depends(services)]
Reporting = Annotated[Principal, Depends(caller(Scope.REPORTS_WRITE))]


@router.post(
    "/{item_id}/reports", status_code=202, response_model=ReportOut, response_model_exclude_none=True
)
def report_item(item_id: UUID, body: ReportIn, held: Held, principal: Reporting) -> dict[str, Any]:
    """Pass on that a user reports an item.

    The item goes before people, the sooner the more often its reporters were right before. The same reporter
    counts once: sent again, the newest category and comment replace the first, until a person has decided.
    """
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        policy = held.policies.current(session)
        row = reports.report(
            session,
            held.vault,
            policy,
            principal.client,
            item_id,
            body.reporter,
            body.category,
            body.comment,
            now,
        )
        return {
            "id": str(row.id),
            "item_id": str(row.item_id),
            "category": row.category,
            "reported_at": row.reported_at,
            "outcome": row.outcome,
        }
