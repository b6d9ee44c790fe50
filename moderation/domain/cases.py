"""Cases: why an item is before people, how urgent it is, and by when."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from math import log10

from moderation.domain.policy import Policy


class CaseReason(StrEnum):
    """Why people are asked."""

    UNCERTAIN = "uncertain"
    BANK = "bank"
    DETECTOR_FAILED = "detector_failed"
    DEAD_LETTER = "dead_letter"


class CaseState(StrEnum):
    OPEN = "open"
    CLOSED = "closed"


def priority(probability: float, severity: int, reach: int | None) -> float:
    """Expected harm: probability x severity x reach, the reach counted in orders of magnitude.

    An unknown reach counts as 100 readers. A post read by a million is worth three times one read by
    a hundred, not ten thousand times: otherwise one popular author starves everybody else.
    """
    readers = 100 if reach is None else reach
    return probability * severity * log10(10 + readers)


def deadline(policy: Policy, category: str | None, opened_at: datetime) -> datetime:
    """By when a person should have looked, by the category's own deadline or the policy's common one."""
    named = policy.categories.get(category) if category else None
    hours = policy.deadline_hours if named is None or named.deadline_hours is None else named.deadline_hours
    return opened_at + timedelta(hours=hours)
