"""Lists of what banks hold, read line by line: nothing here knows the database, or holds a whole list.

    list    one value a line
    csv     a header of our names in any order, separated by commas, semicolons or tabs
    jsonl   one JSON object a line with the same names
The shapes in which exchanges of hashes hand out theirs are in `bank_feeds`. A line that is of no use is told by its
number and why, and never repeated: it may name somebody.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from enum import StrEnum
from typing import Any, BinaryIO, Final

from moderation.domain.errors import InvalidInput

LONGEST: Final = 1_000_000
"""Bytes of a line, or of one record of a document."""
SHA256, PDQ, DIGEST = "sha256", "pdq", "digest"
"""Forms of what is known by a hash alone: pictures by the first two, texts by the last."""
FORMS = {
    "sha256": SHA256, "sha-256": SHA256, "sha2-256": SHA256, "hash_sha256": SHA256, "image_sha256": SHA256,
    "pdq": PDQ, "hash_pdq": PDQ, "imagepdq": PDQ, "image_pdq": PDQ,
}  # fmt: skip
"""What lists call the hashes of pictures that can be looked for."""
COLUMNS = (
    "value", "form", "pdq", "phash", "sketch", "category", "note", "source", "reference", "verified", "expires"
)  # fmt: skip
_ALIASES = {"hash": "value", "type": "form", "expires_at": "expires"}
_YES, _NO = frozenset({"true", "yes", "1"}), frozenset({"false", "no", "0"})
_CONTROLS = dict.fromkeys([*range(32), *range(127, 160)], " ")
_HEX = re.compile(r"[0-9a-f]{64}")
# Half of the bits of a PDQ hash are set but for ties, so a hash far from that is of a picture without features.
_FEWEST, _MOST = 64, 192


class Format(StrEnum):
    """The shapes of lists."""

    LIST = "list"
    CSV = "csv"
    JSONL = "jsonl"
    THREATEXCHANGE = "threatexchange"
    NCMEC = "ncmec"
    STOPNCII = "stopncii"


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of a list; of one that is `gone` its source says that it should not be there any more.

    `value` is what to look for, or 64 hexadecimal digits if `form` is a hash. `pdq` and `phash` are further hashes
    of the same picture, `sketch` is what near texts share. `reference` is what its source calls it.
    """

    line: int
    value: str
    form: str | None = None
    category: str | None = None
    note: str = ""
    source: str | None = None
    reference: str = ""
    verified: bool | None = None
    expires_at: datetime | None = None
    gone: bool = False
    pdq: tuple[str, ...] = ()
    phash: str | None = None
    sketch: bytes | None = None


@dataclass(frozen=True, slots=True)
class Bad:
    """A line that can't be read or used."""

    line: int
    why: str


@dataclass(frozen=True, slots=True)
class Foreign:
    """A line that is in order, of a kind that can't be looked for here: a hash of another family, a video."""

    line: int
    kind: str


Read = Record | Bad | Foreign


class Unusable(ValueError):
    """Why a line is bad, without what it says."""


# ---- lines ------------------------------------------------------------------------------------------------


def lines(source: BinaryIO) -> Iterator[tuple[int, str] | Bad]:
    """The lines of UTF-8 text by number, from 1; one too long is skipped without being held.

    Raises:
        InvalidInput: the text is UTF-16.
    """
    number = 0
    while raw := source.readline(LONGEST + 1):
        number += 1
        if number == 1:
            if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\x00" in raw[:4]:
                raise InvalidInput("This list is not UTF-8 text but UTF-16, it seems; save it as UTF-8.")
            raw = raw.removeprefix(codecs.BOM_UTF8)
        if len(raw) > LONGEST and not raw.endswith(b"\n"):
            while (rest := source.readline(LONGEST)) and not rest.endswith(b"\n"):
                pass
            yield Bad(number, f"This line has more than {LONGEST:,} bytes.")
            continue
        try:
            yield number, raw.decode("utf-8")
        except UnicodeDecodeError:
            yield Bad(number, "This line is not UTF-8 text.")


def read_list(source: BinaryIO) -> Iterator[Read]:
    """One value a line; empty lines and those that begin with `# ` are left out."""
    for one in lines(source):
        if isinstance(one, Bad):
            yield one
        elif (value := one[1].strip()) and not value.startswith("# "):
            yield Record(one[0], value)


