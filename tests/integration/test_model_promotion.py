"""Two people decide what serves and one may go back; versions are added whole; a release replaces its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from models import registry
from models.registry import KINDS, MANIFEST, ArtifactError, load, shipped
from moderation import administration, cli, setup
from moderation.domain.access import Role
from moderation.domain.errors import Conflict, Forbidden, NotFound, Refusal
from moderation.governance import model_lists, models, promotions
from moderation.governance.models import CHAMPION, PREVIOUS, Origin
from moderation.governance.promotions import By
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import AuditEvent, ModelProposal, ModelRow
from moderation.storage.vault import Vault
from tests import artifacts, people

NAME = "text-minilm"
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _put_back(databases: Databases, settings: Settings) -> Iterator[None]:
    with artifacts.put_back(databases, settings):
        yield


@pytest.fixture
def trainer(databases: Databases, vault: Vault) -> By:
    return promotions.logged_in(people.principal(databases, vault, Role.TRAINER))


@pytest.fixture
def promoter(databases: Databases, vault: Vault) -> By:
    return promotions.logged_in(people.principal(databases, vault, Role.LEAD))


@pytest.fixture
def both(databases: Databases, vault: Vault) -> By:
    """Somebody who may propose and promote."""
    return promotions.logged_in(people.principal(databases, vault, Role.ADMIN))


def add(databases: Databases, settings: Settings, folder: Path) -> models.Added:
    with transaction(databases.content) as session:
        return models.add(session, folder, settings.models, "operator", NOW)


def propose(databases: Databases, settings: Settings, by: By, version: str) -> None:
    with transaction(databases.content) as session:
        promotions.propose(session, settings.models, by, NAME, version, NOW)


def promote(databases: Databases, settings: Settings, by: By, version: str) -> str | None:
    with transaction(databases.content) as session:
        return promotions.promote(session, settings.models, by, NAME, version, NOW)


def propose_open(databases: Databases, by: By, version: str) -> None:
    """A proposal as it stands in the database, whatever serves."""
    with transaction(databases.content) as session:
        session.add(
            ModelProposal(id=new_id(NOW), name=NAME, version=version, alias=CHAMPION, gates=[],
                          proposed_by=by.person_id, proposed_at=NOW, by_operator=False, state=promotions.OPEN)
        )  # fmt: skip


def alias(databases: Databases, name: str) -> str | None:
    with transaction(databases.content) as session:
        return models.alias_of(session, NAME, name)


def actions(databases: Databases) -> list[str]:
    with transaction(databases.content) as session:
        return sorted(session.scalars(select(AuditEvent.action).where(AuditEvent.subject == "model")))


def test_a_version_is_copied_whole_and_serves_nobody(
    databases: Databases, settings: Settings, tmp_path: Path
) -> None:
    before = alias(databases, CHAMPION)
    folder = artifacts.passing(tmp_path, "7.0")
    added = add(databases, settings, folder)
    assert added.fresh
    assert added.manifest.folder == settings.models / NAME / "7.0"
    assert load(settings.models / NAME / "7.0").sha256 == load(folder).sha256
    assert alias(databases, CHAMPION) == before
    again = add(databases, settings, folder)
    assert not again.fresh
    assert actions(databases) == ["model.added"]
    assert not list((settings.models / NAME).glob(".adding-*"))


def test_another_content_under_a_version_that_is_taken_is_refused(
    databases: Databases, settings: Settings, tmp_path: Path
) -> None:
    add(databases, settings, artifacts.passing(tmp_path / "one", "7.0"))
    other = artifacts.passing(tmp_path / "other", "7.0", note="another")
    with pytest.raises(Conflict, match="one of its own"):
        add(databases, settings, other)


def test_what_a_broken_off_command_left_is_replaced(
    databases: Databases, settings: Settings, tmp_path: Path
) -> None:
    left = artifacts.passing(settings.models, "7.0", note="left behind")
    assert load(left)
    folder = artifacts.passing(tmp_path, "7.0")
    assert add(databases, settings, folder).manifest.sha256 == load(folder).sha256


def test_a_damaged_artifact_is_not_added(databases: Databases, settings: Settings, tmp_path: Path) -> None:
    torn = artifacts.passing(tmp_path / "torn", "7.0")
    data = (torn / "model.onnx").read_bytes()
    artifacts.replace_file(torn, "model.onnx", data[: len(data) // 2])
    with pytest.raises(ArtifactError, match="SHA-256"):
        add(databases, settings, torn)
    # Its hashes fit and it is no model.
    with pytest.raises(ArtifactError, match="does not load"):
        add(databases, settings, artifacts.signed_again(torn))
    golden = [
        entry | {"scores": dict.fromkeys(entry["scores"], 0.5)} for entry in artifacts.champion().golden
    ]
    with pytest.raises(ArtifactError, match="golden"):
        add(databases, settings, artifacts.passing(tmp_path / "lying", "7.1", golden=golden))
    no_golden = artifacts.passing(tmp_path / "silent", "7.2", gates={}, golden=[])
    with pytest.raises(ArtifactError, match="golden"):
        add(databases, settings, no_golden)
    escaping = artifacts.passing(tmp_path / "escaping", "7.3")
    document = json.loads((escaping / MANIFEST).read_text())
    document["files"]["../outside"] = "0" * 64
    (escaping / MANIFEST).write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match="malformed"):
        add(databases, settings, escaping)
    assert actions(databases) == []
    assert not (settings.models / NAME).exists() or not list((settings.models / NAME).iterdir())


def test_two_people_have_a_version_serve(
    databases: Databases, settings: Settings, tmp_path: Path, trainer: By, promoter: By
) -> None:
    shipped_version = alias(databases, CHAMPION)
    add(databases, settings, artifacts.passing(tmp_path, "7.0"))
    with pytest.raises(Conflict, match="Nobody has proposed"):
        promote(databases, settings, promoter, "7.0")
    with pytest.raises(Forbidden, match="model:propose"):
        propose(databases, settings, promoter, "7.0")
    propose(databases, settings, trainer, "7.0")
    with pytest.raises(Conflict, match="proposed already"):
        propose(databases, settings, trainer, "7.0")
    with pytest.raises(Forbidden, match="model:promote"):
        promote(databases, settings, trainer, "7.0")
    assert promote(databases, settings, promoter, "7.0") == shipped_version
    assert (alias(databases, CHAMPION), alias(databases, PREVIOUS)) == ("7.0", shipped_version)
    with pytest.raises(Conflict, match="serves already"):
        propose(databases, settings, trainer, "7.0")
    assert actions(databases) == ["model.added", "model.promoted", "model.proposed"]


def test_nobody_promotes_what_they_proposed(
    databases: Databases, settings: Settings, tmp_path: Path, both: By, promoter: By
) -> None:
    add(databases, settings, artifacts.passing(tmp_path, "7.0"))
    propose(databases, settings, both, "7.0")
    with pytest.raises(Forbidden, match="somebody else"):
        promote(databases, settings, both, "7.0")
    with transaction(databases.content) as session:
        promotions.refuse(session, both, NAME, "7.0", NOW)  # one's own may be taken back
    with pytest.raises(Conflict, match="Nobody has proposed"):
        promote(databases, settings, promoter, "7.0")


def test_the_command_line_is_one_person_whatever_names_it_gives(
    databases: Databases, settings: Settings, vault: Vault, tmp_path: Path, promoter: By
) -> None:
    add(databases, settings, artifacts.passing(tmp_path, "7.0"))
    for address, role in (("ann@example.org", Role.TRAINER), ("bob@example.org", Role.LEAD)):
        people.new_person(databases, vault, role, email=address)
    with transaction(databases.content) as session:
        ann, bob = (promotions.named(session, vault, f"{name}@example.org") for name in ("ann", "bob"))
        with pytest.raises(NotFound, match="Nobody who works here"):
            promotions.named(session, vault, "eve@example.org")
    propose(databases, settings, ann, "7.0")
    with pytest.raises(Forbidden, match="command line"):
        promote(databases, settings, bob, "7.0")
    promote(databases, settings, promoter, "7.0")
    with transaction(databases.content) as session:
        event = session.scalars(select(AuditEvent).where(AuditEvent.action == "model.proposed")).one()
        assert event.actor == "operator"
        assert event.details["by"] == str(ann.person_id)


def test_without_gate_results_nothing_is_promoted(
    databases: Databases, settings: Settings, tmp_path: Path, trainer: By
) -> None:
    added = add(databases, settings, artifacts.passing(tmp_path, "7.0", gates=None))
    assert [gate.name for gate in added.gates if not gate.passed] == ["results"]
    with pytest.raises(Conflict, match="python -m training"):
        propose(databases, settings, trainer, "7.0")


def test_files_that_changed_after_the_proposal_are_not_promoted(
    databases: Databases, settings: Settings, tmp_path: Path, trainer: By, promoter: By
) -> None:
    before = alias(databases, CHAMPION)
    folder = add(databases, settings, artifacts.passing(tmp_path, "7.0")).manifest.folder
    propose(databases, settings, trainer, "7.0")
    artifacts.replace_file(folder, "tokenizer.json", b"{}")
    with pytest.raises(ArtifactError, match="SHA-256"):
        promote(databases, settings, promoter, "7.0")
    # Hashes that fit again make another manifest than the one that was added.
    artifacts.signed_again(folder)
    with pytest.raises(ArtifactError, match="not the one that was added"):
        promote(databases, settings, promoter, "7.0")
    assert alias(databases, CHAMPION) == before


def test_one_person_goes_back_and_two_come_forward(
    databases: Databases, settings: Settings, tmp_path: Path, trainer: By, promoter: By
) -> None:
    before = alias(databases, CHAMPION)
    with transaction(databases.content) as session, pytest.raises(Conflict, match="nothing to go back to"):
        promotions.rollback(session, settings.models, promoter, NAME, NOW)
    add(databases, settings, artifacts.passing(tmp_path, "7.0"))
    propose(databases, settings, trainer, "7.0")
    promote(databases, settings, promoter, "7.0")
    with transaction(databases.content) as session, pytest.raises(Forbidden):
        promotions.rollback(session, settings.models, trainer, NAME, NOW)
    with transaction(databases.content) as session:
        assert promotions.rollback(session, settings.models, promoter, NAME, NOW) == ("7.0", before)
    assert (alias(databases, CHAMPION), alias(databases, PREVIOUS)) == (before, None)
    with pytest.raises(Conflict, match="Nobody has proposed"):
        promote(databases, settings, promoter, "7.0")
    with transaction(databases.content) as session:
        event = session.scalars(select(AuditEvent).where(AuditEvent.action == "model.rolled_back")).one()
        assert event.details == {"from": "7.0", "to": before}


def test_the_database_itself_wants_two_people(
    databases: Databases, settings: Settings, tmp_path: Path, trainer: By
) -> None:
    add(databases, settings, artifacts.passing(tmp_path, "7.0"))
    propose(databases, settings, trainer, "7.0")
    alone = update(ModelProposal).values(state="promoted", decided_by=trainer.person_id, decided_at=NOW)
    with pytest.raises(IntegrityError, match="four_eyes"), transaction(databases.content) as session:
        session.execute(alone)


def test_only_what_never_served_is_removed(
    databases: Databases, settings: Settings, tmp_path: Path, trainer: By
) -> None:
    def remove(version: str) -> None:
        with administration.opened(settings) as held:
            models.remove(held.session, NAME, version, settings.models, "operator", NOW)

    with pytest.raises(Conflict, match="shipped"):
        remove(alias(databases, CHAMPION) or "")
    with pytest.raises(NotFound):
        remove("7.0")
    add(databases, settings, artifacts.passing(tmp_path, "7.0"))
    propose(databases, settings, trainer, "7.0")
    with pytest.raises(Conflict, match="proposed"):
        remove("7.0")
    with transaction(databases.content) as session:
        promotions.refuse(session, trainer, NAME, "7.0", NOW)
    remove("7.0")
    with transaction(databases.content) as session:
        assert session.get(ModelRow, (NAME, "7.0")) is None


def pretend_an_earlier_release(databases: Databases) -> None:
    """The champion as an earlier release shipped it, which the one that runs now does not ship any more."""
    with transaction(databases.content) as session:
        session.add(
            ModelRow(name=NAME, version="0.9", kind="text", manifest_sha256="0" * 64, folder=f"{NAME}/0.9",
                     added_at=NOW)
        )  # fmt: skip
        models.point(session, NAME, CHAMPION, "0.9", NOW)


def test_a_champion_that_ships_no_more_gives_way_to_the_one_that_does(
    databases: Databases, settings: Settings
) -> None:
    ships = artifacts.champion().version
    pretend_an_earlier_release(databases)
    setup.prepare(settings)
    assert (alias(databases, CHAMPION), alias(databases, PREVIOUS)) == (ships, None)
    with transaction(databases.content) as session:
        event = session.scalars(select(AuditEvent).where(AuditEvent.action == "model.replaced")).one()
        assert event.details == {"from": "0.9", "to": ships, "because": "shipped_instead"}
    setup.prepare(settings)
    assert actions(databases).count("model.replaced") == 1


def test_a_model_whose_name_ships_no_more_is_taken_out_and_its_successor_serves(
    databases: Databases, settings: Settings
) -> None:
    with transaction(databases.content) as session:
        session.add(
            ModelRow(name="image-open-nsfw", version="1", kind="image", manifest_sha256="0" * 64,
                     folder="image-open-nsfw/1", added_at=NOW)
        )  # fmt: skip
        models.point(session, "image-open-nsfw", CHAMPION, "1", NOW)
        models.point(session, "image-nsfw", CHAMPION, None, NOW)
    setup.prepare(settings)
    with transaction(databases.content) as session:
        serving = [one.name for one in models.wanted(session, settings.models, ("image",))]
        event = session.scalars(select(AuditEvent).where(AuditEvent.action == "model.replaced")).one()
        assert serving == ["image-nsfw"]
        assert (event.subject_id, event.details["to"]) == ("image-open-nsfw", None)
        # Decisions name it: it stays known.
        assert session.get(ModelRow, ("image-open-nsfw", "1")) is not None


def test_a_version_promoted_here_stays_through_an_upgrade_while_its_files_do(
    databases: Databases, settings: Settings, tmp_path: Path, trainer: By, promoter: By
) -> None:
    pretend_an_earlier_release(databases)
    folder = add(databases, settings, artifacts.passing(tmp_path, "7.0")).manifest.folder
    propose(databases, settings, trainer, "7.0")
    promote(databases, settings, promoter, "7.0")
    setup.prepare(settings)
    assert (alias(databases, CHAMPION), alias(databases, PREVIOUS)) == ("7.0", None)
    # Lost with a disk, for example: the shipped one serves, and the way back is kept.
    hidden = folder.rename(folder.with_name("elsewhere"))
    setup.prepare(settings)
    assert (alias(databases, CHAMPION), alias(databases, PREVIOUS)) == (artifacts.champion().version, "7.0")
    with transaction(databases.content) as session, pytest.raises(ArtifactError):
        promotions.rollback(session, settings.models, promoter, NAME, NOW)
    hidden.rename(folder)
    with transaction(databases.content) as session:
        assert promotions.rollback(session, settings.models, promoter, NAME, NOW)[1] == "7.0"


def test_what_serves_already_is_not_promoted_over_itself(
    databases: Databases, settings: Settings, tmp_path: Path, trainer: By, promoter: By
) -> None:
    add(databases, settings, artifacts.passing(tmp_path, "7.0"))
    # As it stands when somebody proposes what served before, and somebody else goes back meanwhile.
    with transaction(databases.content) as session:
        models.point(session, NAME, CHAMPION, "7.0", NOW)
    propose_open(databases, trainer, "7.0")
    with pytest.raises(Conflict, match="serves already"):
        promote(databases, settings, promoter, "7.0")
    assert alias(databases, PREVIOUS) != "7.0"


def test_lost_files_come_back_from_the_folder_they_were_added_from(
    databases: Databases, settings: Settings, tmp_path: Path
) -> None:
    made = artifacts.passing(tmp_path, "7.0")
    folder = add(databases, settings, made).manifest.folder
    shutil.rmtree(folder)
    assert not add(databases, settings, made).fresh
    assert load(folder).sha256 == load(made).sha256
    artifacts.replace_file(folder, "tokenizer.json", b"{}")
    add(databases, settings, made)
    assert load(folder).sha256 == load(made).sha256
    assert actions(databases) == ["model.added"]


def test_a_version_is_not_removed_while_somebody_proposes_it(
    databases: Databases, settings: Settings, tmp_path: Path, trainer: By
) -> None:
    add(databases, settings, artifacts.passing(tmp_path, "7.0"))
    with transaction(databases.content) as one, Session(databases.content) as other:
        promotions.propose(one, settings.models, trainer, NAME, "7.0", NOW)
        other.execute(text("SET LOCAL lock_timeout = '50ms'"))
        with pytest.raises(OperationalError, match="lock timeout"):
            models.remove(other, NAME, "7.0", settings.models, "operator", NOW)


def test_a_name_is_for_one_kind(databases: Databases, settings: Settings, tmp_path: Path) -> None:
    picture = artifacts.another(tmp_path, "7.0", of=artifacts.champion("image"), name=NAME)
    with pytest.raises(Conflict, match="name of its own"):
        add(databases, settings, picture)


def test_the_files_of_a_removed_version_are_gone_before_its_number_is_free(
    databases: Databases, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_settings", lambda options: settings)
    folder = add(databases, settings, artifacts.passing(tmp_path, "7.0")).manifest.folder
    removed = registry.remove

    def watched(gone: Path) -> None:
        with transaction(databases.content) as session:
            assert session.get(ModelRow, (NAME, "7.0")) is not None
        removed(gone)

    monkeypatch.setattr(registry, "remove", watched)
    assert cli.main(("models", "remove", NAME, "7.0")) == 0
    assert not folder.exists()


def test_a_number_that_the_release_takes_is_the_releases_where_files_are_lost(
    databases: Databases, settings: Settings
) -> None:
    ships = artifacts.champion().version
    with transaction(databases.content) as session:
        # What was added and promoted here before the release took its number; restored without its files.
        session.execute(
            update(ModelRow)
            .where(ModelRow.name == NAME, ModelRow.version == ships)
            .values(origin=Origin.OWN, manifest_sha256="0" * 64)
        )
    setup.prepare(settings)
    with transaction(databases.content) as session:
        [serving] = models.wanted(session, settings.models, ("text",))
        added = session.scalars(select(AuditEvent).where(AuditEvent.action == "model.added")).one()
        assert added.details["instead_of"] == "0" * 64
    assert load(serving.folder).sha256 == serving.sha256


def test_every_shipped_artifact_is_known_and_serves(databases: Databases, settings: Settings) -> None:
    with transaction(databases.content) as session:
        champions = {(one.name, one.version) for one in models.wanted(session, settings.models)}
        rows = session.scalar(
            select(func.count()).select_from(ModelRow).where(ModelRow.origin == Origin.SHIPPED)
        )
    assert champions == {
        (manifest.name, manifest.version) for manifest in shipped() if manifest.kind in KINDS
    }
    assert rows == len(champions)


def test_the_list_says_what_is_wrong_with_a_version(
    databases: Databases, settings: Settings, tmp_path: Path
) -> None:
    folder = add(databases, settings, artifacts.passing(tmp_path, "7.0")).manifest.folder
    (folder / MANIFEST).unlink()
    with transaction(databases.content) as session:
        found = {(one.name, one.version): one for one in model_lists.listing(session, settings.models)}
        lost = found[(NAME, "7.0")]
        assert "not here any more" in lost.damage
        assert model_lists.card(lost)
        serving = model_lists.one(session, settings.models, NAME)
        assert serving.serves
        assert {row.name for row in serving.categories} >= {"toxicity", "hate"}
        with pytest.raises(Refusal):
            model_lists.one(session, settings.models, NAME, "nine")


def test_odd_numbers_in_a_manifest_break_no_list(
    databases: Databases, settings: Settings, tmp_path: Path
) -> None:
    odd = {"lyrics": {"positives": "many", "labelled": 1e400, "auc": [1, 2]}}
    metrics = artifacts.champion().document["metrics"]
    held_out = {**metrics["held_out"], **odd}
    add(databases, settings, artifacts.passing(tmp_path, "7.0", metrics={**metrics, "held_out": held_out}))
    with transaction(databases.content) as session:
        found = model_lists.one(session, settings.models, NAME, "7.0").categories
    assert [(row.positives, row.labelled, row.auc) for row in found if row.name == "lyrics"] == [(0, 0, None)]


def test_the_commands(
    databases: Databases,
    settings: Settings,
    vault: Vault,
    tmp_path: Path,
    trainer: By,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli, "_settings", lambda options: settings)
    people.new_person(databases, vault, Role.LEAD, email="bob@example.org")

    def moderation(*words: str) -> tuple[int, str]:
        status = cli.main(("models", *words))
        said = capsys.readouterr()
        return status, said.out + said.err

    folder = artifacts.passing(tmp_path, "7.0")
    assert moderation("add", str(folder))[0] == 0
    assert "here already" in moderation("add", str(folder))[1]
    assert "7.0" in moderation("list")[1]
    status, said = moderation("promote", NAME, "7.0", "--by", "bob@example.org")
    assert (status, "Nobody has proposed" in said) == (2, True)
    propose(databases, settings, trainer, "7.0")
    status, said = moderation("promote", NAME, "7.0", "--by", "bob@example.org")
    assert status == 0, said
    assert "rollback" in said
    status, said = moderation("show", NAME)
    assert (status, f"{NAME} 7.0" in said, "AUC" in said) == (0, True, True), said
    status, said = moderation("rollback", NAME, "--by", "bob@example.org")
    assert (status, "one person" in said) == (0, True)
    assert moderation("remove", NAME, "7.0")[0] == 2
