"""Lists as exchanges of hashes hand them out: ThreatExchange, NCMEC and StopNCII, read as streams.

The shapes are those that the reference client of 2026 reads and writes (python-threatexchange 1.2.17):
    threatexchange  the records of `threat_updates`, or what `threatexchange dataset -P --csv` prints
    ncmec           the XML of version 2 of the hash sharing API: <queryResult> with <images> and <videos>
    stopncii        the answer of FetchHashes: {"hashRecords": [...]}
Also read is what nobody documents: NCMEC's fields as JSON and StopNCII's as CSV, by the same names.

What an exchange takes back is a record that is `gone`: deleted, withdrawn, or harmless, as all its owners say.
XML with a document type is refused: it could define entities.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO
from xml.parsers import expat

from moderation.domain.errors import InvalidInput
from moderation.domain.signals import BankKind
from moderation.governance.bank_formats import (
    FORMS,
    LONGEST,
    Bad,
    Foreign,
    Format,
    Read,
    Record,
    Unusable,
    clean,
    columns,
    hexadecimal,
    read_csv,
    read_jsonl,
    read_list,
    rows,
)
from moderation.governance.bank_json import HEAD, by_row, objects

DEEPEST = 32
_CHUNK = 65_536
_NOTE = 200
_TYPES: Mapping[str, tuple[BankKind, str | None]] = {
    **{name: (BankKind.IMAGE, form) for name, form in FORMS.items()},
    "url": (BankKind.LINK, None), "uri": (BankKind.LINK, None), "raw_uri": (BankKind.LINK, None),
    "domain": (BankKind.LINK, "host"), "email_address": (BankKind.LINK, "email"),
    "text": (BankKind.TEXT, None), "raw_text": (BankKind.TEXT, None), "text_string": (BankKind.TEXT, None),
}  # fmt: skip


def read(source: Any, format: Format, kind: BankKind) -> Iterator[Read]:  # noqa: A002  what it is
    """The records of a list for a bank of this kind; `source` is a buffered stream of bytes.

    Raises:
        InvalidInput: it is not of this format, or broken where no later line can be told from this one.
    """
    own = {Format.LIST: read_list, Format.CSV: read_csv, Format.JSONL: read_jsonl}
    if format in own:
        return own[format](source)
    feeds = {Format.THREATEXCHANGE: _threatexchange, Format.NCMEC: _ncmec, Format.STOPNCII: _stopncii}
    return feeds[format](source, kind)


def looks_like(head: bytes) -> Format:
    """The format of a list by how it begins."""
    text = head.removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace").lstrip()
    if text.startswith("<"):
        return Format.NCMEC
    if text.startswith(("{", "[")):
        for format_, key in (
            (Format.STOPNCII, r'"(?:hashRecords|hashValue)"\s*:'),
            (Format.NCMEC, r'"fingerprints"\s*:'),
            (Format.THREATEXCHANGE, r'"(?:indicator|raw_indicator|threat_updates)"\s*:'),
        ):
            if re.search(key, text):
                return format_
        return Format.JSONL if text.startswith("{") else Format.THREATEXCHANGE
    first = text.split("\n", 1)[0]
    found = columns(first)
    names = {name.strip().strip('"').lower() for name in re.split(r"[,;\t]", first)}
    if names >= {"signal_type", "signal_str"} or names >= {"indicator", "type"}:
        return Format.THREATEXCHANGE
    if names >= {"hashvalue", "signaltype"}:
        return Format.STOPNCII
    # A list may begin with the word itself.
    return Format.CSV if found and (len(found[1]) > 1 or found[1] == ["value"]) else Format.LIST


# ---- ThreatExchange ---------------------------------------------------------------------------------------


def _threatexchange(source: Any, kind: BankKind) -> Iterator[Read]:
    in_rows = by_row(source)
    for one in rows(source) if in_rows else objects(source):
        if isinstance(one, Bad):
            yield one
            continue
        try:
            line, fields = one
            yield _signal(line, fields, kind) if in_rows else _indicator(line, fields, kind)
        except (Unusable, TypeError, AttributeError, ValueError) as error:
            yield Bad(one[0], str(error) if isinstance(error, Unusable) else "This is no indicator.")


def _signal(line: int, fields: Mapping[str, str], kind: BankKind) -> Read:
    """A row of `threatexchange dataset -P --csv`, or one with the columns `indicator` and `type`."""
    word = fields.get("signal_type") or fields.get("type", "")
    category, tags = fields.get("category", "").upper(), fields.get("tags", "")
    return _typed(
        line, word, fields.get("signal_str") or fields.get("indicator", ""), kind,
        note=_joined(tags, "disputed" if category == "DISPUTED" else "", fields.get("collab", "")),
        reference=clean(fields.get("id")),
        gone=category == "NEGATIVE_CLASS" or fields.get("should_delete", "").lower() in ("true", "1"),
    )  # fmt: skip


def _indicator(line: int, one: Mapping[str, Any], kind: BankKind) -> Read:
    """A record of `threat_updates`, or a descriptor on its own."""
    indicator: Any = one.get("indicator", one.get("raw_indicator"))
    word = one.get("type", "")
    if isinstance(indicator, dict):  # of a descriptor
        indicator, word = indicator.get("indicator"), indicator.get("type", word)
    inner: Any = one.get("descriptors")
    owned: Any = (inner.get("data") if isinstance(inner, dict) else inner) or []
    described: list[Mapping[str, Any]] = owned or ([one] if "status" in one else [])
    statuses = {str(descriptor.get("status", "")) for descriptor in described}
    tags = dict.fromkeys(tag for descriptor in described for tag in _tags(descriptor.get("tags")))
    reactions = {
        reaction.get("key")
        for descriptor in described
        for reaction in descriptor.get("reactions") or ()
        if isinstance(reaction, dict)
    }
    disputed = "NON_MALICIOUS" in statuses or "DISAGREE_WITH_TAGS" in reactions
    # One without descriptors is a deleted one too, says the reference client.
    gone = bool(one.get("should_delete")) or not described or statuses == {"NON_MALICIOUS"}
    if "media_type_video" in tags and not str(word).upper().startswith("HASH_VIDEO"):
        word = f"video {word}"
    return _typed(
        line, str(word), clean(indicator), kind,
        note=_joined(", ".join(tags), "disputed" if disputed else ""), reference=clean(one.get("id")), gone=gone,
    )  # fmt: skip


def _tags(tags: Any) -> Iterator[str]:
    found = tags.get("data") if isinstance(tags, dict) else tags
    for tag in found or ():
        yield clean(tag.get("text") if isinstance(tag, dict) else tag)


def _typed(
    line: int, word: str, value: str, kind: BankKind, *, note: str, reference: str, gone: bool
) -> Read:
    held, form = _TYPES.get(word.lower(), (None, None))
    if held is not kind:
        return Foreign(line, clean(word).lower()[:30] or "no type")
    if not value and not reference:
        return Bad(line, "This record names no hash.")
    if form in FORMS.values() and not (gone and not value):
        value = hexadecimal(value, str(form))
    return Record(line, value, form, note=note, reference=reference, gone=gone)


def _joined(*said: str) -> str:
    return "; ".join(one for one in said if one)[:_NOTE]


# ---- NCMEC ------------------------------------------------------------------------------------------------


def _ncmec(source: Any, kind: BankKind) -> Iterator[Read]:
    if source.peek(HEAD).removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"<":
        found: Iterator[tuple[int, dict[str, Any]] | Bad] = _entries(source)
    else:
        found = objects(source)
    for one in found:
        if isinstance(one, Bad):
            yield one
            continue
        try:
            yield from _fingerprinted(*one, kind)
        except (Unusable, TypeError, AttributeError, ValueError) as error:
            yield Bad(one[0], str(error) if isinstance(error, Unusable) else "This is no entry of NCMEC's.")


def _fingerprinted(line: int, entry: Mapping[str, Any], kind: BankKind) -> Iterator[Read]:
    """One record for each fingerprint of an entry. What it is called is its member's id and its own."""
    word = str(entry.get("kind", "image")).lower()
    member = entry.get("member")
    owner = clean(member.get("id") if isinstance(member, dict) else member)
    reference = f"{owner}/{clean(entry.get('id'))}"
    if len(reference) == 1:
        yield Bad(line, "This entry names neither its member nor itself.")
        return
    if word.startswith("deleted") or entry.get("deleted") is True:
        yield Record(line, "", reference=reference, gone=True)
        return
    disputed = "disputed" if entry.get("disputed") else ""
    note = _joined(clean(entry.get("classification")), f"entry {reference}", disputed)
    prints = entry.get("fingerprints") or {}
    if not prints:
        yield Bad(line, "This entry has no fingerprints.")
    for name, value in prints.items():
        form = FORMS.get(name.lower()) if word == "image" and kind is BankKind.IMAGE else None
        if form is None:
            yield Foreign(line, f"{'' if word == 'image' else f'{word} '}{clean(name).lower()}"[:30])
            continue
        try:
            yield Record(line, hexadecimal(clean(value), form), form, note=note, reference=reference)
        except Unusable as error:
            yield Bad(line, str(error))


