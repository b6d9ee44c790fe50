"""What there is of an author, in rows and keys: counted before an erasure, after it, and by whoever verifies it."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session

# One entry each: what is counted, and by which condition. `mine` are the author's items that are not destroyed.
_COUNTS = {
    "authors": "SELECT count(*) FROM authors WHERE id = :author AND reference <> ''",
    "items": "SELECT count(*) FROM mine",
    "texts": "SELECT count(*) FROM parts WHERE item_id IN (SELECT id FROM mine) AND blob IS NULL"
    " AND derived_from IS NULL",
    "texts_in_pictures": "SELECT count(*) FROM parts WHERE item_id IN (SELECT id FROM mine)"
    " AND derived_from IS NOT NULL",
    "blobs": "SELECT count(*) FROM parts WHERE item_id IN (SELECT id FROM mine) AND blob IS NOT NULL",
    "features": "SELECT count(*) FROM part_features WHERE item_id IN (SELECT id FROM mine)",
    "signals": "SELECT count(*) FROM signals WHERE item_id IN (SELECT id FROM mine)",
    "sketches": "SELECT count(*) FROM sketches WHERE item_id IN (SELECT id FROM mine)",
    "notes": "SELECT count(*) FROM case_notes WHERE item_id IN (SELECT id FROM mine)",
    "golden": "SELECT count(*) FROM golden_items WHERE item_id IN (SELECT id FROM mine)",
    "reports": "SELECT count(*) FROM reports WHERE author_id = :author",
    "statements": "SELECT count(*) FROM appeals WHERE author_id = :author AND statement IS NOT NULL",
    "requests": "SELECT count(*) FROM subject_requests WHERE author_id = :author AND details IS NOT NULL",
    "suggestions": "SELECT count(*) FROM suggestions WHERE author_id = :author",
    "bursts": "SELECT count(*) FROM bursts WHERE author_id = :author",
    "bundle_rows": "SELECT count(*) FROM bundle_items WHERE author_id = :author",
    "decisions": "SELECT count(*) FROM decisions WHERE author_id = :author",
    "cases": "SELECT count(*) FROM cases WHERE author_id = :author",
    "opinions": "SELECT count(*) FROM opinions WHERE author_id = :author",
    "measures": "SELECT count(*) FROM account_actions WHERE author_id = :author",
}
_CONTENT = text(
    "WITH mine AS MATERIALIZED (SELECT id FROM items WHERE author_id = :author AND destroyed_at IS NULL"  # noqa: S608  our own words
    " AND (CAST(:item AS uuid) IS NULL OR id = :item)) SELECT "
    + ", ".join(f'({query}) AS "{name}"' for name, query in _COUNTS.items())
)
_KEYS = text("""
    SELECT (SELECT count(*) FROM author_keys WHERE author_id = :author) AS author_keys,
           (SELECT count(*) FROM item_keys WHERE author_id = :author) AS item_keys,
           (SELECT count(*) FROM held_keys WHERE author_id = :author) AS held_keys
""")
_ITEM_KEYS = text("""
    SELECT (SELECT count(*) FROM item_keys WHERE item_id = :item) AS item_keys,
           (SELECT count(*) FROM held_keys WHERE item_id = :item) AS held_keys
""")

# Of one item only these are counted: the rest is the author's, who stays.
_OF_ITEM = (
    "items",
    "texts",
    "texts_in_pictures",
    "blobs",
    "features",
    "signals",
    "sketches",
    "notes",
    "golden",
)


def of_content(session: Session, author_id: UUID, item_id: UUID | None = None) -> dict[str, int]:
    """Rows in the content database, by what they are."""
    row = session.execute(_CONTENT, {"author": author_id, "item": item_id}).mappings().one()
    return {name: row[name] for name in row if item_id is None or name in _OF_ITEM}


def of_keys(keystore: Engine | Connection, author_id: UUID, item_id: UUID | None = None) -> dict[str, int]:
    """Keys in the keystore, by what they open."""
    query, values = (_KEYS, {"author": author_id}) if item_id is None else (_ITEM_KEYS, {"item": item_id})
    if isinstance(keystore, Engine):
        with keystore.connect() as connection:
            return dict(connection.execute(query, values).mappings().one())
    return dict(keystore.execute(query, values).mappings().one())


def epoch_of(keystore: Engine, author_id: UUID) -> int | None:
    """The epoch of the key-encryption key that wraps the author's key; None once that is gone."""
    with keystore.connect() as connection:
        found: int | None = connection.scalar(
            text("SELECT epoch FROM author_keys WHERE author_id = :author"), {"author": author_id}
        )
    return found
