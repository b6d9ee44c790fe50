"""Restriction: what an author posted is stored and judged by people, and no machine learns or judges from it.

The state stands on the author's row (`restricted_at`). It is asked for where a job claims and again where it
commits, under a lock on that row: whatever was computed before the restriction and comes after it is thrown
away. Training and draws for quality leave out whoever is set apart: restricted, or perhaps a minor.

Source: GDPR articles 18 and 21.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Uuid, delete, exists, literal, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from moderation.domain.errors import NotFound
from moderation.domain.subjects import MinorState, Right
from moderation.governance import audit, outbox
from moderation.governance.outbox import Notice
from moderation.storage.database import among
from moderation.storage.tables import Author, Item, MinorCheck, PartFeature, Sketch

SENTENCE = "Its author restricted how it may be used: no machine judged it, people decide."


def restrict(
    session: Session,
    author: Author,
    because: Right,
    actor: str,
    now: datetime,
    *,
    request_id: UUID | None = None,
) -> bool:
    """Restrict what is held of `author` from now on; False where it was restricted already.

    A batch that is being committed holds the author's row: it comes before this or is seen by nobody.
    """
    session.refresh(author, with_for_update={"key_share": True})
    if author.restricted_at is not None:
        return False
    author.restricted_at, author.restricted_because = now, str(because)
    session.flush()
    _forget_likeness(session, author.id)
    details = {"because": str(because)} | ({"request": str(request_id)} if request_id else {})
    event = audit.Event(actor, "restriction.set", "author", str(author.id), details)
    audit.record(session, [event], now)
    _tell(session, author, "restricted", because, request_id, now)
    return True


def lift(session: Session, author: Author, actor: str, now: datetime) -> None:
    """End the restriction: from the next item on machines judge again.

    Raises:
        NotFound: there is none.
    """
    session.refresh(author, with_for_update={"key_share": True})
    if author.restricted_at is None:
        raise NotFound("Nothing of this author is restricted.")
    because = author.restricted_because or str(Right.RESTRICT)
    author.restricted_at = author.restricted_because = None
    session.flush()
    audit.record(session, [audit.Event(actor, "restriction.lifted", "author", str(author.id))], now)
    _tell(session, author, "lifted", because, None, now)


def _tell(
    session: Session, author: Author, state: str, because: str, request_id: UUID | None, now: datetime
) -> None:
    said = {"state": state, "because": str(because), "request_id": str(request_id) if request_id else None}
    outbox.enqueue(session, [Notice(author.client, None, "author.restricted", said)], now)


def restricted(session: Session, authors: Collection[UUID], *, lock: bool = False) -> set[UUID]:
    """Which of `authors` are restricted; with `lock` nobody restricts one of them until the transaction ends.

    Locked before any item is: whoever restricts or erases an author takes the author first.
    """
    query = select(Author.id, Author.restricted_at).where(among(Author.id, authors)).order_by(Author.id)
    rows = session.execute(query.with_for_update(read=True) if lock else query)
    return {identifier for identifier, since in rows if since is not None}


def set_apart(author: InstrumentedAttribute[UUID] | ColumnElement[UUID]) -> ColumnElement[bool]:
    """Whether `author` is one from whom nothing is learnt: restricted, or suspected or known to be a minor."""
    return or_(
        exists().where(Author.id == author, Author.restricted_at.is_not(None)),
        exists().where(
            MinorCheck.author_id == author,
            MinorCheck.state.in_([MinorState.SUSPECTED, MinorState.CONFIRMED]),
        ),
    )


def is_set_apart(session: Session, author_id: UUID) -> bool:
    """The same of one author."""
    return bool(session.scalar(select(set_apart(literal(author_id, Uuid)))))


def _forget_likeness(session: Session, author_id: UUID) -> None:
    """Compare nothing of theirs with anything any more."""
    mine = select(Item.id).where(Item.author_id == author_id)
    for made in (Sketch, PartFeature):
        session.execute(
            delete(made).where(made.item_id.in_(mine)).execution_options(synchronize_session=False)
        )
