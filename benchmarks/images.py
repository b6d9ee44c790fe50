"""Photographs end to end: `python -m benchmarks.images --photos DIR [--count 300] [--workers 1 2] [--alone 200]`.

For each number of workers an installation of its own: the photographs of DIR are posted in batches over HTTP, as
base64, screened, decided and stored; by the clock from the first request to the last commit, with client, API,
relay, workers, PostgreSQL and Valkey on the same cores. What each stage took is what the workers say themselves, in
the metric `moderation_stage_duration_seconds`: `decode` is a part of `normalise`, which also opens the bytes.
*Alone* is one photograph after another at an idle installation with one worker, with the verdict in the answer.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from benchmarks.decoding import memory
from moderation.features.decode import UndecodableImage, inspect
from tests.chaos.harness import Client, Stack

BATCH_BYTES = 12_000_000
BATCH_ITEMS = 50
SENDERS = 2
WARM_UP = 6
DEADLINE = 1800.0
_STAGE = re.compile(r'^moderation_stage_duration_seconds_sum\{.*?stage="(\w+)".*?\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph as it is posted."""

    name: str
    data: bytes
    pixels: int


@dataclass(frozen=True, slots=True)
class Result:
    """What one number of workers did: seconds by stage are summed over the workers, megabytes are the largest."""

    workers: int
    seconds: float
    stages: Mapping[str, float]
    worker_mb: float
    child_mb: float
    routes: Mapping[str, int]
    alone: Sequence[float] = field(default_factory=list)  # milliseconds


def main() -> int:
    """Measure every number of workers and print the tables as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="a folder of benign photographs")
    parser.add_argument("--count", type=int, default=300, help="photographs posted, each once")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--alone", type=int, default=200, help="photographs posted one by one")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    photos = found(options.photos, options.count + WARM_UP, random.Random(options.seed))
    measured, warm = photos[WARM_UP:], photos[:WARM_UP]
    megapixels = sorted(photo.pixels / 1e6 for photo in measured)
    print(
        f"{len(measured)} photographs, {statistics.median(megapixels):.2f} megapixels in the median, "
        f"{megapixels[-1]:.1f} at most, {sum(len(p.data) for p in measured) / len(measured) / 1000:.0f} kB each; "
        f"{os.cpu_count()} cores\n"
    )
    results = [
        whole(measured, warm, workers, options.alone if workers == 1 else 0) for workers in options.workers
    ]
    report(results, len(measured))
    return 0


def found(folder: Path, count: int, chance: random.Random) -> list[Photo]:
    """At most `count` pictures under a folder that intake takes, drawn by chance."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    chance.shuffle(paths)
    photos: list[Photo] = []
    for path in paths:
        data = path.read_bytes()
        try:
            header = inspect(data)
        except UndecodableImage:
            continue
        photos.append(Photo(path.name, data, header.width * header.height))
        if len(photos) == count:
            break
    if len(photos) <= WARM_UP:
        sys.exit(f"{folder} holds too few pictures; name a folder with photographs.")
    return photos


def whole(photos: Sequence[Photo], warm: Sequence[Photo], workers: int, alone: int) -> Result:
    """One installation: all photographs at once, then some one by one."""
    with installation(workers) as stack:
        # Every worker has its models loaded before the clock starts.
        post_all(stack, [one for number in range(workers) for one in bodies(warm, f"warm-{number}")])
        wait_done(stack, len(warm) * workers)
        before = stages(stack.port)
        began = time.monotonic()
        post_all(stack, bodies(photos, "photo"))
        wait_done(stack, len(warm) * workers + len(photos))
        seconds = time.monotonic() - began
        after = stages(stack.port)
        worker_mb, child_mb = peaks(stack)
        return Result(
            workers,
            seconds,
            {stage: total - before.get(stage, 0.0) for stage, total in after.items()},
            worker_mb,
            child_mb,
            verdicts(stack),
            one_by_one(stack, photos[:alone]),
        )


@contextmanager
def installation(workers: int) -> Iterator[Stack]:
    """An installation whose processes write their metrics to one folder, as `moderation up` has them do."""
    with tempfile.TemporaryDirectory(prefix="images-") as directory:
        metrics = Path(directory) / "metrics"
        metrics.mkdir()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)
        try:
            with Stack(Path(directory) / "stack", workers=workers) as stack:
                yield stack
        finally:
            del os.environ["PROMETHEUS_MULTIPROC_DIR"]


def bodies(photos: Sequence[Photo], prefix: str) -> list[bytes]:
    """Requests for `/v1/items/batch`, none of more than BATCH_BYTES of pictures unless one alone has more."""
    made, posts, size = list[bytes](), list[object](), 0
    for number, photo in enumerate(photos):
        if posts and (size + len(photo.data) > BATCH_BYTES or len(posts) == BATCH_ITEMS):
            made.append(json.dumps({"items": posts}).encode())
            posts, size = [], 0
        posts.append(posted(photo, f"{prefix}-{number}"))
        size += len(photo.data)
    return [*made, json.dumps({"items": posts}).encode()]


