"""How content ends: hidden at once, doomed, its key destroyed, then its blobs and rows. One engine for all.

The order matters. Once an item is hidden, nothing shows or processes it; once it is doomed, no hold can keep it any
more, and none did; once its key is gone, nobody can read it, in a backup either; what is left to remove is noise.
Each step may be repeated. The pieces lie in `moderation.governance.erasing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Uuid, cast, delete, exists, func, or_, select, true, update
from sqlalchemy.orm import Session

from moderation.domain import retention
from moderation.domain.decisions import AccountMeasure
from moderation.domain.erasing import BY_CLIENT, EXPIRED
from moderation.domain.retention import Retention
from moderation.domain.subjects import MinorState
from moderation.governance import audit
from moderation.governance.erasing import floors, tombstones
from moderation.governance.erasing.carrying import run
from moderation.governance.erasing.ending import (
    LEFT_BY_MONTH,
    Of,
    doom,
    finish,
    hidden,
    hide,
    left_behind,
    shown,
)
from moderation.governance.erasing.ledger import replay
from moderation.governance.erasing.receipts import receipt, verify
from moderation.governance.erasing.requests import author_of, request
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, among, transaction
from moderation.storage.tables import (
    AccountAction,
    Appeal,
    Author,
    Decision,
    IdempotencyKey,
    Item,
    MinorCheck,
    Outbox,
    Reporter,
    Suggestion,
)
from moderation.storage.vault import Vault

__all__ = ["BY_CLIENT", "EXPIRED", "author_of", "destroy", "hidden", "mark_deleted", "overdue", "receipt", "replay",
           "request", "run", "shown", "sweep", "sweep_authors", "sweep_records", "sweep_rows",
           "under_appeal", "verify_receipt"]  # fmt: skip

REPORTERS_KEPT = timedelta(days=365)
ROWS_KEPT = timedelta(days=30)  # of what is destroyed: as long as somebody may ask why it is gone
verify_receipt = verify


def mark_deleted(
    session: Session, items: Sequence[Item], classes: Retention, actor: str, now: datetime
) -> None:
    """Hide `items`, which the caller has locked, and end their processing; `destroy` ends what nothing keeps.

    A worker that still holds a lease commits nothing afterwards: the token is gone. What a reporter asked for is
    settled by the deletion; an author's appeal goes on, since a measure against the account may hang on it. What
    the law has kept stays in a restricted state until its floor has passed.
    """
    if not items:
        return
    ids = [item.id for item in items]
    kept = list(floors.of(session, Of(tuple(ids)), classes, now))
    _withdraw_appeals(session, ids, now, "reporter")
    for item in items:
        hide(session, Of((item.id,)), BY_CLIENT, now, min(_until(item, classes, now), item.expires_at))
    for one in kept:
        floors.keep(session, one)
    for client in {item.client for item in items}:
        digests = [item.external_digest for item in items if item.client == client]
        tombstones.raise_(session, client, tombstones.POST, digests, now)
    events = [audit.Event(actor, "item.deleted", "item", str(item.id)) for item in items]
    audit.record(session, events, now)


def _until(item: Item, classes: Retention, now: datetime) -> datetime:
    """The end of the floor of the item's class, or of the item where no policy knows that class any more.

    Content under appeal must not go because somebody renamed its class.
    """
    clock = classes.classes.get(item.retention_class)
    if clock is None:
        return item.expires_at
    return retention.deletable_at(clock, item.received_at, item.decided_at, now)


def sweep(databases: Databases, vault: Vault, blobs: FolderBlobs, now: datetime, limit: int = 200) -> int:
    """Destroy up to `limit` items whose time has come; returns how many. Owns its transactions.

    What nobody finished, because a process fell over between the doom and the end, is finished first.
    """
    with transaction(databases.content) as session:
        ids = left_behind(session, now, limit)
        if len(ids) < limit:
            ids += doom(session, true(), now, limit - len(ids))
    finish(databases, vault, blobs, ids, now)
    return len(ids)


def destroy(
    databases: Databases, vault: Vault, blobs: FolderBlobs, ids: Sequence[UUID], now: datetime
) -> int:
    """Destroy those of `ids` that are due and that no hold and no open appeal keeps; how many. Repeatable."""
    with transaction(databases.content) as session:
        doom(session, among(Item.id, ids), now, len(ids))
    return finish(databases, vault, blobs, ids, now)


def sweep_authors(databases: Databases, vault: Vault, now: datetime, limit: int = 200) -> int:
    """Forget up to `limit` authors of whom nothing is left: their reference and their key.

    A strike, suspension or ban that still counts is something: else whoever deletes their posts is rid of it. So
    is a hold on everything of theirs, a restriction, which is about what they post next, and a suspicion that
    nobody has answered. Intake holds a share lock on the author of an item it is accepting, so that
    none is forgotten meanwhile. Whom an erasure is about is left to it.
    """
    with transaction(databases.content) as session:
        kept = or_(
            Author.holds > 0,
            Author.erasing_at.is_not(None),
            Author.restricted_at.is_not(None),
            exists().where(MinorCheck.author_id == Author.id, MinorCheck.state == MinorState.SUSPECTED),
            exists().where(Item.author_id == Author.id, Item.destroyed_at.is_(None)),
            exists().where(Suggestion.author_id == Author.id),
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


def sweep_rows(session: Session, now: datetime, limit: int = 1000) -> int:
    """Remove rows of items that ended a month ago; of accounts that something still restricts, their digest."""
    restricted = exists().where(
        AccountAction.author_id == Item.author_id,
        AccountAction.kind != AccountMeasure.WARN,
        or_(AccountAction.reversed_at.is_(None), AccountAction.reversed_at > now),
        or_(AccountAction.until.is_(None), AccountAction.until > now),
    )
    ended = [Item.destroyed_at.is_not(None), Item.destroyed_at <= now - ROWS_KEPT]
    kept = select(Item.id).where(*ended, restricted, Item.external_digest != b"").limit(limit)
    session.execute(
        update(Item)
        .where(Item.id.in_(kept))
        .values(external_digest=b"")
        .execution_options(synchronize_session=False)
    )
    due = select(Item.id).where(*ended, ~restricted).order_by(Item.destroyed_at).limit(limit)
    gone = session.scalars(
        delete(Item)
        .where(Item.id.in_(due), Item.holds == 0)
        .returning(Item.id)
        .execution_options(synchronize_session=False)
    ).all()
    for left in LEFT_BY_MONTH if gone else ():
        session.execute(
            delete(left).where(among(left.item_id, gone)).execution_options(synchronize_session=False)
        )
    return len(gone)


def sweep_records(session: Session, now: datetime, delivered_before: datetime) -> int:
    """Remove old idempotency keys, tombstones, webhooks delivered long ago, reporters idle for a year."""
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
    buried = tombstones.sweep(session, now)
    return buried + sum(len(session.scalars(statement).all()) for statement in (keys, hooks, idle))


def overdue(session: Session, now: datetime) -> dict[str, float]:
    """Seconds by which the oldest expired item of each retention class is overdue; what a hold keeps is not."""
    rows = session.execute(
        select(Item.retention_class, func.min(Item.expires_at))
        .where(
            Item.destroyed_at.is_(None),
            Item.expires_at <= now,
            Item.holds == 0,
            ~exists().where(Appeal.item_id == Item.id, Appeal.state == "open"),
        )
        .group_by(Item.retention_class)
    )
    return {name: (now - oldest).total_seconds() for name, oldest in rows}


def under_appeal(session: Session, ids: Sequence[UUID]) -> set[UUID]:
    """Those of `ids` that somebody has asked to be looked at again: they stay until that is answered."""
    if not ids:
        return set()
    return set(
        session.scalars(select(Appeal.item_id).where(among(Appeal.item_id, ids), Appeal.state == "open"))
    )


def _withdraw_appeals(session: Session, ids: Sequence[UUID], now: datetime, by: str) -> None:
    session.execute(
        update(Appeal)
        .where(Appeal.item_id.in_(ids), Appeal.state == "open", Appeal.by == by)
        .values(state="withdrawn", closed_at=now)
        .execution_options(synchronize_session=False)
    )
