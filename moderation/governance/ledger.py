"""The tree over the audit log: who numbers its events, signs its size and root, and proves what is in it.

Writers append without waiting for each other. One sequencer numbers what is committed, in the order of ids among
what it sees; a commit that comes late gets a later number, and none is passed over. 256 neighbouring hashes make
a tile, stored once it is complete: the rest of the tree is computed from tiles and the newest events.

A leaf is an event's header and the commitment to its details, so that details can go and the tree stays valid.

Source: RFC 9162, section 2.1; C2SP tlog-tiles for the shape of tiles.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, select, text
from sqlalchemy.orm import Session

from moderation.domain import merkle
from moderation.domain.errors import Conflict, InvalidInput, NotFound
from moderation.governance import audit, checkpoints, signing
from moderation.governance.checkpoints import Checkpoint, VerifierKey
from moderation.storage.database import insert_many
from moderation.storage.tables import AuditCheckpoint, AuditEvent, AuditTile, Decision
from moderation.storage.vault import Vault

TILE = 256
HEIGHT = 8  # a tile's 256 hashes are 8 levels of the tree
PROOF = "moderation-audit-proof/1"
CONSISTENCY = "moderation-audit-consistency/1"
_LOCK = 0x61756469  # "audi"
HEADER = (AuditEvent.id, AuditEvent.at, AuditEvent.actor, AuditEvent.action, AuditEvent.subject,
          AuditEvent.subject_id)  # fmt: skip


class LedgerBroken(Exception):
    """The stored tree does not fit what was signed: nothing more is signed until somebody has looked."""


@dataclass(frozen=True, slots=True)
class Head:
    """How far the log has come: events numbered, waiting to be, and covered by a signature."""

    size: int
    waiting: int
    signed: int
    signed_at: datetime | None
    oldest_uncovered: datetime | None  # when the first event happened that no checkpoint covers


def header(event: Any) -> dict[str, str]:
    """What a leaf holds of an event, but for its commitment: a document of words."""
    return {
        "id": str(event.id),
        "at": event.at.astimezone(UTC).strftime(checkpoints.TIME),
        "actor": event.actor,
        "action": event.action,
        "subject": event.subject,
        "subject_id": event.subject_id,
    }


def leaf(head: Mapping[str, str], commitment: bytes) -> bytes:
    """The leaf hash of an event: of its header and commitment, as canonical JSON."""
    return merkle.leaf_hash(signing.canonical({**head, "commitment": commitment.hex()}))


def key(vault: Vault) -> VerifierKey:
    """The public key that checks this log."""
    return checkpoints.key_of(signing.private_key(vault))


def size(session: Session) -> int:
    """How many events are numbered."""
    newest = session.scalar(select(func.max(AuditEvent.leaf_index)))
    return 0 if newest is None else newest + 1


def head(session: Session) -> Head:
    """How far the log has come."""
    last = _last(session)
    signed = last.size if last else 0
    waiting, oldest = session.execute(
        select(func.count(), func.min(AuditEvent.at)).where(AuditEvent.leaf_index.is_(None))
    ).one()
    uncovered = session.scalar(select(AuditEvent.at).where(AuditEvent.leaf_index == signed))
    moments = [moment for moment in (oldest, uncovered) if moment is not None]
    return Head(size(session), waiting, signed, last.at if last else None, min(moments, default=None))


def sequence(session: Session, limit: int) -> int:
    """Number up to `limit` committed events that have none; how many it were.

    0 too while another sequencer is at work: it has seen what this one would.
    """
    if not session.scalar(select(func.pg_try_advisory_xact_lock(_LOCK))):
        return 0
    waiting = session.execute(
        select(*HEADER, AuditEvent.details, AuditEvent.salt, AuditEvent.commitment)
        .where(AuditEvent.leaf_index.is_(None))
        .order_by(AuditEvent.id)
        .limit(limit)
    ).all()
    if not waiting:
        return 0
    begin = size(session)
    numbered = [_committed(event) for event in waiting]
    session.execute(
        _NUMBER,
        {
            "ids": [event.id for event in waiting],
            "indexes": list(range(begin, begin + len(waiting))),
            "salts": [salt for salt, _ in numbered],
            "commitments": [commitment for _, commitment in numbered],
        },
    )
    leaves = [
        leaf(header(event), commitment) for event, (_, commitment) in zip(waiting, numbered, strict=True)
    ]
    _store_tiles(session, begin, leaves)
    return len(waiting)


# One statement: every row says for itself what it gets.
_NUMBER = text(
    "UPDATE audit_events SET leaf_index = given.leaf_index, salt = given.salt, commitment = given.commitment "
    "FROM unnest(CAST(:ids AS uuid[]), CAST(:indexes AS bigint[]), CAST(:salts AS bytea[]), "
    "CAST(:commitments AS bytea[])) AS given (id, leaf_index, salt, commitment) "
    "WHERE audit_events.id = given.id"
)


def _committed(event: Row[Any]) -> tuple[bytes, bytes]:
    """Salt and commitment of an event; fresh ones where it was written before there were any."""
    if event.commitment is not None:
        return event.salt, event.commitment
    salt = audit.new_salt()
    return salt, audit.commitment(salt, event.details)


def _store_tiles(session: Session, begin: int, leaves: Sequence[bytes]) -> None:
    """Store every tile that `leaves`, numbered from `begin` on, complete."""
    first = begin - begin % TILE
    row = [*_leaves(session, first, begin), *leaves] if first < begin else list(leaves)
    level, index = 0, first // TILE
    while len(row) >= TILE:
        complete = [row[at : at + TILE] for at in range(0, len(row) - TILE + 1, TILE)]
        insert_many(
            session,
            AuditTile,
            [
                {"level": level, "index": index + at, "hashes": b"".join(hashes)}
                for at, hashes in enumerate(complete)
            ],
        )
        # One level up: their roots, and those of the tiles before them that share a tile up there.
        up = index - index % TILE
        roots = [merkle.perfect_root(hashes) for hashes in complete]
        known = [] if index - up + len(roots) < TILE else _tiles(session, level, up, index)
        row = [*(merkle.perfect_root(hashes) for hashes in known), *roots]
        level, index = level + 1, up // TILE


def _leaves(session: Session, begin: int, end: int) -> list[bytes]:
    """Leaf hashes of numbered events, computed from the events."""
    rows = session.execute(
        select(*HEADER, AuditEvent.commitment)
        .where(AuditEvent.leaf_index >= begin, AuditEvent.leaf_index < end)
        .order_by(AuditEvent.leaf_index)
    ).all()
    if len(rows) != end - begin or any(row.commitment is None for row in rows):
        raise LedgerBroken(f"Of the events {begin} to {end - 1} some are gone; run: moderation audit verify")
    return [leaf(header(row), row.commitment) for row in rows]


def _tiles(session: Session, level: int, begin: int, end: int) -> list[list[bytes]]:
    """Complete tiles of one level."""
    rows = session.scalars(
        select(AuditTile.hashes)
        .where(AuditTile.level == level, AuditTile.index >= begin, AuditTile.index < end)
        .order_by(AuditTile.index)
    ).all()
    if len(rows) != end - begin:
        raise LedgerBroken(f"Tiles of level {level} are missing; run: moderation audit verify")
    return [cut(hashes) for hashes in rows]


def cut(tile: bytes) -> list[bytes]:
    """The hashes of a stored tile."""
    return [tile[at : at + merkle.HASH_BYTES] for at in range(0, len(tile), merkle.HASH_BYTES)]


class Tree:
    """The nodes of the tree as it was at `size`, from tiles and from the events after the last complete one."""

    def __init__(self, session: Session, size: int) -> None:
        self._session = session
        self._size = size
        self._known: dict[tuple[int, int], list[bytes]] = {}

    def __call__(self, level: int, index: int) -> bytes:
        """The root of a complete subtree, as `merkle` asks for it."""
        row, within = divmod(level, HEIGHT)
        begin = index << within
        tile, offset = divmod(begin, TILE)
        return merkle.perfect_root(self._tile(row, tile)[offset : offset + (1 << within)])

    def root(self) -> bytes:
        """The root."""
        return merkle.root_of(self._size, self)

    def _tile(self, row: int, index: int) -> list[bytes]:
        if (row, index) not in self._known:
            self._known[row, index] = self._read(row, index)
        return self._known[row, index]

    def _read(self, row: int, index: int) -> list[bytes]:
        begin, here = index * TILE, self._size >> HEIGHT * row
        if here >= begin + TILE:
            return _tiles(self._session, row, index, index + 1)[0]
        if row == 0:
            return _leaves(self._session, begin, here)
        return [merkle.perfect_root(hashes) for hashes in _tiles(self._session, row - 1, begin, here)]


def checkpoint(session: Session, vault: Vault, now: datetime) -> Checkpoint | None:
    """Sign the tree as it is, if it grew since the last time; None if it did not.

    Raises:
        LedgerBroken: the tree no longer contains what was signed last.
    """
    session.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    last, here = _last(session), size(session)
    if last is not None and (here < last.size or Tree(session, last.size).root() != last.root):
        raise LedgerBroken(
            f"The log no longer fits its checkpoint of {last.size} events; run: moderation audit verify"
        )
    if here == (last.size if last else 0):
        return None
    made = checkpoints.sign(signing.private_key(vault), here, Tree(session, here).root(), now)
    insert_many(
        session, AuditCheckpoint, [{"size": here, "root": made.root, "note": made.note, "at": made.at}]
    )
    return made


def last_checkpoint(session: Session) -> Checkpoint | None:
    """The newest checkpoint."""
    row = _last(session)
    return None if row is None else Checkpoint(row.size, row.root, row.at, row.note)


def _last(session: Session) -> AuditCheckpoint | None:
    return session.scalars(select(AuditCheckpoint).order_by(AuditCheckpoint.size.desc()).limit(1)).first()


@dataclass(frozen=True, slots=True)
class Proof:
    """What shows that one event is in the log, to somebody who has nothing but the public key."""

    document: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The file that is handed over."""
        return json.dumps(self.document, indent=2, ensure_ascii=False) + "\n"


