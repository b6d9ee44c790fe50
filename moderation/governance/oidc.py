"""Logging in by an OpenID provider: the authorisation code flow with PKCE and a nonce (OpenID Connect Core 1.0).

The provider says who somebody is. Whether they may come in is ours to say: at first by the verified e-mail
address of a person or an invitation of ours, from then on by the provider's own subject. Unless the provider says
that it saw a second factor, ours is asked for.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote_plus, urlencode
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation import outbound
from moderation.domain.errors import Forbidden, Unauthenticated, Unavailable
from moderation.governance import audit, invitations, people
from moderation.settings import Oidc
from moderation.storage.tables import Person
from moderation.storage.vault import Vault

# What a token may be signed by. `none` and shared secrets are not among them.
ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA"]
CLOCKS_DIFFER = timedelta(minutes=1)
LASTS = timedelta(minutes=10)
# RFC 8176's word, and the classes of OpenID's own profiles that say the same.
MULTI_FACTOR = {"mfa", "phr", "phrh", "http://schemas.openid.net/pape/policies/2007/06/multi-factor"}
FAILED = "Your provider did not let you in, or its answer does not belong to this log-in; try again."


@dataclass(frozen=True, slots=True)
class Provider:
    """What a provider says of itself."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    secret_in_body: bool


