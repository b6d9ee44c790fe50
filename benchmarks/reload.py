"""What batches see of a new champion: `python -m benchmarks.reload [--batch N] [--seconds N]`.

One thread scores batches without a pause, as a worker does; another loads a copy of the shipped text model beside
it, checks it and exchanges it, and then goes back. Both share the cores, which is what the batches feel.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

from models.registry import load
from models.serving import Serving, Wanted
from tests import artifacts
from tests.chaos.storm import sentence


def main() -> int:
    """Measure and print as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3.0, help="of scoring before and after")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    chance = random.Random(1)
    texts = [sentence(chance) for _ in range(options.batch)]
    with tempfile.TemporaryDirectory(prefix="reload-") as directory:
        first, second = (_wanted(Path(directory), version) for version in ("bench-1", "bench-2"))
        serving = Serving(options.threads)
        serving.follow([first])
        batches: list[tuple[float, float, str]] = []
        done = threading.Event()

        def score() -> None:
            while not done.is_set():
                begun, classifier = time.perf_counter(), serving.current().text[0]
                classifier.score(texts)
                batches.append((begun, time.perf_counter(), classifier.manifest.version))

        scoring = threading.Thread(target=score)
        scoring.start()
        time.sleep(options.seconds)
        marks = [time.perf_counter()]
        serving.follow([second])
        marks.append(time.perf_counter())
        time.sleep(options.seconds)
        marks.append(time.perf_counter())
        serving.follow([first])
        marks.append(time.perf_counter())
        time.sleep(options.seconds)
        done.set()
        scoring.join()
    _print(batches, marks)
    return 0


def _wanted(folder: Path, version: str) -> Wanted:
    manifest = load(artifacts.another(folder, version))
    return Wanted(manifest.name, manifest.version, manifest.kind, manifest.folder, manifest.sha256)


def _print(batches: list[tuple[float, float, str]], marks: list[float]) -> None:
    load, loaded, back, backed = marks
    print(f"load and check {loaded - load:.2f} s; going back {(backed - back) * 1e6:.0f} µs\n")
    print("| batches | number | median ms | longest ms |\n|---|---|---|---|")
    for name, chosen in (
        ("before", [b for b in batches if b[1] < load]),
        ("while it loads", [b for b in batches if b[1] >= load and b[0] <= loaded]),
        ("after", [b for b in batches if b[0] > loaded]),
    ):
        took = np.array([end - begun for begun, end, _ in chosen]) * 1000
        print(f"| {name} | {len(took)} | {np.median(took):.1f} | {took.max():.1f} |")
    gap = max(after[0] - before[1] for before, after in pairwise(batches))
    print(
        f"\nlongest gap between two batches {gap * 1000:.2f} ms; versions {sorted({b[2] for b in batches})}"
    )


if __name__ == "__main__":
    sys.exit(main())
