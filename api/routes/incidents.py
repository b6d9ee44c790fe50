"""Incidents, for the content services whose authors they touch."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from api.auth import caller, services
from api.incident_schemas import IncidentAuthorsOut
from api.services import Services
from moderation.governance import audit, incidents
from moderation.governance.accounts import Principal, Scope
from moderation.storage.database import transaction

router = APIRouter(prefix="/v1/incidents", tags=["incidents"])

Held = Annotated[Services, Depends(services)]
Subjects = Annotated[Principal, Depends(caller(Scope.SUBJECTS_WRITE))]


@router.get("/{incident_id}/authors", response_model=IncidentAuthorsOut, response_model_exclude_none=True)
def list_authors(
    incident_id: UUID,
    held: Held,
    principal: Subjects,
    after: Annotated[UUID | None, Query(description="`next` of the page before.")] = None,
) -> dict[str, Any]:
    """Which of your authors an incident touches, a thousand at a time. Authors erased since are left out.

    The webhook `incident.notice` says how many there are. Whom to tell of it, and how, is yours to decide
    (GDPR 34).
    """
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        row = incidents.get_for(session, incident_id, principal.client)
        actor = f"client:{principal.client}"
        audit.record(session, [audit.Event(actor, "incident.viewed", "incident", str(incident_id))], now)
    with transaction(held.databases.content) as session:
        lines, more = incidents.authors_of(session, held.vault, principal.client, incident_id, after, now)
    return {
        "incident_id": str(incident_id),
        "kind": row.kind,
        "severity": row.severity,
        "detected_at": row.detected_at,
        "authors": [line.reference for line in lines],
        "next": str(more) if more else None,
    }
