"""Which decision is in force: from `effective_at` on, until `superseded_at`.

A person's decision waits for the end of its undo window while the one before it stays in force, so that the newest
decision and the one in force are not always the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from moderation.storage.database import among
from moderation.storage.tables import Decision, Item

# Always true, and what lets PostgreSQL use the two partial indexes on `item_id` together.
ANY_TIME: ColumnElement[bool] = or_(Decision.superseded_at.is_(None), Decision.superseded_at.is_not(None))


def in_force(session: Session, ids: Sequence[UUID], now: datetime) -> dict[UUID, Decision]:
    """The decision in force at `now` for each of `ids` that has one."""
    rows = session.scalars(
        select(Decision)
        .where(
            among(Decision.item_id, ids),
            or_(Decision.superseded_at.is_(None), Decision.superseded_at > now),
            Decision.effective_at <= now,
        )
        .order_by(Decision.id)
    )
    return {row.item_id: row for row in rows}


def pending(session: Session, ids: Sequence[UUID], now: datetime) -> dict[UUID, Decision]:
    """The decision that can still be undone, for each of `ids` that has one."""
    rows = session.scalars(
        select(Decision)
        .where(among(Decision.item_id, ids), Decision.superseded_at.is_(None), Decision.effective_at > now)
        .order_by(Decision.id)
    )
    return {row.item_id: row for row in rows}


def standing(session: Session, item_id: UUID) -> Decision | None:
    """The newest decision of an item, in force or about to be."""
    return session.scalars(
        select(Decision)
        .where(Decision.item_id == item_id, Decision.superseded_at.is_(None))
        .order_by(Decision.id.desc())
        .limit(1)
        .execution_options(populate_existing=True)
    ).first()


def history(session: Session, item_id: UUID) -> Sequence[Decision]:
    """Every decision ever made of an item, undone ones too, the newest first."""
    return session.scalars(
        select(Decision)
        .where(Decision.item_id == item_id, ANY_TIME)
        .order_by(Decision.decided_at.desc(), Decision.id.desc())
    ).all()


def lock_items(session: Session, ids: Sequence[UUID]) -> Mapping[UUID, Item]:
    """Lock items until the transaction ends, in the order in which everybody does, and read them afresh.

    Items come before their cases: a deletion holds the item when it closes its cases.
    """
    rows = session.scalars(
        select(Item)
        .where(among(Item.id, ids))
        .order_by(Item.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return {row.id: row for row in rows}


def clock_of(item: Item) -> dict[str, Any]:
    """The retention clock of an item, as a decision keeps it until it can't be undone any more."""
    return {
        "class": item.retention_class,
        "decided_at": item.decided_at.isoformat() if item.decided_at else None,
        "expires_at": item.expires_at.isoformat(),
    }


def restore_clock(item: Item, before: Mapping[str, Any]) -> None:
    """Give an item back the retention clock it had before a decision that is undone."""
    decided = before["decided_at"]
    item.retention_class = before["class"]
    item.decided_at = datetime.fromisoformat(decided) if decided else None
    item.expires_at = datetime.fromisoformat(before["expires_at"])
