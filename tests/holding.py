"""Holds against deletion, in two ways: a model with random interleavings, and threads on real connections."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import select, update

from moderation.domain.content import Context, Lane, Submission, TextPart
from moderation.domain.erasing import Cause
from moderation.domain.errors import Conflict, Gone, NotFound
from moderation.domain.policy import Policy
from moderation.governance import erasure, evidence, holds
from moderation.governance.holds import Wanted
from moderation.governance.sessions import PersonPrincipal
from moderation.pipeline import intake
from moderation.pipeline.intake import Accepted
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Author, HeldItem, Hold, Item
from moderation.storage.vault import Vault

CLIENT = "app"
MANY = 10_000
BOTH = 5  # times that each side has to win, or nothing raced
WHY: dict[str, Any] = {"authority": "District court", "basis": "Order to preserve"}


@dataclass(frozen=True, slots=True)
class Place:
    """The real things a machine or a race runs on; one person asks, the other approves."""

    databases: Databases
    vault: Vault
    blobs: FolderBlobs
    policy: Policy
    ann: PersonPrincipal
    bob: PersonPrincipal
    now: datetime

    def submit(self, author: str, now: datetime, count: int = 1) -> list[UUID]:
        """Posts of an author; those that are refused for being of somebody erased are left out."""
        requests = []
        for _ in range(count):
            name = f"post-{uuid4()}"
            post = Submission(
                name, author, "comment", (TextPart("body", f"Text of {name}."),), Context(), lane=Lane.LIVE
            )
            requests.append(intake.Request(post, name))
        with transaction(self.databases.content) as session:
            made = intake.accept(session, self.vault, self.blobs, self.policy, CLIENT, requests, now)
        return [one.id for one in made if isinstance(one, Accepted)]

    def row(self, item: UUID) -> Item | None:
        with transaction(self.databases.content) as session:
            return session.get(Item, item)

    def author_of(self, item: UUID) -> UUID:
        row = self.row(item)
        assert row is not None
        return row.author_id

    def readable(self, item: UUID) -> bool:
        """Whether the content can be read, by its key and its row."""
        row = self.row(item)
        if row is None:
            return False
        keys = evidence.keys_of(self.vault, item, row.author_id)
        with transaction(self.databases.content) as session:
            found = evidence.pieces(session, self.blobs, keys, item)
        return bool(found) and all(one.text.startswith("Text of post-") for one in found)

    def gone(self, item: UUID) -> bool:
        """Whether nothing is left of the content: neither the key nor a part."""
        row = self.row(item)
        return (row is None or row.destroyed_at is not None) and not self.vault.item_keys([item])

    def expire(self, items: list[UUID], now: datetime) -> None:
        with transaction(self.databases.content) as session:
            session.execute(update(Item).where(Item.id.in_(items)).values(expires_at=now))

    def delete(self, item: UUID, now: datetime) -> bool:
        """What `DELETE /v1/items/{id}` does; False if it was hidden already."""
        with transaction(self.databases.content) as session:
            row = session.get(Item, item, with_for_update=True)
            if row is None or row.state == "deleted":
                return False
            erasure.mark_deleted(session, [row], self.policy.retention, f"client:{CLIENT}", now)
        erasure.destroy(self.databases, self.vault, self.blobs, [item], now)
        return True

    def erase(self, author: UUID, now: datetime) -> None:
        with transaction(self.databases.content) as session:
            erasure.request(
                session, self.vault, client=CLIENT, author_id=author, cause=Cause.REQUEST,
                requested_by="operator", now=now,
            )  # fmt: skip

    def carry_out(self, now: datetime) -> None:
        erasure.run(self.databases, self.vault, self.blobs, now, 60.0)

    def sweep(self, now: datetime, limit: int = MANY) -> None:
        erasure.sweep(self.databases, self.vault, self.blobs, now, limit)
        erasure.sweep_authors(self.databases, self.vault, now, limit)

    def ask(
        self, now: datetime, *, item_id: UUID | None = None, author_id: UUID | None = None
    ) -> holds.Requested:
        wanted = Wanted(**WHY, item_id=item_id, author_id=author_id)
        with transaction(self.databases.content) as session:
            return holds.request(session, self.vault, self.ann, wanted, now)

    def answer(self, how: str, hold: UUID, now: datetime) -> None:
        with transaction(self.databases.content) as session:
            getattr(holds, how)(session, self.bob, hold, now)


@dataclass(slots=True)
class Expected:
    """What the model thinks of an item."""

    author: UUID
    due: bool = False
    ended: bool = False
    holds: set[UUID] = field(default_factory=set)


@dataclass(slots=True)
class ExpectedHold:
    """And of a hold."""

    author: UUID | None  # of a hold on everything of theirs
    state: str = "requested"


class HoldMachine(RuleBasedStateMachine):
    """Rules are what may happen to content and to holds; the database must say what the model says."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place, self.now = place, place.now
        self.items: dict[UUID, Expected] = {}
        self.holds: dict[UUID, ExpectedHold] = {}
        self.names: dict[str, str] = {}
        self.erased: set[UUID] = set()

    # --- what happens to content ---

    @rule(name=st.sampled_from("ab"), count=st.integers(1, 2))
    def submit(self, name: str, count: int) -> None:
        account = self.names.setdefault(name, f"acct-{uuid4()}")
        self.tick()
        made = self.place.submit(account, self.now, count)
        assert len(made) == count, "a new account is never refused"
        for item in made:
            author = self.place.author_of(item)
            mine = {hold for hold, one in self.open_holds().items() if one.author == author}
            self.items[item] = Expected(author, holds=mine)

    @precondition(lambda self: self.live())
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.live()))
        self.place.expire([item], self.now)
        self.items[item].due = True

    @precondition(lambda self: self.live())
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.live()))
        if self.place.delete(item, self.now):
            self.items[item].due = True
            self.end([item])
        row = self.place.row(item)
        assert row is None or row.state == "deleted", "hidden, held or not"

    @precondition(lambda self: self.live())
    @rule(data=st.data(), at_once=st.booleans())
    def erase(self, data: st.DataObject, at_once: bool) -> None:
        author = self.items[data.draw(st.sampled_from(self.live()))].author
        self.place.erase(author, self.now)
        self.erased.add(author)
        # Whoever is erased and comes back is somebody new.
        for item, one in self.items.items():
            if one.author == author:
                one.due = True
                row = self.place.row(item)
                assert one.ended or (row is not None and row.state == "deleted"), "hidden at once"
        self.names.clear()
        if at_once:
            self.sweep()

    @rule()
    def sweep(self) -> None:
        self.tick()
        self.place.sweep(self.now)
        self.place.carry_out(self.now)
        self.end(self.live())

    # --- what happens to holds ---

    @precondition(lambda self: self.items)
    @rule(data=st.data())
    def ask_for_item(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(sorted(self.items)))
        expected = self.items[item]
        try:
            made = self.place.ask(self.now, item_id=item)
        except (Conflict, NotFound):
            assert expected.ended, "only what has ended can't be held"
            return
        assert not expected.ended
        assert made.held == 1
        expected.holds.add(made.id)
        self.holds[made.id] = ExpectedHold(None)

    @precondition(lambda self: self.items)
    @rule(data=st.data())
    def ask_for_author(self, data: st.DataObject) -> None:
        author = self.items[data.draw(st.sampled_from(sorted(self.items)))].author
        theirs = {item: one for item, one in self.items.items() if one.author == author}
        live = [one for one in theirs.values() if not one.ended]
        try:
            made = self.place.ask(self.now, author_id=author)
        except NotFound:
            assert not live, "an author of whom something is left can be held"
            return
        assert made.held == len(live)
        assert {one.item_id for one in made.missed} <= {item for item, one in theirs.items() if one.ended}
        self.holds[made.id] = ExpectedHold(author)
        for one in live:
            one.holds.add(made.id)

    @precondition(lambda self: self.open_holds())
    @rule(data=st.data(), how=st.sampled_from(["approve", "refuse", "release"]))
    def answer(self, data: st.DataObject, how: str) -> None:
        hold = data.draw(st.sampled_from(sorted(self.open_holds())))
        expected = self.holds[hold]
        if how != "release" and expected.state != "requested":
            try:
                self.place.answer(how, hold, self.now)
            except Conflict:
                return
            raise AssertionError("answered twice")
        self.place.answer(how, hold, self.now)
        expected.state = {"approve": "active", "refuse": "refused", "release": "released"}[how]
        if how != "approve":
            for one in self.items.values():
                one.holds.discard(hold)

    @precondition(lambda self: len(self.holds) > len(self.open_holds()))
    @rule(data=st.data())
    def release_again(self, data: st.DataObject) -> None:
        ended = data.draw(st.sampled_from(sorted(set(self.holds) - set(self.open_holds()))))
        try:
            self.place.answer("release", ended, self.now)
        except Conflict:
            return
        raise AssertionError("released twice")

    # --- what must hold ---

    @invariant()
    def agrees(self) -> None:
        for item, one in self.items.items():
            row = self.place.row(item)
            if one.ended:
                assert self.place.gone(item), "released and due, it is gone"
                continue
            assert row is not None
            assert row.holds == len(one.holds), "each hold counts once"
            assert row.doomed_at is None
            assert self.place.readable(item), "what is held, or not yet swept, is whole"
        states = {}
        with transaction(self.place.databases.content) as session:
            for hold in session.scalars(select(Hold).where(Hold.id.in_(self.holds))):
                states[hold.id] = hold.state
            for author in {one.author for one in self.items.values()}:
                found = session.get(Author, author)
                open_ = sum(one.author == author for one in self.open_holds().values())
                assert (found.holds if found else 0) == open_, "an author under a hold is never forgotten"
        assert states == {hold: one.state for hold, one in self.holds.items()}

    def teardown(self) -> None:
        """From wherever we are: once nothing is held, everything that is due ends with the next sweep."""
        for identifier in self.open_holds():
            self.place.answer("release", identifier, self.now)
        for one in self.items.values():
            one.holds.clear()
            one.due = True
        for hold in self.open_holds().values():
            hold.state = "released"
        self.place.expire(list(self.items), self.now)
        self.sweep()
        self.agrees()
        assert all(self.place.gone(item) for item in self.items)

    # --- the model ---

    def live(self) -> list[UUID]:
        return sorted(item for item, one in self.items.items() if not one.ended)

    def open_holds(self) -> dict[UUID, ExpectedHold]:
        return {hold: one for hold, one in self.holds.items() if one.state in ("requested", "active")}

    def end(self, items: list[UUID]) -> None:
        for item in items:
            one = self.items[item]
            one.ended = one.ended or (one.due and not one.holds)

    def tick(self) -> None:
        self.now += timedelta(seconds=1)


