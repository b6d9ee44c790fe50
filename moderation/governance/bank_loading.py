"""Fill a bank from a list: one value a line, all or nothing, with every bad line told and nothing kept of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from moderation.domain.errors import InvalidInput
from moderation.domain.signals import BankKind
from moderation.governance import audit, bank_rules, banks
from moderation.governance.bank_entries import Prepared, prepare, sealed
from moderation.storage.database import among
from moderation.storage.ids import new_id
from moderation.storage.tables import Bank, BankEntry
from moderation.storage.vault import Vault

CHUNK = 1_000
TOLD = 20
"""Bad lines that are told one by one."""


@dataclass(slots=True)
class Filled:
    """What came of a list: how many are new, were in the bank, stood twice in the list, or can't be matched."""

    added: int = 0
    known: int = 0
    repeated: int = 0
    bad: int = 0
    faults: list[tuple[int, str]] = field(default_factory=list)  # line and why, the first `TOLD`


@dataclass(frozen=True, slots=True)
class About:
    """What is said of every entry of a list."""

    note: str = ""
    verified: bool = False
    expires_at: datetime | None = None
    form: str | None = None


def fill(
    session: Session,
    vault: Vault,
    name: str,
    lines: Sequence[str],
    about: About,
    *,
    actor: str,
    now: datetime,
    dry: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Filled:
    """Add each line as an entry; empty ones and those that begin with `# ` are left out. With `dry` only look.

    `progress` is told how many lines were read since it was last told.

    Raises:
        NotFound: there is no such bank.
        InvalidInput: the bank holds pictures; a note too long; an end in the past.
        TooLarge: the bank would hold more than it can; nothing is added then.
    """
    bank = banks.named(session, name)
    if bank.kind == BankKind.IMAGE:
        raise InvalidInput("This bank holds pictures; name their files instead of a list.")
    bank_rules.check_about(about.note, about.expires_at, now, None)
    filled, seen = Filled(), set[bytes]()
    last: Prepared | None = None
    for chunk in _chunks(lines):
        made = _prepared(vault, bank.kind, chunk, about.form, filled, seen)
        fresh = _unknown(session, bank, made)
        filled.known += len(made) - len(fresh)
        filled.added += len(fresh) if dry else _insert(session, vault, bank, fresh, about, actor, now)
        last = next((one for one in fresh if one.form == "pattern"), fresh[-1] if fresh else last)
        progress(len(chunk))
    if filled.added and last is not None and not dry:
        banks.check_room(session, bank, last)
        banks.changed(session, bank)
        details = {"bank": name, "entries": filled.added, "verified": about.verified}
        audit.record(session, [audit.Event(actor, "bank.entries_added", "bank", str(bank.id), details)], now)
    return filled


def _chunks(lines: Sequence[str]) -> Iterator[list[tuple[int, str]]]:
    for start in range(0, len(lines), CHUNK):
        yield list(enumerate(lines[start : start + CHUNK], start + 1))


def _prepared(
    vault: Vault,
    kind: str,
    chunk: Sequence[tuple[int, str]],
    form: str | None,
    filled: Filled,
    seen: set[bytes],
) -> list[Prepared]:
    made = []
    for number, line in chunk:
        value = line.removeprefix("\ufeff").strip()
        if not value or value.startswith("# "):
            continue
        try:
            one = prepare(vault, kind, value.encode("utf-8", "surrogateescape"), form)
        except InvalidInput as refused:
            filled.bad += 1
            if len(filled.faults) < TOLD:
                filled.faults.append((number, refused.detail))
            continue
        if one.digest in seen:
            filled.repeated += 1
            continue
        seen.add(one.digest)
        made.append(one)
    return made


def _unknown(session: Session, bank: Bank, made: Sequence[Prepared]) -> list[Prepared]:
    digests = select(BankEntry.digest).where(
        BankEntry.bank_id == bank.id, among(BankEntry.digest, {one.digest for one in made})
    )
    known = set(session.scalars(digests))
    return [one for one in made if one.digest not in known]


def _insert(
    session: Session,
    vault: Vault,
    bank: Bank,
    made: Sequence[Prepared],
    about: About,
    actor: str,
    now: datetime,
) -> int:
    rows = []
    for one in made:
        identifier = new_id(now)
        rows.append(
            {
                "id": identifier,
                "bank_id": bank.id,
                "verified": about.verified,
                "note": about.note.strip(),
                "added_by": actor,
                "added_at": now,
                "expires_at": about.expires_at,
                **sealed(vault, identifier, one),
            }
        )
    if not rows:
        return 0
    before = banks.count(session, bank.id)
    # Somebody else may add the same at this moment: theirs stays.
    session.connection().execute(insert(BankEntry).on_conflict_do_nothing(), rows)
    return banks.count(session, bank.id) - before
