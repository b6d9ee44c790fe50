"""How fast content ends: `python -m benchmarks.erasure [author] [sweep] [partition] [--scale S]`.

*author*: somebody with 10,000 items is erased: how long until nothing shows (the request) and nothing is left.
*sweep*: 1,000,000 items expire at once beside a service that answers: items a second, and p99 of the API before and
meanwhile. *partition*: a month whose content has ended, by row deletes and by dropping its partitions. On real
servers; with `--scale 0.05` all of it in a twentieth of the size.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psycopg
from sqlalchemy import make_url, text

from moderation import keks, setup
from moderation.domain.erasing import Cause
from moderation.embedded import Broker, Postgres
from moderation.governance import erasure
from moderation.settings import Settings
from moderation.storage import partitions
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, connect, insert_many, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import Author, Decision, Item, Part, SignalRow, Sketch
from moderation.storage.vault import Vault
from tests.chaos.harness import Client, Stack

AT_ONCE = 5000
AUTHOR_ITEMS, SWEPT_ITEMS, MONTH_ITEMS = 10_000, 1_000_000, 200_000
PICTURES = 20  # one item in so many has one
BANDS = 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="*", default=["author", "sweep", "partition"])
    parser.add_argument("--scale", type=float, default=1.0, help="of every size; default: %(default)s")
    parser.add_argument("--seconds", type=float, default=30.0, help="of the API alone; default: %(default)s")
    options = parser.parse_args(arguments)
    print(f"{os.cpu_count()} cores, scale {options.scale:g}\n")
    for what in options.what:
        with tempfile.TemporaryDirectory(prefix="bench-erasure-") as folder:
            if what == "author":
                _author(Path(folder), int(AUTHOR_ITEMS * options.scale))
            elif what == "sweep":
                _sweep(Path(folder), int(SWEPT_ITEMS * options.scale), options.seconds)
            else:
                _partition(Path(folder), int(MONTH_ITEMS * options.scale))
    return 0


@contextmanager
def _installed(folder: Path) -> Iterator[tuple[Databases, Vault, FolderBlobs]]:
    folder.chmod(0o755)
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
        databases = connect(settings.database_url, settings.keystore_url)
        try:
            yield databases, Vault(databases.keystore, settings.kek), FolderBlobs(settings.blob_dir)
        finally:
            databases.dispose()


def _fill(
    databases: Databases,
    vault: Vault,
    blobs: FolderBlobs,
    number: int,
    at: datetime,
    *,
    authors: int,
    expires_at: datetime,
) -> list[UUID]:
    """Decided items of so many authors, with a text each, some with a picture; the ids of the authors."""
    who = [new_id(at) for _ in range(authors)]
    keys = vault.author_keys(who, at)
    with transaction(databases.content) as session:
        rows = [
            {
                "id": one,
                "client": "bench",
                "reference_digest": vault.digest("author", "bench", str(one)),
                "reference": keys[one].encrypt(str(one).encode(), "authors", "reference", str(one)),
                "created_at": at,
            }
            for one in who
        ]
        insert_many(session, Author, rows)
    for start in range(0, number, AT_ONCE):
        size = min(AT_ONCE, number - start)
        ids = [new_id(at + timedelta(milliseconds=start + place)) for place in range(size)]
        owners = {one: who[(start + place) % authors] for place, one in enumerate(ids)}
        _write(databases, vault, blobs, owners, at, expires_at)
    with databases.content.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    return who


def _write(
    databases: Databases,
    vault: Vault,
    blobs: FolderBlobs,
    owners: dict[UUID, UUID],
    at: datetime,
    expires_at: datetime,
) -> None:
    keys = vault.create_item_keys(owners, at)
    common = {
        "client": "bench", "kind": "comment", "posted_at": at, "received_at": at, "lane": "live",
        "state": "done", "attempts": 1, "not_before": at, "retention_class": "allowed", "decided_at": at,
        "expires_at": expires_at,
    }  # fmt: skip
    items, parts, signals, sketches, decisions = [], [], [], [], []
    for place, (one, author) in enumerate(owners.items()):
        sealed = keys[one].encrypt(
            b"A mild text of some forty letters, or so.", "parts", "content", str(one), "0"
        )
        picture = blobs.put(os.urandom(4096)) if place % PICTURES == 0 else None
        items.append(
            {"id": one, "author_id": author, "external_digest": one.bytes * 2, "details": sealed, **common}
        )
        part = {"item_id": one, "position": 0, "name": "body", "kind": "text", "media_type": "text/plain",
                "size": 42, "content": sealed, "blob": None}  # fmt: skip
        parts.append(part)
        if picture:
            parts.append(part | {"position": 1, "kind": "image", "content": None, "blob": picture})
        signals.append({"item_id": one, "part": "body", "detector": "text-minilm", "version": "1",
                        "status": "ok", "scores": {"spam": 0.1}, "evidence": {}})  # fmt: skip
        sketches += [
            {"item_id": one, "part": "body", "band": band, "key": os.urandom(8)} for band in range(BANDS)
        ]
        decisions.append({"id": new_id(at), "item_id": one, "author_id": author, "client": "bench",
                          "route": "allow", "reasons": [], "findings": [], "detectors": [],
                          "decided_by": "machine", "policy_version": 1, "decided_at": at,
                          "content_at": at, "language": "en"})  # fmt: skip
    with transaction(databases.content) as session:
        for table, rows in (
            (Item, items), (Part, parts), (SignalRow, signals), (Sketch, sketches), (Decision, decisions)
        ):  # fmt: skip
            insert_many(session, table, rows)


def _author(folder: Path, number: int) -> None:
    with _installed(folder) as (databases, vault, blobs):
        now = datetime.now(UTC)
        later = now + timedelta(days=30)
        _fill(databases, vault, blobs, 2 * number, now, authors=20, expires_at=later)
        (author,) = _fill(databases, vault, blobs, number, now, authors=1, expires_at=later)
        began = time.perf_counter()
        with transaction(databases.content) as session:
            identifier = erasure.request(
                session, vault, client="bench", author_id=author, cause=Cause.REQUEST, requested_by="operator",
                now=datetime.now(UTC),
            )  # fmt: skip
        hidden = time.perf_counter() - began
        turns = 0
        while erasure.run(databases, vault, blobs, datetime.now(UTC), 3.0) == 0:
            turns += 1
        gone = time.perf_counter() - began
        with transaction(databases.content) as session:
            checks = erasure.verify_receipt(databases, vault, erasure.receipt(session, identifier))
        assert all(check.holds for check in checks), checks
        print("| an author's items | hidden, s | gone, s | turns of 3 s |\n|---|---|---|---|")
        print(f"| {number:,} | {hidden:.2f} | {gone:.1f} | {turns + 1} |\n")


def _sweep(folder: Path, number: int, seconds: float) -> None:
    with Stack(folder, workers=1) as stack:
        databases = connect(stack.settings.database_url, stack.settings.keystore_url)
        vault, blobs = Vault(databases.keystore, stack.settings.kek), FolderBlobs(stack.settings.blob_dir)
        now = datetime.now(UTC)
        _fill(
            databases,
            vault,
            blobs,
            number,
            now,
            authors=max(1, number // 20),
            expires_at=now + timedelta(days=30),
        )
        with closing(Client(stack.port, stack.api_key)) as client:
            _calls(client, 5.0)
            before = _calls(client, seconds)
            _expire(stack)
            began = time.perf_counter()
            ended = threading.Event()
            watch = threading.Thread(target=_until_none, args=(stack, ended))
            watch.start()
            meanwhile: list[float] = []
            while not ended.is_set():
                meanwhile += _calls(client, 1.0)
            took = time.perf_counter() - began
            watch.join()
        databases.dispose()
    print("| items expired at once | swept, items/s | API p50/p99 before, ms | API p50/p99 meanwhile, ms |")
    print("|---|---|---|---|")
    print(
        f"| {number:,} | {number / took:,.0f} | {_middle_and_tail(before)} | {_middle_and_tail(meanwhile)} |\n"
    )


def _calls(client: Client, seconds: float) -> list[float]:
    """Milliseconds of posts and reads, one after the other, at some forty a second."""
    taken, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        name = os.urandom(8).hex()
        body = (
            f'{{"external_id": "{name}", "author": "a-{name[:2]}", "kind": "comment",'
            ' "parts": [{"type": "text", "name": "body", "text": "Lovely weather in Lisbon."}]}'
        )
        for method, path, data in (
            ("POST", "/v1/items", body.encode()),
            ("GET", f"/v1/items?external_id={name}", b""),
        ):
            began = time.perf_counter()
            status, answer = client.once(method, path, data) if data else client.once(method, path)
            taken.append((time.perf_counter() - began) * 1000)
            assert status in (200, 202), answer
        time.sleep(0.05)
    return taken


def _middle_and_tail(taken: Sequence[float]) -> str:
    p99 = statistics.quantiles(taken, n=100, method="inclusive")[98]
    return f"{statistics.median(taken):.1f} / {p99:.1f}"


def _direct(stack: Stack) -> psycopg.Connection[tuple[int]]:
    url = make_url(stack.settings.database_url).set(drivername="postgresql")
    return psycopg.connect(url.render_as_string(hide_password=False), autocommit=True)


def _expire(stack: Stack) -> None:
    with _direct(stack) as connection:
        connection.execute("UPDATE items SET expires_at = now() WHERE client = 'bench'")


def _until_none(stack: Stack, ended: threading.Event) -> None:
    with _direct(stack) as connection:
        query = "SELECT 1 FROM items WHERE client = 'bench' AND destroyed_at IS NULL LIMIT 1"
        while connection.execute(query).fetchone() is not None:
            time.sleep(0.5)
    ended.set()


def _partition(folder: Path, number: int) -> None:
    """Keys and blobs are gone in both; what is left is to remove rows."""
    with _installed(folder) as (databases, vault, blobs):
        seconds = {}
        for name, month in (("row deletes", date(2026, 1, 1)), ("partition drop", date(2026, 2, 1))):
            with databases.content.begin() as connection:
                for table in partitions.PARTITIONED:
                    connection.execute(text("SELECT ensure_partition(:t, :m)"), {"t": table, "m": month})
            at = datetime(month.year, month.month, 2, tzinfo=UTC)
            _fill(databases, vault, blobs, number, at, authors=max(1, number // 20), expires_at=at)
            with databases.content.begin() as connection:
                ended = text(
                    "UPDATE items SET state = 'deleted', doomed_at = :at, destroyed_at = :at, details = NULL"
                    " WHERE received_at = :at"
                )
                connection.execute(ended, {"at": at})
            began = time.perf_counter()
            if name == "row deletes":
                _delete_rows(databases, at)
            else:
                for table in ("parts", "signals", "items"):
                    with databases.content.begin() as connection:
                        assert partitions.drop_empty(connection, table, month)
            seconds[name] = time.perf_counter() - began
        print("| a month's rows | seconds | items/s |\n|---|---|---|")
        for name, took in seconds.items():
            print(f"| {name}, {number:,} items | {took:.2f} | {number / took:,.0f} |")
        print()


def _delete_rows(databases: Databases, at: datetime) -> None:
    while True:
        with transaction(databases.content) as session:
            ids = session.execute(
                text("SELECT id FROM items WHERE received_at = :at LIMIT 1000"), {"at": at}
            ).scalars().all()  # fmt: skip
            if not ids:
                return
            for table, key in (("parts", "item_id"), ("signals", "item_id"), ("items", "id")):
                session.execute(text(f"DELETE FROM {table} WHERE {key} = ANY(:ids)"), {"ids": list(ids)})


if __name__ == "__main__":
    sys.exit(main())
