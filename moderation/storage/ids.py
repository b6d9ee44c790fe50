"""Identifiers: UUID version 7 (RFC 9562), whose first 48 bits are the time in milliseconds.

Rows therefore lie in the order they came, and a month of items is one contiguous range of ids, which is
what the partitions of `items`, `parts`, `part_features` and `signals` are cut by.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from uuid import UUID


def new_id(at: datetime) -> UUID:
    """A fresh UUIDv7 for the moment `at`."""
    milliseconds = int(at.timestamp() * 1000)
    random = secrets.randbits(74)
    value = (
        (milliseconds << 80) | (0x7 << 76) | ((random >> 62) << 64) | (0b10 << 62) | (random & (1 << 62) - 1)
    )
    return UUID(int=value)


def moment_of(identifier: UUID) -> datetime:
    """The moment a UUIDv7 was made, to the millisecond."""
    return datetime.fromtimestamp((identifier.int >> 80) / 1000, UTC)


def lower_bound(at: datetime) -> UUID:
    """The smallest identifier of any moment from `at` on; the bound of a partition."""
    return UUID(int=int(at.timestamp() * 1000) << 80)
