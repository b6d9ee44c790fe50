"""Holds as people look at them: which there are, what one keeps, and what it came too late for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, and_, exists, func, or_, select
from sqlalchemy.orm import Session

from moderation.domain.errors import NotFound
from moderation.governance import papers
from moderation.governance.holds import APPROVED_WITHIN, OPEN, Missed, Scope, State, why_ended
from moderation.storage.tables import HeldItem, Hold, Item, Preservation
from moderation.storage.vault import Vault

PAGE = 50
MOST = 500  # open holds of one page
NAMED = 20


@dataclass(frozen=True, slots=True)
class Line:
    """A hold in a list, with how many items it keeps now."""

    hold: Hold
    items: int
    overdue: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """An item that a hold keeps or kept."""

    item: Item
    released_at: datetime | None

    @property
    def ended(self) -> bool:
        """Whether it ended for everybody but those who read evidence."""
        return self.item.deleted_at is not None


@dataclass(frozen=True, slots=True)
class Whole:
    """One hold with what it keeps, what it came too late for, and what was sealed of it."""

    line: Line
    reference: str
    items: tuple[Kept, ...]
    next: UUID | None
    missed: tuple[Missed, ...]
    packages: tuple[Preservation, ...]


def listing(
    session: Session, now: datetime, *, ended: bool = False, before: UUID | None = None
) -> list[Line]:
    """Open holds by their next review, or ended ones, the newest first; one more than a page of these."""
    query = select(Hold, _items())
    if ended:
        query = query.where(Hold.state.not_in(OPEN)).order_by(Hold.id.desc()).limit(PAGE + 1)
        if before is not None:
            query = query.where(Hold.id < before)
    else:
        query = query.where(Hold.state.in_(OPEN)).order_by(Hold.review_at).limit(MOST)
    return [Line(hold, items, _overdue(hold, now)) for hold, items in session.execute(query)]


def one(session: Session, vault: Vault, hold_id: UUID, now: datetime, after: UUID | None = None) -> Whole:
    """A hold with a page of its items.

    Raises:
        NotFound: there is no such hold.
    """
    row = session.execute(select(Hold, _items()).where(Hold.id == hold_id)).one_or_none()
    if row is None:
        raise NotFound("There is no hold with this id; the list of holds has them all.")
    hold, count = row
    query = (
        select(Item, HeldItem.released_at)
        .join(HeldItem, HeldItem.item_id == Item.id)
        .where(HeldItem.hold_id == hold_id)
        .order_by(Item.id)
        .limit(PAGE + 1)
    )
    if after is not None:
        query = query.where(Item.id > after)
    items = [Kept(item, released_at) for item, released_at in session.execute(query)]
    packages = session.scalars(
        select(Preservation).where(Preservation.hold_id == hold_id).order_by(Preservation.id)
    )
    return Whole(
        line=Line(hold, count, _overdue(hold, now)),
        reference=papers.opened(vault, "holds", "reference", hold_id, hold.reference),
        items=tuple(items[:PAGE]),
        next=items[PAGE - 1].item.id if len(items) > PAGE else None,
        missed=_missed(session, hold),
        packages=tuple(packages),
    )


def held_item(session: Session, hold_id: UUID, item_id: UUID) -> tuple[Hold, Item]:
    """An item that an approved hold keeps: what may be looked at because of it.

    Raises:
        NotFound: the hold doesn't keep this item, was not approved, or let go of it.
    """
    found = session.execute(
        select(Hold, Item)
        .join(HeldItem, HeldItem.hold_id == Hold.id)
        .join(Item, Item.id == HeldItem.item_id)
        .where(
            Hold.id == hold_id,
            Hold.state == State.ACTIVE,
            Item.id == item_id,
            HeldItem.released_at.is_(None),
        )
    ).one_or_none()
    if found is None:
        raise NotFound(
            "No approved hold with this id keeps this item now; the hold's page lists what it keeps."
        )
    return found[0], found[1]


def packages(session: Session, limit: int = 200) -> Sequence[Preservation]:
    """Preservation packages: those that are there by their end, then those that were destroyed."""
    gone = Preservation.destroyed_at.is_not(None)
    return session.scalars(
        select(Preservation).order_by(gone, Preservation.keep_until, Preservation.id).limit(limit)
    ).all()


def _items() -> ColumnElement[int]:
    kept = and_(HeldItem.hold_id == Hold.id, HeldItem.released_at.is_(None))
    return select(func.count()).where(kept).correlate(Hold).scalar_subquery()


def _overdue(hold: Hold, now: datetime) -> bool:
    if hold.state == State.REQUESTED:
        return hold.requested_at <= now - APPROVED_WITHIN
    return hold.state == State.ACTIVE and hold.review_at <= now


def _missed(session: Session, hold: Hold) -> tuple[Missed, ...]:
    """What of the author had ended when the hold was asked for, the newest first."""
    if hold.scope != Scope.AUTHOR:
        return ()
    ended = or_(Item.doomed_at.is_not(None), Item.destroyed_at.is_not(None))
    never = ~exists().where(HeldItem.hold_id == hold.id, HeldItem.item_id == Item.id)
    rows = session.scalars(
        select(Item)
        .where(Item.author_id == hold.author_id, Item.received_at <= hold.requested_at, ended, never)
        .order_by(Item.id.desc())
        .limit(NAMED)
    )
    return tuple(Missed(row.id, why_ended(row)) for row in rows)
