"""The whole loop with the real trainer: people judge, one command learns, a second person confirms, it serves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from models.registry import load
from moderation import bundles, cli
from moderation.domain.access import Role
from moderation.domain.erasing import Cause
from moderation.domain.policy import Policy
from moderation.governance import erasure, model_ages, models, promotions
from moderation.governance import learning as rounds
from moderation.governance.policies import PolicyCache
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import LearningRound, ModelRow, SignalRow
from moderation.storage.vault import Vault
from tests import artifacts, people, support
from tests.caseload import ALLOW, REMOVE, Caseload
from tests.community_texts import sentences
from tests.judging import at_once

TRAINER = "trainer@example.org"


@pytest.fixture(autouse=True)
def _put_back(databases: Databases, settings: Settings) -> Iterator[None]:
    with artifacts.put_back(databases, settings):
        yield
    shutil.rmtree(settings.learning, ignore_errors=True)


@pytest.fixture
def judged(databases: Databases, vault: Vault, blobs: FolderBlobs, policy: Policy) -> Caseload:
    """Posts of a community that removes what others would let pass, all of them judged."""
    load = Caseload(databases, vault, blobs, at_once(policy), datetime.now(UTC))
    person = people.principal(databases, vault, "moderator")
    people.new_person(databases, vault, Role.TRAINER, email=TRAINER)
    for number, (text, harsh) in enumerate(sentences(100)):
        (case,) = load.waiting(author=f"acct-{number}", text=text)
        load.give(person, case, REMOVE if harsh else ALLOW)
    return load


def test_one_command_learns_a_community_and_a_second_person_confirms(
    judged: Caseload, client: TestClient, settings: Settings, vault: Vault, blobs: FolderBlobs, policy: Policy,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("moderation.settings.from_environment", lambda _: settings)
    monkeypatch.setattr("os.nice", lambda _: None)  # of this test's own process
    command = ["learn", "--client", "app", "--category", "harassment", "--by", TRAINER]
    assert cli.main(command) == 0, capsys.readouterr().out
    assert "is proposed. Somebody else promotes it" in capsys.readouterr().out
    databases, now = judged.databases, judged.now
    with transaction(databases.content) as session:
        (done,) = session.scalars(select(LearningRound))
        assert (done.state, done.trouble, done.document["rows"]) == (rounds.State.PROPOSED, None, 100)
        name, version = done.name or "", done.version or ""
        row = session.get_one(ModelRow, (name, version))
        assert row.bundles == [done.bundle_id]
        lead = promotions.logged_in(people.principal(databases, vault, Role.LEAD))
        promotions.promote(session, settings.models, lead, name, version, now)

    for text in ("The ferry captain sold two lanterns at dawn. Such a complete turnip you are.",
                 "The ferry captain sold two lanterns at dawn. Good for them."):  # fmt: skip
        client.post("/v1/items", json=support.post(text, support.text_part(text)))
    support.drain(settings)
    with transaction(databases.content) as session:
        said = session.scalars(
            select(SignalRow).where(SignalRow.detector == name).order_by(SignalRow.item_id)
        ).all()
        harsh, kind = (one.scores["harassment"] for one in said)
    assert harsh > 0.8
    assert kind < 0.2

    folder = rounds.folder_of(settings.learning, done.id)
    assert done.bundle_id is not None
    assert not (folder / "artifact").exists(), "what has learned from people lies in one place"
    with transaction(databases.content) as session:
        author = erasure.author_of(session, vault, "app", "acct-0")
        erasure.request(session, vault, client="app", author_id=author, cause=Cause.REQUEST,
                        requested_by="client:app", now=now)  # fmt: skip
    erasure.run(databases, vault, blobs, now, 60.0)
    key = bundles.read_key(folder / "labels.bundle.key", done.bundle_id)
    assert len(list(bundles.read(folder / "labels.bundle", key, now))) == 99
    with transaction(databases.content) as session:
        (age,) = model_ages.ageing(session, policy)
        assert (age.name, age.version, age.erased) == (name, version, 1)
    assert load(settings.models / name / version)
    assert model_ages.tend(databases, PolicyCache(), settings.models, age.due_at)
    with transaction(databases.content) as session:
        assert models.alias_of(session, name, "champion") is None, "nothing ships under this name"
    assert not (settings.models / name / version).exists()


def test_too_little_to_fit_ends_the_round_with_what_training_says(
    databases: Databases, vault: Vault, blobs: FolderBlobs, policy: Policy, settings: Settings,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    load = Caseload(databases, vault, blobs, at_once(policy), datetime.now(UTC))
    (case,) = load.waiting(text="Only one.")
    load.give(people.principal(databases, vault, "moderator"), case, REMOVE)
    monkeypatch.setattr("moderation.settings.from_environment", lambda _: settings)
    monkeypatch.setattr("os.nice", lambda _: None)
    assert cli.main(["learn"]) == 1
    said = capsys.readouterr().out
    assert "Nothing came of it: No category has 30 distinct texts" in said
    assert cli.main(["learn", "--status"]) == 0
    assert "ended" in capsys.readouterr().out
