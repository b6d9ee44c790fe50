"""What a picture is looked up with in banks of hashes, and what a bank keeps of one.

Banks keep few hashes for many entries, so most of the work is the asker's: a picture is asked with the PDQ of all
eight orientations of every sampled frame, as it is, without its borders, and as part of a page. A bank keeps a
picture upright, as people see it, with and without borders, and its middle by seven crops: a twentieth cut away
makes another hash, and only who has the whole can tell what may be cut from it.

A hash of a picture in which there is little to see is close to those of all others like it, so pictures below
PDQ's own bound of quality have none, and are found by SHA-256 alone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from moderation.features import pdq
from moderation.features.decode import Frame, Picture
from moderation.features.hashes import perceptual_hash
from moderation.features.trimming import framed, looks

MAKER = "pdq-1"
"""Stored beside hashes; another one means that they can't be compared."""
MATCH = 31
"""Bits of 256 up to which two hashes are of the same picture; the usual bound of those who exchange hashes."""
REVIEW = 48
"""Bits of 256 up to which a person should look."""
PHASH_REVIEW = 8
"""Bits of 64 up to which a second hash suggests that a person looks."""
PLAIN = 24
"""Bits set in a pHash below which it says nothing: plain colours and even gradients all have the same."""
CROPS = tuple(0.05 + number / 30 for number in range(7))
"""Shares of width and height, from 5 to 25 %, without which a bank keeps a picture as well."""

Hashes = NDArray[np.uint8]
_ASKED = struct.Struct(">BB32sHH")
_KEPT = struct.Struct(">BBH")
_VERSION = 1


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What one picture is looked up with.

    `sha256` is of its original bytes, `pdq` (n, 32) its distinct PDQ hashes, the upright first; none where there
    is too little to see. `phashes` are of 64 bits each. `quality` is PDQ's, 0 to 100, of its best frame.
    """

    sha256: bytes
    pdq: Hashes
    phashes: tuple[int, ...]
    quality: int

    def pack(self) -> bytes:
        """The same as bytes, for storage."""
        head = _ASKED.pack(_VERSION, self.quality, self.sha256, len(self.pdq), len(self.phashes))
        return head + self.pdq.tobytes() + np.array(self.phashes, ">u8").tobytes()

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """What was packed.

        Raises:
            ValueError: it was not packed by this version.
        """
        if len(data) < _ASKED.size or data[0] != _VERSION:
            raise ValueError("These are not the packed hashes of a picture.")
        _, quality, sha256, count, others = _ASKED.unpack_from(data)
        return cls(sha256, _pdq(data, _ASKED.size, count, 8 * others), _phashes(data, others), quality)


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What a bank keeps of one picture: PDQ hashes (k, 32), its own first, and its pHash if that says anything.

    Of a picture of one frame that is one hash, one or two without its borders, and seven of its middle, less those
    with too little to see and those that are equal; one that came as a hash alone has k = 1 and no pHash.
    """

    pdq: Hashes
    phash: int | None

    def pack(self) -> bytes:
        """The same as bytes, for storage."""
        phashes = () if self.phash is None else (self.phash,)
        head = _KEPT.pack(_VERSION, len(phashes), len(self.pdq))
        return head + self.pdq.tobytes() + np.array(phashes, ">u8").tobytes()

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """What was packed.

        Raises:
            ValueError: it was not packed by this version.
        """
        if len(data) < _KEPT.size or data[0] != _VERSION or data[1] > 1:
            raise ValueError("These are not the packed hashes of a bank's picture.")
        _, others, count = _KEPT.unpack_from(data)
        return cls(_pdq(data, _KEPT.size, count, 8 * others), next(iter(_phashes(data, others)), None))

    @classmethod
    def of_hash(cls, text: str) -> Self:
        """What a bank keeps of a hash that others made: 64 hexadecimal digits.

        Raises:
            ValueError: it is no such hash.
        """
        return cls(pdq.of_hex(text)[None], None)


def asked(picture: Picture, digest: bytes) -> Asked:
    """What `picture` is looked up with; `digest` is the SHA-256 of its original bytes."""
    found: dict[bytes, None] = {}
    phashes: dict[int, None] = {}
    best = 0
    for frame in picture.frames:
        for rgb, full in _sized(picture, frame, looks(frame.rgb)):
            hashes, quality = pdq.oriented(rgb, full)
            best = max(best, quality)
            if quality >= pdq.GOOD:
                found.update(dict.fromkeys(map(bytes, hashes)))
            if (second := _phash(rgb)) is not None:
                phashes[second] = None
    return Asked(digest, _stacked(found), tuple(phashes), best)


def kept(picture: Picture) -> Kept:
    """What a bank keeps of `picture`: all its sampled frames as people see them."""
    found: dict[bytes, None] = {}
    phashes: list[int] = []
    for frame in _seen(picture):
        for rgb, full in _sized(picture, frame, [*framed(frame.rgb), *crops(frame.rgb)]):
            hashed, quality = pdq.hashed(rgb, full)
            if quality >= pdq.GOOD:
                found[hashed.tobytes()] = None
        if (second := _phash(frame.rgb)) is not None:
            phashes.append(second)
    return Kept(_stacked(found), phashes[0] if phashes else None)


def crops(rgb: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Views of the middle of a picture (height, width, 3), one for each of `CROPS`."""
    height, width = rgb.shape[:2]
    for share in CROPS:
        y, x = round(height * share / 2), round(width * share / 2)
        yield rgb[y : height - y, x : width - x]


def _seen(picture: Picture) -> Iterator[Frame]:
    """One frame for each moment of the picture: composited where it is transparent."""
    last = {frame.index: frame for frame in picture.frames}
    yield from (frame for frame in last.values())


def _sized(
    picture: Picture, frame: Frame, views: Iterable[NDArray[np.uint8]]
) -> Iterator[tuple[NDArray[np.uint8], pdq.Size]]:
    """Views of a frame, each with the height and width that it has in the original."""
    height, width = frame.rgb.shape[:2]
    # Frames are upright; the stored size is not.
    turned = (width > height) != (picture.width > picture.height)
    full = (picture.width, picture.height) if turned else (picture.height, picture.width)
    for view in views:
        yield view, (round(view.shape[0] * full[0] / height), round(view.shape[1] * full[1] / width))


def _phash(rgb: NDArray[np.uint8]) -> int | None:
    """The pHash of a picture that isn't plain."""
    value = perceptual_hash(rgb)
    return value if value.bit_count() >= PLAIN else None


def _stacked(found: dict[bytes, None]) -> Hashes:
    return np.frombuffer(b"".join(found), np.uint8).reshape(-1, pdq.BYTES)


def _pdq(data: bytes, start: int, count: int, behind: int) -> Hashes:
    if len(data) != start + count * pdq.BYTES + behind:
        raise ValueError("These packed hashes are cut off.")
    return np.frombuffer(data, np.uint8, count * pdq.BYTES, start).reshape(count, pdq.BYTES)


def _phashes(data: bytes, count: int) -> tuple[int, ...]:
    return tuple(int(value) for value in np.frombuffer(data[len(data) - 8 * count :], ">u8"))
