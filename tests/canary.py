"""Find a word in raw bytes, however it was encoded on the way there."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

CHUNK = 32 << 20
OVERLAP = 1 << 16
INFLATED = 1 << 20

# A zlib stream begins with one of these two bytes, a gzip stream with these three.
_ZLIB = re.compile(rb"\x78[\x01\x5e\x9c\xda]")
_GZIP = re.compile(rb"\x1f\x8b\x08")
_ESCAPED = re.compile(rb'\\x([0-9a-f]{2})|\\([\\"nrtab])')
_LETTERS = {b"\\": b"\\", b'"': b'"', b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}


def needles(word: str) -> dict[str, bytes]:
    """`word` in every encoding that can be searched for as it is."""
    found = {"utf-8": word.encode(), "utf-16": word.encode("utf-16-le")}
    if not word.isascii():
        found["json"] = json.dumps(word)[1:-1].encode()
    for shift in range(3):
        # What stands before and after decides the first and last characters: leave those out.
        encoded = base64.b64encode(b"\0" * shift + word.encode())
        start = (0, 2, 3)[shift]
        end = len(encoded.rstrip(b"=")) - (1 if encoded.endswith(b"=") else 0)
        found[f"base64 at {shift}"] = encoded[start:end]
    return found


def hits(data: bytes, words: Sequence[str]) -> set[str]:
    """The encodings in which any of `words` stands in `data`: utf-8, utf-16, json, base64, zlib, gzip."""
    found = {name for word in words for name, needle in needles(word).items() if needle in data}
    for name, pattern, bits in (("zlib", _ZLIB, 15), ("gzip", _GZIP, 31)):
        for inflated in _inflated(data, pattern, bits):
            if any(needle in inflated for word in words for needle in needles(word).values()):
                found.add(name)
    return found


def _inflated(data: bytes, pattern: re.Pattern[bytes], bits: int) -> Iterator[bytes]:
    """Whatever can be unpacked at every place where a stream may begin, whole or broken off."""
    for match in pattern.finditer(data):
        stream = zlib.decompressobj(bits)
        try:
            yield stream.decompress(data[match.start() : match.start() + OVERLAP], INFLATED)
        except zlib.error:
            continue


def unescaped(monitored: bytes) -> bytes:
    r"""What MONITOR says, with `\x9c` and the like turned back into bytes."""
    return _ESCAPED.sub(lambda m: bytes.fromhex(m[1].decode()) if m[1] else _LETTERS[m[2]], monitored)


def hits_in(directory: Path, words: Sequence[str]) -> tuple[dict[str, set[str]], int]:
    """Per file under `directory` the encodings found, and how many bytes were looked at."""
    found: dict[str, set[str]] = {}
    looked_at = 0
    for path in sorted(directory.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        for data in _chunks(path):
            looked_at += len(data)
            if said := hits(data, words):
                found.setdefault(str(path.relative_to(directory)), set()).update(said)
    return found, looked_at


def _chunks(path: Path) -> Iterator[bytes]:
    """A file in pieces that overlap; one that goes away meanwhile holds nothing."""
    try:
        with path.open("rb") as file:
            tail = b""
            while piece := file.read(CHUNK):
                yield tail + piece
                tail = piece[-OVERLAP:]
    except FileNotFoundError:
        return
