"""Which person calls, by cookie or bearer token, and whether a form really comes from a page of ours.

A route for people takes `Depends(person(Permission.X))`; one without it, without `caller(...)` and not public on
purpose fails the tests.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import Depends, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.auth import services
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.errors import Forbidden, Unauthenticated
from moderation.governance import logins, sessions
from moderation.governance.sessions import PersonPrincipal
from moderation.settings import LOOPBACK
from moderation.storage.database import transaction

COOKIE, DEV_COOKIE = "__Host-moderation", "moderation_dev"
VISIT, DEV_VISIT = "__Host-moderation_visit", "moderation_visit_dev"
DEVICE, DEV_DEVICE = "__Host-moderation_device", "moderation_device_dev"
VISIT_LENGTH = 43
DEVICE_SECONDS = 365 * 86_400
SAFE = {"GET", "HEAD", "OPTIONS"}
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
FOREIGN = "This form did not come from a page of this console; open the page again and send it from there."

R = TypeVar("R", bound=Response)
_bearer = HTTPBearer(
    auto_error=False, description="A session of a person, `ms_...`.", scheme_name="PersonSession"
)
Held = Annotated[Services, Depends(services)]
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


async def submitted(request: Request) -> str | None:
    """The CSRF token that came with a request: its header, or a form's field `csrf`."""
    header = request.headers.get("x-csrf-token")
    if header is not None or request.method in SAFE:
        return header
    if not request.headers.get("content-type", "").lower().startswith(FORMS):
        return None
    field = (await request.form()).get("csrf")
    return field if isinstance(field, str) else None


Csrf = Annotated[str | None, Depends(submitted)]


def person(permission: Permission, *, fresh: bool = False) -> Callable[..., PersonPrincipal]:
    """A dependency that answers which person calls, if one of their roles carries `permission`.

    The request's state gets `principal`, `preferences` and what `csrf_token` answers.

    Raises (when called):
        Unauthenticated: nobody is logged in, or the second factor is still owed.
        Forbidden: no role of theirs carries the permission, or the form came from elsewhere.
        StepUpRequired: with `fresh`, the second factor was given too long ago.
        TooManyRequests: the person sends too fast.
    """

    def check(request: Request, held: Held, credentials: Bearer, given: Csrf) -> PersonPrincipal:
        by_cookie = credentials is None
        token = session_cookie(request, held) if credentials is None else credentials.credentials
        if not token:
            raise Unauthenticated("Log in first.")
        now = datetime.now(UTC)
        with transaction(held.databases.content) as session:
            principal = sessions.authenticate(session, held.vault, token, now)
        request.state.principal = principal
        request.state.preferences = principal.preferences
        request.state.csrf = _csrf_of(held, str(principal.session_id))
        if by_cookie:
            refuse_forged(request, request.state.csrf, given)
        if permission not in principal.permissions:
            raise Forbidden(f"None of your roles carries {permission}; ask an administrator if you need it.")
        held.rate_limit.check(principal.actor)
        if fresh:
            sessions.require_fresh(principal, now)
        return principal

    # Read by the tests that walk the routes.
    check.permission, check.fresh = permission, fresh  # type: ignore[attr-defined]
    return check


@dataclass(frozen=True, slots=True)
class Owing:
    """Who is asked for a second factor: to log in (`half`), or to confirm that it is still them."""

    person_id: UUID
    session_id: UUID
    half: bool


def owing(request: Request, held: Held, given: Csrf) -> Owing:
    """A dependency that answers who may give a second factor now.

    Raises (when called):
        Unauthenticated: nobody gave a password.
        Forbidden: the form came from elsewhere.
    """
    token, now = session_cookie(request, held) or "", datetime.now(UTC)
    with transaction(held.databases.content, durable=False) as session:
        try:
            half = sessions.half(session, token, now)
            found = Owing(half.person_id, half.session_id, half=True)
        except Unauthenticated:
            principal = sessions.authenticate(session, held.vault, token, now)
            found = Owing(principal.person_id, principal.session_id, half=False)
    request.state.csrf = _csrf_of(held, str(found.session_id))
    refuse_forged(request, request.state.csrf, given)
    return found


