"""What is done now and then beside the relay, in a thread of its own: nothing here may keep an item waiting.

A task is a function of an `Upkeep`; it owns its transactions, is safe in any number of relays, stops by itself
after a few seconds, and goes on in its next turn.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from moderation import metrics, statement_sender
from moderation.domain.content import Lane
from moderation.domain.reporting import Schedule
from moderation.governance import (
    audit,
    bank_guard,
    bank_retention,
    certification,
    checkpoint_files,
    erasure,
    holds,
    incidents,
    invitations,
    learning,
    ledger,
    model_ages,
    outbox,
    preservation,
    report_counts,
    reports,
    rights,
    rotation,
    sessions,
    watching,
)
from moderation.governance.erasing import months, orphans, records, trained
from moderation.governance.erasing.carrying import Pace
from moderation.governance.policies import PolicyCache
from moderation.review import bursts, labels, listing, suggestions
from moderation.settings import Settings
from moderation.storage import items, partitions
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, connect, transaction
from moderation.storage.vault import Vault

GAUGE_SECONDS = 5.0
SWEEP_SECONDS = 15.0
SWEEP_AT_MOST_SECONDS = 3.0
AGAIN_SECONDS = 0.5  # what did not get done in its turn waits for the other tasks, and no longer
SWEEP_ITEMS = 500
ERASE_SECONDS = 2.0
ERASE_AT_MOST_SECONDS = 3.0
RECORDS_SECONDS = 600.0
LEDGER_KEPT_LONGER_DAYS = 366
SCAN_SECONDS = 30.0
HOUSEKEEPING_SECONDS = 3600.0
PACKAGES_SECONDS = 600.0
REPORTS_SECONDS = 300.0
STATEMENTS_SECONDS = 30.0
STATEMENTS_AT_MOST_SECONDS = 20.0
DELIVERED_DAYS = 30
BANKS_SECONDS = 5.0
WATCH_SECONDS = 5.0
SEQUENCE_SECONDS = 1.0
SEQUENCE_AT_MOST_SECONDS = 1.0
SEQUENCE_EVENTS = 5000
CHECKPOINT_SECONDS = 60.0
RIGHTS_SECONDS = 5.0
TEND_SECONDS = 60.0
KEK_SECONDS = 30.0
KEK_AT_MOST_SECONDS = 2.0
TICK_SECONDS = 0.25
PATIENCE_SECONDS = 10.0
AGAIN_AFTER_SECONDS = 5.0
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
    policies: PolicyCache = field(default_factory=PolicyCache)
    scanned: orphans.Place = field(default_factory=orphans.Place)
    learning: subprocess.Popen[bytes] | None = None  # rounds of the schedule, in a process of their own
    learn_from: float = 0.0  # not before this moment of the monotonic clock: the last ones came to nothing
    sending: threading.Thread | None = None  # statements of reasons, to a server that may be slow to answer
    certifying: threading.Thread | None = None  # what many decisions take some seconds to be read for


@dataclass(slots=True)
class Every:
    """A task that runs every `seconds`, and soon again where it says that there is more to do (True)."""

    seconds: float
    task: Callable[[], bool | None]
    due: float = 0.0

    def run_if_due(self) -> None:
        if time.monotonic() >= self.due:
            self.due = time.monotonic() + self.seconds
            try:
                if self.task():
                    self.due = time.monotonic() + min(self.seconds, AGAIN_SECONDS)
            except Exception:
                # A folder that can't be written, say, must not keep items from being screened.
                log.exception("upkeep_failed")


def tasks(upkeep: Upkeep) -> list[Every]:
    """Everything there is to do, and how often."""
    return [
        Every(GAUGE_SECONDS, lambda: _gauges(upkeep)),
        Every(SWEEP_SECONDS, lambda: _sweep(upkeep)),
        Every(ERASE_SECONDS, lambda: _erase(upkeep)),
        Every(RECORDS_SECONDS, lambda: _records(upkeep)),
        Every(SCAN_SECONDS, lambda: _scan(upkeep)),
        Every(HOUSEKEEPING_SECONDS, lambda: _housekeeping(upkeep)),
        Every(BANKS_SECONDS, lambda: _banks(upkeep)),
        Every(WATCH_SECONDS, lambda: _watch(upkeep)),
        Every(RIGHTS_SECONDS, lambda: rights.watch(upkeep.databases, datetime.now(UTC))),
        Every(TEND_SECONDS, lambda: rights.tend(upkeep.databases, upkeep.vault, datetime.now(UTC))),
        Every(SEQUENCE_SECONDS, lambda: _sequence(upkeep)),
        Every(CHECKPOINT_SECONDS, lambda: _checkpoint(upkeep)),
        Every(PACKAGES_SECONDS, lambda: _packages(upkeep)),
        Every(STATEMENTS_SECONDS, lambda: _statements(upkeep)),
        Every(KEK_SECONDS, lambda: _rotate(upkeep)),
        Every(REPORTS_SECONDS, lambda: _reports(upkeep)),
        Every(TEND_SECONDS, lambda: _certify(upkeep)),
        Every(TEND_SECONDS, lambda: _retire(upkeep)),
        Every(TEND_SECONDS, lambda: _learn(upkeep)),
    ]


@contextmanager
def opened(settings: Settings) -> Iterator[Upkeep]:
    """What the tasks need, with connections of their own, which are let go of at the end."""
    databases = connect(settings.database_url, settings.keystore_url, pool_size=2)
    try:
        vault, blobs = Vault(databases.keystore, settings.kek), FolderBlobs(settings.blob_dir)
        upkeep = Upkeep(settings, databases, vault, blobs)
        yield upkeep
        _stop_learning(upkeep)
        for thread in (upkeep.sending, upkeep.certifying):
            if thread is not None:
                thread.join(PATIENCE_SECONDS)
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
    while not stop.is_set():
        try:
            _until(settings, stop)
        except Exception:
            # A folder that is not mounted yet, say. Without this thread nothing would ever be erased.
            log.exception("upkeep_failed")
            stop.wait(AGAIN_AFTER_SECONDS)


def _until(settings: Settings, stop: threading.Event) -> None:
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
        logged = ledger.head(session)
        metrics.BANK_QUARANTINED.set(bank_guard.quarantined(session, now))
        metrics.HOLDS_OVERDUE.set(holds.overdue(session, now))
        metrics.INCIDENT_DEADLINE.set(incidents.seconds_left(session, now))
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
    metrics.AUDIT_UNSEQUENCED.set(logged.waiting)
    uncovered = logged.oldest_uncovered
    metrics.AUDIT_CHECKPOINT_AGE.set((now - uncovered).total_seconds() if uncovered else 0.0)
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


def _sweep(upkeep: Upkeep) -> bool:
    """Destroy what is due, for some seconds at most; whether there is more of it."""
    pace = Pace(SWEEP_AT_MOST_SECONDS)
    swept = authors = SWEEP_ITEMS
    total = 0
    while swept == SWEEP_ITEMS and pace.on():
        swept = erasure.sweep(upkeep.databases, upkeep.vault, upkeep.blobs, datetime.now(UTC), SWEEP_ITEMS)
        total += swept
    with transaction(upkeep.databases.content, durable=False) as session:
        bursts.sweep(session, datetime.now(UTC))
    suggestions.sweep(upkeep.databases, upkeep.vault, datetime.now(UTC), SWEEP_ITEMS)
    while authors == SWEEP_ITEMS and pace.on():
        authors = erasure.sweep_authors(upkeep.databases, upkeep.vault, datetime.now(UTC), SWEEP_ITEMS)
    if total:
        log.info("items_destroyed", items=total)
    return swept == SWEEP_ITEMS


def _erase(upkeep: Upkeep) -> None:
    """Carry out what somebody asked to have erased."""
    now = datetime.now(UTC)
    ended = erasure.run(upkeep.databases, upkeep.vault, upkeep.blobs, now, ERASE_AT_MOST_SECONDS)
    if ended:
        log.info("erased", erasures=ended)


def _banks(upkeep: Upkeep) -> None:
    """Hold entries of banks back that suddenly match far more than ever."""
    with transaction(upkeep.databases.content) as session:
        floods = bank_guard.watch(session, datetime.now(UTC), upkeep.settings.work.bank_flood)
    for flood in floods:
        log.warning("bank_entry_quarantined", bank=flood.bank, entry=str(flood.entry), hits=flood.hits)


def _watch(upkeep: Upkeep) -> None:
    """End certificates that do not fit any more what is decided under them."""
    now = datetime.now(UTC)
    for one in watching.watch(upkeep.databases.content, upkeep.policies, now):
        log.warning(
            "certificate_voided",
            certificate=str(one.certificate),
            category=one.category,
            side=str(one.side),
            slice=one.slice,
            reason=str(one.reason),
        )
    with transaction(upkeep.databases.content, durable=False) as session:
        found = watching.figures(session, upkeep.policies.current(session), now)
    metrics.CERTIFICATES.set(found.in_force)
    metrics.CERTIFICATES_WATCHED.set(found.age.total_seconds())


def _records(upkeep: Upkeep) -> None:
    """Remove rows of what ended long ago, records that are five years old, and months in which nothing is left."""
    now, databases = datetime.now(UTC), upkeep.databases
    with transaction(databases.content) as session:
        retention = upkeep.policies.current(session).retention
    days = retention.records_days
    pace, removed = Pace(SWEEP_AT_MOST_SECONDS), 1
    while removed and pace.on():
        with transaction(databases.content) as session:
            removed = erasure.sweep_rows(session, now) + records.sweep(session, now, days)
    banked = 1
    while banked and pace.on():
        # Counts before entries: what matched lately is noted down before anybody asks how long ago it was. Each in
        # its own transaction: this one locks entries, and the next one a bank, which comes before its entries.
        with transaction(databases.content) as session:
            banked = bank_guard.sweep(session, now)
        with transaction(databases.content) as session:
            banked += bank_retention.sweep(session, now, retention.bank_entries_days)
    upkeep.vault.forget_erased(now - timedelta(days=days + LEDGER_KEPT_LONGER_DAYS))
    trained.clean(databases, upkeep.vault, now)
    months.end_due(databases, upkeep.vault, upkeep.blobs, now, SWEEP_AT_MOST_SECONDS)


def _scan(upkeep: Upkeep) -> None:
    """Look at a piece of the keys and blobs for what belongs to nothing."""
    with transaction(upkeep.databases.content) as session:
        packages = preservation.references(session, upkeep.blobs)
    removed = orphans.scan(upkeep.databases, upkeep.blobs, upkeep.scanned, datetime.now(UTC), packages)
    if removed:
        log.warning("orphans_removed", orphans=removed)


def _packages(upkeep: Upkeep) -> None:
    """Destroy preservation packages whose time is over."""
    now = datetime.now(UTC)
    if done := preservation.destroy_due(upkeep.databases, upkeep.vault, upkeep.blobs, now):
        log.info("packages_destroyed", packages=done)


def _statements(upkeep: Upkeep) -> None:
    """Send statements of reasons, if somebody said where to: beside the other tasks, which wait for nobody."""
    settings = upkeep.settings
    if not settings.statements_url or (upkeep.sending is not None and upkeep.sending.is_alive()):
        return
    target = statement_sender.Target(settings.statements_url, settings.statements_token)

    def send() -> None:
        try:
            statement_sender.run(
                upkeep.databases.content, upkeep.policies, target, lambda: datetime.now(UTC),
                STATEMENTS_AT_MOST_SECONDS,
            )  # fmt: skip
        except Exception:
            log.exception("statements_failed")

    upkeep.sending = threading.Thread(target=send, name="statements", daemon=True)
    upkeep.sending.start()


def _sequence(upkeep: Upkeep) -> None:
    """Number the events of the audit log that were committed meanwhile."""
    end = time.monotonic() + SEQUENCE_AT_MOST_SECONDS
    numbered = SEQUENCE_EVENTS
    while numbered == SEQUENCE_EVENTS and time.monotonic() < end:
        # What a crash takes back is numbered again: nothing was signed in between without reaching the disk.
        with transaction(upkeep.databases.content, durable=False) as session:
            numbered = ledger.sequence(session, SEQUENCE_EVENTS)


def _checkpoint(upkeep: Upkeep) -> None:
    """Sign the audit log, and write what was signed where the database is not."""
    now, directory = datetime.now(UTC), upkeep.settings.checkpoint_dir
    metrics.AUDIT_BROKEN.set(1)
    with transaction(upkeep.databases.content) as session:
        ledger.checkpoint(session, upkeep.vault, now)
    if directory is not None:
        with transaction(upkeep.databases.content) as session:
            checkpoint_files.export(session, directory, ledger.key(upkeep.vault))
    metrics.AUDIT_BROKEN.set(0)


def _housekeeping(upkeep: Upkeep) -> None:
    now = datetime.now(UTC)
    with upkeep.databases.content.begin() as connection:
        partitions.ensure(connection, now)
    with transaction(upkeep.databases.content) as session:
        erasure.sweep_records(session, now, now - timedelta(days=DELIVERED_DAYS))
        labels.end_expired(session, now)
        learning.tidy(session, upkeep.settings.learning, now)
        sessions.forget(session, now)
        invitations.forget(session, now)


def _reports(upkeep: Upkeep) -> None:
    """Measure what is kept, once a day, and make the signed reports that are owed, one in each transaction."""
    now = datetime.now(UTC)
    with transaction(upkeep.databases.content) as session:
        report_counts.measure(session, now)
    schedule = Schedule(upkeep.settings.reports)
    while True:
        with transaction(upkeep.databases.content) as session:
            made = reports.make_next(session, upkeep.vault, schedule, audit.MACHINE, now)
        if made is None:
            return
        log.info("report_signed", kind=made.kind, since=made.period.since.isoformat())


def _certify(upkeep: Upkeep) -> None:
    """End what can't hold any more, and certify what is due: beside the other tasks, of which one is the watch."""
    if upkeep.certifying is not None and upkeep.certifying.is_alive():
        return
    now = datetime.now(UTC)
    with transaction(upkeep.databases.content) as session:
        policy = upkeep.policies.current(session)
        if ended := certification.end_outdated(session, policy, now):
            log.info("certificates_outdated", certificates=len(ended))

    def certify() -> None:
        try:
            with transaction(upkeep.databases.content) as session:
                found = certification.tend(session, policy, now)
            if found is not None:
                log.info("certified", cause=found.occasion, tried=found.tried, issued=len(found.issued))
        except Exception:
            log.exception("certification_failed")

    upkeep.certifying = threading.Thread(target=certify, name="certifying", daemon=True)
    upkeep.certifying.start()


