"""Sketches of near duplicates: a part's content as 16 bands, of which near copies share some and others none.

Texts: MinHash (Broder, "On the resemblance and containment of documents", 1997) over the 5-character shingles
of the normalised text. Two texts agree in each of 64 minima with a probability of their Jaccard similarity s,
hence in a band of 4 minima with s^4. They are candidates if they share any band, 1 - (1 - s^4)^16 (Leskovec,
Rajaraman, Ullman, "Mining of Massive Datasets", 3.4), and taken for near duplicates if they share `ALIKE` of
the 16, three or more, by the upper tail of a binomial distribution:

    s                        0.3    0.4    0.5    0.6    0.7    0.8    0.9
    one band or more         0.12   0.34   0.64   0.89   0.99   1.00   1.00
    three bands or more      0.00   0.01   0.07   0.34   0.78   0.99   1.00

Pictures: bands of 16 of the 64 bits of the perceptual hash, from four fixed orders of the bits and so 16 in
all. The share of equal bands estimates the Hamming distance d, about (1 - d/64)^16, without either hash being
at hand. Three or more of 16 are equal in 97 % of pairs at d = 4, 52 % at 6, 14 % at 8, 0.4 % at 12 and in
none of 2,000 at 16.

Nothing here is secret or keyed: a band is as good as a digest of the content, and is stored keyed only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from moderation.features.decode import Picture
from moderation.features.hashes import normalised, perceptual_hash, sha256

BANDS = 16
ROWS = 4
SHINGLE = 5
SHORTEST = 20
"""Characters of a normalised text below which only an equal one is near: its shingles say too little."""
FEWEST = 24
"""Bits set in a picture's hash below which only an equal one is near. A median splits 64 coefficients in halves
unless most are nought: the plain colours and even gradients of this world all hash alike."""
ALIKE = 3 / BANDS
"""The share of equal bands from which two parts are near duplicates; docs/benchmarks.md has its price."""

AT_ONCE = 1 << 16
"""Numbers that are permuted in one go: a short text then costs a fifth, and a long one no more memory."""

U64 = NDArray[np.uint64]


class SketchKind(StrEnum):
    """What a sketch is of; sketches of two kinds have no band in common."""

    EXACT = "exact"
    TEXT = "text"
    PICTURE = "picture"


@dataclass(frozen=True, slots=True)
class Sketch:
    """The bands of one part: one of a short text or a plain picture, `BANDS` of everything else."""

    kind: SketchKind
    bands: tuple[bytes, ...]


def of_text(text: str) -> Sketch:
    """The sketch of a text, the same for texts that read the same."""
    read = normalised(text)
    if len(read) < SHORTEST:
        return Sketch(SketchKind.EXACT, (read.encode("utf-8", "surrogatepass"),))
    minima = _minima(_shingles(read)).astype("<u8").tobytes()
    size = 8 * ROWS
    return Sketch(
        SketchKind.TEXT, tuple(minima[start : start + size] for start in range(0, len(minima), size))
    )


def first_bands(text: str, count: int) -> tuple[bytes, ...]:
    """The first `count` bands of `of_text(text)`, for their share of its price; none of a short text."""
    read = normalised(text)
    if len(read) < SHORTEST:
        return ()
    minima = _minima(_shingles(read), count * ROWS).astype("<u8").tobytes()
    size = 8 * ROWS
    return tuple(minima[start : start + size] for start in range(0, len(minima), size))


def of_picture(picture: Picture) -> Sketch:
    """The sketch of a picture as people see it; of an animation, of its first frame."""
    first = [frame for frame in picture.frames if frame.index == picture.frames[0].index]
    seen = next((frame for frame in first if frame.variant == "composited"), first[0])
    value = perceptual_hash(seen.rgb)
    if value.bit_count() < FEWEST:
        return Sketch(SketchKind.EXACT, (sha256(seen.rgb.tobytes()),))
    return of_hash(value)


def of_hash(value: int) -> Sketch:
    """The sketch of a 64-bit perceptual hash."""
    bits = np.unpackbits(np.frombuffer(value.to_bytes(8), np.uint8))
    packed = np.packbits(bits[_ORDERS]).tobytes()
    return Sketch(SketchKind.PICTURE, tuple(packed[start : start + 2] for start in range(0, len(packed), 2)))


def share(mine: Sketch, other: Sketch) -> float:
    """The share of `mine`'s bands that `other` has as well, in [0, 1]."""
    if mine.kind is not other.kind:
        return 0.0
    return sum(a == b for a, b in zip(mine.bands, other.bands, strict=True)) / len(mine.bands)


def _shingles(text: str) -> U64:
    """A 64-bit hash of each different run of `SHINGLE` code points."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    hashes = np.zeros(len(points) - SHINGLE + 1, np.uint64)
    for offset in range(SHINGLE):
        hashes = _mixed(hashes ^ points[offset : offset + len(hashes)])
    return np.unique(hashes)


def _minima(hashes: U64, count: int = BANDS * ROWS) -> U64:
    """The least value of `hashes` under each of the first `count` permutations."""
    if len(hashes) * count <= AT_ONCE:
        return np.asarray(_mixed(hashes[None, :] ^ _SEEDS[:count, None]).min(axis=1), np.uint64)
    return np.array([_mixed(hashes ^ seed).min() for seed in _SEEDS[:count]], np.uint64)


def _mixed(values: U64) -> U64:
    """A fixed permutation of the 64-bit numbers that scatters them well: the finaliser of SplitMix64."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


# Fixed for ever and on every machine: a sketch stored today is compared with one made after an upgrade.
def _fixed(count: int, purpose: str) -> U64:
    digests = (hashlib.sha256(f"{purpose} {number}".encode()).digest()[:8] for number in range(count))
    return np.array([int.from_bytes(digest) for digest in digests], np.uint64)


_SEEDS = _fixed(BANDS * ROWS, "permutation")
_ORDERS = np.concatenate([np.argsort(_fixed(64, f"order {number}")) for number in range(BANDS // 4)])
