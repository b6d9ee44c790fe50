"""Pictures that banks know, looked for by their hashes: an index proposes entries, the database decides.

Each batch with pictures asks for the versions of image banks, one small query, and reads the entries that changed
since. So a change is heard by every process with its next batch, without a restart. The index may hold what is
gone, off or not verified: what an entry means, and whether it means anything, is read from its row at that moment.

Of many entries most lie in a segment (`hash_files`), a file that all processes of a machine map. The rest is held
here. When that grows, or what left a bank still lies in the file after a day, one process writes a new segment in a
thread while all go on; the others map it with their next batch.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import structlog
from sqlalchemy import ColumnElement, Engine, select
from sqlalchemy.orm import Session

from moderation.domain.signals import BankAction, BankKind, How, Match
from moderation.features.fingerprints import PHASH_REVIEW, Asked
from moderation.features.hamming import Index, search64
from moderation.governance import banks
from moderation.governance.bank_rules import MATCH_BITS, REVIEW_BITS
from moderation.pipeline import hash_files
from moderation.pipeline.hash_files import Hashes, Held
from moderation.pipeline.matchers import ranked
from moderation.storage.database import among
from moderation.storage.tables import Bank, BankEntry, BankRemoval
from moderation.storage.vault import Vault

MOST_PROPOSED = 4_000
"""Entries near one picture whose rows are read, the nearest first."""
DELTA_LEAST, DELTA_SHARE = 10_000, 0.05
"""Hashes beside the segment from which a new one is due: so many, and this share of it."""
REMOVED_SECONDS = 86_400.0
RETRY_SECONDS = 60.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Near:
    """How near a picture is to an entry: bits of 256 by PDQ, bits of 64 by pHash, None beyond our radius."""

    pdq: int | None = None
    phash: int | None = None


Proposed = Mapping[UUID, Near]


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The hashes of image banks at one moment; it never changes, so any thread may look things up in it."""

    index: Index = field(default_factory=Index)
    rest: Hashes = field(default_factory=Hashes)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to be found."""
        return not len(self.index) and not len(self.rest.phash)

    def propose(self, asked: Sequence[Asked]) -> list[Proposed]:
        """For each picture the entries that may be it. No transaction is needed, and none should be open."""
        if self.empty or not asked:
            return [{} for _ in asked]
        pdq: list[dict[bytes, int]] = [{} for _ in asked]
        whose = np.repeat(np.arange(len(asked)), [len(one.pdq) for one in asked])
        queries = np.concatenate([one.pdq for one in asked])
        for found in self.index.search(queries, REVIEW_BITS, MOST_PROPOSED) if len(queries) else ():
            mine = pdq[int(whose[found.query])]
            mine[found.owner] = min(found.distance, mine.get(found.owner, 256))
        phash: list[dict[bytes, int]] = [{} for _ in asked]
        whose = np.repeat(np.arange(len(asked)), [len(one.phashes) for one in asked])
        values = np.array([value for one in asked for value in one.phashes], np.uint64)
        for query, row, distance in search64(self.rest.phash, values, PHASH_REVIEW) if len(values) else ():
            mine, owner = phash[int(whose[query])], self.rest.phash_owners[row].tobytes()
            mine[owner] = min(distance, mine.get(owner, 64))
        return [
            {
                UUID(bytes=owner): Near(near.get(owner), alike.get(owner))
                for owner in sorted(near.keys() | alike.keys(), key=_nearness(near))[:MOST_PROPOSED]
            }
            for near, alike in zip(pdq, phash, strict=True)
        ]


def _nearness(near: Mapping[bytes, int]) -> Callable[[bytes], int]:
    return lambda owner: near.get(owner, 256)


def matches(
    session: Session,
    proposed: Sequence[Proposed],
    now: datetime,
    only: str | None = None,
    among_these: ColumnElement[bool] | None = None,
) -> list[list[Match]]:
    """What the proposals for each picture come to, the gravest and nearest first; `Match.part` is left empty.

    Of live entries of the banks that are on; with `only` of that one alone, be it on or off, and of its entries
    that meet `among_these`. Allow banks know a picture only by its digest, and so are in none.
    """
    wanted = {entry for one in proposed for entry in one}
    rows = _rows(session, wanted, now, only, among_these) if wanted else []
    return [ranked([_match(row, mine[row.id]) for row in rows if row.id in mine]) for mine in proposed]


def _rows(
    session: Session,
    wanted: set[UUID],
    now: datetime,
    only: str | None,
    among_these: ColumnElement[bool] | None,
) -> Sequence[Any]:
    query = (
        select(*banks.AS_MATCHED, Bank.distance)
        .join(Bank, Bank.id == BankEntry.bank_id)
        .where(
            among(BankEntry.id, wanted),
            Bank.kind == BankKind.IMAGE,
            ~Bank.allow,
            Bank.enabled if only is None else Bank.name == only,
            banks.live(now),
        )
        .order_by(Bank.name, BankEntry.id)
    )
    return session.execute(query if among_these is None else query.where(among_these)).all()


def _match(row: Any, near: Near) -> Match:
    """A proposal as a match: within the bank's distance what the bank asks for, beyond it people at most."""
    band = MATCH_BITS if row.distance is None else int(row.distance)
    same = near.pdq is not None and near.pdq <= band
    action = BankAction(row.action)
    if not same and action is not BankAction.LABEL:
        action = BankAction.REVIEW
    score = 1 - near.pdq / 256 if near.pdq is not None else 1 - (near.phash or 0) / 64
    how = How.PICTURE if same else How.ALIKE
    return replace(banks.as_match(row), action=action, how=how, score=score, distance=near.pdq)


