"""What one API process holds: engines, vault, caches, and the waiter for verdicts."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from sqlalchemy import make_url
from sqlalchemy.orm import Session

from api.marks import Marks
from api.scoring import Scoring
from models.registry import Kind
from moderation.domain.errors import TooManyRequests, Unavailable
from moderation.governance.policies import PolicyCache
from moderation.pipeline.matchers import Matchers
from moderation.pipeline.pictures import PictureBanks
from moderation.serving import Following
from moderation.settings import Limits, Settings
from moderation.storage import items
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, connect
from moderation.storage.vault import Vault

BACKLOG_CACHE_SECONDS = 1.0
RETRY_SECONDS = 5.0


class RateLimit:
    """A sliding window per client, in this process. With N API processes a client gets N times as much."""

    def __init__(self, requests_per_minute: int) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._limit = parse(f"{requests_per_minute}/minute")

    def check(self, client: str) -> None:
        """Count one request.

        Raises:
            TooManyRequests: the client's window is full.
        """
        if not self._limiter.hit(self._limit, client):
            stats = self._limiter.get_window_stats(self._limit, client)
            raise TooManyRequests(
                f"More than {self._limit.amount:,} requests in a minute; slow down and use /v1/items/batch.",
                retry_after=stats.reset_time - time.time(),
            )


@dataclass(slots=True)
class Backlog:
    """Refuses new work when too much waits, the busiest client first; counted once a second."""

    limits: Limits
    counts: dict[str, int] = field(default_factory=dict)
    counted_at: float = 0.0

    def check(self, session: Session, client: str) -> None:
        """Look whether one more item of `client` may come in.

        Raises:
            TooManyRequests: this client's own backlog is full.
            Unavailable: the whole backlog is.
        """
        if time.monotonic() - self.counted_at > BACKLOG_CACHE_SECONDS:
            self.counts = {}
            for name, _, _, count, _ in items.backlog(session):
                self.counts[name] = self.counts.get(name, 0) + count
            self.counted_at = time.monotonic()
        if self.counts.get(client, 0) >= self.limits.backlog_items_per_client:
            raise TooManyRequests(
                f"{self.counts[client]:,} of your items wait to be screened; send more when some are done.",
                retry_after=RETRY_SECONDS,
                code="backlog_full",
            )
        if sum(self.counts.values()) >= self.limits.backlog_items:
            raise Unavailable(
                "Too many items wait to be screened; send this again later.",
                retry_after=RETRY_SECONDS,
                code="backlog_full",
            )


class Verdicts:
    """Wakes requests that wait for a verdict, by PostgreSQL's NOTIFY.

    A missed notification costs a second, not the verdict: waiters look again by themselves.
    """

    LOOK_AGAIN = 1.0

    def __init__(self, database_url: str) -> None:
        self._dsn = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._waiting: dict[UUID, set[asyncio.Event]] = {}

    async def listen(self) -> None:
        """Listen for ever; reconnects after an outage."""
        while True:
            with suppress(psycopg.Error):
                connection = await psycopg.AsyncConnection.connect(self._dsn, autocommit=True)
                async with connection:
                    await connection.execute(f"LISTEN {items.DECIDED_CHANNEL}")
                    async for notice in connection.notifies():
                        self._wake(notice.payload)
            await asyncio.sleep(1.0)

    def _wake(self, payload: str) -> None:
        for text in payload.split(","):
            for event in self._waiting.get(UUID(text), ()):
                event.set()

    def subscribe(self, identifier: UUID) -> asyncio.Event:
        """An event that is set when `identifier` is decided; give it back to `unsubscribe`."""
        event = asyncio.Event()
        self._waiting.setdefault(identifier, set()).add(event)
        return event

    def unsubscribe(self, identifier: UUID, event: asyncio.Event) -> None:
        """Forget a subscription."""
        events = self._waiting.get(identifier, set())
        events.discard(event)
        if not events:
            self._waiting.pop(identifier, None)


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a route may need, built once by `create_app`."""

    settings: Settings
    databases: Databases
    vault: Vault
    blobs: FolderBlobs
    policies: PolicyCache
    rate_limit: RateLimit
    backlog: Backlog
    verdicts: Verdicts
    scoring: Scoring
    marks: Marks
    embedding: Following
    matchers: Matchers
    pictures: PictureBanks


def build(settings: Settings) -> Services:
    """The services of one API process; nothing is connected yet."""
    databases = connect(settings.database_url, settings.keystore_url, pool_size=10)
    kinds: tuple[Kind, ...] = ("embedding",)
    embedding = Following(databases.content, settings.models, kinds, settings.work.model_threads)
    scoring = Scoring(settings, databases)
    return Services(
        settings=settings,
        databases=databases,
        vault=Vault(databases.keystore, settings.kek),
        blobs=FolderBlobs(settings.blob_dir),
        policies=PolicyCache(),
        rate_limit=RateLimit(settings.limits.requests_per_minute),
        backlog=Backlog(settings.limits),
        verdicts=Verdicts(settings.database_url),
        scoring=scoring,
        marks=Marks(scoring.current),
        embedding=embedding,
        matchers=Matchers(lambda: next(iter(embedding.current().embedding), None)),
        # Workers write segments; this process only reads them.
        pictures=PictureBanks(settings.index),
    )
