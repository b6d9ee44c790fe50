"""Carry out what the ledger asks for: in batches, for some seconds a turn, from wherever the turn before stopped.

Doomed first, all of it; then the keys, by which everything ends for every reader at once; then blobs and rows, then
what the records keep of a person. Any number of processes may ask for it: one at a time does it, and whatever was
done twice was done once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import delete, exists, select, text, update
from sqlalchemy.orm import Session

from moderation.domain.content import ItemState
from moderation.governance import audit, outbox
from moderation.governance.erasing import counting, receipts, records, trained
from moderation.governance.erasing.ending import LEFT_BY_MONTH, doom, finish
from moderation.governance.erasing.requests import DONE, HELD, HIDDEN, ledger_row
from moderation.governance.outbox import Notice
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import (
    Appeal,
    AuditEvent,
    Author,
    Erasure,
    HeldItem,
    Hold,
    Item,
    PartnerItem,
    SubjectRequest,
)
from moderation.storage.vault import Vault, VaultError

DOOM_AT_ONCE = 2000
FINISH_AT_ONCE = 500
RECORDS_AT_ONCE = 10
REST = 0.5  # of the time that a batch took: whoever serves has the machine meanwhile
_TURN = 7_203_011
log = structlog.get_logger()


@dataclass(slots=True)
class Pace:
    """How long there is, and a rest after every batch that is as long as half the batch."""

    seconds: float
    begun: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)

    def on(self) -> bool:
        """Rest a little; whether there is time for another batch."""
        took = time.monotonic() - self.last
        left = self.begun + self.seconds - time.monotonic()
        time.sleep(max(0.0, min(took * REST, left)))
        self.last = time.monotonic()
        return left > 0


@dataclass(frozen=True, slots=True)
class _Tools:
    databases: Databases
    vault: Vault
    blobs: FolderBlobs
    now: datetime
    pace: Pace


class _OutOfTime(Exception):
    """The turn is over; the next one goes on."""


def run(databases: Databases, vault: Vault, blobs: FolderBlobs, now: datetime, seconds: float) -> int:
    """Carry out open erasures for about `seconds`; returns how many came to their end or to what a hold keeps.

    Owns its transactions.
    """
    tools = _Tools(databases, vault, blobs, now, Pace(seconds))
    ended = 0
    with _turn(databases) as mine:
        if not mine:
            return 0
        for identifier in _waiting(databases):
            try:
                _carry_out(tools, identifier)
            except _OutOfTime:
                break
            except Exception:
                # One that can't be carried out, for a file that can't be written say, keeps no other waiting.
                log.exception("erasure_failed", erasure=str(identifier))
                continue
            ended += 1
    return ended


@contextmanager
def _turn(databases: Databases) -> Iterator[bool]:
    """Whether it is this process's turn, until the end of the block."""
    with databases.content.begin() as guard:
        yield bool(guard.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _TURN}))


def _waiting(databases: Databases) -> list[UUID]:
    """Erasures to carry out: those that were just asked for, and those that nothing keeps any more."""
    kept = exists().where(
        Item.author_id == Erasure.author_id,
        Item.destroyed_at.is_(None),
        Erasure.item_id.is_(None) | (Item.id == Erasure.item_id),
    )
    whole = exists().where(Author.id == Erasure.author_id, Author.holds > 0, Erasure.item_id.is_(None))
    with transaction(databases.content) as session:
        return list(
            session.scalars(
                select(Erasure.id)
                .where(Erasure.completed_at.is_(None), (Erasure.state == HIDDEN) | ~(kept | whole))
                .order_by(Erasure.requested_at, Erasure.id)
            )
        )


def _carry_out(tools: _Tools, identifier: UUID) -> None:
    with transaction(tools.databases.content) as session:
        row = session.get_one(Erasure, identifier)
        author = session.get(Author, row.author_id)
    _remember(tools, row)
    _doom_all(tools, row)
    ends = row.item_id is None and _end_keys(tools, row)
    _destroy_all(tools, row)
    if ends:
        if author is not None:
            _unlink(tools, row, author)
        cleaned = trained.clean(tools.databases, tools.vault, tools.now, row.author_id)
    else:
        cleaned = trained.clean(tools.databases, tools.vault, tools.now)
    _conclude(tools, identifier, cleaned)


