"""Bank a part of an item that somebody has before them, so that its like is known from now on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation.domain.errors import InvalidInput, NotFound
from moderation.features.fingerprints import Kept
from moderation.governance import banks
from moderation.governance.banks import Added
from moderation.storage.blobs import BlobMissing, FolderBlobs
from moderation.storage.tables import Part
from moderation.storage.vault import Vault

ENDED = "This part is not there any more; its content has ended."


def position_of(session: Session, item_id: UUID, name: str) -> int:
    """Where a part of an item stands.

    Raises:
        NotFound: it has none of that name, or its content has ended.
    """
    found = session.scalar(select(Part.position).where(Part.item_id == item_id, Part.name == name))
    if found is None:
        raise NotFound(
            "This item has no such part, or its content has ended; the case names the parts there are."
        )
    return found


def add_part(
    session: Session,
    vault: Vault,
    blobs: FolderBlobs,
    *,
    bank: str,
    item_id: UUID,
    position: int,
    note: str,
    actor: str,
    now: datetime,
    hashed: Callable[[bytes], Kept] | None = None,
) -> Added:
    """Bank a part of an item, as an entry that nobody has verified yet.

    `hashed` decodes a picture in a child and answers what finds its near copies.

    Raises:
        NotFound: no such bank or part, or its content has ended.
        InvalidInput: the bank holds the other kind of content, or the picture can't be decoded.
    """
    part = session.get(Part, (item_id, position))
    key = vault.item_keys([item_id]).get(item_id)
    if part is None or key is None:
        raise NotFound(ENDED)
    kind = banks.kind_of(session, bank)
    if part.kind != kind:
        raise InvalidInput(f"Bank {bank} holds {kind}s and this part is another kind; choose another bank.")
    place = (str(item_id), str(position))
    kept = None
    if part.kind == "text":
        content = key.decrypt(part.content or b"", "parts", "content", *place)
    else:
        try:
            content = key.decrypt(blobs.open(part.blob or ""), "parts", "blob", *place)
        except BlobMissing as error:
            raise NotFound(ENDED) from error
        kept = hashed(content) if hashed is not None else None
    return banks.add_content(
        session, vault, bank=bank, content=content, note=note, verified=False, actor=actor, now=now, kept=kept
    )
