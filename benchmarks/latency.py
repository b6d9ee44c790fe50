"""How long one short text waits for its verdict on an idle service: `python -m benchmarks.latency [--requests N]`.

`POST /v1/items?wait=10`, one after another over one connection, everything on this machine. The breakdown uses
what is on record: an item's `received_at` is taken as its intake begins, its decision's `decided_at` as a worker
takes it in hand; the rest is measured by asking for less.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from models.registry import shipped
from models.text import TextClassifier
from tests.chaos.harness import Client, Stack
from tests.chaos.storm import sentence

WARM_UP = 20


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    chance = random.Random(1)
    with (
        tempfile.TemporaryDirectory(prefix="latency-") as directory,
        Stack(Path(directory), workers=options.workers) as stack,
        closing(Client(stack.port, stack.api_key)) as client,
    ):
        _series(client, chance, WARM_UP, "warm", "?wait=10")
        waited = _series(client, chance, options.requests, "waited", "?wait=10")
        begun = _until_begun(stack, options.requests)
        accepted = _series(client, chance, options.requests // 3, "accepted", "", pause=0.05)
        alive = _timed(lambda: client.once("GET", "/livez"), options.requests // 3)
        queued = _timed(lambda: client.once("GET", "/v1/items?external_id=waited-0"), options.requests // 3)
    model = _model_alone(chance, options.requests // 3)
    _print(
        {
            "POST ?wait=10, verdict in the answer": waited,
            "from intake to a worker with the item in hand": begun,
            "POST without wait: accepted and stored": accepted,
            "the text model alone, one text": model,
            "GET of one item": queued,
            "GET /livez: HTTP and nothing else": alive,
        }
    )
    return 0


def _series(
    client: Client, chance: random.Random, count: int, name: str, query: str, pause: float = 0.0
) -> list[float]:
    bodies = [
        json.dumps(
            {
                "external_id": f"{name}-{number}",
                "author": f"acct-{number % 50}",
                "kind": "comment",
                "parts": [{"type": "text", "name": "body", "text": sentence(chance)}],
            }
        ).encode()
        for number in range(count)
    ]
    taken = []
    for body in bodies:
        began = time.perf_counter()
        status, answer = client.once("POST", f"/v1/items{query}", body)
        taken.append((time.perf_counter() - began) * 1000)
        assert status == (200 if query else 202), answer
        time.sleep(pause)
    return taken


def _until_begun(stack: Stack, count: int) -> list[float]:
    dsn = make_url(stack.postgres.url("moderation")).set(drivername="postgresql")
    query = """
        SELECT extract(epoch FROM d.decided_at - i.received_at) * 1000
        FROM items i JOIN decisions d ON d.item_id = i.id ORDER BY i.id DESC LIMIT %s
    """
    with psycopg.connect(dsn.render_as_string(hide_password=False)) as connection:
        return [float(row[0]) for row in connection.execute(query, [count])]


def _timed(call: Callable[[], object], count: int) -> list[float]:
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        call()
        taken.append((time.perf_counter() - began) * 1000)
    return taken


def _model_alone(chance: random.Random, count: int) -> list[float]:
    manifest = next(manifest for manifest in shipped() if manifest.kind == "text")
    classifier = TextClassifier(manifest, 1)
    texts = [sentence(chance) for _ in range(count)]
    classifier.score(texts[:5])
    return _timed(lambda: classifier.score([texts.pop()]), count)


def _print(series: dict[str, Sequence[float]]) -> None:
    print("| milliseconds | p50 | p99 |\n|---|---|---|")
    for name, taken in series.items():
        p99 = statistics.quantiles(taken, n=100, method="inclusive")[98]
        print(f"| {name} | {statistics.median(taken):.1f} | {p99:.1f} |")


if __name__ == "__main__":
    sys.exit(main())
