"""What people type into addresses and forms, read with a sentence for what can't be read."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

from moderation.domain.content import checked_moment
from moderation.domain.errors import InvalidInput


def identifier(text: str, what: str) -> UUID | None:
    """An id, or None where nothing was given.

    Raises:
        InvalidInput: it is none.
    """
    if not text.strip():
        return None
    try:
        return UUID(text.strip())
    except ValueError as error:
        raise InvalidInput(
            f"{what} is 32 hexadecimal digits in five groups; copy the whole of it."
        ) from error


def day(text: str, what: str, *, end: bool = False) -> datetime | None:
    """The beginning of a day in UTC, or with `end` that of the next one; None where nothing was given.

    Raises:
        InvalidInput: it is no date, or none at which something can have happened.
    """
    if not text.strip():
        return None
    try:
        found = datetime.strptime(text.strip(), "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidInput(f"{what} must be a date such as 2026-11-22.") from error
    return checked_moment(found, what) + timedelta(days=int(end))


def moment(text: str, what: str) -> datetime | None:
    """A moment in UTC as a browser's field for it has it, or a day's beginning; None where nothing was given.

    Raises:
        InvalidInput: it is none.
    """
    if not text.strip():
        return None
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise InvalidInput(f"{what} must be a moment such as 2026-12-01 00:00.") from error
    return checked_moment(found if found.tzinfo else found.replace(tzinfo=UTC), what)


def number(text: str, what: str, least: float, most: float) -> float:
    """A number from `least` to `most`.

    Raises:
        InvalidInput: it is none, or lies beyond.
    """
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not least <= found <= most:
        raise InvalidInput(f"{what} must be a number from {least:g} to {most:g}.")
    return found


def one_of(text: str, what: str, known: Collection[str]) -> str | None:
    """One of a few words, or None where nothing was given.

    Raises:
        InvalidInput: it is none of them.
    """
    if text and text not in known:
        raise InvalidInput(f"{what} must be one of {', '.join(known)}.")
    return text or None


def address(path: str, given: Mapping[str, object]) -> str:
    """`path` with what is given as its query; what is empty is left out."""
    query = urlencode({name: str(value) for name, value in given.items() if value not in (None, "")})
    return f"{path}?{query}" if query else path
