"""Banks of what is known: pictures, texts, terms, links and claims, and what a match with an entry means.

What makes them and fills them, and what looks equal things up in them. What an entry is made of is in
`bank_entries`, what people say of entries in `bank_judging`, what is told of banks in `bank_lists`, and how
workers look for what is not equal in `pipeline.matchers` and `pipeline.pictures`.

Every change locks the bank's row and counts its `version` up (`stamp`), and what it concerns carries that
version: `bank_entries.version` of an entry that was added or changed, `bank_removals` of one that is gone. So
versions are in the order of commits, and whoever holds a copy of a bank reads what is newer than theirs.

`distance` says how near is near enough; where it is None only what is equal counts, unless said otherwise:
    text    the least Jaccard similarity of 5-character shingles, 0.3 to 1
    link    1: hosts that look like an entry's match too
    claim   the least cosine of two sentences, 0.5 to 1; None: 0.75
    image   the most bits of 256 in which two hashes differ, 0 to 48; None: 31
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict, Unpack, cast
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from moderation.domain.content import checked_name
from moderation.domain.errors import Conflict, InvalidInput, NotFound, TooLarge
from moderation.domain.signals import BankAction, BankKind, Category, Match
from moderation.features.fingerprints import Kept
from moderation.governance import audit, bank_entries, bank_rules
from moderation.governance.bank_entries import Prepared, prepare, sealed
from moderation.storage.database import among, insert_many
from moderation.storage.ids import new_id
from moderation.storage.tables import Bank, BankEntry, BankRemoval
from moderation.storage.vault import Vault

KINDS = tuple(BankKind)
NOT_THE_SAME = "bank.not_the_same"


@dataclass(frozen=True, slots=True)
class Added:
    """An entry that is in the bank now: `fresh` if it was not before, `near` if what is like it can match too."""

    id: UUID
    fresh: bool
    near: bool = True


class Tuning(TypedDict, total=False):
    """What can be changed of a bank; what is not named stays as it is."""

    distance: float | None
    sample_share: float
    source: str | None


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
    sample_share: float = 1.0,
    source: str | None = None,
) -> UUID:
    """A new, enabled bank. Of the items that match, only a `sample_share` is acted on; the others get a label.

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
    distance = bank_rules.checked_distance(kind, distance, allow=allow)
    bank_rules.check_share(sample_share, action, allow=allow)
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
        sample_share=sample_share,
        source=bank_rules.checked_source(source),
    )
    try:
        with session.begin_nested():
            session.add(bank)
    except IntegrityError as error:
        raise Conflict(f"A bank named {name!r} exists already; choose another name.") from error
    audit.record(session, [audit.Event(actor, "bank.created", "bank", str(identifier), {"name": name})], now)
    return identifier


def tune(session: Session, name: str, *, actor: str, now: datetime, **wanted: Unpack[Tuning]) -> None:
    """Change how near is near enough, on which share of the items a match acts, or whose list it is.

    Raises:
        NotFound: there is no such bank.
        InvalidInput: as in `create`.
        TooLarge: with this distance workers would hold more entries in memory than they should.
    """
    bank = named(session, name, lock=True)
    if "distance" in wanted:
        wanted["distance"] = bank_rules.checked_distance(bank.kind, wanted["distance"], allow=bank.allow)
    if "sample_share" in wanted:
        bank_rules.check_share(wanted["sample_share"], bank.action, allow=bank.allow)
    if "source" in wanted:
        wanted["source"] = bank_rules.checked_source(wanted["source"])
    fresh: dict[str, Any] = {key: value for key, value in wanted.items() if getattr(bank, key) != value}
    if fresh:
        for key, value in fresh.items():
            setattr(bank, key, value)
        stamp(session, bank)
        if "distance" in fresh:
            check_room(session, bank, Prepared(b""))
        audit.record(
            session, [audit.Event(actor, "bank.tuned", "bank", str(bank.id), {"name": name, **fresh})], now
        )


