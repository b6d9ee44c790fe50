"""The queue as a state machine over real PostgreSQL: whatever happens in whatever order, the invariants hold.

Time is injected and the broker is a list, so that a lease runs out, a wake-up is lost or a worker dies exactly
where Hypothesis wants it. I1 to I8 are the invariants of the queue's design, named where they are checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

import hypothesis.strategies as st
import pytest
from hypothesis import Phase
from hypothesis import settings as hypothesis
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis import ConnectionError as BrokerDown
from sqlalchemy import func, select, text, update

from moderation import jobs, relay
from moderation.domain.content import Context, Lane, Submission, TextPart
from moderation.domain.errors import Conflict, Gone
from moderation.features.decode import Decoder
from moderation.governance import erasure, outbox, webhooks
from moderation.governance.policies import PolicyCache
from moderation.jobs import Broker
from moderation.pipeline import intake, run
from moderation.pipeline.intake import Accepted
from moderation.pipeline.run import Screened, Tools
from moderation.settings import Settings, Work
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, Case, Decision, Item, Outbox, Part
from moderation.storage.vault import Vault, VaultError
from tests.conftest import NOW

CLIENT = "machine"
LEASE = 30.0
WORK = Work(batch_items=3, lease_seconds=LEASE, retry_seconds=1.0, max_attempts=3, queue_depth=4)
TABLES = ("cases", "outbox", "decisions", "signals", "parts", "items", "idempotency_keys", "tombstones")
Message = tuple[UUID, tuple[UUID, ...]]


@dataclass(slots=True)
class Wire:
    """A broker that is a list: it can be emptied, be down, or go down between question and send."""

    messages: list[Message] = field(default_factory=list)
    sent: list[Message] = field(default_factory=list)
    trouble: str = ""

    def depth(self, queue: str) -> int:
        if self.trouble == "down":
            raise BrokerDown
        return len(self.messages) if queue == jobs.SCREENING else WORK.queue_depth

    def send(self, queue: str, job: str, token: UUID, ids: Sequence[UUID]) -> None:
        if self.trouble:
            raise BrokerDown
        self.messages.append((token, tuple(ids)))
        self.sent.append((token, tuple(ids)))


@dataclass(slots=True)
class Expected:
    """What the model thinks of one item: its end, and meanwhile who holds it for how long."""

    poison: bool
    body: tuple[Lane, str]
    end: str = ""
    begun: int = 0
    token: UUID | None = None
    until: datetime = NOW
    decisions: int = 0

    def lease(self, token: UUID | None, until: datetime = NOW) -> None:
        self.token, self.until = token, until

    def finish(self, end: str) -> None:
        self.end, self.token = end, None
        self.decisions += 1

    def fail(self) -> None:
        """What becomes of it when its holder failed or was heard of no more."""
        self.token = None
        if self.begun >= WORK.max_attempts:
            self.finish("dead")


@dataclass(frozen=True, slots=True)
class Parts:
    """The real things a machine runs on."""

    settings: Settings
    databases: Databases
    vault: Vault
    blobs: FolderBlobs
    tools: Tools


class QueueMachine(RuleBasedStateMachine):
    """Rules are what may happen; after every one, `agrees` compares the database with the model."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.parts = parts
        self.now = NOW
        self.wire = Wire()
        self.items: dict[UUID, Expected] = {}
        self.names: dict[str, UUID] = {}
        self.held: list[tuple[UUID, Screened]] = []
        self.relay = relay.Relay(parts.settings, parts.databases, cast(Broker, self.wire))
        self.screen = jobs.screen_handler(parts.settings, parts.tools, lambda: self.now)
        with parts.databases.content.begin() as connection:
            for table in TABLES:
                connection.execute(text(f"DELETE FROM {table}"))

    # --- what clients do ---

    @rule(
        numbers=st.lists(st.integers(0, 9), min_size=1, max_size=3),
        lane=st.sampled_from(Lane),
        poison=st.integers(0, 3).map(lambda n: n == 0),
        said=st.sampled_from(["A mild sentence.", "A mild sentence.", "Another sentence."]),
    )
    def submit(self, numbers: list[int], lane: Lane, poison: bool, said: str = "A mild sentence.") -> None:
        for number in numbers:
            name, body = f"post-{number}", (lane, said)
            known = self.names.get(name)
            answer = self.accept(name, lane, said)
            if known is None:
                assert isinstance(answer, Accepted)
                assert answer.fresh
                self.names[name] = answer.id
                self.items[answer.id] = Expected(poison, body)
                if poison:
                    self.damage(answer.id)
            elif self.items[known].end == "erased":
                assert isinstance(answer, Gone)
            elif self.items[known].body == body:
                assert answer == Accepted(known, fresh=False)
            else:
                assert isinstance(answer, Conflict)

    @precondition(lambda self: self.names)
    @rule(data=st.data())
    def erase(self, data: st.DataObject) -> None:
        self.erase_named(data.draw(st.sampled_from(sorted(self.names))))

    def erase_named(self, name: str) -> None:
        identifier, parts = self.names[name], self.parts
        with transaction(parts.databases.content) as session:
            item = session.get_one(Item, identifier, with_for_update=True)
            policy = self.relay.policies.current(session)
            if item.state == "deleted":
                return
            erasure.mark_deleted(session, [item], policy.retention, "client:machine", self.now)
        erasure.destroy(parts.databases, parts.vault, parts.blobs, [identifier], self.now)
        self.items[identifier].end, self.items[identifier].token = "erased", None

    # --- what the relay and the broker do ---

    @rule()
    def tick(self) -> None:
        self.expire()
        relay.tick(self.relay, self.now)
        self.observe_claims()

    @rule(trouble=st.sampled_from(["emptied", "down", "goes down"]))
    def trouble_broker(self, trouble: str) -> None:
        if trouble == "emptied":
            self.wire.messages.clear()
            return
        self.expire()
        self.wire.trouble = trouble
        with suppress(BrokerDown):
            relay.tick(self.relay, self.now)
        self.wire.trouble = ""

    @rule(seconds=st.sampled_from([0.1, 2.0, LEASE / 2, LEASE + 1, LEASE + 1]))
    def let_time_pass(self, seconds: float) -> None:
        """The relay notices at once that leases ran out, or later with the next tick."""
        self.now += timedelta(seconds=seconds)
        if seconds > LEASE:
            self.tick()

    # --- what workers do ---

    @precondition(lambda self: self.wire.messages)
    @rule()
    def work(self) -> None:
        token, ids = self.wire.messages.pop(0)
        mine = self.begin_expected(token, ids)
        self.screen(str(token), [str(identifier) for identifier in ids])
        bad = any(self.items[identifier].poison for identifier in mine)
        for identifier in mine:
            self.items[identifier].fail() if bad else self.items[identifier].finish("done")

    @precondition(lambda self: self.wire.messages)
    @rule()
    def begin(self) -> None:
        """A worker takes a batch in hand; `finish` or `crash` may come whenever they like."""
        token, ids = self.wire.messages.pop(0)
        mine = self.begin_expected(token, ids)
        try:
            screened = run.examine(self.parts.tools, token, ids, self.now, timedelta(seconds=LEASE))
        except VaultError:
            assert any(self.items[identifier].poison for identifier in mine)
            return
        self.held.append((token, screened))

    @precondition(lambda self: self.held)
    @rule(again=st.booleans())
    def finish(self, again: bool) -> None:
        """Commit what was begun, perhaps long ago; `again`: the worker dies before it can tell the broker."""
        token, screened = self.held.pop(0)
        ids = [item.id for item in screened.batch.items]
        mine = {identifier for identifier in ids if self.items[identifier].token == token}
        with transaction(self.parts.databases.content) as session:
            recorded = run.commit(session, token, screened)
            jobs.notify(session, recorded, self.now)
        assert {one.item for one in recorded} == mine, "I3: a stale token changes nothing"
        for identifier in mine:
            self.items[identifier].finish("done")
        if again:
            self.wire.messages.append((token, tuple(ids)))

    @precondition(lambda self: self.held)
    @rule()
    def crash(self) -> None:
        self.held.pop()

    # --- what must hold ---

    @invariant()
    def agrees(self) -> None:
        with transaction(self.parts.databases.content) as session:
            rows = {row.id: row for row in session.scalars(select(Item))}
            made = dict(
                session.execute(
                    select(Decision.item_id, func.count())
                    .where(Decision.superseded_at.is_(None))
                    .group_by(Decision.item_id)
                ).all()
            )
            told = dict(session.execute(select(Outbox.item_id, func.count()).group_by(Outbox.item_id)).all())
            parts = set(session.scalars(select(Part.item_id)))
        assert rows.keys() == self.items.keys(), "I1: nothing appears, nothing disappears"
        for identifier, expected in self.items.items():
            row = rows[identifier]
            held = "leased" if expected.token else "received"
            end = {"": held, "erased": "deleted"}.get(expected.end, expected.end)
            assert row.state == end, "I1, I4: one state, and dead only after the last attempt"
            assert row.attempts == expected.begun
            assert row.lease_token == expected.token
            assert made.get(identifier, 0) == expected.decisions <= 1, (
                "I2, I5: one decision, none after erasure"
            )
            assert told.get(identifier, 0) == expected.decisions, "a webhook for every decision, and one only"
            assert (identifier in parts) == (expected.end != "erased"), "I5: erased is gone"

    def teardown(self) -> None:
        """I1 and I7: from wherever we are, with an empty broker, everything comes to its one end."""
        self.wire.messages.clear()
        self.held.clear()
        rounds = 0
        while any(not expected.end for expected in self.items.values()):
            rounds += 1
            assert rounds < 40, "I7: it does not drain"
            self.let_time_pass(LEASE + 1)
            while self.wire.messages:
                self.work()
        self.agrees()
        assert all(e.end in ("dead", "erased") for e in self.items.values() if e.poison), "I4"

    # --- the model ---

    def expire(self) -> None:
        for expected in self.items.values():
            if expected.token and expected.until < self.now:
                expected.fail()

    def observe_claims(self) -> None:
        for token, ids in self.wire.sent:
            assert len(ids) == 1 or not any(self.items[i].begun for i in ids), "what failed goes alone"
            for identifier in ids:
                assert not self.items[identifier].end, "I5: nothing is processed after its end"
                assert self.items[identifier].token is None, "leased twice"
                self.items[identifier].lease(token, self.now + timedelta(seconds=LEASE))
        self.wire.sent.clear()

    def begin_expected(self, token: UUID, ids: Sequence[UUID]) -> list[UUID]:
        mine = [identifier for identifier in ids if self.items[identifier].token == token]
        for identifier in mine:
            expected = self.items[identifier]
            expected.begun += 1
            expected.until = max(expected.until, self.now + timedelta(seconds=LEASE) * 2 / 3)
        return mine

    def accept(self, name: str, lane: Lane, said: str) -> Any:
        post = Submission(name, "acct-1", "comment", (TextPart("body", said),), Context(), lane=lane)
        parts = self.parts
        with transaction(parts.databases.content) as session:
            policy = self.relay.policies.current(session)
            request = intake.Request(post, f"external:{name}")
            return intake.accept(session, parts.vault, parts.blobs, policy, CLIENT, [request], self.now)[0]

    def damage(self, identifier: UUID) -> None:
        with transaction(self.parts.databases.content) as session:
            session.execute(update(Part).where(Part.item_id == identifier).values(content=b"\0" * 40))