def _remember(tools: _Tools, row: Erasure) -> None:
    """Before anything goes: both ledgers have it, and what there was is counted."""
    entry = ledger_row(row.id, row.author_id, row.item_id, row.client, row.cause, row.requested_at)
    tools.vault.note_erased([entry])
    if "item_keys" in row.before:
        return
    keys: dict[str, Any] = counting.of_keys(tools.databases.keystore, row.author_id, row.item_id)
    keys["kek_epoch"] = counting.epoch_of(tools.databases.keystore, row.author_id)
    with transaction(tools.databases.content) as session:
        session.execute(update(Erasure).where(Erasure.id == row.id).values(before={**row.before, **keys}))


def _mine(row: Erasure) -> Any:
    return Item.author_id == row.author_id if row.item_id is None else Item.id == row.item_id


def _doom_all(tools: _Tools, row: Erasure) -> None:
    while True:
        with transaction(tools.databases.content) as session:
            doomed = doom(session, _mine(row), tools.now, DOOM_AT_ONCE)
        if len(doomed) < DOOM_AT_ONCE:
            return
        _rest(tools)


def _end_keys(tools: _Tools, row: Erasure) -> bool:
    """Destroy the author's key, and with it every key under it; what is kept was wrapped anew before.

    False where a hold keeps everything of theirs: key, name and records.
    """
    with transaction(tools.databases.content) as session:
        # Nobody begins or ends a hold on everything of theirs meanwhile.
        author = session.scalar(select(Author).where(Author.id == row.author_id).with_for_update())
        if author is not None and author.holds > 0:
            return False
        kept = session.scalars(
            select(Item.id).where(_mine(row), Item.doomed_at.is_(None), Item.destroyed_at.is_(None))
        ).all()
        if kept and tools.vault.item_keys(kept):
            _ensure_package(tools, row.id)
            tools.vault.hold_item_keys(kept, row.id, tools.now)
        tools.vault.destroy_author_keys([row.author_id])
    return True


def _ensure_package(tools: _Tools, package: UUID) -> None:
    """What an erasure keeps has a key of its own, whatever hold keeps it: one may end before another."""
    try:
        tools.vault.package_key(package)
    except VaultError:
        tools.vault.create_package_key(package, tools.now)


def _destroy_all(tools: _Tools, row: Erasure) -> None:
    while True:
        with transaction(tools.databases.content) as session:
            ids = session.scalars(
                select(Item.id)
                .where(_mine(row), Item.doomed_at.is_not(None), Item.destroyed_at.is_(None))
                .order_by(Item.id)
                .limit(FINISH_AT_ONCE)
            ).all()
        if not ids:
            return
        finish(tools.databases, tools.vault, tools.blobs, ids, tools.now)
        _rest(tools)


def _unlink(tools: _Tools, row: Erasure, author: Author) -> None:
    for step in records.steps():
        more = True
        while more:
            with transaction(tools.databases.content) as session:
                more = records.unlink(session, step, row.author_id, row.client, author.reference_digest)
            if more:
                _rest(tools)


def _rest(tools: _Tools) -> None:
    if not tools.pace.on():
        raise _OutOfTime


def _conclude(tools: _Tools, identifier: UUID, cleaned: list[trained.Cleaned]) -> None:
    """Count again, let go of the author's row, and write the receipt."""
    with transaction(tools.databases.content) as session:
        row = session.get_one(Erasure, identifier, with_for_update=True, populate_existing=True)
        author = session.scalar(select(Author).where(Author.id == row.author_id).with_for_update())
        kept = _kept(session, row)
        if row.item_id is None:
            _let_go(session, row, author, kept=bool(kept))
        state = HELD if kept else DONE
        if not kept:
            tools.vault.destroy_package_keys([identifier])
        row.state, row.kept = state, kept
        row.completed_at = tools.now if state == DONE else None
        keys = counting.of_keys(tools.databases.keystore, row.author_id, row.item_id)
        row.after = {**counting.of_content(session, row.author_id, row.item_id), **keys}
        session.flush()
        event_id = _record(session, row, tools.now)
        row.receipt = receipts.written(
            tools.vault,
            row,
            event_id,
            bundles=[
                {"bundle": str(one.bundle_id), "rows": one.rows, "rewritten": one.rewritten}
                for one in cleaned
            ],
            partners=_partners(session, row),
            now=tools.now,
        )
        if row.item_id is None:
            session.execute(
                update(SubjectRequest)
                .where(SubjectRequest.erasure_id == identifier)
                .values(details=None)
                .execution_options(synchronize_session=False)
            )
            payload = {"erasure_id": str(identifier), "cause": row.cause, "state": state}
            outbox.enqueue(session, [Notice(row.client, None, "author.erased", payload)], tools.now)


