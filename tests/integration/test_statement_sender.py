"""Statements sent to a stand-in for the EU's database that enforces the rules it publishes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, update

from moderation import statement_sender, upkeep
from moderation.domain.cases import Verdict
from moderation.domain.decisions import Judgement, Outcome
from moderation.domain.policy import Policy
from moderation.domain.routing import Route, Routing
from moderation.governance.policies import PolicyCache
from moderation.review import decisions
from moderation.settings import Settings, SettingsError, from_environment
from moderation.statement_sender import Target
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, Decision, Item, StatementDelivery
from moderation.storage.vault import Vault
from tests import people, statements_database, stating
from tests.caseload import Caseload
from tests.statements_database import Database

PATIENCE = 30.0


@dataclass
class Sender:
    """Decisions on one side, the database on the other, and a clock that the test moves."""

    load: Caseload
    database: Database
    policies: PolicyCache
    now: datetime

    @property
    def target(self) -> Target:
        return Target(self.database.url, statements_database.TOKEN)

    def decided(self, count: int, route: Route = Route.REMOVE) -> list[UUID]:
        """So many decisions of a machine, by their ids."""
        items = self.load.items(count)
        with transaction(self.load.engine) as session:
            rows = session.scalars(select(Item).where(Item.id.in_(items)).order_by(Item.id)).all()
            outcome = Outcome(Routing(route, "spam", 0.99, ("Chosen by a test.",), ()), (), (), None)
            made = decisions.record(
                session, self.load.policy, [(row, outcome) for row in rows], self.load.now
            )
        return [one.decision_id for one in made]

    def run(self, later: float = 0, target: Target | None = None) -> int:
        self.now += timedelta(seconds=later)
        return statement_sender.run(
            self.load.engine, self.policies, target or self.target, lambda: self.now, PATIENCE
        )

    def rows(self) -> Sequence[StatementDelivery]:
        with transaction(self.load.engine) as session:
            return session.scalars(select(StatementDelivery).order_by(StatementDelivery.decision_id)).all()

    def states(self) -> set[str]:
        return {row.state for row in self.rows()}


@pytest.fixture
def sender(
    databases: Databases, vault: Vault, blobs: FolderBlobs, policy: Policy, now: datetime
) -> Iterator[Sender]:
    load = Caseload(databases, vault, blobs, policy, now)
    with statements_database.listening() as database:
        yield Sender(load, database, PolicyCache(), now + timedelta(minutes=1))


def test_what_restricts_is_sent_once_a_hundred_at_a_time(sender: Sender) -> None:
    made = sender.decided(230)
    sender.decided(5, Route.ALLOW)
    sender.decided(5, Route.REVIEW)
    assert sender.run() == 230
    assert sender.database.sizes == [100, 100, 30]
    assert set(sender.database.taken) == {str(one) for one in made}
    assert sender.states() == {"sent"}
    assert {row.last_status for row in sender.rows()} == {201}
    assert {row.puid for row in sender.rows()} == {str(row.decision_id) for row in sender.rows()}
    assert sender.run(later=3600) == 0
    assert len(sender.database.sizes) == 3
    with transaction(sender.load.engine) as session:
        events = session.scalars(select(AuditEvent).where(AuditEvent.action == "statement.sent")).all()
    assert {event.subject_id for event in events} == {str(one) for one in made}


def test_everything_that_random_days_bring_is_taken(
    databases: Databases, vault: Vault, blobs: FolderBlobs, now: datetime
) -> None:
    world = stating.world(databases, vault, blobs, now, 11, 40)
    end = stating.at_end(world)
    with statements_database.listening() as database:
        target = Target(database.url, statements_database.TOKEN)
        sent = statement_sender.run(databases.content, PolicyCache(), target, lambda: end, PATIENCE)
    assert sent == len(database.taken) > 10
    assert set(database.statuses) == {201}


def test_a_known_identifier_counts_as_sent_and_holds_nobody_up(sender: Sender) -> None:
    made = sender.decided(5)
    known = [str(one) for one in made[:2]]
    sender.database.taken |= {puid: {} for puid in known}
    assert sender.run() == 5
    assert sender.database.statuses == [422, 201]
    assert {row.puid: row.last_status for row in sender.rows() if row.last_status == 422}.keys() == set(known)
    assert sender.states() == {"sent"}


def test_a_known_identifier_that_is_not_named_is_found_too(sender: Sender) -> None:
    made = sender.decided(5)
    sender.database.taken |= {str(one): {} for one in made[1:3]}
    sender.database.unnamed = True
    assert sender.run() == 5
    assert sender.states() == {"sent"}
    assert sum(row.last_status == 422 for row in sender.rows()) == 2


def test_a_sender_that_dies_after_the_post_sends_again_and_nothing_is_there_twice(sender: Sender) -> None:
    made = sender.decided(3)
    sender.database.hang_up = True
    assert sender.run() == 0
    assert len(sender.database.taken) == 3
    assert sender.states() == {"pending"}
    assert all(row.last_error for row in sender.rows())
    sender.database.hang_up = False
    assert sender.run() == 0  # not yet
    assert sender.run(later=3600) == 3
    assert set(sender.database.taken) == {str(one) for one in made}
    assert sender.states() == {"sent"}


def test_a_refused_record_is_marked_and_the_others_go(sender: Sender) -> None:
    made = sender.decided(6)
    sender.database.dislike = str(made[3])
    assert sender.run() == 5
    [refused] = [row for row in sender.rows() if row.state == "refused"]
    assert refused.decision_id == made[3]
    assert refused.last_error == "refused: decision_facts"  # names of ours only, never an answer's words
    assert refused.last_status == 422
    assert str(made[3]) not in sender.database.taken
    with transaction(sender.load.engine) as session:
        assert statement_sender.counts(session) == {"pending": 0, "refused": 1}
        assert [row.puid for row in statement_sender.refused(session)] == [str(made[3])]
    assert sender.run(later=3600) == 0
    sender.database.dislike = ""
    with transaction(sender.load.engine) as session:
        assert statement_sender.retry(session, sender.now) == 1
    assert sender.run() == 1


def test_where_no_reason_is_given_halves_find_the_one(sender: Sender) -> None:
    made = sender.decided(7)
    sender.database.dislike, sender.database.silent = str(made[4]), True
    assert sender.run() == 6
    [refused] = [row for row in sender.rows() if row.state == "refused"]
    assert (refused.decision_id, refused.last_error) == (made[4], "refused without a reason")


@pytest.mark.parametrize(("status", "said"), [(503, "not taken"), (429, "not taken"), (404, "not taken")])
def test_a_database_that_takes_nothing_is_asked_again_later_and_later(
    sender: Sender, status: int, said: str
) -> None:
    sender.decided(120)
    sender.database.status = status
    waits = []
    for _ in range(6):
        assert sender.run() == 0
        waits.append((sender.rows()[0].not_before - sender.now).total_seconds())
        assert len({row.not_before for row in sender.rows()}) == 1  # the whole line waits
        sender.now += timedelta(seconds=waits[-1])
    assert waits == [60, 300, 1_800, 7_200, 21_600, 21_600]
    assert sender.states() == {"pending"}
    assert {row.last_error for row in sender.rows()} == {said, None}
    assert len(sender.database.statuses) == 6
    sender.database.status = 0
    assert sender.run() == 120


def test_a_refused_token_refuses_no_record(sender: Sender) -> None:
    sender.decided(2)
    assert sender.run(target=replace(sender.target, token="old")) == 0
    assert {(row.state, row.last_error, row.last_status) for row in sender.rows()} == {
        ("pending", "token refused", 401)
    }
    assert "old" not in repr(replace(sender.target, token="old"))


def test_only_what_took_effect_and_was_not_taken_back_is_sent(sender: Sender, vault: Vault) -> None:
    load = sender.load
    [item] = load.items(1)
    person = people.principal(load.databases, vault, "moderator")
    with transaction(load.engine) as session:
        made = decisions.by_person(
            session, load.policy, session.get_one(Item, item), Judgement(Verdict.REMOVE, "spam"),
            person_id=person.person_id, case_id=None, undo_id=UUID(int=7), now=sender.now,
        )  # fmt: skip
    assert sender.run() == 0  # it can still be undone
    with load.engine.begin() as connection:
        connection.execute(
            update(Decision).where(Decision.id == made).values(undone_at=sender.now, superseded_at=sender.now)
        )
    assert sender.run(later=3600) == 0
    with load.engine.begin() as connection:
        connection.execute(
            update(Decision).where(Decision.id == made).values(undone_at=None, superseded_at=None)
        )
    assert sender.run() == 1


def test_two_senders_at_once_send_each_statement_once(sender: Sender) -> None:
    sender.decided(10)
    with transaction(sender.load.engine) as session:
        statement_sender.take_up(session, sender.now)
        first = statement_sender._claim(session, sender.policies, sender.now)
        with transaction(sender.load.engine) as other:
            assert statement_sender._claim(other, sender.policies, sender.now) == []
    assert len(first) == 10
    assert sender.run() == 0  # claimed, and not given up yet
    assert sender.run(later=301) == 10


def test_it_is_off_unless_an_address_is_given_and_then_runs_with_the_upkeep(
    sender: Sender, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender.decided(3)
    with upkeep.opened(settings) as held:
        upkeep._statements(held)
        assert held.sending is None
    on = replace(settings, statements_url=sender.database.url, statements_token=statements_database.TOKEN)
    assert statements_database.TOKEN not in repr(on)
    with upkeep.opened(on) as held:
        upkeep._statements(held)
        assert held.sending is not None
        deadline = time.monotonic() + 60
        while len(sender.database.taken) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
    assert len(sender.database.taken) == 3


def test_settings_ask_for_a_token_and_for_encryption() -> None:
    base: dict[str, Any] = {
        "MODERATION_DATABASE_URL": "postgresql:///a", "MODERATION_KEYSTORE_URL": "postgresql:///b",
        "MODERATION_REDIS_URL": "unix:///c", "MODERATION_BLOB_DIR": "blobs",
        "MODERATION_KEK": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    }  # fmt: skip
    assert from_environment(base).statements_url == ""
    url = {"MODERATION_STATEMENTS_URL": "https://example.org/api/v1/statements"}
    with pytest.raises(SettingsError, match="STATEMENTS_TOKEN"):
        from_environment(base | url)
    token = {"MODERATION_STATEMENTS_TOKEN": "2|x"}
    assert from_environment(base | url | token).statements_token == "2|x"
    with pytest.raises(SettingsError, match="https"):
        from_environment(base | token | {"MODERATION_STATEMENTS_URL": "http://example.org/"})