class PictureBanks:
    """The hashes of image banks in a process, for its whole life. Safe for threads."""

    def __init__(self, folder: Path | None = None, engine: Engine | None = None) -> None:
        """`folder` is that of segments, if there is one; with `engine` this process writes those that are due."""
        self._folder, self._engine = folder, engine
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._held: Held | None = None
        self._versions: dict[UUID, int] = {}
        self._index, self._rest = Index(), Hashes()
        self._building: threading.Thread | None = None
        self._pause_until = 0.0

    def current(self, session: Session, vault: Vault, now: datetime) -> Snapshot:
        """The hashes as they are now. What is due to be written is, in a thread."""
        with self._lock:
            if self._folder is not None and (found := hash_files.stamp(self._folder)) != self._stamp:
                self._stamp = found
                self._adopt(hash_files.opened(self._folder))
            versions = hash_files.versions_of(session)
            if any(versions.get(bank, held) < held for bank, held in self._versions.items()):
                self._adopt(None)  # the database is older than what we know of it: it was restored
            if self._versions.keys() - versions.keys():
                # With a bank all its entries went. Those of the segment stay there until the next one.
                self._adopt(self._held)
                self._versions = {bank: held for bank, held in self._versions.items() if bank in versions}
            self._catch_up(session, vault, versions)
            if self._due(versions, now):
                self._start(vault)
            return Snapshot(self._index, self._rest)

    def _adopt(self, held: Held | None) -> None:
        """Begin anew with a segment, or with nothing; what changed since is read next."""
        self._held = held
        self._versions = dict(held.versions) if held else {}
        self._index = Index(held.segment if held else None)
        self._rest = held.rest if held else Hashes()

    def _catch_up(self, session: Session, vault: Vault, versions: Mapping[UUID, int]) -> None:
        since = {bank: self._versions.get(bank, -1) for bank in versions}
        since = {bank: known for bank, known in since.items() if known != versions[bank]}
        if not since:
            return
        fresh = hash_files.gathered(session, vault, since)
        gone = [
            entry.bytes
            for bank, known in since.items()
            for entry in session.scalars(
                select(BankRemoval.entry_id).where(BankRemoval.bank_id == bank, BankRemoval.version > known)
            )
        ]
        if len(fresh.pdq) or gone:
            self._index = self._index.with_changes(fresh.pdq, fresh.owners, gone)
        if len(fresh.phash):
            self._rest = Hashes(
                phash=np.concatenate((self._rest.phash, fresh.phash)),
                phash_owners=np.concatenate((self._rest.phash_owners, fresh.phash_owners)),
            )
        self._versions |= {bank: versions[bank] for bank in since}

    def _due(self, versions: Mapping[UUID, int], now: datetime) -> bool:
        """Whether a new segment should be written: much lies beside it, or what is gone lay in it for a day."""
        held = self._held.count if self._held else 0
        if self._index.added > max(DELTA_LEAST, DELTA_SHARE * held):
            return True
        if self._stamp is None:
            return False
        # A file that can't be used, as of another release, holds what left a bank too.
        gone = self._held is None or self._index.removed or self._held.versions.keys() - versions.keys()
        return bool(gone) and now.timestamp() - self._stamp[0] / 1e9 > REMOVED_SECONDS

    def _start(self, vault: Vault) -> None:
        busy = self._building is not None and self._building.is_alive()
        if self._engine is None or self._folder is None or busy or time.monotonic() < self._pause_until:
            return
        self._pause_until = time.monotonic() + RETRY_SECONDS
        arguments = (self._engine, vault, self._folder)
        self._building = threading.Thread(target=_build, args=arguments, daemon=True, name="hash-segment")
        self._building.start()

    def current_size(self) -> tuple[int, int]:
        """How many hashes lie in the segment, and how many beside it."""
        with self._lock:
            return self._held.count if self._held else 0, self._index.added

    def close(self, seconds: float = 5.0) -> None:
        """Give what is being written a moment; half a segment is none, and is cleared away by the next."""
        if self._building is not None:
            self._building.join(seconds)


def _build(engine: Engine, vault: Vault, folder: Path) -> None:
    try:
        hash_files.build(engine, vault, folder)
    except Exception:  # everything is found without a segment too, if not as fast
        log.exception("segment_not_built")
