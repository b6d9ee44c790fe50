"""Files of 256-bit hashes and whose they are, immutable and memory-mapped: all workers share their pages.

A header, and then six arrays, each at a multiple of 64 bytes, so that no half of a hash crosses a cache line:

    fronts  (d, 2) uint64    the first halves of the different hashes, sorted
    backs   (d, 2) uint64    their second halves
    firsts  (d + 1) uint32   where each one's owners begin
    owners  (n, 16) uint8
    starts  (k + 1) uint32   for each value of each substring, where its hashes begin in `rows`: `multi_index`
    rows    (m * d) uint32   numbers of hashes, by substring and value

About 115 bytes a hash at 10 million, 130 at one million. Of equal hashes one is kept, with all its owners.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from moderation.features.multi_index import (
    INTS,
    U8,
    U64,
    Cut,
    Halves,
    Tables,
    as_words,
    ranges,
    search,
    substrings,
)

MOST = 1 << 27
"""Hashes that a segment holds at most: `starts` has 32 bits."""

_MAGIC = b"HAMMING\n"
_VERSION = 1
_HEADER = struct.Struct("<8sIIQQQ20xI")
"""Magic, version, substrings, hashes, different hashes, sum of the body; CRC-32 of what precedes it."""
_ALIGN = 64
_AT_ONCE = 1 << 16


class SegmentError(ValueError):
    """A file that is no segment, or a damaged one: it is to be built anew."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where everything lies in a file of `entries` hashes."""

    entries: int
    cut: Cut

    @property
    def offsets(self) -> list[int]:
        """Where each array begins, and where the last one ends."""
        distinct, cut = self.cut.hashes, self.cut
        sizes = (
            *(16 * distinct, 16 * distinct, 4 * (distinct + 1), 16 * self.entries),
            *(4 * (cut.values + 1), 4 * cut.parts * distinct),
        )
        found = [_ALIGN]
        for size in sizes:
            found.append(-(-(found[-1] + size) // _ALIGN) * _ALIGN)
        return found


def build(path: Path, hashes: U8, owners: U8) -> None:
    """Write a segment of `hashes` (n, 32) and their `owners` (n, 16): bytes of UUIDs, some perhaps several times.

    The file appears whole or not at all: a temporary name beside it, fsync, rename; mode 0600. A segment that is
    being read stays what it was. One writer at a time. `ValueError` for other shapes or more than `MOST`.
    """
    if hashes.shape != (len(hashes), 32) or owners.shape != (len(hashes), 16):
        raise ValueError(f"hashes are (n, 32) and owners (n, 16), not {hashes.shape} and {owners.shape}")
    if len(hashes) > MOST:
        raise ValueError(f"a segment holds {MOST:,} hashes at most")
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)  # of a writer that was killed
    try:
        with os.fdopen(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b") as file:
            _write(file, hashes, owners)
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write(file: BinaryIO, hashes: U8, owners: U8) -> None:
    words = as_words(hashes)
    order = _sorted(words)
    words = words.take(order, axis=0)
    new = np.ones(len(words), bool)
    new[1:] = (words[1:] != words[:-1]).any(axis=1)
    firsts = np.append(np.flatnonzero(new), len(words)).astype(np.uint32)
    if len(firsts) <= len(words):
        words = words[new]
    layout = _Layout(len(hashes), Cut.of(len(words)))
    at = layout.offsets
    file.truncate(at[-1])
    _put(file, at[0], words[:, :2])
    _put(file, at[1], words[:, 2:])
    _put(file, at[2], firsts)
    for low in range(0, len(order), _AT_ONCE):
        _put(file, at[3] + 16 * low, owners[order[low : low + _AT_ONCE]])
    starts = np.zeros(layout.cut.values + 1, np.uint32)
    for part, (base, width) in enumerate(zip(layout.cut.bases, layout.cut.widths, strict=True)):
        pairs = substrings(words, layout.cut, slice(part, part + 1))[:, 0] << np.uint64(32)
        pairs |= np.arange(len(words), dtype=np.uint64)
        pairs.sort()
        _put(file, at[5] + 4 * part * len(words), pairs.astype(np.uint32))  # their lower halves
        pairs >>= np.uint64(32)
        counts = np.bincount(pairs.view(np.int64), minlength=1 << width)
        starts[base + 1 : base + 1 + (1 << width)] = np.cumsum(counts) + part * len(words)
    _put(file, at[4], starts)
    file.flush()
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as body:
        total = _sum(body)
    made = _HEADER.pack(_MAGIC, _VERSION, layout.cut.parts, len(hashes), len(words), total, 0)[:-4]
    _put(file, 0, np.frombuffer(made + zlib.crc32(made).to_bytes(4, "little"), np.uint8))
    file.flush()


def _put(file: BinaryIO, at: int, values: NDArray[np.generic]) -> None:
    file.seek(at)
    file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)


def _sum(body: mmap.mmap) -> int:
    """Whatever follows the header, added up: at the speed of memory, and another number if one bit flips."""
    return int(np.frombuffer(body, np.uint64, offset=_ALIGN).sum(dtype=np.uint64))


def _sorted(words: U64) -> INTS:
    """An order of hashes (n, 4) in which equal ones are neighbours, the same on every machine."""
    order = np.argsort(words[:, 0], kind="stable")
    leading = words[order, 0]
    tied = np.zeros(len(order), bool)
    tied[1:] = leading[1:] == leading[:-1]
    tied[:-1] |= tied[1:]
    if tied.any():
        among = order[tied]
        order[tied] = among[np.lexsort(words[among].T[::-1])]
    return order


class Segment:
    """A segment as it lies in the page cache. Immutable: threads may search it at once."""

    __slots__ = ("_entries", "_firsts", "_owners", "_tables")

    def __init__(self, body: mmap.mmap, layout: _Layout) -> None:
        """Of a file that `open` has looked at."""
        at, cut = layout.offsets, layout.cut
        halves = [np.frombuffer(body, np.uint64, 2 * cut.hashes, at[half]).reshape(-1, 2) for half in (0, 1)]
        self._entries = layout.entries
        self._firsts = np.frombuffer(body, np.uint32, cut.hashes + 1, at[2])
        self._owners = np.frombuffer(body, np.uint8, 16 * layout.entries, at[3]).reshape(-1, 16)
        starts = np.frombuffer(body, np.uint32, cut.values + 1, at[4])
        rows = np.frombuffer(body, np.uint32, cut.parts * cut.hashes, at[5])
        self._tables = Tables(cut, Halves(*halves), starts, rows)

    @classmethod
    def open(cls, path: Path) -> Segment:
        """Map a segment; `SegmentError` for a foreign, cut or damaged one, `OSError` if there is none.

        Reads all of it once, for its sum: so its pages are in memory when the first search comes.
        """
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size or not header.startswith(_MAGIC):
                raise SegmentError(f"{path} is no segment of hashes: build it anew")
            _, version, parts, entries, distinct, total, check = _HEADER.unpack(header)
            if zlib.crc32(header[:-4]) != check:
                raise SegmentError(f"{path} is damaged: build it anew")
            if version != _VERSION:
                raise SegmentError(f"{path} has format {version} and not {_VERSION}: build it anew")
            layout = _Layout(entries, Cut(distinct, parts))
            if layout.offsets[-1] != size:
                raise SegmentError(f"{path} is not as long as it says: build it anew")
            body = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if _sum(body) != total:
            raise SegmentError(f"{path} is damaged: build it anew")
        return cls(body, layout)

    def __len__(self) -> int:
        """How many hashes it holds."""
        return self._entries

    def entries(self) -> tuple[U8, U8]:
        """All hashes (n, 32) and owners (n, 16)."""
        repeats = (self._firsts[1:] - self._firsts[:-1]).astype(np.int64)
        words = np.repeat(np.concatenate(self._tables.hashes, axis=1), repeats, axis=0)
        return words.view(np.uint8).reshape(-1, 32), self._owners

    def search(self, queries: U64, radius: int) -> tuple[INTS, U8, INTS]:
        """Queries, owners (k, 16) and distances of all within `radius` of `queries` (q, 4); some come twice."""
        near = search(self._tables, queries, radius)
        first = self._firsts[near.rows].astype(np.int64)
        counts = self._firsts[near.rows + 1] - first
        owners = self._owners[ranges(first, counts)]
        return np.repeat(near.queries, counts), owners, np.repeat(near.distances, counts)
