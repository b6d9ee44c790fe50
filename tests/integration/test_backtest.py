"""A back-test: what a version would have said of what is retained, scored as it would be live, and gone on with."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from models.registry import load
from models.text import TextClassifier
from moderation import backtesting, cli
from moderation.backtesting import Came, Wanted
from moderation.domain.errors import Conflict, InvalidInput
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.domain.subjects import Right
from moderation.governance import lineage, models, restating, restriction
from moderation.governance.checks import Seen
from moderation.governance.restating import Tally
from moderation.review import labels
from moderation.settings import Settings
from moderation.storage.database import Databases, insert_many, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import (
    AuditEvent,
    Author,
    Bundle,
    BundleItem,
    Case,
    Decision,
    Item,
    ModelRow,
    Part,
    SignalRow,
)
from moderation.storage.vault import Vault
from tests import artifacts
from tests.judging import Floor, at_once

DAY = timedelta(days=1)
NAME = "text-minilm"


@pytest.fixture(autouse=True)
def _put_back(databases: Databases, settings: Settings) -> Iterator[None]:
    with artifacts.put_back(databases, settings):
        yield


@pytest.fixture
def floor(client: TestClient, databases: Databases, vault: Vault, policy: Policy) -> Floor:
    return Floor(client, databases, vault, at_once(policy))


def added(floor: Floor, settings: Settings, folder: Path) -> None:
    with transaction(floor.databases.content) as session:
        models.add(session, folder, settings.models, "operator", floor.now)


def judged(floor: Floor, name: str, verdict: str = "remove") -> UUID:
    item = floor.decided(name, Route.REVIEW, "hate")
    floor.give(floor.person(), floor.case_of(item), verdict, "hate" if verdict == "remove" else None)
    return item


def shadows(floor: Floor) -> dict[UUID, SignalRow]:
    with transaction(floor.databases.content) as session:
        return {row.item_id: row for row in session.scalars(select(SignalRow).where(SignalRow.shadow))}


def run(settings: Settings, version: str = "9.0", name: str = NAME, **options: Any) -> Came:
    return backtesting.run(settings, Wanted(name, version, **options), "operator")


def test_what_is_retained_is_scored_as_live_and_what_may_not_be_used_is_left_out(
    floor: Floor, settings: Settings, tmp_path: Path
) -> None:
    added(floor, settings, artifacts.shifted(tmp_path, "9.0", 1.0))
    mine, unjudged, objecting, minor, gone = (
        judged(floor, "mine"), floor.decided("unjudged"), judged(floor, "objecting"), judged(floor, "minor"),
        judged(floor, "gone"),
    )  # fmt: skip
    with transaction(floor.databases.content) as session:
        author = session.get_one(Author, session.get_one(Item, objecting).author_id)
        restriction.restrict(session, author, Right.OBJECT, "client:app", floor.now)
        session.execute(update(Case).where(Case.item_id == minor).values(category="underage"))
        session.execute(update(Item).where(Item.id == gone).values(expires_at=floor.now - DAY))
        before = session.scalars(select(Decision.id).order_by(Decision.id)).all()
    came = run(settings)
    assert (came.looked_at, came.scored) == (2, 2)
    found = shadows(floor)
    assert set(found) == {mine, unjudged}
    row = found[mine]
    assert (row.detector, row.version, row.part, row.status) == ("text-minilm:9.0", "9.0", "body", "ok")
    model = TextClassifier(artifacts.champion())
    (expected,) = model.score(["Text of mine."])
    for category, score in zip(model.manifest.categories, expected, strict=True):
        assert row.scores[category] == pytest.approx(artifacts.moved(float(score), 1.0), abs=1e-4)
    with transaction(floor.databases.content) as session:
        assert session.scalars(select(Decision.id).order_by(Decision.id)).all() == before
        event = session.scalars(select(AuditEvent).where(AuditEvent.action == "model.backtested")).one()
        assert event.details["items"] == 2
    assert run(settings).looked_at == 0, "what was scored is not scored again"


def test_what_does_not_open_any_more_stops_nobody_elses(
    floor: Floor, settings: Settings, tmp_path: Path
) -> None:
    added(floor, settings, artifacts.shifted(tmp_path, "9.0", 1.0))
    mine, broken, other = (judged(floor, name) for name in ("mine", "broken", "other"))
    with transaction(floor.databases.content) as session:
        session.execute(update(Part).where(Part.item_id == broken).values(content=b"no ciphertext"))
    came = run(settings)
    assert (came.looked_at, came.scored) == (3, 2)
    assert set(shadows(floor)) == {mine, other}


def test_broken_off_it_goes_on_where_it_was(
    floor: Floor, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added(floor, settings, artifacts.shifted(tmp_path, "9.0", 1.0))
    for number in range(3):
        judged(floor, f"post {number}")
    monkeypatch.setattr(backtesting, "PAGE", 1)

    def crash(done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backtesting.run(settings, Wanted(NAME, "9.0"), "operator", crash)
    assert len(shadows(floor)) == 2
    assert run(settings).looked_at == 1
    assert len(shadows(floor)) == 3


def test_a_head_is_asked_of_its_clients_posts_and_says_whose_place_it_takes(
    floor: Floor, settings: Settings, tmp_path: Path
) -> None:
    for name, clients in (("head-app", ["app"]), ("head-other", ["other"])):
        added(floor, settings, artifacts.text_head(tmp_path, name, "1", by=2.0, clients=clients))
    item = judged(floor, "mine")
    assert run(settings, "1", "head-other").looked_at == 0
    assert run(settings, "1", "head-app").scored == 1
    row = shadows(floor)[item]
    assert (row.detector, list(row.scores)) == ("head-app:1", ["harassment"])
    assert row.evidence["instead_of"] == NAME
    model = TextClassifier(artifacts.champion())
    (score,) = model.score(["Text of mine."])
    base = float(score[model.manifest.categories.index("harassment")])
    assert row.scores["harassment"] == pytest.approx(artifacts.moved(base, 2.0), abs=1e-3)


def test_of_what_nobody_judged_only_so_many_are_drawn(
    floor: Floor, settings: Settings, tmp_path: Path
) -> None:
    added(floor, settings, artifacts.shifted(tmp_path, "9.0", 1.0))
    drawn = {floor.decided(f"post {number}") for number in range(4)}
    item = judged(floor, "mine")
    assert run(settings, others=1).scored == 2
    first = set(shadows(floor))
    assert item in first
    assert len(first & drawn) == 1
    assert run(settings, others=1).looked_at == 0, "always the same"
    assert run(settings, others=3).scored == 2


def test_it_is_compared_on_labels_that_it_has_not_learned_from(
    floor: Floor, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    items = [judged(floor, f"post {n}", "remove" if n % 2 else "allow") for n in range(6)]
    with transaction(floor.databases.content) as session:
        wanted = labels.Wanted(floor.now - DAY, floor.now + DAY)
        path = tmp_path / "b"
        made = labels.export(session, floor.vault, path, tmp_path / "b.key", wanted, "operator", floor.now)
        bundle = made.id
        session.execute(BundleItem.__table__.delete().where(BundleItem.item_id != items[0]))
        assert session.get_one(Bundle, bundle).rows == 6
        for item in items:
            scores = {"hate": 0.9 if item == items[2] else 0.2}
            was = {"item_id": item, "part": "body", "detector": NAME, "version": "x", "status": "ok",
                   "scores": scores, "evidence": {}}  # fmt: skip
            insert_many(session, SignalRow, [was])
    folder = artifacts.shifted(tmp_path, "9.0", 1.0)
    added(floor, settings, folder)
    with transaction(floor.databases.content) as session:
        session.get_one(ModelRow, (NAME, "9.0")).bundles = [bundle]
    with transaction(floor.databases.content) as session:
        assert lineage.learned(session, [(NAME, "9.0")], items) == {items[0]: {(NAME, "9.0")}}
    came = run(settings)
    assert came.learned == 1
    hate = came.categories["hate"]
    assert (hate.yes, hate.no) == (3, 2)
    assert hate.was == pytest.approx(0.25), "one no over all, the others alike"
    monkeypatch.setattr("moderation.settings.from_environment", lambda _: settings)
    assert cli.main(["models", "backtest", NAME, "9.0"]) == 0
    said = capsys.readouterr().out
    assert "1 labelled items are left out" in said
    assert "hate" in said


def test_what_a_version_has_learned_from_proves_nothing_of_it(
    floor: Floor, settings: Settings, tmp_path: Path
) -> None:
    added(floor, settings, artifacts.shifted(tmp_path, "9.0", 1.0))
    items = [judged(floor, "learned"), judged(floor, "not learned")]
    with transaction(floor.databases.content) as session:
        bundle = Bundle(id=new_id(floor.now), created_at=floor.now, created_by="operator", rows=1, sha256="",
                        expires_at=floor.now + DAY)  # fmt: skip
        session.add(bundle)
        session.flush()
        session.add(BundleItem(bundle_id=bundle.id, item_id=items[0], author_id=items[0]))
        session.get_one(ModelRow, (NAME, "9.0")).bundles = [bundle.id]
        for item in items:
            insert_many(session, SignalRow, [
                {"item_id": item, "part": "body", "detector": detector, "version": version, "status": "ok",
                 "scores": {"hate": 0.5}, "evidence": {}, "shadow": ":" in detector}
                for detector, version in ((NAME, "2"), (f"{NAME}:9.0", "9.0"))
            ])  # fmt: skip
    seen = [
        Seen(new_id(floor.now), item, "app", "*", 1.0, 1, {"hate": 0.5}, ((NAME, "2"),)) for item in items
    ]
    with transaction(floor.databases.content) as session:
        found = restating.restated(session, {}, [((NAME, "9.0"),)], seen, floor.now - DAY, Tally())
        lineups = [[one.versions for one in views] for views in found]
    assert lineups == [[((NAME, "2"),)], [((NAME, "2"),), ((NAME, "9.0"),)]]


def test_what_a_shadow_had_no_time_to_score_whole_is_not_restated(floor: Floor) -> None:
    items = [judged(floor, "whole"), judged(floor, "in part")]
    with transaction(floor.databases.content) as session:
        for item in items:
            parts = ("body", "title") if item == items[0] else ("body",)
            insert_many(session, SignalRow, [
                {"item_id": item, "part": part, "detector": detector, "version": version, "status": "ok",
                 "scores": {"hate": 0.5}, "evidence": {}, "shadow": ":" in detector}
                for detector, version, said in ((NAME, "2", ("body", "title")), (f"{NAME}:9.0", "9.0", parts))
                for part in said
            ])  # fmt: skip
    seen = [
        Seen(new_id(floor.now), item, "app", "*", 1.0, 1, {"hate": 0.5}, ((NAME, "2"),)) for item in items
    ]
    with transaction(floor.databases.content) as session:
        found = restating.restated(session, {}, [((NAME, "9.0"),)], seen, floor.now - DAY, Tally())
        lineups = [[one.versions for one in views] for views in found]
    assert lineups == [[((NAME, "2"),), ((NAME, "9.0"),)], [((NAME, "2"),)]]


def test_what_gives_no_scores_or_was_retired_is_refused(
    floor: Floor, settings: Settings, tmp_path: Path
) -> None:
    backbone = artifacts.champion("backbone")
    with pytest.raises(InvalidInput, match="nothing of any category"):
        run(settings, backbone.version, backbone.name)
    added(floor, settings, artifacts.shifted(tmp_path, "9.0", 1.0))
    assert load(settings.models / NAME / "9.0")
    with transaction(floor.databases.content) as session:
        session.get_one(ModelRow, (NAME, "9.0")).retired_at = floor.now
    with pytest.raises(Conflict, match="was retired"):
        run(settings)


def test_a_share_of_pairs_is_ranked_rightly() -> None:
    assert backtesting.auc([(1, 0.9), (1, 0.4), (0, 0.4), (0, 0.1)]) == 0.875
    assert backtesting.auc([(1, 0.9)]) is None
