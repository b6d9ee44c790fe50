"""What the index of picture hashes costs: `python -m benchmarks.hashes --size 1000000 10000000`.

Random 256-bit hashes, seeded; asked 8 at a time, as a picture's eight orientations are, one of them a copy with
bits turned. Against faiss (`pip install 'moderation[benchmarks]'`), all of one thread, and against what memory can
deliver: a scan reads 32 bytes a hash. Answers are compared. Engines take turns; the best of several rounds counts,
in processor time, which is that of a clock where nothing else runs.
10 million take 6 GB and some minutes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from moderation.features.hamming import Index, Segment, build, search64

U8 = NDArray[np.uint8]
RADII = (31, 48)
BATCH = 8
BATCHES = 8
ROUNDS = 3
LONGEST = 3.0
"""Seconds that one engine gets for a round; a slow one is asked less."""
Answer = set[tuple[int, int, int]]


@dataclass(frozen=True)
class Engine:
    """One way to search: its answer to queries at a radius as (query, row, distance)."""

    name: str
    ask: Callable[[U8, int], Answer]
    bytes_each: float
    build_seconds: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What the index of picture hashes costs")
    parser.add_argument("--size", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--skewed", type=int, default=1_000_000, help="hashes of the crowded sets")
    sizes = parser.parse_args()
    faiss.omp_set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes.size:
            _even(Path(folder) / "segment", size)
        _crowded(Path(folder) / "segment", sizes.skewed)
    _changes()
    _short()


def _even(path: Path, size: int) -> None:
    chance = np.random.default_rng(20261123)
    hashes = chance.integers(0, 256, (size, 32), np.uint8)
    print(f"{size:,} hashes; a read of all {size * 32 / _bandwidth(hashes) * 1e3:.2f} ms", flush=True)
    ours = _ours(path, hashes)
    engines = [ours, _flat(hashes), _multi_hash(hashes)]
    for radius in RADII:
        _table(engines, _queries(chance, hashes, radius), radius)


def _table(engines: list[Engine], queries: U8, radius: int) -> None:
    best, asked = _raced(engines, queries, radius)
    single = min(
        _timed(lambda: [engines[0].ask(one[None], radius) for one in queries]) for _ in range(ROUNDS)
    )
    print(f"  radius {radius}: asked one by one {single / len(queries) * 1e3:.2f} ms a query")
    for engine, seconds, number in zip(engines, best, asked, strict=True):
        print(
            f"  radius {radius}: {engine.name:24} {seconds * 1e3:8.3f} ms a query, {1 / seconds:8.0f} a second, "
            f"{seconds / best[0]:6.2f} of ours; {engine.bytes_each:4.0f} bytes a hash, "
            f"built in {engine.build_seconds:.1f} s; {number} queries",
            flush=True,
        )


def _raced(engines: list[Engine], queries: U8, radius: int) -> tuple[list[float], list[int]]:
    """Seconds a query of each, the best of the rounds, and how many queries each was asked. Compares answers."""
    truth = _batched(engines[1], queries, radius)
    best, asked = [], []
    for engine in engines:
        once = _timed(lambda engine=engine: engine.ask(queries[:BATCH], radius))  # type: ignore[misc]
        asked.append(max(min(int(LONGEST / once) * BATCH, len(queries)), BATCH))
        best.append(once / BATCH if once > LONGEST else np.inf)
        answer = _batched(engine, queries[: asked[-1]], radius)
        missed = {one for one in truth if one[0] < asked[-1]} - answer
        extra = answer - truth
        print(
            f"  radius {radius}: {engine.name:24} missed {len(missed)} of {len(truth)}, {len(extra)} too many"
        )
    for _ in range(ROUNDS):
        for place, engine in enumerate(engines):
            if np.isfinite(best[place]) and best[place] * BATCH > LONGEST:
                continue
            part = queries[: asked[place]]
            seconds = _timed(lambda engine=engine, part=part: _batched(engine, part, radius))  # type: ignore[misc]
            best[place] = min(best[place], seconds / len(part))
    return best, asked


def _batched(engine: Engine, queries: U8, radius: int) -> Answer:
    found: Answer = set()
    for start in range(0, len(queries), BATCH):
        part = engine.ask(queries[start : start + BATCH], radius)
        found |= {(query + start, row, distance) for query, row, distance in part}
    return found


def _ours(path: Path, hashes: U8) -> Engine:
    seconds = _timed(lambda: build(path, hashes, _owners(len(hashes))))
    index = Index(Segment.open(path))

    def ask(queries: U8, radius: int) -> Answer:
        return {(one.query, int.from_bytes(one.owner), one.distance) for one in index.search(queries, radius)}

    return Engine("ours", ask, path.stat().st_size / len(hashes), seconds)


def _flat(hashes: U8) -> Engine:
    index = faiss.IndexBinaryFlat(256)
    seconds = _timed(lambda: index.add(hashes))
    return Engine("faiss Flat", _faiss(index), 32, seconds)


def _multi_hash(hashes: U8) -> Engine:
    """Of 16 substrings of 16 bits, of which it turns 1: exact to radius 31; or 2: exact to 47."""
    before = _resident()
    index = faiss.IndexBinaryMultiHash(256, 16, 16)
    seconds = _timed(lambda: index.add(hashes))
    each = (_resident() - before) / len(hashes)
    look = _faiss(index)

    def ask(queries: U8, radius: int) -> Answer:
        index.nflip = 1 if radius <= 31 else 2
        return look(queries, radius)

    return Engine("faiss MultiHash 16 x 16", ask, each, seconds)


def _faiss(index: faiss.IndexBinary) -> Callable[[U8, int], Answer]:
    def ask(queries: U8, radius: int) -> Answer:
        limits, distances, rows = index.range_search(queries, radius + 1)
        numbers = np.repeat(np.arange(len(queries)), np.diff(limits.astype(np.int64)))
        return set(zip(numbers.tolist(), rows.tolist(), distances.astype(int).tolist(), strict=True))

    return ask


def _owners(count: int) -> U8:
    """The number of each row as 16 bytes."""
    both = np.zeros((count, 2), ">u8")
    both[:, 1] = np.arange(count)
    return both.view(np.uint8)


def _queries(chance: np.random.Generator, hashes: U8, radius: int) -> U8:
    """Random ones; the first of each batch is a copy of a hash with 0 to `radius` bits turned."""
    found = chance.integers(0, 256, (BATCHES * BATCH, 32), np.uint8)
    for number in range(0, len(found), BATCH):
        bits = np.unpackbits(hashes[chance.integers(len(hashes))])
        bits[chance.permutation(256)[: chance.integers(radius + 1)]] ^= 1
        found[number] = np.packbits(bits)
    return found


def _crowded(path: Path, size: int) -> None:
    """Half the hashes alike in one way or another: a query that falls among them, and one that does not."""
    chance = np.random.default_rng(7)
    centre = chance.integers(0, 256, (50, 32), np.uint8)
    mask = np.packbits(chance.random((size // 2, 256)) < 0.06, axis=1)
    quarters = np.zeros(32, np.uint8)
    quarters[:16] = 255
    for name, crowd in (
        ("half of all equal", np.repeat(centre[:1], size // 2, axis=0)),
        ("half in 50 crowds of radius 15", centre[chance.integers(0, 50, size // 2)] ^ mask),
        ("half in 1 crowd of radius 15", centre[:1] ^ mask),
        ("half alike in 128 bits", chance.integers(0, 256, (size // 2, 32), np.uint8) & quarters),
    ):
        hashes = np.concatenate([crowd, chance.integers(0, 256, (size - len(crowd), 32), np.uint8)])
        ours, flat = _ours(path, hashes), _flat(hashes)
        print(
            f"{size:,} hashes, {name}; {ours.bytes_each:.0f} bytes a hash, built in {ours.build_seconds:.1f} s"
        )
        for place, query in (("within", crowd[:1]), ("outside", hashes[-1:])):
            for radius in RADII:
                mine, theirs = ours.ask(query, radius), flat.ask(query, radius)
                if mine != theirs:
                    raise AssertionError("the answers differ")
                times = [
                    min(_timed(lambda one=one: one.ask(query, radius)) for _ in range(3))  # type: ignore[misc]  # noqa: B023
                    for one in (ours, flat)
                ]
                print(
                    f"  {place:8} radius {radius}: {times[0] * 1e3:8.2f} ms, faiss Flat {times[1] * 1e3:.2f} ms, "
                    f"{len(mine):,} found",
                    flush=True,
                )


def _changes() -> None:
    """What additions since the segment cost: one more, and searches among them."""
    chance = np.random.default_rng(3)
    index = Index()
    for size in (1_000, 10_000, 100_000):
        index = index.with_changes(chance.integers(0, 256, (size, 32), np.uint8), _owners(size))
        one, owner = chance.integers(0, 256, (1, 32), np.uint8), chance.integers(0, 256, (1, 16), np.uint8)
        adding = min(_timed(lambda: index.with_changes(one, owner, [b"x" * 16])) for _ in range(ROUNDS))  # noqa: B023
        queries = chance.integers(0, 256, (BATCH, 32), np.uint8)
        asking = min(_timed(lambda: index.search(queries, 48)) for _ in range(ROUNDS)) / BATCH  # noqa: B023
        print(
            f"{index.added:,} added since the segment: one more {adding * 1e3:.2f} ms, "
            f"a query {asking * 1e3:.2f} ms"
        )


def _short() -> None:
    chance = np.random.default_rng(4)
    values = chance.integers(0, 2**64, 1_000_000, np.uint64)
    queries = chance.integers(0, 2**64, BATCH, np.uint64)
    seconds = min(_timed(lambda: search64(values, queries, 8)) for _ in range(ROUNDS)) / BATCH
    print(f"a scan of 1,000,000 hashes of 64 bits: {seconds * 1e3:.2f} ms a query")


def _bandwidth(hashes: U8) -> float:
    """Bytes a second that one thread reads."""
    words = (
        np.resize(hashes.reshape(-1), 1 << 29).view(np.uint64)
        if hashes.nbytes < 1 << 29
        else hashes.view(np.uint64)
    )
    return words.nbytes / min(_timed(words.max) for _ in range(ROUNDS))


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def _timed(run: Callable[[], object]) -> float:
    """Processor seconds of this thread: nothing here waits, and a busy machine shows less."""
    started = time.thread_time()
    run()
    return time.thread_time() - started


if __name__ == "__main__":
    main()
