"""A hold against a deletion, on the two columns of one row: whoever comes first wins, and never both.

`benchmarks/hold_race.py` does it ten thousand times through the services; this is the engine alone.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select, update

from moderation.domain.policy import Policy
from moderation.governance import erasure
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Item, Part
from moderation.storage.vault import Vault
from tests.caseload import Caseload
from tests.support import MILD


def hold(databases: Databases, item: UUID, by: int = 1) -> bool:
    """Begin (or end) a hold on an item by its counter; False if it came too late."""
    with transaction(databases.content) as session:
        statement = update(Item).where(Item.id == item, Item.doomed_at.is_(None), Item.destroyed_at.is_(None))
        if by < 0:
            statement = update(Item).where(Item.id == item)
        held = session.scalar(statement.values(holds=Item.holds + by).returning(Item.id))
    return held is not None


def readable(load: Caseload, item: UUID) -> bool:
    """Whether everything of it is there and opens; something between is a failure of its own."""
    with transaction(load.engine) as session:
        row = session.get_one(Item, item)
        part = session.scalar(select(Part).where(Part.item_id == item))
    key = load.vault.item_keys([item]).get(item)
    there = {row.destroyed_at is None, part is not None, key is not None}
    assert len(there) == 1, (row.destroyed_at, part, key)
    if key is None or part is None:
        return False
    place = ("parts", "content", str(item), "0")
    return key.decrypt(part.content or b"", *place).decode() == MILD


class Holding(RuleBasedStateMachine):
    """Items that expire, are deleted, held and released in any order, with sweeps in between."""

    load: Caseload

    def __init__(self) -> None:
        super().__init__()
        self.items: list[UUID] = []
        self.holds: dict[UUID, int] = {}
        self.due: set[UUID] = set()
        self.gone: set[UUID] = set()

    @rule()
    def post(self) -> None:
        (item,) = self.load.items()
        self.items.append(item)
        self.holds[item] = 0

    @precondition(lambda self: self.items)
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.items))
        with transaction(self.load.engine) as session:
            session.execute(update(Item).where(Item.id == item).values(expires_at=self.load.now))
        self.due.add(item)

    @precondition(lambda self: self.items)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.items))
        with transaction(self.load.engine) as session:
            row = session.get_one(Item, item, with_for_update=True)
            if row.state != "deleted":
                erasure.mark_deleted(session, [row], self.load.policy.retention, "client:app", self.load.now)
        load = self.load
        erasure.destroy(load.databases, load.vault, load.blobs, [item], load.now)
        self.due.add(item)
        if not self.holds[item]:
            self.gone.add(item)

    @precondition(lambda self: self.items)
    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.items))
        assert hold(self.load.databases, item) == (item not in self.gone)
        if item not in self.gone:
            self.holds[item] += 1

    @precondition(lambda self: any(self.holds.values()))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from([one for one, count in self.holds.items() if count]))
        hold(self.load.databases, item, by=-1)
        self.holds[item] -= 1

    @rule()
    def sweep(self) -> None:
        load = self.load
        erasure.sweep(load.databases, load.vault, load.blobs, load.now)
        self.gone |= {item for item in self.due if not self.holds[item]}

    @invariant()
    def what_is_held_is_there_and_what_is_gone_is_gone(self) -> None:
        for item in self.items:
            assert readable(self.load, item) == (item not in self.gone)


def test_whatever_the_order_a_hold_keeps_and_a_release_lets_go(load: Caseload) -> None:
    class Machine(Holding):
        pass

    Machine.load = load
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=10,
            stateful_step_count=15,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def at_once(*acts: Iterator[None]) -> None:
    """Run these to their ends, each in a thread of its own, begun together."""
    errors: list[BaseException] = []
    begin = threading.Barrier(len(acts))

    def guarded(act: Iterator[None]) -> None:
        try:
            begin.wait()
            for _ in act:
                pass
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]


def race(load: Caseload, items: list[UUID], dice: random.Random) -> tuple[int, int]:
    """Holds against sweeps and deletions of the same items at once; how many were held, how many ended."""
    held: list[UUID] = []

    def holding() -> Iterator[None]:
        for item in dice.sample(items, len(items)):
            if hold(load.databases, item):
                held.append(item)
            yield

    def sweeping() -> Iterator[None]:
        while erasure.sweep(load.databases, load.vault, load.blobs, load.now, limit=3):
            yield

    def deleting() -> Iterator[None]:
        for item in dice.sample(items, len(items)):
            erasure.destroy(load.databases, load.vault, load.blobs, [item], load.now)
            yield

    at_once(holding(), sweeping(), deleting())
    assert {item for item in items if readable(load, item)} == set(held), "kept if and only if it was held"
    return len(held), len(items) - len(held)


def due(load: Caseload, number: int) -> list[UUID]:
    items = load.items(number)
    with transaction(load.engine) as session:
        session.execute(update(Item).where(Item.id.in_(items)).values(expires_at=load.now))
    return items


@pytest.fixture
def loaded(databases: Databases, vault: Vault, blobs: FolderBlobs, policy: Policy) -> Caseload:
    return Caseload(databases, vault, blobs, policy, datetime.now(UTC))


@pytest.mark.parametrize("seed", range(3))
def test_in_threads_a_held_item_is_never_lost_and_a_released_one_goes(loaded: Caseload, seed: int) -> None:
    items = due(loaded, 20)
    kept, ended = race(loaded, items, random.Random(seed))
    assert kept + ended == 20
    for item in items:
        with transaction(loaded.engine) as session:
            holds = session.scalar(select(Item.holds).where(Item.id == item))
        if holds:
            hold(loaded.databases, item, by=-1)
    loaded.now += timedelta(seconds=1)
    assert erasure.sweep(loaded.databases, loaded.vault, loaded.blobs, loaded.now) == kept
    assert not [item for item in items if readable(loaded, item)]
