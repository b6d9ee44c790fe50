"""Webhook endpoints: register, list, remove; what could not be delivered, and sending it again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path

from api.auth import caller, services
from api.schemas import DeadLetterOut, EndpointCreatedOut, EndpointIn, EndpointOut, Name
from api.services import Services
from moderation.governance import outbox, webhooks
from moderation.governance.accounts import Principal, Scope
from moderation.storage.database import transaction

router = APIRouter(prefix="/v1/webhook-endpoints", tags=["webhooks"])

Held = Annotated[Services, Depends(services)]
WebhookId = Annotated[str, Path(pattern="^msg_[0-9a-f]{32}$")]
Manager = Annotated[Principal, Depends(caller(Scope.WEBHOOKS))]


@router.post("", status_code=201, response_model=EndpointCreatedOut, response_model_exclude_none=True)
def register_endpoint(body: EndpointIn, held: Held, principal: Manager) -> dict[str, Any]:
    """Register where to send webhooks. The signing secret is in this answer and nowhere else."""
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        identifier, secret = webhooks.register(
            session,
            held.vault,
            principal.client,
            body.name,
            body.url,
            body.events,
            held.settings.insecure_dev,
            now,
        )
    return body.model_dump() | {"id": str(identifier), "secret": secret, "created_at": now}


@router.get("", response_model=list[EndpointOut], response_model_exclude_none=True)
def list_endpoints(held: Held, principal: Manager) -> list[dict[str, Any]]:
    """Your endpoints. One that answered 410 is disabled and says so."""
    with transaction(held.databases.content) as session:
        return [
            {
                "id": str(row.id),
                "name": row.name,
                "url": row.url,
                "events": row.events,
                "created_at": row.created_at,
                "disabled_because": row.disabled_because,
            }
            for row in webhooks.list_endpoints(session, principal.client)
        ]


@router.post("/{name}/enable", status_code=204)
def enable_endpoint(name: str, held: Held, principal: Manager) -> None:
    """Take up an endpoint again that was disabled; replay what died meanwhile if you want it."""
    with transaction(held.databases.content) as session:
        webhooks.enable(session, principal.client, name, datetime.now(UTC))


@router.delete("/{name}", status_code=204)
def remove_endpoint(name: Name, held: Held, principal: Manager) -> None:
    """Remove an endpoint; what was still on its way there is dropped."""
    with transaction(held.databases.content) as session:
        webhooks.remove(session, principal.client, name, datetime.now(UTC))


dead_letters = APIRouter(prefix="/v1/webhooks/dead", tags=["webhooks"])


@dead_letters.get("", response_model=list[DeadLetterOut])
def list_dead_letters(held: Held, principal: Manager) -> list[dict[str, Any]]:
    """Webhooks that were given up, newest first, at most 100."""
    with transaction(held.databases.content) as session:
        return [
            {
                "id": letter.webhook_id,
                "endpoint": letter.endpoint,
                "event": letter.event,
                "item_id": str(letter.item_id),
                "attempts": letter.attempts,
                "last_status": letter.last_status,
                "last_error": letter.last_error,
                "created_at": letter.created_at,
            }
            for letter in outbox.dead_letters(session, principal.client, 100)
        ]


@dead_letters.post("/{webhook_id}/replay", status_code=202)
def replay_dead_letter(webhook_id: WebhookId, held: Held, principal: Manager) -> dict[str, int]:
    """Send a dead webhook again under its own id; 0 if it is not dead or its endpoint is disabled."""
    identifier = UUID(webhook_id.removeprefix("msg_"))
    with transaction(held.databases.content) as session:
        return {"replayed": outbox.replay(session, [identifier], datetime.now(UTC), principal.client)}
