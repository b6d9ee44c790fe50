"""Webhooks out of the outbox, as Standard Webhooks has them: signed, thin, at least once, one id for ever.

The relay claims due rows under a lease and sends the delivery worker a wake-up of ids; the worker posts them and
writes down the outcome of those that still carry its token. A worker killed between the post and that commit
leaves a lease that runs out: the message is sent again, under the same `webhook-id`, by which receivers drop
what they know.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Engine, bindparam, func, select, update
from sqlalchemy.orm import Session
from standardwebhooks import Webhook

from moderation import outbound
from moderation.governance import audit, outbox, webhooks
from moderation.governance.outbox import DeadLetter
from moderation.metrics import WEBHOOKS
from moderation.settings import Settings
from moderation.storage.database import connect, transaction
from moderation.storage.tables import Moment, Outbox, WebhookEndpoint
from moderation.storage.vault import Vault, VaultError

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
log = structlog.get_logger(__name__)


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
        log.info("webhook_lease_lost", messages=len(ids))
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
        return Webhook(key.decrypt(endpoint.secret, *webhooks.secret_place(endpoint.id)).decode())
    except VaultError:
        log.warning("webhook_secret_does_not_open", endpoint=str(endpoint.id))
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
    except Exception:
        # One message that can't be sent must not take the whole batch's outcomes with it.
        log.exception("webhook_failed")
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
        webhooks.disable(session, endpoint, now)


def list_dead(settings: Settings, limit: int = 100) -> list[DeadLetter]:
    """`outbox.dead_letters` of every client, in a transaction of its own."""
    databases = connect(settings.database_url, settings.keystore_url, pool_size=1)
    try:
        with transaction(databases.content) as session:
            return outbox.dead_letters(session, limit=limit)
    finally:
        databases.dispose()


def replay_dead(settings: Settings, ids: Sequence[str] | None) -> int:
    """`outbox.replay` by `webhook-id`, in a transaction of its own.

    Raises:
        InvalidInput: one of `ids` isn't a message id.
    """
    rows = None if ids is None else [outbox.outbox_id(identifier) for identifier in ids]
    databases = connect(settings.database_url, settings.keystore_url, pool_size=1)
    try:
        with transaction(databases.content) as session:
            now = datetime.now(UTC)
            count = outbox.replay(session, rows, now)
            event = audit.Event("operator", "webhook_endpoint.replayed", "outbox", "dead", {"count": count})
            audit.record(session, [event], now)
            return count
    finally:
        databases.dispose()
