"""How content ends: hidden at once, its key destroyed, then its blobs and rows.

The order matters. Once an item is marked, nothing shows or processes it; once its key is gone, nobody can
read it, in a backup either; what is left to remove is noise. Each step may be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Uuid, cast, delete, exists, func, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from moderation.domain import retention
from moderation.domain.cases import CaseKind, CaseState
from moderation.domain.content import ItemState
from moderation.domain.decisions import AccountMeasure
from moderation.domain.retention import Retention
from moderation.governance import audit
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import (
    AccountAction,
    Appeal,
    Author,
    Case,
    CaseNote,
    Decision,
    GoldenItem,
    IdempotencyKey,
    Item,
    Outbox,
    Part,
    Report,
    Reporter,
    SignalRow,
    Sketch,
)
from moderation.storage.vault import Vault

BY_CLIENT = "deleted by the content service"
EXPIRED = "its retention period ended"
REPORTERS_KEPT = timedelta(days=365)


def mark_deleted(
    session: Session, items: Sequence[Item], classes: Retention, actor: str, now: datetime
) -> None:
    """Hide `items` and end their processing; the content goes when their retention class lets it.

    A worker that still holds a lease commits nothing afterwards: the token is gone. What a reporter asked for is
    settled by the deletion; an author's appeal goes on, since a measure against the account may hang on it.
    """
    _withdraw_appeals(session, [item.id for item in items], now, "reporter")
    for item in items:
        _hide(session, [item.id], BY_CLIENT, now, min(_until(item, classes, now), item.expires_at))
    events = [audit.Event(actor, "item.deleted", "item", str(item.id)) for item in items]
    audit.record(session, events, now)


def is_due(item: Item, classes: Retention, now: datetime) -> bool:
    """Whether the content of a deleted item may be destroyed now."""
    return _until(item, classes, now) <= now


def _until(item: Item, classes: Retention, now: datetime) -> datetime:
    """The end of the floor of the item's class, or of the item where no policy knows that class any more.

    Content under appeal must not go because somebody renamed its class.
    """
    clock = classes.classes.get(item.retention_class)
    if clock is None:
        return item.expires_at
    return retention.deletable_at(clock, item.received_at, item.decided_at, now)


def sweep(databases: Databases, vault: Vault, blobs: FolderBlobs, now: datetime, limit: int = 200) -> int:
    """Destroy up to `limit` items whose time has come; returns how many. Owns its transactions."""
    with transaction(databases.content) as session:
        due = session.execute(
            select(Item.id, Item.state)
            .where(Item.destroyed_at.is_(None), Item.expires_at <= now, ~_under_appeal(Item.id))
            .order_by(Item.expires_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        ).all()
        expired = [identifier for identifier, state in due if state != ItemState.DELETED]
        if expired:
            _hide(session, expired, EXPIRED, now, now)
            audit.record(
                session, [audit.Event(audit.MACHINE, "item.expired", "item", str(i)) for i in expired], now
            )
    destroy(databases, vault, blobs, [identifier for identifier, _ in due], now)
    return len(due)


def destroy(
    databases: Databases, vault: Vault, blobs: FolderBlobs, ids: Sequence[UUID], now: datetime
) -> None:
    """Destroy the content of `ids`, which are hidden already: key, blobs, parts, signals, reports. Repeatable.

    Whatever is under appeal stays, hidden, until the appeal is answered: it is the evidence.
    """
    with transaction(databases.content) as session:
        held = select(Appeal.item_id).where(Appeal.item_id.in_(ids), Appeal.state == "open")
        ids = sorted(set(ids) - set(session.scalars(held)))
    if not ids:
        return
    vault.destroy_item_keys(ids)
    with transaction(databases.content) as session:
        references = session.scalars(select(Part.blob).where(Part.item_id.in_(ids), Part.blob.is_not(None)))
        for reference in references:
            blobs.destroy(str(reference))
        session.execute(delete(Part).where(Part.item_id.in_(ids)))
        session.execute(delete(SignalRow).where(SignalRow.item_id.in_(ids)))
        for ending in (Sketch, CaseNote, GoldenItem, Report):
            session.execute(delete(ending).where(ending.item_id.in_(ids)))
        gone = session.scalars(
            update(Item)
            .where(Item.id.in_(ids), Item.destroyed_at.is_(None), Item.state == ItemState.DELETED)
            .values(details=None, destroyed_at=now)
            .returning(Item.id)
        ).all()
        audit.record(
            session, [audit.Event(audit.MACHINE, "item.destroyed", "item", str(i)) for i in gone], now
        )


def sweep_authors(databases: Databases, vault: Vault, now: datetime, limit: int = 200) -> int:
    """Forget up to `limit` authors of whom nothing is left: their reference and their key.

    A strike, suspension or ban that still counts is something: else whoever deletes their posts is rid of it.
    Intake holds a share lock on the author of an item it is accepting, so that none is forgotten meanwhile.
    """
    with transaction(databases.content) as session:
        kept = or_(
            exists().where(Item.author_id == Author.id, Item.destroyed_at.is_(None)),
            exists().where(
                AccountAction.author_id == Author.id,
                AccountAction.kind != AccountMeasure.WARN,
                or_(AccountAction.reversed_at.is_(None), AccountAction.reversed_at > now),
                or_(AccountAction.until.is_(None), AccountAction.until > now),
            ),
        )
        idle = session.scalars(
            select(Author.id).where(~kept).limit(limit).with_for_update(skip_locked=True)
        ).all()
        if not idle:
            return 0
        # Looked at again under the lock: an item may have been committed just before it was taken.
        gone = session.scalars(delete(Author).where(Author.id.in_(idle), ~kept).returning(Author.id)).all()
    vault.destroy_author_keys(gone)
    return len(gone)


def sweep_records(session: Session, now: datetime, delivered_before: datetime) -> int:
    """Remove old idempotency keys, webhooks delivered long ago, reporters idle for a year; how many rows."""
    # From when the time to appeal counts is known from the webhook's delivery alone, where nobody said it.
    told = (
        select(
            cast(Outbox.payload["decision_id"].astext, Uuid).label("id"),
            func.min(Outbox.delivered_at).label("at"),
        )
        .where(Outbox.delivered_at <= delivered_before, Outbox.event == "item.decided")
        .where(Outbox.payload["verdict"].astext.in_(["limit", "remove"]))
        .group_by("id")
        .subquery()
    )
    session.execute(
        update(Decision)
        .where(Decision.id == told.c.id, Decision.informed_at.is_(None))
        .values(informed_at=told.c.at)
        .execution_options(synchronize_session=False)
    )
    keys = delete(IdempotencyKey).where(IdempotencyKey.expires_at <= now).returning(IdempotencyKey.item_id)
    hooks = delete(Outbox).where(Outbox.delivered_at <= delivered_before).returning(Outbox.id)
    idle = delete(Reporter).where(Reporter.last_at <= now - REPORTERS_KEPT).returning(Reporter.digest)
    return sum(len(session.scalars(statement).all()) for statement in (keys, hooks, idle))


def overdue(session: Session, now: datetime) -> dict[str, float]:
    """Seconds by which the oldest expired item of each retention class is overdue."""
    rows = session.execute(
        select(Item.retention_class, func.min(Item.expires_at))
        .where(Item.destroyed_at.is_(None), Item.expires_at <= now)
        .group_by(Item.retention_class)
    )
    return {name: (now - oldest).total_seconds() for name, oldest in rows}


def _hide(session: Session, ids: Sequence[UUID], because: str, now: datetime, until: datetime) -> None:
    session.execute(
        update(Item)
        .where(Item.id.in_(ids))
        .values(
            state=ItemState.DELETED,
            lease_token=None,
            lease_until=None,
            deleted_at=now,
            deleted_because=because,
            expires_at=until,
        )
        .execution_options(synchronize_session=False)
    )
    session.execute(
        update(Case)
        .where(Case.item_id.in_(ids), Case.state == CaseState.OPEN)
        .where(~(_under_appeal(Case.item_id) & (Case.kind == CaseKind.APPEAL)))
        .values(state=CaseState.CLOSED, closed_at=now, claim_until=None)
        .execution_options(synchronize_session=False)
    )


def _under_appeal(item: InstrumentedAttribute[UUID]) -> ColumnElement[bool]:
    return exists().where(Appeal.item_id == item, Appeal.state == "open")


def _withdraw_appeals(session: Session, ids: Sequence[UUID], now: datetime, by: str) -> None:
    session.execute(
        update(Appeal)
        .where(Appeal.item_id.in_(ids), Appeal.state == "open", Appeal.by == by)
        .values(state="withdrawn", closed_at=now)
        .execution_options(synchronize_session=False)
    )
