"""How fast pictures are decoded, in what memory, and what hostile and damaged ones cost.

    python -m benchmarks.decoding [speed] [hostile] [fuzz] [--count 5000] [--seed 1]

Every picture is made here. `hostile` goes through the table of hostile pictures and some of the dearest that are
allowed; `fuzz` sends pictures after accidents through one decoder, with the limits that it has in service, and
fails if one takes longer than two seconds or costs a child.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from moderation.features.decode import Decoder, UndecodableImage, inspect
from tests import hostile, mutations

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
            rows.append([name, len(data) // 1000, header * 1000, one * 1000, 1 / many])
    columns = ["picture", "kB", "inspect ms", "decode ms", "pictures/s in a row"]
    table("decoding, one child", columns, rows)


def costs() -> None:
    """Every hostile picture: what became of it, how long it took, and the most memory its child held."""
    rows: list[list[object]] = []
    for case in (*hostile.CASES, *dear()):
        data = case.make()
        with Decoder() as decoder:
            decoder.decode(hostile.saved(hostile.gradient(), "PNG"))
            found, seconds = attempt(decoder, data)
            peak = memory(decoder.pid, "VmHWM") if decoder.pid else float("nan")
            rows.append([case.name, len(data) // 1000, found, seconds * 1000, peak])
    table("hostile pictures", ["picture", "kB", "outcome", "ms", "peak MB"], rows)
    print(f"slowest {max(float(str(row[3])) for row in rows):.0f} ms")


def dear() -> Iterator[hostile.Case]:
    """The largest pictures that are allowed, transparent and moving: what decoding can cost at most."""
    side = 6_300
    coarse = np.random.default_rng(0).integers(0, 256, (side // 10, side // 10, 3), dtype=np.uint8)
    noisy = Image.fromarray(np.kron(coarse, np.ones((10, 10, 1), np.uint8)))
    pale = [Image.new("RGBA", (side, side), (255 - 40 * n, 255, 255, 128 + n)) for n in range(2)]
    quick: dict[str, dict[str, Any]] = {"AVIF": {"speed": 10}, "WEBP": {"method": 0}}
    for kind in ("PNG", "WEBP", "AVIF"):
        options = quick.get(kind, {})
        for name, data in (
            ("transparent", hostile.saved(pale[0], kind, **options)),
            ("moving", hostile.saved(pale[0], kind, save_all=True, append_images=pale[1:], **options)),
        ):
            yield hostile.Case(f"{kind.lower()}-39-mp-{name}", partial(bytes, data), ())
    for kind, options in (("JPEG", {"progressive": True}), *quick.items()):
        yield hostile.Case(
            f"{kind.lower()}-39-mp-noisy", partial(bytes, hostile.saved(noisy, kind, **options)), ()
        )


def attempt(decoder: Decoder, data: bytes) -> tuple[str, float]:
    """What became of a picture, and seconds."""
    start = time.perf_counter()
    try:
        decoder.decode(data)
    except UndecodableImage as refusal:
        return refusal.code, time.perf_counter() - start
    return hostile.DECODED, time.perf_counter() - start


def fuzz(count: int, seed: int) -> bool:
    """Whether `count` pictures after accidents all ended in time, in a picture or a refusal, and in one child."""
    outcomes: Counter[str] = Counter()
    taken: list[float] = []
    peak, pid = 0.0, None
    with Decoder() as decoder:
        for data in mutations.pictures(count, seed):
            found, seconds = attempt(decoder, data)
            outcomes[found] += 1
            taken.append(seconds * 1000)
            pid = decoder.pid or pid
            peak = max(peak, memory(decoder.pid, "VmHWM") if decoder.pid else 0.0)
        lost = decoder.restarts
        alive = attempt(decoder, hostile.saved(hostile.gradient(), "PNG"))[0] == hostile.DECODED
    taken.sort()
    columns = ["pictures", "children lost", "median ms", "p99 ms", "slowest ms", "peak MB", "outcomes"]
    said = ", ".join(f"{outcome} {number}" for outcome, number in outcomes.most_common())
    row = [count, lost, taken[count // 2], taken[count * 99 // 100], taken[-1], peak, said]
    table("mutated pictures", columns, [row])
    return alive and not lost and taken[-1] <= 2000


def main() -> int:
    """Print the tables that were asked for; 1 if a mutated picture did what it must not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="*", help="speed, hostile, fuzz: all if none is named")
    parser.add_argument("--count", type=int, default=5000, help="mutated pictures")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chosen = set(arguments.what) or {"speed", "hostile", "fuzz"}
    if "speed" in chosen:
        start_up()
        throughput()
    if "hostile" in chosen:
        costs()
    return int("fuzz" in chosen and not fuzz(arguments.count, arguments.seed))


if __name__ == "__main__":
    sys.exit(main())
