"""What a picture's first bytes say: its format and size, read without decoding anything.

Intake runs this on bytes nobody has vetted, in the process that serves the API. It is plain Python over
`bytes`: no image library sees a posted byte outside the child process of `moderation.features.decode`.
What it can't know it leaves to that child: a header may lie, and the child's limits hold all the same.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from moderation.domain.errors import InvalidInput

Format = Literal["JPEG", "PNG", "WEBP", "GIF", "AVIF"]
FORMATS: tuple[Format, ...] = ("JPEG", "PNG", "WEBP", "GIF", "AVIF")
MEDIA_TYPES: dict[Format, str] = {name: f"image/{name.lower()}" for name in FORMATS}

MAX_BYTES = 10_000_000
MAX_PIXELS = 40_000_000
MAX_SCANS = 50
"""A progressive JPEG decodes the whole picture once a scan; encoders write about ten."""
MAX_SCANNED = 800_000_000
"""Pixels times scans: twice what an encoder makes of the largest picture."""

SENTENCES = {
    "too_large": f"The picture is larger than {MAX_BYTES:,} bytes; send a smaller copy of it.",
    "unsupported_format": "This is not a JPEG, PNG, WebP, GIF or AVIF picture; convert it to one of these.",
    "too_many_pixels": f"The picture has more than {MAX_PIXELS:,} pixels; scale it down.",
    "too_many_scans": "The JPEG has too many scans for its size; save it again with ordinary settings.",
    "truncated": "The picture ends before it is complete; send the whole file.",
    "undecodable": "The picture is damaged and can't be decoded; save it again and send that.",
    "too_slow": "The picture takes too long to decode; save it again at a smaller size.",
    "too_much_memory": "The picture needs too much memory to decode; save it again at a smaller size.",
    "crashed": "The picture made the decoder fail; save it again with another program and send that.",
}


class UndecodableImage(InvalidInput):
    """A picture that is refused: `code` is one of SENTENCES, the text says what to do.

    Neither ever holds anything that came out of the picture.
    """

    def __init__(self, code: str) -> None:
        super().__init__(SENTENCES[code], code=code)

    def __reduce__(self) -> tuple[type[UndecodableImage], tuple[str]]:
        # The default would call __init__ with the sentence when a refusal crosses a process boundary.
        return UndecodableImage, (self.code,)


@dataclass(frozen=True, slots=True)
class Header:
    """A picture's sniffed format and its stored size in pixels, before any EXIF orientation."""

    format: Format
    width: int
    height: int

    @property
    def media_type(self) -> str:
        return MEDIA_TYPES[self.format]


def inspect(data: bytes) -> Header:
    """The header of a posted picture, whatever its file was called; a few milliseconds at most.

    Raises:
        UndecodableImage: too many bytes, pixels or scans, a format not accepted, or no sense in the header.
    """
    if len(data) > MAX_BYTES:
        raise UndecodableImage("too_large")
    kind = sniff(data)
    if kind is None:
        raise UndecodableImage("unsupported_format" if data else "truncated")
    try:
        width, height = _SIZES[kind](data)
    except (struct.error, IndexError) as error:
        raise UndecodableImage("truncated") from error
    if min(width, height) < 1:
        raise UndecodableImage("undecodable")
    if width * height > MAX_PIXELS:
        raise UndecodableImage("too_many_pixels")
    return Header(kind, width, height)


def sniff(data: bytes) -> Format | None:
    """The accepted format that `data` begins as; None for everything else."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp" and _is_avif(data):
        return "AVIF"
    return None


def _is_avif(data: bytes) -> bool:
    brands = data[8 : min(int.from_bytes(data[:4]), 256)]
    # Bytes 4 to 8 are the minor version, not a brand. HEIC shares the container and has neither brand.
    return any(brands[i : i + 4] in (b"avif", b"avis") for i in range(0, len(brands), 4) if i != 4)


def _png(data: bytes) -> tuple[int, int]:
    if data[12:16] != b"IHDR":
        raise UndecodableImage("undecodable")
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _gif(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _webp(data: bytes) -> tuple[int, int]:
    chunk = data[12:16]
    if chunk == b"VP8X":
        struct.unpack_from("<10s", data, 20)
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise UndecodableImage("undecodable")


# SOF0 to SOF15 without DHT (C4), JPG (C8) and DAC (CC), which share the range.
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9
# A real marker: not a stuffed FF 00, a restart (D0 to D7), a fill byte (FF), a bare TEM or a second SOI.
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")


_MAX_SEGMENTS = 1000
"""A colour profile or EXIF fills at most some hundred; walking millions of empty ones would take seconds."""


def _jpeg(data: bytes) -> tuple[int, int]:
    """The largest size any frame header gives, so that a second one can't hide behind the first."""
    width = height = scans = 0
    for count, (marker, start) in enumerate(_segments(data)):
        if count == _MAX_SEGMENTS:
            raise UndecodableImage("undecodable")
        if marker in _FRAME_MARKERS:
            rows, columns = struct.unpack_from(">HH", data, start + 3)
            width, height = max(width, columns), max(height, rows)
        elif marker == _SCAN:
            scans += 1
            if scans > MAX_SCANS:
                raise UndecodableImage("too_many_scans")
    if not scans:
        raise UndecodableImage("truncated")
    if scans * width * height > MAX_SCANNED and width * height <= MAX_PIXELS:
        raise UndecodableImage("too_many_scans")
    return width, height


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Marker and offset of the length field of each JPEG segment, up to the end of the picture or bytes."""
    position = 2
    while found := _MARKER.search(data, position):
        marker, start = found[1][0], found.end()
        if marker == _END:
            return
        yield marker, start
        # A length counts itself. Below 2 it is nonsense; moving on by 2 keeps the walk going forward.
        position = start + max(2, int.from_bytes(data[start : start + 2]))


_CONTAINERS = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"moov": 0, b"trak": 0}
_MAX_BOXES = 1000
_MAX_DEPTH = 3


def _avif(data: bytes) -> tuple[int, int]:
    """The largest size of any item or track: a grid's whole is larger than its tiles."""
    width = height = 0
    for count, (kind, start, end) in enumerate(_boxes(data, 0, len(data))):
        if count == _MAX_BOXES:
            raise UndecodableImage("undecodable")
        if kind == b"ispe":
            columns, rows = struct.unpack_from(">II", data, start + 4)
        elif kind == b"tkhd" and end - start >= 8:
            columns, rows = (side >> 16 for side in struct.unpack_from(">II", data, end - 8))
        else:
            continue
        width, height = max(width, columns), max(height, rows)
    return width, height


def _boxes(data: bytes, start: int, end: int, depth: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the content of each ISO BMFF box between two offsets, depth first."""
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        content = start + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, content)
            content += 8
        stop = end if size == 0 else start + size
        if stop < content or stop > end:
            raise UndecodableImage("truncated")
        yield kind, content, stop
        if kind in _CONTAINERS and depth < _MAX_DEPTH:
            yield from _boxes(data, content + _CONTAINERS[kind], stop, depth + 1)
        start = stop


_SIZES: dict[Format, Callable[[bytes], tuple[int, int]]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "GIF": _gif,
    "AVIF": _avif,
}
