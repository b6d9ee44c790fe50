"""Passwords: what is good enough, and its Argon2id hash (RFC 9106, section 4, the profile for less memory)."""

from __future__ import annotations

from functools import cache
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from moderation.domain.errors import InvalidInput, Unavailable

SHORTEST, LONGEST = 12, 200
FEWEST_DIFFERENT = 5
FEWEST_OWN = 8  # what is left without obvious words
# Each takes 64 MiB while it is computed: that many at once and no more.
AT_ONCE = 4
PATIENCE_SECONDS = 10.0
OBVIOUS = ("password", "passwort", "moderation", "moderator", "qwerty", "123456", "letmein")

_hasher = PasswordHasher()
_slots = BoundedSemaphore(AT_ONCE)


def check_good(password: str, email: str) -> None:
    """Refuse a password that would be guessed first (NIST SP 800-63B: length counts, composition does not).

    Raises:
        InvalidInput: too short, too long, or easily guessed.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise InvalidInput(f"A password has {SHORTEST} to {LONGEST} characters; choose a longer one.")
    folded = password.casefold()
    left = folded
    for word in (*OBVIOUS, *(part for part in email.casefold().split("@") if len(part) > 3)):
        left = left.replace(word, "")
    if len(set(folded)) < FEWEST_DIFFERENT or len(left) < FEWEST_OWN:
        raise InvalidInput(
            "This password would be guessed soon; choose several words that do not belong together."
        )


def hashed(password: str) -> str:
    """The Argon2id hash, with its salt and parameters.

    Raises:
        Unavailable: too many are computed at once.
    """
    with _Slot():
        return _hasher.hash(password)


def matches(stored: str | None, password: str) -> bool:
    """Whether the password is the one; it takes as long when there is no such person at all.

    Raises:
        Unavailable: too many are computed at once.
    """
    with _Slot():
        try:
            return _hasher.verify(stored or _of_nobody(), password) and bool(stored)
        except (VerificationError, InvalidHashError):
            return False


def outdated(stored: str) -> bool:
    """Whether a hash was made with weaker parameters than today's, and is to be made again at the next log-in."""
    return _hasher.check_needs_rehash(stored)


@cache
def _of_nobody() -> str:
    return _hasher.hash("nobody has this password")


class _Slot:
    def __enter__(self) -> None:
        if not _slots.acquire(timeout=PATIENCE_SECONDS):
            raise Unavailable("Too many people log in at once; try again in a few seconds.", retry_after=5.0)

    def __exit__(self, *_: object) -> None:
        _slots.release()
