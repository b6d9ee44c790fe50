"""The audit log, to read. That somebody reads it is an event of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, Response

from api.auth import services
from api.console import inputs
from api.console.templating import render
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.errors import InvalidInput, NotFound
from moderation.governance import audit, ledger
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.database import transaction

router = APIRouter(prefix="/console/audit", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.AUDIT_READ))]
Prover = Annotated[PersonPrincipal, Depends(person(Permission.AUDIT_EXPORT, fresh=True))]
ACTION = re.compile(r"[a-z_]{1,40}\.([a-z_]{1,40})?")
SUBJECT = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


@router.get("")
def show(
    request: Request,
    held: Held,
    principal: Reader,
    actor: str = "",
    action: str = "",
    subject_id: str = "",
    since: Annotated[str, Query(alias="from")] = "",
    until: Annotated[str, Query(alias="to")] = "",
    before: str = "",
) -> HTMLResponse:
    """Events, newest first."""
    given = {
        "actor": actor.strip(), "action": action.strip(), "subject_id": subject_id.strip(),
        "from": since, "to": until,
    }  # fmt: skip
    now = datetime.now(UTC)
    page, fault = audit.Page(), ""
    try:
        query = _query(given, before)
    except InvalidInput as error:
        fault = error.detail
    else:
        asked = {name: value for name, value in given.items() if value}
        with transaction(held.databases.content) as session:
            audit.record(session, [audit.Event(principal.actor, "audit.viewed", "audit", "log", asked)], now)
        with transaction(held.databases.content) as session:
            page = audit.page(session, query)
    with transaction(held.databases.content) as session:
        head = ledger.head(session)
    return render(
        request,
        "audit/index.html",
        422 if fault else 200,
        page=page,
        head=head,
        key=ledger.key(held.vault),
        fault=fault,
        given=given,
        asked=any(given.values()),
        actors=audit.ACTORS,
        first=inputs.address("/console/audit", given) if before else "",
        more=inputs.address("/console/audit", given | {"before": page.next}) if page.next else "",
    )


@router.get("/checkpoint", dependencies=[Depends(person(Permission.AUDIT_EXPORT))])
def checkpoint(held: Held) -> Response:
    """The newest checkpoint, to keep where nobody of ours can change it.

    Raises:
        NotFound: there is none yet.
    """
    with transaction(held.databases.content) as session:
        last = ledger.last_checkpoint(session)
    if last is None:
        raise NotFound("There is no checkpoint yet; the relay signs one within a minute of the first event.")
    return _file(last.note, "text/plain", f"checkpoint-{last.size}.txt")


@router.get("/proof/{identifier}")
def proof(held: Held, principal: Prover, identifier: UUID) -> Response:
    """What proves to anybody that an event, or the event that recorded a decision, is in the log.

    Raises:
        NotFound: there is no such event or decision.
        Conflict: no checkpoint covers it yet.
    """
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        event_id = ledger.event_of(session, identifier)
        found = ledger.proof(session, held.vault, event_id)
        audit.record(session, [audit.Event(principal.actor, "audit.proof_made", "event", str(event_id))], now)
    return _file(found.text, "application/json", f"proof-{event_id}.json")


def _file(text: str, kind: str, name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Response(text, media_type=kind, headers=headers)


def _query(given: Mapping[str, str], before: str) -> audit.Query:
    """The query as the log takes it.

    Raises:
        InvalidInput: a field can't be read.
    """
    if given["action"] and not ACTION.fullmatch(given["action"]):
        raise InvalidInput("An action looks like item.viewed, or like item. for all that concern items.")
    if given["subject_id"] and not SUBJECT.fullmatch(given["subject_id"]):
        raise InvalidInput("A subject is an id or a short word; copy the whole of it.")
    since, until = inputs.day(given["from"], "From"), inputs.day(given["to"], "To", end=True)
    if since and until and since >= until:
        raise InvalidInput("From must not lie after to; exchange the two dates.")
    return audit.Query(
        actor=inputs.one_of(given["actor"], "The actor", audit.ACTORS),
        action=given["action"] or None,
        subject_id=given["subject_id"] or None,
        since=since,
        until=until,
        before=inputs.identifier(before, "The place to go on from"),
    )
