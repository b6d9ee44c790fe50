"""Holds: content that must not end, because an authority may need it.

One person asks for a hold, another approves it. From the request on the content is kept, or it would be gone
before anybody approves; a request that is refused lets go of it again. A hold counts on the rows of items and
authors (`holds`), in one statement each, and only what no hold counts may be doomed (`governance.erasure`): of a
hold and a deletion that meet, one wins whole. Locks are taken in one order: author, hold, items by their ids.

Source: 18 USC 2703(f) and Budapest Convention article 16 (orders to preserve), GDPR 17(3)(b) and (e).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import and_, func, or_, select, text, update
from sqlalchemy.orm import Session

from moderation.domain.access import Permission
from moderation.domain.errors import Conflict, Forbidden, NotFound
from moderation.governance import audit, papers
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.database import among, insert_many
from moderation.storage.ids import new_id
from moderation.storage.tables import Author, HeldItem, Hold, Item
from moderation.storage.vault import Vault

REVIEWED_AFTER = timedelta(days=90)
REVIEWED_WITHIN = timedelta(days=366)  # a year ahead, to the end of its last day
APPROVED_WITHIN = timedelta(days=7)  # a request that nobody answered for so long is overdue too
NAMED = 100  # of what can't be held any more


class Scope(StrEnum):
    """What a hold keeps: one item, or everything of an author, what comes later too."""

    ITEM = "item"
    AUTHOR = "author"


class State(StrEnum):
    """How a hold stands. What is requested or active keeps content."""

    REQUESTED = "requested"
    ACTIVE = "active"
    REFUSED = "refused"
    RELEASED = "released"


OPEN = (State.REQUESTED, State.ACTIVE)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A hold as it is asked for, on one item or on one author; `reference` is the authority's file number."""

    authority: str
    basis: str
    reference: str = ""
    item_id: UUID | None = None
    author_id: UUID | None = None
    review_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Missed:
    """An item that can't be held any more, and why."""

    item_id: UUID
    why: str


@dataclass(frozen=True, slots=True)
class Requested:
    """A hold that keeps content from now on: how many items, and which it came too late for."""

    id: UUID
    held: int
    missed: tuple[Missed, ...] = ()


# The rows are locked in the order of their ids, as everybody locks several items; the conditions are looked at
# again under the lock, by PostgreSQL and then by the update itself.
_KEEP = text("""
    WITH live AS MATERIALIZED (
        SELECT id FROM items
        WHERE author_id = :author AND (CAST(:item AS uuid) IS NULL OR id = :item)
          AND doomed_at IS NULL AND destroyed_at IS NULL
        ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE items SET holds = holds + 1 FROM live
    WHERE items.id = live.id AND doomed_at IS NULL AND destroyed_at IS NULL
    RETURNING items.id
""")

_LET_GO = text("""
    WITH freed AS MATERIALIZED (
        SELECT items.id FROM items JOIN held_items AS held ON held.item_id = items.id
        WHERE held.hold_id = :hold AND held.released_at IS NULL
        ORDER BY items.id FOR NO KEY UPDATE OF items
    )
    UPDATE items SET holds = holds - 1 FROM freed WHERE items.id = freed.id
""")


def request(
    session: Session, vault: Vault, person: PersonPrincipal, wanted: Wanted, now: datetime
) -> Requested:
    """Ask for a hold. What it is about is kept from this transaction's commit on.

    Raises:
        InvalidInput: authority or basis is missing, or the review date lies behind or too far ahead.
        NotFound: there is no such item or author.
        Conflict: the item can't be held any more; the sentence says why.
    """
    if (wanted.item_id is None) == (wanted.author_id is None):
        raise ValueError("a hold is on an item or on an author")
    authority, basis = papers.line(wanted.authority, "The authority"), papers.line(wanted.basis, "The basis")
    review_at = papers.ahead(
        wanted.review_at or now + REVIEWED_AFTER, "The review date", now, REVIEWED_WITHIN
    )
    author = _locked_author(session, wanted)
    scope = Scope.AUTHOR if wanted.item_id is None else Scope.ITEM
    identifier = new_id(now)
    reference = papers.line(wanted.reference, "The file number") if wanted.reference.strip() else None
    session.add(
        Hold(
            id=identifier,
            scope=scope,
            author_id=author.id,
            item_id=wanted.item_id,
            client=author.client,
            authority=authority,
            basis=basis,
            reference=reference and papers.sealed(vault, "holds", "reference", identifier, reference),
            requested_by=person.person_id,
            requested_at=now,
            review_at=review_at,
            state=State.REQUESTED,
        )
    )
    session.flush()
    held = session.execute(_KEEP, {"author": author.id, "item": wanted.item_id}).scalars().all()
    if wanted.item_id is not None and not held:
        raise Conflict(_too_late(session, wanted.item_id), code="too_late")
    if scope is Scope.AUTHOR:
        author.holds += 1
    _note(session, dict.fromkeys(held, author.id), [identifier])
    details = {"scope": scope, "author_id": str(author.id), "items": len(held), "review_at": _day(review_at)}
    _record(session, person, "hold.requested", identifier, now, **details)
    missed = _missed(session, author.id) if scope is Scope.AUTHOR else ()
    return Requested(identifier, len(held), missed)


