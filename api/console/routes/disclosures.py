"""Disclosures: a package handed to an authority, after a second person approved it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from api.auth import services
from api.console.routes.login import refused
from api.console.templating import render, see
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.errors import NotFound, Refusal
from moderation.governance import audit, disclosures, preservation
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.database import transaction

router = APIRouter(prefix="/console/governance/disclosures", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.HOLD_READ))]
Asker = Annotated[PersonPrincipal, Depends(person(Permission.HOLD_REQUEST, fresh=True))]
Approver = Annotated[PersonPrincipal, Depends(person(Permission.HOLD_APPROVE, fresh=True))]
Exporter = Annotated[PersonPrincipal, Depends(person(Permission.EVIDENCE_READ, fresh=True))]
Line = Annotated[str, Form(max_length=600)]

SAID = {
    "requested": "Asked for. Somebody else has to approve it before anything is handed over.",
    "approved": "Approved. Who may read evidence can hand it over now.",
    "refused": "Refused. Nothing is handed over.",
}


@router.get("")
def show_all(request: Request, held: Held, _: Reader) -> HTMLResponse:
    """Every disclosure, the newest first."""
    with transaction(held.databases.content) as session:
        found = disclosures.listing(session)
    return render(request, "disclosures/index.html", disclosures=found, error="")


@router.post("")
def ask(
    request: Request,
    held: Held,
    me: Asker,
    package: Annotated[UUID, Form()],
    authority: Line = "",
    basis: Line = "",
    reference: Line = "",
) -> Response:
    """Ask that a package be handed to an authority."""
    try:
        with transaction(held.databases.content) as session:
            made = disclosures.request(
                session, held.vault, me, package, authority, basis, reference, datetime.now(UTC)
            )
    except Refusal as refusal:
        with transaction(held.databases.content) as session:
            found = disclosures.listing(session)
        return refused(request, "disclosures/index.html", refusal, disclosures=found)
    return see(f"/console/governance/disclosures/{made}", said="requested")


@router.get("/{disclosure_id}")
def show_one(request: Request, held: Held, me: Reader, disclosure_id: UUID, said: str = "") -> HTMLResponse:
    """One disclosure."""
    return _one(request, held, me, disclosure_id, said=said)


def _one(
    request: Request,
    held: Services,
    me: PersonPrincipal,
    disclosure_id: UUID,
    *,
    said: str = "",
    refusal: Refusal | None = None,
) -> HTMLResponse:
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        row = disclosures.get(session, disclosure_id)
        event = audit.Event(me.actor, "disclosure.viewed", "disclosure", str(disclosure_id))
        audit.record(session, [event], now)
        package = preservation.get(session, row.preservation_id)
    repeatable = row.exported_at is not None and now <= row.exported_at + disclosures.AGAIN_WITHIN
    context: dict[str, Any] = {
        "disclosure": row,
        "package": package,
        "reference": disclosures.reference_of(held.vault, row),
        "mine": row.requested_by == me.person_id,
        "may_export": package.destroyed_at is None and (row.state == "approved" or repeatable),
        "shortest": disclosures.SHORTEST,
        "openssl": disclosures.OPENSSL,
        "flash": SAID.get(said, ""),
    }
    if refusal is not None:
        return refused(request, "disclosures/show.html", refusal, **context)
    return render(request, "disclosures/show.html", **context, error="")


@router.post("/{disclosure_id}/approve")
def approve(request: Request, held: Held, me: Approver, disclosure_id: UUID) -> Response:
    """Approve what somebody else asked for."""
    try:
        with transaction(held.databases.content) as session:
            disclosures.approve(session, me, disclosure_id, datetime.now(UTC))
    except Refusal as refusal:
        return _again(request, held, me, disclosure_id, refusal)
    return see(f"/console/governance/disclosures/{disclosure_id}", said="approved")


@router.post("/{disclosure_id}/refuse")
def refuse(request: Request, held: Held, me: Approver, disclosure_id: UUID) -> Response:
    """Refuse a request."""
    try:
        with transaction(held.databases.content) as session:
            disclosures.refuse(session, me, disclosure_id, datetime.now(UTC))
    except Refusal as refusal:
        return _again(request, held, me, disclosure_id, refusal)
    return see(f"/console/governance/disclosures/{disclosure_id}", said="refused")


@router.post("/{disclosure_id}/export")
def export(
    request: Request, held: Held, me: Exporter, disclosure_id: UUID, passphrase: Line = "", again: Line = ""
) -> Response:
    """The archive for the authority. That it is handed over is on record before its first byte leaves."""
    try:
        word = disclosures.checked_passphrase(passphrase, again)
        with transaction(held.databases.content) as session:
            handed = disclosures.hand_over(
                session, held.vault, held.blobs, me, disclosure_id, datetime.now(UTC)
            )
    except Refusal as refusal:
        return _again(request, held, me, disclosure_id, refusal)
    name = f"disclosure-{disclosure_id}.zip" + (".enc" if word else "")
    return StreamingResponse(
        handed.archive(word),
        media_type="application/octet-stream" if word else "application/zip",
        headers={
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="{name}"',
            "X-Manifest-SHA256": handed.sha256,
        },
    )


def _again(
    request: Request, held: Services, me: PersonPrincipal, disclosure_id: UUID, refusal: Refusal
) -> HTMLResponse:
    if isinstance(refusal, NotFound):
        raise refusal
    return _one(request, held, me, disclosure_id, refusal=refusal)
