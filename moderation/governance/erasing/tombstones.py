"""That a post or an author is gone, by keyed digest and for a month: a late retry gets 410 and revives nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from moderation.domain.erasing import TOMBSTONE_DAYS
from moderation.storage.tables import Tombstone

LASTS = timedelta(days=TOMBSTONE_DAYS)
POST, AUTHOR = "post", "author"


@dataclass(frozen=True, slots=True)
class Buried:
    """Which of the digests asked for are gone."""

    posts: frozenset[bytes]
    authors: frozenset[bytes]


def raise_(
    session: Session,
    client: str,
    kind: str,
    digests: Iterable[bytes],
    now: datetime,
    erasure_id: UUID | None = None,
) -> None:
    """Remember that these posts, or these authors, are gone. One that is known already lasts anew."""
    rows = [
        {
            "client": client,
            "kind": kind,
            "digest": digest,
            "erasure_id": erasure_id,
            "expires_at": now + LASTS,
        }
        for digest in sorted(set(digests) - {b""})
    ]
    if rows:
        insert = upsert(Tombstone)
        session.execute(
            insert.on_conflict_do_update(
                index_elements=[Tombstone.client, Tombstone.kind, Tombstone.digest],
                set_={"expires_at": insert.excluded.expires_at, "erasure_id": insert.excluded.erasure_id},
            ),
            rows,
        )


_OF_AUTHOR = text("""
    INSERT INTO tombstones (client, kind, digest, erasure_id, expires_at)
    SELECT DISTINCT client, 'post', external_digest, CAST(:erasure AS uuid), CAST(:until AS timestamptz)
    FROM items WHERE author_id = :author AND external_digest <> ''
    ON CONFLICT (client, kind, digest) DO UPDATE
    SET expires_at = EXCLUDED.expires_at, erasure_id = EXCLUDED.erasure_id
""")


def raise_for_posts_of(session: Session, author_id: UUID, erasure_id: UUID, now: datetime) -> None:
    """The same for every post of an author."""
    session.execute(_OF_AUTHOR, {"author": author_id, "erasure": erasure_id, "until": now + LASTS})


_KNOWN = text("""
    SELECT kind, digest FROM tombstones
    WHERE client = :client AND kind = 'post' AND digest = ANY(CAST(:posts AS bytea[])) AND expires_at > :now
    UNION ALL
    SELECT kind, digest FROM tombstones
    WHERE client = :client AND kind = 'author' AND digest = ANY(CAST(:authors AS bytea[])) AND expires_at > :now
""")


def buried(
    session: Session, client: str, posts: Sequence[bytes], authors: Sequence[bytes], now: datetime
) -> Buried:
    """Which of these posts and authors are gone, in one query."""
    values = {"client": client, "posts": list(posts), "authors": list(authors), "now": now}
    rows = session.execute(_KNOWN, values).all()
    return Buried(
        frozenset(bytes(digest) for kind, digest in rows if kind == POST),
        frozenset(bytes(digest) for kind, digest in rows if kind == AUTHOR),
    )


def sweep(session: Session, now: datetime) -> int:
    """Forget those whose time has passed; how many."""
    old = delete(Tombstone).where(Tombstone.expires_at <= now).returning(Tombstone.kind)
    return len(session.scalars(old).all())
