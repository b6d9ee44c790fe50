"""Holds: ask for one, answer it, look at what it keeps, seal it, let it go."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Path, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.orm import Session

from api.auth import services
from api.console import inputs
from api.console.routes.login import refused
from api.console.templating import render, see
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.errors import Gone, InvalidInput, NotFound, Refusal
from moderation.features.rendition import MEDIA_TYPE, View, rendition, sheet
from moderation.governance import audit, evidence, hold_lists, holds, preservation
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.database import transaction

router = APIRouter(prefix="/console/governance/holds", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.HOLD_READ))]
Asker = Annotated[PersonPrincipal, Depends(person(Permission.HOLD_REQUEST))]
Sealer = Annotated[PersonPrincipal, Depends(person(Permission.HOLD_REQUEST, fresh=True))]
Approver = Annotated[PersonPrincipal, Depends(person(Permission.HOLD_APPROVE, fresh=True))]
Looker = Annotated[PersonPrincipal, Depends(person(Permission.EVIDENCE_READ, fresh=True))]
Position = Annotated[int, Path(ge=0, le=32_767)]

SAID = {
    "requested": "Asked for. The content is kept from now on; somebody else has to approve the hold.",
    "approved": "Approved. The hold stays until somebody releases it.",
    "refused": "Refused. What is due ends at the next sweep.",
    "released": "Released. What is due ends at the next sweep.",
    "extended": "Reviewed: the hold stays until its next review.",
}
SCOPES = ("item", "author")
LONG = 300


@router.get("")
def show_all(
    request: Request,
    held: Held,
    _: Reader,
    show: str = "",
    before: str = "",
    item: str = "",
    author: str = "",
) -> HTMLResponse:
    """Open holds by their next review, or those that ended; and the form for another."""
    given = {"scope": "author" if author else "item", "id": author or item}
    return _list(request, held, show=show, before=before, given=given)


def _list(
    request: Request,
    held: Services,
    *,
    show: str = "",
    before: str = "",
    given: Mapping[str, str],
    refusal: Refusal | None = None,
) -> HTMLResponse:
    now = datetime.now(UTC)
    ended = inputs.one_of(show, "What to show", ("ended",)) is not None
    place = inputs.identifier(before, "The place to go on from")
    with transaction(held.databases.content) as session:
        lines = hold_lists.listing(session, now, ended=ended, before=place)
    more = lines[hold_lists.PAGE - 1].hold.id if ended and len(lines) > hold_lists.PAGE else None
    here = "/console/governance/holds"
    context: dict[str, Any] = {
        "lines": lines[: hold_lists.PAGE] if ended else lines,
        "ended": ended,
        "given": given,
        "review": f"{now + holds.REVIEWED_AFTER:%Y-%m-%d}",
        "latest": f"{now + holds.REVIEWED_WITHIN:%Y-%m-%d}",
        "first": inputs.address(here, {"show": "ended"}) if before else "",
        "more": inputs.address(here, {"show": "ended", "before": more}) if more else "",
    }
    if refusal is not None:
        return refused(request, "holds/index.html", refusal, **context)
    return render(request, "holds/index.html", **context, error="")


@router.post("")
def ask(
    request: Request,
    held: Held,
    me: Asker,
    scope: Annotated[str, Form(max_length=LONG)] = "",
    subject: Annotated[str, Form(alias="id", max_length=LONG)] = "",
    authority: Annotated[str, Form(max_length=2 * LONG)] = "",
    basis: Annotated[str, Form(max_length=2 * LONG)] = "",
    reference: Annotated[str, Form(max_length=2 * LONG)] = "",
    review: Annotated[str, Form(max_length=LONG)] = "",
) -> Response:
    """Ask for a hold on an item or on an author."""
    given = {"scope": scope, "id": subject, "authority": authority, "basis": basis, "reference": reference}
    try:
        whose = inputs.one_of(scope, "What is held", SCOPES) or "item"
        identifier = inputs.identifier(subject, "The id")
        if identifier is None:
            raise InvalidInput("Say by its id what is to be held; the item's or the author's page has it.")
        wanted = holds.Wanted(
            authority,
            basis,
            reference,
            item_id=identifier if whose == "item" else None,
            author_id=identifier if whose != "item" else None,
            review_at=inputs.day(review, "The review date", end=True),
        )
        with transaction(held.databases.content) as session:
            made = holds.request(session, held.vault, me, wanted, datetime.now(UTC))
    except Refusal as refusal:
        return _list(request, held, given=given | {"review": review}, refusal=refusal)
    return see(f"/console/governance/holds/{made.id}", said="requested")


@router.get("/{hold_id}")
def show_one(
    request: Request, held: Held, me: Reader, hold_id: UUID, said: str = "", after: str = ""
) -> HTMLResponse:
    """One hold: who asked for it and why, and what it keeps."""
    return _one(request, held, me, hold_id, said=said, after=after)


def _one(
    request: Request,
    held: Services,
    me: PersonPrincipal,
    hold_id: UUID,
    *,
    said: str = "",
    after: str = "",
    refusal: Refusal | None = None,
) -> HTMLResponse:
    now = datetime.now(UTC)
    place = inputs.identifier(after, "The place to go on from")
    with transaction(held.databases.content) as session:
        audit.record(session, [audit.Event(me.actor, "hold.viewed", "hold", str(hold_id))], now)
        whole = hold_lists.one(session, held.vault, hold_id, now, place)
    here = f"/console/governance/holds/{hold_id}"
    context: dict[str, Any] = {
        "whole": whole,
        "hold": whole.line.hold,
        "mine": whole.line.hold.requested_by == me.person_id,
        "latest": f"{now + holds.REVIEWED_WITHIN:%Y-%m-%d}",
        "review": f"{now + holds.REVIEWED_AFTER:%Y-%m-%d}",
        "keep": f"{now + preservation.KEPT:%Y-%m-%d}",
        "flash": SAID.get(said, ""),
        "first": here if after else "",
        "more": inputs.address(here, {"after": whole.next}) if whole.next else "",
    }
    if refusal is not None:
        return refused(request, "holds/show.html", refusal, **context)
    return render(request, "holds/show.html", **context, error="")


@router.post("/{hold_id}/approve")
def approve(request: Request, held: Held, me: Approver, hold_id: UUID) -> Response:
    """Approve what somebody else asked for."""
    try:
        with transaction(held.databases.content) as session:
            holds.approve(session, me, hold_id, datetime.now(UTC))
    except Refusal as refusal:
        return _again(request, held, me, hold_id, refusal)
    return see(f"/console/governance/holds/{hold_id}", said="approved")


@router.post("/{hold_id}/refuse")
def refuse(request: Request, held: Held, me: Approver, hold_id: UUID) -> Response:
    """Refuse a request."""
    try:
        with transaction(held.databases.content) as session:
            holds.refuse(session, me, hold_id, datetime.now(UTC))
    except Refusal as refusal:
        return _again(request, held, me, hold_id, refusal)
    return see(f"/console/governance/holds/{hold_id}", said="refused")


@router.post("/{hold_id}/release")
def release(request: Request, held: Held, me: Approver, hold_id: UUID) -> Response:
    """Let go of what a hold keeps; whoever may ask for holds may approve them too."""
    try:
        with transaction(held.databases.content) as session:
            holds.release(session, me, hold_id, datetime.now(UTC))
    except Refusal as refusal:
        return _again(request, held, me, hold_id, refusal)
    return see(f"/console/governance/holds/{hold_id}", said="released")


@router.post("/{hold_id}/extend")
def extend(
    request: Request,
    held: Held,
    me: Approver,
    hold_id: UUID,
    review: Annotated[str, Form(max_length=LONG)] = "",
) -> Response:
    """Review a hold: it stays until the next time."""
    try:
        until = inputs.day(review, "The review date", end=True)
        if until is None:
            raise InvalidInput("Say when the hold is reviewed next.")
        with transaction(held.databases.content) as session:
            holds.extend(session, me, hold_id, until, datetime.now(UTC))
    except Refusal as refusal:
        return _again(request, held, me, hold_id, refusal)
    return see(f"/console/governance/holds/{hold_id}", said="extended")


@router.post("/{hold_id}/seal")
def seal(
    request: Request, held: Held, me: Sealer, hold_id: UUID, keep: Annotated[str, Form(max_length=LONG)] = ""
) -> Response:
    """Seal what an approved hold keeps into a preservation package."""
    try:
        until = inputs.day(keep, "The date it is kept until", end=True)
        made = preservation.seal_hold(
            held.databases, held.vault, held.blobs, me, hold_id, datetime.now(UTC), until
        )
    except Refusal as refusal:
        return _again(request, held, me, hold_id, refusal)
    return see(f"/console/governance/preservations/{made}", said="sealed")


def _again(
    request: Request, held: Services, me: PersonPrincipal, hold_id: UUID, refusal: Refusal
) -> HTMLResponse:
    if isinstance(refusal, NotFound):
        raise refusal
    return _one(request, held, me, hold_id, refusal=refusal)


@router.get("/{hold_id}/items/{item_id}")
def content(
    request: Request, held: Held, me: Looker, hold_id: UUID, item_id: UUID, pictures: str = ""
) -> HTMLResponse:
    """The content of one held item. That somebody looks is on record before they see anything."""
    view = inputs.one_of(pictures, "How pictures are shown", ("grey", "full")) or "blurred"
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        hold_lists.held_item(session, hold_id, item_id)
        _viewed(session, me, hold_id, item_id, now, pictures=view)
    with transaction(held.databases.content) as session:
        hold, item = hold_lists.held_item(session, hold_id, item_id)
        keys = evidence.keys_of(held.vault, item_id, item.author_id)
        found = evidence.pieces(session, held.blobs, keys, item_id)
        record = evidence.record(session, keys, item)
    return render(request, "holds/item.html", hold=hold, item=item, pieces=found, record=record, view=view)


@router.get("/{hold_id}/items/{item_id}/{position}")
def picture(
    request: Request,
    held: Held,
    me: Looker,
    hold_id: UUID,
    item_id: UUID,
    position: Position,
    view: View = "blurred",
) -> Response:
    """A picture of a held item, blurred unless asked for as it is, which is on record."""
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        hold_lists.held_item(session, hold_id, item_id)
        if view != "blurred":
            _viewed(session, me, hold_id, item_id, now, position=position, pictures=view)
    with transaction(held.databases.content) as session:
        _, item = hold_lists.held_item(session, hold_id, item_id)
        keys = evidence.keys_of(held.vault, item_id, item.author_id)
        found = evidence.pieces(session, held.blobs, keys, item_id)
    data = next((one.data for one in found if one.position == position and one.kind != "text"), None)
    return drawn(request, data, view)


def drawn(request: Request, data: bytes | None, view: View) -> Response:
    """A picture out of the guarded decoder."""
    if data is None:
        raise Gone("This picture has ended, or there is none here.")
    picture = request.app.state.renditions.picture(data)
    return Response(
        rendition(sheet(picture), view),
        media_type=MEDIA_TYPE,
        headers={"Cache-Control": "no-store", "Content-Disposition": "inline"},
    )


def _viewed(
    session: Session, me: PersonPrincipal, hold_id: UUID, item_id: UUID, now: datetime, **details: object
) -> None:
    event = audit.Event(me.actor, "hold.viewed", "item", str(item_id), {"hold": str(hold_id), **details})
    audit.record(session, [event], now)
