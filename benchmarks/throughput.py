"""End to end against the model alone: `python -m benchmarks.throughput [--texts N] [--pictures N]`.

Both sides in one run, on the same inputs, with as many model processes of one thread each. *Alone* is the
classifier called in a loop at the service's batch size, nothing else running. *End to end* is posted in batches
of 100 over HTTP, screened, decided, stored, its webhook queued: by the clock from the first request to the last
commit, client, API, relay, workers, PostgreSQL and Valkey all on the same cores.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from PIL import Image
from sqlalchemy import make_url

from models.image import ImageClassifier
from models.registry import Manifest, shipped
from models.text import TextClassifier
from moderation.features.decode import Decoder, Picture
from tests.chaos.harness import Client, Stack, free_port
from tests.chaos.storm import sentence

BATCH = 64
POST = 100
SENDERS = 2


@dataclass(frozen=True, slots=True)
class Side:
    """Items and seconds of one side, and the CPU seconds of each process where they were taken."""

    name: str
    items: int
    seconds: float
    cpu: Mapping[str, float]

    @property
    def rate(self) -> float:
        return self.items / self.seconds


def main() -> int:
    """Measure texts, then pictures, and print both as Markdown."""
    options = _options()
    manifests = {manifest.kind: manifest for manifest in shipped()}
    chance = random.Random(options.seed)
    print(f"{os.cpu_count()} cores, {options.workers} model processes of 1 thread, batches of {BATCH}")
    for kind, count in (("text", options.texts), ("image", options.pictures)):
        if count and kind in manifests:
            make = text if kind == "text" else photo
            inputs: list[Any] = [make(chance) for _ in range(count)]
            _compare(manifests[kind], inputs, options)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--texts", type=int, default=8000)
    parser.add_argument("--pictures", type=int, default=800)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3, help="all sides in turn, so often; the best counts")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def _compare(manifest: Manifest, inputs: Sequence[Any], options: argparse.Namespace) -> None:
    sides: list[Side] = []
    for _ in range(options.rounds):
        sides.append(_alone("alone", _score, manifest, inputs, options.workers))
        if manifest.kind == "image":
            sides.append(
                _alone("decode and score alone", _decode_and_score, manifest, inputs, options.workers)
            )
        sides.append(_end_to_end(manifest.kind, inputs, options.workers))
    print(f"\n{manifest.name} {manifest.version}, {len(inputs)} inputs, {options.rounds} round(s)\n")
    print("| side | items/s | of alone | CPU ms an item |\n|---|---|---|---|")
    rates = {name: _rate(sides, name) for name in dict.fromkeys(side.name for side in sides)}
    for name, rate in rates.items():
        spent = [sum(side.cpu.values()) / side.items * 1000 for side in sides if side.name == name]
        print(f"| {name} | {rate:.1f} | {rate / rates['alone']:.2f} | {sum(spent) / len(spent):.3f} |")
    last = sides[-1]
    shares = {name: seconds / last.items * 1000 for name, seconds in last.cpu.items()}
    print("\nCPU ms an item, end to end: " + ", ".join(f"{name} {ms:.3f}" for name, ms in shares.items()))


def _rate(sides: Sequence[Side], name: str) -> float:
    # The best round of each: whatever else runs on the machine only ever makes a side look slower.
    return max(side.rate for side in sides if side.name == name)


# --- the model alone ---


def _alone(name: str, loop: Any, manifest: Manifest, inputs: Sequence[Any], processes: int) -> Side:
    """`processes` loops over a share of the inputs each, begun together once every model is loaded."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes + 1)
    shares = [list(inputs[number::processes]) for number in range(processes)]
    results: Any = context.SimpleQueue()
    children = [
        context.Process(target=loop, args=(manifest.folder, share, barrier, results)) for share in shares
    ]
    for child in children:
        child.start()
    barrier.wait()
    began = time.monotonic()
    spent = [float(results.get()) for _ in children]
    seconds = time.monotonic() - began
    for child in children:
        child.join()
    return Side(name, len(inputs), seconds, {f"model {number}": cpu for number, cpu in enumerate(spent)})


def _load(folder: Path) -> Any:
    manifest = next(manifest for manifest in shipped() if manifest.folder == folder)
    return TextClassifier(manifest, 1) if manifest.kind == "text" else ImageClassifier(manifest, 1)


def _score(folder: Path, inputs: list[Any], barrier: Barrier, results: Any) -> None:
    classifier = _load(folder)
    if isinstance(inputs[0], bytes):
        with Decoder() as decoder:
            inputs = [rgb for picture in decoder.decode_many(inputs) for rgb in _frames(picture)]
    classifier.score(inputs[:8])
    barrier.wait()
    began = time.process_time()
    for start in range(0, len(inputs), BATCH):
        classifier.score(inputs[start : start + BATCH])
    results.put(time.process_time() - began)


