"""The whole log as one file, and that file checked: what an auditor takes away, needing no database of ours.

JSON lines: what it is and the public key; every event with its number, in order, each checkpoint after the last
event it covers; the events that have no number yet; how many it were. Ids and words, never content.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from moderation.governance import checkpoints, ledger, signing
from moderation.governance.checkpoint_files import Pin
from moderation.governance.checkpoints import NoteInvalid, VerifierKey
from moderation.governance.verification import BATCH, EXPORT, Check, Entry, Fault, Progress, Verified
from moderation.storage.tables import AuditCheckpoint, AuditEvent

FORMAT = "moderation-audit-log/1"
_HEADER = {column.key for column in ledger.HEADER}
_COLUMNS = (*ledger.HEADER, AuditEvent.details, AuditEvent.salt, AuditEvent.commitment, AuditEvent.leaf_index)


def write(session: Session, key: VerifierKey, file: TextIO, now: datetime, progress: Progress) -> int:
    """Write the log as it is at this moment; how many events."""
    session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))

    def line(document: Mapping[str, Any]) -> None:
        file.write(signing.canonical(document).decode() + "\n")

    line({"format": FORMAT, "key": str(key), "written": now.astimezone(UTC).strftime(checkpoints.TIME)})
    notes = _notes(session)
    size, note = next(notes, (0, ""))
    numbered = 0
    for row in _rows(session):
        line(_document(row))
        progress(1)
        numbered += 1
        while note and size <= numbered:
            line({"checkpoint": note})
            size, note = next(notes, (0, ""))
    while note:
        line({"checkpoint": note})  # of more events than there are: whoever checks the file shall see it
        size, note = next(notes, (0, ""))
    waiting = session.execute(
        select(*_COLUMNS).where(AuditEvent.leaf_index.is_(None)).order_by(AuditEvent.id)
    ).all()
    for row in waiting:
        line(_document(row))
    line({"events": numbered, "waiting": len(waiting)})
    return numbered + len(waiting)


def _document(row: Any) -> dict[str, Any]:
    return {
        "index": row.leaf_index,
        "event": ledger.header(row),
        "details": row.details,
        "salt": None if row.salt is None else row.salt.hex(),
        "commitment": None if row.commitment is None else row.commitment.hex(),
    }


def _rows(session: Session) -> Iterator[Any]:
    last = -1
    while True:
        rows = session.execute(
            select(*_COLUMNS).where(AuditEvent.leaf_index > last).order_by(AuditEvent.leaf_index).limit(BATCH)
        ).all()
        yield from rows
        if len(rows) < BATCH:
            return
        last = rows[-1].leaf_index


def _notes(session: Session) -> Iterator[tuple[int, str]]:
    last = -1
    while True:
        rows = session.execute(
            select(AuditCheckpoint.size, AuditCheckpoint.note)
            .where(AuditCheckpoint.size > last)
            .order_by(AuditCheckpoint.size)
            .limit(BATCH)
        ).all()
        yield from ((row.size, row.note) for row in rows)
        if len(rows) < BATCH:
            return
        last = rows[-1].size


def key_in(lines: Iterator[str]) -> VerifierKey:
    """The public key in a file's first line.

    Raises:
        Fault: it is no exported log.
    """
    try:
        first = json.loads(next(lines, ""))
        if first["format"] != FORMAT:
            raise ValueError(first["format"])
        return checkpoints.read_key(first["key"])
    except (ValueError, KeyError, TypeError, NoteInvalid) as error:
        raise Fault("This is no exported audit log; `moderation audit export FILE` writes one.") from error


def verify(lines: Iterator[str], key: VerifierKey, files: Iterable[Pin], progress: Progress) -> Verified:
    """Check an exported log, whose first line was read; `files` are checkpoints kept elsewhere.

    Raises:
        Fault: the first thing that does not fit.
    """
    check = Check(iter(sorted(set(files))))
    waiting = 0
    last: Mapping[str, Any] = {}
    for number, document in enumerate(map(_read, lines), 2):
        if document is None or "events" in last:
            raise Fault(f"Line {number} of the file can't be read: it was altered.")
        last = document
        if "checkpoint" in document:
            _inside(check, key, document["checkpoint"])
        elif "event" in document:
            entry = _entry(document, number)
            if entry.index is not None:
                if waiting:
                    raise Fault(f"Line {number} of the file is not where it belongs: it was moved.")
                check.event(entry)
            waiting += entry.index is None
            progress(1)
    check.end()
    if last.get("events") != check.tree.size or last.get("waiting") != waiting:
        raise Fault("The file ends before its end: lines are missing.")
    return Verified(key, check.tree.size, check.fitting, check.inside, check.exported, waiting, check.bare)


def _inside(check: Check, key: VerifierKey, note: Any) -> None:
    """A checkpoint of the file, checked at its place."""
    try:
        read = checkpoints.read(key, str(note))
    except NoteInvalid as error:
        raise Fault(f"The checkpoint after event {check.tree.size - 1} can't be trusted. {error}") from error
    check.here(read.size, read.root, EXPORT)


def _read(line: str) -> dict[str, Any] | None:
    try:
        document = json.loads(line)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _entry(document: Mapping[str, Any], number: int) -> Entry:
    try:
        salt, commitment = document["salt"], document["commitment"]
        header = {str(name): str(value) for name, value in document["event"].items()}
        if header.keys() != _HEADER:
            raise ValueError("a header has other fields")
        return Entry(
            None if document["index"] is None else int(document["index"]),
            header,
            dict(document["details"]),
            None if salt is None else bytes.fromhex(salt),
            None if commitment is None else bytes.fromhex(commitment),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Fault(f"Line {number} of the file can't be read as an event: it was altered.") from error