def _entries(source: BinaryIO) -> Iterator[tuple[int, dict[str, Any]] | Bad]:
    reader = _Xml()
    while chunk := source.read(_CHUNK):
        reader.feed(chunk)
        yield from reader.taken()
    reader.feed(b"", last=True)
    yield from reader.taken()


class _Xml:
    """The entries of a <queryResult>, of which one at a time is held."""

    def __init__(self) -> None:
        self._path: list[str] = []
        self._text = ""
        self._entry: dict[str, Any] | None = None
        self._line = 0
        self._done: list[tuple[int, dict[str, Any]] | Bad] = []
        self._parser = expat.ParserCreate(namespace_separator="}")
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._said

    def feed(self, data: bytes, *, last: bool = False) -> None:
        """Read on.

        Raises:
            InvalidInput: it is no XML, has a document type, or is nested deeper than these lists are.
        """
        try:
            self._parser.Parse(data, last)
        except expat.ExpatError as error:
            raise InvalidInput(
                f"This is no XML from line {error.lineno:,} on, so nothing of it was taken; fetch or save it again."
            ) from error
        except (ValueError, LookupError) as error:
            raise InvalidInput(
                "This XML names an encoding that it can't be read in; save it as UTF-8."
            ) from error

    def taken(self) -> Iterator[tuple[int, dict[str, Any]] | Bad]:
        """The entries that are complete by now."""
        done, self._done = self._done, []
        yield from done

    def _doctype(self, *_: object) -> None:
        raise InvalidInput(
            "This XML has a document type, which lists of hashes have none of; it was not read."
        )

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition("}")[2]
        self._path.append(name)
        self._text = ""
        if len(self._path) > DEEPEST:
            raise InvalidInput("This XML is nested deeper than lists of hashes are; it was not read.")
        if len(self._path) == 1 and name != "queryResult":
            raise InvalidInput(f"This XML is no <queryResult> of NCMEC's, but <{name[:40]}>.")
        if len(self._path) == 3 and self._path[1] in ("images", "videos"):
            self._entry, self._line = {"kind": name, "fingerprints": {}}, self._parser.CurrentLineNumber
        elif self._entry is not None and len(self._path) == 4 and name == "member":
            self._entry["member"] = attributes.get("id", "")
        elif self._entry is not None and name == "negativeFeedback":
            self._entry["disputed"] = True

    def _said(self, text: str) -> None:
        if len(self._text) < LONGEST:
            self._text += text

    def _end(self, _: str) -> None:
        name, entry = self._path.pop(), self._entry
        depth = len(self._path)
        if entry is None:
            return
        if depth == 3 and name in ("id", "classification"):
            entry[name] = self._text.strip()
        elif depth == 4 and self._path[-1] == "fingerprints":
            entry["fingerprints"][name] = self._text.strip()
        elif depth == 2:
            self._done.append((self._line, entry))
            self._entry = None
        self._text = ""


