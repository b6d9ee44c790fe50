"""Suggested labels: what a content service says a text should have scored. Kept for 30 days, then gone.

Nobody who posts is named with them, so they belong to an author of their own, one per content service, whom it
calls `AUTHOR`: to erase that author erases what the service suggested. Each text has a key of its own under that
author's, as an item has.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, exists, func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from moderation.domain.errors import Conflict, TooManyRequests
from moderation.governance import audit
from moderation.storage import items as queue
from moderation.storage.database import Databases, among, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import Author, Suggestion
from moderation.storage.vault import Vault

AUTHOR = "suggested-labels"
KEPT = timedelta(days=30)
MOST = 10_000  # of one content service


def place(suggestion: UUID) -> tuple[str, ...]:
    """What a text's ciphertext is bound to."""
    return ("suggestions", "text", str(suggestion))


def keep(
    session: Session, vault: Vault, client: str, text: str, scores: Mapping[str, float], now: datetime
) -> UUID:
    """Keep a text with the scores it should have had, by category; its id.

    Raises:
        Conflict: what this client suggested is just being erased.
        TooManyRequests: `MOST` of this client's are kept already.
    """
    author = _author(session, vault, client, now)
    kept = select(Suggestion.id).where(Suggestion.author_id == author, Suggestion.expires_at > now)
    if (session.scalar(select(func.count()).select_from(kept.limit(MOST).subquery())) or 0) >= MOST:
        raise TooManyRequests(
            f"{MOST:,} of your suggestions are kept, which is the most; send more when some have ended.",
            retry_after=3600,
            code="too_many_suggestions",
        )
    identifier = new_id(now)
    key = vault.create_item_keys({identifier: author}, now)[identifier]
    session.add(
        Suggestion(
            id=identifier,
            author_id=author,
            client=client,
            text=key.encrypt(text.encode(), "suggestions", "text", str(identifier)),
            scores=dict(scores),
            suggested_at=now,
            expires_at=now + KEPT,
        )
    )
    event = audit.Event(f"client:{client}", "labels.suggested", "suggestion", str(identifier))
    audit.record(session, [event], now)
    return identifier


def _author(session: Session, vault: Vault, client: str, now: datetime) -> UUID:
    """The author of a client's suggestions, made if there is none; neither erased nor forgotten until we commit."""
    digest = vault.digest("author", client, AUTHOR)
    queue.lock_posts(session, {digest})
    known = (
        select(Author.id, Author.erasing_at)
        .where(Author.client == client, Author.reference_digest == digest)
        .with_for_update(read=True, key_share=True)
    )
    row = session.execute(known).one_or_none()
    if row is None:
        identifier = new_id(now)
        key = vault.author_keys([identifier], now)[identifier]
        values = {
            "id": identifier,
            "client": client,
            "reference_digest": digest,
            "reference": key.encrypt(AUTHOR.encode(), "authors", "reference", str(identifier)),
            "created_at": now,
        }
        session.execute(upsert(Author).on_conflict_do_nothing(), [values])
        row = session.execute(known).one()
    if row.erasing_at is not None:
        raise Conflict("What you suggested before is just being erased; suggest again in a while.")
    author: UUID = row.id
    return author


def counts(session: Session, now: datetime) -> dict[str, int]:
    """How many suggestions of each category are kept."""
    category = func.jsonb_object_keys(Suggestion.scores).label("category")
    named = select(category).where(Suggestion.expires_at > now).subquery()
    rows = session.execute(select(named.c.category, func.count()).group_by(named.c.category))
    return dict(sorted((name, count) for name, count in rows))


def sweep(databases: Databases, vault: Vault, now: datetime, limit: int = 500) -> int:
    """Destroy up to `limit` suggestions whose time has come, keys first; how many. Owns its transaction."""
    held = exists().where(Author.id == Suggestion.author_id, Author.holds > 0)
    with transaction(databases.content) as session:
        due = session.scalars(
            select(Suggestion.id)
            .where(Suggestion.expires_at <= now, ~held)
            .order_by(Suggestion.expires_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        ).all()
        if due:
            # Without its key nobody can read a row, in a backup either; a crash after this leaves noise for later.
            vault.destroy_item_keys(due)
            session.execute(delete(Suggestion).where(among(Suggestion.id, due)))
    return len(due)
