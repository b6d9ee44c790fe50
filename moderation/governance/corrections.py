"""Corrections of our own records: what an item is said to be, not what was posted, with every version kept.

The versions stand in the item's encrypted details and end with it; the log says which fields were changed by
whom. What somebody posted is corrected by posting it anew, a decision by an appeal.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation.domain import content
from moderation.domain.content import ItemState
from moderation.domain.errors import Conflict, Gone, InvalidInput, NotFound
from moderation.domain.subjects import RequestState, Right
from moderation.governance import audit
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.tables import Item, SubjectRequest
from moderation.storage.vault import Vault


@dataclass(frozen=True, slots=True)
class Correction:
    """What is right, field by field; None leaves a field as it is."""

    language: str | None = None
    posted_at: datetime | None = None
    kind: str | None = None
    thread: str | None = None
    parent: str | None = None


def correct(
    session: Session,
    vault: Vault,
    person: PersonPrincipal,
    request_id: UUID,
    item_id: UUID,
    given: Correction,
    now: datetime,
) -> list[str]:
    """Correct an item of whoever asked for it; the names of the fields that changed.

    Raises:
        NotFound: there is no such request, or the item is not theirs.
        Conflict: the request is closed, or asks for something else.
        Gone: the item has ended.
        InvalidInput: a value can't be, or nothing is different.
    """
    request = session.get(SubjectRequest, request_id)
    if request is None:
        raise NotFound("There is no such request.")
    if request.state != RequestState.OPEN or request.kind != Right.CORRECT:
        raise Conflict("Only an open request for correction corrects something.", code="closed")
    item = session.scalar(
        select(Item).where(Item.id == item_id, Item.author_id == request.author_id).with_for_update()
    )
    if item is None:
        raise NotFound("This author has no item with this id; copy the whole of it.")
    key = vault.item_keys([item_id]).get(item_id)
    if key is None or item.details is None or item.state == ItemState.DELETED:
        raise Gone("This item has ended; nothing of it is left to be corrected.")
    place = ("items", "details", str(item_id))
    details: dict[str, Any] = json.loads(key.decrypt(item.details, *place))
    changed = _changes(item, details, _checked(given))
    if not changed:
        raise InvalidInput("Nothing is different from what stands there; change at least one field.")
    for name, (_, after) in changed.items():
        if name in ("thread", "parent"):
            details[name] = after
        else:
            setattr(item, name, after)
    version = {name: [_said(before), _said(after)] for name, (before, after) in changed.items()}
    details.setdefault("versions", []).append({"at": _said(now), **version})
    item.details = key.encrypt(json.dumps(details).encode(), *place)
    session.flush()
    said = {"fields": sorted(changed), "request": str(request_id)}
    audit.record(session, [audit.Event(person.actor, "item.corrected", "item", str(item_id), said)], now)
    return sorted(changed)


def _checked(given: Correction) -> Correction:
    content.checked_context(given.thread, given.parent, None, given.language)
    if given.kind is not None:
        content.checked_name(given.kind, "kind")
    if given.posted_at is not None:
        content.checked_moment(given.posted_at, "posted_at")
    return given


def _changes(item: Item, details: dict[str, Any], given: Correction) -> dict[str, tuple[Any, Any]]:
    pairs = {
        "language": (item.language, given.language),
        "posted_at": (item.posted_at, given.posted_at),
        "kind": (item.kind, given.kind),
        "thread": (details.get("thread"), given.thread),
        "parent": (details.get("parent"), given.parent),
    }
    return {name: pair for name, pair in pairs.items() if pair[1] is not None and pair[0] != pair[1]}


def _said(value: object) -> object:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
