"""What a bank may be and what may be said of an entry: refusals, each with its reason."""

from __future__ import annotations

from datetime import datetime

from moderation.domain.errors import InvalidInput
from moderation.domain.signals import BankAction, BankKind, Category
from moderation.features import addresses, near_texts

NOTE_LENGTH = 300
LEAST_COSINE = 0.5


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


def check_distance(kind: str, distance: float | None, *, allow: bool) -> None:
    """Refuse a distance that a bank of this kind can't have.

    Raises:
        InvalidInput: it has none, or another range.
    """
    if distance is None:
        return
    if kind not in (BankKind.TEXT, BankKind.LINK, BankKind.CLAIM):
        raise InvalidInput(f"A bank of {kind}s matches what is equal; leave the distance out.")
    if allow:
        raise InvalidInput(
            "An allow bank clears only what equals its entries: what is nearly the same may differ in the one word "
            "that matters. Leave the distance out."
        )
    if kind == BankKind.LINK and distance != addresses.LIKENESS:
        raise InvalidInput("The distance of a bank of links is 1, to match look-alikes too, or left out.")
    least = {BankKind.TEXT: near_texts.LEAST, BankKind.CLAIM: LEAST_COSINE}.get(BankKind(kind), 0.0)
    if not least <= distance <= 1:
        raise InvalidInput(f"The distance of a bank of {kind}s lies between {least} and 1, 1 being the same.")


def check_about(note: str, expires_at: datetime | None, now: datetime, category: str | None) -> None:
    """Refuse what is said about an entry, if it can't be.

    Raises:
        InvalidInput: a note too long, an end in the past, an unknown category.
    """
    if len(note) > NOTE_LENGTH:
        raise InvalidInput(f"A note has {NOTE_LENGTH} characters at most; this one has {len(note)}.")
    if expires_at is not None and expires_at <= now:
        raise InvalidInput("An entry must end in the future; choose a later date, or none.")
    if category is not None and category not in tuple(Category):
        raise InvalidInput(f"category must be one of {', '.join(Category)}.")
