"""The engine: hide, doom, destroy. Every way in which content ends comes through here.

*Hidden* is decided in the transaction that asks for it. *Doomed* is the point of no return: one statement on the
item's own row, which a hold on that row excludes and which excludes any later hold. Only doomed items lose their
keys; then their blobs and rows go, in that order, so that what a crash leaves behind can be read by nobody. Each
step may be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, delete, exists, func, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from moderation.domain.cases import CaseKind, CaseState
from moderation.domain.content import ItemState
from moderation.domain.erasing import EXPIRED
from moderation.governance import audit, outbox
from moderation.governance.outbox import Notice
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, among, transaction
from moderation.storage.tables import (
    Appeal,
    Case,
    CaseNote,
    GoldenItem,
    Item,
    Part,
    PartFeature,
    PartnerItem,
    Report,
    SignalRow,
    Sketch,
)
from moderation.storage.vault import Vault

# How long a batch that was doomed may be in somebody else's hands before it counts as left behind.
LEFT_BEHIND = timedelta(seconds=60)
# What the end of a whole month leaves to its partition. Where that is not dropped, because something in the month
# is kept, it goes with the item's row: without that no partition of theirs would ever be known to be over.
LEFT_BY_MONTH = (Part, PartFeature, SignalRow)


@dataclass(frozen=True, slots=True)
class Of:
    """Whose content is meant: that of these items, or everything of one author."""

    items: tuple[UUID, ...] | None = None
    author: UUID | None = None

    def among(
        self, item: InstrumentedAttribute[UUID], author: InstrumentedAttribute[UUID]
    ) -> ColumnElement[bool]:
        """The condition on a table that carries both ids."""
        if self.author is not None:
            return author == self.author
        return among(item, self.items or ())


def under_appeal(item: InstrumentedAttribute[UUID]) -> ColumnElement[bool]:
    """What somebody has asked to be looked at again is evidence until that is answered."""
    return exists().where(Appeal.item_id == item, Appeal.state == "open")


def hide(session: Session, which: Of, because: str, now: datetime, until: datetime) -> None:
    """Show nothing of it any more, and end its processing; it may be destroyed from `until` on.

    A worker that still holds a lease commits nothing afterwards: the token is gone.
    """
    session.execute(
        update(Item)
        .where(which.among(Item.id, Item.author_id), Item.destroyed_at.is_(None))
        .values(
            state=ItemState.DELETED,
            lease_token=None,
            lease_until=None,
            deleted_at=func.coalesce(Item.deleted_at, now),
            deleted_because=func.coalesce(Item.deleted_because, because),
            expires_at=until,
        )
        .execution_options(synchronize_session=False)
    )
    close(session, which, now)


def close(session: Session, which: Of, now: datetime) -> None:
    """Ask nobody about it any more, save whoever answers an appeal, and have partners told that it is gone."""
    session.execute(
        update(Case)
        .where(which.among(Case.item_id, Case.author_id), Case.state == CaseState.OPEN)
        .where(~(under_appeal(Case.item_id) & (Case.kind == CaseKind.APPEAL)))
        .values(state=CaseState.CLOSED, closed_at=now, claim_until=None)
        .execution_options(synchronize_session=False)
    )
    session.execute(
        update(PartnerItem)
        .where(which.among(PartnerItem.item_id, PartnerItem.author_id), PartnerItem.deleted_at.is_(None))
        .values(deleted_at=now)
        .execution_options(synchronize_session=False)
    )


def doom(session: Session, which: ColumnElement[bool], now: datetime, limit: int) -> list[UUID]:
    """Pass the point of no return with up to `limit` items that are due, that no hold keeps and no appeal needs.

    Of one that was still shown, the end is recorded and its content service told.
    """
    due = (
        select(Item.id, Item.state)
        .where(
            which,
            Item.expires_at <= now,
            Item.holds == 0,
            Item.doomed_at.is_(None),
            Item.destroyed_at.is_(None),
            ~under_appeal(Item.id),
        )
        .order_by(Item.expires_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    rows = session.execute(
        update(Item)
        .where(Item.id == due.c.id, Item.holds == 0, Item.doomed_at.is_(None), Item.destroyed_at.is_(None))
        .values(
            doomed_at=now,
            state=ItemState.DELETED,
            lease_token=None,
            lease_until=None,
            deleted_at=func.coalesce(Item.deleted_at, now),
            deleted_because=func.coalesce(Item.deleted_because, EXPIRED),
        )
        .returning(Item.id, Item.client, Item.callback_id, due.c.state, Item.retention_class)
        .execution_options(synchronize_session=False)
    ).all()
    fresh = [row for row in rows if row.state != ItemState.DELETED]
    if fresh:
        close(session, Of(tuple(row.id for row in fresh)), now)
        notices = [
            Notice(row.client, row.id, "item.deleted", {"item_id": str(row.id)}, row.callback_id)
            for row in fresh
        ]
        outbox.enqueue(session, notices, now)
        audit.record(
            session,
            [
                audit.Event(
                    audit.MACHINE, "item.expired", "item", str(row.id), {"class": row.retention_class}
                )
                for row in fresh
            ],
            now,
        )
    return [row.id for row in rows]


def left_behind(session: Session, now: datetime, limit: int) -> list[UUID]:
    """Items that were doomed a while ago and never finished: somebody fell over between the two."""
    return list(
        session.scalars(
            select(Item.id)
            .where(Item.doomed_at <= now - LEFT_BEHIND, Item.destroyed_at.is_(None))
            .limit(limit)
        )
    )


def finish(
    databases: Databases,
    vault: Vault,
    blobs: FolderBlobs,
    ids: Sequence[UUID],
    now: datetime,
    *,
    whole_month: bool = False,
) -> int:
    """Destroy what is left of doomed items: keys, blobs, rows; returns how many ended. Owns its transactions.

    With `whole_month` their texts and signals stay where they are, unreadable, until their partition is dropped.
    """
    with transaction(databases.content) as session:
        doomed = session.scalars(
            select(Item.id).where(
                among(Item.id, ids), Item.doomed_at.is_not(None), Item.destroyed_at.is_(None)
            )
        ).all()
    if not doomed:
        return 0
    vault.destroy_item_keys(doomed)
    with transaction(databases.content) as session:
        # In the order in which everybody locks several items: another relay may be at the same ones, or an erasure.
        session.execute(select(Item.id).where(among(Item.id, doomed)).order_by(Item.id).with_for_update())
        references = session.scalars(
            select(Part.blob).where(among(Part.item_id, doomed), Part.blob.is_not(None))
        )
        for reference in references:
            blobs.destroy(str(reference))
        rows = (Sketch, CaseNote, GoldenItem, Report)
        for ending in rows if whole_month else (*LEFT_BY_MONTH, *rows):
            session.execute(
                delete(ending)
                .where(among(ending.item_id, doomed))
                .execution_options(synchronize_session=False)
            )
        gone = session.execute(
            update(Item)
            .where(among(Item.id, doomed), Item.doomed_at.is_not(None), Item.destroyed_at.is_(None))
            # The digest of its name goes with the row: for a month it says that the post is gone, and no more.
            .values(details=None, language=None, reach=None, destroyed_at=now)
            .returning(Item.id, Item.retention_class)
            .execution_options(synchronize_session=False)
        ).all()
        ended = [
            audit.Event(audit.MACHINE, "item.destroyed", "item", str(item), {"class": name})
            for item, name in gone
        ]
        audit.record(session, ended, now)
    return len(gone)


def hidden(session: Session, item: Item, now: datetime) -> bool:
    """Whether an item's content is for nobody but the legal role: it ended, or is due, and no appeal needs it.

    Read at the moment of looking, so that an item is hidden exactly when its time has come and not when it is
    swept.
    """
    if item.state != ItemState.DELETED and item.expires_at > now:
        return False
    return not session.scalar(select(under_appeal(Item.id)).where(Item.id == item.id))


def shown(now: datetime) -> ColumnElement[bool]:
    """The same as a condition: items whose content may be shown at `now`."""
    live = (Item.state != ItemState.DELETED) & (Item.expires_at > now)
    return or_(live, under_appeal(Item.id))
