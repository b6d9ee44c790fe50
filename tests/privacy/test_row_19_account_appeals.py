"""Row 19: an appeal within six months, answered by a person who had no part; a reversal undoes everything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text

from moderation import upkeep
from moderation.domain.cases import CaseReason, Verdict
from moderation.domain.decisions import AccountMeasure, CaseDraft, Judgement, Outcome
from moderation.domain.errors import Conflict
from moderation.domain.routing import Route, Routing
from moderation.governance import erasure
from moderation.review import appeals, cases, decisions, measures
from moderation.review.appealed import By
from moderation.review.cases import Filter
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AccountAction, Appeal, Case, Decision, Item, Opinion
from moderation.storage.vault import Vault
from tests import stating, support
from tests.stating import World

SIX_MONTHS = timedelta(days=183)
SUSPENDED = Judgement(Verdict.REMOVE, "harassment", measure=AccountMeasure.SUSPEND)


@pytest.fixture
def world(databases: Databases, vault: Vault, blobs: FolderBlobs) -> World:
    """Nothing has happened yet; what does, happens within the last day."""
    return stating.world(databases, vault, blobs, datetime.now(UTC) - timedelta(days=1), 5, 0)


def removed(world: World) -> tuple[UUID, Decision]:
    """A post that a machine was unsure of, and somebody removed and suspended its author for."""
    [item] = world.posted(1)
    with transaction(world.databases.content) as session:
        draft = CaseDraft(CaseReason.UNCERTAIN, "harassment", 2, 0.6)
        routing = Routing(Route.REVIEW, "harassment", 0.6, ("As drawn.",), ())
        row = session.get_one(Item, item)
        decisions.record(session, world.policy, [(row, Outcome(routing, (), (), draft))], world.tick())
    [case] = world.open_cases(item)
    world.give(world.judges[0], case, SUSPENDED)
    with transaction(world.databases.content) as session:
        standing = decisions.standing(session, item)
    assert standing is not None
    assert standing.route == "remove"
    return item, standing


def test_an_appeal_is_taken_for_six_months_from_being_told(
    client: TestClient, databases: Databases, world: World
) -> None:
    assert world.policy.review.appeal_days >= SIX_MONTHS.days
    _, in_time = removed(world)
    _, too_late = removed(world)
    now = datetime.now(UTC)
    for row, told in ((in_time, now - SIX_MONTHS + timedelta(hours=1)), (too_late, now - SIX_MONTHS * 1.01)):
        with databases.content.begin() as connection:
            connection.execute(
                text("UPDATE decisions SET informed_at = :told WHERE id = :id"), {"told": told, "id": row.id}
            )
    lodged = client.post(f"/v1/decisions/{in_time.id}/appeals", json={"by": "author"})
    assert lodged.status_code == 201, lodged.text
    refused = client.post(f"/v1/decisions/{too_late.id}/appeals", json={"by": "author"})
    assert (refused.status_code, refused.json()["code"]) == (409, "too_late")
    until = client.get(f"/v1/decisions/{in_time.id}/notice").json()["appeal_until"]
    assert datetime.fromisoformat(until) > now


def test_the_first_decider_never_gets_it_and_a_person_answers(world: World) -> None:
    item, appealed = removed(world)
    assert world.lodged(item)
    [case] = world.open_cases(item)
    at = world.tick()
    with transaction(world.databases.content) as session:
        assert cases.next_case(session, world.policy, world.judges[0], Filter(), 1.0, 1.0, at) is None
    with transaction(world.databases.content) as session, pytest.raises(Conflict):
        cases.claim(session, world.policy, world.judges[0], case, at)
    world.give(world.judges[1], case, Judgement(Verdict.ALLOW))
    with transaction(world.databases.content) as session:
        [appeal] = session.scalars(select(Appeal)).all()
        outcome = session.get_one(Decision, appeal.outcome_id)
    assert (appeal.state, appeal.decision_id) == ("reversed", appealed.id)
    assert (outcome.decided_by, outcome.person_id) == ("person", world.judges[1].person_id)


def test_no_machine_answers_an_appeal(world: World, settings: Settings) -> None:
    item, appealed = removed(world)
    assert world.lodged(item)
    with transaction(world.databases.content) as session, pytest.raises(Conflict, match="only a person"):
        decisions.reverse(session, world.vault, world.policy, None, appealed.id, world.tick())
    # Everything that runs by itself runs, and a year goes by.
    support.drain(settings)
    with upkeep.opened(settings) as held:
        for task in upkeep.tasks(held):
            task.task()
    with transaction(world.databases.content) as session:
        [appeal] = session.scalars(select(Appeal)).all()
        made = session.scalars(select(Decision).where(Decision.item_id == item)).all()
    assert appeal.state == "open"
    assert len(made) == 2
    assert world.open_cases(item)


def test_over_random_days_every_answer_is_a_persons_who_had_no_part(
    databases: Databases, vault: Vault, blobs: FolderBlobs, now: datetime
) -> None:
    stating.world(databases, vault, blobs, now, 19, 200)
    with transaction(databases.content) as session:
        settled = session.scalars(select(Appeal).where(Appeal.state.in_(["upheld", "reversed"]))).all()
        made = {row.id: row for row in session.scalars(select(Decision))}
        given = session.scalars(select(Opinion)).all()
        of_case = dict(session.execute(select(Case.id, Case.appeal_id)).all())
    assert settled
    for appeal in settled:
        outcome = made[appeal.outcome_id or UUID(int=0)]
        assert outcome.decided_by == "person"
        first = {one.person_id for one in given if one.decision_id == appeal.decision_id}
        first.add(made[appeal.decision_id].person_id)
        assert outcome.person_id not in first
    of_appeals = [row for row in made.values() if row.case_id and of_case[row.case_id]]
    assert {row.decided_by for row in of_appeals} == {"person"}


def test_a_reversal_restores_everything(client: TestClient, world: World) -> None:
    item, _ = removed(world)
    engine = world.databases.content
    assert client.get(f"/v1/items/{item}").json()["verdict"] == "remove"
    assert world.lodged(item)
    [case] = world.open_cases(item)
    world.give(world.judges[2], case, Judgement(Verdict.ALLOW))
    at = world.now + timedelta(minutes=1)
    shown = client.get(f"/v1/items/{item}").json()
    assert (shown["verdict"], shown.get("restrictions", [])) == ("allow", [])
    with transaction(engine) as session:
        row = session.get_one(Item, item)
        [action] = session.scalars(select(AccountAction)).all()
        standing = measures.standing_of(session, world.policy, row.author_id, at)
        in_force = decisions.in_force(session, [item], at)[item]
    assert action.reversed_by == in_force.id
    assert (standing.suspended_until, standing.banned, standing.strikes) == (None, False, 0)
    assert row.retention_class == world.policy.retention.allow
    assert in_force.restrictions == []
    assert in_force.category is None
    notice = client.get(f"/v1/decisions/{in_force.id}/notice", params={"language": "en"}).json()
    assert "no longer restricted" in notice["text"]


@pytest.fixture
def expired(world: World) -> tuple[UUID, datetime]:
    """A removed post whose window would be over, were it not for the appeal."""
    item, row = removed(world)
    with transaction(world.databases.content) as session:
        window = session.get_one(Item, item).expires_at
        at = window - timedelta(minutes=1)
        appeals.lodge(session, world.vault, world.policy, "app", row.id, By.AUTHOR, None, None, at)
    return item, window


def test_evidence_outlives_its_window(
    world: World, blobs: FolderBlobs, expired: tuple[UUID, datetime]
) -> None:
    item, window = expired
    erasure.sweep(world.databases, world.vault, blobs, window + timedelta(days=1))
    assert world.vault.item_keys([item]), "the key, and so the post, is still there"
    [case] = world.open_cases(item)
    world.now = window + timedelta(days=2)
    world.give(world.judges[3], case, Judgement(Verdict.ALLOW))
    for _ in range(2):
        erasure.sweep(world.databases, world.vault, blobs, world.now + timedelta(days=400))
    assert not world.vault.item_keys([item])
    with transaction(world.databases.content) as session:
        [appeal] = session.scalars(select(Appeal)).all()
    assert appeal.state == "reversed", "and what came of it stays on record"
