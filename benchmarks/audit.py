"""What the audit log costs: `python -m benchmarks.audit [--seconds S] [--events N]`.

*Audited* is a small insert and its event in one transaction, while a sequencer numbers and signs beside the
writers; *unaudited* the same insert alone. Both in turn, several rounds, on a PostgreSQL of its own that waits for
the disk at every commit. Then events alone: how fast they are numbered, and how fast the whole log is verified.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from sqlalchemy import text

from moderation import keks, setup
from moderation.embedded import Broker, Postgres
from moderation.governance import audit, audit_export, ledger, verification
from moderation.settings import Settings
from moderation.storage.database import Databases, connect, transaction
from moderation.storage.ids import new_id
from moderation.storage.vault import Vault

BATCH = 5000
RECORDED = 1000  # events of one transaction while the log is filled


def main() -> int:
    """Measure, and print Markdown."""
    options = _options()
    print(
        f"{os.cpu_count()} cores, {options.writers} writers, {options.rounds} rounds of {options.seconds:g} s\n"
    )
    with (
        tempfile.TemporaryDirectory(prefix="bench-audit-") as folder,
        _installed(Path(folder)) as (databases, vault),
    ):
        _writers(databases, vault, options)
        _speed(databases, vault, options.events)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each side in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument(
        "--events", type=int, nargs="*", default=[100_000, 1_000_000], help="sizes of the log"
    )
    return parser.parse_args()


@contextmanager
def _installed(folder: Path) -> Iterator[tuple[Databases, Vault]]:
    with Postgres(folder / "postgres") as server, Broker(folder / "broker") as broker:
        for name in ("moderation", "keystore"):
            server.create_database(name)
        settings = Settings(
            database_url=server.url("moderation"),
            keystore_url=server.url("keystore"),
            redis_url=broker.url,
            kek=keks.single(os.urandom(32)),
            blob_dir=folder / "blobs",
            insecure_dev=True,
        )
        setup.prepare(settings)
        databases = connect(settings.database_url, settings.keystore_url, pool_size=12)
        with databases.content.begin() as connection:
            connection.execute(text("CREATE TABLE bench (id uuid PRIMARY KEY, at timestamptz, said text)"))
        try:
            yield databases, Vault(databases.keystore, settings.kek)
        finally:
            databases.dispose()


# --- writers ---


def _writers(databases: Databases, vault: Vault, options: argparse.Namespace) -> None:
    rates: dict[str, list[float]] = {"unaudited": [], "audited": [], "audited, sequencer beside": []}
    for _ in range(options.rounds):
        rates["unaudited"].append(_rate(databases, options, audited=False))
        rates["audited"].append(_rate(databases, options, audited=True))
        _number(databases)
        with _sequencing(databases, vault):
            rates["audited, sequencer beside"].append(_rate(databases, options, audited=True))
        _number(databases)
    alone = rates["unaudited"]
    print("| side | transactions/s, best | median | of unaudited, best | median |\n|---|---|---|---|---|")
    for name, found in rates.items():
        best, middle = max(found), statistics.median(found)
        share = f"{best / max(alone):.2f} | {middle / statistics.median(alone):.2f}"
        print(f"| {name} | {best:.0f} | {middle:.0f} | {share} |")


def _rate(databases: Databases, options: argparse.Namespace, *, audited: bool) -> float:
    """Committed transactions a second, over all writers; each is a process, as API replicas and workers are."""
    url = databases.content.url.render_as_string(hide_password=False)
    context = multiprocessing.get_context("forkserver")
    # What writers import is imported once, not once for each.
    context.set_forkserver_preload(["moderation.governance.ledger", "moderation.storage.vault"])
    ready = context.Barrier(options.writers + 1)
    counts = context.SimpleQueue()
    arguments = (url, options.seconds, audited, ready, counts)
    writers = [context.Process(target=_write, args=arguments) for _ in range(options.writers)]
    for writer in writers:
        writer.start()
    ready.wait()
    started = time.perf_counter()
    total: int = sum(counts.get() for _ in writers)
    elapsed = time.perf_counter() - started
    for writer in writers:
        writer.join()
    return total / elapsed


def _write(url: str, seconds: float, audited: bool, ready: Barrier, counts: SimpleQueue[int]) -> None:
    databases = connect(url, url, pool_size=1)
    with transaction(databases.content) as session:
        session.execute(text("SELECT 1"))
    ready.wait()
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        now = datetime.now(UTC)
        identifier = new_id(now)
        with transaction(databases.content) as session:
            session.execute(_INSERT, {"id": identifier, "at": now, "said": "something of no consequence"})
            if audited:
                details = {"decision": str(identifier), "verdict": "allow", "policy": 1}
                event = audit.Event(audit.MACHINE, "decision.made", "item", str(identifier), details)
                audit.record(session, [event], now)
        count += 1
    counts.put(count)
    databases.dispose()


_INSERT = text("INSERT INTO bench (id, at, said) VALUES (:id, :at, :said)")


@contextmanager
def _sequencing(databases: Databases, vault: Vault) -> Iterator[None]:
    """What the relay does meanwhile: numbers once a second, and signs."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(1.0):
            _number(databases)
            with transaction(databases.content) as session:
                ledger.checkpoint(session, vault, datetime.now(UTC))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _number(databases: Databases) -> int:
    total, numbered = 0, BATCH
    while numbered == BATCH:
        with transaction(databases.content, durable=False) as session:
            numbered = ledger.sequence(session, BATCH)
        total += numbered
    return total


