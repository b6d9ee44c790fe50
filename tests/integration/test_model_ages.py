"""Erased after training: the bundle is written again, the model is marked, and its time is up by the clock."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select, update

from models.registry import MANIFEST, load
from moderation import bundles, cli, doctor
from moderation.domain.access import Role
from moderation.domain.erasing import Cause
from moderation.domain.errors import Conflict
from moderation.domain.policy import Policy
from moderation.domain.subjects import Right
from moderation.governance import erasure, model_ages, models, promotions, restriction
from moderation.governance.erasing import trained
from moderation.governance.models import CHAMPION, PREVIOUS
from moderation.governance.policies import PolicyCache
from moderation.governance.rights import untrain
from moderation.governance.sessions import PersonPrincipal
from moderation.review import labels
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, Author, BundleItem, Item, ModelRow
from moderation.storage.vault import Vault
from tests import artifacts, people
from tests.caseload import Caseload
from tests.support import count

DAY = timedelta(days=1)
NAME = "text-minilm"


@pytest.fixture(autouse=True)
def _put_back(databases: Databases, settings: Settings) -> Iterator[None]:
    with artifacts.put_back(databases, settings):
        yield


@dataclass(slots=True)
class Place:
    """An installation on which two people's posts were judged, and a model learns from them."""

    load: Caseload
    settings: Settings
    folder: Path

    @property
    def databases(self) -> Databases:
        return self.load.databases

    def exported(self, name: str = "b") -> labels.Exported:
        wanted = labels.Wanted(self.load.now - 30 * DAY, self.load.now + DAY)
        path = self.folder / name
        with transaction(self.databases.content) as session:
            return labels.export(session, self.load.vault, path, path.with_name(f"{name}.key"), wanted,
                                 "operator", self.load.now)  # fmt: skip

    def learned(self, version: str, *read: object, name: str = NAME) -> None:
        """A version that learned from bundles, added."""
        folder = artifacts.passing(
            self.folder / version, version, name=name, training={"bundles": list(read)}
        )
        with transaction(self.databases.content) as session:
            models.add(session, folder, self.settings.models, "operator", self.load.now)

    def serve(self, version: str, name: str = NAME) -> None:
        """Promoted by two."""
        one, other = (
            promotions.logged_in(people.principal(self.databases, self.load.vault, role))
            for role in (Role.TRAINER, Role.LEAD)
        )
        with transaction(self.databases.content) as session:
            promotions.propose(session, self.settings.models, one, name, version, self.load.now)
            promotions.promote(session, self.settings.models, other, name, version, self.load.now)

    def author(self, reference: str) -> UUID:
        with transaction(self.databases.content) as session:
            return erasure.author_of(session, self.load.vault, "app", reference)

    def erase(self, reference: str, blobs: FolderBlobs) -> None:
        author = self.author(reference)
        with transaction(self.databases.content) as session:
            erasure.request(session, self.load.vault, client="app", author_id=author, cause=Cause.REQUEST,
                            requested_by="client:app", now=self.load.now)  # fmt: skip
        erasure.run(self.databases, self.load.vault, blobs, self.load.now, 60.0)

    def row(self, version: str, name: str = NAME) -> ModelRow:
        with transaction(self.databases.content) as session:
            return session.get_one(ModelRow, (name, version))

    def alias(self, alias: str = CHAMPION, name: str = NAME) -> str | None:
        with transaction(self.databases.content) as session:
            return models.alias_of(session, name, alias)

    def tend(self, at: datetime) -> list[model_ages.Retired]:
        return model_ages.tend(self.databases, PolicyCache(), self.settings.models, at)


@pytest.fixture
def place(load: Caseload, settings: Settings, ann: PersonPrincipal, tmp_path: Path) -> Place:
    for author, text in (("acct-1", "One mild text."), ("acct-2", "Another.")):
        for case in load.waiting(author=author, text=text):
            load.give(ann, case)
    load.now += DAY
    return Place(load, settings, tmp_path)