def approve(session: Session, person: PersonPrincipal, hold_id: UUID, now: datetime) -> None:
    """Approve what somebody else asked for.

    Raises:
        NotFound: there is no such hold.
        Forbidden: it is one's own request.
        Conflict: it was answered already.
    """
    hold = _locked(session, hold_id)
    if hold.state != State.REQUESTED:
        raise Conflict(f"This hold is {hold.state}; only a request can be approved.", code="answered")
    if hold.requested_by == person.person_id:
        raise Forbidden("You asked for this hold; somebody else has to approve it.", code="four_eyes")
    hold.state, hold.approved_by, hold.decided_at = State.ACTIVE, person.person_id, now
    _record(session, person, "hold.approved", hold_id, now)


def refuse(session: Session, person: PersonPrincipal, hold_id: UUID, now: datetime) -> int:
    """Refuse a request, and let go of what it kept; how many items that were.

    Raises:
        NotFound: there is no such hold.
        Conflict: it was answered already.
    """
    hold = _locked(session, hold_id)
    if hold.state != State.REQUESTED:
        raise Conflict(
            f"This hold is {hold.state}; only a request can be refused. Release it instead."
            if hold.state == State.ACTIVE
            else f"This hold is {hold.state} already.",
            code="answered",
        )
    return _end(session, person, hold, State.REFUSED, now)


def release(session: Session, person: PersonPrincipal, hold_id: UUID, now: datetime) -> int:
    """End a hold, or take a request back; how many items are let go of. What is due goes at the next sweep.

    Raises:
        NotFound: there is no such hold.
        Forbidden: the person may neither ask for holds nor approve them.
        Conflict: it has ended already.
    """
    hold = _locked(session, hold_id)
    if not person.permissions & {Permission.HOLD_REQUEST, Permission.HOLD_APPROVE}:
        raise Forbidden("Only who asks for holds or approves them may release one.")
    if hold.state not in OPEN:
        raise Conflict(f"This hold is {hold.state} already.", code="answered")
    return _end(session, person, hold, State.RELEASED, now)


def extend(
    session: Session, person: PersonPrincipal, hold_id: UUID, review_at: datetime, now: datetime
) -> None:
    """Set the next review of an active hold: somebody looked, and it is still needed.

    Raises:
        NotFound: there is no such hold.
        InvalidInput: the date lies behind, or more than a year ahead.
        Conflict: the hold is not active.
    """
    hold = _locked(session, hold_id)
    if hold.state != State.ACTIVE:
        raise Conflict(f"This hold is {hold.state}; only an active one is reviewed.", code="answered")
    hold.review_at = papers.ahead(review_at, "The review date", now, REVIEWED_WITHIN)
    _record(session, person, "hold.extended", hold_id, now, review_at=_day(review_at))


def overdue(session: Session, now: datetime) -> int:
    """How many holds wait for somebody: past their review date, or asked for long ago and not answered."""
    late = or_(
        and_(Hold.state == State.ACTIVE, Hold.review_at <= now),
        and_(Hold.state == State.REQUESTED, Hold.requested_at <= now - APPROVED_WITHIN),
    )
    return session.scalar(select(func.count()).select_from(Hold).where(late)) or 0


def of_authors(session: Session, authors: Iterable[UUID]) -> dict[UUID, list[UUID]]:
    """The open holds on everything of these authors, whose rows the caller has locked."""
    rows = session.execute(
        select(Hold.author_id, Hold.id).where(
            among(Hold.author_id, list(authors)), Hold.scope == Scope.AUTHOR, Hold.state.in_(OPEN)
        )
    )
    found: dict[UUID, list[UUID]] = {}
    for author, hold in rows:
        found.setdefault(author, []).append(hold)
    return found


