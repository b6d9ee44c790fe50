"""Ask for an erasure: in one transaction everything of it is hidden, and the ledger knows that it has to end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, delete, exists, select, update
from sqlalchemy.orm import Session

from moderation.domain.content import ItemState
from moderation.domain.erasing import BECAUSE, Cause
from moderation.domain.errors import NotFound
from moderation.governance import audit
from moderation.governance.erasing import counting, floors, tombstones
from moderation.governance.erasing.ending import Of, hide
from moderation.governance.erasing.floors import Restricted
from moderation.storage.database import after_commit
from moderation.storage.ids import new_id
from moderation.storage.tables import Appeal, Author, Erasure, Item, Outbox
from moderation.storage.vault import Vault

HIDDEN, HELD, DONE = "hidden", "held", "done"
NO_AUTHOR = "There is no such author of this client; an author goes when nothing is left of them."


def request(
    session: Session,
    vault: Vault,
    *,
    client: str,
    author_id: UUID,
    cause: Cause,
    requested_by: str,
    now: datetime,
    item_id: UUID | None = None,
) -> UUID:
    """Hide everything of an author, or one item, at once, and write its erasure into the ledger; its id.

    `run` carries it out. Asked for twice, it is one erasure.

    Raises:
        NotFound: the client has no such author, or the author no such item.
    """
    author = session.scalar(
        select(Author)
        .where(Author.id == author_id, Author.client == client)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if author is None:
        raise NotFound(NO_AUTHOR)
    known = session.scalar(_open(author_id, item_id))
    if known is not None:
        _go_on(session, author, known, now, item_id)
        return known
    if item_id is not None:
        _lock_item(session, author_id, item_id)
    identifier = new_id(now)
    before = counting.of_content(session, author_id, item_id)
    restricted = begin(session, author, identifier, cause, now, item_id)
    session.add(
        Erasure(
            id=identifier,
            scope="author" if item_id is None else "item",
            author_id=author_id,
            item_id=item_id,
            client=client,
            cause=cause,
            requested_by=requested_by,
            requested_at=now,
            hidden_at=now,
            state=HIDDEN,
            before=before,
            kept=[kept(one) for one in restricted],
        )
    )
    session.flush()
    details = {"author": str(author_id), "item": str(item_id) if item_id else None, "cause": str(cause)}
    event = audit.Event(requested_by, "erasure.requested", "erasure", str(identifier), details)
    audit.record(session, [event], now)
    row = ledger_row(identifier, author_id, item_id, client, cause, now)
    after_commit(session, lambda: vault.note_erased([row]))
    return identifier


def _go_on(session: Session, author: Author, erasure_id: UUID, now: datetime, item_id: UUID | None) -> None:
    """Hide what has come since: whom a hold keeps may post again once the tombstone has passed."""
    which = Of(author=author.id) if item_id is None else Of((item_id,))
    live = which.among(Item.id, Item.author_id) & (Item.state != ItemState.DELETED)
    if not session.scalar(select(exists().where(live))):
        return
    row = session.get_one(Erasure, erasure_id)
    restricted = begin(session, author, erasure_id, Cause(row.cause), now, item_id)
    row.state, row.kept = HIDDEN, [kept(one) for one in restricted]
    session.flush()
    event = audit.Event(audit.MACHINE, "erasure.resumed", "erasure", str(erasure_id))
    audit.record(session, [event], now)


def _open(author_id: UUID, item_id: UUID | None) -> Select[UUID]:
    same = Erasure.item_id.is_(None) if item_id is None else Erasure.item_id == item_id
    return (
        select(Erasure.id)
        .where(Erasure.author_id == author_id, same, Erasure.completed_at.is_(None))
        .order_by(Erasure.id)
        .limit(1)
    )


def _lock_item(session: Session, author_id: UUID, item_id: UUID) -> None:
    found = session.scalar(
        select(Item.id)
        .where(Item.id == item_id, Item.author_id == author_id, Item.destroyed_at.is_(None))
        .with_for_update()
    )
    if found is None:
        raise NotFound("This author has no such item, or it has ended already.")


def begin(
    session: Session,
    author: Author,
    erasure_id: UUID,
    cause: Cause,
    now: datetime,
    item_id: UUID | None = None,
) -> Sequence[Restricted]:
    """Hide what an erasure is about; what the law has kept for a while. The author's row is locked already."""
    which = Of(author=author.id) if item_id is None else Of((item_id,))
    # Locked in the order in which everybody locks items: a worker's batch is not met half-way.
    mine = which.among(Item.id, Item.author_id)
    session.execute(select(Item.id).where(mine).order_by(Item.id).with_for_update())
    kept = list(floors.of(session, which, floors.rules(session, now), now))
    withdraw(session, which, now)
    hide(session, which, BECAUSE[cause], now, now)
    for one in kept:
        floors.keep(session, one)
    if item_id is None:
        author.erasing_at = now
        tombstones.raise_(
            session, author.client, tombstones.AUTHOR, [author.reference_digest], now, erasure_id
        )
        tombstones.raise_for_posts_of(session, author.id, erasure_id, now)
        session.flush()
    return kept


def withdraw(session: Session, which: Of, now: datetime) -> None:
    """End what goes on about it: appeals, and messages that nobody has sent yet."""
    session.execute(
        update(Appeal)
        .where(which.among(Appeal.item_id, Appeal.author_id), Appeal.state == "open")
        .values(state="withdrawn", closed_at=now)
        .execution_options(synchronize_session=False)
    )
    mine = select(Item.id).where(which.among(Item.id, Item.author_id))
    session.execute(
        delete(Outbox)
        .where(Outbox.state == "pending", Outbox.item_id.in_(mine), Outbox.event != "item.deleted")
        .execution_options(synchronize_session=False)
    )


def kept(one: Restricted) -> dict[str, Any]:
    """What the law has kept, as the ledger and the receipt say it."""
    return {
        "item": str(one.item_id),
        "because": "floor",
        "class": one.kept_as,
        "basis": one.basis,
        "until": one.until.isoformat(),
    }


def ledger_row(
    erasure_id: UUID, author_id: UUID, item_id: UUID | None, client: str, cause: str, at: datetime
) -> Mapping[str, object]:
    """An entry of the ledger as its second copy has it."""
    return {
        "erasure_id": erasure_id,
        "author_id": author_id,
        "item_id": item_id,
        "client": client,
        "cause": str(cause),
        "requested_at": at,
    }


def author_of(session: Session, vault: Vault, client: str, reference: str) -> UUID:
    """The author whom a client calls `reference`.

    Raises:
        NotFound: nothing of them is here, or nothing any more.
    """
    found = session.scalar(
        select(Author.id).where(
            Author.client == client, Author.reference_digest == vault.digest("author", client, reference)
        )
    )
    if found is None:
        raise NotFound(NO_AUTHOR)
    return found