def _retire(upkeep: Upkeep) -> None:
    """End models that learned from posts which were erased since, once their time is over."""
    now, root = datetime.now(UTC), upkeep.settings.models
    for one in model_ages.tend(upkeep.databases, upkeep.policies, root, now):
        log.warning("model_retired", model=one.name, version=one.version, champion=one.champion)


def _learn(upkeep: Upkeep) -> None:
    """Have the schedule's rounds of learning done, beside everything else: a process that is nice to the others."""
    if upkeep.learning is not None:
        status = upkeep.learning.poll()
        if status is None:
            return
        log.info("learned", status=status)
        upkeep.learning = None
        if status != 0:
            # What can't even begin leaves no round behind that says when it was tried.
            upkeep.learn_from = time.monotonic() + learning.AGAIN.total_seconds()
    settings, now = upkeep.settings, datetime.now(UTC)
    if settings.learn_days <= 0 or time.monotonic() < upkeep.learn_from:
        return
    with transaction(upkeep.databases.content) as session:
        due = any(
            learning.is_due(session, client, settings.learn_days, now, proposes=bool(settings.learn_by))
            for client in settings.learn_clients or (None,)
        )
    if due:
        # -P: no folder of the caller's shadows our packages. A group of its own, so that all of it can be stopped.
        upkeep.learning = subprocess.Popen(
            [sys.executable, "-P", "-m", "moderation", "learn", "--scheduled"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip


def _stop_learning(upkeep: Upkeep) -> None:
    """A round that is stopped goes on where it was."""
    if upkeep.learning is not None and upkeep.learning.poll() is None:
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(upkeep.learning.pid, signal.SIGTERM)
            upkeep.learning.wait(PATIENCE_SECONDS)


def _rotate(upkeep: Upkeep) -> None:
    """Bring keys under the newest key-encryption key; begin and end epochs where this process may."""
    now, settings = datetime.now(UTC), upkeep.settings
    found = rotation.tend(
        upkeep.databases, upkeep.vault, now, settings.kek_days, settings.kek_grace_hours, KEK_AT_MOST_SECONDS
    )
    metrics.KEK_AGE.set((now - found.epochs[-1].since).total_seconds())
    metrics.KEK_BEHIND.set(found.behind)
