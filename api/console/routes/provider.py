"""Logging in by an OpenID provider: there and back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from api import people as who
from api.auth import services
from api.console.routes.login import HOME, Visitor, base_url, inside, offered, refused
from api.console.templating import render
from api.services import Services
from moderation.domain.errors import NotFound, Refusal, Unauthenticated
from moderation.governance import audit, logins, oidc, people, sessions
from moderation.settings import Oidc
from moderation.storage.database import transaction

router = APIRouter(prefix="/console/oidc", include_in_schema=False)

COOKIE, DEV_COOKIE = "__Host-moderation_oidc", "moderation_oidc_dev"
# Long ago: what the provider does not say when it saw counts for coming in, and not for confirming.
NEVER = datetime(1970, 1, 1, tzinfo=UTC)
Held = Annotated[Services, Depends(services)]
Short = Annotated[str, Query(max_length=4000)]


@router.get("")
def leave(request: Request, held: Held, visit: Visitor, next: Short = HOME, again: bool = False) -> Response:  # noqa: A002
    """Send the browser to the provider."""
    settings, now = _settings(held), datetime.now(UTC)
    try:
        provider = oidc.discover(settings)
    except Refusal as refusal:
        return visit.kept(
            refused(request, "login/login.html", refusal, next=inside(next), email="", **offered(held))
        )
    address, begun = oidc.begin(settings, provider, _back(request, held), inside(next), now, again=again)
    answer = RedirectResponse(address, 303)
    # Lax: the browser comes back from another site, and has to bring this one along.
    safe = who.secure(request, held)
    who.set_cookie(
        answer,
        COOKIE if safe else DEV_COOKIE,
        oidc.seal(held.vault, begun),
        secure=safe,
        max_age=int(oidc.LASTS.total_seconds()),
        samesite="lax",
    )
    return answer


@router.get("/callback")
def come_back(request: Request, held: Held, visit: Visitor, code: Short = "", state: Short = "") -> Response:
    """Take the provider's word for who it is, after checking it."""
    settings, now = _settings(held), datetime.now(UTC)
    sealed = request.cookies.get(COOKIE if who.secure(request, held) else DEV_COOKIE, "")
    try:
        begun = oidc.opened(held.vault, sealed, state, now)
        if not code:
            raise Unauthenticated(oidc.FAILED)
        identity = oidc.finish(settings, oidc.discover(settings), begun, code, _back(request, held), now)
        token, device = _come_in(request, held, settings, identity, now)
    except Refusal as refusal:
        with transaction(held.databases.content) as session:
            logins.failed(session, now, "provider")
        page = refused(request, "login/login.html", refusal, next=HOME, email="", **offered(held))
        return visit.kept(_used(request, held, page))
    owed = f"/console/second-factor?next={quote(begun.next, safe='')}"
    # A page of ours in between: after a redirect from another site a strict cookie would not be sent along.
    page = render(request, "login/onwards.html", 200, address=begun.next if identity.multi_factor else owed)
    return who.log_in(request, _used(request, held, page), held, token, device)


def _used(request: Request, held: Services, page: HTMLResponse) -> HTMLResponse:
    """The page, with which the browser forgets the log-in that was under way: it is good for one return."""
    safe = who.secure(request, held)
    name = COOKIE if safe else DEV_COOKIE
    page.delete_cookie(name, path="/", secure=safe, httponly=True, samesite="lax")
    return page


def _come_in(
    request: Request, held: Services, settings: Oidc, identity: oidc.Identity, now: datetime
) -> tuple[str, str | None]:
    agent = request.headers.get("user-agent", "")
    with transaction(held.databases.content) as session:
        person_id = oidc.person_of(session, held.vault, settings, identity, now)
        seen = min(identity.seen_at or NEVER, now)
        token = sessions.start(
            session, person_id, agent, now, confirmed=identity.multi_factor, confirmed_at=seen
        )
        if not identity.multi_factor:
            return token, None
        event = audit.Event(
            f"person:{person_id}", "person.logged_in", "person", str(person_id), {"by": "provider"}
        )
        audit.record(session, [event], now)
        return token, logins.new_device(held.vault, people.get(session, person_id).email_digest)


def _back(request: Request, held: Services) -> str:
    return f"{base_url(request, held)}/console/oidc/callback"


def _settings(held: Services) -> Oidc:
    if held.settings.oidc is None:
        raise NotFound("Nobody logs in by a provider here; use your password.")
    return held.settings.oidc
