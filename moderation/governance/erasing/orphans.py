"""Keys and blobs that belong to no row: written just before a commit that failed. Looked for slowly, and removed.

What is younger than a day may still be committed. Where most of what is looked at seems to belong to nothing, it is
the database that is the wrong one, or half restored: then nothing is touched, and a person has to look.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from moderation.governance import audit
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, among, transaction
from moderation.storage.ids import lower_bound
from moderation.storage.keystore import AuthorKey, HeldKey, ItemKey
from moderation.storage.tables import Author, Item, Part, Suggestion

AGE = timedelta(days=1)
AT_ONCE = 2000
FOLDERS = 256
MOST_SHARE, ALWAYS = 0.5, 20
log = structlog.get_logger()


@dataclass(slots=True)
class Place:
    """How far the scan has come; it begins anew at the end, and after a restart."""

    items: UUID = field(default_factory=lambda: UUID(int=0))
    authors: UUID = field(default_factory=lambda: UUID(int=0))
    folder: int = 0


def scan(
    databases: Databases, blobs: FolderBlobs, place: Place, now: datetime, other_blobs: Collection[str] = ()
) -> int:
    """Look at a piece of the keys and at one folder of blobs; how many belonged to nothing and were removed.

    `other_blobs` are those that no item names: preservation packages. Owns its transactions.
    """
    return (
        _item_keys(databases, place, now)
        + _author_keys(databases, place, now)
        + _blobs(databases, blobs, place, now, other_blobs)
    )


def _item_keys(databases: Databases, place: Place, now: datetime) -> int:
    end = lower_bound(now - AGE)
    with Session(databases.keystore) as session:
        found = session.scalars(
            select(ItemKey.item_id)
            .where(ItemKey.item_id > place.items, ItemKey.item_id < end)
            .order_by(ItemKey.item_id)
            .limit(AT_ONCE)
        ).all()
    place.items = found[-1] if len(found) == AT_ONCE else UUID(int=0)
    with transaction(databases.content) as session:
        known = set(
            session.scalars(select(Item.id).where(among(Item.id, found), Item.destroyed_at.is_(None)))
        )
        known |= set(session.scalars(select(Suggestion.id).where(among(Suggestion.id, found))))
    orphans = [one for one in found if one not in known]
    if not _plausible("item keys", orphans, found):
        return 0
    with Session(databases.keystore) as session, session.begin():
        session.execute(delete(ItemKey).where(among(ItemKey.item_id, orphans)))
    _record(databases, "item_key", len(orphans), now)
    return len(orphans)


def _author_keys(databases: Databases, place: Place, now: datetime) -> int:
    end = lower_bound(now - AGE)
    with Session(databases.keystore) as session:
        found = session.scalars(
            select(AuthorKey.author_id)
            .where(AuthorKey.author_id > place.authors, AuthorKey.author_id < end)
            .order_by(AuthorKey.author_id)
            .limit(AT_ONCE)
        ).all()
        held = set(session.scalars(select(HeldKey.author_id).where(among(HeldKey.author_id, found))))
    place.authors = found[-1] if len(found) == AT_ONCE else UUID(int=0)
    with transaction(databases.content) as session:
        known = set(session.scalars(select(Author.id).where(among(Author.id, found)))) | held
        known |= set(
            session.scalars(
                select(Item.author_id).where(among(Item.author_id, found), Item.destroyed_at.is_(None))
            )
        )
    orphans = [one for one in found if one not in known]
    if not _plausible("author keys", orphans, found):
        return 0
    with Session(databases.keystore) as session, session.begin():
        session.execute(delete(AuthorKey).where(among(AuthorKey.author_id, orphans)))
    _record(databases, "author_key", len(orphans), now)
    return len(orphans)


def _blobs(
    databases: Databases, blobs: FolderBlobs, place: Place, now: datetime, others: Collection[str]
) -> int:
    prefix = f"{place.folder:02x}"
    place.folder = (place.folder + 1) % FOLDERS
    found = [reference for reference, at in blobs.listing(prefix) if at < now - AGE]
    orphans: list[str] = []
    for start in range(0, len(found), AT_ONCE):
        chunk = found[start : start + AT_ONCE]
        with transaction(databases.content) as session:
            known = set(session.scalars(select(Part.blob).where(among(Part.blob, chunk))))
        orphans += [one for one in chunk if one not in known and one not in others]
    if not _plausible("blobs", orphans, found):
        return 0
    for reference in orphans:
        blobs.destroy(reference)
    _record(databases, "blob", len(orphans), now)
    return len(orphans)


def _plausible(what: str, orphans: Sequence[object], found: Sequence[object]) -> bool:
    """Whether so many can have been left behind by crashes; if there are none there is nothing to do either."""
    if len(orphans) > ALWAYS and len(orphans) > MOST_SHARE * len(found):
        log.error("orphans_implausible", what=what, orphans=len(orphans), looked_at=len(found))
        return False
    return bool(orphans)


def _record(databases: Databases, what: str, count: int, now: datetime) -> None:
    with transaction(databases.content) as session:
        event = audit.Event(audit.MACHINE, "retention.orphans_removed", "orphans", what, {"count": count})
        audit.record(session, [event], now)
