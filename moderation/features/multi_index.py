"""Which 256-bit hashes are near another: multi-index hashing, exact at every radius; a scan where that costs less.

A hash is cut into m substrings of about log2(n) bits, and for each a table says which hashes hold which value of
it. If two hashes differ in at most r bits, then for whatever radii r_1..r_m with the sum of (r_i + 1) = r + 1 some
substring i differs in at most r_i bits: were each farther, the sum would exceed r. So one looks up the values
within r_i of the query's and compares whom one finds (Norouzi, Punjani, Fleet, "Fast Search in Hamming Space with
Multi-Index Hashing", 2012). The radii are free (Qin, Wang, Xiao, Wang, "GPH", ICDE 2018): at first those that cost
least if hashes are spread evenly; where a query then finds too many, those that cost least by what the tables hold
around it; and where these are too many as well, everything is scanned. So a query costs about two scans at most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
INTS = NDArray[np.int64]
FLOATS = NDArray[np.float64]

BITS = 256

# Nanoseconds that a look-up, a comparison and a step of a scan take; only what they are to each other matters.
_LOOK, _COMPARE, _SCAN = 40.0, 22.0, 2.4
_CALLS = 120_000.0
"""What a search that does not scan costs besides."""
_FARTHEST = 5
"""Bits in which a substring may differ at most."""
_AT_ONCE = 1 << 16
"""Look-ups, and about as many comparisons, in one go: memory stays bounded and mostly in the cache."""
_SLICE, _QUERIES = 1 << 13, 32
"""Hashes of a scan, and queries, in one go."""


class Hits(NamedTuple):
    """Who is near: the numbers of queries, rows and distances, of one length."""

    queries: INTS
    rows: INTS
    distances: INTS


class Halves(NamedTuple):
    """Hashes (n, 4) in two arrays (n, 2): the first half tells nearly all that are not near."""

    fronts: U64
    backs: U64


@dataclass(frozen=True, slots=True)
class Cut:
    """How hashes are cut: into how many substrings, by how many different hashes."""

    hashes: int
    parts: int

    @classmethod
    def of(cls, hashes: int) -> Cut:
        """As wide as leaves two or three hashes a value: a wider cut is faster, and its tables larger."""
        return cls(hashes, min(max(round(BITS / max(math.log2(max(hashes, 1)) - 1.5, 1.0)), 10), 32))

    @property
    def widths(self) -> list[int]:
        """Bits of each substring, the wider ones first."""
        narrow, wide = divmod(BITS, self.parts)
        return [narrow + 1] * wide + [narrow] * (self.parts - wide)

    @property
    def bases(self) -> list[int]:
        """Where each substring's values begin among all: a multiple of their number, so that bits can be turned."""
        sizes = [1 << width for width in self.widths]
        return [sum(sizes[:part]) for part in range(self.parts)]

    @property
    def values(self) -> int:
        """How many values all substrings have."""
        return sum(1 << width for width in self.widths)


class Tables(NamedTuple):
    """What is searched: hashes and, for each value of each substring, where in `rows` those that hold it begin."""

    cut: Cut
    hashes: Halves
    starts: U32
    rows: U32


def as_words(hashes: U8) -> U64:
    """Hashes (n, 32) as (n, 4) numbers of 64 bits."""
    return np.ascontiguousarray(hashes, np.uint8).view(np.uint64).reshape(-1, 4)


def substrings(words: U64, cut: Cut, parts: slice = slice(None)) -> U64:
    """Some substrings of hashes (n, 4), all unless told: (n, m)."""
    widths = np.array(cut.widths)
    word, shift = np.divmod(np.cumsum(widths)[parts] - widths[parts], 64)
    found = words[:, word] >> shift.astype(np.uint64)
    found |= words[:, np.minimum(word + 1, 3)] << (64 - shift).astype(np.uint64)  # by 64: nothing is left
    masked: U64 = found & ((1 << widths[parts]) - 1).astype(np.uint64)
    return masked


