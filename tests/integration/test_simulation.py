"""Simulation over what was really screened: the stored findings, an even sample of many, people's own pace."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from moderation.domain.errors import InvalidInput
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.features.hashes import text_digest
from moderation.governance import simulation
from moderation.governance.policies import default_document, read
from moderation.governance.sessions import PersonPrincipal
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Case
from moderation.storage.vault import Vault
from tests import people, support
from tests.caseload import Caseload

DAY = timedelta(days=1)
CLOSED = default_document().replace("allow_below: 0.40", "allow_below: 0.00", 1)


def test_the_policy_in_force_routes_everything_as_it_was_routed(
    client: TestClient, settings: Settings, databases: Databases, policy: Policy
) -> None:
    known = "Buy two, pay one: only today."
    support.bank_of(databases, text_digest(known), "remove", datetime.now(UTC))
    for number, text in enumerate([support.MILD, "You are a stupid idiot and nobody likes you.", known]):
        client.post("/v1/items", json=support.post(f"post-{number}", support.text_part(text)))
    support.drain(settings)
    now = datetime.now(UTC) + timedelta(minutes=1)
    with transaction(databases.content) as session:
        found = simulation.run(session, policy, read(CLOSED, 2), 1, now)
    assert (found.total, found.items, found.unscreened) == (3, 3, 0)
    assert (found.same_version, found.reproduced) == (3, 3)
    assert found.routes["remove"][0] == found.routes["remove"][1], "what was removed still is"
    assert found.categories["spam"]["remove"] == (1, 1), "a bank's match stays one"
    assert found.routes["allow"][1] < found.routes["allow"][0], "nothing is harmless below 0"


def test_of_many_an_even_sample_is_routed_and_scaled(load: Caseload) -> None:
    load.routed(load.items(60), Route.REVIEW, category="harassment")
    later = load.now + timedelta(hours=1)
    told: list[tuple[int, int]] = []
    with transaction(load.databases.content) as session:
        every = simulation.run(session, load.policy, load.policy, 1, later)
        found = simulation.run(
            session, load.policy, load.policy, 1, later, most=20, progress=lambda *far: told.append(far)
        )
    assert not every.sampled
    assert every.before.cases == 60
    assert found.sampled
    assert 5 <= found.items <= 40
    assert found.before.cases == pytest.approx(60)
    assert told[-1] == (found.items, found.items)


def test_only_what_was_screened_in_these_days_and_by_the_screening(
    load: Caseload, ann: PersonPrincipal
) -> None:
    load.now -= 3 * DAY
    load.routed(load.items(2), Route.ALLOW)
    load.now += 3 * DAY
    (case,) = load.waiting()
    load.give(ann, case)
    with transaction(load.databases.content) as session:
        found = simulation.run(session, load.policy, load.policy, 1, load.now + DAY / 2)
        longer = simulation.run(session, load.policy, load.policy, 7, load.now + DAY / 2)
    assert found.total == 1, "a person's decision about it is not counted again"
    assert longer.total == 3


def test_the_pace_is_the_median_of_what_people_took(load: Caseload, ann: PersonPrincipal) -> None:
    for seconds in (20, 40, 600, 30_000):
        (case,) = load.waiting()
        number = load.claim(ann, case).number
        started = load.now
        with transaction(load.databases.content) as session:
            session.execute(
                update(Case).where(Case.id == case).values(claim_until=started + timedelta(days=2))
            )
        load.now = started + timedelta(seconds=seconds)
        load.give(ann, case, number=number, form_key=uuid4())
    with transaction(load.databases.content) as session:
        found = simulation.seconds_a_case(session, load.now - 2 * DAY)
        assert simulation.seconds_a_case(session, load.now + DAY) is None
    assert found == pytest.approx(40), "hours with a case open are no work on it"


@pytest.mark.parametrize("days", [0, -1, 91])
def test_days_that_can_not_be_looked_at(load: Caseload, days: float) -> None:
    with transaction(load.databases.content) as session, pytest.raises(InvalidInput, match="from 1 to 90"):
        simulation.run(session, load.policy, load.policy, days, load.now)


def test_a_draft_goes_its_whole_way_in_the_console(
    settings: Settings, databases: Databases, vault: Vault
) -> None:
    changed = default_document().replace("undo_seconds: 10", "undo_seconds: 20")
    with people.logged_in(settings, databases, vault, "lead") as lead:
        assert "There is no draft." in lead.get("/console/policy/drafts").text
        nameless = lead.post("/console/policy/drafts", data={"document": changed, "base": "1"})
        assert nameless.status_code == 422
        assert "undo_seconds: 20" in nameless.text, "what was written is not lost"
        sent = {"document": "name: [", "base": "1", "name": "Longer undo"}
        page = lead.post("/console/policy/drafts", data=sent).headers["location"].partition("?")[0]
        assert "1 thing to correct" in lead.get(page).text
        assert "1 fault" in lead.get("/console/policy/drafts").text
        assert lead.get(f"{page}/simulate?days=7").status_code == 422
        draft = page.rsplit("/", 1)[-1]
        sent |= {"document": changed, "draft": draft}
        assert lead.post("/console/policy/drafts", data=sent).status_code == 303
        assert "+  undo_seconds: 20" in lead.get(page).text
        assert "Nothing was screened" in lead.get(f"{page}/simulate?days=7").text
        assert lead.get(f"{page}/simulate?days=many").status_code == 422
        other = lead.post("/console/policy/drafts", data=sent | {"draft": "", "name": "Another"})
        against = other.headers["location"].partition("?")[0].rsplit("/", 1)[-1]
        assert "the two documents are the same" in lead.get(f"{page}?against={against}").text
        assert lead.post(f"/console/policy/drafts/{against}/delete").status_code == 303
        assert lead.get(f"/console/policy/drafts/{against}").status_code == 404
        sent |= {"effective": "2199-01-01T00:00"}
        assert "time to come within" in lead.post("/console/policy/publish", data=sent).text
        soon = f"{datetime.now(UTC) + 5 * DAY:%Y-%m-%dT%H:%M}"
        done = lead.post("/console/policy/publish", data=sent | {"effective": soon})
        assert done.headers["location"] == "/console/policy?said=announced"
        assert lead.get(page).status_code == 404, "the draft has ended"
        shown = lead.get("/console/policy").text
        assert "is announced and takes effect" in shown
        assert "10 seconds" in shown, "until then the old one holds"
        assert "announced" in lead.get("/console/policy/versions").text
    with people.logged_in(settings, databases, vault, "moderator") as moderator:
        assert moderator.get("/console/policy/drafts").status_code == 403
        assert moderator.post("/console/policy/drafts", data=sent).status_code == 403
