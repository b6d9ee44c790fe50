"""Webhook endpoints: where a content service wants to be told, and the secret each message is signed with."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from moderation import outbound
from moderation.domain.content import checked_name
from moderation.domain.errors import Conflict, InvalidInput, NotFound
from moderation.governance import audit
from moderation.governance.outbox import EVENTS
from moderation.storage.ids import new_id
from moderation.storage.tables import WebhookEndpoint
from moderation.storage.vault import Vault

ENDPOINTS = 20  # of one client: each of its items fans out to all of them
SECRET_BYTES = 32

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a client is told of its items; the secret is never shown again."""

    id: UUID
    name: str
    url: str
    events: tuple[str, ...]
    created_at: datetime
    disabled_at: datetime | None
    disabled_because: str | None


def register(
    session: Session,
    vault: Vault,
    client: str,
    name: str,
    url: str,
    events: Collection[str],
    insecure_dev: bool,
    now: datetime,
    resolver: outbound.Resolver = outbound.resolve,
) -> tuple[UUID, str]:
    """A new endpoint: its id and its secret, `whsec_...`, in the clear for the only time.

    Raises:
        InvalidInput: the name, an event or the url is not acceptable; the sentence says why.
        Conflict: the name is taken, or the client has as many endpoints as it may.
    """
    checked_name(name, "An endpoint's name")
    unknown = sorted(set(events) - set(EVENTS))
    if unknown or not events:
        raise InvalidInput(f"events must name at least one of {', '.join(EVENTS)}, and nothing else.")
    outbound.check_url(url, insecure_dev, resolver)
    if _count(session, client) >= ENDPOINTS:
        raise Conflict(f"There are {ENDPOINTS} endpoints already; remove one first.")
    identifier, secret = new_id(now), "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    endpoint = WebhookEndpoint(
        id=identifier,
        client=client,
        name=name,
        url=url,
        events=sorted(set(events)),
        secret=vault.account_key().encrypt(secret.encode(), *secret_place(identifier)),
        created_at=now,
    )
    try:
        with session.begin_nested():
            session.add(endpoint)
    except IntegrityError as error:
        raise Conflict(f"An endpoint named {name!r} exists already; choose another name.") from error
    _audit(session, f"client:{client}", "created", identifier, now, {"name": name, "events": endpoint.events})
    return identifier, secret


def list_endpoints(session: Session, client: str) -> list[Endpoint]:
    """The client's endpoints by name, disabled ones too."""
    rows = session.scalars(
        select(WebhookEndpoint).where(WebhookEndpoint.client == client).order_by(WebhookEndpoint.name)
    )
    return [
        Endpoint(
            row.id,
            row.name,
            row.url,
            tuple(row.events),
            row.created_at,
            row.disabled_at,
            row.disabled_because,
        )
        for row in rows
    ]


def remove(session: Session, client: str, name: str, now: datetime) -> None:
    """Remove an endpoint with all that was still on its way to it; its name is free again.

    Raises:
        NotFound: the client has no endpoint of that name.
    """
    endpoint = _endpoint(session, client, name)
    session.delete(endpoint)
    session.flush()
    _audit(session, f"client:{client}", "removed", endpoint.id, now, {"name": name})


def enable(session: Session, client: str, name: str, now: datetime) -> None:
    """Take up an endpoint again that was disabled. What died meanwhile stays dead until it is replayed.

    Raises:
        NotFound: the client has no endpoint of that name.
    """
    endpoint = _endpoint(session, client, name)
    if endpoint.disabled_at is None:
        return
    endpoint.disabled_at = endpoint.disabled_because = None
    session.flush()
    _audit(session, f"client:{client}", "enabled", endpoint.id, now, {"name": name})


def _endpoint(session: Session, client: str, name: str) -> WebhookEndpoint:
    found = session.scalar(
        select(WebhookEndpoint).where(WebhookEndpoint.client == client, WebhookEndpoint.name == name)
    )
    if found is None:
        raise NotFound("There is no webhook endpoint of that name.")
    return found


def _count(session: Session, client: str) -> int:
    query = select(func.count()).select_from(WebhookEndpoint).where(WebhookEndpoint.client == client)
    return session.scalar(query) or 0


def secret_place(endpoint: UUID) -> tuple[str, str, str]:
    """What the ciphertext of an endpoint's secret is bound to."""
    return "webhook_endpoints", "secret", str(endpoint)


def disable(session: Session, endpoint: UUID, now: datetime) -> None:
    """Stop sending to an endpoint that said 410. What still waits for it dies when it is claimed."""
    because = "it answered 410 Gone"
    changed = session.execute(
        update(WebhookEndpoint)
        .where(WebhookEndpoint.id == endpoint, WebhookEndpoint.disabled_at.is_(None))
        .values(disabled_at=now, disabled_because=because)
        .returning(WebhookEndpoint.id)
    ).all()
    if changed:
        _audit(session, audit.MACHINE, "disabled", endpoint, now, {"because": because})
        log.warning("webhook_endpoint_disabled", endpoint=str(endpoint), because=because)


def _audit(
    session: Session, actor: str, what: str, endpoint: UUID, now: datetime, details: Mapping[str, Any]
) -> None:
    event = audit.Event(actor, f"webhook_endpoint.{what}", "webhook_endpoint", str(endpoint), details)
    audit.record(session, [event], now)
