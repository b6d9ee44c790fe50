"""The hashes of image banks as files that every process of a machine maps: built by one, picked up by the others.

A segment is never changed. `current.json` names it, and says which version of each bank it holds: whoever maps it
reads only later changes from the database. It is written last, by renaming, so that there is always a whole
segment or none. The folder is this installation's alone, and so are its files: hashes are personal data, and lie
here in the clear. What leaves a bank leaves the files with the next segment, within about a day.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from uuid import UUID

import numpy as np
import structlog
from numpy.typing import NDArray
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from moderation.domain.signals import BankKind
from moderation.features import hamming
from moderation.features.fingerprints import MAKER, Kept
from moderation.features.hamming import Segment
from moderation.storage.database import transaction
from moderation.storage.tables import Bank, BankEntry
from moderation.storage.vault import Key, Vault, VaultError

CURRENT = "current.json"
ROWS_AT_ONCE = 5_000
_LOCK = 7_203_005
_PHASH = np.dtype([("hash", "<u8"), ("owner", "u1", 16)])

log = structlog.get_logger()
U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]


def _none() -> U8:
    return np.zeros((0, 32), np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Hashes:
    """Hashes of entries, each beside the 16 bytes of its entry's id.

    `pdq` is (n, 32) with `owners` (n, 16); `phash` (m,) are of whole pictures, with `phash_owners` (m, 16).
    """

    pdq: U8 = field(default_factory=_none)
    owners: U8 = field(default_factory=lambda: _none()[:, :16])
    phash: U64 = field(default_factory=lambda: np.zeros(0, np.uint64))
    phash_owners: U8 = field(default_factory=lambda: _none()[:, :16])

    @staticmethod
    def joined(some: Sequence[Hashes]) -> Hashes:
        """All of them, in this order."""
        if not some:
            return Hashes()
        return Hashes(
            np.concatenate([one.pdq for one in some]),
            np.concatenate([one.owners for one in some]),
            np.concatenate([one.phash for one in some]),
            np.concatenate([one.phash_owners for one in some]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A segment that is mapped, the perceptual hashes beside it, and the version of each bank that it holds."""

    name: str
    versions: Mapping[UUID, int]
    segment: Segment | None
    rest: Hashes
    count: int


def gathered(session: Session, vault: Vault, since: Mapping[UUID, int]) -> Hashes:
    """The hashes of image banks' entries that changed after the version which `since` names for each bank.

    Entries without hashes are found by their digest alone. Those of another maker are left out until they are made
    anew, and so is one that does not open: it must not end the screening of everything.
    """
    key = vault.account_key()
    made: list[Hashes] = []
    for bank, version in sorted(since.items()):
        rows = session.execute(
            select(BankEntry.id, BankEntry.features)
            .where(
                BankEntry.bank_id == bank,
                BankEntry.version > version,
                BankEntry.features.is_not(None),
                BankEntry.features_by == MAKER,
            )
            .execution_options(yield_per=ROWS_AT_ONCE)
        )
        made.extend(_opened(key, some) for some in rows.partitions())
    return Hashes.joined(made)


def _opened(key: Key, rows: Sequence[Any]) -> Hashes:
    pdq: list[U8] = [_none()]
    owners: list[bytes] = []
    phash: list[int] = []
    theirs: list[bytes] = []
    for identifier, features in rows:
        try:
            kept = Kept.unpack(key.decrypt(features, "bank_entries", "features", str(identifier)))
        except (VaultError, ValueError) as error:
            log.error("bank_entry_unusable", entry=str(identifier), reason=type(error).__name__)  # noqa: TRY400
            continue
        pdq.append(kept.pdq)
        owners += [identifier.bytes] * len(kept.pdq)
        if kept.phash is not None:
            phash.append(kept.phash)
            theirs.append(identifier.bytes)
    return Hashes(np.concatenate(pdq), _ids(owners), np.array(phash, np.uint64), _ids(theirs))


