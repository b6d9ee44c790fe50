"""Records of JSON documents and JSON lines, read as a stream of which one record at a time is held."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from moderation.domain.errors import InvalidInput
from moderation.governance.bank_formats import LONGEST, Bad, objects_by_line

HEAD = 65_536
_CHUNK = 65_536
_BLANK = re.compile(r"[ \t\r\n]*")
_ARRAYS = frozenset({"data", "hashrecords", "images", "videos"})


class Json:
    """Records of JSON documents one after another, of which one record at a time is held."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("strict")
        self._text, self._at, self._line, self._ended = "", 0, 1, False
        self._json = json.JSONDecoder()

    def records(self) -> Iterator[tuple[int, dict[str, Any]] | Bad]:
        """Every object that is no envelope of others.

        Raises:
            InvalidInput: it is no JSON.
        """
        try:
            while first := self._peek():
                yield from self._array() if first == "[" else self._object()
        except (UnicodeDecodeError, RecursionError) as error:
            raise self._broken() from error

    @property
    def line(self) -> int:
        return self._line + self._text.count("\n", 0, self._at)

    def _object(self) -> Iterator[tuple[int, dict[str, Any]] | Bad]:
        line, own, envelope = self.line, dict[str, Any](), False
        self._take("{")
        while self._peek() != "}":
            key = self._value()
            self._take(":")
            if isinstance(key, str) and key.lower() in _ARRAYS and self._peek() == "[":
                envelope = True
                yield from self._array()
            elif key == "threat_updates" and self._peek() == "{":
                envelope = True
                yield from self._object()
            else:
                own[str(key)] = self._value()
            if self._peek() != "}":
                self._take(",")
        self._take("}")
        if not envelope:
            yield line, own

    def _array(self) -> Iterator[tuple[int, dict[str, Any]] | Bad]:
        self._take("[")
        while self._peek() != "]":
            self._peek()
            line, one = self.line, self._value()
            yield (line, one) if isinstance(one, dict) else Bad(line, "This is no JSON object.")
            if self._peek() != "]":
                self._take(",")
        self._take("]")

    def _more(self) -> bool:
        if self._ended:
            return False
        chunk = self._source.read(_CHUNK)
        self._ended = not chunk
        self._line = self.line
        self._text = self._text[self._at :] + self._decoder.decode(chunk, final=self._ended)
        self._at = 0
        return True

    def _peek(self) -> str:
        """The next character that is no white space; nothing at the end."""
        while True:
            blank = _BLANK.match(self._text, self._at)
            self._at = blank.end() if blank else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _take(self, wanted: str) -> None:
        if self._peek() != wanted:
            raise self._broken()
        self._at += 1

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._at)
                if end < len(self._text) or self._ended:
                    self._at = end
                    return value
            except ValueError as error:
                if self._ended or len(self._text) - self._at > LONGEST:
                    raise self._broken() from error
            self._more()

    def _broken(self) -> InvalidInput:
        return InvalidInput(
            f"This is no JSON from line {self.line:,} on, so nothing of it was taken; fetch or save it again."
        )


def by_row(source: Any) -> bool:
    """Whether a list is CSV and not JSON."""
    return source.peek(HEAD).removeprefix(codecs.BOM_UTF8).lstrip()[:1] not in (b"{", b"[")


def objects(source: Any) -> Iterator[tuple[int, dict[str, Any]] | Bad]:
    """The records of a JSON document, or of one a line, where a bad line harms no other."""
    first = source.peek(HEAD).removeprefix(codecs.BOM_UTF8).split(b"\n", 1)[0]
    try:
        alone = json.loads(first)
    except (ValueError, RecursionError):
        alone = None
    if isinstance(alone, dict) and not {*_ARRAYS, "threat_updates"} & {key.lower() for key in alone}:
        return objects_by_line(source)
    return Json(source).records()