def remove(session: Session, name: str, *, actor: str, now: datetime) -> int:
    """Delete a bank with its entries, and how many it had. What it decided stays decided, with its name.

    Raises:
        NotFound: there is no such bank.
    """
    bank = named(session, name, lock=True)
    entries = count(session, bank.id)
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
    about: dict[str, object] = {
        "note": note, "verified": verified, "added_by": actor, "added_at": now, "expires_at": expires_at
    }  # fmt: skip
    return _add(session, row, new_id(now), {"digest": digest}, about).id


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
    source: str | None = None,
    kept: Kept | None = None,
) -> Added:
    """Add a picture's bytes, or what a UTF-8 text says. Of pictures and texts themselves nothing is kept.

    `kept` are the hashes of the picture, which the caller has decoded in a child; without them only its bytes are
    known again. A picture that is known by its bytes alone gets them when it is added with them.

    Raises:
        NotFound: there is no such bank.
        InvalidInput: what `bank_entries.prepare` refuses, a note too long, an end in the past.
        TooLarge: the bank is full.
    """
    row = named(session, bank, lock=True)
    bank_rules.check_about(note, expires_at, now, category)
    made = prepare(vault, row.kind, content, form, kept)
    identifier = new_id(now)
    about = {
        "note": note.strip(), "verified": verified, "added_by": actor, "added_at": now, "expires_at": expires_at,
        "category": category, "source": bank_rules.checked_source(source),
    }  # fmt: skip
    added = _add(session, row, identifier, sealed(vault, identifier, made), about)
    if added.fresh:
        check_room(session, row, made)
    elif made.features is not None and not added.near:
        _complete(session, vault, row, added.id, made, actor, now)
        return Added(added.id, fresh=False)
    return added


def _complete(
    session: Session, vault: Vault, bank: Bank, entry_id: UUID, made: Prepared, actor: str, now: datetime
) -> None:
    """Give an entry that was known by a digest alone what near copies are found by."""
    columns = sealed(vault, entry_id, made)
    session.execute(
        update(BankEntry)
        .where(BankEntry.id == entry_id)
        .values(
            features=columns["features"], features_by=columns["features_by"], form=made.form,
            version=stamp(session, bank),
        )
        .execution_options(synchronize_session=False)
    )  # fmt: skip
    note_change(session, "bank.entry_completed", bank.name, entry_id, actor, now)


def check_room(session: Session, bank: Bank, made: Prepared, more: int = 0, patterns: int = 0) -> None:
    """Refuse what is more than workers should hold in memory; called after the entry is written.

    `more` entries are to be added yet, `patterns` of them patterns.

    Raises:
        TooLarge: the bank is full.
    """
    kind, most = BankKind(bank.kind), bank_entries.MOST.get(BankKind(bank.kind))
    if bank.distance is not None:
        most = bank_entries.MOST_NEAR.get(kind, most)
    if most is not None and count(session, bank.id) + more > most:
        raise TooLarge(
            f"This bank holds {most:,} entries, the most that one of its kind can; make a second bank for the rest."
        )
    of_patterns = BankEntry.form == bank_entries.PATTERN
    if (
        made.form == bank_entries.PATTERN
        and count(session, bank.id, of_patterns) + patterns > bank_entries.MOST_PATTERNS
    ):
        raise TooLarge(
            f"A bank holds {bank_entries.MOST_PATTERNS} patterns at most: each is looked for on its own. Write "
            "them as terms where they name words."
        )


def count(session: Session, bank_id: UUID, *conditions: ColumnElement[bool]) -> int:
    """How many entries of a bank there are, ended ones too; with `conditions` those that meet them."""
    statement = select(func.count()).select_from(BankEntry).where(BankEntry.bank_id == bank_id, *conditions)
    return session.scalar(statement) or 0


def _add(
    session: Session, bank: Bank, identifier: UUID, columns: dict[str, object], about: dict[str, object]
) -> Added:
    known = select(BankEntry.id, BankEntry.features.is_not(None)).where(
        BankEntry.bank_id == bank.id, BankEntry.digest == columns["digest"]
    )
    if there := session.execute(known).one_or_none():
        return Added(there[0], fresh=False, near=there[1])
    values = {**columns, **about, "id": identifier, "bank_id": bank.id, "version": stamp(session, bank)}
    session.execute(insert(BankEntry).values(values))
    actor, now = str(about["added_by"]), cast("datetime", about["added_at"])
    note_change(session, "bank.entry_added", bank.name, identifier, actor, now)
    return Added(identifier, fresh=True, near=columns.get("features") is not None)


