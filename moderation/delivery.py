"""Webhooks from the outbox, as Standard Webhooks has them: signed, thin, at least once, one id for ever.

A row of `outbox` is one message to one endpoint: pending -> leased -> delivered | dead. The relay claims due
rows under a lease and sends the delivery worker a wake-up of ids; the worker posts them and writes down the
outcome of those that still carry its token. A worker killed between the post and that commit leaves a lease
that runs out: the message is sent again, under the same `webhook-id`, by which receivers drop what they know.
"""

from __future__ import annotations

import base64
import json
import random
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Engine, bindparam, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from standardwebhooks import Webhook

from moderation import outbound
from moderation.domain.content import checked_name
from moderation.domain.errors import Conflict, InvalidInput, NotFound
from moderation.governance import audit
from moderation.metrics import WEBHOOKS
from moderation.settings import Settings
from moderation.storage.database import connect, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import Moment, Outbox, WebhookEndpoint
from moderation.storage.vault import Vault, VaultError

EVENTS = ("item.decided", "item.in_review", "item.deleted")

ENDPOINTS = 20  # of one client: each of its items fans out to all of them
SECRET_BYTES = 32
THREADS = 16
THREADS_AN_ENDPOINT = 8
BUDGET_SECONDS = 60.0  # within which a batch is over, so that its lease never runs out under it
MARGIN_SECONDS = 30.0

# The schedule of the Standard Webhooks specification; the first attempt is immediate, after the tenth the
# message is dead.
RETRY_SECONDS = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
ATTEMPTS = 1 + len(RETRY_SECONDS)
JITTER = 0.1
RETRY_AFTER_SECONDS = 86_400.0
PAUSE_SECONDS = 30.0

GONE = 410
SLOWER = (429, 503)
WORD = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
WEBHOOK_ID = re.compile(r"msg_([0-9a-f]{32})")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a client is told of its items; the secret is never shown again."""

    id: UUID
    name: str
    url: str
    events: tuple[str, ...]
    created_at: datetime
    disabled_at: datetime | None
    disabled_because: str | None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell a client of an item.

    Raises:
        ValueError: the event or payload isn't ours: only ids, short words and whole numbers go out.
    """

    client: str
    item_id: UUID
    event: str
    payload: Mapping[str, Any]
    callback_id: UUID | None = None

    def __post_init__(self) -> None:
        if self.event not in EVENTS:
            raise ValueError(f"there is no event {self.event!r}")
        for key, value in self.payload.items():
            if not (
                value is None or isinstance(value, int) or (isinstance(value, str) and WORD.fullmatch(value))
            ):
                raise ValueError(f"{key!r} of {self.event} is neither an id nor a short word")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up."""

    webhook_id: str
    client: str
    endpoint: str
    item_id: UUID
    event: str
    created_at: datetime
    attempts: int
    last_status: int | None
    last_error: str | None


# --- endpoints ---


def register(
    session: Session,
    vault: Vault,
    client: str,
    name: str,
    url: str,
    events: Collection[str],
    insecure_dev: bool,
    now: datetime,
    resolver: outbound.Resolver = outbound.resolve,
) -> tuple[UUID, str]:
    """A new endpoint: its id and its secret, `whsec_...`, in the clear for the only time.

    Raises:
        InvalidInput: the name, an event or the url is not acceptable; the sentence says why.
        Conflict: the name is taken, or the client has as many endpoints as it may.
    """
    checked_name(name, "An endpoint's name")
    unknown = sorted(set(events) - set(EVENTS))
    if unknown or not events:
        raise InvalidInput(f"events must name at least one of {', '.join(EVENTS)}, and nothing else.")
    outbound.check_url(url, insecure_dev, resolver)
    if _count(session, client) >= ENDPOINTS:
        raise Conflict(f"There are {ENDPOINTS} endpoints already; remove one first.")
    identifier, secret = new_id(now), "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    endpoint = WebhookEndpoint(
        id=identifier,
        client=client,
        name=name,
        url=url,
        events=sorted(set(events)),
        secret=vault.account_key().encrypt(secret.encode(), *_place(identifier)),
        created_at=now,
    )
    try:
        with session.begin_nested():
            session.add(endpoint)
    except IntegrityError as error:
        raise Conflict(f"An endpoint named {name!r} exists already; choose another name.") from error
    _audit(session, f"client:{client}", "created", identifier, now, {"name": name, "events": endpoint.events})
    return identifier, secret


def list_endpoints(session: Session, client: str) -> list[Endpoint]:
    """The client's endpoints by name, disabled ones too."""
    rows = session.scalars(
        select(WebhookEndpoint).where(WebhookEndpoint.client == client).order_by(WebhookEndpoint.name)
    )
    return [
        Endpoint(
            row.id,
            row.name,
            row.url,
            tuple(row.events),
            row.created_at,
            row.disabled_at,
            row.disabled_because,
        )
        for row in rows
    ]


