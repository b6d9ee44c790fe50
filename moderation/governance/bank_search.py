"""Find entries of a bank by what somebody has of them: what they say, why or by whom they were added, a hash."""

from __future__ import annotations

import re
from contextlib import suppress
from uuid import UUID

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from moderation.domain.errors import InvalidInput
from moderation.domain.signals import BankKind
from moderation.features.folding import folded
from moderation.governance import bank_entries
from moderation.governance.bank_entries import PATTERN
from moderation.governance.bank_formats import PDQ, SHA256
from moderation.storage.database import among
from moderation.storage.tables import Bank, BankEntry
from moderation.storage.vault import Vault

LENGTH = 500
OPENED = 100_000
"""Entries that are opened to look into them, the newest."""
MOST = 1_000
_HEX = re.compile(r"[0-9a-f]{6,64}")


def found(session: Session, vault: Vault | None, bank: Bank, written: str) -> ColumnElement[bool]:
    """The condition for entries of a bank that are meant by `written`.

    Their note, source or whoever added them holds it, it is their id or the beginning of their digest; with
    `vault` also those that equal it, or say it within.

    Raises:
        InvalidInput: too long to be looked for.
    """
    words = " ".join(written.replace("\x00", " ").split())
    if len(words) > LENGTH:
        raise InvalidInput(f"Look for {LENGTH} characters at most.")
    meant = [
        BankEntry.note.icontains(words, autoescape=True),
        BankEntry.source.icontains(words, autoescape=True),
        BankEntry.added_by.icontains(words, autoescape=True),
    ]
    with suppress(ValueError):
        meant.append(BankEntry.id == UUID(words))
    if _HEX.fullmatch(words.lower()):
        meant.append(func.encode(BankEntry.digest, "hex").startswith(words.lower()))
    if vault is not None:
        digests = _digests(vault, bank.kind, written)
        if digests:
            meant.append(among(BankEntry.digest, digests))
        if bank.kind in (BankKind.TERM, BankKind.LINK, BankKind.CLAIM):
            meant.append(among(BankEntry.id, _saying(session, vault, bank.id, words)))
    return or_(*meant)


def _digests(vault: Vault, kind: str, written: str) -> list[bytes]:
    """By what an entry would be found that somebody added with these words."""
    forms: dict[str, tuple[str | None, ...]] = {
        BankKind.TERM: (None, PATTERN), BankKind.IMAGE: (PDQ, SHA256)
    }  # fmt: skip
    made = []
    for form in forms.get(kind, (None,)):
        with suppress(InvalidInput):  # then it can't be an entry
            made.append(bank_entries.prepare(vault, kind, written.encode("utf-8", "replace"), form).digest)
    return made


def _saying(session: Session, vault: Vault, bank_id: UUID, words: str) -> list[UUID]:
    """The newest entries that hold these words, `MOST` at most."""
    sought = folded(words)
    ids: list[UUID] = []
    rows = session.execute(
        select(BankEntry.id, BankEntry.value)
        .where(BankEntry.bank_id == bank_id, BankEntry.value.is_not(None))
        .order_by(BankEntry.id.desc())
        .limit(OPENED)
    )
    for some in rows.partitions(MOST):
        said = bank_entries.values(vault, ((row.id, row.value) for row in some))
        ids += [identifier for identifier, value in said.items() if sought in folded(value)]
        if len(ids) >= MOST:
            break
    return ids[:MOST]
