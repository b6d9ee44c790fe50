"""Monthly partitions of `items`, `parts` and `signals`, cut by ranges of UUIDv7.

A default partition catches what no month covers, so that a forgotten upkeep never refuses an item.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, text

from moderation.storage.ids import lower_bound

PARTITIONED = ("items", "parts", "signals")
MONTHS_AHEAD = 3
_LOCK = 7_203_001


def ensure(connection: Connection, now: datetime, months_ahead: int = MONTHS_AHEAD) -> list[str]:
    """Create the partitions of this month and of the months to come; returns the names of the new ones."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    created = []
    for offset in range(months_ahead + 1):
        start, end = _month(now, offset), _month(now, offset + 1)
        for table in PARTITIONED:
            name = f"{table}_p{start:%Y%m}"
            if connection.scalar(text("SELECT to_regclass(:name)"), {"name": name}) is None:
                # Identifiers and bounds are ours alone: DDL takes no parameters.
                connection.execute(
                    text(
                        f"CREATE TABLE {name} PARTITION OF {table} "
                        f"FOR VALUES FROM ('{lower_bound(start)}') TO ('{lower_bound(end)}')"
                    )
                )
                created.append(name)
    return created


def _month(now: datetime, offset: int) -> datetime:
    index = now.year * 12 + now.month - 1 + offset
    return datetime(index // 12, index % 12 + 1, 1, tzinfo=UTC)
