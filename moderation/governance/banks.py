"""Banks of known content, matched exactly by digest: SHA-256 of a picture's bytes or of a normalised text."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from moderation.domain.content import checked_name
from moderation.domain.errors import Conflict, InvalidInput, NotFound
from moderation.domain.signals import BankAction, Category, Match
from moderation.governance import audit
from moderation.storage.database import among
from moderation.storage.ids import new_id
from moderation.storage.tables import Bank, BankEntry

KINDS = ("image", "text")


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
    bank_id = _named(session, bank).id
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
    return _named(session, name).kind


def size(session: Session, name: str) -> int:
    """How many entries a bank has, expired ones too.

    Raises:
        NotFound: there is no such bank.
    """
    count = select(func.count()).select_from(BankEntry).where(BankEntry.bank_id == _named(session, name).id)
    return session.scalar(count) or 0


def _named(session: Session, name: str) -> Bank:
    bank = session.scalar(select(Bank).where(Bank.name == name))
    if bank is None:
        raise NotFound(f"There is no bank named {name!r}; `moderation banks create` makes one.")
    return bank


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
            or_(BankEntry.expires_at.is_(None), BankEntry.expires_at > now),
        )
        .order_by(Bank.name)
    )
    found: dict[tuple[str, bytes], list[Match]] = {}
    for kind, digest, name, entry, category, action, verified, allow in rows:
        match = Match("", name, str(entry), category, BankAction(action), verified, allow)
        found.setdefault((kind, digest), []).append(match)
    return found
