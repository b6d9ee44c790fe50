"""What people write on holds, disclosures and incidents: checked, and file numbers and descriptions encrypted."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from moderation.domain.errors import InvalidInput
from moderation.storage.vault import Vault, VaultError

LINE = 300
TEXT = 10_000


def line(text: str, what: str, most: int = LINE) -> str:
    """What was written, without the space around it.

    Raises:
        InvalidInput: nothing was, too much, or something that can't be printed.
    """
    said = " ".join(text.split()) if most <= LINE else text.strip().replace("\r\n", "\n")
    if not said:
        raise InvalidInput(f"{what} is missing; write it down.")
    if len(said) > most:
        raise InvalidInput(f"{what} has more than {most:,} characters; say it shorter.")
    if "\x00" in said:
        raise InvalidInput(f"{what} holds a character that can't be kept; write it again.")
    return said


def ahead(moment: datetime, what: str, now: datetime, most: timedelta) -> datetime:
    """A date that lies ahead, and not too far.

    Raises:
        InvalidInput: it lies behind, or further ahead than `most`.
    """
    if not now < moment <= now + most:
        raise InvalidInput(f"{what} must lie ahead, by {most.days} days at most; choose another date.")
    return moment


def sealed(vault: Vault, table: str, column: str, row: UUID, text: str) -> bytes:
    """What was written under the key of our own people's secrets."""
    return vault.account_key().encrypt(text.encode(), table, column, str(row))


def opened(vault: Vault, table: str, column: str, row: UUID, written: bytes | None) -> str:
    """What was written, in the clear; empty where there is nothing, or nothing that opens."""
    if written is None:
        return ""
    try:
        return vault.account_key().decrypt(written, table, column, str(row)).decode()
    except VaultError:
        return ""
