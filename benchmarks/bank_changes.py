"""How soon a running worker knows a picture that was just banked, and what following the banks costs.

    python -m benchmarks.bank_changes [--entries 0 20000] [--rounds 20]

A whole installation with one worker is started, with so many hashes of others in a bank of pictures. Then pictures
are banked one after the other, each followed at once by a post with a copy of it; the time runs from when the API
has answered that the entry is there until the post is removed for it. Then a process of its own follows the same
banks: everything at its start, one change, no change; and a segment is written and mapped. Every picture is made
here.
"""

from __future__ import annotations

import argparse
import base64
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from moderation import logs
from moderation.features.fingerprints import MAKER, Kept
from moderation.features.hashes import sha256
from moderation.governance import banks
from moderation.pipeline import hash_files
from moderation.pipeline.pictures import PictureBanks
from moderation.storage.database import Databases, insert_many, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import BankEntry
from moderation.storage.vault import Vault
from tests import scenes, seeding, service
from tests.service import Service

AT_ONCE = 10_000
PATIENCE = 30.0
MOST_SECONDS = 5.0


def main() -> int:
    """Measure and print as Markdown; 1 if a change took longer than five seconds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--entries", type=int, nargs="+", default=[0, 20_000], help="hashes in the bank")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    late = False
    logs.configure("warning")
    with (
        tempfile.TemporaryDirectory(prefix="bank-changes-") as folder,
        service.running(Path(folder) / "data") as running,
        seeding.opened(running) as (databases, vault),
    ):
        _made(databases)
        held = 0
        for entries in sorted(options.entries):
            _fill(databases, vault, range(held, entries))
            held = max(held, entries)
            took = _first_matches(running, held, options.rounds)
            late |= max(took) > MOST_SECONDS
            print(
                f"\n{held:,} hashes, {len(took)} pictures banked: removed after {np.median(took):.2f} s in the "
                f"middle, {max(took):.2f} s at most\n"
            )
            _following(databases, vault, Path(folder) / "index")
    return int(late)


def _made(databases: Databases) -> None:
    with transaction(databases.content) as session:
        banks.create(
            session, name="known", kind="image", category="spam", action="remove", allow=False, actor="operator",
            now=datetime.now(UTC),
        )  # fmt: skip


def _fill(databases: Databases, vault: Vault, numbers: Sequence[int]) -> None:
    """Hashes at random, which are far from all pictures."""
    key, now, chance = vault.account_key(), datetime.now(UTC), np.random.default_rng(1)
    for start in range(0, len(numbers), AT_ONCE):
        with transaction(databases.content) as session:
            row = banks.named(session, "known", lock=True)
            version = banks.stamp(session, row)
            made = []
            for number in numbers[start : start + AT_ONCE]:
                one, kept = new_id(now), Kept(chance.integers(0, 256, (1, 32), np.uint8), None)
                made.append({
                    "id": one, "bank_id": row.id, "digest": sha256(b"%d" % number), "verified": True, "note": "",
                    "added_by": "operator", "added_at": now, "version": version, "features_by": MAKER,
                    "features": key.encrypt(kept.pack(), "bank_entries", "features", str(one)),
                })  # fmt: skip
            insert_many(session, BankEntry, made)


def _first_matches(running: Service, seed: int, rounds: int) -> list[float]:
    """Seconds from an entry to the first item removed for it, each of another picture."""
    took = []
    with running.client() as client:
        for number in range(rounds):
            scene = scenes.scene(1_000_000 + seed * 100 + number)
            entry = {"image": base64.b64encode(scenes.saved(scene)).decode(), "verified": True}
            client.post("/v1/banks/known/entries", json=entry).raise_for_status()
            begun = time.perf_counter()
            copy = scenes.saved(scenes.recoded(scenes.mirrored(scene)))
            name = f"{seed}-{number}"
            post = seeding.post(name, "A picture.", copy)
            answer = client.post("/v1/items", json=post, params={"wait": PATIENCE}).json()
            took.append(time.perf_counter() - begun)
            if answer.get("verdict") != "remove":
                raise RuntimeError(f"Picture {name} was not known: {answer}")
    return took


def _following(databases: Databases, vault: Vault, folder: Path) -> None:
    """What one process pays for knowing the banks, in milliseconds."""
    held = PictureBanks()
    print("| what | ms |\n|---|---|")
    print(f"| a process that begins reads all | {_timed(lambda: _look(databases, vault, held)):.0f} |")
    print(f"| nothing changed | {min(_timed(lambda: _look(databases, vault, held)) for _ in range(5)):.1f} |")
    number = 10**9 + held.current_size()[1]  # one that there is not yet
    _fill(databases, vault, range(number, number + 1))
    print(f"| one entry more | {_timed(lambda: _look(databases, vault, held)):.1f} |")
    print(
        f"| a segment is written | {_timed(lambda: hash_files.build(databases.content, vault, folder)):.0f} |"
    )
    mapped = PictureBanks(folder)
    print(f"| a process that begins maps it | {_timed(lambda: _look(databases, vault, mapped)):.1f} |")


def _look(databases: Databases, vault: Vault, held: PictureBanks) -> None:
    with transaction(databases.content) as session:
        held.current(session, vault, datetime.now(UTC))


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000


if __name__ == "__main__":
    sys.exit(main())
