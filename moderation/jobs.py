"""What machine work there is and how it is sent: short messages of ids, on one RQ queue each.

RQ carries wake-ups and nothing else. The database says what is to be done, retries it and counts the
attempts, so a broker that loses everything loses nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from redis import Redis
from rq import Queue
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from moderation import delivery
from moderation.domain.routing import Route
from moderation.features.decode import DecoderBroken
from moderation.governance import outbox
from moderation.governance.outbox import Notice
from moderation.pipeline import run
from moderation.pipeline.run import Tools
from moderation.review.decisions import Recorded
from moderation.settings import Settings
from moderation.storage import items
from moderation.storage.database import transaction
from moderation.storage.vault import Vault

SCREENING = "screening"
DELIVERY = "delivery"
SCREEN_JOB = "screen"
DELIVER_JOB = "deliver"
JOB_SECONDS = 600
FAILURE_SECONDS = 3600
OUTAGE_PAUSE = timedelta(seconds=5)

Handler = Callable[[str, list[str]], None]
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Broker:
    """The two RQ queues over one connection. A worker listens to one of them only.

    With two queues RQ forgets a job whose worker dies right after the pop; with one it does not. Losing it
    would cost a lease's length either way.
    """

    connection: Redis

    def send(self, queue: str, job: str, token: UUID, ids: Sequence[UUID]) -> None:
        """Wake a worker for `ids`.

        Raises:
            redis.RedisError: the broker can't be reached.
        """
        self._queue(queue).enqueue_call(
            func=job,
            args=(str(token), [str(identifier) for identifier in ids]),
            timeout=JOB_SECONDS,
            result_ttl=0,
            failure_ttl=FAILURE_SECONDS,
            description=job,
        )

    def depth(self, queue: str) -> int:
        """How many jobs wait.

        Raises:
            redis.RedisError: the broker can't be reached.
        """
        return int(self._queue(queue).count)

    def _queue(self, name: str) -> Queue:
        return Queue(name, connection=self.connection, serializer="json")


def connect(url: str) -> Broker:
    """A broker at `url` (`redis://`, `rediss://` or `unix://`); nothing is opened before the first use."""
    return Broker(Redis.from_url(url, socket_connect_timeout=5, health_check_interval=30))


def utc_now() -> datetime:
    """The moment it is."""
    return datetime.now(UTC)


def screen_handler(settings: Settings, tools: Tools, now_fn: Callable[[], datetime] = utc_now) -> Handler:
    """The job `screen`: examine a batch and commit what it came to, or give it back."""
    work = settings.work
    lease, retry = timedelta(seconds=work.lease_seconds), timedelta(seconds=work.retry_seconds)
    engine = tools.databases.content

    def screen(token_text: str, id_texts: list[str]) -> None:
        token, ids = UUID(token_text), [UUID(text) for text in id_texts]
        try:
            with kept_alive(tools, token, ids, lease):
                screened = run.examine(tools, token, ids, now_fn(), lease)
            if not screened.batch.items:
                log.info("lease_lost", items=len(ids))
                return
            with transaction(engine) as session:
                notify(session, run.commit(session, token, screened, now_fn()), screened.batch.now)
        except (DBAPIError, DecoderBroken, OSError) as error:
            # Something of ours is away, and no item is to blame: they wait, and no attempt is counted.
            log.warning("batch_interrupted", items=len(ids), error=type(error).__name__)
            with transaction(engine) as session:
                items.release(session, token, ids, now_fn() + OUTAGE_PAUSE, uncounted=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, the items must not stay leased
            log.warning("batch_failed", items=len(ids), error=type(error).__name__)
            with transaction(engine) as session:
                now = now_fn()
                policy = tools.policies.current(session)
                buried = run.give_back(session, policy, token, ids, now, work.max_attempts, retry)
                notify(session, buried, now)

    return screen


def deliver_handler(settings: Settings, engine: Engine, vault: Vault) -> Handler:
    """The job `deliver`: send the webhooks leased under a token."""

    def deliver(token: str, ids: list[str]) -> None:
        delivery.deliver(
            engine,
            vault,
            settings.insecure_dev,
            UUID(token),
            [UUID(text) for text in ids],
            utc_now,
        )

    return deliver


def notify(session: Session, recorded: Sequence[Recorded], now: datetime) -> None:
    """Put a webhook notice for each outcome into the outbox, in the transaction of the outcome."""
    notices = [
        Notice(
            client=one.client,
            item_id=one.item,
            event="item.in_review" if one.route is Route.REVIEW else "item.decided",
            payload={
                "item_id": str(one.item),
                "decision_id": str(one.decision_id),
                "verdict": str(one.route),
            }
            # One a category at most.
            | ({"certificates": list(map(str, one.certificates))} if one.certificates else {}),
            callback_id=one.callback_id,
        )
        for one in recorded
    ]
    outbox.enqueue(session, notices, now)


@contextmanager
def kept_alive(tools: Tools, token: UUID, ids: Sequence[UUID], lease: timedelta) -> Iterator[None]:
    """Extend the lease from a thread while a batch is examined, so that a slow one is not done twice."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(lease.total_seconds() / 3):
            # An outage ends the batch anyway, or the lease outlives it.
            with suppress(DBAPIError), transaction(tools.databases.content, durable=False) as session:
                items.extend(session, token, ids, datetime.now(UTC) + lease)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