def posted(photo: Photo, name: str) -> dict[str, object]:
    """One photograph as an item of its own."""
    part = {"type": "image", "name": "photo", "data": base64.b64encode(photo.data).decode()}
    return {"external_id": name, "author": f"acct-{hash(name) % 1000}", "kind": "photo", "parts": [part]}


def post_all(stack: Stack, made: Sequence[bytes]) -> None:
    """Send the requests, two at a time."""

    def send(share: Sequence[bytes]) -> None:
        with closing(Client(stack.port, stack.api_key)) as client:
            for body in share:
                status, answer = client.send("POST", "/v1/items/batch", body, time.monotonic() + 300)
                assert status == 202, answer
                assert all("item" in result for result in answer["results"])

    with ThreadPoolExecutor(SENDERS) as senders:
        list(senders.map(send, [made[number::SENDERS] for number in range(SENDERS)]))


def one_by_one(stack: Stack, photos: Sequence[Photo]) -> list[float]:
    """Milliseconds from the request to the answer with the verdict in it, for each photograph."""
    taken = []
    with closing(Client(stack.port, stack.api_key)) as client:
        for number, photo in enumerate(photos):
            body = json.dumps(posted(photo, f"alone-{number}")).encode()
            began = time.perf_counter()
            status, answer = client.once("POST", "/v1/items?wait=30", body)
            taken.append((time.perf_counter() - began) * 1000)
            assert status in (200, 202), answer
            assert b'"verdict"' in answer or b'"in_review"' in answer, answer
    return taken


def wait_done(stack: Stack, count: int) -> None:
    """Until so many items are screened and decided."""
    deadline = time.monotonic() + DEADLINE
    with connected(stack) as connection:
        while time.monotonic() < deadline:
            row = connection.execute(
                "SELECT count(*) FROM items WHERE state NOT IN ('received', 'leased')"
            ).fetchone()
            if row is not None and row[0] >= count:
                return
            time.sleep(0.05)
    raise TimeoutError("the photographs were not decided in time")


def verdicts(stack: Stack) -> dict[str, int]:
    """How many items got which verdict."""
    with connected(stack) as connection:
        rows = connection.execute("SELECT route, count(*) FROM decisions GROUP BY route ORDER BY route")
        return dict(rows.fetchall())


def connected(stack: Stack) -> psycopg.Connection:
    dsn = make_url(stack.postgres.url("moderation")).set(drivername="postgresql")
    return psycopg.connect(dsn.render_as_string(hide_password=False), autocommit=True)


def stages(port: int) -> dict[str, float]:
    """Seconds spent in each stage so far, by all workers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with closing(connection):
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    return {stage: float(total) for stage, total in _STAGE.findall(text)}


def peaks(stack: Stack) -> tuple[float, float]:
    """The most megabytes that a worker, and that a decoding child, ever held."""
    workers = [pid for name in stack.workers if (pid := stack.processes[name].pid) is not None]
    children = [child for pid in workers for child in children_of(pid)]
    return (
        max(memory(pid, "VmHWM") for pid in workers),
        max((memory(child, "VmHWM") for child in children), default=float("nan")),
    )


def children_of(parent: int) -> list[int]:
    """The ids of the living children of a process."""
    listed = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(pid) for path in listed for pid in path.read_text(encoding="ascii").split()]


def report(results: Sequence[Result], count: int) -> None:
    """Print what was measured."""
    print("| workers | photographs/s | worker peak MB | decoding child peak MB | verdicts |")
    print("|---|---|---|---|---|")
    for one in results:
        said = ", ".join(f"{route} {number}" for route, number in one.routes.items())
        rate = f"{count / one.seconds:.1f}"
        print(f"| {one.workers} | {rate} | {one.worker_mb:.0f} | {one.child_mb:.0f} | {said} |")
    names = sorted(
        {stage for one in results for stage in one.stages}, key=lambda s: -results[0].stages.get(s, 0)
    )
    columns = "".join(f" ms each, {one.workers} worker(s) |" for one in results)
    print(f"\n| stage |{columns}\n|---|{'---|' * len(results)}")
    for name in names:
        cells = "".join(f" {one.stages.get(name, 0.0) / count * 1000:.2f} |" for one in results)
        print(f"| {name} |{cells}")
    for one in results:
        if one.alone:
            p99 = statistics.quantiles(one.alone, n=100, method="inclusive")[98]
            print(
                f"\nOne photograph alone, {len(one.alone)} of them: p50 {statistics.median(one.alone):.0f} ms, "
                f"p99 {p99:.0f} ms, longest {max(one.alone):.0f} ms."
            )


if __name__ == "__main__":
    sys.exit(main())