# ---- CSV --------------------------------------------------------------------------------------------------


def columns(header: str) -> tuple[str, list[str]] | None:
    """The delimiter and our names of a header's columns; None if it is no header of ours."""
    for delimiter in (",", ";", "\t"):
        try:
            names = next(csv.reader([header.strip("\r\n")], delimiter=delimiter, strict=True), [])
        except csv.Error:
            continue
        named = [_ALIASES.get(name.strip().lower(), name.strip().lower()) for name in names]
        if "value" in named or (PDQ in named and len(named) > 1):
            return delimiter, named
    return None


def rows(source: BinaryIO) -> Iterator[tuple[int, dict[str, str]] | Bad]:
    """The rows of a CSV file by the names of its header, in lower case; `hash` and `type` by our names of them.

    Raises:
        InvalidInput: it has no header, or names a column twice.
    """
    skipped: list[Bad] = []
    text = _only_text(lines(source), skipped)
    before, head = next(((number, line) for number, line in enumerate(text, 1) if line.strip()), (0, ""))
    delimiter, names = columns(head) or _any_header(head)
    if len(set(names)) < len(names):
        raise InvalidInput("Two columns of this list have one name; `hash` is `value`, and `type` is `form`.")
    if skipped:
        raise InvalidInput(
            "The header of this list is no UTF-8 text, or longer than it may be; save it as UTF-8."
        )
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    while True:
        fields: list[str] | None
        try:
            fields = next(reader, None)
        except csv.Error:
            yield Bad(
                before + reader.line_num, "The quotes in this line don't match, or a field is too long."
            )
            continue
        yield from skipped
        skipped.clear()
        if fields is None:
            return
        number = before + reader.line_num
        if not any(field.strip() for field in fields):
            continue
        if len(fields) > len(names):
            yield Bad(
                number, "This line has more fields than the header; put quotes around those with commas."
            )
        else:
            yield number, dict(zip(names, (field.strip() for field in fields), strict=False))


def _only_text(read: Iterator[tuple[int, str] | Bad], skipped: list[Bad]) -> Iterator[str]:
    """The lines alone, an empty one for each that can't be read: the reader of CSV counts them."""
    for one in read:
        if isinstance(one, Bad):
            skipped.append(one)
            yield "\n"
        else:
            yield one[1]


def _any_header(head: str) -> tuple[str, list[str]]:
    """A header of names that are not ours, as exchanges have them.

    Raises:
        InvalidInput: there is none.
    """
    delimiter = max(",;\t", key=head.count)
    names = [name.strip().lower() for name in next(csv.reader([head], delimiter=delimiter), [])]
    if head and not any(names):
        raise InvalidInput("This list has no header; its first line names the columns, `value` among them.")
    return delimiter, names


def read_csv(source: BinaryIO) -> Iterator[Read]:
    """Our own columns, `value` or `hash` among them; columns of other names are left out.

    Raises:
        InvalidInput: as `rows`, or the header names no value.
    """
    first = True
    for one in rows(source):
        if isinstance(one, Bad):
            yield one
            continue
        number, fields = one
        if first and not {"value", PDQ} & fields.keys():
            raise InvalidInput("The header of this list names no column `value` or `hash`.")
        first = False
        yield record(number, {**fields, PDQ: fields.get(PDQ, "").split()})


# ---- JSON lines -------------------------------------------------------------------------------------------


def objects_by_line(source: BinaryIO) -> Iterator[tuple[int, dict[str, Any]] | Bad]:
    """One JSON object a line; empty lines are left out."""
    for one in lines(source):
        if isinstance(one, Bad):
            yield one
            continue
        number, text = one
        if not text.strip():
            continue
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            yield Bad(number, "This line is no JSON object.")
            continue
        yield (number, found) if isinstance(found, dict) else Bad(number, "This line is no JSON object.")


def read_jsonl(source: BinaryIO) -> Iterator[Read]:
    """The shape of our own export; keys of other names are left out."""
    for one in objects_by_line(source):
        if isinstance(one, Bad):
            yield one
        else:
            named = {_ALIASES.get(key.lower(), key.lower()): value for key, value in one[1].items()}
            yield record(one[0], named)


# ---- one record -------------------------------------------------------------------------------------------