@dataclass(slots=True)
class Outcome:
    """What became of a race: how often somebody tried what, and every fault."""

    attempts: dict[str, int] = field(default_factory=dict)
    won: int = 0  # holds that came before the deletion
    lost: int = 0  # and those that came too late, and said so
    faults: list[str] = field(default_factory=list)


class Race:
    """Holds requested and released by some threads while others sweep, delete and erase the same items.

    Whoever was told that an item is held looks at it again and again until they release it.
    """

    def __init__(self, place: Place, *, items: int, seed: int) -> None:
        self.place, self.seed = place, seed
        self.outcome = Outcome()
        self._lock = threading.Lock()
        self._count = items
        self._stop = threading.Event()
        self._begun = threading.Barrier(6)
        self._held: list[tuple[UUID, list[UUID]]] = []
        self.items: list[UUID] = []

    def run(self, attempts: int) -> Outcome:
        """Race until so many holds were asked for, and both sides have won some.

        At the end of every round everything is released, and has to be gone.
        """
        place, now = self.place, self.place.now
        rounds = 0
        while self._goes_on(attempts) and rounds < attempts:
            rounds += 1
            authors = [f"acct-{uuid4()}" for _ in range(4)]
            self.items = [item for author in authors for item in place.submit(author, now, self._count // 4)]
            place.expire(self.items, now)
            self._one_round(rounds)
        return self.outcome

    def _goes_on(self, attempts: int) -> bool:
        made = self.outcome
        return not made.faults and (made.won + made.lost < attempts or min(made.won, made.lost) < BOTH)

    def _one_round(self, number: int) -> None:
        self._stop.clear()
        self._held.clear()
        work: list[Callable[[random.Random], None]] = [
            self._hold_items, self._hold_items, self._hold_author, self._sweeping, self._sweeping, self._ending,
        ]  # fmt: skip
        threads = [
            threading.Thread(target=self._guarded, args=(one, random.Random(f"{self.seed}-{number}-{index}")))
            for index, one in enumerate(work)
        ]
        for thread in threads:
            thread.start()
        for thread in threads[:3]:
            thread.join(120)
        self._stop.set()
        for thread in threads[3:]:
            thread.join(120)
        assert not any(thread.is_alive() for thread in threads), "a thread hangs"
        self._settle()

    def _settle(self) -> None:
        """Nothing races any more: what is held is whole, and once let go of it is gone."""
        place, now = self.place, self.place.now
        for _ in range(2):
            place.sweep(now)
            place.carry_out(now)
        for hold, items in self._held:
            self._check(hold, items)
        kept = {item for _, items in self._held for item in items}
        self.outcome.faults += [f"{one} is not held, due, and still here" for one in self.items
                                if one not in kept and not place.gone(one)]  # fmt: skip
        for hold, _ in self._held:
            place.answer("release", hold, now)
        # What a crash would leave behind is only looked for after a while.
        for moment in (now, now + timedelta(minutes=2)):
            place.sweep(moment)
            place.carry_out(moment)
        self.outcome.faults += [f"{one} was released and is still here" for one in self.items
                                if not place.gone(one)]  # fmt: skip

    def _guarded(self, work: Callable[[random.Random], None], chance: random.Random) -> None:
        try:
            self._begun.wait(60)
            work(chance)
        except Exception as error:
            with self._lock:
                self.outcome.faults.append(f"{work.__name__}: {error!r}")

    def _hold_items(self, chance: random.Random) -> None:
        for item in chance.sample(self.items, len(self.items)):
            self._try("item", [item], item_id=item)
            self._let_go(chance)

    def _hold_author(self, chance: random.Random) -> None:
        for item in chance.sample(self.items, min(12, len(self.items))):
            row = self.place.row(item)
            if row is not None:
                self._try("author", None, author_id=row.author_id)
            self._let_go(chance)
            time.sleep(chance.random() / 100)

    def _try(self, what: str, items: list[UUID] | None, **on: UUID) -> None:
        try:
            made = self.place.ask(self.place.now, **on)
        except (Conflict, NotFound, Gone):
            with self._lock:
                self.outcome.lost += 1
            return
        finally:
            with self._lock:
                self.outcome.attempts[what] = self.outcome.attempts.get(what, 0) + 1
        held = items if items is not None else self._kept_by(made.id)
        if items is None and len(held) != made.held:
            self.outcome.faults.append(f"hold {made.id} says {made.held} and lists {len(held)}")
        self._check(made.id, held)
        with self._lock:
            self.outcome.won += 1
            self._held.append((made.id, held))

    def _kept_by(self, hold: UUID) -> list[UUID]:
        with transaction(self.place.databases.content) as session:
            return list(session.scalars(select(HeldItem.item_id).where(HeldItem.hold_id == hold)))

    def _check(self, hold: UUID, items: list[UUID]) -> None:
        broken = [item for item in items if not self.place.readable(item)]
        if broken:
            with self._lock:
                self.outcome.faults.append(f"hold {hold} was given and lost {broken}")

    def _let_go(self, chance: random.Random) -> None:
        """Now and then somebody looks at what they hold, and releases it."""
        with self._lock:
            if not self._held or chance.random() > 0.4:
                return
            hold, items = self._held.pop(chance.randrange(len(self._held)))
        self._check(hold, items)
        self.place.answer("release", hold, self.place.now)

    def _sweeping(self, chance: random.Random) -> None:
        while not self._stop.is_set():
            self.place.sweep(self.place.now, limit=chance.randint(1, 4))
            time.sleep(chance.random() / 200)

    def _ending(self, chance: random.Random) -> None:
        """The content service deletes, and an author is erased, whatever is held meanwhile."""
        place = self.place
        for index, item in enumerate(chance.sample(self.items, len(self.items))):
            if self._stop.is_set():
                return
            place.delete(item, place.now)
            row = place.row(item)
            if index == 1 and row is not None:
                try:
                    place.erase(row.author_id, place.now)
                except NotFound:
                    continue
            place.carry_out(place.now)
            time.sleep(chance.random() / 50)
