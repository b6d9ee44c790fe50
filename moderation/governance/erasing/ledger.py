"""The ledger after a restore: whatever it knows as erased is hidden again before anybody is served.

A restored content database is older than the keystore, which no backup of content holds. The second copy of the
ledger lies there, and so does the proof: an item without a key is nobody's to read, whatever its row says.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import exists, or_, select, text
from sqlalchemy.orm import Session

from moderation.domain.content import ItemState
from moderation.domain.erasing import RESTORED, Cause
from moderation.domain.errors import Conflict
from moderation.governance import audit
from moderation.governance.erasing import counting
from moderation.governance.erasing.ending import Of, hide
from moderation.governance.erasing.requests import HIDDEN, begin, kept
from moderation.storage.database import Databases, among, transaction
from moderation.storage.keystore import Erased
from moderation.storage.tables import Author, Decision, Erasure, Item

AT_ONCE = 1000


def replay(databases: Databases, now: datetime, *, every_item: bool = False) -> int:
    """Hide again what was erased, for `run` to carry out; how many erasures had come undone.

    With `every_item`, after a restore, also whatever has lost its key. Owns its transactions; nothing is done
    where nothing came back.
    """
    with Session(databases.keystore, expire_on_commit=False) as session:
        copies = session.scalars(select(Erased).order_by(Erased.erasure_id)).all()
    again = 0
    for start in range(0, len(copies), AT_ONCE):
        chunk = copies[start : start + AT_ONCE]
        with transaction(databases.content) as session:
            back = _back(session, chunk)
        for copy in back:
            with transaction(databases.content) as session:
                _again(session, copy, now)
            again += 1
    if every_item:
        place: UUID | None = UUID(int=0)
        while place is not None:
            place, _ = keyless(databases, now, place)
    return again


def _back(session: Session, copies: Sequence[Erased]) -> list[Erased]:
    """Those of whom something is here that should not be."""
    ids = [copy.author_id for copy in copies if copy.item_id is None]
    alive = set(session.scalars(select(Author.id).where(among(Author.id, ids), Author.erasing_at.is_(None))))
    alive |= set(
        session.scalars(
            select(Item.author_id)
            .where(among(Item.author_id, ids), Item.state != ItemState.DELETED)
            .distinct()
        )
    )
    finished = select(Erasure.id).where(
        among(Erasure.id, [copy.erasure_id for copy in copies]), Erasure.completed_at.is_not(None)
    )
    done = set(session.scalars(finished))
    unlinked = exists().where(Decision.author_id == Erasure.author_id)
    linked = set(
        session.scalars(
            select(Erasure.author_id).where(
                among(Erasure.id, list(done)), Erasure.item_id.is_(None), unlinked
            )
        )
    )
    known = set(session.scalars(select(Erasure.id).where(among(Erasure.id, [c.erasure_id for c in copies]))))
    items = [copy.item_id for copy in copies if copy.item_id is not None]
    shown = set(
        session.scalars(select(Item.id).where(among(Item.id, items), Item.state != ItemState.DELETED))
    )
    return [
        copy
        for copy in copies
        if (copy.author_id in alive | linked and copy.item_id is None)
        or copy.item_id in shown
        or (copy.erasure_id not in known and _left(session, copy))
    ]


def _left(session: Session, copy: Erased) -> bool:
    """Whether there is anything of an erasure that this database has never heard of."""
    if copy.item_id is not None:
        return session.get(Item, copy.item_id) is not None
    found = select(
        or_(
            exists().where(Item.author_id == copy.author_id),
            exists().where(Decision.author_id == copy.author_id),
            exists().where(Author.id == copy.author_id),
        )
    )
    return bool(session.scalar(found))


def _again(session: Session, copy: Erased, now: datetime) -> None:
    author = session.scalar(select(Author).where(Author.id == copy.author_id).with_for_update())
    row = session.get(Erasure, copy.erasure_id)
    before = counting.of_content(session, copy.author_id, copy.item_id)
    if row is None:
        row = Erasure(
            id=copy.erasure_id,
            scope="author" if copy.item_id is None else "item",
            author_id=copy.author_id,
            item_id=copy.item_id,
            client=copy.client,
            cause=copy.cause,
            requested_by=audit.MACHINE,
            requested_at=copy.requested_at,
            hidden_at=now,
            state=HIDDEN,
            before=before,
            kept=[],
        )
        session.add(row)
    row.before, row.state, row.completed_at, row.hidden_at = before, HIDDEN, None, now
    session.flush()
    if author is not None:
        restricted = begin(session, author, copy.erasure_id, Cause(copy.cause), now, copy.item_id)
        row.kept = [kept(one) for one in restricted]
    else:
        which = Of(author=copy.author_id) if copy.item_id is None else Of((copy.item_id,))
        hide(session, which, RESTORED, now, now)
    session.flush()
    event = audit.Event(audit.MACHINE, "erasure.replayed", "erasure", str(copy.erasure_id))
    audit.record(session, [event], now)


def keyless(databases: Databases, now: datetime, after: UUID, limit: int = 2000) -> tuple[UUID | None, int]:
    """Hide a piece of the items that have lost their keys: where to go on, None at the end, and how many.

    They are unreadable already; what shows of them is a row that a restored copy brought back.

    Raises:
        Conflict: nothing has a key, so that it must be the wrong keystore.
    """
    with transaction(databases.content) as session:
        ids = session.scalars(
            select(Item.id)
            .where(Item.id > after, Item.destroyed_at.is_(None), Item.doomed_at.is_(None))
            .order_by(Item.id)
            .limit(limit)
        ).all()
    with databases.keystore.connect() as connection:
        query = text(
            "SELECT item_id FROM item_keys WHERE item_id = ANY(:ids)"
            " UNION ALL SELECT item_id FROM held_keys WHERE item_id = ANY(:ids)"
        )
        having = set(connection.execute(query, {"ids": list(ids)}).scalars())
    if len(ids) == limit and not having:
        raise Conflict(
            f"None of {limit:,} items has a key: is this the keystore of this content? Nothing was changed."
        )
    lost = [identifier for identifier in ids if identifier not in having]
    if lost:
        with transaction(databases.content) as session:
            live = session.scalars(
                select(Item.id).where(among(Item.id, lost), Item.state != ItemState.DELETED)
            ).all()
            hide(session, Of(tuple(lost)), RESTORED, now, now)
            events = [audit.Event(audit.MACHINE, "item.ended_before", "item", str(one)) for one in live]
            audit.record(session, events, now)
    return (ids[-1] if len(ids) == limit else None), len(lost)