def stamp(session: Session, bank: Bank) -> int:
    """Lock the bank until we commit and count its version up: the version of whatever changes with it."""
    session.flush()
    counted = session.execute(
        update(Bank)
        .where(Bank.id == bank.id)
        .values(version=Bank.version + 1)
        .returning(Bank.version)
        .execution_options(synchronize_session=False)
    )
    return counted.scalar_one()


def kind_of(session: Session, name: str) -> str:
    """What a bank holds.

    Raises:
        NotFound: there is no such bank.
    """
    return named(session, name).kind


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
    stamp(session, bank)
    action = "bank.enabled" if on else "bank.disabled"
    audit.record(session, [audit.Event(actor, action, "bank", str(bank.id), {"name": name})], now)


def remove_entry(session: Session, name: str, entry_id: UUID, *, actor: str, now: datetime) -> None:
    """Take an entry out of a bank; what it decided stays decided.

    Raises:
        NotFound: there is no such entry in this bank.
    """
    bank, entry = entry_of(session, name, entry_id)
    take_out(session, bank, [entry.id], now)
    note_change(session, "bank.entry_removed", name, entry_id, actor, now)


def take_out(session: Session, bank: Bank, ids: Sequence[UUID], now: datetime) -> None:
    """Delete entries of a bank that is locked, so that whoever holds a copy hears of it."""
    version = stamp(session, bank)
    session.execute(delete(BankEntry).where(among(BankEntry.id, ids)))
    rows = [{"bank_id": bank.id, "version": version, "entry_id": one, "removed_at": now} for one in ids]
    insert_many(session, BankRemoval, rows)


def note_change(session: Session, action: str, name: str, entry_id: UUID, actor: str, now: datetime) -> None:
    """Put a change of an entry on the record."""
    audit.record(session, [audit.Event(actor, action, "bank_entry", str(entry_id), {"bank": name})], now)


def entry_of(session: Session, name: str, entry_id: UUID) -> tuple[Bank, BankEntry]:
    """A bank, locked, and an entry of it as it is now.

    Raises:
        NotFound: there is no such entry in this bank.
    """
    bank = named(session, name, lock=True)
    entry = session.get(BankEntry, entry_id, populate_existing=True)
    if entry is None or entry.bank_id != bank.id:
        raise NotFound(f"Bank {name} has no such entry; somebody may have removed it. Load the page again.")
    return bank, entry


AS_MATCHED = (
    BankEntry.id,
    Bank.name,
    func.coalesce(BankEntry.category, Bank.category).label("category"),
    Bank.action,
    BankEntry.verified,
    Bank.allow,
    func.coalesce(BankEntry.source, Bank.source).label("source"),
    BankEntry.quarantined_at.is_not(None).label("quarantined"),
    Bank.sample_share,
)
"""What a match says of its entry: columns of entries joined with their banks, for `as_match`."""


def as_match(row: Any) -> Match:
    """A match with the entry of a row of `AS_MATCHED`; how it was found, and where, is the caller's to say."""
    return Match(
        part="",
        bank=row.name,
        entry=str(row.id),
        category=row.category,
        action=BankAction(row.action),
        verified=row.verified,
        allow=row.allow,
        source=row.source,
        quarantined=row.quarantined,
        share=row.sample_share,
    )


def lookup(
    session: Session, digests: Collection[tuple[str, bytes]], now: datetime, only: str | None = None
) -> dict[tuple[str, bytes], list[Match]]:
    """The live entries for `(kind, digest)` pairs. `Match.part` is left empty for the caller to fill.

    Of the banks that are on; with `only` of that one alone, be it on or off.
    """
    if not digests:
        return {}
    rows = session.execute(
        select(Bank.kind, BankEntry.digest, *AS_MATCHED)
        .join(BankEntry, BankEntry.bank_id == Bank.id)
        .where(
            among(BankEntry.digest, {digest for _, digest in digests}),
            Bank.enabled if only is None else Bank.name == only,
            live(now),
        )
        .order_by(Bank.name)
    )
    found: dict[tuple[str, bytes], list[Match]] = {}
    for row in rows:
        found.setdefault((row.kind, row.digest), []).append(as_match(row))
    return found
