"""What people say of a bank's entries: that one is verified, may go on, is off; and that it does not mean an item.

"Not the same" lowers an entry. The first time it is not verified any more, so that it asks people from then on;
when it was said of three items within 30 days it is turned off. A lead may turn it on, and verify it, again.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from moderation.domain.errors import Conflict, InvalidInput
from moderation.governance import audit
from moderation.governance.banks import NOT_THE_SAME, entry_of, note_change, stamp
from moderation.storage.ids import lower_bound
from moderation.storage.tables import AuditEvent, Bank, BankEntry, Case, Decision

COUNTED_FOR = timedelta(days=30)
OFF_AT = 3
"""Items within `COUNTED_FOR` of which people said that an entry does not mean them."""


class Lowered(StrEnum):
    """What "not the same" did to an entry."""

    NOTHING = "nothing"  # it only asked people before, or it is off
    DOUBTED = "doubted"
    OFF = "off"


_TOLD = {Lowered.DOUBTED: "bank.entry_doubted", Lowered.OFF: "bank.entry_disabled"}


def verify(session: Session, name: str, entry_id: UUID, *, actor: str, now: datetime) -> None:
    """Say that an entry is what its bank claims: only then its match does what the bank asks for.

    Raises:
        NotFound: there is no such entry in this bank.
    """
    bank, entry = entry_of(session, name, entry_id)
    if not entry.verified:
        entry.verified = True
        _changed(session, bank, entry, "bank.entry_verified", actor, now)


def release(session: Session, name: str, entry_id: UUID, *, actor: str, now: datetime) -> None:
    """Let an entry in quarantine go on: somebody looked, and it matches so much because it is right.

    Raises:
        NotFound: there is no such entry in this bank.
        Conflict: it is in no quarantine.
    """
    bank, entry = entry_of(session, name, entry_id)
    if entry.quarantined_at is None:
        raise Conflict("This entry is in no quarantine; somebody may have released it. Load the page again.")
    entry.quarantined_at, entry.released_at = None, now
    _changed(session, bank, entry, "bank.entry_released", actor, now)


def switch_entry(session: Session, name: str, entry_id: UUID, *, on: bool, actor: str, now: datetime) -> None:
    """Have an entry match nothing any more, or match again. It stays in the list with its record.

    Raises:
        NotFound: there is no such entry in this bank.
    """
    bank, entry = entry_of(session, name, entry_id)
    if _on(entry, now) != on:
        entry.expires_at = None if on else now
        _changed(session, bank, entry, "bank.entry_enabled" if on else "bank.entry_disabled", actor, now)


def not_the_same(
    session: Session, name: str, entry_id: UUID, item_id: UUID, *, actor: str, now: datetime
) -> Lowered:
    """Record that an entry did not mean this item, and lower the entry; once for each item.

    Raises:
        NotFound: there is no such entry in this bank.
    """
    bank, entry = entry_of(session, name, entry_id)
    said = select(AuditEvent.id).where(
        AuditEvent.subject_id == str(entry_id),
        AuditEvent.action == NOT_THE_SAME,
        AuditEvent.details["item"].astext == str(item_id),
    )
    if session.scalar(said.limit(1)) is not None:
        return Lowered.NOTHING
    lowered = _lowered(session, entry, now)
    # In one call, so that the log has them in this order.
    subject = ("bank_entry", str(entry_id))
    events = [audit.Event(actor, NOT_THE_SAME, *subject, {"bank": name, "item": str(item_id)})]
    if lowered is not Lowered.NOTHING:
        entry.version = stamp(session, bank)
        events.append(audit.Event(actor, _TOLD[lowered], *subject, {"bank": name}))
    audit.record(session, events, now)
    return lowered


def check_matched(session: Session, entry_id: UUID, item_id: UUID) -> None:
    """Refuse to hear of an entry and an item that have nothing to do with each other.

    Raises:
        InvalidInput: the entry never matched the item.
    """
    named = [{"entry": str(entry_id)}]
    decided = select(Decision.id).where(Decision.item_id == item_id, Decision.matches.contains(named))
    found = select(Case.id).where(Case.item_id == item_id, Case.matches.contains(named))
    if not session.scalar(select(or_(decided.exists(), found.exists()))):
        raise InvalidInput("This entry did not match this item, so nothing was noted; load the case again.")


def _lowered(session: Session, entry: BankEntry, now: datetime) -> Lowered:
    """Lower an entry that one more item is said not to be."""
    if not _on(entry, now):
        return Lowered.NOTHING
    if _said_lately(session, entry.id, now) + 1 >= OFF_AT:
        entry.expires_at, entry.verified = now, False
        return Lowered.OFF
    if entry.verified:
        entry.verified = False
        return Lowered.DOUBTED
    return Lowered.NOTHING


def _said_lately(session: Session, entry_id: UUID, now: datetime) -> int:
    """Of how many items it was said within `COUNTED_FOR`."""
    items = select(func.count(AuditEvent.details["item"].astext.distinct())).where(
        AuditEvent.subject_id == str(entry_id),
        AuditEvent.action == NOT_THE_SAME,
        AuditEvent.id >= lower_bound(now - COUNTED_FOR),
    )
    return session.scalar(items) or 0


def _on(entry: BankEntry, now: datetime) -> bool:
    return entry.expires_at is None or entry.expires_at > now


def _changed(session: Session, bank: Bank, entry: BankEntry, action: str, actor: str, now: datetime) -> None:
    entry.version = stamp(session, bank)
    note_change(session, action, bank.name, entry.id, actor, now)
