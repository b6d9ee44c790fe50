"""What is done now and then beside the relay, in a thread of its own: nothing here may keep an item waiting.

A task is a function of an `Upkeep`; it owns its transactions, is safe in any number of relays, stops by itself
after a few seconds, and goes on in its next turn.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from moderation import metrics
from moderation.domain.content import Lane
from moderation.governance import erasure, invitations, outbox, sessions
from moderation.review import labels, listing
from moderation.settings import Settings
from moderation.storage import items, partitions
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, connect, transaction
from moderation.storage.vault import Vault

GAUGE_SECONDS = 5.0
SWEEP_SECONDS = 15.0
SWEEP_AT_MOST_SECONDS = 3.0
SWEEP_ITEMS = 500
HOUSEKEEPING_SECONDS = 3600.0
DELIVERED_DAYS = 30
TICK_SECONDS = 0.25
PATIENCE_SECONDS = 10.0
log = structlog.get_logger()


@dataclass(slots=True)
class Upkeep:
    """What every task holds, and the labels it has set once."""

    settings: Settings
    databases: Databases
    vault: Vault
    blobs: FolderBlobs
    lagging: set[str] = field(default_factory=set)
    queues: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Every:
    """A task that runs now and then every `seconds`."""

    seconds: float
    task: Callable[[], None]
    due: float = 0.0

    def run_if_due(self) -> None:
        if time.monotonic() >= self.due:
            self.due = time.monotonic() + self.seconds
            try:
                self.task()
            except Exception:
                # A folder that can't be written, say, must not keep items from being screened.
                log.exception("upkeep_failed")


def tasks(upkeep: Upkeep) -> list[Every]:
    """Everything there is to do, and how often."""
    return [
        Every(GAUGE_SECONDS, lambda: _gauges(upkeep)),
        Every(SWEEP_SECONDS, lambda: _sweep(upkeep)),
        Every(HOUSEKEEPING_SECONDS, lambda: _housekeeping(upkeep)),
    ]


@contextmanager
def opened(settings: Settings) -> Iterator[Upkeep]:
    """What the tasks need, with connections of their own, which are let go of at the end."""
    databases = connect(settings.database_url, settings.keystore_url, pool_size=2)
    try:
        vault, blobs = Vault(databases.keystore, settings.kek), FolderBlobs(settings.blob_dir)
        yield Upkeep(settings, databases, vault, blobs)
    finally:
        databases.dispose()


@contextmanager
def running(settings: Settings, stop: threading.Event) -> Iterator[None]:
    """Do the upkeep in a thread until `stop` is set."""
    thread = threading.Thread(target=_run, args=(settings, stop), name="upkeep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(PATIENCE_SECONDS)


def _run(settings: Settings, stop: threading.Event) -> None:
    with opened(settings) as upkeep:
        due = tasks(upkeep)
        while not stop.wait(TICK_SECONDS):
            for task in due:
                if not stop.is_set():
                    task.run_if_due()


def _gauges(upkeep: Upkeep) -> None:
    now = datetime.now(UTC)
    with transaction(upkeep.databases.content) as session:
        rows = items.backlog(session)
        overdue = erasure.overdue(session, now)
        waiting = outbox.oldest_due(session, now)
        queues = listing.oldest_open(session)
        missed = listing.missed(session, now)
    counts: dict[tuple[str, str], int] = {
        (lane, state): 0 for lane in Lane for state in ("received", "leased")
    }
    ages: dict[str, float] = dict.fromkeys(Lane, 0.0)
    for _, lane, state, count, oldest in rows:
        counts[lane, state] += count
        ages[lane] = max(ages[lane], (now - oldest).total_seconds())
    for (lane, state), count in counts.items():
        metrics.BACKLOG_ITEMS.labels(lane, state).set(count)
    for lane, age in ages.items():
        metrics.BACKLOG_AGE.labels(lane).set(age)
    metrics.OUTBOX_AGE.set((now - waiting).total_seconds() if waiting else 0.0)
    # A label that was set once is set back to 0, or its alarm would never end.
    upkeep.lagging.update(overdue)
    for name in upkeep.lagging:
        metrics.RETENTION_LAG.labels(name).set(overdue.get(name, 0.0))
    upkeep.queues.update(queues)
    for queue in upkeep.queues:
        opened_at = queues.get(queue)
        metrics.QUEUE_AGE.labels(queue).set((now - opened_at).total_seconds() if opened_at else 0.0)
        metrics.DEADLINES_MISSED.labels(queue).set(missed.get(queue, 0))


def _sweep(upkeep: Upkeep) -> None:
    """Destroy what is due, for some seconds at most: new items wait meanwhile, and the next turn is near."""
    end = time.monotonic() + SWEEP_AT_MOST_SECONDS
    swept = authors = SWEEP_ITEMS
    total = 0
    while swept == SWEEP_ITEMS and time.monotonic() < end:
        swept = erasure.sweep(upkeep.databases, upkeep.vault, upkeep.blobs, datetime.now(UTC), SWEEP_ITEMS)
        total += swept
    while authors == SWEEP_ITEMS and time.monotonic() < end:
        authors = erasure.sweep_authors(upkeep.databases, upkeep.vault, datetime.now(UTC), SWEEP_ITEMS)
    if total:
        log.info("items_destroyed", items=total)


def _housekeeping(upkeep: Upkeep) -> None:
    now = datetime.now(UTC)
    with upkeep.databases.content.begin() as connection:
        partitions.ensure(connection, now)
    with transaction(upkeep.databases.content) as session:
        erasure.sweep_records(session, now, now - timedelta(days=DELIVERED_DAYS))
        labels.end_expired(session, now)
        sessions.forget(session, now)
        invitations.forget(session, now)
