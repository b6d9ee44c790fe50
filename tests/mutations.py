"""Pictures after accidents: the same ones for the same seed, of every accepted format, all of our own making.

An accident is to bits, to lengths, to whole blocks (a chunk, a segment, a box) or to the size in the header.
Checksums are mended more often than not: a decoder that stops at the first wrong one is not tried at all.
"""

from __future__ import annotations

import random
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from moderation.features.header import sniff
from tests import hostile
from tests.hostile import gradient, saved

MOST_BYTES = 2_000_000
SIDES = (0, 1, 3, 255, 2_000, 6_300, 16_383, 65_535, 0x7FFFFFFF, 0xFFFFFFFF)
NUMBERS = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd9\xff]")


@cache
def seeds() -> list[bytes]:
    """Small whole pictures of every format, still and moving, and a few of a photograph's size."""
    rgba = gradient()
    rgba.putalpha(gradient().convert("L"))
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    photo = coarse.resize((1200, 900), Image.Resampling.BICUBIC)
    return [
        saved(gradient(), "JPEG"),
        saved(gradient(), "JPEG", progressive=True),
        saved(gradient().convert("CMYK"), "JPEG"),
        hostile.oriented(6),
        saved(rgba, "PNG"),
        hostile.apng(3),
        hostile.palette_with_alpha(),
        hostile.grey16(),
        saved(gradient(), "WEBP"),
        saved(rgba, "WEBP", lossless=True),
        hostile.webp_animation(3),
        hostile.gif_with_palettes(3),
        hostile.long_gif(12, 60, 40),
        saved(rgba, "AVIF", speed=10),
        timeless(hostile.avif_animation(3)),
        saved(photo, "JPEG", quality=88),
        saved(photo, "JPEG", progressive=True),
        saved(photo.quantize(64), "PNG"),
        saved(photo, "WEBP", method=0),
        saved(photo, "AVIF", speed=10),
    ]


def timeless(data: bytes) -> bytes:
    """An animated AVIF without the moment it was made at: the same from one run to the next."""
    for kind in (b"mvhd", b"tkhd", b"mdhd"):
        at = data.index(kind) + 8
        data = data[:at] + bytes(16) + data[at + 16 :]
    return data


def pictures(count: int, start: int) -> Iterator[bytes]:
    """`count` pictures after accidents, by the seed `start`."""
    dice, whole = random.Random(start), seeds()
    for _ in range(count):
        yield mutated(dice.choice(whole), dice, dice.choice(whole))


def mutated(data: bytes, dice: random.Random, other: bytes = b"") -> bytes:
    """`data` after one to four accidents; `other` is a picture that it may be spliced with."""
    for _ in range(dice.choice((1, 1, 2, 4))):
        accident = dice.choice(ACCIDENTS)
        data = spliced(data, other, dice) if accident is None else accident(data, dice)
    if sniff(data) == "PNG" and dice.random() < 0.7:
        data = mended(data)
    return data[:MOST_BYTES]


# --- blocks --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Block:
    """A chunk, segment, box or GIF block: from `start` to `end`, its length field at `length` in `form`."""

    start: int
    end: int
    length: int
    form: str


def blocks(data: bytes) -> list[Block]:
    """The blocks that a picture consists of, as far as it makes sense; none of what is no picture."""
    kind, found = sniff(data), list[Block]()
    with suppress(struct.error, IndexError):
        found.extend(_BLOCKS[kind](data) if kind else ())
    return found


def _chunks(data: bytes, at: int, form: str, around: int, *, even: bool) -> Iterator[Block]:
    """Blocks of a length and a name, in either order, that count only what follows those."""
    place = 0 if form == ">I" else 4
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(form, data, at + place)
        end = at + around + length + (length & 1 if even else 0)
        yield Block(at, min(end, len(data)), at + place, form)
        at = end


def _jpeg(data: bytes) -> Iterator[Block]:
    at = 2
    while found := _MARKER.search(data, at):
        start = found.start()
        (length,) = struct.unpack_from(">H", data, start + 2)
        at = start + 2 + length
        following = _MARKER.search(data, at)
        # What is coded belongs to its scan.
        yield Block(start, following.start() if following else len(data), start + 2, ">H")


def _gif(data: bytes) -> Iterator[Block]:
    at = 13 + (3 * (2 << (data[10] & 7)) if data[10] & 0x80 else 0)
    while at < len(data) and data[at] in b"!,":
        inner = at + 2
        if data[at] == ord(","):
            inner = at + 11 + (3 * (2 << (data[at + 9] & 7)) if data[at + 9] & 0x80 else 0)
        first = inner
        while data[inner]:
            inner += 1 + data[inner]
        yield Block(at, inner + 1, first, "B")
        at = inner + 1


