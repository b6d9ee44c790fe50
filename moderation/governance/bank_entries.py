"""What an entry of a bank is made of: its digest, and whatever else a match needs, encrypted.

Texts and pictures leave a digest and what near copies are found by: texts a sketch, pictures their hashes. A
picture can be known by a hash alone, from somebody else's list. Terms, links and claims are kept as they are
written, because a matcher has to read them; they may name people, so they are encrypted, and their digest is
keyed: the plain one of a telephone number could be guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.orm import Session

from moderation.domain.errors import InvalidInput
from moderation.domain.signals import BankKind
from moderation.features import addresses, claims, fingerprints, near_texts, terms
from moderation.features.fingerprints import Kept
from moderation.features.folding import folded
from moderation.features.hashes import sha256, text_digest
from moderation.features.terms import Unusable
from moderation.governance import bank_formats
from moderation.governance.bank_formats import PDQ, SHA256
from moderation.storage.database import among
from moderation.storage.tables import BankEntry
from moderation.storage.vault import Vault

LITERAL, PATTERN = "literal", "pattern"
MOST_PATTERNS = 200
MOST = {BankKind.TERM: 100_000, BankKind.LINK: 200_000, BankKind.CLAIM: 10_000}
"""Entries that every worker holds in memory, of one bank."""
MOST_NEAR = {BankKind.TEXT: 200_000, BankKind.LINK: 10_000}
"""The same where near ones are looked for too."""
CLAIM_LENGTH = 500


@dataclass(frozen=True, slots=True)
class Prepared:
    """An entry before it has an id: what it is found by, and what is kept of it in the clear until it is stored."""

    digest: bytes
    form: str | None = None
    value: str | None = None
    features: bytes | None = None
    features_by: str | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """An entry as a matcher takes it."""

    id: UUID
    form: str | None
    category: str | None
    verified: bool
    expires_at: datetime | None
    value: str
    features: bytes
    features_by: str | None
    quarantined: bool = False
    source: str | None = None


def prepare(
    vault: Vault, kind: str, content: bytes, form: str | None = None, kept: Kept | None = None
) -> Prepared:
    """An entry of a bank of this kind from a picture's bytes or from UTF-8 text.

    `kept` are a picture's hashes, by whoever decoded it. With `form` "pdq" or "sha256" the content is the
    hash of a picture, in 64 hexadecimal digits.

    Raises:
        InvalidInput: it can't be matched; the sentence says why.
    """
    if not content.strip():
        raise InvalidInput("There is nothing to add: write a text, or choose a file.")
    if kind == BankKind.IMAGE:
        return _picture(content, kept) if form is None else _hash(content, form)
    if kind not in (BankKind.TERM, BankKind.LINK) and form is not None:
        raise InvalidInput("Only entries of term and link banks have a form; leave it out.")
    text = _utf8(content)
    try:
        if kind == BankKind.TERM:
            form, value = _term(text, form)
        elif kind == BankKind.LINK:
            made = addresses.address(text, form)
            form, value = str(made.form), made.value
        elif kind == BankKind.CLAIM:
            value = _claim(text)
        else:
            sketch = near_texts.features(text)
            return Prepared(
                text_digest(text), features=sketch, features_by=near_texts.MAKER if sketch else None
            )
    except Unusable as error:
        raise InvalidInput(str(error)) from error
    found_by = folded(value) if kind == BankKind.CLAIM else value
    return Prepared(vault.digest("bank", kind, form or "", found_by), form, value)


def _picture(content: bytes, kept: Kept | None) -> Prepared:
    if kept is None or not len(kept.pdq):
        return Prepared(sha256(content))
    return Prepared(sha256(content), features=kept.pack(), features_by=fingerprints.MAKER)


def _hash(content: bytes, form: str) -> Prepared:
    if form not in (PDQ, SHA256):
        raise InvalidInput(
            f"form must be {PDQ} or {SHA256} in a bank of pictures, or left out with a picture."
        )
    try:
        written = bank_formats.hexadecimal(content.decode("utf-8", "replace"), form)
    except bank_formats.Unusable as error:
        raise InvalidInput(str(error)) from error
    if form == SHA256:
        return Prepared(bytes.fromhex(written), form)
    # Told apart from the digest of a picture's bytes, which may be the same number only by chance.
    digest = sha256(b"pdq:" + bytes.fromhex(written))
    return Prepared(
        digest, form, features=fingerprints.Kept.of_hash(written).pack(), features_by=fingerprints.MAKER
    )


def _term(text: str, form: str | None) -> tuple[str, str]:
    if form not in (None, LITERAL, PATTERN):
        raise InvalidInput(f"form must be {LITERAL} or {PATTERN} in a bank of terms.")
    if form == PATTERN:
        terms.pattern(text.strip())
        return PATTERN, text.strip()
    return LITERAL, terms.term(text).canonical


def _claim(text: str) -> str:
    value = " ".join(text.split())
    if len(value) > CLAIM_LENGTH:
        raise InvalidInput(f"A claim has {CLAIM_LENGTH} characters at most; say it in one sentence.")
    if not claims.sentences(value):
        raise InvalidInput("A claim is a whole sentence; write what is claimed, in three words or more.")
    return value


def _utf8(content: bytes) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput("This bank holds texts, and the file is not UTF-8 text.") from error
    if "\x00" in text:
        raise InvalidInput("This text holds the character NUL; leave it out.")
    return text


def sealed(vault: Vault, identifier: UUID, made: Prepared) -> dict[str, object]:
    """The columns of an entry that `prepare` made, encrypted where they are."""
    key = vault.account_key()
    return {
        "digest": made.digest,
        "form": made.form,
        "value": None
        if made.value is None
        else key.encrypt(made.value.encode(), "bank_entries", "value", str(identifier)),
        "features": None
        if made.features is None
        else key.encrypt(made.features, "bank_entries", "features", str(identifier)),
        "features_by": made.features_by,
    }


def values(vault: Vault, stored: Iterable[tuple[UUID, bytes | None]]) -> dict[UUID, str]:
    """What entries say, for whoever may read the bank; those known by a digest alone are left out."""
    key = vault.account_key()
    return {
        identifier: key.decrypt(value, "bank_entries", "value", str(identifier)).decode()
        for identifier, value in stored
        if value is not None
    }


def load(
    session: Session, vault: Vault, bank_id: UUID, now: datetime, known: Mapping[UUID, Loaded] | None = None
) -> list[Loaded]:
    """The entries of a bank that match now, opened, the oldest first.

    `known` are those that were loaded before: what an entry says never changes, so only others are opened. Whose it
    is may change, when its list takes it back and another still holds it.
    """
    live = and_(BankEntry.bank_id == bank_id, (BankEntry.expires_at.is_(None)) | (BankEntry.expires_at > now))
    if not known:
        return _opened(session, vault, live)
    entries: list[Loaded] = []
    fresh: list[UUID] = []
    # As arrays, of which there are few: a row for each entry would take longer than all the rest.
    held_back = BankEntry.quarantined_at.is_not(None)
    state = (BankEntry.verified, BankEntry.expires_at, BankEntry.features_by, held_back, BankEntry.source)
    alike = select(*state, func.array_agg(BankEntry.id)).where(live).group_by(*state)
    for verified, expires_at, maker, quarantined, source, ids in session.execute(alike):
        now_is = (verified, expires_at, quarantined, source)
        for identifier in ids:
            one = known.get(identifier)
            if one is None or one.features_by != maker:
                fresh.append(identifier)
            elif (one.verified, one.expires_at, one.quarantined, one.source) == now_is:
                entries.append(one)
            else:
                entries.append(
                    replace(
                        one, verified=verified, expires_at=expires_at, quarantined=quarantined, source=source
                    )
                )
    if fresh:
        entries += _opened(session, vault, and_(live, among(BankEntry.id, fresh)))
    return sorted(entries, key=lambda one: one.id.int)


def _opened(session: Session, vault: Vault, wanted: ColumnElement[bool]) -> list[Loaded]:
    """The entries that are wanted, the oldest first."""
    key = vault.account_key()
    rows = session.execute(
        select(
            BankEntry.id,
            BankEntry.form,
            BankEntry.category,
            BankEntry.verified,
            BankEntry.expires_at,
            BankEntry.value,
            BankEntry.features,
            BankEntry.features_by,
            BankEntry.quarantined_at,
            BankEntry.source,
        )
        .where(wanted)
        .order_by(BankEntry.id)
    )
    return [
        Loaded(
            id=row.id,
            form=row.form,
            category=row.category,
            verified=row.verified,
            expires_at=row.expires_at,
            value=key.decrypt(row.value, "bank_entries", "value", str(row.id)).decode() if row.value else "",
            features=key.decrypt(row.features, "bank_entries", "features", str(row.id))
            if row.features
            else b"",
            features_by=row.features_by,
            quarantined=row.quarantined_at is not None,
            source=row.source,
        )
        for row in rows
    ]


def keep_features(session: Session, vault: Vault, made: dict[UUID, bytes], maker: str) -> None:
    """Store what a model made of entries, so that the next worker need not make it again.

    An entry that somebody is changing right now is left alone: nobody waits for it.
    """
    key = vault.account_key()
    free = session.scalars(
        select(BankEntry.id).where(among(BankEntry.id, made)).with_for_update(skip_locked=True)
    ).all()
    for identifier in free:
        session.execute(
            update(BankEntry)
            .where(BankEntry.id == identifier)
            .values(
                features=key.encrypt(made[identifier], "bank_entries", "features", str(identifier)),
                features_by=maker,
            )
            .execution_options(synchronize_session=False)
        )
