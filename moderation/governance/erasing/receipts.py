"""Receipts: what an erasure found, what it left, what was kept and why; signed, and checked against the data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation.domain.errors import InvalidInput, NotFound
from moderation.governance import signing
from moderation.governance.erasing import counting
from moderation.storage.database import Databases, among, transaction
from moderation.storage.tables import AuditEvent, Author, Erasure, Item, Part
from moderation.storage.vault import Vault, VaultError

PURPOSE = "erasure-receipt"
VERSION = 1
PAGE = 50


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a receipt says, looked at again."""

    said: str
    holds: bool


def written(
    vault: Vault,
    row: Erasure,
    event_id: UUID,
    *,
    bundles: Sequence[Mapping[str, Any]],
    partners: int,
    now: datetime,
) -> str:
    """The signed receipt of an erasure, as it stands now."""
    before, after = dict(row.before), dict(row.after or {})
    epoch = before.pop("kek_epoch", None)
    destroyed = {
        name: before[name] - after.get(name, 0) for name in ("author_keys", "item_keys") if name in before
    }
    document = {
        "version": VERSION,
        "erasure": str(row.id),
        "scope": row.scope,
        "author": str(row.author_id),
        "item": str(row.item_id) if row.item_id else None,
        "client": row.client,
        "cause": row.cause,
        "requested_by": row.requested_by,
        "requested_at": row.requested_at.isoformat(),
        "hidden_at": row.hidden_at.isoformat(),
        "at": now.isoformat(),
        "state": row.state,
        "before": before,
        "after": after,
        "keys_destroyed": destroyed,
        "kek_epoch": epoch,
        "kept": list(row.kept),
        "bundles": list(bundles),
        "partner_copies_unacknowledged": partners,
        "audit_event": str(event_id),
    }
    signature = signing.sign(vault, PURPOSE, signing.canonical(document))
    sealed = {"receipt": document, "signature": signature, "public_key": signing.public_key(vault)}
    return signing.canonical(sealed).decode()


def listing(session: Session, before: UUID | None = None) -> Sequence[Erasure]:
    """A page of the ledger, the newest first, and one more if there are more."""
    query = select(Erasure).order_by(Erasure.id.desc()).limit(PAGE + 1)
    return session.scalars(query if before is None else query.where(Erasure.id < before)).all()


def get(session: Session, erasure_id: UUID) -> Erasure:
    """One entry of the ledger.

    Raises:
        NotFound: there is none.
    """
    row = session.get(Erasure, erasure_id)
    if row is None:
        raise NotFound("There is no such erasure; `moderation erasure list` shows them.")
    return row


def receipt(session: Session, erasure_id: UUID) -> str:
    """The receipt of an erasure.

    Raises:
        NotFound: there is no such erasure, or it was not carried out yet.
    """
    row = get(session, erasure_id)
    if row.receipt is None:
        raise NotFound("This erasure has no receipt yet: everything is hidden, and it is being carried out.")
    return row.receipt


def verify(databases: Databases, vault: Vault, text: str) -> list[Check]:
    """Check a receipt: its signature, then its counts, and that nothing of what is left opens.

    Raises:
        InvalidInput: this is no receipt.
    """
    document, signature = _read(text)
    ours = signing.public_key(vault)
    checks = [
        Check(
            "The signature is ours, over every word of it.",
            signing.verify(ours, PURPOSE, signing.canonical(document), signature),
        )
    ]
    author, item = UUID(document["author"]), UUID(document["item"]) if document["item"] else None
    kept = {UUID(one["item"]) for one in document["kept"] if "item" in one}
    whole = any("author" in one for one in document["kept"])
    with transaction(databases.content) as session:
        found = counting.of_content(session, author, item)
        logged = session.scalar(
            select(AuditEvent.subject_id).where(AuditEvent.id == UUID(document["audit_event"]))
        )
        checks.append(Check("Its event stands in the audit log.", logged == document["erasure"]))
        readable = _readable(session, vault, author, item, kept, whole=whole)
    keys = counting.of_keys(databases.keystore, author, item)
    more = [
        f"{name}: {count}, and the receipt says {document['after'][name]}"
        for name, count in {**found, **keys}.items()
        if name in document["after"] and count > document["after"][name]
    ]
    checks.append(Check("Counted again there is no more than it says" + _list(more), not more))
    checks.append(Check("Nothing but what it says was kept can be opened" + _list(readable), not readable))
    return checks


def _list(faults: Sequence[str]) -> str:
    return ": " + "; ".join(faults) + "." if faults else "."


def _read(text: str) -> tuple[dict[str, Any], str]:
    try:
        sealed = json.loads(text)
        document, signature = sealed["receipt"], sealed["signature"]
        if document["version"] != VERSION or not isinstance(signature, str):
            raise InvalidInput(f"This receipt is of another version than {VERSION}.")
        for name in ("erasure", "author", "audit_event"):
            UUID(document[name])
        for name in ("item", "kept", "after"):
            document[name]
        return dict(document), signature
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput("This is no receipt of an erasure.") from error


def _readable(
    session: Session, vault: Vault, author: UUID, item: UUID | None, kept: set[UUID], *, whole: bool
) -> list[str]:
    """What opens although it should not, by its place; a restored copy may have brought rows back."""
    mine = Item.author_id == author if item is None else Item.id == item
    rows = {row.id: row for row in session.scalars(select(Item).where(mine))}
    opened = []
    for identifier, key in vault.item_keys([one for one in rows if one not in kept]).items():
        details = rows[identifier].details
        if details is not None and _opens(key, details, "items", "details", str(identifier)):
            opened.append(f"items.details of {identifier}")
        parts = session.scalars(
            select(Part).where(among(Part.item_id, [identifier]), Part.content.is_not(None))
        )
        opened += [
            f"parts.{column} of {identifier}"
            for part in parts
            for column, sealed in (("content", part.content), ("layout", part.layout))
            if _opens(key, sealed, "parts", column, str(identifier), str(part.position))
        ]
    row = session.get(Author, author) if item is None and not whole else None
    _, whose = vault.keys_of(author, author)
    if (
        row is not None
        and whose is not None
        and _opens(whose, row.reference, "authors", "reference", str(author))
    ):
        opened.append("authors.reference")
    return opened


def _opens(key: Any, sealed: bytes | None, *place: str) -> bool:
    try:
        return sealed is not None and bool(key.decrypt(sealed, *place) or True)
    except VaultError:
        return False