def remove(session: Session, client: str, name: str, now: datetime) -> None:
    """Remove an endpoint with all that was still on its way to it; its name is free again.

    Raises:
        NotFound: the client has no endpoint of that name.
    """
    endpoint = _endpoint(session, client, name)
    session.delete(endpoint)
    session.flush()
    _audit(session, f"client:{client}", "removed", endpoint.id, now, {"name": name})


def enable(session: Session, client: str, name: str, now: datetime) -> None:
    """Take up an endpoint again that was disabled. What died meanwhile stays dead until it is replayed.

    Raises:
        NotFound: the client has no endpoint of that name.
    """
    endpoint = _endpoint(session, client, name)
    if endpoint.disabled_at is None:
        return
    endpoint.disabled_at = endpoint.disabled_because = None
    session.flush()
    _audit(session, f"client:{client}", "enabled", endpoint.id, now, {"name": name})


def _endpoint(session: Session, client: str, name: str) -> WebhookEndpoint:
    found = session.scalar(
        select(WebhookEndpoint).where(WebhookEndpoint.client == client, WebhookEndpoint.name == name)
    )
    if found is None:
        raise NotFound("There is no webhook endpoint of that name.")
    return found


def _count(session: Session, client: str) -> int:
    query = select(func.count()).select_from(WebhookEndpoint).where(WebhookEndpoint.client == client)
    return session.scalar(query) or 0


def _place(endpoint: UUID) -> tuple[str, str, str]:
    return "webhook_endpoints", "secret", str(endpoint)


def _audit(
    session: Session, actor: str, what: str, endpoint: UUID, now: datetime, details: Mapping[str, Any]
) -> None:
    event = audit.Event(actor, f"webhook_endpoint.{what}", "webhook_endpoint", str(endpoint), details)
    audit.record(session, [event], now)


# --- into the outbox ---


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
    if rows:
        session.execute(insert(Outbox), rows)
    return len(rows)


def _message(entry: Notice, endpoint: UUID, now: datetime) -> dict[str, Any]:
    return {
        "id": new_id(now),
        "client": entry.client,
        "endpoint_id": endpoint,
        "item_id": entry.item_id,
        "event": entry.event,
        "payload": {**entry.payload, "item_id": str(entry.item_id)},
        "created_at": now,
        "state": "pending",
        "attempts": 0,
        "not_before": now,
    }


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


# --- out of the outbox ---


