"""What is kept of a picture to find its like again: its hashes, its vector, under the key of its item.

They end with the item, and with a restriction of its author: nothing of theirs is compared with anything any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from moderation.governance.restriction import restricted
from moderation.storage.database import among, insert_many
from moderation.storage.tables import Item, PartFeature
from moderation.storage.vault import Key

HASHES, EMBEDDING = "hashes", "embedding"


def place(name: str, item_id: UUID, position: int) -> tuple[str, ...]:
    """Where a feature lives, for its encryption under the item's key."""
    return ("part_features", "value", str(item_id), str(position), name)


def row(key: Key, item_id: UUID, position: int, name: str, maker: str, value: bytes) -> dict[str, Any]:
    """A feature as its row. No transaction is needed."""
    return {
        "item_id": item_id,
        "position": position,
        "name": name,
        "maker": maker,
        "value": key.encrypt(value, *place(name, item_id, position)),
    }


def store(session: Session, made: Sequence[Mapping[str, Any]]) -> None:
    """Write rows, in place of those that there were of these items."""
    if not made:
        return
    ids = {one["item_id"] for one in made}
    session.execute(
        delete(PartFeature)
        .where(among(PartFeature.item_id, ids))
        .execution_options(synchronize_session=False)
    )
    insert_many(session, PartFeature, made)


def add(session: Session, made: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of items that had none; what somebody wrote meanwhile is left alone.

    So is what is of an item that ended, or of an author who restricted it meanwhile.
    """
    if not made:
        return
    ids = {one["item_id"] for one in made}
    # Authors before items, as everywhere.
    authors = set(session.scalars(select(Item.author_id).where(among(Item.id, ids))))
    apart = restricted(session, authors, lock=True)
    alive = set(
        session.scalars(
            select(Item.id)
            .where(among(Item.id, ids), among(Item.author_id, authors - apart))
            .where(Item.destroyed_at.is_(None), Item.doomed_at.is_(None))
            .order_by(Item.id)
            .with_for_update(read=True)
        )
    )
    rows = [dict(one) for one in made if one["item_id"] in alive]
    if rows:
        session.execute(upsert(PartFeature).values(rows).on_conflict_do_nothing())


def of_items(session: Session, ids: Sequence[UUID], name: str, maker: str) -> dict[tuple[UUID, int], bytes]:
    """The features of that name and maker, still sealed, by item and position."""
    rows = session.execute(
        select(PartFeature.item_id, PartFeature.position, PartFeature.value).where(
            among(PartFeature.item_id, ids), PartFeature.name == name, PartFeature.maker == maker
        )
    )
    return {(row.item_id, row.position): row.value for row in rows}
