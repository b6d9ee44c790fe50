"""What a bank may be and what may be said of an entry: refusals, each with its reason."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from math import isfinite
from uuid import UUID

from moderation.domain.errors import InvalidInput
from moderation.domain.signals import BankAction, BankKind, Category, Match
from moderation.features import addresses, near_texts

NOTE_LENGTH = 300
SOURCE_LENGTH = 100
LEAST_COSINE = 0.5
LATEST = datetime(9999, 1, 1, tzinfo=UTC)
"""What ends later may end beyond the year 9999 where the database is, and nothing here could read it any more."""
MATCH_BITS, REVIEW_BITS = 31, 48
"""Of 256: up to where pictures are taken for the same if a bank says nothing else, and to where people compare."""


def check_claim(action: str, *, allow: bool) -> None:
    """Refuse what a bank of claims must not do.

    Raises:
        InvalidInput: it would decide alone, or clear something.
    """
    if action not in (BankAction.REVIEW, BankAction.LABEL):
        raise InvalidInput(
            "A bank of claims can only review or label: that two sentences mean nearly the same does not say "
            "which of them is true, or that one denies the other. A person has to read them."
        )
    if allow:
        raise InvalidInput(
            "A bank of claims can't clear what it matches: a text may hold a harmless sentence beside another. "
            "Leave allow out."
        )


def checked_distance(kind: str, distance: float | None, *, allow: bool) -> float | None:
    """The distance, as a bank of this kind can have it.

    Raises:
        InvalidInput: it has none, or another range.
    """
    if distance is None:
        return None
    if kind == BankKind.TERM:
        raise InvalidInput("A bank of terms matches what is equal; leave the distance out.")
    if allow:
        raise InvalidInput(
            "An allow bank clears only what equals its entries: what is nearly the same may differ in the one word "
            "that matters. Leave the distance out."
        )
    if kind == BankKind.IMAGE:
        if not (0 <= distance <= REVIEW_BITS and distance == int(distance)):
            raise InvalidInput(
                f"The distance of a bank of pictures is a whole number of bits from 0 to {REVIEW_BITS}, and "
                f"{MATCH_BITS} if it is left out."
            )
        return abs(distance)  # minus zero is no distance
    if kind == BankKind.LINK and distance != addresses.LIKENESS:
        raise InvalidInput("The distance of a bank of links is 1, to match look-alikes too, or left out.")
    least = {BankKind.TEXT: near_texts.LEAST, BankKind.CLAIM: LEAST_COSINE}.get(BankKind(kind), 0.0)
    if not least <= distance <= 1:
        raise InvalidInput(f"The distance of a bank of {kind}s lies between {least} and 1, 1 being the same.")
    return distance


def check_share(share: float, action: str, *, allow: bool) -> None:
    """Refuse a share of items that a bank can't act on.

    Raises:
        InvalidInput: it is no share, or there is nothing to act on.
    """
    if not (isfinite(share) and 0 < share <= 1):
        raise InvalidInput("The sample share lies above 0 and is 1 at most, which is every item.")
    if share < 1 and (allow or action == BankAction.LABEL):
        raise InvalidInput(
            "A sample share introduces gently what takes something away; an allow bank, or one that only labels, "
            "takes nothing. Leave the share out."
        )


def drawn(item: UUID, bank: str, share: float) -> bool:
    """Whether an item is in a bank's sample: always the same answer, and another item for another bank."""
    if share >= 1:
        return True
    number = hashlib.blake2b(item.bytes + bank.encode(), digest_size=8).digest()
    return int.from_bytes(number) < share * 2**64


def sampled(match: Match, item: UUID) -> Match:
    """The match as it counts for this item: outside the sample of its bank it only labels."""
    if drawn(item, match.bank, match.share):
        return match
    return replace(match, action=BankAction.LABEL, would=match.action)


def checked_source(source: str | None) -> str | None:
    """Whose list it is, on one line; None where nothing is said.

    Raises:
        InvalidInput: too long.
    """
    said = " ".join((source or "").replace("\x00", " ").split())
    if len(said) > SOURCE_LENGTH:
        raise InvalidInput(f"A source has {SOURCE_LENGTH} characters at most; this one has {len(said)}.")
    return said or None


def check_about(note: str, expires_at: datetime | None, now: datetime, category: str | None) -> None:
    """Refuse what is said about an entry, if it can't be.

    Raises:
        InvalidInput: a note too long, an end in the past or beyond all time, an unknown category.
    """
    if len(note) > NOTE_LENGTH:
        raise InvalidInput(f"A note has {NOTE_LENGTH} characters at most; this one has {len(note)}.")
    if expires_at is not None and expires_at <= now:
        raise InvalidInput("An entry must end in the future; choose a later date, or none.")
    if expires_at is not None and expires_at >= LATEST:
        raise InvalidInput("An entry ends before the year 9999; leave its end out if it has none.")
    if category is not None and category not in tuple(Category):
        raise InvalidInput(f"category must be one of {', '.join(Category)}.")