@dataclass(frozen=True, slots=True)
class _Message:
    """A leased row. `attempts` counts the one that is now to be made."""

    id: UUID
    endpoint_id: UUID
    body: str
    attempts: int


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What becomes of a row: `wait` seconds until it is sent again, `pause` for others to the same endpoint.

    Unless `tried`, nothing was sent for it and the attempt is not counted.
    """

    message: _Message
    state: str
    wait: float | None = None
    tried: bool = True
    status: int | None = None
    error: str | None = None
    pause: float = PAUSE_SECONDS


@dataclass(slots=True)
class _Line:
    """One endpoint's messages in this batch."""

    endpoint_id: UUID
    url: str
    signer: Webhook
    waiting: deque[_Message]
    flying: int = 0
    answered: bool = False
    stopped_by: _Outcome | None = None
    outcomes: list[_Outcome] = field(default_factory=list)

    def free(self) -> bool:
        """Whether another message may be sent now: one alone, until the endpoint has answered at all."""
        most = THREADS_AN_ENDPOINT if self.answered else 1
        return bool(self.waiting) and self.stopped_by is None and self.flying < most


def deliver(
    engine: Engine,
    vault: Vault,
    insecure_dev: bool,
    token: UUID,
    ids: Sequence[UUID],
    now_fn: Callable[[], datetime],
    *,
    timeout: float = outbound.TIMEOUT_SECONDS,
    jitter: Callable[[], float] = random.random,
) -> int:
    """Send the messages among `ids` that still carry `token`; returns how many were taken by their receivers.

    Owns its two transactions: the attempt is counted before anything is sent, the outcome written afterwards.

    Raises:
        VaultError: the key of all secrets is missing; nothing was counted or sent.
    """
    with transaction(engine) as session:
        own = uuid4()
        lines, settled = _take(session, vault, token, own, ids, now_fn())
    if not lines and not settled:
        log.info("webhooks.lease_lost", messages=len(ids))
        return 0
    with outbound.Client(insecure_dev) as client:
        _send(lines, client, now_fn, timeout, jitter)
    for line in lines:
        settled += [*line.outcomes, *_left_over(line)]
    with transaction(engine) as session:
        _settle(session, own, settled, now_fn())
    for outcome in settled:
        if outcome.tried:
            WEBHOOKS.labels("retry" if outcome.state == "pending" else outcome.state).inc()
    return sum(outcome.state == "delivered" for outcome in settled)


def retry_wait(attempts: int, retry_after: float | None, jitter: float) -> float | None:
    """Seconds until the next attempt after `attempts` of them failed; None when that was the last.

    `jitter` is from 0 to 1, and only ever adds: what failed together does not come back together.
    """
    if attempts >= ATTEMPTS:
        return None
    asked = min(retry_after or 0.0, RETRY_AFTER_SECONDS)
    return max(RETRY_SECONDS[attempts - 1], asked) * (1 + JITTER * jitter)


def _take(
    session: Session, vault: Vault, token: UUID, own: UUID, ids: Sequence[UUID], now: datetime
) -> tuple[list[_Line], list[_Outcome]]:
    """Count the attempt, and put our own token on the rows: a wake-up that comes twice sends once."""
    rows = session.execute(
        update(Outbox)
        .where(Outbox.id.in_(ids), Outbox.lease_token == token)
        .values(
            lease_token=own,
            lease_until=now + timedelta(seconds=BUDGET_SECONDS + MARGIN_SECONDS),
            attempts=Outbox.attempts + 1,
        )
        .returning(
            Outbox.id, Outbox.endpoint_id, Outbox.event, Outbox.payload, Outbox.created_at, Outbox.attempts
        )
        .execution_options(synchronize_session=False)
    ).all()
    endpoints = session.scalars(
        select(WebhookEndpoint).where(WebhookEndpoint.id.in_({row.endpoint_id for row in rows}))
    ).all()
    messages = [
        _Message(row.id, row.endpoint_id, _body(row.event, row.created_at, row.payload), row.attempts)
        for row in sorted(rows, key=lambda row: (row.created_at, row.id))
    ]
    lines: list[_Line] = []
    settled: list[_Outcome] = []
    for endpoint in endpoints:
        mine = [message for message in messages if message.endpoint_id == endpoint.id]
        signer = _signer(vault, endpoint)
        if endpoint.disabled_at is not None:
            settled += [_dead(message, "endpoint disabled") for message in mine]
        elif signer is None:
            settled += [_failed(message, "secret does not open", None, 1.0) for message in mine]
        else:
            # Beyond the last attempt only comes a message whose worker died in it.
            settled += [_dead(message, "given up") for message in mine if message.attempts > ATTEMPTS]
            waiting = deque(message for message in mine if message.attempts <= ATTEMPTS)
            lines.append(_Line(endpoint.id, endpoint.url, signer, waiting))
    return lines, settled


