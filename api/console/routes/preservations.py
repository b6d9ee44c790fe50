"""Preservation packages: which there are, until when, and what is in them for those who may read evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import select

from api.auth import services
from api.console import inputs
from api.console.routes.holds import drawn
from api.console.routes.login import refused
from api.console.templating import render, see
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.errors import InvalidInput, NotFound, Refusal
from moderation.features.rendition import View
from moderation.governance import audit, hold_lists, preservation
from moderation.governance.preservation import Package
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.database import transaction
from moderation.storage.tables import Disclosure

router = APIRouter(prefix="/console/governance/preservations", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.HOLD_READ))]
Approver = Annotated[PersonPrincipal, Depends(person(Permission.HOLD_APPROVE, fresh=True))]
Looker = Annotated[PersonPrincipal, Depends(person(Permission.EVIDENCE_READ, fresh=True))]
Name = Annotated[str, Query(max_length=200)]

SAID = {
    "sealed": "Sealed. The package stays until its date, whatever becomes of the items and of the author.",
    "renewed": "Kept until the new date.",
}


@router.get("")
def show_all(request: Request, held: Held, _: Reader) -> HTMLResponse:
    """Every package: those that end next first."""
    with transaction(held.databases.content) as session:
        found = hold_lists.packages(session)
    return render(request, "preservations/index.html", packages=found)


@router.get("/{package_id}")
def show_one(request: Request, held: Held, _: Reader, package_id: UUID, said: str = "") -> HTMLResponse:
    """One package, without what is in it."""
    return _one(request, held, package_id, said=said)


def _one(
    request: Request, held: Services, package_id: UUID, *, said: str = "", refusal: Refusal | None = None
) -> HTMLResponse:
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        row = preservation.get(session, package_id)
        handed = session.scalars(
            select(Disclosure).where(Disclosure.preservation_id == package_id).order_by(Disclosure.id)
        ).all()
    context: dict[str, Any] = {
        "package": row,
        "disclosures": handed,
        "latest": f"{now + preservation.KEPT_WITHIN:%Y-%m-%d}",
        "flash": SAID.get(said, ""),
    }
    if refusal is not None:
        return refused(request, "preservations/show.html", refusal, **context)
    return render(request, "preservations/show.html", **context, error="")


@router.post("/{package_id}/renew")
def renew(
    request: Request,
    held: Held,
    me: Approver,
    package_id: UUID,
    basis: Annotated[str, Form(max_length=600)] = "",
    keep: Annotated[str, Form(max_length=40)] = "",
) -> Response:
    """Keep a package longer, on a new basis."""
    try:
        until = inputs.day(keep, "The date it is kept until", end=True)
        if until is None:
            raise InvalidInput("Say until when the package is kept.")
        with transaction(held.databases.content) as session:
            preservation.renew(session, me, package_id, basis, until, datetime.now(UTC))
    except NotFound:
        raise
    except Refusal as refusal:
        return _one(request, held, package_id, refusal=refusal)
    return see(f"/console/governance/preservations/{package_id}", said="renewed")


@router.get("/{package_id}/files")
def files(request: Request, held: Held, me: Looker, package_id: UUID) -> HTMLResponse:
    """What is in a package. That somebody looks is on record before they see anything."""
    package = _opened(held, me, package_id)
    return render(request, "preservations/files.html", package=package, manifest=package.manifest)


@router.get("/{package_id}/file")
def file(
    request: Request, held: Held, me: Looker, package_id: UUID, name: Name = "", pictures: str = ""
) -> HTMLResponse:
    """One file of a package, the one about its author unless another is named."""
    view = inputs.one_of(pictures, "How pictures are shown", ("grey", "full")) or "blurred"
    name = name or preservation.AUTHOR
    package = _opened(held, me, package_id, name)
    data = package.file(name)
    is_text = name.endswith((".txt", ".json"))
    return render(
        request,
        "preservations/file.html",
        package=package,
        name=name,
        view=view,
        text=data.decode("utf-8", "replace") if is_text and not name.endswith(".json") else "",
        record=_record(data) if name.endswith(".json") else None,
        is_text=is_text,
    )


@router.get("/{package_id}/picture")
def picture(
    request: Request, held: Held, me: Looker, package_id: UUID, name: Name = "", view: View = "blurred"
) -> Response:
    """A picture of a package, blurred unless asked for as it is."""
    package = _opened(held, me, package_id, name, pictures=view)
    return drawn(request, package.file(name), view)


def _opened(held: Services, me: PersonPrincipal, package_id: UUID, name: str = "", **details: str) -> Package:
    """A package, to be shown once this has returned: that somebody looks is committed by then."""
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        package = preservation.open_package(held.vault, held.blobs, preservation.get(session, package_id))
        if name in package.names():
            # What goes on record is the name of a file that there is, and not whatever somebody typed.
            details["file"] = name
        event = audit.Event(me.actor, "preservation.opened", "preservation", str(package_id), details)
        audit.record(session, [event], now)
    return package


def _record(data: bytes) -> str:
    document: Mapping[str, Any] = json.loads(data)
    return json.dumps(document, indent=2, ensure_ascii=False)