@pytest.fixture
def parts(settings: Settings, databases: Databases, vault: Vault) -> Iterator[Parts]:
    blobs = FolderBlobs(settings.blob_dir)
    with transaction(databases.content) as session:
        webhooks.register(session, vault, CLIENT, "here", "http://127.0.0.1:9999/", outbox.EVENTS, True, NOW)
    with Decoder() as decoder:
        tools = Tools(databases, vault, blobs, PolicyCache(), decoder, text=(), image=(), dice=lambda: 1.0)
        yield Parts(replace(settings, work=WORK), databases, vault, blobs, tools)


def test_the_queue_holds_whatever_happens(parts: Parts) -> None:
    run_state_machine_as_test(
        lambda: QueueMachine(parts),
        settings=hypothesis(max_examples=20, stateful_step_count=30, phases=[Phase.generate]),
    )


def test_a_worker_that_comes_too_late_commits_nothing(parts: Parts) -> None:
    """I3, the sequence spelt out: the lease runs out while a batch is in hand, and another takes it over."""
    machine = QueueMachine(parts)
    machine.submit([0, 1], Lane.LIVE, poison=False)
    machine.tick()
    machine.begin()
    machine.let_time_pass(LEASE + 1)
    machine.let_time_pass(2.0)
    machine.tick()
    machine.agrees()
    assert all(expected.token for expected in machine.items.values()), "another worker was sent for them"
    machine.finish(again=False)
    machine.agrees()
    machine.work()
    machine.agrees()
    machine.teardown()


