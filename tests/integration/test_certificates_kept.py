"""What becomes of certificates: replaced, expired, voided, certified anew by the schedule and for other models."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import select, update

from moderation.domain.errors import Conflict, NotFound
from moderation.domain.promises import EVERYTHING, Occasion, Side, Void
from moderation.governance import certificate_lists, certification, learning, lineage, lineups, models
from moderation.governance.certification import Candidate, Certified
from moderation.storage.database import Databases, insert_many, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import (
    Bundle,
    Case,
    CertificateRow,
    Certification,
    Decision,
    ModelAlias,
    ModelRow,
    Opinion,
    SignalRow,
)
from moderation.storage.vault import Vault
from tests import support
from tests.certifying import DAY, DRAWN, Traffic, document, events, of
from tests.traffic import CATEGORY, LINEUP


@pytest.fixture
def made(databases: Databases, vault: Vault, now: datetime) -> Traffic:
    return Traffic(databases, vault, now)


def rows(databases: Databases) -> list[CertificateRow]:
    with transaction(databases.content) as session:
        return list(session.scalars(select(CertificateRow).order_by(CertificateRow.id)))


def test_a_newer_certificate_takes_the_place_of_the_older(made: Traffic) -> None:
    made.clear()
    first = made.certify()
    made.now += DAY
    second = made.certify()
    assert sorted(second.replaced) == sorted(first.issued)
    with transaction(made.databases.content) as session:
        held = certification.in_force(session, made.policy, made.now).certificates.values()
        assert {one.id for one in held} == set(second.issued)
        assert {one["reason"] for one in events(session, "certificate.voided")} == {"replaced"}


def test_what_is_not_proved_again_stays_until_it_expires(made: Traffic) -> None:
    made.clear()
    first = made.certify()
    made.checked(made.decided(made.now - 10 * DAY, [0.0001] * 60 + [0.9999] * 60, propensity=DRAWN), None)
    made.now += DAY
    second = made.certify()
    assert (second.issued, second.replaced) == ((), ())
    with transaction(made.databases.content) as session:
        session.execute(update(CertificateRow).values(watched_at=made.now + 33 * DAY))
        held = certification.in_force(session, made.policy, made.now + 33 * DAY).certificates.values()
        assert {one.id for one in held} == set(first.issued)
        assert not certification.in_force(session, made.policy, made.now + 34 * DAY).certificates
        views = certificate_lists.listing(session, made.policy, made.now + 34 * DAY)
    assert all("expired on 2026-12-27" in one.why and "Not proved" in one.why for one in views)


def test_what_nobody_watches_does_not_hold(made: Traffic) -> None:
    made.clear()
    made.certify()
    later = made.now + timedelta(minutes=11)
    with transaction(made.databases.content) as session:
        assert not certification.in_force(session, made.policy, later).certificates
        (view, _) = certificate_lists.listing(session, made.policy, later)
        assert "see that the relay runs" in view.why
        session.execute(update(CertificateRow).values(watched_at=later))
        assert len(certification.in_force(session, made.policy, later).certificates) == 2


def test_voiding_counts_once_and_is_audited(made: Traffic) -> None:
    made.clear()
    found = made.certify()
    with transaction(made.databases.content) as session:
        done = certification.void(session, found.issued, Void.PERSON, "operator", made.now)
        assert sorted(done) == sorted(found.issued)
        assert certification.void(session, found.issued, Void.RISK, "operator", made.now) == ()
        assert len(events(session, "certificate.voided")) == 2
        view = certificate_lists.one(session, made.policy, found.issued[0], made.now)
        assert (view.state, view.void_reason, view.in_force) == ("voided", "person", False)
        with pytest.raises(NotFound):
            certificate_lists.one(session, made.policy, UUID(int=3), made.now)


def test_a_policy_that_promises_nothing_is_told_how_to(made: Traffic) -> None:
    made.policy = made.publish(document({}))
    with pytest.raises(Conflict, match="wrong_at_most"):
        made.certify()
    with transaction(made.databases.content) as session:
        assert certificate_lists.listing(session, made.policy, made.now) == []
    assert made.tend() is None


def test_the_schedule_waits_for_checks_and_for_its_day(made: Traffic) -> None:
    assert made.tend() is None, "nothing was checked yet"
    made.clear()
    first = made.tend()
    assert first is not None
    assert (first.occasion, len(first.issued)) == (Occasion.SCHEDULE, 2)
    assert made.tend() is None
    made.now += 8 * DAY
    assert made.tend() is None, "nobody checked anything since"
    made.clear(right=10, at=made.now - 4 * DAY)
    again = made.tend()
    assert again is not None
    assert again.occasion is Occasion.SCHEDULE


def test_another_policy_ends_its_certificates_and_is_certified_at_once(made: Traffic) -> None:
    made.clear()
    made.tend()
    made.policy = made.publish(document({"allow": {"missed_at_most": 0.03}}))
    found = made.tend()
    assert found is not None
    assert (found.occasion, len(found.issued)) == (Occasion.POLICY, 1)
    assert [row.void_reason for row in rows(made.databases)] == ["policy", "policy", None]


def other_version(made: Traffic, version: str, alias: str | None) -> None:
    """Another version of the text model, that scores the same categories otherwise calibrated."""
    with transaction(made.databases.content) as session:
        serving = session.get_one(ModelRow, ("text-minilm", "2"))
        if session.get(ModelRow, ("text-minilm", version)) is None:
            known = dict.fromkeys(serving.outputs["categories"], "0" * 64)
            session.add(
                ModelRow(name="text-minilm", version=version, kind="text", manifest_sha256="1" * 64,
                         folder="nowhere", added_at=made.now, origin="own", outputs={"categories": known})
            )  # fmt: skip
            session.flush()
        if alias is not None:
            models.point(session, "text-minilm", alias, version, made.now)


@pytest.fixture
def _as_before(databases: Databases) -> Iterator[None]:
    yield
    with transaction(databases.content) as session:
        session.execute(ModelAlias.__table__.delete().where(ModelAlias.alias != "champion"))
        session.execute(update(ModelAlias).where(ModelAlias.name == "text-minilm").values(version="2"))
        session.execute(ModelRow.__table__.delete().where(ModelRow.manifest_sha256 == "1" * 64))


@pytest.mark.usefixtures("_as_before")
def test_another_champion_is_certified_from_what_it_said_in_the_shadow(made: Traffic) -> None:
    made.clear()
    made.tend()
    other_version(made, "3", "shadow")
    with transaction(made.databases.content) as session:
        decided = session.execute(select(Decision.item_id, Decision.findings)).all()
        # It says of the harmless half what the champion says, and of the other half that it is harmless too.
        shadow = [
            {"item_id": item, "part": "body", "detector": "text-minilm:3", "version": "3", "status": "ok",
             "scores": {CATEGORY: min(found[0]["probability"], 0.3)}, "evidence": {}, "shadow": True}
            for item, found in decided
        ]  # fmt: skip
        insert_many(session, SignalRow, shadow)
    other_version(made, "3", "champion")
    made.now += DAY
    found = made.tend()
    assert found is not None
    assert found.occasion is Occasion.PROMOTION
    assert made.tend() is None, "once"
    letting = of(found, "allow")
    assert (letting.lineup, letting.drawn, letting.proved) == ("text-minilm 3", 1_000, True)
    assert (letting.threshold or 1) < 0.3, "above lies what ought to go"
    assert not of(found, "remove").proved
    assert [row.void_reason for row in rows(made.databases)] == ["model", "model", None]
    with transaction(made.databases.content) as session:
        assert certification.recheck(session, found.issued[0])


@pytest.mark.usefixtures("_as_before")
def test_a_version_that_serves_before_is_not_forgotten(made: Traffic) -> None:
    made.clear()
    made.tend()
    other_version(made, "2", "previous")
    other_version(made, "3", "champion")
    made.now += DAY
    found = made.tend()
    assert found is not None
    assert (found.level, {one.lineup for one in found.attempts}) == (0.0, {"text-minilm 3"})
    assert [row.void_reason for row in rows(made.databases)] == [None, None], "a rollback has them back"


@pytest.mark.usefixtures("_as_before")
def test_a_candidate_is_certified_before_it_serves(made: Traffic) -> None:
    made.clear()
    with pytest.raises(NotFound, match="no version 9"):
        made.certify(candidate=Candidate("text-minilm", "9"))
    other_version(made, "3", None)
    with transaction(made.databases.content) as session:
        decided = session.execute(select(Decision.item_id, Decision.findings).limit(3_200)).all()
        shadow = [
            {"item_id": item, "part": "body", "detector": "text-minilm:3", "version": "3", "status": "ok",
             "scores": {CATEGORY: found[0]["probability"]}, "evidence": {}, "shadow": True}
            for item, found in decided
        ]  # fmt: skip
        # What the champion says counts no more where the candidate has spoken.
        live = [
            one | {"detector": "text-minilm", "shadow": False, "scores": {CATEGORY: 1.0}} for one in shadow
        ]
        insert_many(session, SignalRow, shadow + live)
    found = made.certify(candidate=Candidate("text-minilm", "3"))
    assert {one.lineup for one in found.attempts} == {"text-minilm 3"}
    letting = of(found, "allow")
    assert letting.drawn == 1_000
    assert 2_800 < letting.decisions < 3_000, "of what was judged as much as of the rest"
    assert of(found, "allow").proved
    with transaction(made.databases.content) as session:
        assert not lineups.serves("text-minilm 3", lineups.with_alias(session, "champion"))
        assert certification.in_force(session, made.policy, made.now).find(
            CATEGORY, Side.ALLOW, EVERYTHING, "text-minilm 3"
        )


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize("by_round", [True, False], ids=["a round's bundle", "a bundle by hand"])
def test_what_learning_left_behind_is_no_sample(made: Traffic, by_round: bool) -> None:
    """A bundle takes what people settled of this rule: what it leaves is mostly right, whatever the model does."""
    made.clear()
    other_version(made, "3", None)
    with transaction(made.databases.content) as session:
        found = session.execute(select(Decision.item_id, Decision.findings)).all()
        shadow = [
            {"item_id": item, "part": "body", "detector": "text-minilm:3", "version": "3", "status": "ok",
             "scores": {CATEGORY: findings[0]["probability"]}, "evidence": {}, "shadow": True}
            for item, findings in found
        ]  # fmt: skip
        insert_many(session, SignalRow, shadow)
        bundle = new_id(made.now)
        session.add(
            Bundle(id=bundle, created_at=made.now - DAY, created_by="operator", rows=0, sha256="",
                   expires_at=made.now + DAY)
        )  # fmt: skip
        session.flush()
        session.get_one(ModelRow, ("text-minilm", "3")).bundles = [bundle]
        if by_round:
            learning.begin(session, new_id(made.now), None, bundle, "operator", made.now, {})
    letting = of(made.certify(candidate=Candidate("text-minilm", "3"), dry=True), "allow")
    half = sum(lineage.stays_for_proof(item) for item, _ in found)
    assert letting.decisions == (pytest.approx(half, abs=half * 0.1) if by_round else 0)
    assert (400 < letting.drawn < 600) if by_round else (letting.drawn == 0)


def test_two_relays_certify_once(made: Traffic) -> None:
    made.clear()
    begun, results = threading.Barrier(2), list[Certified | None]()

    def relay() -> None:
        begun.wait(30)
        results.append(made.tend())

    both = [threading.Thread(target=relay) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(60)
    assert sorted(one is None for one in results) == [False, True]
    assert support.count(made.databases.content, "certifications") == 1


def test_two_operators_wait_for_each_other(made: Traffic) -> None:
    made.clear()
    results: list[UUID | None] = []
    both = [threading.Thread(target=lambda: results.append(made.certify().id)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(60)
    assert len(results) == 2
    living = [row for row in rows(made.databases) if row.voided_at is None]
    assert len(living) == 2, "the newer ones, one a promise"
    with transaction(made.databases.content) as session:
        assert sorted(session.scalars(select(Certification.number))) == [1, 2]


def test_what_was_proved_can_be_read_again_as_it_stood(made: Traffic) -> None:
    cases = made.clear()
    (identifier, _) = made.certify().issued
    with transaction(made.databases.content) as session:
        case = vars(session.get_one(Case, cases[0]))
        later = made.opinion(case, "remove", given_at=made.now + DAY)
        insert_many(session, Opinion, [later])
        assert certification.recheck(session, identifier), "what came later is not what it stood on"
        session.get_one(Decision, case["decision_id"]).propensity = 0.5
        session.flush()
        assert not certification.recheck(session, identifier)


def test_the_list_says_what_is_missing(made: Traffic) -> None:
    with transaction(made.databases.content) as session:
        before = certificate_lists.listing(session, made.policy, made.now)
    assert [(one.side, one.certificate, one.lineup) for one in before] == [
        (Side.REMOVE, None, LINEUP),
        (Side.ALLOW, None, LINEUP),
    ]
    assert before[1].needed > before[0].needed > 59
    assert "Nothing was tried yet" in before[0].why
    made.clear(right=60)
    made.certify()
    with transaction(made.databases.content) as session:
        few = certificate_lists.listing(session, made.policy, made.now)
    assert "more are needed if all are right" in few[1].why
    assert few[1].last is not None
    assert not few[1].last.proved
    made.now += DAY
    made.clear()
    found = made.certify()
    with transaction(made.databases.content) as session:
        views = certificate_lists.listing(session, made.policy, made.now)
        assert {one.certificate for one in views} == set(found.issued)
        assert all(one.why == "" and one.needed == 0 and one.curve and one.share for one in views)
        assert len(certificate_lists.certificates(session, made.policy, made.now)) == 2
        (newest, *_) = certificate_lists.certifications(session)
    assert (newest.tried, newest.proved, newest.by) == (2, 2, "operator")
