"""Whether the audit log is still what was signed: every event hashed again, in order, whatever it is read from.

A log is read as a stream of events, with the checkpoints at their places, so that its length does not matter. The
first thing that does not fit ends the reading.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from moderation.domain import merkle
from moderation.governance import audit, checkpoints, ledger
from moderation.governance.checkpoint_files import Pin
from moderation.governance.checkpoints import NoteInvalid, VerifierKey
from moderation.governance.ledger import HEIGHT, TILE
from moderation.storage.tables import AuditCheckpoint, AuditEvent, AuditTile

BATCH = 4096
DATABASE, EXPORT = "the database", "the file"  # checkpoints that lie beside the log itself
INSIDE = (DATABASE, EXPORT)
Progress = Callable[[int], None]


class Fault(Exception):
    """The log is not what it was; the message names the first thing that does not fit."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as it is read; `leaf_index` None while it has no number."""

    index: int | None
    header: Mapping[str, str]
    details: Mapping[str, Any]
    salt: bytes | None
    commitment: bytes | None

    @property
    def said(self) -> str:
        return f"{self.header['id']} ({self.header['action']})"


@dataclass(frozen=True, slots=True)
class Verified:
    """A log that is what was signed."""

    key: VerifierKey
    events: int
    signed: int  # events that a checkpoint covers
    checkpoints: int
    exported: int  # checkpoints in files that fit
    waiting: int  # events without a number
    bare: int  # events whose details have gone, as they may


@dataclass(slots=True)
class Check:
    """A log being read: events in, faults out. `tile` gives the stored tile, where the log is read from has any."""

    pins: Iterator[Pin]
    tile: Callable[[int, int], bytes | None] | None = None
    tree: merkle.CompactRange = field(default_factory=merkle.CompactRange)
    rows: list[list[bytes]] = field(default_factory=list)  # of every level, the hashes since its last tile
    said: list[str] = field(default_factory=list)  # the events of the tile that fills now
    tiles: list[int] = field(default_factory=list)  # complete, by level
    bare: int = 0
    fitting: int = 0  # the size of the last checkpoint that fitted
    inside: int = 0
    exported: int = 0
    _next: Pin | None = None

    def __post_init__(self) -> None:
        self._advance()

    def event(self, entry: Entry) -> None:
        """The next event.

        Raises:
            Fault: it is not the next, or not what was recorded.
        """
        if entry.index != self.tree.size:
            raise Fault(f"Event {self.tree.size} is missing: the log goes on with {entry.index}.")
        if entry.commitment is None:
            raise Fault(f"Event {entry.index}, {entry.said}, has lost the commitment to its details.")
        if entry.salt is None and not entry.details:
            self.bare += 1
        elif entry.salt is None or audit.commitment(entry.salt, entry.details) != entry.commitment:
            raise Fault(f"Event {entry.index}, {entry.said}: its details are not those that were recorded.")
        completed = self.tree.append(ledger.leaf(entry.header, entry.commitment))
        self.said.append(entry.said)
        for level, up in enumerate(range(0, len(completed), HEIGHT)):
            self._grow(level, completed[up])
        while self._next is not None and self._next.size <= self.tree.size:
            self._fits(self._next)
            self._advance()

    def end(self) -> None:
        """No event comes any more.

        Raises:
            Fault: a checkpoint speaks of more events.
        """
        if self._next is not None:
            raise Fault(
                f"The log holds {self.tree.size} events, and {self._next.source} has a checkpoint of "
                f"{self._next.size}: the last ones were removed, or the log was set back to an older state."
            )

    def here(self, size: int, root: bytes, source: str) -> None:
        """A checkpoint that was written at this place of the log.

        Raises:
            Fault: the log up to here is not what was signed.
        """
        if size != self.tree.size:
            raise Fault(
                f"A checkpoint of {size} events stands after {self.tree.size} of them: events were removed or "
                "added, or the checkpoint was moved."
            )
        self._fits(Pin(size, root, source))

    def _grow(self, level: int, value: bytes) -> None:
        if level == len(self.rows):
            self.rows.append([])
            self.tiles.append(0)
        row = self.rows[level]
        row.append(value)
        if len(row) < TILE:
            return
        if self.tile is not None:
            self._compare(level, self.tiles[level], row)
        self.tiles[level] += 1
        row.clear()
        if level == 0:
            self.said.clear()

    def _compare(self, level: int, index: int, row: Sequence[bytes]) -> None:
        assert self.tile is not None
        stored = self.tile(level, index)
        if stored is None:
            raise Fault(f"Tile {index} of level {level} is missing from the tree.")
        if stored == b"".join(row):
            return
        differing = [
            at
            for at, (ours, theirs) in enumerate(zip(row, ledger.cut(stored), strict=False))
            if ours != theirs
        ]
        if level == 0 and differing:
            at = differing[0]
            raise Fault(
                f"Event {index * TILE + at}, {self.said[at]}, does not fit its place in the tree: it was altered, "
                "or another stands there."
            )
        raise Fault(f"Tile {index} of level {level} was altered: it does not fit the events below it.")

    def _fits(self, pin: Pin) -> None:
        if self.tree.root() != pin.root:
            begin = self.fitting
            raise Fault(
                f"The first {pin.size} events are not those that were signed (checkpoint in {pin.source}): "
                f"one from {begin} to {pin.size - 1} was altered, exchanged or removed."
            )
        self.fitting = pin.size
        if pin.source in INSIDE:
            self.inside += 1
        else:
            self.exported += 1

    def _advance(self) -> None:
        self._next = next(self.pins, None)


