"""Items as a queue of work: claims under a lease, compare-and-set on its token, and look-ups.

The database is the queue of record. A lease token is random; whoever still carries the row's token may
change it, whoever does not changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import Row, TextClause, and_, exists, func, or_, select, text, true, update
from sqlalchemy.orm import Session

from moderation.domain.content import ItemState, Lane
from moderation.domain.routing import Route
from moderation.storage.database import among
from moderation.storage.tables import FRESH, RETRIED, Decision, Item, Part

ITEMS_CHANNEL = "moderation_items"
DECIDED_CHANNEL = "moderation_decided"
IDS_A_NOTICE = 200  # PostgreSQL takes less than 8,000 bytes at once


@dataclass(frozen=True, slots=True)
class Claim:
    """Items leased together under one token."""

    token: UUID
    ids: tuple[UUID, ...]


def claim_due(session: Session, lane: Lane, limit: int, lease: timedelta, now: datetime) -> Claim | None:
    """Lease up to `limit` items that nobody has tried yet, oldest first; None if there are none."""
    return _claim(session, _CLAIM_FRESH, lane, limit, lease, now)


def claim_retry(session: Session, lane: Lane, lease: timedelta, now: datetime) -> Claim | None:
    """Lease one item that failed before. It goes alone, so that a poison item fails alone."""
    return _claim(session, _CLAIM_RETRY, lane, 1, lease, now)


def _claiming(which: str) -> TextClause:
    # Materialized: PostgreSQL must not look for due rows again for every row it has locked. The conditions are
    # literal, because a prepared statement can't use a partial index whose condition it gets as a parameter.
    return text(f"""
        WITH due AS MATERIALIZED (
            SELECT id FROM items WHERE {which} AND lane = :lane AND not_before <= :now AND expires_at > :now
            ORDER BY not_before, id LIMIT :limit FOR UPDATE SKIP LOCKED
        )
        UPDATE items SET state = 'leased', lease_token = :token, lease_until = :until
        FROM due WHERE items.id = due.id RETURNING items.id
    """)  # noqa: S608  our own words


_CLAIM_FRESH, _CLAIM_RETRY = _claiming(FRESH), _claiming(RETRIED)


def _claim(
    session: Session, statement: TextClause, lane: Lane, limit: int, lease: timedelta, now: datetime
) -> Claim | None:
    token = uuid4()
    values = {"lane": lane, "now": now, "limit": limit, "token": token, "until": now + lease}
    ids = session.execute(statement, values).scalars().all()
    return Claim(token, tuple(ids)) if ids else None


def begin(session: Session, token: UUID, ids: Sequence[UUID], until: datetime) -> list[Item]:
    """Count an attempt of those of `ids` that still carry `token`, and return them in the order of their ids.

    Counted here and not with the claim: a wake-up that the broker lost, or that waited there for too long,
    was no attempt. Only what a worker took in hand and did not finish brings an item nearer to its end.
    """
    begun = session.scalars(
        update(Item)
        .where(among(Item.id, ids), Item.lease_token == token)
        .values(attempts=Item.attempts + 1, lease_until=func.greatest(Item.lease_until, until))
        .returning(Item)
        .execution_options(synchronize_session=False)
    )
    return sorted(begun, key=lambda item: item.id)


def leased(session: Session, token: UUID, ids: Sequence[UUID]) -> Sequence[Item]:
    """Those of `ids` that still carry `token`, without their parts, in the order of their ids."""
    return session.scalars(
        select(Item).where(among(Item.id, ids), Item.lease_token == token).order_by(Item.id)
    ).all()


def lock_leased(session: Session, token: UUID, ids: Sequence[UUID]) -> set[UUID]:
    """Lock those of `ids` that still carry `token`, until the transaction ends."""
    return set(
        session.scalars(
            select(Item.id)
            .where(among(Item.id, ids), Item.lease_token == token)
            .order_by(Item.id)
            .with_for_update()
        )
    )


def parts_of(session: Session, ids: Sequence[UUID], *, posted: bool = False) -> Sequence[Part]:
    """All parts of `ids`, by item and position; with `posted` without the texts that were read in pictures."""
    return session.scalars(
        select(Part)
        .where(among(Part.item_id, ids), Part.derived_from.is_(None) if posted else true())
        .order_by(Part.item_id, Part.position)
    ).all()


def set_languages(session: Session, languages: Mapping[tuple[UUID, str], str]) -> None:
    """Write the language of each text, by item and part."""
    if not languages:
        return
    # One order for everybody; and the ids once more by themselves, by which only their partitions are opened.
    rows = sorted(languages.items())
    values = {
        "items": [item for (item, _), _ in rows],
        "names": [name for (_, name), _ in rows],
        "codes": [code for _, code in rows],
    }
    session.execute(_SET_LANGUAGES, values)


_SET_LANGUAGES = text("""
    UPDATE parts SET language = given.language
    FROM unnest(CAST(:items AS uuid[]), CAST(:names AS text[]), CAST(:codes AS text[]))
        AS given(item_id, name, language)
    WHERE parts.item_id = ANY(CAST(:items AS uuid[])) AND parts.item_id = given.item_id AND parts.name = given.name
