"""Which of many 256-bit hashes are within a Hamming distance of some, exactly, while they change.

    build(path, hashes, owners)                         # an immutable file, written at once or not at all
    index = Index(Segment.open(path))                   # memory-mapped: all workers share its pages
    index = index.with_changes(added, their, removed)   # another index, cheaply; the old one stays as it was
    index.search(queries, 31)                           # [Found(query, owner, distance), ...]
    build(newer, *index.live())                         # what is live now, as a new segment

Who rebuilds takes the live hashes, builds, opens the new segment and applies what changed meanwhile to an index of
it: changes that it holds already do no harm.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.features.multi_index import BITS, INTS, U8, U64, Halves, as_words, scan
from moderation.features.segments import Segment, SegmentError, build

__all__ = ["Found", "Index", "Segment", "SegmentError", "build", "search64"]

_SLICE = 1 << 15


@dataclass(frozen=True, slots=True)
class Found:
    """An owner that has a hash within the radius of a query: its least distance to it, in bits."""

    query: int
    owner: bytes
    distance: int


class Index:
    """A segment, what was added since (which is scanned) and whose hashes were removed since.

    Immutable, so that threads may search it while another is made of it.
    """

    __slots__ = ("_hashes", "_owners", "_removed", "_segment")

    def __init__(self, segment: Segment | None = None) -> None:
        """Of a segment as it is, or empty."""
        self._segment = segment
        self._hashes = Halves(*np.zeros((2, 0, 2), np.uint64))
        self._owners: U8 = np.zeros((0, 16), np.uint8)
        self._removed: frozenset[bytes] = frozenset()

    def __len__(self) -> int:
        """How many hashes there are, removed ones of the segment included."""
        return (0 if self._segment is None else len(self._segment)) + self.added

    @property
    def added(self) -> int:
        """How many hashes were added since the segment; 100,000 cost a query about 0.2 ms."""
        return len(self._owners)

    @property
    def removed(self) -> int:
        """How many owners were removed since the segment."""
        return len(self._removed)

    def with_changes(self, hashes: U8, owners: U8, removed: Collection[bytes] = ()) -> Index:
        """An index without the owners `removed` (16 bytes each) and then with `hashes` (n, 32) of `owners` (n, 16).

        Who is among both has the new hashes only. Copies what was added since the segment, 48 bytes a hash.
        """
        if hashes.shape != (len(hashes), 32) or owners.shape != (len(hashes), 16):
            raise ValueError(f"hashes are (n, 32) and owners (n, 16), not {hashes.shape} and {owners.shape}")
        gone = frozenset(removed)
        kept = ~_among(self._owners, gone)
        made = Index(self._segment)
        words = as_words(hashes)
        made._hashes = Halves(
            np.concatenate([self._hashes.fronts[kept], words[:, :2]]),
            np.concatenate([self._hashes.backs[kept], words[:, 2:]]),
        )
        made._owners = np.concatenate([self._owners[kept], owners])
        made._removed = self._removed | gone if self._segment is not None else frozenset()
        return made

    def live(self) -> tuple[U8, U8]:
        """All hashes (n, 32) and their owners (n, 16) but the removed, for `build`."""
        added = np.concatenate(self._hashes, axis=1).view(np.uint8).reshape(-1, 32)
        if self._segment is None:
            return added, self._owners
        hashes, owners = self._segment.entries()
        kept = ~_among(owners, self._removed)
        return np.concatenate([hashes[kept], added]), np.concatenate([owners[kept], self._owners])

    def search(self, queries: U8, radius: int, most: int | None = None) -> list[Found]:
        """The owners within `radius` bits (0 to 256) of each of `queries` (q, 32), the nearest first.

        Each owner once a query, with its least distance, in the order of queries, distances and owners; with `most`
        no more than so many of each query. Several queries at once cost less than one by one.
        """
        if not 0 <= radius <= BITS:
            raise ValueError(f"a radius is 0 to {BITS} bits, not {radius}")
        asked = as_words(queries)
        numbers, rows, distances = scan(self._hashes, asked, radius)
        owners = self._owners[rows]
        if self._segment is not None:
            more, theirs, far = self._segment.search(asked, radius)
            kept = ~_among(theirs, self._removed)
            numbers, distances = np.append(numbers, more[kept]), np.append(distances, far[kept])
            owners = np.concatenate([owners, theirs[kept]])
        return _nearest(numbers, owners, distances, most) if len(numbers) else []


def search64(values: U64, queries: U64, radius: int) -> list[tuple[int, int, int]]:
    """A scan of 64-bit hashes: (query, row of `values`, distance) of all within `radius`, by query and row."""
    found: list[tuple[int, int, int]] = []
    for number, query in enumerate(queries):
        for start in range(0, len(values), _SLICE):
            distances = np.bitwise_count(values[start : start + _SLICE] ^ query)
            near = distances <= radius
            if near.any():
                rows = np.flatnonzero(near)
                found += [
                    (number, start + row, far)
                    for row, far in zip(rows.tolist(), distances[rows].tolist(), strict=True)
                ]
    return found


def _nearest(numbers: INTS, owners: U8, distances: INTS, most: int | None) -> list[Found]:
    """Each owner of a query once, at its least distance; the nearest first and no more than `most` a query."""
    high, low = _halves(owners)
    order = np.lexsort((distances, low, high, numbers))
    same = (np.diff(numbers[order]) == 0) & (np.diff(high[order]) == 0) & (np.diff(low[order]) == 0)
    least = order[np.append(True, ~same)]
    ranked = least[np.lexsort((low[least], high[least], distances[least], numbers[least]))]
    if most is not None:
        starts = np.searchsorted(numbers[ranked], numbers[ranked])
        ranked = ranked[np.arange(len(ranked)) - starts < most]
    return [
        Found(number, owner.tobytes(), far)
        for number, owner, far in zip(
            numbers[ranked].tolist(), owners[ranked], distances[ranked].tolist(), strict=True
        )
    ]


def _among(owners: U8, wanted: frozenset[bytes]) -> NDArray[np.bool_]:
    """Which of `owners` (n, 16) are `wanted`: (n,)."""
    found = np.zeros(len(owners), bool)
    if wanted and len(owners):
        heads = _halves(np.frombuffer(b"".join(wanted), np.uint8).reshape(-1, 16))[0]
        for row in np.flatnonzero(np.isin(_halves(owners)[0], heads)):
            found[row] = owners[row].tobytes() in wanted
    return found


def _halves(owners: U8) -> tuple[U64, U64]:
    """Owners (n, 16) as two numbers that sort like their bytes."""
    both = np.ascontiguousarray(owners).view(">u8").reshape(-1, 2).astype(np.uint64)
    return both[:, 0], both[:, 1]
