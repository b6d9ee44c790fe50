"""The outbox: what clients are to be told, written in the transaction of what it tells of.

A row is one message to one endpoint: pending -> leased -> delivered | dead. It holds ids and short words only.
What can still be undone is written down too, but not sent before its undo window ends (`not_before`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.orm import Session

from moderation.domain.errors import InvalidInput
from moderation.storage.database import insert_many
from moderation.storage.ids import new_id
from moderation.storage.tables import Outbox, WebhookEndpoint

EVENTS = (
    "item.decided",
    "item.in_review",
    "item.deleted",
    "author.measure",
    "author.measure_reversed",
    "appeal.decided",
    "author.erased",
    "author.restricted",
    "author.suspected_minor",
    "subject_request.closed",
    "policy.announced",
    "incident.notice",
)
WORD = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
WORDS = 16  # of one list
WEBHOOK_ID = re.compile(r"msg_([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell a client, of an item or of none.

    With `not_before` it waits until then; `undo_id` is that of the act it tells of, by which `withdraw` finds it.

    Raises:
        ValueError: the event or payload isn't ours: only ids, short words, short lists of them and whole
            numbers go out.
    """

    client: str
    item_id: UUID | None
    event: str
    payload: Mapping[str, Any]
    callback_id: UUID | None = None
    not_before: datetime | None = None
    undo_id: UUID | None = None

    def __post_init__(self) -> None:
        if self.event not in EVENTS:
            raise ValueError(f"there is no event {self.event!r}")
        for key, value in self.payload.items():
            if not (value is None or isinstance(value, int) or _is_word(value) or _are_words(value)):
                raise ValueError(f"{key!r} of {self.event} is neither an id, a short word nor a list of them")


def _is_word(value: object) -> bool:
    return isinstance(value, str) and WORD.fullmatch(value) is not None


def _are_words(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) <= WORDS and all(map(_is_word, value))


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up."""

    webhook_id: str
    client: str
    endpoint: str
    item_id: UUID | None
    event: str
    created_at: datetime
    attempts: int
    last_status: int | None
    last_error: str | None


def enqueue(session: Session, entries: Sequence[Notice], now: datetime) -> int:
    """Write down what is to be sent, in the transaction of what it tells of; returns the number of messages.

    A notice with a callback goes to that endpoint alone, whatever it subscribed to; any other goes to each
    enabled endpoint of its client that subscribed to the event.
    """
    if not entries:
        return 0
    # The lock is the one the foreign key takes anyway; taken now, an endpoint can't be removed in between.
    endpoints = session.execute(
        select(WebhookEndpoint.id, WebhookEndpoint.client, WebhookEndpoint.events)
        .where(
            WebhookEndpoint.client.in_({entry.client for entry in entries}),
            WebhookEndpoint.disabled_at.is_(None),
        )
        .with_for_update(read=True, key_share=True)
    ).all()
    rows = [
        _message(entry, endpoint, now)
        for entry in entries
        for endpoint, client, events in endpoints
        if client == entry.client
        and (endpoint == entry.callback_id if entry.callback_id else entry.event in events)
    ]
    insert_many(session, Outbox, rows)
    return len(rows)


def _message(entry: Notice, endpoint: UUID, now: datetime) -> dict[str, Any]:
    return {
        "id": new_id(now),
        "client": entry.client,
        "endpoint_id": endpoint,
        "item_id": entry.item_id,
        "event": entry.event,
        "payload": dict(entry.payload) | ({"item_id": str(entry.item_id)} if entry.item_id else {}),
        "created_at": now,
        "state": "pending",
        "attempts": 0,
        "not_before": now if entry.not_before is None else max(now, entry.not_before),
        "undo_id": entry.undo_id,
    }


def withdraw(session: Session, undo_id: UUID) -> bool:
    """Drop what was to be told of an act that is undone; False if a part of it was sent, or is being sent."""
    unsent = (Outbox.state == "pending") & (Outbox.attempts == 0)
    session.execute(
        delete(Outbox).where(Outbox.undo_id == undo_id, unsent).execution_options(synchronize_session=False)
    )
    return session.scalar(select(Outbox.id).where(Outbox.undo_id == undo_id).limit(1)) is None


def told_at(session: Session, item_id: UUID, decision_id: UUID) -> datetime | None:
    """When the first endpoint took the webhook that told of a decision; None if none has."""
    return session.scalar(
        select(func.min(Outbox.delivered_at)).where(
            Outbox.item_id == item_id,
            Outbox.event == "item.decided",
            Outbox.delivered_at.is_not(None),
            Outbox.payload["decision_id"].astext == str(decision_id),
        )
    )


# Max-min fair: the oldest row of every endpoint comes before the second of any. Rows in flight count, so
# that an endpoint which does not answer holds one batch at most, however much is waiting for it.
_DUE = text("""
    WITH flying AS (
        SELECT endpoint_id, count(*) AS number FROM outbox
        WHERE state = 'leased' AND lease_until > :now GROUP BY endpoint_id
    )
    SELECT due.id, row_number() OVER (PARTITION BY endpoint.id ORDER BY due.not_before, due.id) AS place
    FROM webhook_endpoints AS endpoint
    LEFT JOIN flying ON flying.endpoint_id = endpoint.id
    CROSS JOIN LATERAL (
        SELECT id, not_before FROM outbox
        WHERE endpoint_id = endpoint.id AND state = 'pending' AND not_before <= :now
        ORDER BY not_before LIMIT greatest(0, :limit - coalesce(flying.number, 0))
    ) AS due
    UNION ALL
    SELECT id, 0 AS place FROM outbox WHERE state = 'leased' AND lease_until <= :now
    ORDER BY place LIMIT :limit
