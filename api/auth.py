"""Who calls, and what they may. A route without `caller`, `partner` or `person` that is not public fails tests."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.services import Services
from moderation.domain.errors import Forbidden, Unauthenticated
from moderation.governance import partners
from moderation.governance.accounts import Principal, Scope, authenticate
from moderation.governance.partners import PartnerPrincipal, Right
from moderation.storage.database import transaction

_bearer = HTTPBearer(auto_error=False, description="An API key, `mk_...`.", scheme_name="ApiKey")
_partner_bearer = HTTPBearer(
    auto_error=False, description="A partner's key, `mp_...`.", scheme_name="PartnerKey"
)


def services(request: Request) -> Services:
    """The services of this process."""
    held: Services = request.app.state.services
    return held


def caller(scope: Scope) -> Callable[..., Principal]:
    """A dependency that answers who calls, if their key has `scope`.

    Raises (when called):
        Unauthenticated: no key, or none of ours.
        Forbidden: the key lacks the scope.
        TooManyRequests: the client sends too fast.
    """

    def check(
        held: Annotated[Services, Depends(services)],
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ) -> Principal:
        if credentials is None:
            raise Unauthenticated("Send an API key: `Authorization: Bearer mk_...`.")
        with transaction(held.databases.content) as session:
            principal = authenticate(session, held.vault, credentials.credentials)
        if scope not in principal.scopes:
            raise Forbidden(f"This API key lacks the scope {scope}; have a key made that has it.")
        held.rate_limit.check(principal.client)
        return principal

    check.scope = scope  # type: ignore[attr-defined]  # read by the test that walks the routes
    return check


def partner(right: Right) -> Callable[..., PartnerPrincipal]:
    """A dependency that answers which partner calls, if their key is good for `right`.

    Raises (when called):
        Unauthenticated: no key, or none of a partner of ours.
        Forbidden: the key's time has passed.
        TooManyRequests: the partner sends too fast.
    """

    def check(
        held: Annotated[Services, Depends(services)],
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_partner_bearer)],
    ) -> PartnerPrincipal:
        if credentials is None:
            raise Unauthenticated("Send a partner key: `Authorization: Bearer mp_...`.")
        with transaction(held.databases.content) as session:
            principal = partners.authenticate(
                session, held.vault, credentials.credentials, right, datetime.now(UTC)
            )
        held.rate_limit.check(principal.actor)
        return principal

    check.right = right  # type: ignore[attr-defined]  # read by the test that walks the routes
    return check