def search(tables: Tables, queries: U64, radius: int) -> Hits:
    """All within `radius` of `queries` (q, 4); a row may come more than once a query."""
    plan, dear = _plan(tables.cut, radius), tables.cut.hashes * _SCAN
    if plan is None or plan.cost + _CALLS / max(len(queries), 1) > dear:
        return scan(tables.hashes, queries, radius)
    found: list[Hits] = []
    allowed = np.full(len(queries), dear / 4 / _COMPARE)
    group = max(_AT_ONCE // len(plan.flips), 1)
    for start in range(0, len(queries), group):
        numbers = np.arange(start, min(start + group, len(queries)))
        for low in range(0, len(plan.flips), _AT_ONCE):
            some = slice(low, low + _AT_ONCE)
            first, counts = _look(tables, queries[numbers], plan.parts[some], plan.flips[some])
            allowed[numbers] -= counts.sum(axis=1)
            counts[allowed[numbers] < 0] = 0
            found += _compare(tables, queries, numbers, first, counts, radius)
    for number in np.flatnonzero(allowed < 0).tolist():
        found += _anew(tables, queries, number, radius)
    return joined(found)


def scan(hashes: Halves, queries: U64, radius: int) -> Hits:
    """All within `radius` of `queries` (q, 4), by comparing all."""
    if len(queries) > _QUERIES:
        parts = ((low, queries[low : low + _QUERIES]) for low in range(0, len(queries), _QUERIES))
        return joined([_counted_from(low, scan(hashes, some, radius)) for low, some in parts])
    found: list[Hits] = []
    numbers, rows, waiting = [], [], 0
    tiles = np.tile(queries[:, :2], (1, min(_SLICE, len(hashes.fronts))))
    for start in range(0, len(hashes.fronts), _SLICE):
        some = hashes.fronts[start : start + _SLICE].reshape(-1)
        for number, tile in enumerate(tiles):
            near = _both(np.bitwise_count(some ^ tile[: len(some)])) <= radius
            if near.any():
                rows.append(np.flatnonzero(near) + start)
                numbers.append(np.full(len(rows[-1]), number))
                waiting += len(rows[-1])
        if waiting > _AT_ONCE or (waiting and start + _SLICE >= len(hashes.fronts)):
            found.append(_compared(hashes, queries, np.concatenate(numbers), np.concatenate(rows), radius))
            numbers, rows, waiting = [], [], 0
    return joined(found)


def joined(found: list[Hits]) -> Hits:
    """Several as one."""
    if not found:
        return Hits(*np.zeros((3, 0), np.int64))
    return Hits(*(np.concatenate(each) for each in zip(*found, strict=True)))


def _counted_from(first: int, hits: Hits) -> Hits:
    """What a search for some queries found, of which the first is this one of all."""
    return Hits(hits.queries + first, hits.rows, hits.distances)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is looked up: for each look-up its substring and which bits are turned. And what that should cost."""

    parts: INTS
    flips: INTS
    cost: float


@lru_cache(maxsize=32)
def _plan(cut: Cut, radius: int) -> _Plan | None:
    """The cheapest look-ups where hashes are spread evenly; None if none suffice."""
    each = [_LOOK + _COMPARE * cut.hashes / (1 << width) for width in cut.widths]
    sizes = [[math.comb(width, far) for far in range(_FARTHEST + 1)] for width in cut.widths]
    costs = np.cumsum(sizes, axis=1) * np.array(each)[:, None]
    radii = _cheapest(costs, radius)
    return None if radii is None else _planned(cut, radii, costs)


@lru_cache(maxsize=8)
def _wide_plan(cut: Cut) -> _Plan:
    """As many look-ups as take a quarter of a scan."""
    farthest = 0
    while farthest < _FARTHEST:
        ahead = sum(math.comb(width, far) for width in cut.widths for far in range(farthest + 2))
        if ahead * _LOOK > cut.hashes * _SCAN / 4:
            break
        farthest += 1
    return _planned(cut, [farthest] * cut.parts, np.zeros((cut.parts, _FARTHEST + 1)))


def _planned(cut: Cut, radii: list[int], costs: FLOATS) -> _Plan:
    flips = [_flips(width, far) for width, far in zip(cut.widths, radii, strict=True)]
    cost = sum(float(costs[part, far]) for part, far in enumerate(radii) if far >= 0)
    return _Plan(np.repeat(np.arange(cut.parts), [len(one) for one in flips]), np.concatenate(flips), cost)


@lru_cache(maxsize=64)
def _flips(width: int, farthest: int) -> INTS:
    """All numbers of `width` bits of which `farthest` or fewer are set, none if that is -1."""
    places = range(width)
    found = [
        sum(1 << bit for bit in bits) for far in range(farthest + 1) for bits in combinations(places, far)
    ]
    return np.array(sorted(found), np.int64)


def _cheapest(costs: FLOATS, radius: int) -> list[int] | None:
    """For each substring how far to look, -1 for not at all: the sum of one more each is `radius` + 1.

    `costs` (m, t) are those of looking 0, 1... far. None where that is not far enough. Dynamic programming over the
    substrings: the least that the first of them cost if their sum is so much.
    """
    total = radius + 1
    best = np.full(total + 1, np.inf)
    best[0] = 0.0
    chosen = []
    for each in costs:
        sums = np.full((len(each) + 1, total + 1), np.inf)
        sums[0] = best
        for far, cost in enumerate(each[:total]):
            sums[far + 1, far + 1 :] = best[: total - far] + cost
        chosen.append(sums.argmin(axis=0))
        best = sums.min(axis=0)
    if not np.isfinite(best[total]):
        return None
    radii = []
    for each in reversed(chosen):
        radii.append(int(each[total]) - 1)
        total -= radii[-1] + 1
    return radii[::-1]


def _anew(tables: Tables, queries: U64, number: int, radius: int) -> list[Hits]:
    """One query whose surroundings are crowded: by radii that suit what is there, or by a scan."""
    numbers, cut = np.array([number]), tables.cut
    plan = _wide_plan(cut)
    first, counts = _look(tables, queries[numbers], plan.parts, plan.flips)
    turned = np.bitwise_count(plan.flips)
    rings = np.bincount(plan.parts * (_FARTHEST + 1) + turned, counts[0], cut.parts * (_FARTHEST + 1))
    rings = rings.reshape(cut.parts, -1)[:, : int(turned.max()) + 1]
    radii = _cheapest(np.cumsum(rings, axis=1, dtype=np.float64), radius)
    if radii is not None:
        counts[0, turned > np.array(radii)[plan.parts]] = 0
    if radii is None or counts.sum(dtype=np.int64) * _COMPARE > cut.hashes * _SCAN / 2:
        return [_counted_from(number, scan(tables.hashes, queries[numbers], radius))]
    return _compare(tables, queries, numbers, first, counts, radius)


def _look(tables: Tables, queries: U64, parts: INTS, flips: INTS) -> tuple[U32, U32]:
    """Where in `rows` those begin that look-ups find for `queries` (q, 4), and how many they are: (q, look-ups)."""
    keys = substrings(queries, tables.cut).view(np.int64) + np.array(tables.cut.bases)
    values = keys.take(parts, axis=1)
    values ^= flips
    first = tables.starts.take(values)
    values += 1
    counts = tables.starts.take(values)
    counts -= first
    return first, counts


def _compare(tables: Tables, queries: U64, numbers: INTS, first: U32, counts: U32, radius: int) -> list[Hits]:
    """Those within `radius` among what look-ups for the queries `numbers` found."""
    places = np.flatnonzero(counts)
    if not len(places):
        return []
    many, begin = counts.ravel()[places].astype(np.int64), first.ravel()[places].astype(np.int64)
    asked = numbers[places // counts.shape[1]]
    ends = np.cumsum(many)
    cuts = np.searchsorted(ends, np.arange(_AT_ONCE, ends[-1], _AT_ONCE)).tolist()
    found = []
    for low, high in zip([0, *cuts], [*cuts, len(ends)], strict=True):
        rows = tables.rows.take(ranges(begin[low:high], many[low:high]))
        found.append(
            _compared(tables.hashes, queries, np.repeat(asked[low:high], many[low:high]), rows, radius)
        )
    return found


def ranges(first: INTS, counts: INTS) -> INTS:
    """For each the numbers first, first + 1... of which there are `counts`, one after the other."""
    found = np.repeat(first - np.cumsum(counts) + counts, counts)
    found += np.arange(len(found))
    return found


def _compared(hashes: Halves, queries: U64, numbers: INTS, rows: INTS | U32, radius: int) -> Hits:
    """Those of some pairs of a query and a row that are within `radius`."""
    differing = hashes.fronts.take(rows, axis=0)
    differing ^= queries[:, :2].take(numbers, axis=0)
    near = np.flatnonzero(_both(np.bitwise_count(differing)) <= radius)
    numbers, left = numbers[near], rows[near].astype(np.int64)
    distances = _distances(differing[near]) + _distances(hashes.backs[left] ^ queries[numbers, 2:])
    kept = distances <= radius
    return Hits(numbers[kept], left[kept], distances[kept])


def _both(counts: U8) -> NDArray[np.uint16]:
    """The sums of two counts (n, 2): (n,)."""
    found = counts.reshape(-1).view(np.uint16) * np.uint16(0x0101)
    found >>= np.uint16(8)
    return found


def _distances(differing: U64) -> INTS:
    found: INTS = np.bitwise_count(differing).sum(axis=1, dtype=np.int64)
    return found
