"""What a bank holds as a list that can be imported again, here or elsewhere.

Terms, links and claims leave as they are written, texts and pictures as their hashes. All of them may lead to a
person, so whoever exports a bank is on record before the first line leaves.
"""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from moderation.domain.errors import InvalidInput
from moderation.domain.signals import BankKind
from moderation.features import near_texts
from moderation.governance import audit, bank_entries, banks
from moderation.governance.bank_formats import COLUMNS, DIGEST, PDQ, SHA256, Format, Record
from moderation.storage.database import among
from moderation.storage.tables import Bank, BankEntry, BankReference
from moderation.storage.vault import Key, Vault

AT_ONCE = 2_000
WRITTEN = (Format.CSV, Format.JSONL)


def note(session: Session, name: str, format: Format, *, actor: str, now: datetime) -> int:  # noqa: A002
    """Put on record that somebody takes a list of what a bank holds; how many entries that are.

    Raises:
        NotFound: there is no such bank.
        InvalidInput: it is not written in this format.
    """
    if format not in WRITTEN:
        raise InvalidInput(f"A bank is exported as {' or '.join(WRITTEN)}; the other formats are only read.")
    bank = banks.named(session, name)
    entries = banks.count(session, bank.id, banks.live(now))
    details = {"name": name, "entries": entries, "format": str(format)}
    audit.record(session, [audit.Event(actor, "bank.exported", "bank", str(bank.id), details)], now)
    return entries


def lines(session: Session, vault: Vault, name: str, format: Format, now: datetime) -> Iterator[str]:  # noqa: A002
    """The list of the entries that are on, the oldest first.

    Raises:
        NotFound: there is no such bank.
    """
    return written(records(session, vault, banks.named(session, name), now), format)


def records(session: Session, vault: Vault, bank: Bank, now: datetime) -> Iterator[Record]:
    """The entries of a bank that are on, some at a time."""
    key = vault.account_key()
    wanted = (
        select(*_COLUMNS)
        .where(BankEntry.bank_id == bank.id, banks.live(now))
        .order_by(BankEntry.id)
        .limit(AT_ONCE)
    )
    number = 0
    rows = session.execute(wanted).all()
    while rows:
        references = _references(session, [row.id for row in rows])
        values = bank_entries.values(vault, ((row.id, row.value) for row in rows))
        for row in rows:
            number += 1
            yield replace(
                _hashed(key, bank.kind, row, values.get(row.id, "")), line=number,
                category=row.category, note=row.note, source=row.source, reference=references.get(row.id, ""),
                verified=row.verified, expires_at=row.expires_at,
            )  # fmt: skip
        rows = session.execute(wanted.where(BankEntry.id > rows[-1].id)).all()


_COLUMNS = (
    BankEntry.id, BankEntry.digest, BankEntry.form, BankEntry.category, BankEntry.note, BankEntry.source,
    BankEntry.verified, BankEntry.expires_at, BankEntry.value, BankEntry.features, BankEntry.features_by,
)  # fmt: skip


def _references(session: Session, ids: Sequence[UUID]) -> dict[UUID, str]:
    """What entries are called in the list that they are from; of several names the first."""
    named = (
        select(BankReference.entry_id, func.min(BankReference.reference))
        .join(BankEntry, BankEntry.id == BankReference.entry_id)
        .where(among(BankReference.entry_id, ids), BankReference.source == BankEntry.source)
        .group_by(BankReference.entry_id)
    )
    return {entry: reference for entry, reference in session.execute(named)}  # noqa: C416  typed rows


def _hashed(key: Key, kind: str, row: Any, value: str) -> Record:
    """What an entry says, of texts and pictures their hashes."""
    if kind == BankKind.IMAGE:
        return _picture(key, row)
    if kind != BankKind.TEXT:
        return Record(0, value, row.form)
    sketch = _features(key, row) if row.features_by == near_texts.MAKER else None
    return Record(0, row.digest.hex(), DIGEST, sketch=sketch)


def _features(key: Key, row: Any) -> bytes:
    return key.decrypt(row.features, "bank_entries", "features", str(row.id))


def _picture(key: Key, row: Any) -> Record:
    from moderation.features import fingerprints

    if row.features is None or row.features_by != fingerprints.MAKER:
        return Record(0, row.digest.hex(), SHA256)
    kept = fingerprints.Kept.unpack(_features(key, row))
    hashes = tuple(one.tobytes().hex() for one in kept.pdq)
    if row.form == PDQ:
        return Record(0, hashes[0], PDQ, pdq=hashes[1:])
    phash = None if kept.phash is None else f"{kept.phash:016x}"
    return Record(0, row.digest.hex(), SHA256, pdq=hashes, phash=phash)


# ---- writing ----------------------------------------------------------------------------------------------


def written(records: Iterable[Record], format: Format) -> Iterator[str]:  # noqa: A002  what it is
    """The lines of a list in one of our own formats, which reads as the same again."""
    if format is Format.CSV:
        yield _csv_line(COLUMNS)
    for one in records:
        fields = _fields(one)
        if format is Format.CSV:
            fields["pdq"] = " ".join(one.pdq)
            if one.verified is not None:
                fields["verified"] = "true" if one.verified else "false"
            yield _csv_line([fields.get(name) or "" for name in COLUMNS])
        elif format is Format.JSONL:
            said = {name: value for name, value in fields.items() if value not in (None, "", [])}
            yield json.dumps(said, ensure_ascii=False) + "\n"
        else:
            raise InvalidInput("A bank is exported as csv or jsonl.")


def _fields(one: Record) -> dict[str, Any]:
    return {
        "value": one.value,
        "form": one.form,
        "pdq": list(one.pdq),
        "phash": one.phash,
        "sketch": None if one.sketch is None else base64.b64encode(one.sketch).decode(),
        "category": one.category,
        "note": one.note,
        "source": one.source,
        "reference": one.reference,
        "verified": one.verified,
        "expires": None if one.expires_at is None else one.expires_at.astimezone(UTC).isoformat(),
    }


def _csv_line(fields: Iterable[object]) -> str:
    line = StringIO()
    csv.writer(line, lineterminator="\n").writerow(fields)
    return line.getvalue()
