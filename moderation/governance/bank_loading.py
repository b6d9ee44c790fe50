"""Fill a bank from a list: all or nothing, with every bad line told and nothing kept of it.

A list is read once, prepared chunk by chunk and copied into a table that only this transaction sees. There it is
compared with the bank in three statements, however long it is. The bank is locked only then, so that it can be used
while a list is read, and whatever changed of it carries one version.

What an exchange takes back (`Record.gone`) leaves the bank if it came from that exchange and no other list that was
imported holds it; what people added themselves stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from moderation.domain.errors import InvalidInput
from moderation.domain.signals import BankKind
from moderation.features import near_texts
from moderation.features.header import MAX_BYTES
from moderation.governance import bank_rules, bank_staging, banks
from moderation.governance.bank_entries import PATTERN, Prepared, prepare, sealed
from moderation.governance.bank_formats import DIGEST, SHA256, Bad, Foreign, Read, Record, of_picture
from moderation.governance.bank_staging import Filled
from moderation.storage.ids import new_id
from moderation.storage.vault import Vault

CHUNK = 1_000
_DECODED_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class About:
    """What is said of every entry of a list that does not say so itself.

    No list verifies itself: with `verified` its entries are, but for those that say they are not.
    """

    note: str = ""
    verified: bool = False
    expires_at: datetime | None = None
    form: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """A file of a folder, by its number: the entry it makes."""

    line: int
    made: Prepared


def fill(
    session: Session,
    vault: Vault,
    name: str,
    records: Iterable[Read | Picture],
    about: About,
    *,
    actor: str,
    now: datetime,
    dry: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Filled:
    """Add what a list says and take out what it takes back. With `dry` only look.

    `progress` is told how many records were read since it was last told.

    Raises:
        NotFound: there is no such bank.
        InvalidInput: a note too long; an end in the past; a list that can't be read.
        TooLarge: the bank would hold more than it can; nothing is added then, and `dry` says so too.
    """
    bank = banks.named(session, name)
    bank_rules.check_about(about.note, about.expires_at, now, None)
    note = " ".join(about.note.replace("\x00", " ").encode("utf-8", "replace").decode().split())
    about = replace(about, note=note, source=bank_rules.checked_source(about.source))
    filled, patterns = Filled(), False
    with bank_staging.staged(session) as stage:
        read = iter(records)
        while chunk := list(islice(read, CHUNK)):
            rows = [
                row for one in chunk if (row := _row(vault, bank.kind, one, about, filled, now)) is not None
            ]
            patterns = patterns or any(row["form"] == PATTERN for row in rows)
            stage(rows)
            progress(len(chunk))
        if not dry:
            bank = banks.named(session, name, lock=True)
        bank_staging.settle(session, filled)
        gone = bank_staging.compare(session, bank, filled)
        room = Prepared(b"", PATTERN if patterns else None)
        if dry:
            filled.removed = len(gone)
            more = bank_staging.fresh_patterns(session, bank) if patterns else 0
            banks.check_room(session, bank, room, filled.added - filled.removed, more)
        else:
            said: dict[str, object] = {"bank": bank.name, "verified": about.verified}
            if about.source is not None:
                said["source"] = about.source
            bank_staging.apply(session, vault, bank, gone, filled, said, actor, now)
            banks.check_room(session, bank, room)
    return filled


# ---- what a record makes ----------------------------------------------------------------------------------


def _row(
    vault: Vault, kind: str, one: Read | Picture, about: About, filled: Filled, now: datetime
) -> dict[str, Any] | None:
    """The columns of an entry, or None of what was told as no use."""
    if isinstance(one, Picture):
        return _columns(vault, Record(one.line, ""), one.made, about, now)
    if isinstance(one, Record) and kind == BankKind.IMAGE and (one.value or not one.gone):
        one = of_picture(one, about.form)
    if isinstance(one, Foreign):
        filled.foreign[one.kind] += 1
        return None
    if isinstance(one, Bad):
        filled.fault(one.line, one.why)
        return None
    try:
        made = _prepared(vault, kind, one, about.form)
        if one.expires_at is not None and one.expires_at <= now:
            raise InvalidInput("This entry has ended already.")
        bank_rules.check_about(one.note, one.expires_at, now, one.category)
        bank_rules.checked_source(one.source)
    except InvalidInput as refused:
        filled.fault(one.line, refused.detail)
        return None
    return _columns(vault, one, made, about, now)


def _prepared(vault: Vault, kind: str, one: Record, form: str | None) -> Prepared:
    if one.gone and not one.value:
        return Prepared(b"")
    if kind == BankKind.TEXT and one.form == DIGEST:
        sketch = one.sketch if one.sketch and len(one.sketch) == 8 * near_texts.MINIMA else None
        return Prepared(
            bytes.fromhex(one.value), features=sketch, features_by=near_texts.MAKER if sketch else None
        )
    if kind == BankKind.IMAGE and one.form == SHA256 and one.pdq:
        return _with_hashes(one)
    return prepare(vault, kind, one.value.encode(), one.form or form)


def _with_hashes(one: Record) -> Prepared:
    """A picture that somebody else decoded, by its bytes and what finds its near copies."""
    import numpy as np

    from moderation.features import fingerprints

    bits = np.frombuffer(bytes.fromhex("".join(one.pdq)), np.uint8).reshape(-1, 32)
    kept = fingerprints.Kept(bits, None if one.phash is None else int(one.phash, 16))
    return Prepared(bytes.fromhex(one.value), features=kept.pack(), features_by=fingerprints.MAKER)


def _columns(vault: Vault, one: Record, made: Prepared, about: About, now: datetime) -> dict[str, Any]:
    identifier = new_id(now)
    return {
        "id": identifier,
        **sealed(vault, identifier, made),
        "category": one.category,
        "note": one.note or about.note,
        "source": bank_rules.checked_source(one.source) or about.source,
        "reference": one.reference[: bank_rules.NOTE_LENGTH],
        "verified": about.verified and one.verified is not False,
        "expires_at": one.expires_at or about.expires_at,
        "gone": one.gone,
    }


def pictures(vault: Vault, files: Iterable[Path]) -> Iterator[Picture | Bad]:
    """An entry for each picture file, decoded in a child process that may be killed; one too large is not read."""
    from moderation.features import fingerprints
    from moderation.features.decode import Decoder, UndecodableImage

    with Decoder() as decoder:
        numbered = enumerate(files, 1)
        while chunk := list(islice(numbered, _DECODED_AT_ONCE)):
            contents = [_content(file) for _, file in chunk]
            for (number, _), content, decoded in zip(
                chunk, contents, decoder.decode_many(contents), strict=True
            ):
                if isinstance(decoded, UndecodableImage):
                    yield Bad(number, decoded.detail)
                else:
                    kept = fingerprints.kept(decoded)
                    yield Picture(number, prepare(vault, BankKind.IMAGE, content, kept=kept))


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"{file} can't be read: {error.strerror}.") from error