# --- the log alone ---


def _speed(databases: Databases, vault: Vault, sizes: list[int]) -> None:
    print(
        "\n| events | recorded/s | numbered/s | verified/s | exported/s | export verified/s | checkpoint, ms |"
    )
    print("|---|---|---|---|---|---|---|")
    for size in sizes:
        with transaction(databases.content) as session:
            missing = size - ledger.size(session)
        if missing < 1:
            print(f"| {size} | the log is longer already |")
            continue
        recorded = missing / _timed(lambda count=missing: _record(databases, count))  # type: ignore[misc]
        numbered = missing / _timed(lambda: _number(databases))
        signing = _timed(lambda: _sign(databases, vault)) * 1000
        verified = size / _timed(lambda: _verify(databases, vault))
        file = io.StringIO()
        exported = size / _timed(lambda into=file: _export(databases, vault, into))  # type: ignore[misc]
        read = size / _timed(lambda source=file: _read(source))  # type: ignore[misc]
        rates = " | ".join(f"{rate:.0f}" for rate in (recorded, numbered, verified, exported, read))
        print(f"| {size} | {rates} | {signing:.0f} |")


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _record(databases: Databases, count: int) -> None:
    for begin in range(0, count, RECORDED):
        now = datetime.now(UTC)
        events = [
            audit.Event(
                audit.MACHINE, "item.decided", "item", str(new_id(now)), {"route": "allow", "policy": 1}
            )
            for _ in range(min(RECORDED, count - begin))
        ]
        with transaction(databases.content) as session:
            audit.record(session, events, now)


def _sign(databases: Databases, vault: Vault) -> None:
    with transaction(databases.content) as session:
        ledger.checkpoint(session, vault, datetime.now(UTC))


def _verify(databases: Databases, vault: Vault) -> None:
    with transaction(databases.content) as session:
        verification.verify_database(session, ledger.key(vault))


def _export(databases: Databases, vault: Vault, file: io.StringIO) -> None:
    with transaction(databases.content) as session:
        audit_export.write(session, ledger.key(vault), file, datetime.now(UTC), lambda _: None)


def _read(file: io.StringIO) -> None:
    file.seek(0)
    lines = iter(file)
    audit_export.verify(lines, audit_export.key_in(lines), [], lambda _: None)


if __name__ == "__main__":
    raise SystemExit(main())
