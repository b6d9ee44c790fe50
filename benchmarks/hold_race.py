"""Holds against deletion: `python -m benchmarks.hold_race [--attempts N]`.

Threads ask for holds on items and on authors and release them, while others sweep, delete and erase the same items,
all of them due: `tests.holding.Race`, through the services and on real connections. Whoever was told that something
is held looks whether it can still be read, when they release it and at the end; what was released has to be gone
after the next sweep. Then `--examples` random interleavings of the same acts, one after the other, against a model.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis
from hypothesis.stateful import run_state_machine_as_test

from moderation import keks, setup
from moderation.domain.access import Role
from moderation.embedded import Broker, Postgres
from moderation.governance import policies
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import connect
from moderation.storage.vault import Vault
from tests import people
from tests.holding import HoldMachine, Place, Race

STEPS = 50


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--attempts", type=int, default=10_000, help="holds asked for in the race")
    parser.add_argument("--examples", type=int, default=200, help="of the model, 50 steps each")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, _place(Path(folder)) as place:
        begun = time.monotonic()
        outcome = Race(place, items=64, seed=1).run(options.attempts)
        seconds = time.monotonic() - begun
        print(
            f"race: {sum(outcome.attempts.values()):,} holds asked for in {seconds:.0f} s, {outcome.won:,} came "
            f"first, {outcome.lost:,} too late; {len(outcome.faults)} faults"
        )
        for fault in outcome.faults[:10]:
            print(f"  {fault}")
        begun = time.monotonic()
        run_state_machine_as_test(
            lambda: HoldMachine(place),  # type: ignore[arg-type]  # any function that makes one will do
            settings=hypothesis(
                max_examples=options.examples,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
        print(
            f"model: {options.examples:,} interleavings of up to {STEPS} acts in {time.monotonic() - begun:.0f} s, "
            "0 faults"
        )
    return 1 if outcome.faults else 0


@contextmanager
def _place(folder: Path) -> Iterator[Place]:
    with Postgres(folder / "postgres") as server, Broker(folder / "broker") as broker:
        server.create_database("moderation")
        server.create_database("keystore")
        settings = Settings(
            database_url=server.url("moderation"),
            keystore_url=server.url("keystore"),
            redis_url=broker.url,
            kek=keks.single(os.urandom(32)),
            blob_dir=folder / "blobs",
            insecure_dev=True,
        )
        setup.prepare(settings)
        databases = connect(settings.database_url, settings.keystore_url, 10)
        try:
            vault = Vault(databases.keystore, settings.kek)
            policy = policies.read(policies.default_document(), 1)
            ann, bob = (people.principal(databases, vault, Role.LEGAL) for _ in range(2))
            blobs = FolderBlobs(settings.blob_dir)
            yield Place(databases, vault, blobs, policy, ann, bob, datetime.now(UTC))
        finally:
            databases.dispose()


if __name__ == "__main__":
    sys.exit(main())