def _body(event: str, created_at: datetime, payload: Mapping[str, Any]) -> str:
    """The same bytes at every attempt: nothing in it depends on when or how often it is sent."""
    moment = created_at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    message = {"type": event, "timestamp": moment, "data": payload}
    return json.dumps(message, sort_keys=True, separators=(",", ":"))


def _signer(vault: Vault, endpoint: WebhookEndpoint) -> Webhook | None:
    key = vault.account_key()
    try:
        return Webhook(key.decrypt(endpoint.secret, *_place(endpoint.id)).decode())
    except VaultError:
        log.error("webhook_endpoint.secret_does_not_open", endpoint=str(endpoint.id))  # noqa: TRY400
        return None


def _send(
    lines: Sequence[_Line],
    client: outbound.Client,
    now_fn: Callable[[], datetime],
    timeout: float,
    jitter: Callable[[], float],
) -> None:
    """Post everything from a few threads; a free one goes to the endpoint with the fewest posts under way."""
    changed = threading.Condition()
    end = time.monotonic() + BUDGET_SECONDS - timeout

    def work() -> None:
        while True:
            with changed:
                while not (free := [line for line in lines if line.free()]):
                    pending = any(line.waiting and line.stopped_by is None for line in lines)
                    if not pending or not changed.wait(max(0.0, end - time.monotonic())):
                        return
                if time.monotonic() > end:
                    return
                line = min(free, key=lambda line: line.flying)
                message = line.waiting.popleft()
                line.flying += 1
            outcome = _attempt(client, line, message, now_fn(), timeout, jitter)
            with changed:
                _note(line, outcome)
                changed.notify_all()

    threads = min(THREADS, sum(len(line.waiting) for line in lines))
    with ThreadPoolExecutor(max(1, threads), thread_name_prefix="webhook") as pool:
        for future in [pool.submit(work) for _ in range(threads)]:
            future.result()


def _attempt(
    client: outbound.Client,
    line: _Line,
    message: _Message,
    now: datetime,
    timeout: float,
    jitter: Callable[[], float],
) -> _Outcome:
    webhook_id = f"msg_{message.id.hex}"
    signed_at = now.astimezone(UTC)
    headers = {
        "Content-Type": "application/json",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(signed_at.timestamp())),
        "webhook-signature": line.signer.sign(webhook_id, signed_at, message.body),
    }
    try:
        answer = client.post(line.url, message.body.encode(), headers, timeout)
    except outbound.SendFailed as failure:
        return _failed(message, str(failure.cause), None, jitter())
    except Exception as error:
        # One message that can't be sent must not take the whole batch's outcomes with it.
        log.exception("webhooks.unforeseen", kind=type(error).__name__)
        return _failed(message, "internal error", None, jitter())
    if 200 <= answer.status < 300:
        return _Outcome(message, "delivered", status=answer.status)
    if answer.status == GONE:
        return _Outcome(message, "dead", status=GONE, error="gone")
    asked = answer.retry_after if answer.status in SLOWER else None
    return _failed(message, "refused", answer.status, jitter(), asked)


def _failed(
    message: _Message, error: str, status: int | None, jitter: float, retry_after: float | None = None
) -> _Outcome:
    wait = retry_wait(message.attempts, retry_after, jitter)
    pause = max(PAUSE_SECONDS, min(retry_after or 0.0, RETRY_AFTER_SECONDS))
    state = "dead" if wait is None else "pending"
    return _Outcome(message, state, wait, status=status, error=error, pause=pause)


