"""The queue: what waits, how long, and the views of it that people keep."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import Response

from api.auth import services
from api.console import forms
from api.console.routes.cases import SAID
from api.console.templating import render, see
from api.people import person
from api.problems import status_of
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.cases import CaseReason, Stage, is_blind
from moderation.domain.errors import Conflict, Forbidden, InvalidInput, Refusal
from moderation.governance.sessions import PersonPrincipal
from moderation.review import cases, filters
from moderation.review.cases import Filter
from moderation.storage.database import transaction

router = APIRouter(prefix="/console/queue", include_in_schema=False)

PAGE = 50
Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.CASE_READ))]
# Which of the checks a case is would tell too much; a lead sees them on the page of quality.
REASONS = [str(reason) for reason in CaseReason if not is_blind(reason)]


@router.get("")
def queue_page(request: Request, held: Held, me: Reader, after: UUID | None = None) -> Response:
    """Every queue, and the cases that fit the filter of the address."""
    return _page(request, held, me, after, forms.filter_of(request.query_params))


@router.post("/filters")
def save_filter(
    request: Request,
    held: Held,
    me: Reader,
    name: Annotated[str, Form(max_length=200)] = "",
    query: Annotated[str, Form(max_length=1000)] = "",
    shared: Annotated[bool, Form()] = False,
) -> Response:
    """Keep a filter under a name."""
    try:
        with transaction(held.databases.content) as session:
            row = filters.save(session, me, name, filters.from_query(query), datetime.now(UTC), shared=shared)
            address = f"/console/queue?{row.query}"
    except (InvalidInput, Forbidden, Conflict) as refusal:
        wanted = filters.from_query(query)
        return _page(request, held, me, None, wanted, refusal, name)
    return see(address)


@router.post("/filters/{filter_id}/remove")
def remove_filter(held: Held, me: Reader, filter_id: UUID) -> Response:
    """Forget one of one's own filters."""
    with transaction(held.databases.content) as session:
        filters.remove(session, me, filter_id, datetime.now(UTC))
    return see("/console/queue")


def _page(
    request: Request,
    held: Services,
    me: PersonPrincipal,
    after: UUID | None,
    wanted: Filter,
    refusal: Refusal | None = None,
    name: str = "",
) -> Response:
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        policy = held.policies.current(session)
        rows = cases.listing(session, wanted, now, after, PAGE + 1, person_id=me.person_id)
        queues = cases.queues(session, now)
        views = filters.saved(session, me)
    query = filters.to_query(wanted)
    return render(
        request,
        "queue/queue.html",
        status_of(refusal) if refusal else 200,
        wanted=wanted,
        query=query,
        queues=queues,
        rows=rows[:PAGE],
        older=f"?{query}&after={rows[PAGE - 1].id}" if len(rows) > PAGE else "",
        newer=f"?{query}" if after else "",
        views=views,
        languages=sorted({row.language for row in rows if row.language} | {wanted.language or "en"}),
        reasons=REASONS,
        stages=[str(stage) for stage in Stage],
        names=[*policy.categories, "other"],
        empty="empty" in request.query_params,
        note=SAID.get(request.query_params.get("said", ""), ""),
        undo_id=_uuid(request.query_params.get("undo")),
        fault=refusal.detail if refusal else "",
        name=name,
    )


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text or "")
    except ValueError:
        return None