def test_erased_after_training_the_bundle_is_rewritten_the_model_marked_and_retired_in_time(
    place: Place, blobs: FolderBlobs, policy: Policy
) -> None:
    made, shipped = place.exported(), place.alias()
    place.learned(
        "8.0", {"id": str(made.id), "sha256": bundles.header_of(place.folder / "b").manifest_sha256}
    )
    place.serve("8.0")
    assert place.row("8.0").bundles == [made.id]
    assert place.row("8.0").tainted_at is None

    place.erase("acct-1", blobs)
    key = bundles.read_key(place.folder / "b.key", made.id)
    left = [one["text"] for one in bundles.read(place.folder / "b", key, place.load.now)]
    assert left == ["Another."]
    marked, days = place.row("8.0"), policy.retention.models_days
    assert (marked.erased, marked.tainted_at) == (1, place.load.now)
    with transaction(place.databases.content) as session:
        (age,) = model_ages.ageing(session, policy)
        event = session.scalars(select(AuditEvent).where(AuditEvent.action == "model.erased_from")).one()
    assert (age.version, age.due_at, age.aliases) == ("8.0", place.load.now + days * DAY, ("champion",))
    assert event.details == {"version": "8.0", "rows": 1, "bundle": str(made.id)}

    due = place.load.now + days * DAY
    assert place.tend(due - timedelta(seconds=1)) == []
    assert place.alias() == "8.0"
    (retired,) = place.tend(due)
    assert (retired.version, retired.aliases, retired.champion) == ("8.0", ("champion",), shipped)
    assert (place.alias(), place.alias(PREVIOUS)) == (shipped, None)
    assert place.row("8.0").retired_at == due
    assert not (place.settings.models / NAME / "8.0").exists()
    assert place.tend(due + DAY) == [], "once"
    with transaction(place.databases.content) as session:
        event = session.scalars(select(AuditEvent).where(AuditEvent.action == "model.retired")).one()
    assert event.details == {"version": "8.0", "erased": 1, "served_as": ["champion"], "champion": shipped}


def test_what_is_retired_never_serves_again(place: Place, blobs: FolderBlobs, policy: Policy) -> None:
    made = place.exported()
    place.learned("8.0", str(made.id))
    place.serve("8.0")
    place.erase("acct-1", blobs)
    place.tend(place.load.now + 181 * DAY)
    with pytest.raises(Conflict, match="was retired"):
        place.serve("8.0")
    with transaction(place.databases.content) as session, pytest.raises(Conflict, match="was retired"):
        models.add(
            session, place.folder / "8.0" / NAME / "8.0", place.settings.models, "operator", place.load.now
        )


def test_the_version_before_serves_again_unless_its_time_is_over_too(
    place: Place, blobs: FolderBlobs
) -> None:
    made, shipped = place.exported(), place.alias()
    place.learned("8.0")
    place.serve("8.0")
    place.learned("8.1", str(made.id))
    place.serve("8.1")
    place.erase("acct-1", blobs)
    (retired,) = place.tend(place.load.now + 180 * DAY)
    assert (retired.champion, place.alias(), place.alias(PREVIOUS)) == ("8.0", "8.0", None)
    with transaction(place.databases.content) as session:
        session.execute(
            update(ModelRow)
            .where(ModelRow.version.in_(["8.0", "8.1"]))
            .values(retired_at=None, tainted_at=place.load.now)
        )
        models.point(session, NAME, CHAMPION, "8.1", place.load.now)
        models.point(session, NAME, PREVIOUS, "8.0", place.load.now)
    assert {one.version for one in place.tend(place.load.now + 180 * DAY)} == {"8.0", "8.1"}
    assert (place.alias(), place.alias(PREVIOUS)) == (shipped, None)


def test_where_nothing_ships_under_the_name_it_stops_serving(place: Place, blobs: FolderBlobs) -> None:
    made = place.exported()
    place.learned("1", str(made.id), name="text-own")
    place.serve("1", "text-own")
    place.erase("acct-1", blobs)
    (retired,) = place.tend(place.load.now + 180 * DAY)
    assert (retired.name, retired.champion) == ("text-own", None)
    assert place.alias(name="text-own") is None
    assert place.alias() is not None, "other names are left alone"


def test_what_only_came_to_its_end_marks_nothing_and_what_somebody_deleted_does(
    place: Place, vault: Vault, blobs: FolderBlobs, policy: Policy
) -> None:
    made = place.exported()
    place.learned("8.0", str(made.id))
    one, other = place.author("acct-1"), place.author("acct-2")
    with transaction(place.databases.content) as session:
        session.execute(update(Item).where(Item.author_id == one).values(expires_at=place.load.now))
    erasure.sweep(place.databases, vault, blobs, place.load.now)
    (cleaned,) = trained.clean(place.databases, vault, place.load.now)
    assert (cleaned.rows, cleaned.rewritten, cleaned.withdrawn) == (1, True, 0)
    assert place.row("8.0").tainted_at is None
    with transaction(place.databases.content) as session:
        items = session.scalars(select(Item).where(Item.author_id == other).with_for_update()).all()
        erasure.mark_deleted(session, items, policy.retention, "client:app", place.load.now)
    trained.clean(place.databases, vault, place.load.now)
    assert place.row("8.0").erased == 1


