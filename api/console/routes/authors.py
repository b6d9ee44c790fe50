"""One author: how the account stands, what was done to it, what became of its items."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from api.auth import services
from api.console import charts, inputs
from api.console.templating import render
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.errors import Conflict
from moderation.governance import audit, minors
from moderation.governance.sessions import PersonPrincipal
from moderation.review import history, search
from moderation.storage.database import transaction
from moderation.storage.tables import Author

router = APIRouter(prefix="/console/authors", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.AUTHOR_READ))]
SUSPECTED = "The check is open; their content service is told to suspend the account."
BLIND = (
    "You are judging a post of this author blind. The author's page opens once you have given your opinion."
)


@router.get("/{author_id}")
def show(
    request: Request, held: Held, me: Reader, author_id: UUID, before: str = "", said: str = ""
) -> HTMLResponse:
    """An author's standing, measures, outcomes and timeline."""
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        if author_id in history.judged_blind(session, me.person_id).values():
            raise Conflict(BLIND, code="judging_blind")
        policy = held.policies.current(session)
        author = history.of_author(session, held.vault, policy, author_id, now)
        # Committed with this transaction, before anything is shown.
        audit.record(session, [audit.Event(me.actor, "author.viewed", "author", str(author_id))], now)
        wanted = search.Query(
            author_id=author_id, before=inputs.identifier(before, "The place to go on from")
        )
        check = minors.open_check(session, author_id)
        row = session.get(Author, author_id)
        page = search.items(session, held.vault, wanted, now)
    here = f"/console/authors/{author_id}"
    return render(
        request,
        "authors/show.html",
        author=author,
        check=check,
        restricted_at=row.restricted_at if row else None,
        flash=SUSPECTED if said == "suspected" else "",
        page=page,
        strikes=policy.review.strikes,
        charts=charts,
        first=here if before else "",
        more=inputs.address(here, {"before": page.next}) if page.next else "",
    )
