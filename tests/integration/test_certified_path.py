"""Nothing is decided under a certificate that is void: the whole path with real models, and a void in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import yaml
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select, text

from moderation import setup, worker
from moderation.domain.content import Lane
from moderation.domain.policy import Policy
from moderation.domain.promises import EVERYTHING, Side, Stratum, Void
from moderation.domain.routing import Route
from moderation.domain.signals import BankAction
from moderation.features.hashes import text_digest
from moderation.governance import audit, certification, lineups, policies
from moderation.governance.policies import PolicyCache
from moderation.pipeline import run
from moderation.pipeline.audit_draws import Budget, within
from moderation.pipeline.matchers import Matchers
from moderation.settings import Settings
from moderation.storage import items as queue
from moderation.storage.database import Databases, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import Case, CertificateRow, Certification, Decision
from tests import reviewing, support

LEASE = timedelta(seconds=60)
PATIENCE = 30.0


@dataclass(slots=True)
class Plant:
    """An installation whose policy promises something of hate, and a worker's tools."""

    client: TestClient
    databases: Databases
    policy: Policy
    tools: run.Tools
    now: datetime = field(default_factory=lambda: datetime.now(UTC) + timedelta(minutes=5))

    @property
    def engine(self) -> Engine:
        return self.databases.content

    def certified(self, side: Side, threshold: float, slice_: str = EVERYTHING) -> UUID:
        """A certificate for hate, as one that was proved an hour ago."""
        at = self.now - timedelta(hours=1)
        identifier, lineup = new_id(at), lineups.of_models("hate", self.tools.detectors)
        period = {"since": at - timedelta(days=60), "until": at}
        with transaction(self.engine) as session:
            number = support.count(self.engine, "certifications") + 1
            made = Certification(
                id=identifier, term="2026-Q4", number=number, at=at, by="operator", cause="asked",
                policy_version=self.policy.version, level=0.05, document={}, **period,
            )  # fmt: skip
            session.add(made)
            session.flush()
            row = CertificateRow(
                id=identifier, certification_id=identifier, policy_version=self.policy.version, category="hate",
                side=side, slice=slice_, lineup=lineup, threshold=threshold, allowed=0.02, bound=0.015, level=0.01,
                checks=400, mistakes=2, issued_at=at, expires_at=at + timedelta(days=35), document={}, watch={},
                watched_at=self.now, **period,
            )  # fmt: skip
            session.add(row)
        return identifier

    def void(self, *certificates: UUID) -> None:
        with transaction(self.engine) as session:
            certification.void(session, certificates, Void.SCORES, audit.MACHINE, self.now)

    def examined(self) -> tuple[UUID, run.Screened]:
        """What is due, claimed and examined."""
        with transaction(self.engine) as session:
            claim = queue.claim_due(session, Lane.LIVE, 10, LEASE, self.now)
        assert claim is not None
        return claim.token, run.examine(self.tools, claim.token, claim.ids, self.now, LEASE)

    def commit(self, token: UUID, screened: run.Screened) -> None:
        with transaction(self.engine) as session:
            run.commit(session, token, screened, self.now)

    def screened(self) -> None:
        self.commit(*self.examined())

    def decision(self, item: UUID) -> Decision:
        with transaction(self.engine) as session:
            return session.scalars(select(Decision).where(Decision.item_id == item)).one()


def promising(databases: Databases, languages: tuple[str, ...] = (), **audit_share: float) -> Policy:
    """The default policy with promises for hate, published."""
    document = yaml.safe_load(policies.default_document())
    document["categories"]["hate"] |= {"remove": {"wrong_at_most": 0.02}, "allow": {"missed_at_most": 0.02}}
    document["certificates"] = {"languages": list(languages)}
    document["review"] = {**document.get("review", {}), "audit": audit_share}
    with transaction(databases.content) as session:
        return policies.publish(session, yaml.safe_dump(document), "operator", datetime.now(UTC))


@pytest.fixture(scope="module")
def _tools(prepared: tuple[Settings, setup.FirstRun]) -> Iterator[run.Tools]:
    """A worker's tools, loaded once: no test here changes what serves."""
    with worker.tools(prepared[0], lambda: 1.0) as tools:
        yield tools