def test_whoever_objects_marks_what_has_learned_from_them(place: Place, vault: Vault) -> None:
    made = place.exported()
    place.learned("8.0", str(made.id))
    with transaction(place.databases.content) as session:
        author = session.get_one(Author, place.author("acct-2"))
        restriction.restrict(session, author, Right.OBJECT, "client:app", place.load.now)
    assert untrain(place.databases, vault, place.load.now) == 1
    assert (place.row("8.0").erased, place.row("8.0").tainted_at) == (1, place.load.now)


@pytest.mark.parametrize("fresh", [False, True], ids=["from the old copy", "from what was written again"])
def test_added_after_the_erasure_it_is_marked_if_it_learned_from_what_was_erased(
    place: Place, blobs: FolderBlobs, fresh: bool
) -> None:
    made = place.exported()
    before = bundles.header_of(place.folder / "b").manifest_sha256
    place.erase("acct-1", blobs)
    after = bundles.header_of(place.folder / "b").manifest_sha256
    assert before != after
    place.learned("8.0", {"id": str(made.id), "sha256": after if fresh else before})
    assert place.row("8.0").erased == (0 if fresh else 1)


def test_who_adds_a_version_later_or_again_gains_no_time(place: Place, blobs: FolderBlobs) -> None:
    made, erased_at = place.exported(), place.load.now
    place.erase("acct-1", blobs)
    place.load.now += 100 * DAY
    place.learned("8.0", str(made.id))
    assert place.row("8.0").tainted_at == erased_at
    due = erased_at + 180 * DAY
    assert [one.version for one in place.tend(due)] == ["8.0"]
    with transaction(place.databases.content) as session:
        models.remove(session, NAME, "8.0", place.settings.models, "operator", due)
    place.load.now = due
    with transaction(place.databases.content) as session:
        models.add(session, place.folder / "8.0" / NAME / "8.0", place.settings.models, "operator", due)
    assert place.row("8.0").tainted_at == erased_at
    assert [one.version for one in place.tend(due)] == ["8.0"], "removed and added again it is retired again"


def test_what_learned_from_a_bundle_that_is_forgotten_is_not_added(place: Place) -> None:
    made = place.exported()
    with transaction(place.databases.content) as session:
        labels.end(session, made.id, "operator", place.load.now)
    with pytest.raises(Conflict, match="no erasure could mark it"):
        place.learned("8.0", str(made.id))
    assert not (place.settings.models / NAME / "8.0").exists()


def test_of_a_bundle_that_ended_its_rows_are_known_while_a_model_of_it_is_left(
    place: Place, blobs: FolderBlobs
) -> None:
    unused, made = place.exported("a"), place.exported()
    place.learned("8.0", str(made.id))
    with transaction(place.databases.content) as session:
        for one in (unused, made):
            labels.end(session, one.id, "operator", place.load.now)
        assert {one.bundle_id for one in session.scalars(select(BundleItem))} == {made.id}
    place.erase("acct-1", blobs)
    assert place.row("8.0").erased == 1
    place.tend(place.load.now + 180 * DAY)
    assert count(place.databases.content, "bundle_items") == 0


def test_doctor_and_the_list_say_when_a_model_will_be_retired(
    place: Place, blobs: FolderBlobs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = place.exported()
    place.learned("8.0", str(made.id))
    place.serve("8.0")
    place.erase("acct-1", blobs)
    day = place.load.now + 180 * DAY
    with pytest.raises(doctor.Trouble, match=f"{day:%Y-%m-%d}") as told:
        doctor._ages(place.settings, {})
    assert told.value.state is doctor.State.WARNING
    assert "8.0" in told.value.found
    monkeypatch.setattr("moderation.settings.from_environment", lambda _: place.settings)
    assert cli.main(["models", "list"]) == 0
    assert f"is retired on {day:%Y-%m-%d}: 1 of its posts erased since" in capsys.readouterr().out
    place.tend(day)
    assert cli.main(["models", "list"]) == 0
    assert f"retired on {day:%Y-%m-%d}" in capsys.readouterr().out
    assert "none learned" in doctor._ages(place.settings, {})


def test_a_manifest_that_names_no_proper_bundle_is_refused(place: Place) -> None:
    from models.registry import ArtifactError

    with pytest.raises(ArtifactError, match="which bundles"):
        place.learned("8.0", "nonsense")
    folder = place.folder / "8.0" / NAME / "8.0"
    assert json.loads((folder / MANIFEST).read_text())["training"] == {"bundles": ["nonsense"]}
    assert load(folder)
