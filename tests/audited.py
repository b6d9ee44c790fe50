"""An audit log to tamper with: events, numbers, checkpoints, and what verification says of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from moderation.governance import audit, ledger, verification
from moderation.governance.checkpoint_files import Pin
from moderation.governance.checkpoints import Checkpoint
from moderation.governance.verification import Verified
from moderation.storage.database import Databases, transaction
from moderation.storage.vault import Vault


@dataclass(slots=True)
class Log:
    """The log of an installation, and its own clock."""

    databases: Databases
    vault: Vault
    now: datetime
    checkpoints: list[Checkpoint] = field(default_factory=list)

    def write(self, count: int = 1, action: str = "item.decided") -> None:
        """`count` events, each in a transaction of its own."""
        for _ in range(count):
            self.now += timedelta(milliseconds=7)
            event = audit.Event(
                audit.MACHINE, action, "item", f"item-{self.now:%M%S%f}", {"score": 0.25, "n": [1, None]}
            )
            with transaction(self.databases.content) as session:
                audit.record(session, [event], self.now)

    def write_at_once(self, count: int) -> None:
        """`count` events in one transaction."""
        self.now += timedelta(milliseconds=7)
        events = [audit.Event(audit.MACHINE, "item.received", "item", f"item-{n}") for n in range(count)]
        with transaction(self.databases.content) as session:
            audit.record(session, events, self.now)

    def number(self, limit: int = 1000) -> int:
        with transaction(self.databases.content) as session:
            return ledger.sequence(session, limit)

    def sign(self) -> Checkpoint:
        """Number everything and sign it."""
        while self.number():
            pass
        with transaction(self.databases.content) as session:
            made = ledger.checkpoint(session, self.vault, self.now)
        assert made is not None
        self.checkpoints.append(made)
        return made

    def grow(self, *sizes: int) -> None:
        """So many events more, with a checkpoint after each."""
        for size in sizes:
            self.write(size)
            self.sign()

    def head(self) -> ledger.Head:
        with transaction(self.databases.content) as session:
            return ledger.head(session)

    def verify(self, pins: Iterable[Pin] = ()) -> Verified:
        with transaction(self.databases.content) as session:
            return verification.verify_database(session, ledger.key(self.vault), pins)

    def fault(self, pins: Iterable[Pin] = ()) -> str:
        """What verification finds wrong."""
        with pytest.raises(verification.Fault) as found:
            self.verify(pins)
        return str(found.value)

    def pins(self) -> list[Pin]:
        """What somebody kept of every checkpoint so far."""
        return [Pin(one.size, one.root, "kept.checkpoints") for one in self.checkpoints]


def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of four hashes, so that a small log has many levels of them."""
    for module in (ledger, verification):
        monkeypatch.setattr(module, "TILE", 4)
        monkeypatch.setattr(module, "HEIGHT", 2)