@dataclass(frozen=True, slots=True)
class Begun:
    """A log-in on its way to the provider and back; kept sealed with the browser meanwhile."""

    state: str
    nonce: str
    verifier: str
    next: str
    at: float


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom the provider vouches for. `seen_at` is when it last saw them prove it, if it says so."""

    subject: str
    email: str | None
    multi_factor: bool
    seen_at: datetime | None


def discover(settings: Oidc) -> Provider:
    """Ask the provider where its parts are.

    Raises:
        Unavailable: it can't be reached, or speaks for another issuer.
    """
    document = _asked(f"{settings.issuer.rstrip('/')}/.well-known/openid-configuration")
    try:
        if document["issuer"] != settings.issuer:
            raise _unusable()
        known = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        return Provider(
            str(document["authorization_endpoint"]),
            str(document["token_endpoint"]),
            str(document["jwks_uri"]),
            secret_in_body="client_secret_basic" not in known,
        )
    except (KeyError, TypeError) as error:
        raise _unusable() from error


def begin(
    settings: Oidc, provider: Provider, redirect_uri: str, wanted: str, now: datetime, *, again: bool
) -> tuple[str, Begun]:
    """The provider's address to send the browser to, and what to keep until it comes back.

    With `again`, somebody who is logged in at the provider has to prove themselves there once more.
    """
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    begun = Begun(state, nonce, verifier, wanted, now.timestamp())
    challenge = base64.urlsafe_b64encode(hashlib.sha256(begun.verifier.encode()).digest()).rstrip(b"=")
    query = {
        "response_type": "code",
        "client_id": settings.client_id,
        "redirect_uri": redirect_uri,
        "scope": "openid email",
        "state": begun.state,
        "nonce": begun.nonce,
        "code_challenge": challenge.decode(),
        "code_challenge_method": "S256",
    } | ({"prompt": "login", "max_age": "0"} if again else {})
    joint = "&" if "?" in provider.authorization_endpoint else "?"
    return f"{provider.authorization_endpoint}{joint}{urlencode(query)}", begun


def seal(vault: Vault, begun: Begun) -> str:
    """A log-in under way, for a cookie."""
    fields = {name: getattr(begun, name) for name in Begun.__slots__}
    sealed = vault.account_key().encrypt(json.dumps(fields).encode(), "oidc", "begun", "cookie")
    return base64.urlsafe_b64encode(sealed).decode()


def opened(vault: Vault, sealed: str, state: str, now: datetime) -> Begun:
    """The log-in that the browser comes back with.

    Raises:
        Unauthenticated: there is none, it is another's, or took too long.
    """
    try:
        plain = vault.account_key().decrypt(base64.urlsafe_b64decode(sealed), "oidc", "begun", "cookie")
        begun = Begun(**json.loads(plain))
    except Exception as error:
        raise Unauthenticated(FAILED) from error
    late = now.timestamp() - begun.at > LASTS.total_seconds()
    if late or not hmac.compare_digest(begun.state.encode(), state.encode()):
        raise Unauthenticated(FAILED)
    return begun


def finish(
    settings: Oidc, provider: Provider, begun: Begun, code: str, redirect_uri: str, now: datetime
) -> Identity:
    """Change the code for a token, and believe it only after every check.

    Raises:
        Unauthenticated: the code or the token is not good.
        Unavailable: the provider can't be reached.
    """
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "code_verifier": begun.verifier,
    }
    headers = {}
    if provider.secret_in_body:
        form |= {"client_id": settings.client_id, "client_secret": settings.client_secret}
    else:
        pair = f"{quote_plus(settings.client_id)}:{quote_plus(settings.client_secret)}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    answer = _asked(provider.token_endpoint, form, headers)
    claims = _verified(str(answer.get("id_token", "")), _asked(provider.jwks_uri))
    return _believed(claims, settings, begun, now)


def _verified(token: str, keys: Mapping[str, Any]) -> Mapping[str, Any]:
    from joserfc import jwt
    from joserfc.errors import JoseError
    from joserfc.jwk import KeySet

    try:
        usable = [key for key in keys["keys"] if key.get("use", "sig") == "sig" and key.get("kty") != "oct"]
        return dict(jwt.decode(token, KeySet.import_key_set({"keys": usable}), algorithms=ALGORITHMS).claims)
    except (JoseError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unauthenticated(FAILED) from error


def _believed(claims: Mapping[str, Any], settings: Oidc, begun: Begun, now: datetime) -> Identity:
    """OpenID Connect Core 1.0, section 3.1.3.7."""
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    expires, issued = _moment(claims.get("exp")), _moment(claims.get("iat"))
    good = (
        claims.get("iss") == settings.issuer
        and settings.client_id in audiences
        and (len(audiences) == 1 or claims.get("azp") == settings.client_id)
        and expires is not None
        and expires > now - CLOCKS_DIFFER
        and issued is not None
        and now - LASTS < issued < now + CLOCKS_DIFFER
        and hmac.compare_digest(str(claims.get("nonce", "")).encode(), begun.nonce.encode())
        and isinstance(claims.get("sub"), str)
        and claims["sub"]
    )
    if not good:
        raise Unauthenticated(FAILED)
    methods = claims.get("amr")
    said = {*(methods if isinstance(methods, list) else []), claims.get("acr")}
    verified = claims.get("email_verified") is True and isinstance(claims.get("email"), str)
    return Identity(
        subject=claims["sub"],
        email=claims["email"] if verified else None,
        multi_factor=bool(MULTI_FACTOR & {one for one in said if isinstance(one, str)}),
        seen_at=_moment(claims.get("auth_time")),
    )


def person_of(session: Session, vault: Vault, settings: Oidc, identity: Identity, now: datetime) -> UUID:
    """Which of our people this is.

    Raises:
        Forbidden: none of them, or one who is disabled or belongs to another subject.
    """
    digest = vault.digest("oidc", settings.issuer, identity.subject)
    person = session.scalar(select(Person).where(Person.oidc_subject == digest))
    if person is None and identity.email is not None:
        person = people.find(session, vault, identity.email)
        if person is not None and person.oidc_subject is not None:
            person = None
        elif person is None and identity.multi_factor:
            person = _joined(session, vault, identity.email, now)
        if person is not None:
            person.oidc_subject = digest
            session.flush()
            event = audit.Event(f"person:{person.id}", "person.provider_linked", "person", str(person.id))
            audit.record(session, [event], now)
    if person is None or person.disabled_at is not None:
        raise Forbidden(
            "Your provider knows you, but nobody here does; ask an administrator for an invitation."
        )
    return person.id


def _joined(session: Session, vault: Vault, email: str, now: datetime) -> Person | None:
    """Somebody invited, whom the provider saw with two factors: they need none of ours."""
    offer = invitations.accepted_elsewhere(session, vault, email, now)
    if offer is None:
        return None
    person = people.add(session, vault, offer.email, offer.roles, "", now)
    details = {"roles": list(offer.roles)}
    event = audit.Event(f"person:{person.id}", "person.joined", "person", str(person.id), details)
    audit.record(session, [event], now)
    return person


def _asked(
    url: str, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    try:
        status, body = outbound.fetch(url, form, headers or {})
        document = json.loads(body)
    except (outbound.SendFailed, ValueError) as error:
        raise _unusable() from error
    if form is not None and status in (400, 401, 403):
        raise Unauthenticated(FAILED)
    if status != 200 or not isinstance(document, dict):
        raise _unusable()
    return document


def _unusable() -> Unavailable:
    return Unavailable(
        "Your provider can't be reached or is set up wrongly; log in by password, or try again later.",
        retry_after=30.0,
    )


def _moment(seconds: object) -> datetime | None:
    usable = isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds < 2**33
    return datetime.fromtimestamp(float(seconds), UTC) if usable else None  # type: ignore[arg-type]
