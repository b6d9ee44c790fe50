"""Partners: who else reads items, for what, in which fields, until when; what they have to delete."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
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
from moderation.domain.access import Permission
from moderation.domain.errors import InvalidInput, NotFound, Refusal
from moderation.domain.purposes import Purpose
from moderation.governance import partners
from moderation.governance.partners import Field
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.database import transaction

router = APIRouter(prefix="/console/governance/partners", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.PARTNER_READ))]
Manager = Annotated[PersonPrincipal, Depends(person(Permission.PARTNER_MANAGE, fresh=True))]
Value = Annotated[str, Form(max_length=10_000)]
HERE = "/console/governance/partners"
DAYS = 90
SAID = {
    "assigned": "Assigned. They may read it until it ends, or their key does.",
    "revoked": "Revoked. What they were given is to be deleted with them; note it here once they say so.",
    "acknowledged": "Noted: it is deleted with them.",
}


@router.get("")
def show_all(request: Request, held: Held, _: Reader) -> HTMLResponse:
    """Every partner."""
    return _list(request, held)


def _list(
    request: Request,
    held: Services,
    *,
    token: str = "",
    refusal: Refusal | None = None,
    given: dict[str, Any] | None = None,
) -> HTMLResponse:
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        found = partners.listing(session, now)
    context: dict[str, Any] = {
        "partners": found,
        "purposes": list(Purpose),
        "fields": list(Field),
        "given": given or {"name": "", "purpose": "", "fields": [], "until": ""},
        "until": f"{now + timedelta(days=DAYS):%Y-%m-%d}",
        "latest": f"{now + partners.LONGEST:%Y-%m-%d}",
        "token": token,
    }
    if refusal is not None:
        return refused(request, "partners/index.html", refusal, **context)
    answer = render(request, "partners/index.html", **context, error="")
    if token:
        answer.headers["Cache-Control"] = "no-store"
    return answer


@router.post("")
def create(
    request: Request,
    held: Held,
    me: Manager,
    name: Value = "",
    purpose: Value = "",
    fields: Annotated[list[str] | None, Form(max_length=10)] = None,
    until: Value = "",
) -> Response:
    """Make a partner; the key is shown this once."""
    now, given = datetime.now(UTC), {"name": name, "purpose": purpose, "fields": fields or [], "until": until}
    try:
        end = inputs.day(until, "The last day", end=True)
        if end is None:
            raise InvalidInput("Say until when the key opens anything.")
        with transaction(held.databases.content) as session:
            token = partners.create(
                session,
                held.vault,
                name=name.strip(),
                purpose=purpose,
                fields=fields or [],
                expires_at=end,
                actor=me.actor,
                now=now,
            )
    except Refusal as refusal:
        return _list(request, held, refusal=refusal, given=given)
    return _list(request, held, token=token)


@router.get("/{name}")
def show_one(request: Request, held: Held, _: Reader, name: str, said: str = "") -> HTMLResponse:
    """One partner with what is in their hands."""
    return _one(request, held, name, said=said)


def _one(
    request: Request, held: Services, name: str, *, said: str = "", refusal: Refusal | None = None
) -> HTMLResponse:
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        row = partners.one(session, name)
        view = next(one for one in partners.listing(session, now) if one.row.id == row.id)
        waiting = partners.deletions(session, row.id, now)
        given = partners.given(session, row.id)
    context: dict[str, Any] = {
        "view": view,
        "one": row,
        "state": view.state(now),
        "waiting": waiting,
        "given": given,
        "most": partners.PAGE,
        "flash": SAID.get(said, ""),
    }
    if refusal is not None:
        return refused(request, "partners/show.html", refusal, **context)
    return render(request, "partners/show.html", **context, error="")


@router.post("/{name}/assign")
def assign(
    request: Request, held: Held, me: Manager, name: str, items: Value = "", case: Value = ""
) -> Response:
    """Let a partner read items by their ids, or that of a case."""
    try:
        wanted = [one for text in items.split() if (one := inputs.identifier(text, "An item's id"))]
        of_case = inputs.identifier(case, "The case's id")
        with transaction(held.databases.content) as session:
            partners.assign(session, name, me.actor, datetime.now(UTC), items=wanted, case=of_case)
    except Refusal as refusal:
        return _again(request, held, name, refusal)
    return see(f"{HERE}/{name}", said="assigned")


@router.post("/{name}/revoke")
def revoke(request: Request, held: Held, me: Manager, name: str) -> Response:
    """End a partner at once."""
    try:
        with transaction(held.databases.content) as session:
            partners.revoke(session, name, me.actor, datetime.now(UTC))
    except Refusal as refusal:
        return _again(request, held, name, refusal)
    return see(f"{HERE}/{name}", said="revoked")


@router.post("/{name}/deletions/{item_id}")
def acknowledge(request: Request, held: Held, me: Manager, name: str, item_id: UUID) -> Response:
    """Note that a partner has deleted an item, who said so by another way than their key."""
    try:
        with transaction(held.databases.content) as session:
            row = partners.one(session, name)
            partners.acknowledge(session, row.id, item_id, me.actor, datetime.now(UTC))
    except Refusal as refusal:
        return _again(request, held, name, refusal)
    return see(f"{HERE}/{name}", said="acknowledged")


def _again(request: Request, held: Services, name: str, refusal: Refusal) -> HTMLResponse:
    if isinstance(refusal, NotFound) and "partner of this name" in refusal.detail:
        raise refusal
    return _one(request, held, name, refusal=refusal)
