"""The audit log inside a backup of the content, read as if it were an exported one: no database is needed."""

from __future__ import annotations

import gzip
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from moderation.governance import audit_export, checkpoints
from moderation.governance.checkpoints import VerifierKey
from moderation.storage import archive

EVENTS, CHECKPOINTS = "audit_events", "audit_checkpoints"
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v"}
Record = dict[str, str | None]


def is_one(path: Path) -> bool:
    """Whether a file looks like a backup, and not like an exported log."""
    return path.is_file() and tarfile.is_tarfile(path)


def lines(path: Path, key: VerifierKey) -> Iterator[str]:
    """The log of a backup in the form of an exported one, the first line included.

    Raises:
        InvalidInput: it is no backup, or not whole.
    """
    tables = archive.verified(path)["tables"]
    notes = [(int(row["size"] or 0), row["note"]) for row in _rows(path, CHECKPOINTS, tables)]
    yield json.dumps({"format": audit_export.FORMAT, "key": str(key)})
    numbered = waiting = 0
    for row in _rows(path, EVENTS, tables):
        while notes and notes[0][0] <= numbered:
            yield json.dumps({"checkpoint": notes.pop(0)[1]})
        yield json.dumps(_event(row))
        numbered += row["leaf_index"] is not None
        waiting += row["leaf_index"] is None
    for _, note in notes:
        yield json.dumps({"checkpoint": note})
    yield json.dumps({"events": numbered, "waiting": waiting})


def _event(row: Record) -> dict[str, Any]:
    at = datetime.fromisoformat(row["at"] or "").astimezone(UTC).strftime(checkpoints.TIME)
    names = ("id", "actor", "action", "subject", "subject_id")
    return {
        "index": None if row["leaf_index"] is None else int(row["leaf_index"]),
        "event": {name: row[name] for name in names} | {"at": at},
        "details": json.loads(row["details"] or "{}"),
        "salt": _hexadecimal(row["salt"]),
        "commitment": _hexadecimal(row["commitment"]),
    }


def _hexadecimal(value: str | None) -> str | None:
    return None if value is None else value.removeprefix("\\x")


def _rows(path: Path, table: str, tables: dict[str, Any]) -> Iterator[Record]:
    """The rows of one table, as COPY wrote them."""
    columns = tables[table]["columns"]
    for name, file in archive.members(path):
        if name == f"tables/{table}.gz":
            yield from _unpacked(file, columns)
            return


def _unpacked(file: IO[bytes], columns: Sequence[str]) -> Iterator[Record]:
    with gzip.GzipFile(fileobj=file, mode="rb") as packed:
        for line in packed:
            values = line.decode().removesuffix("\n").split("\t")
            yield dict(zip(columns, map(_value, values), strict=True))


def _value(written: str) -> str | None:
    """A value of COPY's text format."""
    if written == "\\N":
        return None
    return (
        _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), written) if "\\" in written else written
    )
