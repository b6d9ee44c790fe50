"""One's own log-in: sessions, passkeys, authenticator app, recovery codes, password."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, Response

from api import people as who
from api.auth import services
from api.console.routes.login import Code, Secret, base_url, party, qr, refused
from api.console.templating import render, see
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.errors import Refusal, Unauthenticated
from moderation.governance import logins, people, secondfactor, sessions
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.database import transaction

router = APIRouter(prefix="/console/account", include_in_schema=False)

HERE = "/console/account"
Held = Annotated[Services, Depends(services)]
Myself = Annotated[PersonPrincipal, Depends(person(Permission.SELF_MANAGE))]
# Changes to the log-in itself ask for a second factor given just now.
Confirmed = Annotated[PersonPrincipal, Depends(person(Permission.SELF_MANAGE, fresh=True))]
SAID = {
    "password": "The password is changed; every other session has ended.",
    "totp": "The authenticator app is set up.",
    "totp_removed": "The authenticator app is removed.",
    "passkey": "The passkey is added.",
    "passkey_removed": "The passkey is removed.",
    "ended": "The session has ended.",
    "others": "Every other session has ended.",
    "name": "The name is saved.",
}


@router.get("")
def account_page(request: Request, held: Held, me: Myself, said: str = "") -> Response:
    """How one logs in, and where one is logged in."""
    return _page(request, held, me, said=SAID.get(said, ""))


def _page(
    request: Request, held: Services, me: PersonPrincipal, *, said: str = "", refusal: Refusal | None = None
) -> HTMLResponse:
    with transaction(held.databases.content) as session:
        context = {
            "profile": people.profile(session, held.vault, me.person_id),
            "passkeys": secondfactor.passkeys(session, me.person_id),
            "codes_left": secondfactor.recovery_codes_left(session, me.person_id),
            "logins": sessions.listing(session, me.person_id, datetime.now(UTC)),
        }
    if refusal is not None:
        return refused(request, "account/account.html", refusal, **context, said="")
    return render(request, "account/account.html", 200, **context, said=said, error="")


@router.post("/name")
def rename(
    request: Request, held: Held, me: Myself, name: Annotated[str, Form(max_length=1000)] = ""
) -> Response:
    """Go by another name."""
    try:
        with transaction(held.databases.content) as session:
            people.rename(session, held.vault, me.person_id, name)
    except Refusal as refusal:
        return _page(request, held, me, refusal=refusal)
    return see(HERE, said="name")


@router.post("/password")
def change_password(
    request: Request, held: Held, me: Confirmed, old: Secret, password: Secret, again: Secret
) -> Response:
    """Choose another password; every other session ends."""
    now = datetime.now(UTC)
    try:
        if password != again:
            raise Unauthenticated("The two passwords differ; write the same one twice.")
        with transaction(held.databases.content) as session:
            email = people.email_of(held.vault, people.get(session, me.person_id))
            candidate = logins.attempt(session, held.vault, email, who.source(request, held), now)
        if not candidate.proved_by(old):
            raise Unauthenticated("The password of now is wrong.")
        with transaction(held.databases.content) as session:
            logins.succeeded(session, candidate, now)
            people.change_password(session, held.vault, me.person_id, password, now, kept=me.session_id)
    except Refusal as refusal:
        return _page(request, held, me, refusal=refusal)
    return see(HERE, said="password")


@router.get("/totp")
def totp_page(request: Request, held: Held, me: Confirmed) -> Response:
    """A fresh secret for an authenticator app."""
    return render(request, "account/totp.html", 200, **_totp(held, me), error="")


@router.post("/totp")
def enrol_totp(request: Request, held: Held, me: Confirmed, code: Code) -> Response:
    """Take the codes of the secret shown from now on."""
    offered = _totp(held, me)
    try:
        with transaction(held.databases.content) as session:
            mine = people.get(session, me.person_id)
            secondfactor.enrol_totp(
                session, held.vault, mine, str(offered["secret"]), code, datetime.now(UTC)
            )
    except Refusal as refusal:
        return refused(request, "account/totp.html", refusal, **offered)
    return see(HERE, said="totp")


def _totp(held: Services, me: PersonPrincipal) -> dict[str, object]:
    """The secret on offer: the same until it is taken, so that a reload does not spoil what was scanned."""
    with transaction(held.databases.content) as session:
        mine = people.get(session, me.person_id)
        email, used = people.email_of(held.vault, mine), mine.totp_step
    secret = secondfactor.proposed_secret(held.vault, str(me.session_id), str(used))
    return {"secret": secret, "qr": qr(secondfactor.uri(secret, email))}


@router.post("/totp/remove")
def remove_totp(request: Request, held: Held, me: Confirmed) -> Response:
    """Go by passkeys alone."""
    try:
        with transaction(held.databases.content) as session:
            secondfactor.remove_totp(session, me.person_id, datetime.now(UTC))
    except Refusal as refusal:
        return _page(request, held, me, refusal=refusal)
    return see(HERE, said="totp_removed")


@router.get("/passkeys/new")
def passkey_page(request: Request, held: Held, me: Confirmed) -> Response:
    """What the browser needs to make a passkey."""
    return render(request, "account/passkey.html", 200, **_passkey(request, held, me), error="")


@router.post("/passkeys")
def add_passkey(
    request: Request,
    held: Held,
    me: Confirmed,
    name: Annotated[str, Form(max_length=200)],
    credential: Annotated[str, Form(max_length=20_000)],
) -> Response:
    """Take in what the browser made."""
    try:
        with transaction(held.databases.content) as session:
            secondfactor.register_passkey(
                session,
                held.vault,
                me.session_id,
                me.person_id,
                credential,
                name,
                party(request, held),
                datetime.now(UTC),
            )
    except Refusal as refusal:
        return refused(request, "account/passkey.html", refusal, **_passkey(request, held, me))
    return see(HERE, said="passkey")


def _passkey(request: Request, held: Services, me: PersonPrincipal) -> dict[str, object]:
    with transaction(held.databases.content) as session:
        email = people.email_of(held.vault, people.get(session, me.person_id))
        options = secondfactor.offer_registration(
            session, held.vault, me.session_id, me.person_id, email, party(request, held)
        )
    return {"passkey": options, "party": base_url(request, held)}


@router.post("/passkeys/{passkey_id}/remove")
def remove_passkey(request: Request, held: Held, me: Confirmed, passkey_id: UUID) -> Response:
    """Have a passkey work no more."""
    try:
        with transaction(held.databases.content) as session:
            secondfactor.remove_passkey(session, me.person_id, passkey_id, datetime.now(UTC))
    except Refusal as refusal:
        return _page(request, held, me, refusal=refusal)
    return see(HERE, said="passkey_removed")


@router.post("/recovery-codes")
def recovery_codes(request: Request, held: Held, me: Confirmed) -> Response:
    """Ten new codes, shown once; the old ones work no more."""
    with transaction(held.databases.content) as session:
        codes = secondfactor.issue_recovery_codes(session, held.vault, me.person_id, datetime.now(UTC))
    return render(request, "login/recovery_codes.html", 200, codes=codes, onwards=HERE)


@router.post("/sessions/{session_id}/end")
def end_session(request: Request, held: Held, me: Myself, session_id: UUID) -> Response:
    """End one session."""
    try:
        with transaction(held.databases.content) as session:
            sessions.revoke(session, me.person_id, session_id, datetime.now(UTC))
    except Refusal as refusal:
        return _page(request, held, me, refusal=refusal)
    return see(HERE, said="ended")


@router.post("/sessions/end-others")
def end_others(held: Held, me: Myself) -> Response:
    """End every session but this one."""
    with transaction(held.databases.content) as session:
        sessions.revoke_all(session, me.person_id, datetime.now(UTC), me.actor, but=me.session_id)
    return see(HERE, said="others")