""")


def extend(session: Session, token: UUID, ids: Sequence[UUID], until: datetime) -> None:
    """Keep a lease alive while a long batch is being worked on."""
    session.execute(
        update(Item)
        .where(among(Item.id, ids), Item.lease_token == token)
        .values(lease_until=until)
        .execution_options(synchronize_session=False)
    )


def release(
    session: Session, token: UUID, ids: Sequence[UUID], not_before: datetime, *, uncounted: bool = False
) -> None:
    """Give leased items back to the queue, not to be tried before `not_before`.

    With `uncounted` the attempt that was begun does not count: it failed for no fault of the items.
    """
    session.execute(
        update(Item)
        .where(among(Item.id, ids), Item.lease_token == token)
        .values(
            state=ItemState.RECEIVED,
            lease_token=None,
            lease_until=None,
            not_before=not_before,
            attempts=func.greatest(Item.attempts - int(uncounted), 0),
        )
        .execution_options(synchronize_session=False)
    )


def unclaim(session: Session, claim: Claim) -> None:
    """Undo a claim whose wake-up could not be sent."""
    session.execute(
        update(Item)
        .where(among(Item.id, claim.ids), Item.lease_token == claim.token)
        .values(state=ItemState.RECEIVED, lease_token=None, lease_until=None)
        .execution_options(synchronize_session=False)
    )


def expired_leases(session: Session, now: datetime, limit: int) -> Mapping[UUID, Sequence[UUID]]:
    """Items whose lease ran out, locked: their ids by the token they were leased under."""
    rows = session.execute(
        select(Item.lease_token, Item.id)
        .where(Item.state == ItemState.LEASED, Item.lease_until < now)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    expired: dict[UUID, list[UUID]] = {}
    for token, identifier in rows:
        if token is not None:  # a check constraint says so, the column's type does not
            expired.setdefault(token, []).append(identifier)
    return expired


def backlog(session: Session) -> Sequence[Row[str, str, str, int, datetime]]:
    """What is not screened yet: rows of (client, lane, state, count, oldest not_before)."""
    return session.execute(
        select(Item.client, Item.lane, Item.state, func.count(), func.min(Item.not_before))
        .where(Item.state.in_([ItemState.RECEIVED, ItemState.LEASED]))
        .group_by(Item.client, Item.lane, Item.state)
    ).all()


def of_client(session: Session, client: str, identifier: UUID) -> Item | None:
    """An item of `client`, deleted or not."""
    return session.scalar(select(Item).where(and_(Item.id == identifier, Item.client == client)))


def lock_posts(session: Session, external_digests: Collection[bytes]) -> None:
    """Let nobody else submit or delete a revision of these posts until the transaction ends.

    Without it a revision being accepted would be invisible to the deletion of its post, and survive it.
    """
    keys = sorted({int.from_bytes(digest[:8], "big", signed=True) for digest in external_digests})
    locks = text("SELECT pg_advisory_xact_lock(key) FROM unnest(CAST(:keys AS bigint[])) AS key")
    session.execute(locks, {"keys": keys})


def by_external(
    session: Session, client: str, external_digest: bytes, *, lock: bool = False
) -> Sequence[Item]:
    """Every revision of a post, newest first, deleted ones too; with `lock` until the transaction ends."""
    query = select(Item).where(Item.client == client, Item.external_digest == external_digest)
    if lock:
        # In the order in which workers lock a batch, or the two would wait for each other. A row read before
        # it was locked may be stale: a worker may have decided it meanwhile.
        locked = query.order_by(Item.id).with_for_update().execution_options(populate_existing=True)
        return session.scalars(locked).all()[::-1]
    return session.scalars(query.order_by(Item.id.desc())).all()


def page(
    session: Session, client: str, status: str | None, before: UUID | None, limit: int, now: datetime
) -> Sequence[Item]:
    """Items of `client` newest first, those older than `before`, of one status or of all but `deleted`."""
    query = select(Item).where(Item.client == client).order_by(Item.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Item.id < before)
    if status in ("in_review", "decided"):
        # What a person decided is in force, and so known outside, once it can't be undone any more.
        reviewed = exists().where(
            Decision.item_id == Item.id,
            Decision.route == Route.REVIEW,
            Decision.effective_at <= now,
            or_(Decision.superseded_at.is_(None), Decision.superseded_at > now),
        )
        settled = Item.state.in_([ItemState.DONE, ItemState.DEAD])
        query = query.where(settled, Item.expires_at > now, reviewed if status == "in_review" else ~reviewed)
    elif status is None:
        query = query.where(Item.state != ItemState.DELETED, Item.expires_at > now)
    elif status == "deleted":
        query = query.where(or_(Item.state == ItemState.DELETED, Item.expires_at <= now))
    else:
        stored = {"received": ItemState.RECEIVED, "processing": ItemState.LEASED}
        query = query.where(Item.state == stored.get(status, ItemState.DELETED), Item.expires_at > now)
    return session.scalars(query).all()


def notify_decided(session: Session, ids: Sequence[UUID]) -> None:
    """Wake whoever waits for the outcome of one of `ids` once this transaction commits."""
    for start in range(0, len(ids), IDS_A_NOTICE):
        notify(session, DECIDED_CHANNEL, ",".join(map(str, ids[start : start + IDS_A_NOTICE])))


def notify(session: Session, channel: str, payload: str = "") -> None:
    """Wake whoever listens on `channel` once this transaction commits."""
    session.execute(text("SELECT pg_notify(:channel, :payload)"), {"channel": channel, "payload": payload})
