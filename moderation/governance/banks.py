"""Banks of known content, matched exactly by digest: SHA-256 of a picture's bytes or of a normalised text.

What changes them, and what looks things up in them. What is told of them is in `bank_lists`.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from moderation.domain.content import checked_name
from moderation.domain.errors import Conflict, InvalidInput, NotFound
from moderation.domain.signals import BankAction, Category, Match
from moderation.features.hashes import sha256, text_digest
from moderation.governance import audit
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import among
from moderation.storage.ids import new_id
from moderation.storage.tables import AuditEvent, Bank, BankEntry, Part
from moderation.storage.vault import Vault

KINDS = ("image", "text")
NOTE_LENGTH = 300
NOT_THE_SAME = "bank.not_the_same"


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
) -> UUID:
    """A new, enabled bank.

    Raises:
        InvalidInput: a field is unknown to us.
        Conflict: the name is taken.
    """
    checked_name(name, "A bank's name")
    known = {"kind": KINDS, "category": tuple(Category), "action": tuple(BankAction)}
    for field, value in (("kind", kind), ("category", category), ("action", action)):
        if value not in known[field]:
            raise InvalidInput(f"{field} must be one of {', '.join(known[field])}.")
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
    )
    try:
        with session.begin_nested():
            session.add(bank)
    except IntegrityError as error:
        raise Conflict(f"A bank named {name!r} exists already; choose another name.") from error
    audit.record(session, [audit.Event(actor, "bank.created", "bank", str(identifier), {"name": name})], now)
    return identifier


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
    """Add a digest to a bank; adding it again returns the entry that is there.

    Raises:
        NotFound: there is no such bank.
    """
    bank_id = named(session, bank).id
    identifier: UUID | None = session.scalar(
        insert(BankEntry)
        .values(
            id=new_id(now),
            bank_id=bank_id,
            digest=digest,
            verified=verified,
            note=note,
            added_by=actor,
            added_at=now,
            expires_at=expires_at,
        )
        .on_conflict_do_nothing()
        .returning(BankEntry.id)
    )
    if identifier is None:
        return session.scalars(
            select(BankEntry.id).where(BankEntry.bank_id == bank_id, BankEntry.digest == digest)
        ).one()
    audit.record(
        session, [audit.Event(actor, "bank.entry_added", "bank_entry", str(identifier), {"bank": bank})], now
    )
    return identifier


def kind_of(session: Session, name: str) -> str:
    """Whether a bank holds images or texts.

    Raises:
        NotFound: there is no such bank.
    """
    return named(session, name).kind


def size(session: Session, name: str) -> int:
    """How many entries a bank has, expired ones too.

    Raises:
        NotFound: there is no such bank.
    """
    count = select(func.count()).select_from(BankEntry).where(BankEntry.bank_id == named(session, name).id)
    return session.scalar(count) or 0


def named(session: Session, name: str) -> Bank:
    """The bank of that name.

    Raises:
        NotFound: there is no such bank.
    """
    bank = session.scalar(select(Bank).where(Bank.name == name))
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
    bank = named(session, name)
    if bank.enabled == on:
        return
    bank.enabled = on
    session.flush()
    action = "bank.enabled" if on else "bank.disabled"
    audit.record(session, [audit.Event(actor, action, "bank", str(bank.id), {"name": name})], now)


def add_content(
    session: Session,
    *,
    bank: str,
    content: bytes,
    note: str,
    verified: bool,
    actor: str,
    now: datetime,
    expires_at: datetime | None = None,
) -> UUID:
    """Add a picture's bytes or a UTF-8 text to a bank, by digest: the content itself is not kept.

    Raises:
        NotFound: there is no such bank.
        InvalidInput: empty, not UTF-8 where the bank holds texts, a note too long, an end in the past.
    """
    if not content.strip():
        raise InvalidInput("There is nothing to add: write a text, or choose a file.")
    if len(note) > NOTE_LENGTH:
        raise InvalidInput(f"A note has {NOTE_LENGTH} characters at most; this one has {len(note)}.")
    if expires_at is not None and expires_at <= now:
        raise InvalidInput("An entry must end in the future; choose a later date, or none.")
    digest = sha256(content) if kind_of(session, bank) == "image" else text_digest(_utf8(content))
    return add_entry(
        session,
        bank=bank,
        digest=digest,
        note=note.strip(),
        verified=verified,
        actor=actor,
        now=now,
        expires_at=expires_at,
    )


def _utf8(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput("This bank holds texts, and the file is not UTF-8 text.") from error


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
    return add_content(session, bank=bank, content=content, note=note, verified=False, actor=actor, now=now)


def verify(session: Session, name: str, entry_id: UUID, *, actor: str, now: datetime) -> None:
    """Say that an entry is what its bank claims: only then its match does what the bank asks for.

    Raises:
        NotFound: there is no such entry in this bank.
    """
    entry = _entry(session, name, entry_id)
    if not entry.verified:
        entry.verified = True
        session.flush()
        _note_change(session, "bank.entry_verified", name, entry_id, actor, now)


def switch_entry(session: Session, name: str, entry_id: UUID, *, on: bool, actor: str, now: datetime) -> None:
    """Have an entry match nothing any more, or match again. It stays in the list with its record.

    Raises:
        NotFound: there is no such entry in this bank.
    """
    entry = _entry(session, name, entry_id)
    if (entry.expires_at is None or entry.expires_at > now) == on:
        return
    entry.expires_at = None if on else now
    session.flush()
    action = "bank.entry_enabled" if on else "bank.entry_disabled"
    _note_change(session, action, name, entry_id, actor, now)


def remove_entry(session: Session, name: str, entry_id: UUID, *, actor: str, now: datetime) -> None:
    """Take an entry out of a bank; what it decided stays decided.

    Raises:
        NotFound: there is no such entry in this bank.
    """
    session.delete(_entry(session, name, entry_id))
    session.flush()
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


def _entry(session: Session, name: str, entry_id: UUID) -> BankEntry:
    entry = session.get(BankEntry, entry_id)
    if entry is None or entry.bank_id != named(session, name).id:
        raise NotFound(f"Bank {name} has no such entry; somebody may have removed it. Load the page again.")
    return entry


def lookup(
    session: Session, digests: Collection[tuple[str, bytes]], now: datetime
) -> dict[tuple[str, bytes], list[Match]]:
    """The live entries for `(kind, digest)` pairs. `Match.part` is left empty for the caller to fill."""
    if not digests:
        return {}
    rows = session.execute(
        select(
            Bank.kind,
            BankEntry.digest,
            Bank.name,
            BankEntry.id,
            Bank.category,
            Bank.action,
            BankEntry.verified,
            Bank.allow,
        )
        .join(BankEntry, BankEntry.bank_id == Bank.id)
        .where(
            among(BankEntry.digest, {digest for _, digest in digests}),
            Bank.enabled,
            live(now),
        )
        .order_by(Bank.name)
    )
    found: dict[tuple[str, bytes], list[Match]] = {}
    for kind, digest, name, entry, category, action, verified, allow in rows:
        match = Match("", name, str(entry), category, BankAction(action), verified, allow)
        found.setdefault((kind, digest), []).append(match)
    return found