@pytest.fixture
def tools(_tools: run.Tools) -> run.Tools:
    """The same, with nothing remembered of the test before."""
    return replace(_tools, policies=PolicyCache(), banks=Matchers(), budget=Budget())


@pytest.fixture
def plant(client: TestClient, databases: Databases, tools: run.Tools) -> Plant:
    """An installation with a slice of its own for German."""
    return Plant(client, databases, promising(databases, ("de",)), tools)


def test_what_a_machine_lets_pass_cites_its_certificate(plant: Plant) -> None:
    one = plant.certified(Side.ALLOW, 0.95)
    german = plant.certified(Side.ALLOW, 0.9, "de")
    item = reviewing.submitted(plant.client)
    other = reviewing.submitted(plant.client, "post-2", author="acct-2", parts=[
        support.text_part("Heute ist das Wetter in Lissabon wirklich sehr angenehm und ruhig.")])  # fmt: skip
    plant.screened()
    found = plant.decision(item)
    assert (found.route, found.certificates, found.slice) == ("allow", [one], EVERYTHING)
    assert found.stratum in (Stratum.FAR, Stratum.NEAR)
    share = {"far": 0.005, "near": 0.05}[found.stratum or ""]
    assert found.propensity == pytest.approx(share), "kept whether it was drawn or not"
    assert "scored categories have a certificate" in found.reasons[0]
    found = plant.decision(other)
    assert (found.slice, found.certificates) == ("de", [german])


def test_without_one_the_bands_hold_and_the_decision_says_so(plant: Plant) -> None:
    item = reviewing.submitted(plant.client)
    plant.screened()
    found = plant.decision(item)
    assert (found.route, found.certificates) == ("allow", [])
    assert "(no certificate: no promise)" in found.reasons[0]


def test_what_is_void_expired_or_watched_by_nobody_decides_nothing(plant: Plant) -> None:
    void, expired, unwatched = (plant.certified(Side.REMOVE, 0.0001) for _ in range(3))
    plant.void(void)
    with transaction(plant.engine) as session:
        session.get_one(CertificateRow, expired).expires_at = plant.now
        session.get_one(CertificateRow, unwatched).watched_at = plant.now - timedelta(minutes=11)
    item = reviewing.submitted(plant.client)
    plant.screened()
    assert plant.decision(item).route == "allow"


def test_a_void_between_examining_and_committing_is_heard(plant: Plant) -> None:
    one = plant.certified(Side.REMOVE, 0.0001)
    item = reviewing.submitted(plant.client)
    token, screened = plant.examined()
    assert screened.outcomes[item].routing.certificates == (one,)
    assert screened.outcomes[item].routing.route is Route.REMOVE
    plant.void(one)
    plant.commit(token, screened)
    found = plant.decision(item)
    assert (found.route, found.certificates) == ("allow", [])
    assert "(no certificate: no promise)" in found.reasons[0]


def test_what_expires_between_examining_and_committing_is_heard(plant: Plant) -> None:
    one = plant.certified(Side.REMOVE, 0.0001)
    item = reviewing.submitted(plant.client)
    token, screened = plant.examined()
    with transaction(plant.engine) as session:
        session.get_one(CertificateRow, one).expires_at = plant.now + timedelta(seconds=5)
    plant.now += timedelta(seconds=5)
    plant.commit(token, screened)
    assert plant.decision(item).certificates == []


def test_what_a_newer_one_replaced_is_not_cited(plant: Plant) -> None:
    older = plant.certified(Side.ALLOW, 0.8)
    item = reviewing.submitted(plant.client)
    token, screened = plant.examined()
    plant.void(older)
    newer = plant.certified(Side.ALLOW, 0.9)
    plant.commit(token, screened)
    assert plant.decision(item).certificates == [newer]


def waits_for_the_lock(engine: Engine) -> bool:
    """Whether somebody waits for the advisory lock of certificates."""
    asked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = :lock AND NOT granted"
    with engine.connect() as connection:
        return bool(connection.scalar(text(asked), {"lock": certification.LOCK}))


