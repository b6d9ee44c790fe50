"""Near duplicates that wait: which open cases say nearly the same, found without reading any of them.

The bands of `features.sketch` are stored under the vault's key, so that the database alone tells nobody what
an item says, nor whether it says a given text.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from moderation.features.sketch import ALIKE, Sketch
from moderation.storage.database import among, insert_many
from moderation.storage.tables import Sketch as SketchRow
from moderation.storage.vault import Vault

LOOKED_AT = 400
"""Of one band, the newest items that are compared. A flood shares all of its bands and would make each look-up
slower than the last; what is left out of it is found again from the next case."""
KEY_BYTES = 16


def rows(vault: Vault, item_id: UUID, sketches: Iterable[tuple[str, Sketch]]) -> list[dict[str, Any]]:
    """What is stored of an item's (part, sketch) pairs. No transaction is needed: only the vault's key is."""
    return [
        {
            "item_id": item_id,
            "part": part,
            "band": number,
            "key": vault.digest("sketch", sketch.kind, number.to_bytes(1), band)[:KEY_BYTES],
        }
        for part, sketch in sketches
        for number, band in enumerate(sketch.bands)
    ]


def store(session: Session, made: Sequence[Mapping[str, Any]]) -> None:
    """Keep what `rows` made, in place of what is kept of the same items."""
    forget(session, list({row["item_id"] for row in made}))
    insert_many(session, SketchRow, made)


def forget(session: Session, ids: Sequence[UUID]) -> None:
    """Remove the sketches of `ids`: they end with the item."""
    if ids:
        session.execute(delete(SketchRow).where(among(SketchRow.item_id, ids)))


def near(session: Session, item_id: UUID, limit: int = 50) -> list[UUID]:
    """Items before people that are near duplicates of `item_id`, the most alike first, without itself.

    Alike in every part: one common picture under another text is not the same post. Only cases about the
    decision itself are named, so that nobody can tell a golden item or a check by its company.
    """
    mine = Counter(session.scalars(select(SketchRow.part).where(SketchRow.item_id == item_id)))
    if not mine:
        return []
    equal: dict[UUID, dict[str, int]] = defaultdict(dict)
    for other, part, count in session.execute(text(EQUAL), {"item": item_id, "looked_at": LOOKED_AT}):
        equal[other][part] = count
    alike = {
        other: min(counts.get(part, 0) / bands for part, bands in mine.items())
        for other, counts in equal.items()
    }
    candidates = [other for other, share in alike.items() if share >= ALIKE]
    whole = session.execute(_PARTS, {"items": candidates}) if candidates else ()
    found = [other for other, parts in whole if parts == len(mine)]
    return sorted(found, key=lambda other: (-alike[other], other))[:limit]


# Each band looks at its newest items alone, by ix_sketches_key; whether a case is open is asked once an item and
# not once a band.
EQUAL = """
    SELECT item_id, part, number FROM (
        SELECT other.item_id, mine.part, count(*) AS number
        FROM sketches mine
        CROSS JOIN LATERAL (
            SELECT s.item_id, s.part FROM sketches s
            WHERE s.key = mine.key AND s.item_id <> mine.item_id
            ORDER BY s.item_id DESC LIMIT :looked_at
        ) other
        WHERE mine.item_id = :item AND other.part = mine.part
        GROUP BY other.item_id, mine.part
    ) equal
    WHERE (
        SELECT true FROM cases c WHERE c.item_id = equal.item_id AND c.state = 'open' AND c.kind = 'review' LIMIT 1
    )
"""

_PARTS = text("""
    SELECT item_id, count(DISTINCT part) FROM sketches
    WHERE item_id = ANY(CAST(:items AS uuid[])) GROUP BY item_id
""")
