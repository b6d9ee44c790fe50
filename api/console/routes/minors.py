"""Whom somebody takes for a minor: the top lane, and its two answers."""

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
from moderation.domain.subjects import MinorSource
from moderation.governance import minors as checks
from moderation.governance.sessions import PersonPrincipal
from moderation.review import minors, suspicion
from moderation.review.minors import Preserve
from moderation.storage.database import transaction
from moderation.storage.tables import Author

router = APIRouter(prefix="/console/governance/minors", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.MINOR_READ))]
Suspecting = Annotated[PersonPrincipal, Depends(person(Permission.AUTHOR_READ))]
Decider = Annotated[PersonPrincipal, Depends(person(Permission.MINOR_DECIDE, fresh=True))]
Value = Annotated[str, Form(max_length=600)]
HERE = "/console/governance/minors"
SAID = {
    "suspected": "The check is open; their content service is told to suspend the account.",
    "cleared": "Cleared. The suspension ends, and neither machines nor reporters bring another for 90 days.",
    "confirmed": "Confirmed. Everything of the account is hidden and is being destroyed.",
}
SOURCES = {
    MinorSource.SIGNAL: "a machine or a bank",
    MinorSource.REPORT: "a report",
    MinorSource.NOTICE: "their content service",
    MinorSource.PERSON: "somebody here",
}


@router.get("")
def show_all(request: Request, held: Held, _: Reader, show: str = "", before: str = "") -> HTMLResponse:
    """Checks that wait, or those that were answered."""
    answered = inputs.one_of(show, "What to show", ("answered",)) is not None
    place = inputs.identifier(before, "The place to go on from")
    with transaction(held.databases.content) as session:
        rows = checks.listing(session, answered=answered, before=place)
    more = rows[checks.PAGE - 1].id if answered and len(rows) > checks.PAGE else None
    return render(
        request,
        "minors/index.html",
        rows=rows[: checks.PAGE],
        answered=answered,
        sources=SOURCES,
        first=inputs.address(HERE, {"show": "answered"}) if before else "",
        more=inputs.address(HERE, {"show": "answered", "before": more}) if more else "",
    )


@router.post("")
def suspect(held: Held, me: Suspecting, author: Annotated[UUID, Form()]) -> Response:
    """Open a check of an author, from their page."""
    with transaction(held.databases.content) as session:
        found = session.get(Author, author)
        if found is None or found.erasing_at is not None:
            raise NotFound("There is no author with this id.")
        policy = held.policies.current(session)
        row = suspicion.of_author(session, policy, found, MinorSource.PERSON, me.actor, datetime.now(UTC))
        assert row is not None, "a person always opens a check"
        may = Permission.MINOR_READ in me.permissions
        address = f"{HERE}/{row.id}" if may else f"/console/authors/{author}"
    return see(address, said="suspected")


@router.get("/{check_id}")
def show_one(request: Request, held: Held, me: Reader, check_id: UUID, said: str = "") -> HTMLResponse:
    """One check. That somebody looks is on record before they see whose account it is."""
    return _one(request, held, me, check_id, said=said)


def _one(
    request: Request,
    held: Services,
    me: PersonPrincipal,
    check_id: UUID,
    *,
    said: str = "",
    refusal: Refusal | None = None,
) -> HTMLResponse:
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        view = checks.view(session, held.vault, me, check_id, now)
    context: dict[str, Any] = {
        "view": view,
        "one": view.row,
        "sources": SOURCES,
        "keep": f"{now + timedelta(days=365):%Y-%m-%d}",
        "flash": SAID.get(said, ""),
    }
    if refusal is not None:
        return refused(request, "minors/show.html", refusal, **context)
    return render(request, "minors/show.html", **context, error="")


@router.post("/{check_id}/clear")
def clear(request: Request, held: Held, me: Decider, check_id: UUID) -> Response:
    """Find that they are no minor."""
    try:
        with transaction(held.databases.content) as session:
            minors.clear(session, me, check_id, datetime.now(UTC))
    except Refusal as refusal:
        return _again(request, held, me, check_id, refusal)
    return see(f"{HERE}/{check_id}", said="cleared")


@router.post("/{check_id}/confirm")
def confirm(
    request: Request,
    held: Held,
    me: Decider,
    check_id: UUID,
    preserve: Annotated[bool, Form()] = False,
    basis: Value = "",
    keep: Value = "",
) -> Response:
    """Find that they are a minor: everything of the account ends; with a basis in law a sealed copy stays."""
    now = datetime.now(UTC)
    try:
        wanted = _preserve(basis, keep) if preserve else None
        with transaction(held.databases.content) as session:
            policy = held.policies.current(session)
        minors.confirm(held.databases, held.vault, held.blobs, policy, me, check_id, now, wanted)
    except Refusal as refusal:
        return _again(request, held, me, check_id, refusal)
    return see(f"{HERE}/{check_id}", said="confirmed")


def _preserve(basis: str, keep: str) -> Preserve:
    until = inputs.day(keep, "The date it is kept until", end=True)
    if until is None:
        raise InvalidInput("Say until when the law has the copy kept.")
    return Preserve(basis, until)


def _again(
    request: Request, held: Services, me: PersonPrincipal, check_id: UUID, refusal: Refusal
) -> HTMLResponse:
    if isinstance(refusal, NotFound):
        raise refusal
    return _one(request, held, me, check_id, refusal=refusal)
