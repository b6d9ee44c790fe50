"""The loop: from labels to a proposal, broken off at any step and gone on with, or to nothing with the reason."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from models.registry import write_manifest
from models.text_heads import WEIGHTS
from moderation import backtesting, bundles, cli, learning, upkeep
from moderation.domain.access import Role
from moderation.domain.erasing import Cause
from moderation.domain.errors import InvalidInput, NotFound
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.governance import erasure, models, promotions
from moderation.governance import learning as rounds
from moderation.governance.learning import State
from moderation.learning import Wanted
from moderation.review import labels
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import (
    AuditEvent,
    Bundle,
    LearningRound,
    ModelProposal,
    ModelRow,
    SignalRow,
)
from moderation.storage.vault import Vault
from tests import artifacts, people
from tests.judging import Floor, at_once

DAY = timedelta(days=1)
TRAINER = "trainer@example.org"


class Crash(BaseException):
    """The process ends here."""


@pytest.fixture(autouse=True)
def _put_back(databases: Databases, settings: Settings) -> Iterator[None]:
    with artifacts.put_back(databases, settings):
        yield
    shutil.rmtree(settings.learning, ignore_errors=True)


@pytest.fixture
def floor(client: TestClient, databases: Databases, vault: Vault, policy: Policy) -> Floor:
    made = Floor(client, databases, vault, at_once(policy))
    people.new_person(databases, vault, Role.TRAINER, email=TRAINER)
    person = made.person()
    for number in range(4):
        item = made.decided(f"post {number}", Route.REVIEW, "hate")
        made.give(person, made.case_of(item), *(("remove", "hate") if number % 2 else ("allow", None)))
    return made


def learn(settings: Settings, **wanted: Any) -> LearningRound:
    told: list[str] = []
    options = {"client": "app", "by": TRAINER} | wanted
    done = learning.run(settings, Wanted(**options), "operator", told.append)
    assert told
    return done


def fitted(folder: Path, bundle: UUID, *, gated: bool = True, clients: tuple[str, ...] = ("app",)) -> Path:
    """What another machine might have made of a bundle."""
    made = artifacts.text_head(folder, "head-app", "1", by=1.0, clients=clients)
    document = json.loads((made / "manifest.json").read_text())
    if not gated:
        document["golden"] = document["golden"][:1]
    return write_manifest(made, {**document, "training": {"bundles": [str(bundle)]}}, (WEIGHTS,)).folder


def counted(floor: Floor, table: Any) -> int:
    with transaction(floor.databases.content) as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_the_bundle_is_fitted_elsewhere_and_what_comes_back_is_proposed_to_a_second_person(
    floor: Floor, settings: Settings, tmp_path: Path
) -> None:
    begun = learn(settings, elsewhere=True)
    assert (begun.state, begun.document["rows"]) == (State.EXPORTED, 4)
    assert begun.bundle_id is not None
    folder = rounds.folder_of(settings.learning, begun.id)
    key = bundles.read_key(folder / "labels.bundle.key", begun.bundle_id)
    assert len(list(bundles.read(folder / "labels.bundle", key, floor.now))) == 4

    done = learn(settings, artifact=fitted(tmp_path, begun.bundle_id))
    assert (done.id, done.state, done.trouble) == (begun.id, State.PROPOSED, None)
    assert (done.name, done.version) == ("head-app", "1")
    assert done.document["back_test"]["items"] == 4
    assert done.document["back_test"]["learned"] == 4, "it has learned from all of them"
    assert done.document["certified"]["proved"] == 0, "four labels prove nothing, and it says so"
    assert all(gate["name"] for gate in done.document["gates"])
    lead = promotions.logged_in(floor.person(Role.LEAD))
    with transaction(floor.databases.content) as session:
        assert models.alias_of(session, "head-app", "shadow") == "1"
        assert session.get_one(ModelRow, ("head-app", "1")).bundles == [begun.bundle_id]
        assert session.scalars(select(SignalRow.detector).where(SignalRow.shadow)).all() == ["head-app:1"] * 4
        proposal = session.scalars(select(ModelProposal)).one()
        assert (proposal.state, proposal.by_operator) == ("open", True)
        actions = session.scalars(
            select(AuditEvent.action).where(AuditEvent.subject == "learning").order_by(AuditEvent.id)
        ).all()
        assert actions == ["learning.started", *(f"learning.{state}" for state in rounds.ORDER[1:])]
        promotions.promote(session, settings.models, lead, "head-app", "1", floor.now)
    assert learn(settings).id != begun.id, "a new round begins"


@pytest.mark.parametrize("state", rounds.ORDER[1:])
def test_broken_off_at_any_step_it_goes_on_where_it_was(
    floor: Floor, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: State
) -> None:
    begun = learn(settings, elsewhere=True)
    assert begun.bundle_id is not None
    artifact = fitted(tmp_path, begun.bundle_id)
    move = rounds.move

    def crash(session: Any, identifier: UUID, to: State, *rest: Any, **found: Any) -> LearningRound:
        made = move(session, identifier, to, *rest, **found)
        if to is state:
            raise Crash
        return made

    with monkeypatch.context() as broken:
        broken.setattr(rounds, "move", crash)
        with pytest.raises(Crash):
            learn(settings, artifact=artifact)
    with transaction(floor.databases.content) as session:
        left = session.get_one(LearningRound, begun.id)
        assert left.state == rounds.ORDER[rounds.ORDER.index(state) - 1], (
            "what was not committed was not done"
        )
    done = learn(settings, artifact=artifact)
    assert (done.id, done.state) == (begun.id, State.PROPOSED)
    assert (counted(floor, ModelProposal), counted(floor, Bundle)) == (1, 1)
    with transaction(floor.databases.content) as session:
        assert len(session.scalars(select(SignalRow.item_id).where(SignalRow.shadow)).all()) == 4


def test_without_a_name_to_propose_in_it_waits_for_one(
    floor: Floor, settings: Settings, tmp_path: Path
) -> None:
    begun = learn(settings, elsewhere=True)
    assert begun.bundle_id is not None
    waits = learn(settings, artifact=fitted(tmp_path, begun.bundle_id), by=None)
    assert waits.state == State.CERTIFIED
    assert counted(floor, ModelProposal) == 0
    assert learn(settings).state == State.PROPOSED


def test_nothing_to_learn_from_is_kept_with_the_reason(floor: Floor, settings: Settings) -> None:
    done = learn(settings, client="other")
    assert (done.state, done.client, done.bundle_id) == (State.ENDED, "other", None)
    assert "no label of this kind" in (done.trouble or "")
    assert counted(floor, Bundle) == 0
    with transaction(floor.databases.content) as session:
        rounds.tidy(session, settings.learning, floor.now)
    assert not list(settings.learning.iterdir())


def test_what_does_not_pass_its_gates_ends_the_round_and_is_not_kept(
    floor: Floor, settings: Settings, tmp_path: Path
) -> None:
    begun = learn(settings, elsewhere=True)
    assert begun.bundle_id is not None
    done = learn(settings, artifact=fitted(tmp_path, begun.bundle_id, gated=False))
    assert done.state == State.ENDED
    assert "may not serve" in (done.trouble or "")
    with transaction(floor.databases.content) as session:
        assert session.get(ModelRow, ("head-app", "1")) is None
        assert models.alias_of(session, "head-app", "shadow") is None


def test_another_artifact_than_that_of_the_round_is_refused_and_the_round_waits_on(
    floor: Floor, settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match="No round waits"):
        learn(settings, artifact=tmp_path)
    begun = learn(settings, elsewhere=True)
    assert begun.bundle_id is not None
    with pytest.raises(InvalidInput, match="not made of the bundle"):
        learn(settings, artifact=fitted(tmp_path / "one", UUID(int=1)))
    with pytest.raises(InvalidInput):
        learn(settings, artifact=tmp_path / "no such folder")
    with pytest.raises(InvalidInput, match="no text head for app"):
        learn(settings, artifact=fitted(tmp_path / "two", begun.bundle_id, clients=("other",)))
    assert learn(settings, elsewhere=True).state == State.EXPORTED
    another = learn(settings, elsewhere=True, anew=True)
    assert (another.id != begun.id, another.state) == (True, State.EXPORTED)
    with transaction(floor.databases.content) as session:
        assert "given up" in (session.get_one(LearningRound, begun.id).trouble or "")


def test_what_was_fitted_in_a_round_that_is_given_up_goes_with_it(floor: Floor, settings: Settings) -> None:
    begun = learn(settings, elsewhere=True)
    made = fitted(rounds.folder_of(settings.learning, begun.id) / rounds.ARTIFACT, UUID(int=1))
    assert made.exists()
    learn(settings, elsewhere=True, anew=True)
    assert not (rounds.folder_of(settings.learning, begun.id) / rounds.ARTIFACT).exists()


def test_a_version_that_is_removed_before_it_is_tried_ends_its_round(
    floor: Floor, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = learn(settings, elsewhere=True)
    assert begun.bundle_id is not None
    crashed = monkeypatch.context()
    with crashed as patched:
        patched.setattr(backtesting, "run", lambda *_: (_ for _ in ()).throw(Crash()))
        with pytest.raises(Crash):
            learn(settings, artifact=fitted(tmp_path, begun.bundle_id))
    with transaction(floor.databases.content) as session:
        models.point(session, "head-app", "shadow", None, floor.now)
        models.remove(session, "head-app", "1", settings.models, "operator", floor.now)
    done = learn(settings)
    assert (done.id, done.state) == (begun.id, State.ENDED)
    assert "no version 1" in (done.trouble or "")


def test_a_round_that_breaks_off_keeps_no_other_from_its_turn_and_waits_an_hour(
    floor: Floor, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = learn(settings, elsewhere=True)
    assert begun.bundle_id is not None
    learn(settings, artifact=fitted(tmp_path, begun.bundle_id), by=None)
    monkeypatch.setattr(learning, "_now", lambda: floor.now + 2 * DAY)
    asked = replace(settings, learn_days=7.0, learn_clients=("app", "other"), learn_by="nobody@example.org")
    with pytest.raises(NotFound, match="e-mail"):
        learning.scheduled(asked, "machine", lambda _: None)
    with transaction(floor.databases.content) as session:
        states = {row.client: row.state for row in session.scalars(select(LearningRound))}
    assert states == {"app": State.CERTIFIED, "other": State.ENDED}
    assert learning.due(asked, floor.databases.content, floor.now + 2 * DAY) == [], "not at every look"
    later = floor.now + 2 * DAY + timedelta(hours=1)
    assert learning.due(asked, floor.databases.content, later) == ["app"]


def test_an_author_who_is_erased_meanwhile_is_not_in_the_bundle_any_more(
    floor: Floor, settings: Settings, tmp_path: Path, blobs: FolderBlobs
) -> None:
    begun = learn(settings, elsewhere=True)
    assert begun.bundle_id is not None
    old = bundles.header_of(rounds.folder_of(settings.learning, begun.id) / "labels.bundle").manifest_sha256
    with transaction(floor.databases.content) as session:
        author = erasure.author_of(session, floor.vault, "app", "author of post 1")
        erasure.request(session, floor.vault, client="app", author_id=author, cause=Cause.REQUEST,
                        requested_by="client:app", now=floor.now)  # fmt: skip
    erasure.run(floor.databases, floor.vault, blobs, floor.now, 60.0)
    folder = rounds.folder_of(settings.learning, begun.id)
    key = bundles.read_key(folder / "labels.bundle.key", begun.bundle_id)
    left = [row["text"] for row in bundles.read(folder / "labels.bundle", key, floor.now)]
    assert "Text of post 1." not in left
    assert len(left) == 3
    made = fitted(tmp_path, begun.bundle_id)
    document = json.loads((made / "manifest.json").read_text())
    document["training"] = {"bundles": [{"id": str(begun.bundle_id), "sha256": old}]}
    assert learn(settings, artifact=write_manifest(made, document, (WEIGHTS,)).folder).state == State.PROPOSED
    with transaction(floor.databases.content) as session:
        row = session.get_one(ModelRow, ("head-app", "1"))
    assert row.erased == 1, "the other machine had read the bundle before"
    assert row.tainted_at is not None


def test_half_of_what_the_audit_drew_stays_to_prove_by(floor: Floor, tmp_path: Path) -> None:
    drawn = [floor.audited(f"drawn {number}") for number in range(8)]
    person = floor.person()
    for item in drawn:
        floor.give(person, floor.case_of(item))
    with transaction(floor.databases.content) as session:
        wanted = labels.Wanted(floor.now - DAY, floor.now + DAY)
        found = {
            one.item_id: one
            for one in labels.labels(session, floor.now, since=wanted.since, until=wanted.until)
        }
        stay = {item for item, label in found.items() if labels.stays_for_proof(label)}
        made = labels.export(session, floor.vault, tmp_path / "b", tmp_path / "b.key",
                             replace(wanted, for_proof=True), "operator", floor.now)  # fmt: skip
    assert stay < set(drawn)
    assert (made.rows, made.for_proof) == (len(found) - len(stay), len(stay))


def test_files_of_a_round_go_with_its_bundle(floor: Floor, settings: Settings) -> None:
    begun = learn(settings, elsewhere=True)
    stray = settings.learning / "019ab000-0000-7000-8000-000000000000"
    stray.mkdir()
    with transaction(floor.databases.content) as session:
        assert rounds.tidy(session, settings.learning, floor.now) == 0
        assert begun.bundle_id is not None
        labels.end(session, begun.bundle_id, "operator", floor.now)
        assert rounds.tidy(session, settings.learning, floor.now + 2 * DAY) == 2
    assert not list(settings.learning.iterdir())
    done = learn(settings)
    assert (done.id, done.state) == (begun.id, State.ENDED)
    assert "bundle ended" in (done.trouble or "")


def test_the_schedule_asks_in_time_and_waits_for_whoever_it_is_up_to(
    floor: Floor, settings: Settings, tmp_path: Path
) -> None:
    now = floor.now

    def due(after: timedelta = timedelta(), client: str | None = "app", *, proposes: bool = True) -> bool:
        with transaction(floor.databases.content) as session:
            return rounds.is_due(session, client, 7, now + after, proposes=proposes)

    assert due()
    begun = learn(settings, elsewhere=True)
    assert begun.bundle_id is not None
    assert not due(30 * DAY), "somebody fits it elsewhere"
    learn(settings, artifact=fitted(tmp_path, begun.bundle_id), by=None)
    assert not due(30 * DAY, proposes=False), "somebody has to propose it"
    assert not due(), "it has just been looked at"
    assert due(2 * DAY), "it broke off"
    learn(settings)
    assert not due(30 * DAY), "nobody has answered the proposal"
    with transaction(floor.databases.content) as session:
        lead = promotions.logged_in(floor.person(Role.LEAD))
        promotions.refuse(session, lead, "head-app", "1", now)
    assert not due(6 * DAY)
    assert due(8 * DAY)
    assert due(client="other")
    asked = replace(settings, learn_days=7.0, learn_clients=("app", "other"))
    assert learning.due(asked, floor.databases.content, now) == ["other"]
    assert learning.due(settings, floor.databases.content, now) == [], "off unless somebody sets it"


def test_the_relay_has_the_schedule_done_in_a_process_of_its_own(
    databases: Databases, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replace(settings, learn_days=7.0, learn_clients=("app",))
    told = {"DATABASE_URL": settings.database_url, "KEYSTORE_URL": settings.keystore_url, "INSECURE_DEV": "1",
            "REDIS_URL": settings.redis_url, "BLOB_DIR": str(settings.blob_dir), "LEARN_DAYS": "7",
            "KEK": base64.b64encode(settings.kek.keys[1]).decode(), "LEARN_CLIENTS": "app"}  # fmt: skip
    for name, value in told.items():
        monkeypatch.setenv(f"MODERATION_{name}", value.replace("+psycopg", ""))
    with upkeep.opened(settings) as held:
        upkeep._learn(held)
        assert held.learning is None, "off unless somebody sets it"
    with upkeep.opened(asked) as held:
        upkeep._learn(held)
        assert held.learning is not None
        process = held.learning
        assert process.wait(120) == 1, "there is nothing to learn from"
        upkeep._learn(held)
        assert held.learning is None, "not due again"
        monkeypatch.setattr(rounds, "is_due", lambda *_, **__: True)
        upkeep._learn(held)
        assert held.learning is None, "what came to nothing is not begun again at every look"
        with transaction(databases.content) as session:
            (row,) = session.scalars(select(LearningRound))
        assert (row.client, row.state, row.started_by) == ("app", State.ENDED, "machine")


def test_the_command_line_and_its_list_of_rounds(
    floor: Floor, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("moderation.settings.from_environment", lambda _: settings)
    assert cli.main(["learn", "--status"]) == 0
    assert "No round" in capsys.readouterr().out
    assert cli.main(["learn", "--client", "app", "--elsewhere"]) == 0
    said = capsys.readouterr().out
    assert "4 labels sealed" in said
    assert "python -m training text-head --data labels.bundle" in said
    assert "moderation learn --client app --artifact artifact" in said
    assert cli.main(["learn", "--client", "nobody"]) == 1
    assert "Nothing came of it" in capsys.readouterr().out
    assert cli.main(["learn", "--status"]) == 0
    said = capsys.readouterr().out
    assert "exported" in said
    assert "no label of this kind" in said
