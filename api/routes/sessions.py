"""Sessions of people for programs: a bearer token for password and code, and its end."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from api import people as who
from api.auth import services
from api.people import person
from api.schemas import SessionIn, SessionOut, WhoOut
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.errors import Unauthenticated
from moderation.governance import audit, logins, secondfactor, sessions
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.database import transaction

router = APIRouter(prefix="/v1/sessions", tags=["people"])

Held = Annotated[Services, Depends(services)]
Myself = Annotated[PersonPrincipal, Depends(person(Permission.SELF_MANAGE))]
WRONG = "The e-mail address, the password or the code is wrong."


@router.post("", status_code=201, response_model=SessionOut)
def log_in(request: Request, body: SessionIn, held: Held) -> dict[str, Any]:
    """Log in as a person: a bearer token for the review API, good for 12 hours and for one without use."""
    now, source = datetime.now(UTC), who.source(request, held)
    with transaction(held.databases.content) as session:
        candidate = logins.attempt(session, held.vault, body.email, source, now)
    proved = candidate.proved_by(body.password)
    token = None
    if proved and candidate.person_id is not None:
        with transaction(held.databases.content) as session:
            counter = logins.attempt_factor(session, held.vault, candidate.person_id, source, now)
        with transaction(held.databases.content) as session:
            if secondfactor.check_code(session, held.vault, candidate.person_id, body.code, now):
                agent = request.headers.get("user-agent", "")
                half = logins.password_given(session, candidate, body.password, agent, now)
                owed = sessions.half(session, half, now)
                logins.factor_given(session, held.vault, candidate.person_id, counter, now)
                token = sessions.complete(session, owed.session_id, now)
                event = audit.Event(
                    f"person:{owed.person_id}", "person.logged_in", "session", str(owed.session_id)
                )
                audit.record(session, [event], now)
    if token is None:
        with transaction(held.databases.content) as session:
            logins.failed(session, now, "second_factor" if proved else "password")
        raise Unauthenticated(WRONG)
    return {"token": token, "expires_at": now + sessions.LASTS}


@router.get("/current", response_model=WhoOut)
def current(me: Myself) -> dict[str, Any]:
    """Who you are, and what you may."""
    return {
        "person_id": str(me.person_id),
        "roles": sorted(me.roles),
        "permissions": sorted(me.permissions),
        "confirmed_at": me.confirmed_at,
    }


@router.delete("/current", status_code=204)
def log_out(held: Held, me: Myself) -> None:
    """End this session at once."""
    with transaction(held.databases.content) as session:
        sessions.revoke(session, me.person_id, me.session_id, datetime.now(UTC))
