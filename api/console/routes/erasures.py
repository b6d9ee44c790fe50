"""The ledger of erasures: what was erased and why, with its receipt; and asking for one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, Response

from api.auth import services
from api.console import inputs
from api.console.routes.login import refused
from api.console.templating import render, see
from api.people import person
from api.services import Services
from moderation.domain import content
from moderation.domain.access import Permission
from moderation.domain.erasing import Cause
from moderation.domain.errors import InvalidInput, Refusal
from moderation.governance import erasure
from moderation.governance.erasing import receipts
from moderation.governance.sessions import PersonPrincipal
from moderation.review import search
from moderation.storage.database import transaction

router = APIRouter(prefix="/console/governance/erasures", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.GOVERNANCE_READ))]
Eraser = Annotated[PersonPrincipal, Depends(person(Permission.ERASURE_RUN, fresh=True))]

# What a person may ask for here; the others follow from something else.
CAUSES = (Cause.REQUEST, Cause.CANCELLATION, Cause.WITHDRAWAL, Cause.OPERATOR)
SAID = {"asked": "Everything of this author is hidden. What is left is being destroyed; the receipt follows."}
LONG = 300


@router.get("")
def show_all(request: Request, held: Held, _: Reader, before: str = "") -> HTMLResponse:
    """The ledger, newest first, and the form for another."""
    return _list(request, held, before=before, given={})


def _list(
    request: Request,
    held: Services,
    *,
    before: str = "",
    given: Mapping[str, str],
    refusal: Refusal | None = None,
) -> HTMLResponse:
    place = inputs.identifier(before, "The place to go on from")
    with transaction(held.databases.content) as session:
        rows = receipts.listing(session, place)
        clients = search.clients(session)
    here = "/console/governance/erasures"
    more = rows[receipts.PAGE - 1].id if len(rows) > receipts.PAGE else None
    context: dict[str, Any] = {
        "rows": rows[: receipts.PAGE],
        "clients": [(name, name) for name in clients],
        "causes": [(str(cause), str(cause).replace("_", " ")) for cause in CAUSES],
        "given": given,
        "first": here if before else "",
        "more": inputs.address(here, {"before": more}) if more else "",
    }
    if refusal is not None:
        return refused(request, "erasures/index.html", refusal, **context)
    return render(request, "erasures/index.html", **context, error="")


@router.post("")
def ask(
    request: Request,
    held: Held,
    me: Eraser,
    client: Annotated[str, Form(max_length=LONG)] = "",
    author: Annotated[str, Form(max_length=LONG)] = "",
    cause: Annotated[str, Form(max_length=LONG)] = "",
    sure: Annotated[bool, Form()] = False,
) -> Response:
    """Erase everything of an author."""
    try:
        why = inputs.one_of(cause, "The cause", list(CAUSES))
        content.checked_reference(author, "The author's reference")
        if why is None or not sure:
            raise InvalidInput("Say why, and tick that you are sure: what is erased can't be brought back.")
        now = datetime.now(UTC)
        with transaction(held.databases.content) as session:
            identifier = erasure.request(
                session,
                held.vault,
                client=client,
                author_id=erasure.author_of(session, held.vault, client, author),
                cause=Cause(why),
                requested_by=me.actor,
                now=now,
            )
    except Refusal as refusal:
        return _list(request, held, given={"client": client, "cause": cause}, refusal=refusal)
    return see(f"/console/governance/erasures/{identifier}", said="asked")


@router.get("/{erasure_id}")
def show_one(request: Request, held: Held, _: Reader, erasure_id: UUID, said: str = "") -> HTMLResponse:
    """One erasure: what there was, what is left, what is kept and why."""
    with transaction(held.databases.content) as session:
        row = receipts.get(session, erasure_id)
    counted = [
        (name, row.before.get(name, 0), (row.after or {}).get(name))
        for name in sorted({*row.before, *(row.after or {})} - {"kek_epoch"})
        if row.before.get(name) or (row.after or {}).get(name)
    ]
    return render(request, "erasures/show.html", row=row, counted=counted, flash=SAID.get(said, ""))


@router.get("/{erasure_id}/receipt.json")
def receipt(held: Held, _: Reader, erasure_id: UUID) -> Response:
    """The signed receipt, as a file."""
    with transaction(held.databases.content) as session:
        text = erasure.receipt(session, erasure_id)
    name = f"erasure-{erasure_id}.json"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Response(text + "\n", media_type="application/json", headers=headers)