def _dead(message: _Message, error: str) -> _Outcome:
    return _Outcome(message, "dead", tried=False, error=error)


def _note(line: _Line, outcome: _Outcome) -> None:
    """Write an outcome into its line; silence, 410 and "slower" stop the line for the rest of the batch."""
    line.flying -= 1
    line.outcomes.append(outcome)
    line.answered = line.answered or outcome.status is not None
    if outcome.status in (None, GONE, *SLOWER) and line.stopped_by is None:
        line.stopped_by = outcome


def _left_over(line: _Line) -> Iterable[_Outcome]:
    """What becomes of the messages that were not sent.

    An endpoint that answered nothing at all in this batch has failed all of it: one post found out for the
    rest, which would otherwise have waited for as many time-outs.
    """
    stop = line.stopped_by
    for message in line.waiting:
        if stop is None:  # out of time
            yield _Outcome(message, "pending", 0.0, tried=False)
        elif stop.status == GONE:
            yield _dead(message, "endpoint disabled")
        elif not line.answered:
            yield _failed(message, stop.error or "", None, 1.0)
        else:
            yield _Outcome(message, "pending", stop.pause, tried=False)


def _settle(session: Session, own: UUID, outcomes: Sequence[_Outcome], now: datetime) -> None:
    """Write the outcomes of the rows that still carry our token; a worker come too late changes nothing."""
    session.connection().execute(
        update(Outbox)
        .where(Outbox.id == bindparam("row"), Outbox.lease_token == own)
        .values(
            state=bindparam("to"),
            attempts=Outbox.attempts - bindparam("untried"),
            not_before=func.coalesce(bindparam("next", type_=Moment), Outbox.not_before),
            last_status=bindparam("status"),
            last_error=bindparam("error"),
            delivered_at=bindparam("delivered"),
            lease_token=None,
            lease_until=None,
        ),
        [
            {
                "row": outcome.message.id,
                "to": outcome.state,
                "untried": int(not outcome.tried),
                "next": None if outcome.wait is None else now + timedelta(seconds=outcome.wait),
                "status": outcome.status,
                "error": outcome.error,
                "delivered": now if outcome.state == "delivered" else None,
            }
            for outcome in sorted(outcomes, key=lambda outcome: outcome.message.id)
        ],
    )
    for endpoint in {outcome.message.endpoint_id for outcome in outcomes if outcome.status == GONE}:
        _disable(session, endpoint, now)


def _disable(session: Session, endpoint: UUID, now: datetime) -> None:
    """Stop sending to an endpoint that said 410. What still waits for it dies when it is claimed."""
    because = "it answered 410 Gone"
    changed = session.execute(
        update(WebhookEndpoint)
        .where(WebhookEndpoint.id == endpoint, WebhookEndpoint.disabled_at.is_(None))
        .values(disabled_at=now, disabled_because=because)
        .returning(WebhookEndpoint.id)
    ).all()
    if changed:
        _audit(session, audit.MACHINE, "disabled", endpoint, now, {"because": because})
        log.warning("webhook_endpoint.disabled", endpoint=str(endpoint), because=because)


# --- dead letters ---


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


def list_dead(settings: Settings, limit: int = 100) -> list[DeadLetter]:
    """`dead_letters` of every client, in a transaction of its own."""
    databases = connect(settings.database_url, settings.keystore_url, pool_size=1)
    try:
        with transaction(databases.content) as session:
            return dead_letters(session, limit=limit)
    finally:
        databases.dispose()


def replay_dead(settings: Settings, ids: Sequence[str] | None) -> int:
    """`replay` by `webhook-id`, in a transaction of its own.

    Raises:
        InvalidInput: one of `ids` isn't a message id.
    """
    rows = None if ids is None else [outbox_id(identifier) for identifier in ids]
    databases = connect(settings.database_url, settings.keystore_url, pool_size=1)
    try:
        with transaction(databases.content) as session:
            return replay(session, rows, datetime.now(UTC))
    finally:
        databases.dispose()
