"""What there is of an item for those who answer to authorities: its content and its record, read out of the vault.

Nothing here says who reported it or which of our people judged it. Whoever calls this has recorded and
committed before that somebody looks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation.storage import items as queue
from moderation.storage.blobs import BlobMissing, FolderBlobs
from moderation.storage.tables import AccountAction, Appeal, Author, Decision, Item, Part, Report, SignalRow
from moderation.storage.vault import Key, Vault, VaultError

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an item in the clear; `data` is None where it can't be read any more.

    `machine_read` if nobody posted it: it is what a machine read in a picture, and may be wrong.
    """

    position: int
    name: str
    kind: str
    media_type: str
    data: bytes | None
    machine_read: bool = False

    @property
    def text(self) -> str:
        """A text part as text."""
        return (self.data or b"").decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of an item and of its author, as far as they exist."""

    item: Key | None
    author: Key | None


def keys_of(vault: Vault, item_id: UUID, author_id: UUID) -> Keys:
    """The keys that still exist; nothing is created."""
    return Keys(*vault.keys_of(item_id, author_id))


def pieces(session: Session, blobs: FolderBlobs, keys: Keys, item_id: UUID) -> list[Piece]:
    """Every part of an item, those that can't be read any more too."""
    return [_piece(blobs, keys.item, part) for part in queue.parts_of(session, [item_id])]


def _piece(blobs: FolderBlobs, key: Key | None, part: Part) -> Piece:
    place = (str(part.item_id), str(part.position))
    data = None
    if key is not None:
        try:
            if part.blob:
                data = key.decrypt(blobs.open(part.blob), "parts", "blob", *place)
            elif part.content:
                data = key.decrypt(part.content, "parts", "content", *place)
        except (VaultError, BlobMissing):
            data = None
    read = part.derived_from is not None
    return Piece(part.position, part.name, part.kind, part.media_type, data, read)


def record(session: Session, keys: Keys, item: Item) -> Facts:
    """What is recorded of an item: when, where, what was found and decided, who objected."""
    return {
        "item": {
            "id": str(item.id),
            "client": item.client,
            "kind": item.kind,
            "language": item.language,
            "reach": item.reach,
            "posted_at": said(item.posted_at),
            "received_at": said(item.received_at),
            "state": item.state,
            "deleted_at": said(item.deleted_at),
            "deleted_because": item.deleted_because,
            **_named_by_client(keys.item, item),
        },
        "findings": [_finding(row) for row in _of(session, SignalRow, item.id)],
        "decisions": [_decision(row) for row in _of(session, Decision, item.id)],
        "reports": [_report(keys.item, row) for row in _of(session, Report, item.id)],
        "appeals": [_appeal(keys.author, row) for row in _of(session, Appeal, item.id)],
    }


def author(session: Session, keys: Keys, row: Author) -> Facts:
    """Who the author is: the content service's own reference, and what was done to the account."""
    reference = _opened(keys.author, row.reference, "authors", "reference", str(row.id))
    actions = session.scalars(
        select(AccountAction).where(AccountAction.author_id == row.id).order_by(AccountAction.id)
    )
    return {
        "id": str(row.id),
        "client": row.client,
        "reference": reference,
        "first_seen_at": said(row.created_at),
        "measures": [
            {
                "kind": one.kind,
                "effective_at": said(one.effective_at),
                "until": said(one.until),
                "reversed_at": said(one.reversed_at),
            }
            for one in actions
        ],
    }


def said(moment: datetime | None) -> str | None:
    """A moment as it stands in a document."""
    return None if moment is None else moment.isoformat(timespec="milliseconds")


def _of(session: Session, table: Any, item_id: UUID) -> Sequence[Any]:
    order = (table.part, table.detector) if table is SignalRow else (table.id,)
    found = select(table).where(table.item_id == item_id).order_by(*order)
    if table is SignalRow:
        # A shadow decided nothing: what it said of a post is no part of what was found in it.
        found = found.where(~SignalRow.shadow)
    return session.scalars(found).all()


def _opened(key: Key | None, written: bytes | None, *place: str) -> str | None:
    if key is None or written is None:
        return None
    try:
        return key.decrypt(written, *place).decode()
    except VaultError:
        return None


def _named_by_client(key: Key | None, item: Item) -> dict[str, Any]:
    details = _opened(key, item.details, "items", "details", str(item.id))
    named = json.loads(details) if details else {}
    return {name: named.get(name) for name in ("external_id", "thread", "parent")}


def _finding(row: SignalRow) -> Facts:
    return {
        "part": row.part,
        "detector": row.detector,
        "version": row.version,
        "status": row.status,
        "scores": dict(row.scores),
        "evidence": dict(row.evidence),
    }


def _decision(row: Decision) -> Facts:
    return {
        "id": str(row.id),
        "verdict": row.route,
        "category": row.category,
        "clause": row.clause,
        "restrictions": list(row.restrictions),
        "reasons": list(row.reasons),
        "decided_by": row.decided_by,
        "decided_at": said(row.decided_at),
        "policy_version": row.policy_version,
        "superseded_at": said(row.superseded_at),
        "undone_at": said(row.undone_at),
    }


def _report(key: Key | None, row: Report) -> Facts:
    return {
        "reported_at": said(row.reported_at),
        "category": row.category,
        "comment": _opened(key, row.comment, "reports", "comment", str(row.id)),
        "outcome": row.outcome,
    }


def _appeal(key: Key | None, row: Appeal) -> Facts:
    # What a reporter wrote of their own appeal says more of them than of the item.
    statement = (
        _opened(key, row.statement, "appeals", "statement", str(row.id)) if row.by == "author" else None
    )
    return {
        "by": row.by,
        "lodged_at": said(row.lodged_at),
        "state": row.state,
        "closed_at": said(row.closed_at),
        "statement": statement,
    }