def _kept(session: Session, row: Erasure) -> list[dict[str, Any]]:
    """What is still there, and why: a hold, the law's floor, or an appeal about one item."""
    items = session.scalars(
        select(Item).where(_mine(row), Item.destroyed_at.is_(None)).order_by(Item.id)
    ).all()
    floors = {one["item"]: one for one in row.kept if one["because"] == "floor"}
    kept: list[dict[str, Any]] = []
    author = session.get(Author, row.author_id) if row.item_id is None else None
    if author is not None and author.holds > 0:
        active = select(Hold.id).where(
            Hold.author_id == row.author_id, Hold.scope == "author", Hold.state.in_(["requested", "active"])
        )
        holds = [str(hold) for hold in session.scalars(active.order_by(Hold.id))]
        kept.append({"author": str(row.author_id), "because": "hold", "holds": holds})
    for item in items:
        if item.holds > 0:
            kept.append({"item": str(item.id), "because": "hold", "holds": _holds_of(session, item.id)})
        elif str(item.id) in floors:
            kept.append(floors[str(item.id)])
        elif session.scalar(select(exists().where(Appeal.item_id == item.id, Appeal.state == "open"))):
            kept.append({"item": str(item.id), "because": "appeal"})
        else:
            # Released, or due, since it was looked at: the next turn ends it.
            kept.append({"item": str(item.id), "because": "sweep"})
    return kept


def _holds_of(session: Session, item_id: UUID) -> list[str]:
    found = session.scalars(
        select(HeldItem.hold_id)
        .where(HeldItem.item_id == item_id, HeldItem.released_at.is_(None))
        .order_by(HeldItem.hold_id)
    )
    return [str(hold) for hold in found]


def _let_go(session: Session, row: Erasure, author: Author | None, *, kept: bool) -> None:
    ended = (
        Item.author_id == row.author_id,
        Item.destroyed_at.is_not(None),
        Item.state == ItemState.DELETED,
    )
    mine = select(Item.id).where(*ended).scalar_subquery()
    for left in LEFT_BY_MONTH:
        session.execute(
            delete(left).where(left.item_id.in_(mine)).execution_options(synchronize_session=False)
        )
    session.execute(delete(Item).where(*ended).execution_options(synchronize_session=False))
    if author is None or author.holds > 0:
        return
    if kept:
        # What a hold keeps still names its author by an id; what they were called is gone.
        author.reference, author.reference_digest = b"", author.id.bytes
    else:
        session.delete(author)
    session.flush()


def _partners(session: Session, row: Erasure) -> int:
    """How many copies at partners are not acknowledged as deleted yet: they are told until they are."""
    query = select(PartnerItem.item_id).where(
        PartnerItem.author_id == row.author_id, PartnerItem.acknowledged_at.is_(None)
    )
    if row.item_id is not None:
        query = query.where(PartnerItem.item_id == row.item_id)
    return len(session.scalars(query).all())


def _record(session: Session, row: Erasure, now: datetime) -> UUID:
    """The event by which the log knows of it; its id stands on the receipt."""
    action = "erasure.completed" if row.state == DONE else "erasure.held"
    details = {"cause": row.cause, "kept": len(row.kept), "before": row.before, "after": row.after}
    audit.record(session, [audit.Event(audit.MACHINE, action, "erasure", str(row.id), details)], now)
    return session.scalars(
        select(AuditEvent.id)
        .where(AuditEvent.subject_id == str(row.id), AuditEvent.action == action)
        .order_by(AuditEvent.id.desc())
        .limit(1)
    ).one()
