"""Appeals: what has to be answered by when, and what was answered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from api.auth import services
from api.console import inputs
from api.console.templating import render
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.errors import InvalidInput
from moderation.governance.sessions import PersonPrincipal
from moderation.review import appeal_lists
from moderation.storage.database import transaction

router = APIRouter(prefix="/console/appeals", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.APPEAL_DECIDE))]
OUTCOME_DAYS = 90
SHOWN = ("open", "answered")


@router.get("")
def show(request: Request, held: Held, _: Reader, show: str = "open", after: str = "") -> HTMLResponse:
    """Open appeals by deadline, or those that are answered."""
    now = datetime.now(UTC)
    place, fault = None, ""
    try:
        chosen = inputs.one_of(show, "What to show", SHOWN) or "open"
        place = inputs.identifier(after, "The place to go on from")
    except InvalidInput as error:
        chosen, fault = "open", error.detail
    listed = appeal_lists.open_by_deadline if chosen == "open" else appeal_lists.answered
    with transaction(held.databases.content) as session:
        rows = listed(session, now, place)
        outcomes = appeal_lists.outcomes(session, now - timedelta(days=OUTCOME_DAYS))
    here = inputs.address("/console/appeals", {"show": chosen})
    last = rows[appeal_lists.PAGE - 1].id if len(rows) > appeal_lists.PAGE else None
    return render(
        request,
        "appeals/index.html",
        422 if fault else 200,
        fault=fault,
        show=chosen,
        rows=rows[: appeal_lists.PAGE],
        outcomes=outcomes,
        first=here if after else "",
        more=inputs.address("/console/appeals", {"show": chosen, "after": last}) if last else "",
    )
