"""The pages of models and their JSON: who may do what there, and that promotion takes two who are logged in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from moderation.domain.access import Role
from moderation.governance import models
from moderation.governance.models import CHAMPION
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, PersonSession
from moderation.storage.vault import Vault
from tests import artifacts, people
from tests.people import Member

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