def _avif(data: bytes, at: int = 0, end: int | None = None) -> Iterator[Block]:
    end = len(data) if end is None else end
    while at + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, at)
        stop = min(end, at + max(8, length))
        yield Block(at, stop, at, ">I")
        if kind in (b"meta", b"iprp", b"ipco", b"moov", b"trak", b"mdia"):
            yield from _avif(data, at + (12 if kind == b"meta" else 8), stop)
        at = stop


_BLOCKS: dict[str, Callable[[bytes], Iterator[Block]]] = {
    "PNG": lambda data: _chunks(data, 8, ">I", 12, even=False),
    "WEBP": lambda data: _chunks(data, 12, "<I", 8, even=True),
    "JPEG": _jpeg,
    "GIF": _gif,
    "AVIF": _avif,
}


# --- accidents -----------------------------------------------------------------------------------------


def bits(data: bytes, dice: random.Random) -> bytes:
    """One to sixteen bits turned over."""
    out = bytearray(data)
    for _ in range(dice.randint(1, 16) if out else 0):
        out[dice.randrange(len(out))] ^= 1 << dice.randrange(8)
    return bytes(out)


def stretch(data: bytes, dice: random.Random) -> bytes:
    """Some bytes lost, doubled, overwritten with noise or with a number at a limit."""
    at = dice.randrange(len(data) + 1)
    to = min(len(data), at + dice.randint(1, 256))
    number = struct.pack(dice.choice((">I", "<I")), dice.choice(NUMBERS))
    put = dice.choice((b"", data[at:to] * 2, dice.randbytes(to - at), number))
    return data[:at] + put + data[to if put != number else at + 4 :]


def cut(data: bytes, dice: random.Random) -> bytes:
    """The beginning alone."""
    return data[: dice.randrange(len(data) + 1)]


def spliced(data: bytes, other: bytes, dice: random.Random) -> bytes:
    """The beginning of one picture and the end of another, joined between blocks if both have any."""
    ours, theirs = blocks(data), blocks(other)
    if ours and theirs and dice.random() < 0.7:
        return data[: dice.choice(ours).start] + other[dice.choice(theirs).start :]
    return data[: dice.randrange(len(data) + 1)] + other[dice.randrange(len(other) + 1) :]


def length(data: bytes, dice: random.Random) -> bytes:
    """A block that claims another length than it has."""
    found = blocks(data)
    if not found:
        return bits(data, dice)
    block = dice.choice(found)
    width = struct.calcsize(block.form)
    near = (int.from_bytes(data[block.length : block.length + width]) + dice.randint(-9, 9)) % 256
    value = dice.choice((*NUMBERS, near)) & (256**width - 1)
    return data[: block.length] + struct.pack(block.form, value) + data[block.length + width :]


def shuffled(data: bytes, dice: random.Random) -> bytes:
    """A block lost, repeated up to 300 times, or put in another place."""
    found = blocks(data)
    if not found:
        return stretch(data, dice)
    block, there = dice.choice(found), dice.choice(found).start
    body = data[block.start : block.end]
    match dice.randrange(4):
        case 0:
            return data[: block.start] + data[block.end :]
        case 1:
            return data[: block.end] + body * dice.choice((1, 2, 30)) + data[block.end :]
        case 2:
            often = min(300, MOST_BYTES // max(1, len(body)))
            return data[: block.end] + body * often + data[block.end :]
        case _:
            return data[:there] + body + data[there:]


def resized(data: bytes, dice: random.Random) -> bytes:
    """Another width and height in the header."""
    place, form = {"PNG": (16, ">II"), "GIF": (6, "<HH"), "WEBP": (26, "<HH")}.get(sniff(data) or "", (0, ""))
    if sniff(data) == "JPEG":
        at = max(data.find(b"\xff\xc0\x00"), data.find(b"\xff\xc2\x00"))
        place, form = at + 5, ">HH" if at > 0 else ""
    elif sniff(data) == "AVIF":
        at = data.find(b"ispe")
        place, form = at + 8, ">II" if at > 0 else ""
    if not form or place + 8 > len(data):
        return stretch(data, dice)
    most = 256 ** (struct.calcsize(form) // 2) - 1
    sides = struct.pack(form, *(min(most, dice.choice(SIDES)) for _ in range(2)))
    return data[:place] + sides + data[place + len(sides) :]


def mended(data: bytes) -> bytes:
    """A PNG with the checksums that its chunks should have."""
    out = bytearray(data)
    for block in blocks(data):
        if block.end - block.start >= 12:
            checksum = zlib.crc32(out[block.start + 4 : block.end - 4])
            out[block.end - 4 : block.end] = checksum.to_bytes(4)
    return bytes(out)


ACCIDENTS = (bits, bits, stretch, stretch, cut, None, length, shuffled, resized)
"""None is a splice, which takes two."""
