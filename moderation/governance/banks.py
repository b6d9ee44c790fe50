"""Banks of what is known: pictures, texts, terms, links and claims, and what a match with an entry means.

What changes them, and what looks equal things up in them. What an entry is made of is in `bank_entries`, what is
told of banks in `bank_lists`, and how workers look for the rest in `pipeline.matchers`. Every change counts the
bank's `version` up in its own transaction, which is how workers see it.

`distance` says how near is near enough, and is None where only what is equal counts:
    text    the least Jaccard similarity of 5-character shingles, 0.3 to 1
    link    1: hosts that look like an entry's match too
    claim   the least cosine of two sentences, 0.5 to 1
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from moderation.domain.content import checked_name
from moderation.domain.errors import Conflict, InvalidInput, NotFound, TooLarge
from moderation.domain.signals import BankAction, BankKind, Category, Match
from moderation.governance import audit, bank_entries, bank_rules
from moderation.governance.bank_entries import Prepared, prepare, sealed
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import among
from moderation.storage.ids import new_id
from moderation.storage.tables import AuditEvent, Bank, BankEntry, Part
from moderation.storage.vault import Vault

KINDS = tuple(BankKind)
NOT_THE_SAME = "bank.not_the_same"


@dataclass(frozen=True, slots=True)
class Added:
    """An entry that is in the bank now; `fresh` if it was not before."""

    id: UUID
    fresh: bool


def create(
    session: Session,
    *,
    name: str,
    kind: str,
    category: str,
    action: str,
    allow: bool,
    actor: str,
    now: datetime,
    distance: float | None = None,
) -> UUID:
    """A new, enabled bank.

    Raises:
        InvalidInput: a field is unknown to us, or two of them don't go together.
        Conflict: the name is taken.
    """
    checked_name(name, "A bank's name")
    known = {"kind": KINDS, "category": tuple(Category), "action": tuple(BankAction)}
    for field, value in (("kind", kind), ("category", category), ("action", action)):
        if value not in known[field]:
            raise InvalidInput(f"{field} must be one of {', '.join(known[field])}.")
    if kind == BankKind.CLAIM:
        bank_rules.check_claim(action, allow=allow)
    bank_rules.check_distance(kind, distance, allow=allow)
    identifier = new_id(now)
    bank = Bank(
        id=identifier,
        name=name,
        kind=kind,
        category=category,
        action=action,
        allow=allow,
        enabled=True,
        created_at=now,
        distance=distance,
    )
    try:
        with session.begin_nested():
            session.add(bank)
    except IntegrityError as error:
        raise Conflict(f"A bank named {name!r} exists already; choose another name.") from error
    audit.record(session, [audit.Event(actor, "bank.created", "bank", str(identifier), {"name": name})], now)
    return identifier


def tune(session: Session, name: str, distance: float | None, *, actor: str, now: datetime) -> None:
    """Change how near is near enough, from the next batch on.

    Raises:
        NotFound: there is no such bank.
        InvalidInput: as in `create`.
    """
    bank = named(session, name, lock=True)
    bank_rules.check_distance(bank.kind, distance, allow=bank.allow)
    if bank.distance != distance:
        bank.distance = distance
        changed(session, bank)
        details = {"name": name, "distance": distance}
        audit.record(session, [audit.Event(actor, "bank.tuned", "bank", str(bank.id), details)], now)


def remove(session: Session, name: str, *, actor: str, now: datetime) -> int:
    """Delete a bank with its entries, and how many it had. What it decided stays decided, with its name.

    Raises:
        NotFound: there is no such bank.
    """
    bank = named(session, name)
    entries = size(session, name)
    session.execute(delete(Bank).where(Bank.id == bank.id))
    details = {"name": name, "entries": entries}
    audit.record(session, [audit.Event(actor, "bank.removed", "bank", str(bank.id), details)], now)
    return entries


def add_entry(
    session: Session,
    *,
    bank: str,
    digest: bytes,
    note: str,
    verified: bool,
    actor: str,
    now: datetime,
    expires_at: datetime | None = None,
) -> UUID:
    """Add a text or picture by its digest alone; adding it again returns the entry that is there.

    Raises:
        NotFound: there is no such bank.
        InvalidInput: the bank is of a kind that needs more than a digest.
    """
    row = named(session, bank, lock=True)
    if row.kind not in (BankKind.TEXT, BankKind.IMAGE):
        raise InvalidInput(f"A bank of {row.kind}s needs what it should look for, and not a digest.")
    columns: dict[str, object] = {"digest": digest}
    return _add(session, row, new_id(now), columns, note, actor, now, verified=verified, end=expires_at).id


def add_content(
    session: Session,
    vault: Vault,
    *,
    bank: str,
    content: bytes,
    note: str,
    verified: bool,
    actor: str,
    now: datetime,
    expires_at: datetime | None = None,
    form: str | None = None,
    category: str | None = None,
) -> Added:
    """Add a picture's bytes or what a UTF-8 text says. Of pictures and texts themselves nothing is kept.

    Raises:
        NotFound: there is no such bank.
        InvalidInput: what `bank_entries.prepare` refuses, a note too long, an end in the past.
        TooLarge: the bank is full.
    """
    row = named(session, bank, lock=True)
    bank_rules.check_about(note, expires_at, now, category)
    made = prepare(vault, row.kind, content, form)
    identifier = new_id(now)
    columns = {**sealed(vault, identifier, made), "category": category}
    added = _add(
        session, row, identifier, columns, note.strip(), actor, now, verified=verified, end=expires_at
    )
    if added.fresh:
        check_room(session, row, made)
    return added


def check_room(session: Session, bank: Bank, made: Prepared) -> None:
    """Refuse what is more than workers should hold in memory; called after the entry is written.

    Raises:
        TooLarge: the bank is full.
    """
    kind, most = BankKind(bank.kind), bank_entries.MOST.get(BankKind(bank.kind))
    if bank.distance is not None:
        most = bank_entries.MOST_NEAR.get(kind, most)
    if most is not None and count(session, bank.id) > most:
        raise TooLarge(
            f"This bank holds {most:,} entries, the most that one of its kind can; make a second bank for the rest."
        )
    patterns = BankEntry.form == bank_entries.PATTERN
    if made.form == bank_entries.PATTERN and count(session, bank.id, patterns) > bank_entries.MOST_PATTERNS:
        raise TooLarge(
            f"A bank holds {bank_entries.MOST_PATTERNS} patterns at most: each is looked for on its own. Write "
            "them as terms where they name words."
        )


def count(session: Session, bank_id: UUID, *conditions: ColumnElement[bool]) -> int:
    """How many entries of a bank there are, ended ones too; with `conditions` those that meet them."""
    statement = select(func.count()).select_from(BankEntry).where(BankEntry.bank_id == bank_id, *conditions)
    return session.scalar(statement) or 0


def _add(
    session: Session,
    bank: Bank,
    identifier: UUID,
    columns: dict[str, object],
    note: str,
    actor: str,
    now: datetime,
    *,
    verified: bool,
    end: datetime | None,
) -> Added:
    values = {
        **columns,
        "id": identifier,
        "bank_id": bank.id,
        "verified": verified,
        "note": note,
        "added_by": actor,
        "added_at": now,
        "expires_at": end,
    }
    statement = insert(BankEntry).values(values).on_conflict_do_nothing().returning(BankEntry.id)
    if session.scalar(statement) is None:
        known = select(BankEntry.id).where(
            BankEntry.bank_id == bank.id, BankEntry.digest == columns["digest"]
        )
        return Added(session.scalars(known).one(), fresh=False)
    changed(session, bank)
    _note_change(session, "bank.entry_added", bank.name, identifier, actor, now)
    return Added(identifier, fresh=True)


def changed(session: Session, bank: Bank) -> None:
    """Count the version up, for workers to see."""
    session.flush()
    session.execute(
        update(Bank)
        .where(Bank.id == bank.id)
        .values(version=Bank.version + 1)
        .execution_options(synchronize_session=False)
    )


def kind_of(session: Session, name: str) -> str:
    """What a bank holds.

    Raises:
        NotFound: there is no such bank.
    """
    return named(session, name).kind


def size(session: Session, name: str) -> int:
    """How many entries a bank has, expired ones too.

    Raises:
        NotFound: there is no such bank.
    """
    return count(session, named(session, name).id)


def named(session: Session, name: str, *, lock: bool = False) -> Bank:
    """The bank of that name; with `lock` nobody else changes it or its entries until we commit.

    Raises:
        NotFound: there is no such bank.
    """
    wanted = select(Bank).where(Bank.name == name)
    if lock:
        # Always the bank before its entries. Whoever adds a list refers to the bank meanwhile, and may.
        wanted = wanted.with_for_update(key_share=True).execution_options(populate_existing=True)
    bank = session.scalar(wanted)
    if bank is None:
        raise NotFound(f"There is no bank named {name!r}; `moderation banks create` makes one.")
    return bank


def live(now: datetime) -> ColumnElement[bool]:
    """Of entries: those that match."""
    return or_(BankEntry.expires_at.is_(None), BankEntry.expires_at > now)


def switch(session: Session, name: str, *, on: bool, actor: str, now: datetime) -> None:
    """Turn a bank on or off; what is off matches nothing from the next item on.

    Raises:
        NotFound: there is no such bank.
    """
    bank = named(session, name, lock=True)
    if bank.enabled == on:
        return
    bank.enabled = on
    changed(session, bank)
    action = "bank.enabled" if on else "bank.disabled"
    audit.record(session, [audit.Event(actor, action, "bank", str(bank.id), {"name": name})], now)


def add_part(
    session: Session,
    vault: Vault,
    blobs: FolderBlobs,
    *,
    bank: str,
    item_id: UUID,
    position: int,
    note: str,
    actor: str,
    now: datetime,
) -> UUID:
    """Bank a part of an item, as an entry that nobody has verified yet.

    Raises:
        NotFound: no such bank or part, or its content has ended.
        InvalidInput: the bank holds the other kind of content.
    """
    part = session.get(Part, (item_id, position))
    key = vault.item_keys([item_id]).get(item_id)
    if part is None or key is None:
        raise NotFound("This part is not there any more; its content has ended.")
    kind = kind_of(session, bank)
    if part.kind != kind:
        raise InvalidInput(f"Bank {bank} holds {kind}s and this part is another kind; choose another bank.")
    place = (str(item_id), str(position))
    if part.kind == "text":
        content = key.decrypt(part.content or b"", "parts", "content", *place)
    else:
        content = key.decrypt(blobs.open(part.blob or ""), "parts", "blob", *place)
    return add_content(
        session, vault, bank=bank, content=content, note=note, verified=False, actor=actor, now=now
    ).id


def verify(session: Session, name: str, entry_id: UUID, *, actor: str, now: datetime) -> None:
    """Say that an entry is what its bank claims: only then its match does what the bank asks for.

    Raises:
        NotFound: there is no such entry in this bank.
    """
    bank, entry = _entry(session, name, entry_id)
    if not entry.verified:
        entry.verified = True
        changed(session, bank)
        _note_change(session, "bank.entry_verified", name, entry_id, actor, now)


def switch_entry(session: Session, name: str, entry_id: UUID, *, on: bool, actor: str, now: datetime) -> None:
    """Have an entry match nothing any more, or match again. It stays in the list with its record.

    Raises:
        NotFound: there is no such entry in this bank.
    """
    bank, entry = _entry(session, name, entry_id)
    if (entry.expires_at is None or entry.expires_at > now) == on:
        return
    entry.expires_at = None if on else now
    changed(session, bank)
    action = "bank.entry_enabled" if on else "bank.entry_disabled"
    _note_change(session, action, name, entry_id, actor, now)


def remove_entry(session: Session, name: str, entry_id: UUID, *, actor: str, now: datetime) -> None:
    """Take an entry out of a bank; what it decided stays decided.

    Raises:
        NotFound: there is no such entry in this bank.
    """
    bank, entry = _entry(session, name, entry_id)
    session.delete(entry)
    changed(session, bank)
    _note_change(session, "bank.entry_removed", name, entry_id, actor, now)


def not_the_same(
    session: Session, name: str, entry_id: UUID, item_id: UUID, *, actor: str, now: datetime
) -> None:
    """Record that an entry did not mean this item. It counts against the bank, once for each item.

    Raises:
        NotFound: there is no such entry in this bank.
    """
    _entry(session, name, entry_id)
    said = select(AuditEvent.id).where(
        AuditEvent.subject_id == str(entry_id),
        AuditEvent.action == NOT_THE_SAME,
        AuditEvent.details["item"].astext == str(item_id),
    )
    if session.scalar(said.limit(1)) is None:
        details = {"bank": name, "item": str(item_id)}
        audit.record(session, [audit.Event(actor, NOT_THE_SAME, "bank_entry", str(entry_id), details)], now)


def _note_change(session: Session, action: str, name: str, entry_id: UUID, actor: str, now: datetime) -> None:
    audit.record(session, [audit.Event(actor, action, "bank_entry", str(entry_id), {"bank": name})], now)


def _entry(session: Session, name: str, entry_id: UUID) -> tuple[Bank, BankEntry]:
    bank = named(session, name, lock=True)
    entry = session.get(BankEntry, entry_id, populate_existing=True)
    if entry is None or entry.bank_id != bank.id:
        raise NotFound(f"Bank {name} has no such entry; somebody may have removed it. Load the page again.")
    return bank, entry


def lookup(
    session: Session, digests: Collection[tuple[str, bytes]], now: datetime, only: str | None = None
) -> dict[tuple[str, bytes], list[Match]]:
    """The live entries for `(kind, digest)` pairs. `Match.part` is left empty for the caller to fill.

    Of the banks that are on; with `only` of that one alone, be it on or off.
    """
    if not digests:
        return {}
    rows = session.execute(
        select(
            Bank.kind,
            BankEntry.digest,
            Bank.name,
            BankEntry.id,
            func.coalesce(BankEntry.category, Bank.category),
            Bank.action,
            BankEntry.verified,
            Bank.allow,
        )
        .join(BankEntry, BankEntry.bank_id == Bank.id)
        .where(
            among(BankEntry.digest, {digest for _, digest in digests}),
            Bank.enabled if only is None else Bank.name == only,
            live(now),
        )
        .order_by(Bank.name)
    )
    found: dict[tuple[str, bytes], list[Match]] = {}
    for kind, digest, name, entry, category, action, verified, allow in rows:
        match = Match("", name, str(entry), category, BankAction(action), verified, allow)
        found.setdefault((kind, digest), []).append(match)
    return found
