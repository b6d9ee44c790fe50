"""Incidents: written down, whom they touch, who was told by when."""

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
from moderation.governance import audit, incident_scopes, incidents
from moderation.governance.incident_scopes import Scope
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.database import transaction

router = APIRouter(prefix="/console/governance/incidents", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.INCIDENT_READ))]
Manager = Annotated[PersonPrincipal, Depends(person(Permission.INCIDENT_MANAGE))]
Teller = Annotated[PersonPrincipal, Depends(person(Permission.INCIDENT_MANAGE, fresh=True))]
Word = Annotated[str, Form(max_length=100)]
Text = Annotated[str, Form(max_length=20_000)]

SAID = {
    "opened": "Written down. Now ask the log whom it touches.",
    "rescoped": "Changed. Ask the log again whom it touches.",
    "affected": "Asked. The answer is below.",
    "notified": "The content services are being told.",
    "unreachable": "Some content services have no endpoint for incident.notice: not told. Tell them yourself.",
    "authority": "Written down. The clock stands still.",
    "closed": "Closed.",
}


@router.get("")
def show_all(request: Request, held: Held, _: Reader) -> HTMLResponse:
    """Every incident, the open ones first."""
    return _list(request, held, {})


def _list(
    request: Request, held: Services, given: Mapping[str, Any], refusal: Refusal | None = None
) -> HTMLResponse:
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        found = incidents.listing(session)
    context: dict[str, Any] = {
        "incidents": found,
        "given": given,
        "kinds": incidents.KINDS,
        "today": f"{now:%Y-%m-%dT%H:%M}",
    }
    if refusal is not None:
        return refused(request, "incidents/index.html", refusal, **context)
    return render(request, "incidents/index.html", **context, error="")


@router.post("")
def write_down(
    request: Request,
    held: Held,
    me: Manager,
    kind: Word = "",
    severity: Word = "",
    description: Text = "",
    detected: Word = "",
    actor: Word = "",
    action: Word = "",
    since: Word = "",
    until: Word = "",
    everybody: Annotated[bool, Form()] = False,
) -> Response:
    """Open an incident."""
    given = {
        "kind": kind, "severity": severity, "description": description, "detected": detected,
        "actor": actor, "action": action, "since": since, "until": until, "everybody": everybody,
    }  # fmt: skip
    now = datetime.now(UTC)
    try:
        if not severity.isdecimal():
            raise InvalidInput("The severity is a number from 1 (nuisance) to 5 (gravest).")
        scope = _scope(actor, action, since, until, everybody=everybody)
        with transaction(held.databases.content) as session:
            made = incidents.open_incident(
                session,
                held.vault,
                kind=kind,
                severity=int(severity),
                description=description,
                detected_at=inputs.moment(detected, "The detection") or now,
                scope=scope,
                actor=me.actor,
                now=now,
            )
    except Refusal as refusal:
        return _list(request, held, given, refusal)
    return see(f"/console/governance/incidents/{made}", said="opened")


def _scope(actor: str, action: str, since: str, until: str, *, everybody: bool) -> Scope:
    return Scope(
        actor=actor.strip() or None,
        action=action.strip() or None,
        since=inputs.moment(since, "The first moment"),
        until=inputs.moment(until, "The last moment"),
        everybody=everybody,
    )


@router.get("/{incident_id}")
def show_one(request: Request, held: Held, me: Reader, incident_id: UUID, said: str = "") -> HTMLResponse:
    """One incident."""
    return _one(request, held, me, incident_id, said=said)


def _one(
    request: Request,
    held: Services,
    me: PersonPrincipal,
    incident_id: UUID,
    *,
    said: str = "",
    refusal: Refusal | None = None,
) -> HTMLResponse:
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        row = incidents.get(session, incident_id)
        audit.record(session, [audit.Event(me.actor, "incident.viewed", "incident", str(incident_id))], now)
        by_client = incidents.counts(session, incident_id)
        told = incidents.told(session, incident_id)
    context: dict[str, Any] = {
        "incident": row,
        "scope": incident_scopes.read(row.scope),
        "description": incidents.description_of(held.vault, row),
        "by_client": by_client,
        "told": told,
        "today": f"{now:%Y-%m-%dT%H:%M}",
        "flash": SAID.get(said, ""),
    }
    if refusal is not None:
        return refused(request, "incidents/show.html", refusal, **context)
    return render(request, "incidents/show.html", **context, error="")


@router.post("/{incident_id}/scope")
def rescope(
    request: Request,
    held: Held,
    me: Manager,
    incident_id: UUID,
    actor: Word = "",
    action: Word = "",
    since: Word = "",
    until: Word = "",
    everybody: Annotated[bool, Form()] = False,
) -> Response:
    """Say anew which events are concerned."""
    try:
        scope = _scope(actor, action, since, until, everybody=everybody)
        with transaction(held.databases.content) as session:
            incidents.rescope(session, incident_id, scope, me.actor, datetime.now(UTC))
    except Refusal as refusal:
        return _again(request, held, me, incident_id, refusal)
    return see(f"/console/governance/incidents/{incident_id}", said="rescoped")


@router.post("/{incident_id}/affected")
def affected(request: Request, held: Held, me: Manager, incident_id: UUID) -> Response:
    """Ask the log whom it touches."""
    try:
        with transaction(held.databases.content) as session:
            incidents.find_affected(session, incident_id, me.actor, datetime.now(UTC))
    except Refusal as refusal:
        return _again(request, held, me, incident_id, refusal)
    return see(f"/console/governance/incidents/{incident_id}", said="affected")


@router.post("/{incident_id}/notify")
def notify(request: Request, held: Held, me: Teller, incident_id: UUID) -> Response:
    """Tell the content services."""
    try:
        with transaction(held.databases.content) as session:
            told = incidents.tell_services(session, incident_id, me.actor, datetime.now(UTC))
    except Refusal as refusal:
        return _again(request, held, me, incident_id, refusal)
    said = "unreachable" if told.unreachable else "notified"
    return see(f"/console/governance/incidents/{incident_id}", said=said)


@router.post("/{incident_id}/authority-told")
def authority_told(request: Request, held: Held, me: Teller, incident_id: UUID, at: Word = "") -> Response:
    """Write down when the supervisory authority was told."""
    now = datetime.now(UTC)
    try:
        moment = inputs.moment(at, "The moment") or now
        with transaction(held.databases.content) as session:
            incidents.authority_told(session, incident_id, moment, me.actor, now)
    except Refusal as refusal:
        return _again(request, held, me, incident_id, refusal)
    return see(f"/console/governance/incidents/{incident_id}", said="authority")


@router.post("/{incident_id}/close")
def close(
    request: Request, held: Held, me: Teller, incident_id: UUID, no_risk: Annotated[bool, Form()] = False
) -> Response:
    """Close an incident."""
    try:
        with transaction(held.databases.content) as session:
            incidents.close(session, incident_id, me.actor, datetime.now(UTC), no_risk=no_risk)
    except Refusal as refusal:
        return _again(request, held, me, incident_id, refusal)
    return see(f"/console/governance/incidents/{incident_id}", said="closed")


def _again(
    request: Request, held: Services, me: PersonPrincipal, incident_id: UUID, refusal: Refusal
) -> HTMLResponse:
    if isinstance(refusal, NotFound):
        raise refusal
    return _one(request, held, me, incident_id, refusal=refusal)