def _ids(some: Sequence[bytes]) -> U8:
    return np.frombuffer(b"".join(some), np.uint8).reshape(-1, 16)


def stamp(folder: Path) -> tuple[int, int] | None:
    """What changes whenever there is another segment; None while there is none."""
    with suppress(OSError):
        found = (folder / CURRENT).stat()
        return found.st_mtime_ns, found.st_ino
    return None


def opened(folder: Path) -> Held | None:
    """The segment of the moment; None if there is none that can be read: then everything is in the database."""
    for _ in range(3):  # another may take its place between two of these lines
        try:
            said = json.loads((folder / CURRENT).read_text())
            if said["maker"] != MAKER:
                return None
            name, count = str(said["name"]), int(said["hashes"])
            with (folder / f"{name}.phash.npy").open("rb") as file:
                found = np.load(file, allow_pickle=False)
            rest = Hashes(
                phash=np.ascontiguousarray(found["hash"]), phash_owners=np.ascontiguousarray(found["owner"])
            )
            segment = Segment.open(folder / f"{name}.pdq") if count else None
            versions = {UUID(bank): int(version) for bank, version in said["versions"].items()}
        except FileNotFoundError:
            continue
        except Exception as error:  # noqa: BLE001 - whatever a broken file raises, everything is in the database
            log.warning("segment_unreadable", reason=type(error).__name__)
            return None
        return Held(name, versions, segment, rest, count)
    return None


def build(engine: Engine, vault: Vault, folder: Path) -> bool:
    """Write a segment of all that image banks hold now; False if another process is at it.

    Raises:
        OSError: the folder can't be written.
    """
    with engine.connect() as guard, guard.begin():
        # Held by this transaction, so that it ends with the process, whatever happens to that.
        if not guard.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _LOCK}):
            return False
        with transaction(engine) as session:
            # One moment for all of it: what changed between two queries would be in neither.
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            versions = versions_of(session)
            everything = gathered(session, vault, dict.fromkeys(versions, -1))
        _write(folder, versions, everything)
    log.info("segment_built", hashes=len(everything.pdq))
    return True


def versions_of(session: Session) -> dict[UUID, int]:
    """The version of each image bank, on or off."""
    found = select(Bank.id, Bank.version).where(Bank.kind == BankKind.IMAGE)
    return {row.id: row.version for row in session.execute(found)}


def _write(folder: Path, versions: Mapping[UUID, int], everything: Hashes) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    name = f"images-{secrets.token_hex(8)}"
    if len(everything.pdq):
        path = folder / f"{name}.pdq"
        hamming.build(path, everything.pdq, everything.owners)
        path.chmod(0o600)
    with _private(folder / f"{name}.phash.npy") as file:
        found = np.zeros(len(everything.phash), _PHASH)
        found["hash"], found["owner"] = everything.phash, everything.phash_owners
        np.save(file, found, allow_pickle=False)
    said = {
        "name": name,
        "maker": MAKER,
        "hashes": len(everything.pdq),
        "versions": {str(bank): version for bank, version in versions.items()},
    }
    beside = folder / f"{name}.json"
    with _private(beside) as file:
        file.write(json.dumps(said).encode())
    beside.rename(folder / CURRENT)
    for old in _written(folder):
        if not old.name.startswith(f"{name}."):
            old.unlink(missing_ok=True)  # whoever maps it keeps it until they let go


def _written(folder: Path) -> list[Path]:
    """Whatever holds hashes there, and what a writer that was killed has left."""
    return [*folder.glob("images-*"), *folder.glob(".images-*")]


def forget(folder: Path) -> None:
    """Remove every segment, as of a database that is not this one any more."""
    for path in (folder / CURRENT, *_written(folder)):
        path.unlink(missing_ok=True)


@contextmanager
def _private(path: Path) -> Iterator[IO[bytes]]:
    """A new file for its owner only, on the disk when it is closed."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
