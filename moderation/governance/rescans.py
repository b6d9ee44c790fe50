"""Searches for a bank's entries in everything that is retained: how far one came, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, select, update
from sqlalchemy.orm import Session

from moderation.domain.content import ItemState
from moderation.domain.errors import Conflict, InvalidInput, NotFound
from moderation.governance import audit, banks
from moderation.storage.ids import lower_bound, new_id
from moderation.storage.tables import Author, Bank, BankEntry, Item, Rescan

TRIED_FOR = timedelta(days=1)
"""How long a dry run speaks for the search that follows it."""


def begin(
    session: Session,
    name: str,
    *,
    dry: bool,
    since_entry: UUID | None,
    confirmed: bool,
    anew: bool,
    actor: str,
    now: datetime,
) -> Rescan:
    """The search that was begun and not finished, to be gone on with; else a new one.

    With `since_entry` only that entry and those that were added or changed after it are looked for. A new search
    that is no dry run needs one before it, or to be `confirmed`. With `anew` an unfinished one is given up.

    Raises:
        NotFound: there is no such bank, or no such entry in it.
        InvalidInput: the bank only allows.
        Conflict: the bank is off, there was no dry run, or another search is unfinished.
    """
    bank = banks.named(session, name, lock=True)
    if bank.allow:
        raise InvalidInput(
            "An allow bank takes nothing away: there is nothing to look for. Name another bank."
        )
    if not bank.enabled and not dry:
        raise Conflict(f"Bank {name} is off: turn it on first, or see by --dry-run what it would find.")
    since = 0 if since_entry is None else banks.entry_of(session, name, since_entry)[1].version - 1
    unfinished = session.scalars(
        select(Rescan).where(Rescan.bank_id == bank.id, Rescan.dry == dry, Rescan.finished_at.is_(None))
    ).one_or_none()
    if unfinished is not None and not anew:
        if since_entry is not None and unfinished.since_version != since:
            raise Conflict(
                "A search for other entries of this bank was not finished: go on with it by leaving --since-entry "
                "out, or give it up with --anew."
            )
        return unfinished
    if unfinished is not None:
        _end(session, unfinished, "bank.rescan_given_up", actor, now)
    if not dry and not confirmed and not _tried(session, bank, since, now):
        count = remaining(session, None, lower_bound(now), now)
        raise Conflict(
            f"This would look at {count:,} items. See first by --dry-run what it finds; or say --yes."
        )
    made = Rescan(
        id=new_id(now), bank_id=bank.id, dry=dry, since_version=since, version=bank.version, started_by=actor,
        started_at=now, seen=0, matched=0, changed=0,
    )  # fmt: skip
    session.add(made)
    details = {"name": name, "dry": dry, "since": since}
    audit.record(session, [audit.Event(actor, "bank.rescan_started", "bank", str(bank.id), details)], now)
    session.flush()
    return made


def _tried(session: Session, bank: Bank, since: int, now: datetime) -> bool:
    """Whether a dry run looked for the same entries as they still are, not long ago."""
    changed = exists().where(BankEntry.bank_id == bank.id, BankEntry.version > Rescan.version)
    query = select(Rescan.id).where(
        Rescan.bank_id == bank.id,
        Rescan.dry,
        Rescan.since_version <= since,
        Rescan.finished_at >= now - TRIED_FOR,
        ~changed,
    )
    return session.scalars(query.limit(1)).first() is not None


def page(session: Session, rescan: Rescan, limit: int, now: datetime) -> Sequence[UUID]:
    """The next items that are looked at: decided ones, whose content may be shown and judged by machines."""
    wanted = _wanted(rescan.cursor, lower_bound(rescan.started_at), now)
    return session.scalars(select(Item.id).where(wanted).order_by(Item.id).limit(limit)).all()


def remaining(session: Session, cursor: UUID | None, until: UUID, now: datetime) -> int:
    """How many items there are to be looked at, those after `cursor` and before `until`."""
    return session.scalar(select(func.count()).select_from(Item).where(_wanted(cursor, until, now))) or 0


def _wanted(cursor: UUID | None, until: UUID, now: datetime) -> ColumnElement[bool]:
    # What came later was screened with the bank as it is.
    wanted = (
        (Item.id < until)
        & Item.state.in_([ItemState.DONE, ItemState.DEAD])
        & (Item.expires_at > now)
        & ~exists().where(Author.id == Item.author_id, Author.restricted_at.is_not(None))
    )
    return wanted if cursor is None else wanted & (Item.id > cursor)


def advance(session: Session, rescan: Rescan, cursor: UUID, *, seen: int, matched: int, changed: int) -> None:
    """Note how far it came, in the transaction of what was done.

    Raises:
        NotFound: its bank was deleted, or somebody gave it up.
    """
    moved = session.execute(
        update(Rescan)
        .where(Rescan.id == rescan.id, Rescan.finished_at.is_(None))
        .values(
            cursor=cursor,
            seen=Rescan.seen + seen,
            matched=Rescan.matched + matched,
            changed=Rescan.changed + changed,
        )
        .returning(Rescan.id)
        .execution_options(synchronize_session=False)
    ).all()
    if not moved:
        raise NotFound("This search was given up, or its bank was deleted; nothing more is looked for.")


def finish(session: Session, rescan_id: UUID, actor: str, now: datetime) -> Rescan:
    """The end of a search, on the record with what came of it.

    Raises:
        NotFound: its bank was deleted.
    """
    row = session.get(Rescan, rescan_id, with_for_update=True, populate_existing=True)
    if row is None:
        raise NotFound("The bank was deleted meanwhile; nothing more is looked for.")
    if row.finished_at is None:
        _end(session, row, "bank.rescan_finished", actor, now)
    return row


def _end(session: Session, row: Rescan, action: str, actor: str, now: datetime) -> None:
    row.finished_at = now
    details = {"dry": row.dry, "seen": row.seen, "matched": row.matched, "changed": row.changed}
    audit.record(session, [audit.Event(actor, action, "bank", str(row.bank_id), details)], now)
    session.flush()