@contextmanager
def meanwhile(engine: Engine, work: Any) -> Iterator[threading.Thread]:
    """`work` in a thread of its own, once it waits for the lock; afterwards it must come to its end."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    until = time.monotonic() + PATIENCE
    while not waits_for_the_lock(engine):
        assert thread.is_alive(), "it waited for nobody"
        assert time.monotonic() < until, "it never came to the lock"
        time.sleep(0.01)
    yield thread


def test_whoever_voids_waits_for_what_is_being_decided(plant: Plant) -> None:
    one = plant.certified(Side.REMOVE, 0.0001)
    item = reviewing.submitted(plant.client)
    token, screened = plant.examined()
    with transaction(plant.engine) as session:
        run.commit(session, token, screened, plant.now)
        with meanwhile(plant.engine, lambda: plant.void(one)) as voiding:
            with transaction(plant.engine) as other:
                assert other.get_one(CertificateRow, one).voided_at is None, (
                    "not while somebody decides by it"
                )
            session.commit()
    voiding.join(PATIENCE)
    assert plant.decision(item).certificates == [one]
    with transaction(plant.engine) as session:
        assert session.get_one(CertificateRow, one).voided_at == plant.now


def test_whoever_decides_waits_for_what_is_being_voided_and_then_knows(plant: Plant) -> None:
    one = plant.certified(Side.REMOVE, 0.0001)
    item = reviewing.submitted(plant.client)
    token, screened = plant.examined()
    with transaction(plant.engine) as session:
        certification.void(session, [one], Void.RISK, audit.MACHINE, plant.now)
        with meanwhile(plant.engine, lambda: plant.commit(token, screened)) as committing:
            assert support.count(plant.engine, "decisions") == 0
            session.commit()
    committing.join(PATIENCE)
    found = plant.decision(item)
    assert (found.route, found.certificates) == ("allow", [])


def test_workers_and_a_void_at_the_same_time(plant: Plant) -> None:
    """Batches are committed by several threads, and in the midst of it the certificate is voided."""
    one = plant.certified(Side.REMOVE, 0.0001)
    for number in range(24):
        reviewing.submitted(plant.client, f"post-{number}", author=f"acct-{number}")
    batches = []
    for _ in range(12):
        with transaction(plant.engine) as session:
            claim = queue.claim_due(session, Lane.LIVE, 2, LEASE, plant.now)
        assert claim is not None
        batches.append((claim.token, run.examine(plant.tools, claim.token, claim.ids, plant.now, LEASE)))
    began, done = threading.Event(), threading.Event()
    cited: list[tuple[bool, list[UUID]]] = []

    def work(mine: list[tuple[UUID, run.Screened]]) -> None:
        for number, (token, screened) in enumerate(mine):
            if number == 1:
                began.set()
            if number == 3:
                done.wait(PATIENCE)  # one batch at least comes after it
            after = done.is_set()
            plant.commit(token, screened)
            cited.extend((after, plant.decision(item).certificates) for item in screened.outcomes)

    threads = [threading.Thread(target=work, args=(batches[start::3],), daemon=True) for start in range(3)]
    for thread in threads:
        thread.start()
    assert began.wait(PATIENCE)
    plant.void(one)
    done.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(cited) == 24
    assert any(held == [one] for _, held in cited)
    assert all(held == [] for after, held in cited if after), "nothing afterwards"
    assert any(after for after, _ in cited)


def test_what_a_bank_decides_cites_none(plant: Plant) -> None:
    plant.certified(Side.REMOVE, 0.0001)
    digest = text_digest(support.MILD)
    support.bank_of(plant.databases, digest, str(BankAction.REMOVE), plant.now)
    item = reviewing.submitted(plant.client)
    plant.screened()
    found = plant.decision(item)
    assert (found.route, found.category, found.certificates) == ("remove", "hate", [])
    assert (found.stratum, found.propensity) == (Stratum.OTHER, pytest.approx(0.005))


# Drawn from what people decide anyway.


def test_an_uncertain_item_that_is_drawn_keeps_its_case_without_scores(
    client: TestClient, databases: Databases, tools: run.Tools
) -> None:
    policy = promising(databases, uncertain_share=0.25)
    plant = Plant(client, databases, policy, replace(tools, dice=lambda: 0.2))
    plant.certified(Side.ALLOW, 0.0)  # nothing is sure enough: all of it goes to people
    item = reviewing.submitted(client)
    plant.screened()
    plant.tools = replace(tools, dice=lambda: 0.25)
    plain = reviewing.submitted(client, "post-2", author="acct-2")
    plant.screened()
    with transaction(databases.content) as session:
        found = {row.item_id: row for row in session.scalars(select(Case))}
    drawn, left = found[item], found[plain]
    assert (drawn.blind, drawn.propensity, left.blind, left.propensity) == (True, 0.25, False, 1.0)
    for name in ("kind", "reason", "queue", "category", "priority", "urgent", "severity"):
        assert getattr(drawn, name) == getattr(left, name), name
    assert drawn.kind == "review"
    for one in (item, plain):
        made = plant.decision(one)
        assert (made.route, made.stratum, made.propensity) == ("review", Stratum.UNCERTAIN, 0.25)
        assert made.certificates == [], "people decide"


# The day's budget.


def past(databases: Databases, policy: Policy, at: datetime, count: int, route: str, stratum: str) -> None:
    """Decisions as they lie in the table; whose they are is of no matter here."""
    values = {"version": policy.version, "at": at, "route": route, "stratum": stratum}
    statement = text("""
        INSERT INTO decisions (id, item_id, author_id, client, route, reasons, findings, detectors, decided_by,
            policy_version, decided_at, superseded_at, stratum, propensity)
        VALUES (:id, gen_random_uuid(), gen_random_uuid(), 'app', :route, '[]', '[]', '[]', 'machine',
            :version, :at, :at, :stratum, 0.01)
    """)
    with databases.content.begin() as connection:
        connection.execute(statement, [values | {"id": new_id(at)} for _ in range(count)])


def test_a_budget_makes_draws_rarer_in_proportion_to_what_comes(databases: Databases, now: datetime) -> None:
    policy = promising(databases, a_day=120.0, share=0.05, near_share=0.5, uncertain_share=0.5)
    with transaction(databases.content) as session:
        assert within(session, policy, 120, now) == 1.0, "nothing is known yet"
    at = now - timedelta(minutes=30)
    past(databases, policy, at, 40, "allow", "far")  # 2 an hour at its share
    past(databases, policy, at, 4, "remove", "near")  # 2
    past(databases, policy, at, 8, "review", "uncertain")  # 4
    past(databases, policy, at, 40, "review", "other")  # none: people have to know why
    past(databases, policy, at, 40, "remove", "other")  # 2
    past(databases, policy, now - timedelta(hours=2), 400, "allow", "far")  # long ago
    with transaction(databases.content) as session:
        assert within(session, policy, 120, now) == pytest.approx(120 / 240)
        assert within(session, policy, 1000, now) == 1.0
    # A wave of five minutes counts as if it went on all day.
    past(databases, policy, now - timedelta(minutes=1), 100, "allow", "far")
    with transaction(databases.content) as session:
        assert within(session, policy, 120, now) == pytest.approx(120 / (5 * 12 * 24))


def test_once_twice_the_day_s_checks_are_drawn_none_is(plant: Plant) -> None:
    policy = promising(plant.databases, a_day=1.0, share=1.0, near_share=1.0)
    plant.policy, plant.tools = policy, replace(plant.tools, dice=lambda: 0.0)
    for number in range(2):
        reviewing.submitted(plant.client, f"post-{number}", author=f"acct-{number}")
    plant.screened()
    assert support.count(plant.engine, "cases") == 2
    item = reviewing.submitted(plant.client, "post-2", author="acct-2")
    plant.now += timedelta(seconds=61)  # it is looked up once a minute
    plant.screened()
    assert plant.decision(item).propensity == 0.0
    assert support.count(plant.engine, "cases") == 2


def test_a_budget_is_looked_up_once_a_minute_and_with_every_policy(
    databases: Databases, now: datetime
) -> None:
    policy = promising(databases, a_day=120.0, share=0.5)
    budget = Budget()
    with transaction(databases.content) as session:
        assert budget.scale(session, policy, now) == 1.0
    past(databases, policy, now - timedelta(minutes=2), 100, "allow", "far")
    with transaction(databases.content) as session:
        assert budget.scale(session, policy, now + timedelta(seconds=59)) == 1.0
        assert budget.scale(session, replace(policy, version=9), now + timedelta(seconds=59)) < 1.0
        assert budget.scale(session, policy, now + timedelta(seconds=59)) < 1.0
        unlimited = replace(
            policy, review=replace(policy.review, audit=replace(policy.review.audit, a_day=None))
        )
        assert budget.scale(session, unlimited, now) == 1.0