def test_a_wake_up_that_comes_too_late_begins_nothing(parts: Parts) -> None:
    machine = QueueMachine(parts)
    machine.submit([0], Lane.LIVE, poison=False)
    machine.tick()
    machine.let_time_pass(LEASE + 1)
    assert len(machine.wire.messages) == 2
    machine.work()
    machine.agrees()
    machine.work()
    machine.agrees()
    assert [expected.end for expected in machine.items.values()] == ["done"]
    assert [expected.begun for expected in machine.items.values()] == [1], "a lost wake-up is no attempt"


def test_what_is_erased_under_a_worker_stays_erased(parts: Parts) -> None:
    """I5: erased while a batch is in hand."""
    machine = QueueMachine(parts)
    machine.submit([0, 1], Lane.LIVE, poison=False)
    machine.tick()
    machine.begin()
    machine.erase_named("post-0")
    machine.finish(again=True)
    machine.agrees()
    machine.work()
    machine.agrees()
    assert sorted(expected.end for expected in machine.items.values()) == ["done", "erased"]


def test_no_lane_starves(parts: Parts) -> None:
    """I8: while both lanes have work, bulk gets its quarter and live the rest; alone, each gets everything."""
    machine = QueueMachine(parts)
    for number in range(48):
        machine.accept(f"live-{number}", Lane.LIVE, "A mild sentence.")
        machine.accept(f"bulk-{number}", Lane.BULK, "A mild sentence.")
    order = []
    while relay.tick(machine.relay, NOW):
        for _, ids in machine.wire.sent:
            with transaction(parts.databases.content) as session:
                order.append(session.scalars(select(Item.lane).where(Item.id.in_(ids)).distinct()).one())
        machine.wire.sent.clear()
        machine.wire.messages.clear()
    assert order.count("live") == order.count("bulk") == 16
    busy = order[: 4 * 4]
    assert busy.count("bulk") == 4, order
    assert all("bulk" in busy[start : start + 4] for start in range(len(busy) - 3)), order
    assert set(order[-10:]) == {"bulk"}


def test_what_died_is_in_front_of_people_and_on_the_record(parts: Parts) -> None:
    machine = QueueMachine(parts)
    machine.submit([0], Lane.LIVE, poison=True)
    machine.submit([1], Lane.LIVE, poison=False)
    machine.teardown()
    with transaction(parts.databases.content) as session:
        dead = session.scalars(select(Item).where(Item.state == "dead")).one()
        case = session.scalars(select(Case).where(Case.item_id == dead.id)).one()
        other = session.scalars(select(Case).where(Case.item_id != dead.id)).one()
        log = session.scalars(select(AuditEvent.action).where(AuditEvent.subject_id == str(dead.id))).all()
    assert (case.item_id, case.reason, dead.attempts) == (dead.id, "dead_letter", WORK.max_attempts)
    assert sorted(log) == ["item.decided", "item.received"]
    # No model is installed here, and what no model has looked at is not allowed by that.
    assert other.reason == "detector_failed"