def proof(session: Session, vault: Vault, event_id: UUID) -> Proof:
    """The proof that an event is in the log as it was signed last.

    Raises:
        NotFound: there is no such event.
        Conflict: no checkpoint covers it yet.
    """
    event = session.get(AuditEvent, event_id)
    if event is None:
        raise NotFound("The log has no such event; `moderation audit show` lists events with their ids.")
    last = last_checkpoint(session)
    if event.leaf_index is None or last is None or event.leaf_index >= last.size:
        raise Conflict(
            "No checkpoint covers this event yet. Wait a minute, or run: moderation audit checkpoint"
        )
    assert event.commitment is not None
    path = merkle.inclusion(event.leaf_index, last.size, Tree(session, last.size))
    return Proof(
        {
            "format": PROOF,
            "key": str(key(vault)),
            "event": header(event) | {"commitment": event.commitment.hex()},
            "details": None if event.salt is None else event.details,
            "salt": None if event.salt is None else event.salt.hex(),
            "index": event.leaf_index,
            "proof": [value.hex() for value in path],
            "checkpoint": last.note,
        }
    )


def consistency(session: Session, vault: Vault, note: str) -> Proof:
    """The proof that the log as it was signed last begins with the log of an older checkpoint.

    Raises:
        InvalidInput: `note` is no checkpoint of this log.
        Conflict: the log is not that long any more, or there is no checkpoint.
    """
    public = key(vault)
    try:
        old = checkpoints.read(public, note)
    except checkpoints.NoteInvalid as error:
        raise InvalidInput(f"That checkpoint can't be used. {error}") from error
    last = last_checkpoint(session)
    if last is None or last.size < old.size:
        raise Conflict("The log is shorter than that checkpoint says; run: moderation audit verify")
    path = merkle.consistency(old.size, last.size, Tree(session, last.size))
    return Proof(
        {
            "format": CONSISTENCY,
            "key": str(public),
            "old": old.note,
            "proof": [value.hex() for value in path],
            "checkpoint": last.note,
        }
    )


def event_of(session: Session, identifier: UUID) -> UUID:
    """The event with this id, or the one that recorded the decision with this id.

    Raises:
        NotFound: the log knows neither.
    """
    if session.get(AuditEvent, identifier) is not None:
        return identifier
    item = session.scalar(select(Decision.item_id).where(Decision.id == identifier))
    found = session.scalar(
        select(AuditEvent.id)
        .where(
            AuditEvent.subject_id == str(item),
            AuditEvent.action.in_(("item.decided", "decision.made")),
            AuditEvent.details["decision"].astext == str(identifier),
        )
        .order_by(AuditEvent.id)
        .limit(1)
    )
    if found is None:
        raise NotFound("The log has no event and no decision with this id.")
    return found
