"""The watch ends certificates that do not fit what is decided any more, and no others; it counts all once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from math import pi, sin
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import func, select

from moderation.domain.promises import Side, Stratum, Void
from moderation.governance import certification, watching
from moderation.governance.certification import WATCHED
from moderation.governance.policies import PolicyCache
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, CertificateRow
from moderation.storage.vault import Vault
from tests import people, traffic
from tests.traffic import CATEGORY

LOOK = timedelta(seconds=5)
A_LOOK = 200
MEANWHILE = timedelta(minutes=5)  # until what people found can't be undone, and is looked at again


@pytest.fixture
def chance() -> np.random.Generator:
    """The same in every run."""
    return np.random.default_rng(7)


@pytest.fixture
def issued(databases: Databases, chance: np.random.Generator, now: datetime) -> UUID:
    """A certificate of letting pass, proved from traffic as `traffic.scores` makes it, and looked at once."""
    return issue(databases, chance, now)


def issue(databases: Databases, chance: np.random.Generator, now: datetime, **changes: object) -> UUID:
    with transaction(databases.content) as session:
        identifier = traffic.certificate(session, traffic.scores(chance, 50_000), now, **changes)
    assert look(databases, now) == []
    return identifier


def look(databases: Databases, now: datetime) -> list[watching.Alarm]:
    """As a relay that has just been started does."""
    return watching.watch(databases.content, PolicyCache(), now)


def row_of(databases: Databases, identifier: UUID) -> CertificateRow:
    with transaction(databases.content) as session:
        return session.get_one(CertificateRow, identifier)


def looks(
    databases: Databases,
    chance: np.random.Generator,
    now: datetime,
    prevalence: Callable[[int], float],
    number: int,
    count: int = A_LOOK,
) -> tuple[list[watching.Alarm], int]:
    """Decisions and a look in turn, until the first alarm; the alarms, and how many looks it took."""
    for turn in range(number):
        traffic.decide(databases, traffic.scores(chance, count, prevalence(turn)), now + LOOK * turn)
        if alarms := look(databases, now + LOOK * turn):
            return alarms, turn + 1
    return [], number


def test_ordinary_traffic_with_its_days_and_nights_is_no_drift(
    databases: Databases, issued: UUID, chance: np.random.Generator, now: datetime
) -> None:
    alarms, _ = looks(databases, chance, now, lambda turn: 0.08 * (1 + 0.25 * sin(turn / 25 * 2 * pi)), 25)
    row = row_of(databases, issued)
    assert alarms == []
    assert (row.voided_at, row.watched_at) == (None, now + LOOK * 24)
    assert row.watch["items"] == 25 * A_LOOK
    with transaction(databases.content) as session:
        policy = PolicyCache().current(session)
        in_force = certification.in_force(session, policy, now + LOOK * 25)
        assert [one.id for one in in_force.certificates.values()] == [issued]
        assert watching.figures(session, policy, now + LOOK * 25) == watching.Figures(1, LOOK)


@pytest.mark.parametrize("side", Side)
def test_other_scores_void_it_and_it_is_said_why(
    databases: Databases, chance: np.random.Generator, now: datetime, side: Side
) -> None:
    identifier = issue(databases, chance, now, side=side)
    traffic.decide(databases, np.round(chance.uniform(0.08, 0.12, A_LOOK), 4), now)
    assert look(databases, now + LOOK) == [watching.Alarm(identifier, CATEGORY, side, "*", Void.SCORES)]
    row = row_of(databases, identifier)
    assert (row.voided_at, row.void_reason) == (now + LOOK, Void.SCORES)
    with transaction(databases.content) as session:
        policy = PolicyCache().current(session)
        assert not certification.in_force(session, policy, now + LOOK).certificates
        assert watching.figures(session, policy, now + MEANWHILE) == watching.Figures(0, timedelta())
        event = session.scalars(select(AuditEvent).where(AuditEvent.subject_id == str(identifier))).one()
    assert (event.actor, event.action, event.details) == (
        "machine",
        "certificate.voided",
        {"reason": "scores"},
    )
    assert look(databases, now + LOOK * 2) == [], "said once"


def test_more_of_what_breaks_the_rule_voids_it(
    databases: Databases, issued: UUID, chance: np.random.Generator, now: datetime
) -> None:
    (alarm,), turns = looks(databases, chance, now, lambda _: 0.3, 12)
    assert (alarm.certificate, alarm.reason) == (issued, Void.PREVALENCE)
    assert turns < 12


def test_less_of_it_speaks_against_what_removes_and_not_what_lets_pass(
    databases: Databases, issued: UUID, chance: np.random.Generator, now: datetime
) -> None:
    with transaction(databases.content) as session:
        reference = traffic.scores(chance, 50_000)
        other = traffic.certificate(session, reference, now, Side.REMOVE, number=2, threshold=0.80005)
    assert look(databases, now) == []
    traffic.decide(databases, np.zeros(60), now)
    look(databases, now + LOOK)
    passing, removing = (row_of(databases, one).watch["near"]["prevalence"] for one in (issued, other))
    assert passing == 0
    assert removing > 0.1


@pytest.mark.parametrize(("wrong", "reason"), [(12, Void.RISK), (1, None)])
def test_what_people_find_voids_it_if_more_is_wrong_than_promised(
    databases: Databases, vault: Vault, issued: UUID, chance: np.random.Generator, now: datetime, wrong: int,
    reason: Void | None,
) -> None:  # fmt: skip
    person = people.new_person(databases, vault, "moderator")
    passed = np.full(60, 0.01)
    verdicts = ["remove"] * wrong + ["allow"] * (60 - wrong)
    closed = now + timedelta(minutes=2)
    traffic.check(databases, person, passed, verdicts, now, closed)
    assert look(databases, closed + LOOK) == [], "it can be undone still"
    found = look(databases, now + MEANWHILE)
    assert [alarm.reason for alarm in found] == ([reason] if reason else [])
    assert look(databases, now + MEANWHILE * 2) == []
    assert row_of(databases, issued).watch["risk"]["batches"] == 1, "counted once"


def test_checks_that_are_not_of_this_rule_do_not_count(
    databases: Databases, vault: Vault, issued: UUID, now: datetime
) -> None:
    person = people.new_person(databases, vault, "moderator")
    before, wrong = now - timedelta(days=1), ["remove"] * 40
    traffic.check(databases, person, np.full(40, 0.01), wrong, before, now + LOOK)  # it was proved from these
    traffic.check(databases, person, np.full(40, 0.5), wrong, now, now + LOOK)  # not let pass by the rule
    traffic.check(databases, person, np.full(40, 0.01), wrong, now, now + LOOK, slice="de")
    assert look(databases, now + MEANWHILE) == []
    assert row_of(databases, issued).watch["risk"]["batches"] == 0


def test_only_what_it_was_proved_for_counts(
    databases: Databases, issued: UUID, chance: np.random.Generator, now: datetime
) -> None:
    other = [{"name": "text-minilm", "version": "1", "status": "ok"}]
    for changes in (
        {"slice": "de"},
        {"stratum": Stratum.OTHER},
        {"stratum": None},
        {"decided_by": "person"},
        {"supersedes": issued},
        {"detectors": other},
    ):
        traffic.decide(databases, np.full(200, 0.9), now, **changes)
    assert look(databases, now + LOOK) == []
    assert row_of(databases, issued).watch["items"] == 0


def test_what_is_committed_late_is_counted_and_nothing_twice(
    databases: Databases, issued: UUID, chance: np.random.Generator, now: datetime
) -> None:
    early, late = traffic.scores(chance, 30), traffic.scores(chance, 20)
    with transaction(databases.content) as slow:
        traffic.write(slow, [traffic.row(one, now) for one in late], now)
        traffic.decide(databases, early, now + timedelta(minutes=2))
        look(databases, now + timedelta(minutes=2))
        assert row_of(databases, issued).watch["items"] == 30
    traffic.number(databases)
    for turn in range(3):
        look(databases, now + timedelta(minutes=3) + LOOK * turn)
        assert row_of(databases, issued).watch["items"] == 50


def test_what_comes_before_the_first_look_counts(
    databases: Databases, chance: np.random.Generator, now: datetime
) -> None:
    reference = traffic.scores(chance, 50_000)
    traffic.decide(databases, np.full(200, 0.9), now)  # before it was issued
    with transaction(databases.content) as session:
        identifier = traffic.certificate(session, reference, now + LOOK)
    traffic.decide(databases, traffic.scores(chance, 50), now + LOOK)
    assert look(databases, now + LOOK * 2) == []
    assert row_of(databases, identifier).watch["items"] == 50


def test_a_restart_forgets_nothing(
    databases: Databases, issued: UUID, chance: np.random.Generator, now: datetime
) -> None:
    """Each look here is that of a process that has just begun: a drift too small for one look adds up."""
    alarms, turns = looks(databases, chance, now, lambda _: 0.3, 60, 20)
    assert [alarm.certificate for alarm in alarms] == [issued]
    assert turns > 3


def test_two_relays_count_once(
    databases: Databases, issued: UUID, chance: np.random.Generator, now: datetime
) -> None:
    started = threading.Barrier(3)

    def relay() -> None:
        cache = PolicyCache()
        started.wait()
        for turn in range(15):
            watching.watch(databases.content, cache, now + LOOK * turn)

    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(relay) for _ in range(2)]
        started.wait()
        for _ in range(10):
            traffic.decide(databases, traffic.scores(chance, 40), now)
        for one in both:
            one.result()
    look(databases, now + MEANWHILE)
    assert row_of(databases, issued).watch["items"] == 400
    assert row_of(databases, issued).voided_at is None


def test_who_comes_while_another_looks_passes(
    databases: Databases, issued: UUID, chance: np.random.Generator, now: datetime
) -> None:
    traffic.decide(databases, np.full(200, 0.9), now)
    with transaction(databases.content) as session:
        policy = PolicyCache().current(session)
        assert len(watching.look(session, policy, now)) == 1
        assert look(databases, now) == []
        session.rollback()
    assert len(look(databases, now)) == 1


def test_an_alarm_that_was_not_acted_on_is_acted_on_later(
    databases: Databases, issued: UUID, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic.decide(databases, np.full(200, 0.9), now)

    def dies(*_arguments: object) -> None:
        raise ConnectionError("the relay ends here")

    with monkeypatch.context() as patched:
        patched.setattr(certification, "void", dies)
        with pytest.raises(ConnectionError):
            look(databases, now)
    assert row_of(databases, issued).voided_at is None
    (alarm,) = look(databases, now + LOOK)
    assert alarm.certificate == issued


def test_without_a_log_that_is_numbered_it_lapses(
    databases: Databases, issued: UUID, chance: np.random.Generator, now: datetime
) -> None:
    """Nobody can say that it still fits: it does not hold, and holds again once somebody can."""
    with transaction(databases.content) as session:
        traffic.write(session, [traffic.row(0.01, now)], now)
    later = now + WATCHED + LOOK
    look(databases, later)
    with transaction(databases.content) as session:
        policy = PolicyCache().current(session)
        assert not certification.in_force(session, policy, later).certificates
        assert watching.figures(session, policy, later) == watching.Figures(0, later - now)
    traffic.number(databases)
    look(databases, later)
    with transaction(databases.content) as session:
        assert certification.in_force(session, policy, later).certificates
    assert row_of(databases, issued).watch["items"] == 1


def test_a_look_is_bounded(
    databases: Databases, issued: UUID, chance: np.random.Generator, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """After a long pause the newest are looked at, and not all there is."""
    monkeypatch.setattr(watching, "MOST", 100)
    traffic.decide(databases, np.full(400, 0.9), now)
    traffic.decide(databases, traffic.scores(chance, 100), now)
    assert look(databases, now) == []
    assert row_of(databases, issued).watch["items"] == 100
    with transaction(databases.content) as session:
        assert session.scalar(select(func.count()).select_from(CertificateRow)) == 1
