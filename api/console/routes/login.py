"""The door: password, second factor, links that work once, and out again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import segno
from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, Response
from markupsafe import Markup
from sqlalchemy.orm import Session

from api import people as who
from api.auth import services
from api.console.templating import render, see
from api.people import Owing, Visit, owing, person, visitor
from api.problems import status_of
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.errors import Busy, Refusal, Unauthenticated
from moderation.governance import audit, invitations, logins, people, secondfactor, sessions
from moderation.governance.invitations import Kind
from moderation.governance.secondfactor import RelyingParty
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.database import transaction

router = APIRouter(prefix="/console", include_in_schema=False)

HOME = "/console/"
Held = Annotated[Services, Depends(services)]
Visitor = Annotated[Visit, Depends(visitor)]
Debtor = Annotated[Owing, Depends(owing)]
Myself = Annotated[PersonPrincipal, Depends(person(Permission.SELF_MANAGE))]
Email = Annotated[str, Form(max_length=254)]
Secret = Annotated[str, Form(max_length=1000)]
Code = Annotated[str, Form(max_length=40)]
Next = Annotated[str, Form(max_length=2000)]


@router.get("/login")
def login_page(request: Request, held: Held, visit: Visitor, next: str = HOME) -> Response:  # noqa: A002
    """Where everybody begins."""
    token, address = who.session_cookie(request, held), inside(next)
    if token is None and request.headers.get("sec-fetch-site") == "cross-site":
        # A link from elsewhere: a strict cookie was not sent along. From our own page it will be.
        again = f"/console/login?next={quote(address, safe='')}"
        return render(request, "login/onwards.html", address=again)
    with transaction(held.databases.content) as session:
        try:
            sessions.authenticate(session, held.vault, token or "", datetime.now(UTC))
            return see(address)
        except Unauthenticated:
            pass
    return visit.kept(render(request, "login/login.html", next=address, email="", **offered(held)))


@router.post("/login")
def give_password(
    request: Request,
    held: Held,
    visit: Visitor,
    email: Email,
    password: Secret,
    next: Next = HOME,  # noqa: A002
) -> Response:
    """The password, after which the second factor is owed."""
    now, token = datetime.now(UTC), None
    try:
        with transaction(held.databases.content) as session:
            candidate = logins.attempt(session, held.vault, email, who.source(request, held), now)
        proved = candidate.proved_by(password)
        with transaction(held.databases.content) as session:
            if proved:
                token = logins.password_given(
                    session, candidate, password, request.headers.get("user-agent", ""), now
                )
            else:
                logins.failed(session, now)
        if token is None:
            raise Unauthenticated(logins.WRONG)
    except Refusal as refusal:
        page = refused(request, "login/login.html", refusal, next=inside(next), email=email, **offered(held))
        return visit.kept(page)
    return who.log_in(request, see("/console/second-factor", next=inside(next)), held, token)


@router.get("/second-factor")
def second_factor_page(request: Request, held: Held, debtor: Debtor, next: str = HOME) -> Response:  # noqa: A002
    """Where the second factor is given: to come in, or to confirm before something grave."""
    return render(request, "login/second_factor.html", **_asked(request, held, debtor), next=inside(next))


@router.post("/second-factor")
def give_code(
    request: Request,
    held: Held,
    debtor: Debtor,
    code: Code,
    next: Next = HOME,  # noqa: A002
) -> Response:
    """A code of the authenticator app, or a recovery code."""
    return _judged(request, held, debtor, next, code=code)


@router.post("/second-factor/passkey")
def give_passkey(
    request: Request,
    held: Held,
    debtor: Debtor,
    credential: Annotated[str, Form(max_length=20_000)],
    next: Next = HOME,  # noqa: A002
) -> Response:
    """What the browser signed with a passkey."""
    return _judged(request, held, debtor, next, credential=credential)


def _judged(
    request: Request,
    held: Services,
    debtor: Owing,
    wanted: str,
    *,
    code: str | None = None,
    credential: str | None = None,
) -> Response:
    now, vault = datetime.now(UTC), held.vault
    token = device = None
    try:
        with transaction(held.databases.content) as session:
            counter = logins.attempt_factor(session, vault, debtor.person_id, who.source(request, held), now)
        with transaction(held.databases.content) as session:
            if credential is None:
                right = secondfactor.check_code(session, vault, debtor.person_id, code or "", now)
            else:
                right = secondfactor.check_passkey(
                    session, vault, debtor.session_id, debtor.person_id, credential, party(request, held), now
                )
            if right:
                device = logins.factor_given(session, vault, debtor.person_id, counter, now)
                renew = sessions.complete if debtor.half else sessions.confirm
                token = renew(session, debtor.session_id, now)
                record(session, debtor, "person.logged_in" if debtor.half else "person.confirmed", now)
            else:
                logins.failed(session, now, "second_factor")
        if token is None:
            raise Unauthenticated(logins.WRONG_CODE if credential is None else logins.WRONG_PASSKEY)
    except Refusal as refusal:
        asked = _asked(request, held, debtor)
        return refused(request, "login/second_factor.html", refusal, **asked, next=inside(wanted))
    return who.log_in(request, see(inside(wanted)), held, token, device)


@router.post("/logout")
def log_out(request: Request, held: Held, me: Myself) -> Response:
    """End this session."""
    with transaction(held.databases.content) as session:
        sessions.revoke(session, me.person_id, me.session_id, datetime.now(UTC))
    return who.log_out(request, see("/console/login"), held)


@router.get("/join/{token}")
def link_page(request: Request, held: Held, visit: Visitor, token: str) -> Response:
    """What a link offers: to join, to choose a new password, or to set the log-in up anew."""
    with transaction(held.databases.content) as session:
        offer = invitations.read(session, held.vault, token, datetime.now(UTC))
    return visit.kept(_link_page(request, held, token, offer))


@router.post("/join/{token}")
def use_link(
    request: Request,
    held: Held,
    visit: Visitor,
    token: str,
    password: Secret,
    again: Secret,
    code: Code,
) -> Response:
    """Choose a password, and prove the second factor, new or known."""
    now, vault = datetime.now(UTC), held.vault
    with transaction(held.databases.content) as session:
        offer = invitations.read(session, vault, token, now)
    try:
        if password != again:
            raise Unauthenticated("The two passwords differ; write the same one twice.")
        if offer.kind is Kind.PASSWORD:
            _new_password(request, held, token, offer, password, code, now)
            return see("/console/login")
        with transaction(held.databases.content) as session:
            accepted = invitations.accept(session, vault, token, password, code, now)
            agent = request.headers.get("user-agent", "")
            opened = sessions.start(session, accepted.person_id, agent, now, confirmed=True)
            device = logins.new_device(vault, people.get(session, accepted.person_id).email_digest)
    except Refusal as refusal:
        page = _link_page(request, held, token, offer, refusal)
        return visit.kept(page)
    page = render(request, "login/recovery_codes.html", codes=accepted.recovery_codes, onwards=HOME)
    return who.log_in(request, page, held, opened, device)


def _new_password(
    request: Request,
    held: Services,
    token: str,
    offer: invitations.Offer,
    password: str,
    code: str,
    now: datetime,
) -> None:
    assert offer.person_id is not None
    vault = held.vault
    with transaction(held.databases.content) as session:
        counter = logins.attempt_factor(session, vault, offer.person_id, who.source(request, held), now)
    with transaction(held.databases.content) as session:
        right = secondfactor.check_code(session, vault, offer.person_id, code, now)
        if right:
            invitations.set_password(session, vault, token, password, now)
            logins.factor_given(session, vault, offer.person_id, counter, now)
        else:
            logins.failed(session, now, "second_factor")
    if not right:
        raise Unauthenticated(logins.WRONG_CODE)


def _link_page(
    request: Request,
    held: Services,
    token: str,
    offer: invitations.Offer,
    refusal: Refusal | None = None,
) -> HTMLResponse:
    secret = invitations.offered_secret(held.vault, token)
    context: dict[str, Any] = {
        "offer": offer,
        "token": token,
        "secret": secret,
        "qr": qr(secondfactor.uri(secret, offer.email)),
    }
    if refusal is None:
        return render(request, "login/join.html", 200, **context, error="")
    return refused(request, "login/join.html", refusal, **context)


def _asked(request: Request, held: Services, debtor: Owing) -> dict[str, Any]:
    """What a page that asks for the second factor needs; with a passkey, a fresh challenge."""
    with transaction(held.databases.content) as session:
        options = secondfactor.offer_authentication(
            session, held.vault, debtor.session_id, debtor.person_id, party(request, held)
        )
        has_app = people.get(session, debtor.person_id).totp_secret is not None
    return {"passkey": options, "half": debtor.half, "has_app": has_app} | offered(held)


def offered(held: Services) -> dict[str, Any]:
    """What the log-in page offers besides a password."""
    return {"oidc": held.settings.oidc.name if held.settings.oidc else ""}


def refused(request: Request, template: str, refusal: Refusal, **context: Any) -> HTMLResponse:
    """The page again, with the sentence that says why."""
    page = render(request, template, status_of(refusal), error=refusal.detail, **context)
    if isinstance(refusal, Busy):
        page.headers["Retry-After"] = str(max(1, round(refusal.retry_after)))
    return page


def record(session: Session, debtor: Owing, action: str, now: datetime) -> None:
    """Note in the audit log what somebody proved."""
    actor = f"person:{debtor.person_id}"
    audit.record(session, [audit.Event(actor, action, "session", str(debtor.session_id))], now)


def inside(address: str) -> str:
    """An address of this console to go on to; the dashboard instead of any other."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return HOME
    plain = address.isprintable() and "\\" not in address and not parts.scheme and not parts.netloc
    return address if plain and parts.path.startswith("/console/") and "//" not in parts.path else HOME


def base_url(request: Request, held: Services) -> str:
    """How the console is reached: as the settings say, else as this request came."""
    return held.settings.console_url or f"{request.url.scheme}://{request.url.netloc}"


def party(request: Request, held: Services) -> RelyingParty:
    """Whom passkeys are for."""
    origin = base_url(request, held)
    return RelyingParty(urlsplit(origin).hostname or "", origin)


def qr(text: str) -> Markup:
    """A QR code as inline SVG, dark on light in either theme."""
    code = segno.make(text, error="m")
    return Markup(code.svg_inline(scale=4, border=4, dark="#000000", light="#ffffff"))  # noqa: S704  no input in it
