"""What partners may read: items assigned to them, in the fields of their key, and what they have to delete."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request

from api.auth import partner, services
from api.rights_schemas import AssignedItemsOut, DeletionOut, DeletionsOut, PartnerItemOut
from api.services import Services
from moderation.features.header import UndecodableImage
from moderation.features.rendition import MEDIA_TYPE, rendition, sheet
from moderation.governance import partners
from moderation.governance.partners import PartnerPrincipal, Right
from moderation.storage.database import transaction
from moderation.storage.tables import PartnerItem

router = APIRouter(prefix="/v1/partner", tags=["partners"])

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PartnerPrincipal, Depends(partner(Right.ITEMS))]
Deleter = Annotated[PartnerPrincipal, Depends(partner(Right.DELETIONS))]


@router.get("/items", response_model=AssignedItemsOut)
def list_assigned(held: Held, principal: Reader) -> dict[str, Any]:
    """The items that you were assigned and may still read."""
    with transaction(held.databases.content) as session:
        rows = partners.items(session, principal, datetime.now(UTC))
        return {
            "purpose": principal.purpose,
            "fields": sorted(principal.fields),
            "items": [{"id": str(row.item_id), "assigned_at": row.assigned_at} for row in rows],
        }


@router.get("/items/{item_id}", response_model=PartnerItemOut, response_model_exclude_none=True)
def read_assigned(request: Request, item_id: UUID, held: Held, principal: Reader) -> dict[str, Any]:
    """One item that was assigned to you, in the fields of your key. That you read it is in the audit log.

    Pictures are encoded anew, as WebP: where and with what one was taken, and whatever else its file says, is left
    out. One that can't be decoded comes without `data`.
    """
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        item = partners.check_readable(session, principal, item_id, now)
    # Only now, with the event committed, is anything opened.
    with transaction(held.databases.content) as session:
        shown = partners.shown(session, held.vault, held.blobs, principal, item)
    for part in shown.get("parts", ()):
        if "data" in part:
            part.update(_encoded(request, part.pop("data")))
    return shown


@router.get("/deletions", response_model=DeletionsOut)
def list_deletions(held: Held, principal: Deleter) -> dict[str, Any]:
    """What you have to delete: each item is listed until you acknowledge that it is gone with you."""
    with transaction(held.databases.content) as session:
        rows = partners.deletions(session, principal.partner_id, datetime.now(UTC))
        return {"deletions": [_deletion(row) for row in rows]}


@router.post("/deletions/{item_id}/ack", response_model=DeletionOut)
def acknowledge_deletion(item_id: UUID, held: Held, principal: Deleter) -> dict[str, Any]:
    """Say that an item is deleted with you, copies and whatever was made of it included; said twice, it is once."""
    with transaction(held.databases.content) as session:
        row = partners.acknowledge(session, principal.partner_id, item_id, principal.actor, datetime.now(UTC))
        return _deletion(row)


def _encoded(request: Request, data: bytes) -> dict[str, str]:
    """A picture out of the guarded decoder, as people see it in the console."""
    try:
        picture = request.app.state.renditions.picture(data)
    except UndecodableImage:
        return {}
    return {
        "media_type": MEDIA_TYPE,
        "data": base64.b64encode(rendition(sheet(picture), "full")).decode(),
    }


def _deletion(row: PartnerItem) -> dict[str, Any]:
    return {
        "item_id": str(row.item_id),
        "deleted_at": row.deleted_at,
        "acknowledged_at": row.acknowledged_at,
    }
