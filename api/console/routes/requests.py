"""What data subjects ask for: by when it is owed, what was written, and what an officer does about it."""

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
from moderation.domain.access import Permission
from moderation.domain.errors import InvalidInput, NotFound, Refusal
from moderation.domain.subjects import DOINGS, Refused, Right
from moderation.governance import corrections, restriction, subjects
from moderation.governance.corrections import Correction
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.database import transaction
from moderation.storage.tables import Author

router = APIRouter(prefix="/console/governance/requests", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.SUBJECT_READ))]
Handler = Annotated[PersonPrincipal, Depends(person(Permission.SUBJECT_HANDLE, fresh=True))]
Value = Annotated[str, Form(max_length=300)]
HERE = "/console/governance/requests"

RIGHTS: Mapping[str, str] = {
    Right.ACCESS: "a copy of what is held",
    Right.EXPORT: "a copy to take along",
    Right.CORRECT: "a correction",
    Right.ERASE: "erasure",
    Right.RESTRICT: "restriction",
    Right.OBJECT: "objection to machines",
    Right.WITHDRAW: "consent withdrawn",
    Right.CANCEL: "account closed",
}
GROUNDS: Mapping[str, str] = {
    Refused.NOT_IDENTIFIED: "we can't tell who asks (GDPR 12(2))",
    Refused.UNFOUNDED: "manifestly unfounded (GDPR 12(5))",
    Refused.EXCESSIVE: "excessive, such as repeated (GDPR 12(5))",
    Refused.NOTHING_WRONG: "what is held is right as it stands",
    Refused.LEGAL_DUTY: "the law has it kept (GDPR 17(3)(b))",
    Refused.LEGAL_CLAIMS: "needed for legal claims (GDPR 17(3)(e), 21(1))",
}
DONE: Mapping[str, str] = {
    "document": "They are who they say: make the copy ready",
    "correction": "Everything is corrected: close it",
    "erasure": "They are who they say: erase everything",
    "restriction": "They are who they say: restrict",
}
SAID = {
    "done": "Done; their content service is told.",
    "refused": "Refused; their content service is told the ground.",
    "corrected": "Corrected. What stood there before is kept with the item.",
    "lifted": "The restriction is lifted: machines judge their next post.",
}


@router.get("")
def show_all(request: Request, held: Held, _: Reader, show: str = "", before: str = "") -> HTMLResponse:
    """Requests that wait, or those that were answered."""
    answered = inputs.one_of(show, "What to show", ("answered",)) is not None
    place = inputs.identifier(before, "The place to go on from")
    with transaction(held.databases.content) as session:
        rows = subjects.listing(session, answered=answered, before=place)
    more = rows[subjects.PAGE - 1].id if answered and len(rows) > subjects.PAGE else None
    return render(
        request,
        "requests/index.html",
        rows=rows[: subjects.PAGE],
        answered=answered,
        rights=RIGHTS,
        first=inputs.address(HERE, {"show": "answered"}) if before else "",
        more=inputs.address(HERE, {"show": "answered", "before": more}) if more else "",
    )


@router.get("/{request_id}")
def show_one(request: Request, held: Held, me: Reader, request_id: UUID, said: str = "") -> HTMLResponse:
    """One request, with what was written. That somebody looks is on record before they see it."""
    return _one(request, held, me, request_id, said=said)


def _one(
    request: Request,
    held: Services,
    me: PersonPrincipal,
    request_id: UUID,
    *,
    said: str = "",
    refusal: Refusal | None = None,
) -> HTMLResponse:
    with transaction(held.databases.content) as session:
        view = subjects.view(session, held.vault, me, request_id, datetime.now(UTC))
    doing = DOINGS[Right(view.row.kind)]
    context: dict[str, Any] = {
        "view": view,
        "one": view.row,
        "doing": str(doing),
        "done": DONE[doing],
        "rights": RIGHTS,
        "grounds": GROUNDS,
        "flash": SAID.get(said, ""),
    }
    if refusal is not None:
        return refused(request, "requests/show.html", refusal, **context)
    return render(request, "requests/show.html", **context, error="")


@router.post("/{request_id}/done")
def done(request: Request, held: Held, me: Handler, request_id: UUID) -> Response:
    """Do what is asked for, on the word of an officer who knows who asks."""
    try:
        with transaction(held.databases.content) as session:
            subjects.carry_out(session, held.vault, me, request_id, datetime.now(UTC))
    except Refusal as refusal:
        return _again(request, held, me, request_id, refusal)
    return see(f"{HERE}/{request_id}", said="done")


@router.post("/{request_id}/refuse")
def refuse(request: Request, held: Held, me: Handler, request_id: UUID, ground: Value = "") -> Response:
    """Refuse a request on a ground that the law knows."""
    try:
        if ground not in set(Refused):
            raise InvalidInput("Choose why it is refused; a request is refused on a ground of the law alone.")
        with transaction(held.databases.content) as session:
            subjects.refuse(session, me, request_id, Refused(ground), datetime.now(UTC))
    except Refusal as refusal:
        return _again(request, held, me, request_id, refusal)
    return see(f"{HERE}/{request_id}", said="refused")


@router.post("/{request_id}/correct")
def correct(
    request: Request,
    held: Held,
    me: Handler,
    request_id: UUID,
    item: Value = "",
    language: Value = "",
    posted_at: Value = "",
    kind: Value = "",
    thread: Value = "",
    parent: Value = "",
) -> Response:
    """Correct what is recorded of one item; what is left empty stays."""
    try:
        item_id = inputs.identifier(item, "The item's id")
        if item_id is None:
            raise InvalidInput("Say by its id which item is to be corrected; the author's page lists them.")
        given = Correction(
            language=language.strip() or None,
            posted_at=inputs.moment(posted_at, "The moment of posting"),
            kind=kind.strip() or None,
            thread=thread.strip() or None,
            parent=parent.strip() or None,
        )
        with transaction(held.databases.content) as session:
            corrections.correct(session, held.vault, me, request_id, item_id, given, datetime.now(UTC))
    except Refusal as refusal:
        return _again(request, held, me, request_id, refusal)
    return see(f"{HERE}/{request_id}", said="corrected")


@router.post("/{request_id}/lift")
def lift(request: Request, held: Held, me: Handler, request_id: UUID) -> Response:
    """End the restriction that a request brought."""
    now = datetime.now(UTC)
    try:
        with transaction(held.databases.content) as session:
            row = subjects.view(session, held.vault, me, request_id, now).row
            author = session.get(Author, row.author_id)
            if author is None:
                raise NotFound("Nothing is held of this author any more.")
            restriction.lift(session, author, me.actor, now)
    except Refusal as refusal:
        return _again(request, held, me, request_id, refusal)
    return see(f"{HERE}/{request_id}", said="lifted")


def _again(
    request: Request, held: Services, me: PersonPrincipal, request_id: UUID, refusal: Refusal
) -> HTMLResponse:
    if isinstance(refusal, NotFound) and "request" in refusal.detail:
        raise refusal
    return _one(request, held, me, request_id, refusal=refusal)
