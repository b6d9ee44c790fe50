"""Texts that were read in pictures: parts of their item that nobody posted, each derived from a picture's.

They lie under the item's key and end with it. Screening reads the pictures anew and replaces them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import delete
from sqlalchemy.orm import Session

from moderation.storage.database import among, insert_many
from moderation.storage.tables import Part
from moderation.storage.vault import Key

FIRST_POSITION = 1000
"""Of the text of the picture at position 0: no item has as many parts."""
MEDIA_TYPE = "text/plain"


def row(
    key: Key, item_id: UUID, picture: int, name: str, content: str, layout: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The text of the picture at position `picture` as its row; `layout` says where each line stands."""
    position = FIRST_POSITION + picture
    data = content.encode()
    place = (str(item_id), str(position))
    return {
        "item_id": item_id,
        "position": position,
        "name": name,
        "kind": "text",
        "media_type": MEDIA_TYPE,
        "size": len(content),
        "content": key.encrypt(data, "parts", "content", *place),
        "derived_from": picture,
        "layout": key.encrypt(json.dumps(list(layout)).encode(), "parts", "layout", *place),
    }


def store(session: Session, items: Collection[UUID], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write what was read in the pictures of `items`, in place of what was read in them before."""
    if not items:
        return
    session.execute(
        delete(Part)
        .where(among(Part.item_id, items), Part.derived_from.is_not(None))
        .execution_options(synchronize_session=False)
    )
    if rows:
        insert_many(session, Part, rows)