""")

# Between the query above and this one another relay may have been quicker: what it holds is skipped, what it
# took no longer matches.
_LEASE = text("""
    UPDATE outbox SET state = 'leased', lease_token = :token, lease_until = :until
    WHERE id IN (
        SELECT id FROM outbox
        WHERE id = ANY(:ids) AND ((state = 'pending' AND not_before <= :now)
                                  OR (state = 'leased' AND lease_until <= :now))
        FOR UPDATE SKIP LOCKED
    )
    RETURNING id
""")


def claim(
    session: Session, now: datetime, limit: int, lease_seconds: float
) -> tuple[UUID, tuple[UUID, ...]] | None:
    """Lease at most `limit` due messages, evenly over the endpoints: a token and their ids, or None.

    Safe in any number of relays. A lease is not an attempt: a wake-up lost on the way costs nothing but time.
    """
    due = session.execute(_DUE, {"now": now, "limit": limit}).scalars().all()
    if not due:
        return None
    token = uuid4()
    until = now + timedelta(seconds=lease_seconds)
    ids = session.execute(_LEASE, {"ids": due, "token": token, "until": until, "now": now}).scalars().all()
    return (token, tuple(ids)) if ids else None


def oldest_due(session: Session, now: datetime) -> datetime | None:
    """Since when the message that waits longest has been due; None if none is."""
    return session.scalar(
        select(func.min(Outbox.not_before)).where(Outbox.state == "pending", Outbox.not_before <= now)
    )


def outbox_id(webhook_id: str) -> UUID:
    """The row of a `webhook-id`.

    Raises:
        InvalidInput: it isn't one of ours.
    """
    match = WEBHOOK_ID.fullmatch(webhook_id)
    if match is None:
        raise InvalidInput("A message id is msg_ and 32 hexadecimal digits.")
    return UUID(hex=match[1])


def dead_letters(session: Session, client: str | None = None, limit: int = 100) -> list[DeadLetter]:
    """Messages that were given up, newest first; of one client, or of all."""
    query = select(Outbox, WebhookEndpoint.name).join(
        WebhookEndpoint, WebhookEndpoint.id == Outbox.endpoint_id
    )
    query = query.where(Outbox.state == "dead").order_by(Outbox.id.desc()).limit(limit)
    if client is not None:
        query = query.where(Outbox.client == client)
    return [
        DeadLetter(
            webhook_id=f"msg_{row.id.hex}",
            client=row.client,
            endpoint=name,
            item_id=row.item_id,
            event=row.event,
            created_at=row.created_at,
            attempts=row.attempts,
            last_status=row.last_status,
            last_error=row.last_error,
        )
        for row, name in session.execute(query)
    ]


def replay(session: Session, ids: Sequence[UUID] | None, now: datetime, client: str | None = None) -> int:
    """Send dead letters again, all or those of `ids`, from the first attempt on and under the same ids.

    Those of a disabled endpoint stay as they are, until it is enabled. Returns the number now pending.
    """
    statement = update(Outbox).where(
        Outbox.state == "dead",
        Outbox.endpoint_id == WebhookEndpoint.id,
        WebhookEndpoint.disabled_at.is_(None),
    )
    if ids is not None:
        statement = statement.where(Outbox.id.in_(ids))
    if client is not None:
        statement = statement.where(Outbox.client == client)
    statement = statement.values(state="pending", attempts=0, not_before=now)
    statement = statement.execution_options(synchronize_session=False)
    return len(session.execute(statement.returning(Outbox.id)).all())
