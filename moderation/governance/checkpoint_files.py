"""Checkpoints outside the database: files to keep where whoever can change the database can't reach.

A folder holds one file a month, `2026-11.checkpoints`, of checkpoints one after the other, and `key`, the public
key. Files are only ever appended to.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation.governance import checkpoints
from moderation.governance.checkpoints import NoteInvalid, VerifierKey
from moderation.governance.ledger import LedgerBroken
from moderation.storage.tables import AuditCheckpoint

SUFFIX = ".checkpoints"
TAIL_BYTES = 8192
END = b"\n\n\n"  # of every checkpoint: its last line's, and two empty lines
AT_MOST = 10_000  # of one call: a folder that is new takes the whole history, over several


@dataclass(frozen=True, slots=True, order=True)
class Pin:
    """What a file says the log once was; `source` is the file's name."""

    size: int
    root: bytes
    source: str


def files(directory: Path) -> list[Path]:
    """The files of a folder, the oldest first."""
    return sorted(directory.glob(f"*{SUFFIX}"))


def export(session: Session, directory: Path, key: VerifierKey) -> int:
    """Append the checkpoints that the folder does not have yet; how many.

    Raises:
        LedgerBroken: the folder has a checkpoint that the database does not: it was set back, or altered.
        OSError: the folder can't be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with _alone(directory):
        if not (directory / "key").exists():
            (directory / "key").write_text(f"{key}\n", encoding="utf-8")
        newest = _newest(directory)
        if newest is not None:
            _require_known(session, newest, directory)
        rows = session.execute(
            select(AuditCheckpoint.note, AuditCheckpoint.at)
            .where(AuditCheckpoint.size > (checkpoints.size_of(newest) if newest else 0))
            .order_by(AuditCheckpoint.size)
            .limit(AT_MOST)
        ).all()
        for note, at in rows:
            _append(directory / f"{at:%Y-%m}{SUFFIX}", note)
    return len(rows)


def pins(paths: Sequence[Path], key: VerifierKey) -> Iterator[Pin]:
    """What files of checkpoints say.

    Raises:
        NoteInvalid: something in a file is no checkpoint of this key; the message names the file.
        OSError: a file can't be read.
    """
    for path in paths:
        try:
            for note in checkpoints.split(path.read_text(encoding="utf-8")):
                read = checkpoints.read(key, note)
                yield Pin(read.size, read.root, path.name)
        except (NoteInvalid, UnicodeDecodeError) as error:
            raise NoteInvalid(f"{path.name} holds a checkpoint that can't be trusted. {error}") from error


def _require_known(session: Session, newest: str, directory: Path) -> None:
    size = checkpoints.size_of(newest)
    known = session.scalar(select(AuditCheckpoint.note).where(AuditCheckpoint.size == size))
    if known != newest:
        raise LedgerBroken(
            f"{directory} has a checkpoint of {size} events that the database does not have: it was set back "
            "to an older state, or altered. Run: moderation audit verify"
        )


def _newest(directory: Path) -> str | None:
    """The last checkpoint of the last file."""
    for path in reversed(files(directory)):
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            found = list(_whole(file.read().decode("utf-8", errors="replace")))
        if found:
            return found[-1]
    return None


def _whole(text: str) -> Iterator[str]:
    """The notes of a file's end, which may begin and, after a full disk, end in the middle of one."""
    for piece in text.split(END.decode())[:-1]:
        note = piece.lstrip("\n") + "\n"
        try:
            checkpoints.size_of(note)
        except NoteInvalid:
            continue
        yield note


def _append(path: Path, note: str) -> None:
    with path.open("ab") as file:
        _drop_torn(path, file.tell())
        file.write(note.encode() + b"\n\n")
        file.flush()
        os.fsync(file.fileno())


def _drop_torn(path: Path, length: int) -> None:
    """Cut off what a full disk left of a checkpoint that was never written whole."""
    with path.open("rb") as file:
        begin = max(0, length - TAIL_BYTES)
        file.seek(begin)
        tail = file.read()
    if tail and not tail.endswith(END):
        os.truncate(path, begin + tail.rfind(END) + len(END) if END in tail else begin)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One relay of this machine at a time."""
    descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
