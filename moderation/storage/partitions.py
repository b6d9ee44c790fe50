"""Monthly partitions of `items`, `parts` and `signals`, cut by ranges of UUIDv7.

A default partition catches what no month covers, so that a forgotten upkeep never refuses an item.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import Connection, text

from moderation.storage.ids import lower_bound

PARTITIONED = {"items": "id", "parts": "item_id", "signals": "item_id"}
MONTHS_AHEAD = 3
_LOCK = 7_203_001


def ensure(connection: Connection, now: datetime, months_ahead: int = MONTHS_AHEAD) -> list[str]:
    """Create the partitions of this month and of the months to come; returns the names of the new ones."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    created = []
    for offset in range(months_ahead + 1):
        start, end = _month(now, offset), _month(now, offset + 1)
        for table, key in PARTITIONED.items():
            name = f"{table}_p{start:%Y%m}"
            if connection.scalar(text("SELECT to_regclass(:name)"), {"name": name}) is None:
                _create(connection, table, name, key, lower_bound(start), lower_bound(end))
                created.append(name)
    return created


def _create(connection: Connection, table: str, name: str, key: str, low: UUID, high: UUID) -> None:
    """Add a partition, with what the default one caught of its range: it could not be attached otherwise."""
    # Identifiers and bounds are ours alone: DDL takes no parameters.
    caught = f"DELETE FROM {table}_default WHERE {key} >= '{low}' AND {key} < '{high}' RETURNING *"
    for statement in (
        f"LOCK TABLE {table}_default IN ACCESS EXCLUSIVE MODE",
        f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)",
        f"WITH caught AS ({caught}) INSERT INTO {name} SELECT * FROM caught",
        f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{low}') TO ('{high}')",
    ):
        connection.execute(text(statement))


def _month(now: datetime, offset: int) -> datetime:
    index = now.year * 12 + now.month - 1 + offset
    return datetime(index // 12, index % 12 + 1, 1, tzinfo=UTC)
