"""The relay: from rows that are due to wake-ups for workers. Safe in any number.

Wakes on `LISTEN`, else every 50 ms. An idle worker gets whatever is due at once; while workers are busy,
due items gather into full batches, because nothing is claimed beyond the queue's depth.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import psycopg
import structlog
from redis import RedisError
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from moderation import jobs, upkeep
from moderation.domain.content import Lane
from moderation.governance import outbox
from moderation.governance.policies import PolicyCache
from moderation.jobs import Broker
from moderation.pipeline import run as pipeline
from moderation.settings import Settings
from moderation.storage import items
from moderation.storage.database import Databases, connect, transaction
from moderation.storage.items import Claim

OUTBOX_BATCH = 32
log = structlog.get_logger()


@dataclass(slots=True)
class Relay:
    """What one relay process holds, and which lane's turn it is."""

    settings: Settings
    databases: Databases
    broker: Broker
    policies: PolicyCache = field(default_factory=PolicyCache)
    credit: float = 0.0


@dataclass(frozen=True, slots=True)
class Due:
    """What there is to do: leases that ran out, items to be screened, webhooks to be delivered."""

    leases: bool
    items: bool
    webhooks: bool


EVERYTHING = Due(leases=True, items=True, webhooks=True)
_DUE = """
    SELECT
        EXISTS (SELECT FROM items WHERE state = 'leased' AND lease_until < %(now)s),
        EXISTS (
            SELECT FROM items
            WHERE state = 'received' AND attempts = 0 AND lane IN ('live', 'bulk') AND not_before <= %(now)s
        ) OR EXISTS (
            SELECT FROM items
            WHERE state = 'received' AND attempts > 0 AND lane IN ('live', 'bulk') AND not_before <= %(now)s
        ),
        EXISTS (SELECT FROM outbox WHERE state = 'pending' AND not_before <= %(now)s)
        OR EXISTS (SELECT FROM outbox WHERE state = 'leased' AND lease_until <= %(now)s)
"""


def run(settings: Settings, stop: threading.Event) -> None:
    """Relay until `stop` is set. Outages of database and broker are waited out."""
    with (
        upkeep.running(settings, stop),
        opened(settings) as relay,
        closing(_Waiter(settings.database_url)) as waiter,
    ):
        while not stop.is_set():
            try:
                now = datetime.now(UTC)
                if not tick(relay, now, waiter.due(now)):
                    waiter.wait(settings.work.poll_seconds)
            except (DBAPIError, psycopg.Error, RedisError) as error:
                log.warning("relay_outage", error=type(error).__name__)
                stop.wait(0.5)


@contextmanager
def opened(settings: Settings) -> Iterator[Relay]:
    """A relay with its connections, which are let go of at the end."""
    databases = connect(settings.database_url, settings.keystore_url)
    broker = jobs.connect(settings.redis_url)
    try:
        yield Relay(settings, databases, broker)
    finally:
        broker.connection.close()
        databases.dispose()


def tick(relay: Relay, now: datetime, due: Due = EVERYTHING) -> bool:
    """One round: take back expired leases, send due items and webhooks. Whether anything was sent."""
    if due.leases:
        reclaim(relay, now)
    sent = due.items and _send_items(relay, now)
    return (due.webhooks and _send_webhooks(relay, now)) or sent


def _send_items(relay: Relay, now: datetime) -> bool:
    sent = False
    while relay.broker.depth(jobs.SCREENING) < relay.settings.work.queue_depth * relay.settings.workers:
        if not _send_next(relay, now):
            break
        sent = True
    return sent


def reclaim(relay: Relay, now: datetime) -> None:
    """Give items whose lease ran out back to the queue, or to people after the last attempt."""
    work = relay.settings.work
    with transaction(relay.databases.content) as session:
        expired = items.expired_leases(session, now, limit=500)
        if not expired:
            return
        policy = relay.policies.current(session)
        retry = timedelta(seconds=work.retry_seconds)
        for token, ids in expired.items():
            buried = pipeline.give_back(session, policy, token, ids, now, work.max_attempts, retry)
            jobs.notify(session, buried, now)
    log.info("leases_expired", batches=len(expired), items=sum(map(len, expired.values())))


def _send_next(relay: Relay, now: datetime) -> bool:
    """Send one batch, or one item that failed before. The bulk lane has its share, and what live leaves."""
    credit = min(relay.credit + relay.settings.work.bulk_share, 1.0)
    bulk_turn = credit >= 1.0
    for lane in (Lane.BULK, Lane.LIVE) if bulk_turn else (Lane.LIVE, Lane.BULK):
        claim = _claim(relay, lane, now)
        if claim is None:
            continue
        relay.credit = credit - 1.0 if lane is Lane.BULK and bulk_turn else credit
        _send(relay, claim)
        return True
    return False


def _claim(relay: Relay, lane: Lane, now: datetime) -> Claim | None:
    work = relay.settings.work
    lease = timedelta(seconds=work.lease_seconds)
    with transaction(relay.databases.content, durable=False) as session:
        # Retries first: they are few, they are late already, and each goes alone.
        return items.claim_retry(session, lane, lease, now) or items.claim_due(
            session, lane, work.batch_items, lease, now
        )


def _send(relay: Relay, claim: Claim) -> None:
    try:
        relay.broker.send(jobs.SCREENING, jobs.SCREEN_JOB, claim.token, claim.ids)
    except RedisError:
        # Not a failed attempt of the items': they were never tried.
        with transaction(relay.databases.content) as session:
            items.unclaim(session, claim)
        raise


def _send_webhooks(relay: Relay, now: datetime) -> bool:
    if relay.broker.depth(jobs.DELIVERY) >= relay.settings.work.queue_depth:
        return False
    with transaction(relay.databases.content, durable=False) as session:
        claimed = outbox.claim(session, now, OUTBOX_BATCH, relay.settings.work.lease_seconds)
    if claimed is None:
        return False
    token, ids = claimed
    relay.broker.send(jobs.DELIVERY, jobs.DELIVER_JOB, token, ids)
    return True


class _Waiter:
    """Waits for a notification that something may be due, or for a time-out, and looks what it is.

    One prepared query on a connection of its own: a relay with nothing to do should cost next to nothing.
    """

    def __init__(self, database_url: str) -> None:
        self._dsn = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._connection: psycopg.Connection | None = None
        self._noticed = False

    def due(self, now: datetime) -> Due:
        """What is due at `now`."""
        connection = self._connected()
        self._noticed = False
        row = connection.execute(_DUE, {"now": now}, prepare=True).fetchone()
        return Due(*row) if row else EVERYTHING

    def wait(self, seconds: float) -> None:
        """Until the next notification, or for `seconds`.

        The socket is only looked at; the next query takes in what has arrived. The driver's own waiting spends
        a millisecond of processor time on every time-out.
        """
        if not self._noticed:
            select.select([self._connected()], [], [], seconds)

    def _connected(self) -> psycopg.Connection:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._dsn, autocommit=True)
            self._connection.add_notify_handler(self._notice)
            self._connection.execute(f"LISTEN {items.ITEMS_CHANNEL}")
        return self._connection

    def _notice(self, _: psycopg.Notify) -> None:
        # It came with the answer to a query that may have begun before: look once more.
        self._noticed = True

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
