"""Statements of reasons over random days, whole: validity, silence on content, report against sum, and speed.

Run as `python -m benchmarks.statements [--decisions 5000] [--seed 1]`. It starts databases of its own, lives
made-up days through the services until so many decisions restrict something, derives every statement and notices of
500 of them, recomputes the report from them, and sends them to a double. Any fault ends it with 1.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from sqlalchemy import select

from moderation import keks, setup, statement_sender
from moderation.domain import dsa, notices
from moderation.domain.statements import statement as record_of
from moderation.embedded import Broker, Postgres
from moderation.governance import notices as told
from moderation.governance import statements, transparency
from moderation.governance.policies import PolicyCache
from moderation.settings import Settings
from moderation.statement_sender import Target
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, connect, transaction
from moderation.storage.tables import Decision
from moderation.storage.vault import Vault
from tests import statements_database, stating

SCREEN = Console(highlight=False)
POSTS_AT_ONCE = 200
BATCH = 500


@contextmanager
def installation() -> Iterator[tuple[Settings, Databases]]:
    """An empty installation of its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Postgres(Path(folder) / "postgres") as server,
        Broker(Path(folder) / "broker") as broker,
    ):
        server.create_database("moderation")
        server.create_database("keystore")
        settings = Settings(
            database_url=server.url("moderation"),
            keystore_url=server.url("keystore"),
            redis_url=broker.url,
            kek=keks.single(os.urandom(32)),
            blob_dir=Path(folder) / "blobs",
            insecure_dev=True,
        )
        setup.prepare(settings)
        databases = connect(settings.database_url, settings.keystore_url)
        try:
            yield settings, databases
        finally:
            databases.dispose()


def derive(databases: Databases, end: datetime) -> tuple[list[dict[str, Any]], list[str], float]:
    """Every statement, every text that goes out, and statements derived per second."""
    records: list[dict[str, Any]] = []
    texts: list[str] = []
    cache, spent = PolicyCache(), 0.0
    with transaction(databases.content) as session:
        rows = session.scalars(select(Decision).where(*statements.stated(end)).order_by(Decision.id)).all()
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            begun = time.perf_counter()
            facts = statements.facts(session, cache, batch)
            made = [record_of(one) for one in facts.values()]
            spent += time.perf_counter() - begun
            records += made
            texts += [json.dumps(one, ensure_ascii=False) for one in made]
        for row in rows[:: max(1, len(rows) // 500)]:
            texts += [
                told.of_decision(session, cache, row, language, None, end).text
                for language in notices.LANGUAGES
            ]
    return records, texts, len(records) / spent


def counted(records: Sequence[dict[str, Any]], field: str) -> dict[str, int]:
    """How many statements name what in a field."""
    found: Counter[str] = Counter()
    for record in records:
        value = record.get(field, "none")
        found.update([value] if isinstance(value, str) else value)
    return dict(found)


def main() -> int:
    """Live, derive, compare; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=5000, help="that restrict; default: %(default)s")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with installation() as (settings, databases):
        start = datetime.now(UTC) - timedelta(days=200)
        vault, blobs = Vault(databases.keystore, settings.kek), FolderBlobs(settings.blob_dir)
        policy = stating.published(databases, start)
        world = stating.World(databases, vault, blobs, policy, start, random.Random(options.seed))
        begun = time.perf_counter()
        while made(databases, stating.at_end(world)) < options.decisions:
            world.live(POSTS_AT_ONCE)
        lived = time.perf_counter() - begun
        return compare(databases, world, lived)


def made(databases: Databases, end: datetime) -> int:
    """How many decisions have a statement."""
    with transaction(databases.content) as session:
        return len(session.scalars(select(Decision.id).where(*statements.stated(end))).all())


def compare(databases: Databases, world: stating.World, lived: float) -> int:
    """Say what was found, and how quickly."""
    end = stating.at_end(world)
    records, texts, speed = derive(databases, end)
    invalid = [record["puid"] for record in records if dsa.faults(record)]
    begun = time.perf_counter()
    with transaction(databases.content) as session:
        first, last = world.now - timedelta(days=1_000), end + timedelta(days=1)
        report = transparency.report(session, PolicyCache(), first, last, end)
    counting = time.perf_counter() - begun
    texts += [transparency.as_json(report), transparency.as_csv(report)]
    leaked = stating.leaks(world.written, "\n".join(texts))
    said = report.sections["statements"]
    wrong = [name for name, field in transparency.BY.items() if said[f"by_{name}"] != counted(records, field)]
    with statements_database.listening() as database:
        target = Target(database.url, statements_database.TOKEN)
        begun = time.perf_counter()
        sent = 0
        while (now := statement_sender.run(databases.content, PolicyCache(), target, lambda: end, 600)) > 0:
            sent += now
        sending = time.perf_counter() - begun
    SCREEN.print(f"{len(records):,} statements of {len(world.written):,} texts, lived in {lived:,.0f} s")
    SCREEN.print(f"valid: {len(records) - len(invalid):,} of {len(records):,}; refused by the double: "
                 f"{len(records) - sent:,}")  # fmt: skip
    SCREEN.print(f"runs of content in {len(texts):,} texts: {len(leaked)}")
    SCREEN.print(
        f"report against the sum of statements: {len(wrong)} of {len(transparency.BY)} measures differ"
    )
    SCREEN.print(f"derived {speed:,.0f} statements a second; report in {counting * 1000:,.0f} ms; "
                 f"sent {sent / sending:,.0f} a second")  # fmt: skip
    return int(bool(invalid or leaked or wrong or said["total"] != len(records) or sent != len(records)))


if __name__ == "__main__":
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.exit(main())
