"""API keys of content services."""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation.domain.errors import InvalidInput, NotFound, Unauthenticated
from moderation.governance import audit
from moderation.storage.tables import ApiKey
from moderation.storage.vault import Vault

KEY = re.compile(r"mk_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
CLIENT = re.compile(r"[a-z][a-z0-9-]{0,31}")


class Scope(StrEnum):
    """What an API key may do."""

    ITEMS_WRITE = "items:write"
    ITEMS_READ = "items:read"  # and the decisions on them, and appeals
    REPORTS_WRITE = "reports:write"
    APPEALS_WRITE = "appeals:write"  # and to say that somebody was informed
    SUBJECTS_WRITE = "subjects:write"  # rights of data subjects, account cancellation, notices of minors
    BANKS_WRITE = "banks:write"  # and to read them
    HASHES_READ = "hashes:read"  # to look pictures up in the banks that are on
    MODERATIONS_SCORE = "moderations:score"  # scores for a text that is not kept
    WEBHOOKS = "webhooks:manage"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: the client a key belongs to, and what it may do."""

    key_id: str
    client: str
    scopes: frozenset[str]

    @property
    def actor(self) -> str:
        """How the audit log names this caller."""
        return f"client:{self.client}"


def create_api_key(
    session: Session, vault: Vault, client: str, scopes: Sequence[str], now: datetime, actor: str
) -> str:
    """A new key for `client`, `mk_<id>_<secret>`; the secret is stored as a keyed digest only.

    Raises:
        InvalidInput: the client's name or a scope is unknown to us.
    """
    if not CLIENT.fullmatch(client):
        raise InvalidInput("A client's name is 1 to 32 lower-case letters, digits and hyphens.")
    unknown = sorted(set(scopes) - {str(scope) for scope in Scope})
    if unknown:
        raise InvalidInput(f"Unknown scope {unknown[0]!r}; there are {', '.join(Scope)}.")
    key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    session.add(
        ApiKey(
            id=key_id,
            client=client,
            secret_digest=vault.digest("api_key", key_id, secret),
            scopes=list(scopes),
            created_at=now,
        )
    )
    audit.record(session, [audit.Event(actor, "api_key.created", "api_key", key_id, {"client": client})], now)
    return f"mk_{key_id}_{secret}"


def authenticate(session: Session, vault: Vault, token: str) -> Principal:
    """The caller behind a bearer token.

    Raises:
        Unauthenticated: malformed, unknown or revoked; the sentence does not say which.
    """
    match = KEY.fullmatch(token)
    row = session.get(ApiKey, match[1]) if match else None
    if match is None or row is None or row.revoked_at is not None:
        raise Unauthenticated("This API key is not valid; check it, or have a new one made.")
    if not hmac.compare_digest(row.secret_digest, vault.digest("api_key", row.id, match[2])):
        raise Unauthenticated("This API key is not valid; check it, or have a new one made.")
    return Principal(row.id, row.client, frozenset(row.scopes))


def api_keys(session: Session) -> Sequence[ApiKey]:
    """Every key, newest first, revoked ones too."""
    return session.scalars(select(ApiKey).order_by(ApiKey.created_at.desc())).all()


def revoke_api_key(session: Session, key_id: str, now: datetime, actor: str) -> None:
    """Revoke a key; the next request with it is refused.

    Raises:
        NotFound: there is no such key, or it is revoked already.
    """
    key = session.get(ApiKey, key_id)
    if key is None or key.revoked_at is not None:
        raise NotFound("There is no such key in use; `moderation keys list` shows the ids.")
    key.revoked_at = now
    session.flush()
    audit.record(session, [audit.Event(actor, "api_key.revoked", "api_key", key_id)], now)
