"""Monthly partitions of `items`, `parts`, `part_features` and `signals`, cut by ranges of UUIDv7.

A default partition catches what no month covers, so that a forgotten upkeep never refuses an item. Partitions are
made and dropped by functions of the tables' owner (migration `0003_content`), because whoever runs the
service may not alter tables; they take a table's name and a month, and nothing else of anybody's choosing.
"""

from __future__ import annotations

from datetime import UTC, date, datetime

from sqlalchemy import Connection, text

PARTITIONED = ("items", "parts", "part_features", "signals")
MONTHS_AHEAD = 3
_LOCK = 7_203_001


def ensure(connection: Connection, now: datetime, months_ahead: int = MONTHS_AHEAD) -> list[str]:
    """Create the partitions of this month and of the months to come; returns the names of the new ones."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    made = text("SELECT ensure_partition(:parent, :month)")
    names = [
        connection.scalar(made, {"parent": table, "month": _month(now, offset)})
        for offset in range(months_ahead + 1)
        for table in PARTITIONED
    ]
    return [name for name in names if name]


def months(connection: Connection) -> list[date]:
    """The months for which there are partitions, oldest first."""
    rows = connection.scalars(
        text(
            "SELECT DISTINCT to_date(right(child.relname, 6), 'YYYYMM') FROM pg_inherits "
            "JOIN pg_class child ON child.oid = inhrelid "
            "WHERE inhparent = ANY (CAST(CAST(:parents AS text[]) AS regclass[])) "
            "AND child.relname ~ '_p[0-9]{6}$' ORDER BY 1"
        ),
        {"parents": list(PARTITIONED)},
    )
    return list(rows)


def drop_empty(connection: Connection, parent: str, month: date) -> bool:
    """Drop the partition of a month that is over, if nothing in it is needed any more; whether it was dropped.

    Of `items` rows are needed until a month after their end, of the others until their item's end.

    Raises:
        sqlalchemy.exc.DBAPIError: no such table or month, or others were using it: try again another time.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    dropped = text("SELECT drop_partition(:parent, :month)")
    return bool(connection.scalar(dropped, {"parent": parent, "month": month}))


def _month(now: datetime, offset: int) -> date:
    index = now.astimezone(UTC).year * 12 + now.astimezone(UTC).month - 1 + offset
    return date(index // 12, index % 12 + 1, 1)