def verify_database(
    session: Session, key: VerifierKey, files: Iterable[Pin] = (), progress: Progress = lambda _: None
) -> Verified:
    """Check the log of a database, as it is at this moment; `files` are checkpoints kept elsewhere.

    Raises:
        Fault: the first thing that does not fit.
    """
    session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    elsewhere = sorted(set(files))
    size = ledger.size(session)
    newest = session.scalar(select(func.max(AuditCheckpoint.size))) or 0
    for known, source in (
        (newest, DATABASE),
        (elsewhere[-1].size, elsewhere[-1].source) if elsewhere else (0, ""),
    ):
        if known > size:
            raise Fault(
                f"The log holds {size} numbered events, and {source} has a checkpoint of {known}: the last ones "
                "were removed, or the database was set back to an older state."
            )
    check = Check(
        heapq.merge(_signed(session, key), elsewhere), lambda level, index: _tile(session, level, index)
    )
    for entry in _numbered(session):
        check.event(entry)
        progress(1)
    check.end()
    _no_more_tiles(session, check.tiles)
    if session.scalar(select(func.count()).where(AuditEvent.leaf_index < 0)):
        raise Fault("There are events with a number below 0, which the log never gives.")
    waiting = session.scalar(select(func.count()).where(AuditEvent.leaf_index.is_(None))) or 0
    return Verified(
        key,
        check.tree.size,
        check.fitting,
        check.inside,
        check.exported,
        waiting,
        check.bare,
    )


def entry(row: Any) -> Entry:
    """An event of the database."""
    return Entry(row.leaf_index, ledger.header(row), row.details, row.salt, row.commitment)


def _numbered(session: Session) -> Iterator[Entry]:
    columns = (
        *ledger.HEADER,
        AuditEvent.details,
        AuditEvent.salt,
        AuditEvent.commitment,
        AuditEvent.leaf_index,
    )
    last = -1
    while True:
        rows = session.execute(
            select(*columns).where(AuditEvent.leaf_index > last).order_by(AuditEvent.leaf_index).limit(BATCH)
        ).all()
        yield from map(entry, rows)
        if len(rows) < BATCH:
            return
        last = rows[-1].leaf_index


def _signed(session: Session, key: VerifierKey) -> Iterator[Pin]:
    """The checkpoints of the database, each of them as it was signed."""
    last = -1
    while True:
        rows = session.execute(
            select(AuditCheckpoint.size, AuditCheckpoint.root, AuditCheckpoint.note, AuditCheckpoint.at)
            .where(AuditCheckpoint.size > last)
            .order_by(AuditCheckpoint.size)
            .limit(BATCH)
        ).all()
        for row in rows:
            try:
                read = checkpoints.read(key, row.note)
            except NoteInvalid as error:
                raise Fault(f"The checkpoint of {row.size} events can't be trusted. {error}") from error
            if (read.size, read.root, read.at) != (row.size, row.root, row.at):
                raise Fault(f"The checkpoint of {row.size} events is not the one that was signed.")
            yield Pin(row.size, row.root, DATABASE)
        if len(rows) < BATCH:
            return
        last = rows[-1].size


def _tile(session: Session, level: int, index: int) -> bytes | None:
    return session.scalar(select(AuditTile.hashes).where(AuditTile.level == level, AuditTile.index == index))


def _no_more_tiles(session: Session, complete: Sequence[int]) -> None:
    stored = session.execute(select(AuditTile.level, func.count()).group_by(AuditTile.level)).all()
    for level, count in stored:
        expected = complete[level] if level < len(complete) else 0
        if count > expected:
            raise Fault(f"The tree holds {count} tiles of level {level}, and {expected} belong there.")