# ---- StopNCII ---------------------------------------------------------------------------------------------


def _stopncii(source: Any, kind: BankKind) -> Iterator[Read]:
    for one in rows(source) if by_row(source) else objects(source):
        if isinstance(one, Bad):
            yield one
            continue
        try:
            yield _case(one[0], {key.lower(): value for key, value in one[1].items()}, kind)
        except (Unusable, TypeError, AttributeError, ValueError) as error:
            yield Bad(
                one[0], str(error) if isinstance(error, Unusable) else "This is no record of StopNCII's."
            )


def _case(line: int, one: Mapping[str, Any], kind: BankKind) -> Read:
    """A hash with the state of all its cases; a later record of the same hash replaces it."""
    status = clean(one.get("hashstatus"))
    cases = one.get("casenumbers") or {}
    names = list(cases) if isinstance(cases, dict | list) else clean(cases).split()
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    blocked = [
        feedback.get("feedbackValue")
        for feedback in one.get("cspfeedbacks") or ()
        if isinstance(feedback, dict)
    ]
    disputed = "NotBlocked" in blocked
    return _typed(
        line, clean(one.get("signaltype")), clean(one.get("hashvalue")), kind,
        note=_joined(f"case {clean(names[0])}{more}" if names else "", status, "disputed" if disputed else ""),
        reference="", gone=status.lower() in ("withdrawn", "deleted"),
    )  # fmt: skip