def record(line: int, fields: Mapping[str, Any]) -> Read:
    """What the fields of a line say."""
    try:
        pdq = _hashes(fields.get(PDQ))
        value, form = text_of(fields.get("value")), clean(fields.get("form")) or None
        if not value and pdq:
            value, form, pdq = pdq[0], PDQ, pdq[1:]
        if not value:
            return Bad(line, "This line has no value.")
        form = FORMS.get((form or "").lower(), form)
        if form in (SHA256, PDQ, DIGEST):
            value = hexadecimal(value, form)
        return Record(
            line,
            value,
            form,
            category=clean(fields.get("category")) or None,
            note=clean(fields.get("note")),
            source=clean(fields.get("source")) or None,
            reference=clean(fields.get("reference")),
            verified=_truth(fields.get("verified")),
            expires_at=moment(fields.get("expires")),
            pdq=pdq,
            phash=_phash(fields.get("phash")),
            sketch=_sketch(fields.get("sketch")),
        )
    except Unusable as error:
        return Bad(line, str(error))


def of_picture(one: Record, form: str | None = None) -> Read:
    """A record of a list of pictures' hashes, of which those that have no form of their own have `form`."""
    form = one.form or form
    if form is None and re.fullmatch(r"[0-9a-fA-F]+", one.value):
        form = {32: "md5", 40: "sha1"}.get(len(one.value))
    if form is None:
        return Bad(
            one.line,
            "64 digits can be SHA-256 or PDQ: name the column `type`, or say for all of them by --form."
            if _HEX.fullmatch(one.value.lower())
            else "This bank holds pictures, and this is no hash of one.",
        )
    known = FORMS.get(form.lower())
    if known is None:
        return Foreign(one.line, form[:30])
    try:
        return replace(one, value=hexadecimal(one.value, known), form=known)
    except Unusable as error:
        return Bad(one.line, str(error))


def clean(value: object) -> str:
    """A field as one line of text, without control characters.

    Raises:
        Unusable: it is no text, or can't be written as UTF-8.
    """
    text = text_of(value)
    return text and " ".join(text.translate(_CONTROLS).split())


def text_of(value: object) -> str:
    """A field as it is written.

    Raises:
        Unusable: it is no text, or can't be written as UTF-8.
    """
    if value is None or value == "":
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Unusable("A field of this line is no text.")
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Unusable("This line holds half a character.") from error
    return text.strip()


def hexadecimal(value: str, form: str) -> str:
    """A hash of 256 bits in the way we write it.

    Raises:
        Unusable: it has another length, or is a PDQ hash that flat pictures of every kind have.
    """
    found = value.strip().lower().removeprefix("0x")
    if not _HEX.fullmatch(found):
        raise Unusable("This is no hash of 64 hexadecimal digits.")
    if form == PDQ and not _FEWEST <= int(found, 16).bit_count() <= _MOST:
        raise Unusable("This is the hash of a picture without features; any flat picture would match it.")
    return found


def moment(value: object) -> datetime | None:
    """A day, which ends at midnight UTC, or a moment as ISO 8601 has it.

    Raises:
        Unusable: it is neither.
    """
    text = clean(value)
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
        if len(text) == len("2027-01-31"):
            found = datetime.combine(found, time(23, 59, 59))
        return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Unusable("The end of this entry is no day; write it as in 2027-01-31.") from error


def _truth(value: object) -> bool | None:
    if isinstance(value, bool) or value is None:
        return value
    text = clean(value).lower()
    if text in _YES or text in _NO:
        return text in _YES
    if not text:
        return None
    raise Unusable("`verified` is true or false.")


def _hashes(value: object) -> tuple[str, ...]:
    found = value.split() if isinstance(value, str) else value or ()
    if not isinstance(found, list | tuple) or len(found) > 64:
        raise Unusable("`pdq` is a list of hashes.")
    return tuple(hexadecimal(clean(one), PDQ) for one in found)


def _phash(value: object) -> str | None:
    text = clean(value).lower()
    if text and not re.fullmatch(r"[0-9a-f]{16}", text):
        raise Unusable("`phash` has 16 hexadecimal digits.")
    return text or None


def _sketch(value: object) -> bytes | None:
    try:
        return base64.b64decode(clean(value), validate=True) or None
    except (binascii.Error, ValueError) as error:
        raise Unusable("`sketch` is no base64.") from error