def _decode_and_score(folder: Path, inputs: list[Any], barrier: Barrier, results: Any) -> None:
    classifier = _load(folder)
    with Decoder() as decoder:
        classifier.score([rgb for picture in decoder.decode_many(inputs[:8]) for rgb in _frames(picture)])
        barrier.wait()
        began = time.process_time()
        for start in range(0, len(inputs), BATCH):
            pictures = decoder.decode_many(inputs[start : start + BATCH])
            classifier.score([rgb for picture in pictures for rgb in _frames(picture)])
        results.put(time.process_time() - began)


def _frames(picture: Any) -> list[Any]:
    assert isinstance(picture, Picture)
    return [frame.rgb for frame in picture.frames]


# --- the whole service ---


def _end_to_end(kind: str, inputs: Sequence[Any], workers: int) -> Side:
    bodies = _bodies(kind, inputs)
    with (
        tempfile.TemporaryDirectory(prefix="throughput-") as directory,
        Stack(Path(directory), workers=workers) as stack,
    ):
        _register_endpoint(stack)
        # Every worker has its model loaded before the clock starts.
        warm = [f"warm-up {number}" for number in range(8 * workers)]
        _post_all(stack, _bodies("text", warm, prefix="warm", each=1))
        _wait_decided(stack, len(warm))
        before, own = stack.cpu_seconds(), time.process_time()
        began = time.monotonic()
        _post_all(stack, bodies)
        _wait_decided(stack, len(warm) + len(inputs))
        seconds = time.monotonic() - began
        after = stack.cpu_seconds()
        cpu = {name: after[name] - before.get(name, 0.0) for name in after}
        return Side("end to end", len(inputs), seconds, cpu | {"client": time.process_time() - own})


def _bodies(kind: str, inputs: Sequence[Any], prefix: str = "post", each: int = POST) -> list[bytes]:
    def part(one: Any) -> dict[str, str]:
        if kind == "text":
            return {"type": "text", "name": "body", "text": one}
        return {"type": "image", "name": "photo", "data": base64.b64encode(one).decode()}

    posts = [
        {
            "external_id": f"{prefix}-{number}",
            "author": f"acct-{number * 7919 % 1000}",
            "kind": "comment",
            "parts": [part(one)],
        }
        for number, one in enumerate(inputs)
    ]
    return [
        json.dumps({"items": posts[start : start + each]}).encode() for start in range(0, len(posts), each)
    ]


def _post_all(stack: Stack, bodies: Sequence[bytes]) -> None:
    def send(share: Sequence[bytes]) -> None:
        with closing(Client(stack.port, stack.api_key)) as client:
            for body in share:
                status, answer = client.send("POST", "/v1/items/batch", body, time.monotonic() + 300)
                assert status == 202, answer
                assert all("item" in result for result in answer["results"])

    with ThreadPoolExecutor(SENDERS) as senders:
        list(senders.map(send, [bodies[number::SENDERS] for number in range(SENDERS)]))


def _register_endpoint(stack: Stack) -> None:
    url = f"http://127.0.0.1:{free_port()}/"  # nobody is there: what counts is that it is queued
    body = json.dumps({"name": "here", "url": url, "events": ["item.decided", "item.in_review"]}).encode()
    with closing(Client(stack.port, stack.api_key)) as client:
        status, answer = client.send("POST", "/v1/webhook-endpoints", body, time.monotonic() + 30)
    assert status == 201, answer


def _wait_decided(stack: Stack, count: int) -> None:
    """Until so many webhooks are queued: they are written with the decision, in its transaction."""
    dsn = make_url(stack.postgres.url("moderation")).set(drivername="postgresql")
    deadline = time.monotonic() + 900
    with psycopg.connect(dsn.render_as_string(hide_password=False), autocommit=True) as connection:
        while time.monotonic() < deadline:
            row = connection.execute("SELECT count(*) FROM outbox").fetchone()
            if row is not None and row[0] >= count:
                return
            time.sleep(0.05)
    raise TimeoutError("the items were not decided in time")


def text(chance: random.Random) -> str:
    """One to three mild sentences, no two texts alike."""
    return " ".join(sentence(chance) for _ in range(chance.randint(1, 3)))


def photo(chance: random.Random) -> bytes:
    """A JPEG of 640 x 480 with shapes, gradients and noise, about as large as a photograph of its size."""
    noise = np.random.default_rng(chance.randrange(2**32))
    y, x = np.mgrid[0:480, 0:640]
    waves = [np.sin(x / chance.uniform(20, 90) + y / chance.uniform(20, 90) + k) for k in range(3)]
    rgb = np.stack(waves, axis=-1) * 70 + 120 + noise.normal(0, 8, (480, 640, 3))
    buffer = io.BytesIO()
    Image.fromarray(rgb.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
