"""The pages of models and their JSON: who may do what there, and that promotion takes two who are logged in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from moderation.domain.access import Role
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.governance import drafts, learning, models, policies
from moderation.governance.models import CHAMPION
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import AuditEvent, Bundle, ModelRow, PersonSession, SignalRow
from moderation.storage.vault import Vault
from tests import artifacts, people, reviewing
from tests.people import Member
from tests.support import drain

NAME = "text-minilm"
MODELS = "/console/models"
OURS = f"{MODELS}/{NAME}/7.0"


@pytest.fixture(autouse=True)
def _added(databases: Databases, settings: Settings, tmp_path: Path) -> Iterator[None]:
    """A version that passes every gate, and one that was not measured."""
    with artifacts.put_back(databases, settings):
        for folder in (
            artifacts.passing(tmp_path, "7.0"),
            artifacts.passing(tmp_path, "8.0", gates=[]),
        ):
            with transaction(databases.content) as session:
                models.add(session, folder, settings.models, "operator", datetime.now(UTC))
        yield


@pytest.fixture
def trainer(settings: Settings, databases: Databases, vault: Vault) -> Iterator[Member]:
    with people.logged_in(settings, databases, vault, Role.TRAINER) as member:
        yield member


@pytest.fixture
def lead(settings: Settings, databases: Databases, vault: Vault) -> Iterator[Member]:
    with people.logged_in(settings, databases, vault, Role.LEAD) as member:
        yield member


@pytest.fixture
def admin(settings: Settings, databases: Databases, vault: Vault) -> Iterator[Member]:
    with people.logged_in(settings, databases, vault, Role.ADMIN) as member:
        yield member


def champion(databases: Databases) -> str | None:
    with transaction(databases.content) as session:
        return models.alias_of(session, NAME, CHAMPION)


def test_the_pages_show_gates_numbers_and_the_card(trainer: Member) -> None:
    page = trainer.get(MODELS)
    assert page.status_code == 200
    assert f"{NAME} 7.0" in page.text
    assert "no results" in page.text
    one = trainer.get(OURS)
    assert one.status_code == 200
    assert "Model card" in one.text
    assert "self harm" in one.text
    assert "Propose that it serves" in one.text
    unmeasured = trainer.get(f"{MODELS}/{NAME}/8.0").text
    assert "python -m training" in unmeasured
    assert "Propose that it serves" not in unmeasured
    assert trainer.get(f"{MODELS}/{NAME}/nine").status_code == 404
    assert trainer.get(f"{MODELS}/nobody/%00").status_code in (404, 422)


def test_two_people_promote_and_one_goes_back(trainer: Member, lead: Member, databases: Databases) -> None:
    shipped = champion(databases)
    assert trainer.post(f"{OURS}/promote").status_code == 403
    assert lead.post(f"{OURS}/promote").status_code == 409
    asked = trainer.post(f"{OURS}/propose")
    assert asked.headers["location"] == f"{OURS}?said=proposed"
    assert "You proposed this" in trainer.get(OURS).text
    assert "Promote: have it serve" in lead.get(OURS).text
    assert lead.post(f"{OURS}/promote").headers["location"] == f"{OURS}?said=promoted"
    assert champion(databases) == "7.0"
    assert f"Go back to {shipped}" in lead.get(OURS).text
    assert "promoted" in lead.get(MODELS).text
    # Of a page that was open for long.
    stale = lead.post(f"{MODELS}/{NAME}/{shipped}/rollback")
    assert stale.status_code == 409
    assert lead.post(f"{OURS}/rollback").headers["location"] == f"{OURS}?said=rolled_back"
    assert champion(databases) == shipped


def test_one_person_alone_promotes_nothing(admin: Member, lead: Member, databases: Databases) -> None:
    before = champion(databases)
    assert admin.post(f"{OURS}/propose").status_code == 303
    refused = admin.post(f"{OURS}/promote")
    assert (refused.status_code, "somebody else" in refused.text) == (403, True)
    assert lead.post(f"{OURS}/refuse").headers["location"] == f"{OURS}?said=refused"
    assert lead.post(f"{OURS}/promote").status_code == 409
    assert champion(databases) == before
    assert admin.post(f"{OURS}/propose").status_code == 303
    assert admin.post(f"{OURS}/withdraw").headers["location"] == f"{OURS}?said=withdrawn"


def test_who_proposes_or_promotes_gives_a_second_factor(
    trainer: Member, lead: Member, databases: Databases
) -> None:
    with transaction(databases.content) as session:
        session.execute(update(PersonSession).values(confirmed_at=datetime.now(UTC) - timedelta(minutes=16)))
    for member, deed in ((trainer, "propose"), (lead, "promote"), (lead, "rollback"), (lead, "refuse")):
        answer = member.post(f"{OURS}/{deed}")
        assert answer.headers["location"].startswith("/console/second-factor"), deed
    assert trainer.get(OURS).status_code == 200


def test_what_fails_or_is_damaged_is_refused_with_a_sentence(
    trainer: Member, settings: Settings, databases: Databases
) -> None:
    answer = trainer.post(f"{MODELS}/{NAME}/8.0/propose")
    assert (answer.status_code, "python -m training" in answer.text) == (409, True)
    artifacts.replace_file(settings.models / NAME / "7.0", "tokenizer.json", b"{}")
    answer = trainer.post(f"{OURS}/propose")
    assert (answer.status_code, "SHA-256" in answer.text) == (409, True)
    with transaction(databases.content) as session:
        events = session.scalars(select(AuditEvent.action).where(AuditEvent.subject == "model")).all()
    assert set(events) == {"model.added"}


def test_the_api_lists_versions_for_people(trainer: Member, databases: Databases) -> None:
    found = trainer.get("/v1/models").json()
    ours = next(one for one in found if (one["name"], one["version"]) == (NAME, "7.0"))
    assert ours["origin"] == "own"
    assert ours["aliases"] == []
    assert all(gate["passed"] for gate in ours["gates"])
    assert ours == trainer.get(f"/v1/models/{NAME}/7.0").json()
    serving = [one for one in found if "champion" in one["aliases"]]
    assert {one["name"] for one in serving} >= {NAME}
    assert trainer.get(f"/v1/models/{NAME}/nine").status_code == 404


# ---- what is tried beside it ------------------------------------------------------------------------------


def alias(databases: Databases, which: str) -> str | None:
    with transaction(databases.content) as session:
        return models.alias_of(session, NAME, which)


def test_one_person_begins_a_shadow_and_ends_it(trainer: Member, lead: Member, databases: Databases) -> None:
    assert "Have it score in the shadow" in trainer.get(OURS).text
    assert "Have it score in the shadow" not in lead.get(OURS).text
    assert lead.post(f"{OURS}/shadow").status_code == 403
    assert trainer.post(f"{OURS}/shadow").headers["location"] == f"{OURS}?said=shadowed"
    assert (alias(databases, "shadow"), champion(databases) != "7.0") == ("7.0", True)
    assert "End the shadow" in trainer.get(OURS).text
    assert ">shadow<" in trainer.get(MODELS).text
    compared = trainer.get(f"{OURS}/shadow")
    assert (compared.status_code, "Nothing was scored by both" in compared.text) == (200, True)
    assert trainer.get(f"{OURS}/shadow?days=many").status_code == 422
    stale = trainer.post(f"{MODELS}/{NAME}/8.0/shadow/end")
    assert (stale.status_code, "not the shadow" in stale.text) == (409, True)
    assert trainer.post(f"{OURS}/shadow/end").headers["location"] == f"{OURS}?said=unshadowed"
    assert alias(databases, "shadow") is None


def test_where_a_shadow_differs_is_named_and_never_shown(
    client: TestClient, trainer: Member, lead: Member, databases: Databases, policy: Policy
) -> None:
    now = datetime.now(UTC)
    items = [
        reviewing.decided(client, databases, policy, now, f"post-{number}", Route.REVIEW, "harassment")
        for number in range(3)
    ]
    with transaction(databases.content) as session:
        for item, score in zip(items, (0.2, 0.6, 0.99), strict=True):
            for detector, version, harassment in ((NAME, "2", 0.5), (f"{NAME}:7.0", "7.0", score)):
                session.add(
                    SignalRow(
                        item_id=item, part="body", detector=detector, version=version, status="ok",
                        scores={"harassment": harassment}, evidence={}, shadow=":" in detector,
                    )
                )  # fmt: skip
    for member in (trainer, lead):
        page = member.get(f"{OURS}/shadow").text
        assert "Where they differ most" in page
        assert all(str(item)[-8:] in page for item in items)
        assert "Lovely weather" not in page
    assert f"/console/items/{items[2]}" in lead.get(f"{OURS}/shadow").text
    assert "/console/items/" not in trainer.get(f"{OURS}/shadow").text.partition("<main")[2]


def test_a_back_test_says_what_a_version_would_have_done(
    client: TestClient, trainer: Member, lead: Member, databases: Databases, settings: Settings
) -> None:
    item = reviewing.submitted(client, "post-1")
    drain(settings)
    empty = trainer.get(f"{OURS}/simulate").text
    assert "Nothing could be compared" in empty
    assert "shadow" in empty
    with transaction(databases.content) as session:
        served = session.scalars(select(SignalRow).where(SignalRow.item_id == item)).one()
        scores = dict(served.scores) | {"hate": 0.999}
        session.add(
            SignalRow(item_id=item, part="body", detector=f"{NAME}:7.0", version="7.0", status="ok", scores=scores,
                      evidence={}, shadow=True)
        )  # fmt: skip
    page = trainer.get(f"{OURS}/simulate").text
    assert "What would change sides" in page
    assert str(item)[-8:] in page
    assert "on both sides" in page
    assert f"/console/items/{item}" in lead.get(f"{OURS}/simulate").text
    assert trainer.get(f"{OURS}/simulate?days=none").status_code == 422
    assert trainer.get(f"{MODELS}/{NAME}/nine/simulate").status_code == 404
    for other in (f"{NAME}/{champion(databases)}", "image-embedding/1", "image-nsfw/1"):
        for page in ("simulate", "shadow"):
            assert trainer.get(f"{MODELS}/{other}/{page}").status_code == 200, other
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        base, document = policies.newest_document(session)
        draft = drafts.save(session, name="The same", document=document, base=base, by="operator", now=now)
    here = f"/console/policy/drafts/{draft}/simulate"
    assert f"{NAME} 7.0" in lead.get(here).text
    assert "Draft, text-minilm 7.0" in lead.get(here, params={"model": f"{NAME} 7.0"}).text
    assert lead.get(here, params={"model": "nobody 1"}).status_code == 422


def test_a_canary_takes_two_people_and_one_ends_it(
    trainer: Member, lead: Member, databases: Databases
) -> None:
    refused = trainer.post(f"{OURS}/canary", data={"share": "all"})
    assert (refused.status_code, "in percent must be a number" in refused.text) == (422, True)
    assert trainer.post(f"{OURS}/canary", data={"share": "2.5"}).status_code == 303
    assert "proposed as a canary, 2.5 %" in trainer.get(MODELS).text
    page = lead.get(OURS).text
    assert "have it judge 2.5 % of the items" in page
    # Of a page that showed something else.
    stale = lead.post(f"{OURS}/promote", data={"alias": "canary", "share": "0.5"})
    assert (stale.status_code, "look at the proposal again" in stale.text) == (409, True)
    assert trainer.post(f"{OURS}/promote", data={"alias": "canary", "share": "0.025"}).status_code == 403
    done = lead.post(f"{OURS}/promote", data={"alias": "canary", "share": "0.025"})
    assert done.headers["location"] == f"{OURS}?said=canary_promoted"
    assert alias(databases, "canary") == "7.0"
    assert "canary, 2.5 %" in lead.get(OURS).text
    ours = lead.get(f"/v1/models/{NAME}/7.0").json()
    assert (ours["aliases"], ours["share"]) == (["canary"], 0.025)
    assert trainer.post(f"{OURS}/canary/end").status_code == 403
    assert lead.post(f"{OURS}/canary/end").headers["location"] == f"{OURS}?said=canary_ended"
    assert alias(databases, "canary") is None
    assert lead.post(f"{OURS}/canary/end").status_code == 409


# ---- what it learned from, and how good it is where -----------------------------------------------------------


def test_curves_are_drawn_from_the_points_of_a_manifest(
    trainer: Member, settings: Settings, databases: Databases, tmp_path: Path
) -> None:
    assert "holds no points" in trainer.get(OURS).text
    points = {
        "hate": {
            "reliability": [[0.02, 0.01, 200], [0.4, 0.5, 100.5], [0.9, 0.88, 100]],
            "precision_recall": [[0.9, 0.95, 0.2], [0.5, 0.8, 0.7], [0.1, 0.3, 1.0]],
        },
        "spam": {"reliability": [[1, 2]], "precision_recall": "none"},
    }
    metrics = dict(artifacts.champion().document["metrics"]) | {"curves": points}
    labels = {
        "rows": 130,
        "by_source": {"audit": 90, "review": 40},
        "by_agreement": {"single": 120, "agreed": 10},
        "by_policy_version": {"2": 100, "10": 30},
    }
    changes = {"metrics": metrics, "training": {"labels": labels}}
    folder = artifacts.passing(tmp_path, "9.0", **changes)
    with transaction(databases.content) as session:
        models.add(session, folder, settings.models, "operator", datetime.now(UTC))
    page = trainer.get(f"{MODELS}/{NAME}/9.0").text
    assert page.count('class="plot curve"') == 2
    assert "50.0 % of 100 rows at a probability of 40.0 %" in page
    assert "holds no points" not in page
    assert "one person 120, several who agreed 10" in page
    assert "labels given under versions 2, 10" in page


def test_what_was_erased_since_and_until_when_it_serves(
    trainer: Member, settings: Settings, databases: Databases
) -> None:
    assert "nothing it learned from" in trainer.get(OURS).text
    now = datetime.now(UTC)
    bundle = new_id(now)
    with transaction(databases.content) as session:
        session.add(
            Bundle(id=bundle, created_at=now, created_by="operator", rows=120, sha256="0" * 64, expires_at=now,
                   withdrawn=3)
        )  # fmt: skip
        row = session.get_one(ModelRow, (NAME, "7.0"))
        row.bundles, row.erased, row.tainted_at = [bundle, new_id(now)], 3, now
    page = trainer.get(OURS).text
    due = now + timedelta(days=180)
    assert "3 of its rows" in page
    assert f"{due:%Y-%m-%d}" in page
    assert "not known here" in page, "of the other bundle nothing is kept"
    assert "Labels by source" in page
    listed = trainer.get(MODELS).text
    assert "3 rows" in listed
    assert f"{due:%Y-%m-%d}" in listed
    with transaction(databases.content) as session:
        session.get_one(ModelRow, (NAME, "7.0")).retired_at = now
    page = trainer.get(OURS).text
    assert "It never serves again" in page
    assert "Propose that it serves" not in page


def test_rounds_of_learning_are_listed(trainer: Member, databases: Databases) -> None:
    assert "Nothing was learned here yet" in trainer.get(MODELS).text
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        learning.without_labels(session, new_id(now), "forum", "operator", "There are too few labels.", now)
    page = trainer.get(MODELS).text
    assert "There are too few labels." in page
    assert "forum" in page
