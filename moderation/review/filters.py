"""Saved filters: a view of the queue under a name, one's own or everybody's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from moderation.domain.access import Permission
from moderation.domain.errors import Conflict, Forbidden, InvalidInput, NotFound
from moderation.governance import audit
from moderation.governance.sessions import PersonPrincipal
from moderation.review.listing import Filter
from moderation.storage.ids import new_id
from moderation.storage.tables import SavedFilter

NAME_LENGTH = 60
MOST = 50  # of one person, and of everybody's


def to_query(wanted: Filter) -> str:
    """A filter as the query of a URL; empty if it names nothing."""
    named = {one.name: getattr(wanted, one.name) for one in fields(wanted)}
    return urlencode({name: "yes" if value is True else value for name, value in named.items() if value})


def from_query(query: str) -> Filter:
    """The filter that a URL's query names; what it doesn't know is left out."""
    given = dict(parse_qsl(query))
    words = {one.name: given[one.name] for one in fields(Filter) if one.name in given and one.name != "mine"}
    return Filter(**words, mine=given.get("mine") == "yes")


def saved(session: Session, person: PersonPrincipal) -> Sequence[SavedFilter]:
    """The person's own filters and everybody's, by name."""
    mine = or_(SavedFilter.person_id == person.person_id, SavedFilter.person_id.is_(None))
    return session.scalars(select(SavedFilter).where(mine).order_by(SavedFilter.name, SavedFilter.id)).all()


def save(
    session: Session, person: PersonPrincipal, name: str, wanted: Filter, now: datetime, *, shared: bool
) -> SavedFilter:
    """Save a filter under a name; a lead can share it with everybody.

    Raises:
        InvalidInput: the name is empty, too long or not printable.
        Forbidden: only a lead shares a filter.
        Conflict: there are as many as there may be.
    """
    name = name.strip()
    if not 1 <= len(name) <= NAME_LENGTH or not name.isprintable():
        raise InvalidInput(f"A filter's name is 1 to {NAME_LENGTH} printable characters.")
    if shared and Permission.CASE_ASSIGN not in person.permissions:
        raise Forbidden("Only a lead shares a filter with everybody; save it for yourself.")
    owner = None if shared else person.person_id
    count = (
        select(func.count()).select_from(SavedFilter).where(SavedFilter.person_id.is_not_distinct_from(owner))
    )
    if (session.scalar(count) or 0) >= MOST:
        raise Conflict(f"There are {MOST} saved filters already; remove one first.")
    row = SavedFilter(id=new_id(now), person_id=owner, name=name, query=to_query(wanted), created_at=now)
    session.add(row)
    session.flush()
    _shared(session, person, "saved", row, now)
    return row


def remove(session: Session, person: PersonPrincipal, filter_id: UUID, now: datetime) -> None:
    """Remove a filter of one's own; a lead also one of everybody's.

    Raises:
        NotFound: there is none that the person could remove.
    """
    row = session.get(SavedFilter, filter_id)
    shared = row is not None and row.person_id is None and Permission.CASE_ASSIGN in person.permissions
    if row is None or (row.person_id != person.person_id and not shared):
        raise NotFound("You have no such filter.")
    session.delete(row)
    session.flush()
    _shared(session, person, "removed", row, now)


def _shared(session: Session, person: PersonPrincipal, what: str, row: SavedFilter, now: datetime) -> None:
    """What everybody's view of the queue is, is no private matter."""
    if row.person_id is None:
        event = audit.Event(person.actor, f"filter.{what}", "filter", str(row.id))
        audit.record(session, [event], now)
