"""Items and their parts: what was posted, validated once, and the states an item passes through."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import NewType
from uuid import UUID

from moderation.domain.errors import InvalidInput, TooLarge

ItemId = NewType("ItemId", UUID)
AuthorId = NewType("AuthorId", UUID)

NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}")
REFERENCE_LENGTH = 256
MAX_REACH = 10_000_000_000
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


class ItemState(StrEnum):
    """received -> leased -> done | dead; any of them -> deleted."""

    RECEIVED = "received"
    LEASED = "leased"
    DONE = "done"
    DEAD = "dead"
    DELETED = "deleted"


class Lane(StrEnum):
    """Where an item waits: `live` has somebody waiting for it, `bulk` is backfill."""

    LIVE = "live"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class TextPart:
    """A named text, at most 50,000 code points, free of NUL and lone surrogates."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A named picture as it was posted: the original bytes and the media type that was sniffed."""

    name: str
    data: bytes
    media_type: str


Part = TextPart | ImagePart


@dataclass(frozen=True, slots=True)
class Context:
    """What surrounds a post: references are the content service's own, `reach` is expected readers."""

    thread: str | None = None
    parent: str | None = None
    reach: int | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """A validated post, ready to be accepted."""

    external_id: str
    author: str
    kind: str
    parts: tuple[Part, ...]
    context: Context
    posted_at: datetime | None = None
    callback: str | None = None
    lane: Lane = Lane.LIVE


def checked_name(value: str, what: str) -> str:
    """A short lower-case name, such as a part's or a kind's.

    Raises:
        InvalidInput: anything else.
    """
    if not NAME.fullmatch(value):
        raise InvalidInput(
            f"{what} must start with a lower-case letter and hold at most 32 lower-case letters, digits "
            "and underscores."
        )
    return value


def checked_reference(value: str, what: str) -> str:
    """An opaque reference of the content service, 1 to 256 printable code points.

    Raises:
        InvalidInput: empty, too long, or with characters that can't be stored.
    """
    if not 1 <= len(value) <= REFERENCE_LENGTH or not value.isprintable():
        raise InvalidInput(f"{what} must be 1 to {REFERENCE_LENGTH} printable characters.")
    return value


def checked_text(value: str, what: str, limit: int) -> str:
    """A text that can be stored and screened unchanged.

    Raises:
        TooLarge: more than `limit` code points.
        InvalidInput: a NUL or half of a surrogate pair.
    """
    if len(value) > limit:
        raise TooLarge(
            f"{what} has {len(value):,} code points; {limit:,} is the most. Split it into several parts."
        )
    if "\x00" in value:
        raise InvalidInput(f"{what} holds a NUL character; remove it.")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{what} holds half of a surrogate pair; send whole characters.") from error
    return value


def checked_moment(value: datetime, what: str) -> datetime:
    """A moment at which something can have been posted.

    Dates at the ends of the calendar pass a schema and then leave it once moved to another time zone.

    Raises:
        InvalidInput: before 1970 or after 2199.
    """
    if not EARLIEST <= value < LATEST:
        raise InvalidInput(f"{what} must lie between the years {EARLIEST.year} and {LATEST.year - 1}.")
    return value


def checked_context(
    thread: str | None, parent: str | None, reach: int | None, language: str | None
) -> Context:
    """A context whose every field can be stored.

    Raises:
        InvalidInput: a field is malformed.
    """
    if reach is not None and not 0 <= reach <= MAX_REACH:
        raise InvalidInput(f"context.reach must lie between 0 and {MAX_REACH:,}.")
    if language is not None and not LANGUAGE.fullmatch(language):
        raise InvalidInput("context.language must be a BCP 47 tag such as 'en' or 'pt-BR'.")
    return Context(
        thread=None if thread is None else checked_reference(thread, "context.thread"),
        parent=None if parent is None else checked_reference(parent, "context.parent"),
        reach=reach,
        language=language,
    )


def checked_parts(parts: tuple[Part, ...], limit: int) -> tuple[Part, ...]:
    """The parts of one item: at least one, at most `limit`, each with a name of its own.

    Raises:
        InvalidInput: none at all, or two of one name.
        TooLarge: more than `limit`.
    """
    if not parts:
        raise InvalidInput("parts is empty; send at least one text or image.")
    if len(parts) > limit:
        raise TooLarge(f"The item has {len(parts)} parts; {limit} is the most. Split it into several items.")
    seen: Mapping[str, None] = dict.fromkeys(part.name for part in parts)
    if len(seen) < len(parts):
        raise InvalidInput("Two parts share a name; give each part a name of its own.")
    return parts
