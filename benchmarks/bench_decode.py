"""How fast pictures are decoded and scored, in what memory, and what hostile ones cost.

Run as `python -m benchmarks.bench_decode`. Every picture is made here. With `--fuzz N` it also sends N
mutated pictures through one decoder and reports the slowest and how many children they cost.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from models.image import ImageClassifier, prepare, synthetic
from models.registry import ARTIFACTS, load
from models.runtime import open_session
from moderation.features.decode import Decoder, UndecodableImage, inspect
from moderation.features.hashes import perceptual_hash
from tests import hostile

SCREEN = Console()


def photo(width: int, height: int) -> Image.Image:
    """Soft shapes with some grain: compresses about as a photograph does."""
    dice = np.random.default_rng(0)
    coarse = Image.fromarray(dice.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    grain = dice.integers(-6, 7, (height, width, 1), dtype=np.int16)
    return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))


def best(run: Callable[[], object], times: int = 7) -> float:
    """Seconds of the quickest of several runs: other work on the machine only ever adds."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found)


def memory(pid: int | None, field: str) -> float:
    """A field of a process's status in MB: VmHWM is the most it ever held, VmRSS what it holds now."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    (line,) = [line for line in lines if line.startswith(field + ":")]
    return int(line.split()[1]) / 1024


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    shown = Table(title=title, title_justify="left")
    for column in columns:
        shown.add_column(column)
    for row in rows:
        shown.add_row(*(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row))
    SCREEN.print(shown)


def start_up() -> None:
    small = hostile.saved(hostile.gradient(), "PNG")

    def once() -> None:
        with Decoder() as decoder:
            decoder.decode(small)

    seconds = best(once)
    with Decoder() as decoder:
        decoder.decode(small)
        rss = memory(decoder.pid, "VmRSS")
    table("one child", ["start, decode, end: ms", "resident MB"], [[seconds * 1000, rss]])


def throughput() -> None:
    large, middle = photo(4000, 3000), photo(1280, 960)
    pictures = {
        "JPEG 12 MP": hostile.saved(large, "JPEG", quality=88),
        "JPEG 12 MP progressive": hostile.saved(large, "JPEG", quality=88, progressive=True),
        "JPEG 1.2 MP": hostile.saved(middle, "JPEG", quality=88),
        "PNG 1.2 MP": hostile.saved(middle, "PNG"),
        "WEBP 1.2 MP": hostile.saved(middle, "WEBP"),
        "AVIF 1.2 MP": hostile.saved(middle, "AVIF", speed=8),
        "GIF 1000 frames": hostile.long_gif(),
    }
    rows: list[list[object]] = []
    with Decoder() as decoder:
        for name, data in pictures.items():
            one = best(partial(decoder.decode, data))
            many = best(partial(decoder.decode_many, [data] * 8), 3) / 8
            header = best(partial(inspect, data))
            rgb = decoder.decode(data).frames[0].rgb
            hashing = best(partial(perceptual_hash, rgb))
            row: list[object] = [name, len(data) // 1000, header * 1000, one * 1000, 1 / many, hashing * 1000]
            rows.append(row)
    columns = ["picture", "kB", "inspect ms", "decode ms", "pictures/s in a row", "pHash ms"]
    table("decoding, one child", columns, rows)


def costs() -> None:
    """Every hostile picture: what became of it, how long it took, and the most memory its child held."""
    side = 6_300
    cases = list(hostile.CASES)
    for kind in ("PNG", "WEBP", "AVIF"):
        image = Image.new("RGBA", (side, side), (9, 9, 9, 9))
        options = {"AVIF": {"speed": 10}, "WEBP": {"lossless": True, "method": 0}}.get(kind, {})
        data = hostile.saved(image, kind, **options)
        name = f"{kind.lower()}-39-mp-transparent"
        cases.append(hostile.Case(name, partial(bytes, data), (hostile.DECODED,)))
    rows: list[list[object]] = []
    for case in cases:
        data = case.make()
        with Decoder(wall_seconds=10) as decoder:
            decoder.decode(hostile.saved(hostile.gradient(), "PNG"))
            found, seconds = attempt(decoder, data)
            peak = memory(decoder.pid, "VmHWM") if decoder.pid else float("nan")
            rows.append([case.name, len(data) // 1000, found, seconds * 1000, peak])
    table("hostile pictures", ["picture", "kB", "outcome", "ms", "peak MB"], rows)


def attempt(decoder: Decoder, data: bytes) -> tuple[str, float]:
    """What became of a picture, and seconds."""
    start = time.perf_counter()
    try:
        decoder.decode(data)
    except UndecodableImage as refusal:
        return refusal.code, time.perf_counter() - start
    return hostile.DECODED, time.perf_counter() - start


def fuzz(count: int) -> None:
    dice = random.Random(time.time_ns())
    seeds = hostile.seeds()
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    with Decoder() as decoder:
        for _ in range(count):
            found, seconds = attempt(decoder, hostile.mutated(dice.choice(seeds), dice))
            outcomes[found] += 1
            slowest = max(slowest, seconds)
        rows = [
            [
                count,
                decoder.restarts,
                slowest * 1000,
                ", ".join(f"{k} {n}" for k, n in outcomes.most_common()),
            ]
        ]
    table("mutated pictures", ["pictures", "children lost", "slowest ms", "outcomes"], rows)


def network() -> None:
    manifest = load(ARTIFACTS / "image-open-nsfw" / "1")
    classifier = ImageClassifier(manifest)
    picture = synthetic("rings", 512)
    preparation = classifier.preparation
    one = prepare(picture, preparation)
    rows: list[list[object]] = []
    for threads in (1, 2):
        session = open_session(manifest.path("model.onnx"), threads)
        for batch in (1, 4, 8, 16):
            given = {"pictures": np.repeat(one[None], batch, axis=0)}
            rows.append([threads, batch, batch / best(partial(session.run, None, given))])
    table("the network alone", ["threads", "batch", "pictures/s"], rows)
    whole = best(partial(classifier.score, [picture] * 16)) / 16
    preparing = best(partial(prepare, picture, preparation))
    table("score()", ["pictures/s, one thread", "of which preparing ms"], [[1 / whole, preparing * 1000]])


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fuzz", type=int, default=0, metavar="N", help="send N mutated pictures")
    arguments = parser.parse_args()
    start_up()
    throughput()
    network()
    costs()
    if arguments.fuzz:
        fuzz(arguments.fuzz)


if __name__ == "__main__":
    main()