def note_new(session: Session, items: Mapping[UUID, UUID], held: Mapping[UUID, Sequence[UUID]]) -> None:
    """Write down that new `items` (item -> author) are kept by the holds on their authors."""
    rows = [
        {"hold_id": hold, "item_id": item, "author_id": author}
        for item, author in items.items()
        for hold in held.get(author, ())
    ]
    insert_many(session, HeldItem, rows)


def _note(session: Session, items: Mapping[UUID, UUID], holds: Sequence[UUID]) -> None:
    note_new(session, items, dict.fromkeys(items.values(), holds))


def _locked_author(session: Session, wanted: Wanted) -> Author:
    """The author, locked against intake where everything that comes later is to be held too."""
    author_id = wanted.author_id
    if wanted.item_id is not None:
        author_id = session.scalar(select(Item.author_id).where(Item.id == wanted.item_id))
    query = select(Author).where(Author.id == author_id).execution_options(populate_existing=True)
    # Intake shares the author's row until it commits: whatever it accepted before is seen below, and
    # whatever it accepts from now on waits for us and sees the hold.
    author = session.scalar(query.with_for_update(key_share=wanted.author_id is None))
    if author is None and wanted.item_id is not None and author_id is not None:
        raise Conflict(_too_late(session, wanted.item_id), code="too_late")
    if author is None:
        raise NotFound(
            "There is none with this id; copy the whole of it from the item's or the author's page."
        )
    return author


def _locked(session: Session, hold_id: UUID) -> Hold:
    """A hold, locked after its author."""
    author_id = session.scalar(select(Hold.author_id).where(Hold.id == hold_id))
    if author_id is None:
        raise NotFound("There is no hold with this id; `moderation holds list` shows them.")
    session.execute(select(Author.id).where(Author.id == author_id).with_for_update())
    query = select(Hold).where(Hold.id == hold_id).execution_options(populate_existing=True)
    return session.scalars(query.with_for_update(key_share=True)).one()


def _end(session: Session, person: PersonPrincipal, hold: Hold, state: State, now: datetime) -> int:
    """Let go of exactly what the hold counted."""
    session.execute(_LET_GO, {"hold": hold.id})
    freed = session.scalars(
        update(HeldItem)
        .where(HeldItem.hold_id == hold.id, HeldItem.released_at.is_(None))
        .values(released_at=now)
        .returning(HeldItem.item_id)
        .execution_options(synchronize_session=False)
    ).all()
    if hold.scope == Scope.AUTHOR:
        session.execute(
            update(Author)
            .where(Author.id == hold.author_id)
            .values(holds=Author.holds - 1)
            .execution_options(synchronize_session=False)
        )
    hold.decided_at = hold.decided_at or now
    hold.state, hold.released_by, hold.released_at = state, person.person_id, now
    _record(session, person, f"hold.{state}", hold.id, now, items=len(freed))
    return len(freed)


def _missed(session: Session, author_id: UUID) -> tuple[Missed, ...]:
    """What the hold on an author came too late for, the newest first."""
    ended = or_(Item.doomed_at.is_not(None), Item.destroyed_at.is_not(None))
    rows = session.scalars(
        select(Item).where(Item.author_id == author_id, ended).order_by(Item.id.desc()).limit(NAMED)
    )
    return tuple(Missed(row.id, why_ended(row)) for row in rows)


def why_ended(item: Item) -> str:
    """Why an item can't be held any more."""
    because = f" ({item.deleted_because})" if item.deleted_because else ""
    if item.destroyed_at:
        return f"its content was destroyed on {_day(item.destroyed_at)}{because}"
    return f"its destruction has begun{because}"


def _too_late(session: Session, item_id: UUID) -> str:
    item = session.scalar(select(Item).where(Item.id == item_id).execution_options(populate_existing=True))
    why = why_ended(item) if item else "it is gone"
    return f"This item can't be held any more: {why}. Hold its author, to keep what else there is."


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def _record(
    session: Session, person: PersonPrincipal, action: str, hold_id: UUID, now: datetime, **details: object
) -> None:
    audit.record(session, [audit.Event(person.actor, action, "hold", str(hold_id), details)], now)
