"""Restricted content: ended for everybody else, kept for a floor of the law or a hold. The legal role reads it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.orm import Session

from api.auth import services
from api.console import inputs
from api.console.routes.holds import drawn
from api.console.templating import render
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.errors import NotFound
from moderation.domain.purposes import Purpose
from moderation.features.rendition import View
from moderation.governance import audit, evidence, keeping
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.database import transaction
from moderation.storage.tables import Item

router = APIRouter(prefix="/console/governance/evidence", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.EVIDENCE_READ))]
Looker = Annotated[PersonPrincipal, Depends(person(Permission.EVIDENCE_READ, fresh=True))]
Position = Annotated[int, Path(ge=0, le=32_767)]
PAGE = 50


@router.get("")
def show_all(request: Request, held: Held, _: Reader, before: str = "") -> HTMLResponse:
    """What is in the restricted state, and until when; without its content."""
    place = inputs.identifier(before, "The place to go on from")
    with transaction(held.databases.content) as session:
        found = keeping.restricted(session, datetime.now(UTC), place, PAGE + 1)
    here = "/console/governance/evidence"
    return render(
        request,
        "evidence/index.html",
        rows=found[:PAGE],
        first=here if before else "",
        more=inputs.address(here, {"before": found[PAGE - 1].id}) if len(found) > PAGE else "",
    )


@router.get("/{item_id}")
def content(request: Request, held: Held, me: Looker, item_id: UUID, pictures: str = "") -> HTMLResponse:
    """The content of one. That somebody looks is on record before they see anything."""
    view = inputs.one_of(pictures, "How pictures are shown", ("grey", "full")) or "blurred"
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        _restricted(session, item_id, now)
        _viewed(session, me, item_id, now, pictures=view)
    with transaction(held.databases.content) as session:
        item = _restricted(session, item_id, now)
        keys = evidence.keys_of(held.vault, item_id, item.author_id)
        found = evidence.pieces(session, held.blobs, keys, item_id)
        record = evidence.record(session, keys, item)
    return render(request, "evidence/item.html", item=item, pieces=found, record=record, view=view)


@router.get("/{item_id}/{position}")
def picture(
    request: Request, held: Held, me: Looker, item_id: UUID, position: Position, view: View = "blurred"
) -> Response:
    """A picture of one, blurred unless asked for as it is, which is on record."""
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        _restricted(session, item_id, now)
        if view != "blurred":
            _viewed(session, me, item_id, now, position=position, pictures=view)
    with transaction(held.databases.content) as session:
        item = _restricted(session, item_id, now)
        keys = evidence.keys_of(held.vault, item_id, item.author_id)
        found = evidence.pieces(session, held.blobs, keys, item_id)
    data = next((one.data for one in found if one.position == position and one.kind != "text"), None)
    return drawn(request, data, view)


def _restricted(session: Session, item_id: UUID, now: datetime) -> Item:
    item = session.get(Item, item_id)
    if item is None or not keeping.is_restricted(session, item, now):
        raise NotFound(
            "There is no restricted item with this id; it may have ended, or never was restricted."
        )
    return item


def _viewed(session: Session, me: PersonPrincipal, item_id: UUID, now: datetime, **details: object) -> None:
    event = audit.Event(
        me.actor, "item.viewed", "item", str(item_id), {"restricted": True, **details}, Purpose.LEGAL
    )
    audit.record(session, [event], now)