@dataclass(frozen=True, slots=True)
class Visit:
    """Somebody before the log-in: a cookie that ties a form to the page it stands on."""

    name: str
    value: str

    def kept(self, response: R) -> R:
        """The same response, with the cookie."""
        set_cookie(response, self.name, self.value, secure=self.name == VISIT)
        return response


def visitor(request: Request, held: Held, given: Csrf) -> Visit:
    """A dependency for forms before anybody is logged in.

    Raises (when called):
        Forbidden: the form came from elsewhere.
    """
    name = VISIT if secure(request, held) else DEV_VISIT
    value = request.cookies.get(name, "")
    if len(value) != VISIT_LENGTH:
        value, given = secrets.token_urlsafe(32), None
    request.state.csrf = _csrf_of(held, value)
    refuse_forged(request, request.state.csrf, given)
    return Visit(name, value)


def source(request: Request, held: Services) -> logins.Source:
    """Where an attempt to log in comes from."""
    address = request.client.host if request.client else ""
    return logins.Source(address, request.cookies.get(DEVICE if secure(request, held) else DEV_DEVICE))


def csrf_token(request: Request) -> str:
    """What a form of the page that answers `request` carries in its field `csrf`; empty if it needs none."""
    return str(getattr(request.state, "csrf", ""))


def refuse_forged(request: Request, expected: str, given: str | None) -> None:
    """Refuse an unsafe request that a page of ours did not send.

    Raises:
        Forbidden: another site sent it, or it lacks the token.
    """
    if request.method in SAFE:
        return
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    # "null" is what a browser sends for a form of a page without a referrer; the token decides there.
    foreign = origin not in (None, "null") and urlsplit(origin).netloc != request.url.netloc
    if site == "cross-site" or foreign or not hmac.compare_digest(expected, given or ""):
        raise Forbidden(FOREIGN, code="csrf")


def secure(request: Request, held: Services) -> bool:
    """Whether the browser can be asked to keep cookies for TLS only: always, but for plain HTTP to this machine."""
    if held.settings.insecure_dev:
        return False
    here = {request.url.hostname or "", request.client.host if request.client else ""}
    return request.url.scheme != "http" or not here <= LOOPBACK


def session_cookie(request: Request, held: Services) -> str | None:
    """The session's token as the browser keeps it."""
    return request.cookies.get(COOKIE if secure(request, held) else DEV_COOKIE)


def log_in(request: Request, response: R, held: Services, token: str, device: str | None = None) -> R:
    """Have the browser keep a session's token until it is closed, and for a year that it is known here."""
    safe = secure(request, held)
    set_cookie(response, COOKIE if safe else DEV_COOKIE, token, secure=safe)
    if device is not None:
        name = DEVICE if safe else DEV_DEVICE
        set_cookie(response, name, device, secure=safe, max_age=DEVICE_SECONDS)
    return response


def log_out(request: Request, response: R, held: Services) -> R:
    """Have the browser forget the session."""
    safe = secure(request, held)
    name = COOKIE if safe else DEV_COOKIE
    response.delete_cookie(name, path="/", secure=safe, httponly=True, samesite="strict")
    return response


def set_cookie(
    response: Response,
    name: str,
    value: str,
    *,
    secure: bool,
    max_age: int | None = None,
    samesite: Literal["strict", "lax"] = "strict",
) -> None:
    """A cookie that no script reads and no other site sends along."""
    response.set_cookie(
        name, value, max_age=max_age, path="/", secure=secure, httponly=True, samesite=samesite
    )


def _csrf_of(held: Services, of: str) -> str:
    return held.vault.digest("csrf", of).hex()
