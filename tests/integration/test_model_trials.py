"""Shadows and canaries: who begins and ends them, what they leave behind, and that no shadow is ever heard."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from prometheus_client import REGISTRY
from sqlalchemy import func, select

from models.serving import in_share
from moderation import cli, setup
from moderation.domain.access import Role
from moderation.domain.errors import Conflict, Forbidden, InvalidInput, NotFound
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.domain.signals import DetectorStatus, Signal
from moderation.governance import evidence, exports, model_lists, models, promotions, shadows
from moderation.governance.models import CANARY, CHAMPION, PREVIOUS, SHADOW
from moderation.governance.promotions import By
from moderation.review import casefile, dashboard, history
from moderation.serving import Following
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, Author, Decision, Item, ModelAlias, SignalRow
from moderation.storage.vault import Vault
from tests import artifacts, people, support
from tests.support import post, text_part

NAME = "text-minilm"
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SHIPPED = artifacts.champion().version


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
def added(databases: Databases, settings: Settings, tmp_path: Path) -> str:
    """A version whose log-odds are all higher by 2."""
    return add(databases, settings, artifacts.shifted(tmp_path, "7.0", 2.0))


def add(databases: Databases, settings: Settings, folder: Path) -> str:
    with transaction(databases.content) as session:
        return models.add(session, folder, settings.models, "operator", NOW).manifest.version


def aliases(databases: Databases, name: str = NAME) -> dict[str, str]:
    with transaction(databases.content) as session:
        rows = session.execute(select(ModelAlias.alias, ModelAlias.version).where(ModelAlias.name == name))
        return {row.alias: row.version for row in rows}


def told(databases: Databases, action: str) -> list[dict[str, object]]:
    with transaction(databases.content) as session:
        rows = session.scalars(select(AuditEvent).where(AuditEvent.action == action).order_by(AuditEvent.id))
        return [dict(row.details) for row in rows]


def begin_shadow(databases: Databases, settings: Settings, by: By, version: str, name: str = NAME) -> None:
    with transaction(databases.content) as session:
        promotions.shadow(session, settings.models, by, name, version, datetime.now(UTC))


def begin_canary(
    databases: Databases, settings: Settings, by: tuple[By, By], version: str, share: float, name: str = NAME
) -> None:
    with transaction(databases.content) as session:
        promotions.propose(session, settings.models, by[0], name, version, NOW, alias=CANARY, share=share)
        promotions.promote(session, settings.models, by[1], name, version, NOW)


def test_a_canary_takes_two_people_and_ends_with_its_promotion(
    databases: Databases, settings: Settings, trainer: By, promoter: By, added: str
) -> None:
    begin_shadow(databases, settings, trainer, added)
    with transaction(databases.content) as session:
        promotions.propose(session, settings.models, trainer, NAME, added, NOW, alias=CANARY, share=0.2)
        with pytest.raises(Conflict, match="proposed already"):
            promotions.propose(session, settings.models, trainer, NAME, added, NOW)
        with pytest.raises(Conflict, match=r"proposed as canary for a share of 0\.2 by now"):
            promotions.promote(session, settings.models, promoter, NAME, added, NOW, alias=CHAMPION)
        with pytest.raises(Forbidden, match="model:promote"):
            promotions.promote(session, settings.models, trainer, NAME, added, NOW)
        promotions.promote(session, settings.models, promoter, NAME, added, NOW, alias=CANARY, share=0.2)
        one = model_lists.one(session, settings.models, NAME, added)
        assert (one.aliases, one.share, one.proposal) == ((CANARY, SHADOW), 0.2, None)
        assert [one.alias for one in model_lists.history(session)] == [CANARY]
    assert aliases(databases) == {CHAMPION: SHIPPED, CANARY: added, SHADOW: added}
    # Two more make it the champion, and nothing is tried any more.
    with transaction(databases.content) as session:
        promotions.propose(session, settings.models, trainer, NAME, added, NOW)
        assert promotions.promote(session, settings.models, promoter, NAME, added, NOW) == SHIPPED
    assert aliases(databases) == {CHAMPION: added, PREVIOUS: SHIPPED}
    # Both at one moment, so in either order.
    promoted = told(databases, "model.promoted")
    assert any(one.items() >= {"alias": CANARY, "share": 0.2}.items() for one in promoted)
    assert {one["alias"] for one in told(databases, "model.trial_ended")} == {CANARY, SHADOW}


def test_the_way_back_ends_a_canary(
    databases: Databases, settings: Settings, trainer: By, promoter: By, added: str, tmp_path: Path
) -> None:
    begin_shadow(databases, settings, trainer, added)
    begin_canary(databases, settings, (trainer, promoter), added, 0.5)
    with transaction(databases.content) as session:
        assert promotions.rollback(session, settings.models, promoter, NAME, NOW) == (added, SHIPPED)
    assert aliases(databases) == {CHAMPION: SHIPPED}
    newer = add(databases, settings, artifacts.shifted(tmp_path, "8.0", 1.0))
    with transaction(databases.content) as session:
        promotions.propose(session, settings.models, trainer, NAME, added, NOW)
        promotions.promote(session, settings.models, promoter, NAME, added, NOW)
    begin_canary(databases, settings, (trainer, promoter), newer, 0.5)
    begin_shadow(databases, settings, promoter, SHIPPED)
    with transaction(databases.content) as session:
        promotions.rollback(session, settings.models, promoter, NAME, NOW)
    assert aliases(databases) == {CHAMPION: SHIPPED}
    # One that was only a canary is ended by one person, whoever may propose.
    begin_canary(databases, settings, (trainer, promoter), added, 0.5)
    with transaction(databases.content) as session:
        assert promotions.end_trial(session, trainer, NAME, CANARY, NOW) == added
        with pytest.raises(NotFound, match="no canary"):
            promotions.end_trial(session, trainer, NAME, CANARY, NOW)


def test_one_person_begins_a_shadow_and_another_takes_its_place(
    databases: Databases,
    settings: Settings,
    vault: Vault,
    trainer: By,
    promoter: By,
    added: str,
    tmp_path: Path,
) -> None:
    reader = promotions.logged_in(people.principal(databases, vault, Role.MODERATOR))
    with pytest.raises(Forbidden, match="model:propose"):
        begin_shadow(databases, settings, reader, added)
    begin_shadow(databases, settings, trainer, added)
    with pytest.raises(Conflict, match="the shadow already"):
        begin_shadow(databases, settings, promoter, added)
    with pytest.raises(Conflict, match="nothing to compare"):
        begin_shadow(databases, settings, promoter, SHIPPED)
    newer = add(databases, settings, artifacts.shifted(tmp_path, "8.0", 1.0))
    begin_shadow(databases, settings, promoter, newer)
    assert aliases(databases) == {CHAMPION: SHIPPED, SHADOW: newer}
    assert [one["before"] for one in told(databases, "model.shadowed")] == [None, added]


def test_what_can_not_be_tried_is_refused(
    databases: Databases, settings: Settings, trainer: By, added: str, tmp_path: Path
) -> None:
    def propose(share: float | None, alias: str = CANARY, name: str = NAME, version: str = "7.0") -> None:
        with transaction(databases.content) as session:
            promotions.propose(
                session, settings.models, trainer, name, version, NOW, alias=alias, share=share
            )

    for share in (None, 0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(InvalidInput, match=r"such as 0\.05"):
            propose(share)
    with pytest.raises(InvalidInput, match="no second person"):
        propose(None, alias=SHADOW)
    silent = artifacts.champion("embedding")
    made = artifacts.another(tmp_path, "9.0", of=silent, gates=[])
    add(databases, settings, made)
    with pytest.raises(Conflict, match="no scores"):
        begin_shadow(databases, settings, trainer, "9.0", silent.name)
    # A head whose base is only a shadow may be a shadow too; it decides nothing by that.
    base = settings.models / NAME / added
    version = add(databases, settings, artifacts.text_head(tmp_path, "head-forum", "1", base=base))
    with pytest.raises(Conflict, match="does not serve here"):
        begin_shadow(databases, settings, trainer, version, "head-forum")
    begin_shadow(databases, settings, trainer, added)
    begin_shadow(databases, settings, trainer, version, "head-forum")
    with pytest.raises(Conflict, match="does not serve here"):
        propose(0.5, name="head-forum", version=version)


def test_a_release_ends_what_can_not_be_tried_on(
    databases: Databases, settings: Settings, trainer: By, promoter: By, added: str, tmp_path: Path
) -> None:
    newer = add(databases, settings, artifacts.shifted(tmp_path, "8.0", 1.0))
    begin_shadow(databases, settings, trainer, newer)
    begin_canary(databases, settings, (trainer, promoter), added, 0.5)
    setup.prepare(settings)
    assert aliases(databases) == {CHAMPION: SHIPPED, CANARY: added, SHADOW: newer}
    shutil.rmtree(settings.models / NAME / newer)
    setup.prepare(settings)
    assert aliases(databases) == {CHAMPION: SHIPPED, CANARY: added}
    with transaction(databases.content) as session:
        # As after a release that ships another version of the same name.
        models.point(session, NAME, CHAMPION, "0.9", NOW)
    setup.prepare(settings)
    assert aliases(databases) == {CHAMPION: SHIPPED}
    ended = {(one["alias"], one["because"]) for one in told(databases, "model.trial_ended")}
    assert ended == {(SHADOW, "files_lost"), (CANARY, "champion_replaced")}


def test_a_shadow_that_does_not_load_is_said_and_the_champion_serves(
    databases: Databases, settings: Settings, trainer: By, added: str
) -> None:
    begin_shadow(databases, settings, trainer, added)
    labels = {"name": NAME, "version": added, "alias": SHADOW}
    with Following(databases.content, settings.models, ("text",), trials=True) as followed:
        assert [one.version for one in followed.shadow().manifests] == [added]
        assert REGISTRY.get_sample_value("moderation_model_trial_info", labels) == 1
    with Following(databases.content, settings.models, ("text",)) as followed:
        assert followed.shadow().manifests == [], "whoever answers callers follows champions alone"
    artifacts.replace_file(settings.models / NAME / added, "tokenizer.json", b"{}")
    with Following(databases.content, settings.models, ("text",), trials=True) as followed:
        assert [one.version for one in followed.current().manifests] == [SHIPPED]
        assert not followed.shadow().manifests
        assert followed.canary()[0].manifests == []
    with transaction(databases.content) as session:
        assert "SHA-256" in model_lists.one(session, settings.models, NAME, added).trouble
        assert models.troubles(session) == {}, "what serves is sound"
    assert [one["alias"] for one in told(databases, "model.not_served")] == [SHADOW]


def screened(client: TestClient, settings: Settings, count: int) -> list[UUID]:
    words = (
        "A lovely day in the park",
        "You are a fool and a clown",
        "Buy cheap watches now",
        "What a dumb idea",
    )
    sent = [post(f"post-{at}", text_part(f"{words[at % len(words)]}, number {at}.")) for at in range(count)]
    answer = client.post("/v1/items/batch", json={"items": sent})
    assert answer.status_code == 202, answer.text
    support.drain(settings)
    return [UUID(result["item"]["id"]) for result in answer.json()["results"]]


def rows(databases: Databases, *, shadow: bool) -> dict[UUID, list[SignalRow]]:
    found: dict[UUID, list[SignalRow]] = {}
    with transaction(databases.content) as session:
        for row in session.scalars(select(SignalRow).where(SignalRow.shadow == shadow)):
            found.setdefault(row.item_id, []).append(row)
    return found


def test_a_canary_decides_for_its_share_and_every_item_is_decided_once(
    client: TestClient, databases: Databases, settings: Settings, trainer: By, promoter: By, added: str
) -> None:
    begin_canary(databases, settings, (trainer, promoter), added, 0.5)
    items = screened(client, settings, 24)
    mine = {item for item in items if in_share(item, 0.5)}
    assert 0 < len(mine) < len(items)
    by = {
        item: {row.version for row in its if row.detector == NAME}
        for item, its in rows(databases, shadow=False).items()
    }
    assert by == {item: {added if item in mine else SHIPPED} for item in items}
    with transaction(databases.content) as session:
        decisions = session.scalars(select(Decision)).all()
    assert sorted(one.item_id for one in decisions) == sorted(items)
    for one in decisions:
        version = added if one.item_id in mine else SHIPPED
        assert {"name": NAME, "version": version, "status": "ok"} in one.detectors
    assert not rows(databases, shadow=True)


def test_a_shadow_changes_no_verdict_and_is_shown_as_what_it_is(
    client: TestClient, databases: Databases, settings: Settings, vault: Vault, trainer: By, added: str,
    tmp_path: Path, policy: Policy,
) -> None:  # fmt: skip
    head = add(databases, settings, artifacts.text_head(tmp_path, "head-app", "1", by=1.0, clients=["app"]))
    begin_shadow(databases, settings, trainer, added)
    begin_shadow(databases, settings, trainer, head, "head-app")
    items = screened(client, settings, 8)
    said, heard = rows(databases, shadow=True), rows(databases, shadow=False)
    names = {"text-minilm:7.0", "head-app:1"}
    assert {item: {row.detector for row in its} for item, its in said.items()} == dict.fromkeys(items, names)
    for item, its in said.items():
        usual = next(row.scores for row in heard[item] if row.detector == NAME)
        other = next(row.scores for row in its if row.detector == "text-minilm:7.0")
        assert other["hate"] == pytest.approx(artifacts.moved(usual["hate"], 2.0), abs=1e-3)
    with transaction(databases.content) as session:
        for one in session.scalars(select(Decision)):
            usual = next(row.scores for row in heard[one.item_id] if row.detector == NAME)
            for found in one.findings:
                assert (found["detector"], found["version"]) == (NAME, SHIPPED)
                assert found["probability"] == pytest.approx(usual[found["category"]], abs=1e-3)
            assert not {found["name"] for found in one.detectors} & {"head-app", *names}
        item = session.get_one(Item, items[0])
        author = session.get_one(Author, item.author_id)
        page = history.of_item(session, vault, item.id, datetime.now(UTC))
        (shown,) = [entry for entry in page.entries if entry.kind == "signals"]
        assert any("head-app 1 on body, as a shadow that decides nothing" in line for line in shown.lines)
        record = evidence.record(session, evidence.keys_of(vault, item.id, author.id), item)
        assert {one["detector"] for one in record["findings"]}.isdisjoint(names)
        assert {one for _, one in casefile._signals(session, item.id)}.isdisjoint(names)
        health = dashboard.detectors(session, datetime.now(UTC) - timedelta(hours=1))
        assert {one.name for one in health}.isdisjoint(names)
        # Whoever asks for what is held of them is given that too, as what it is.
        copy = exports.make(session, vault, author, datetime.now(UTC)).document
        held = [row for row in copy["tables"]["signals"] if row["shadow"]]
        assert {row["detector"] for row in held} == names


def test_how_far_a_shadow_agrees(
    client: TestClient, databases: Databases, settings: Settings, trainer: By, added: str, policy: Policy,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    head = add(databases, settings, artifacts.text_head(tmp_path, "head-app", "1", by=-6.0, clients=["app"]))
    begin_shadow(databases, settings, trainer, added)
    begin_shadow(databases, settings, trainer, head, "head-app")
    items = screened(client, settings, 12)
    since = datetime.now(UTC) - timedelta(hours=1)
    with transaction(databases.content) as session:
        found = shadows.agreement(session, policy, NAME, added, since)
        both = shadows.read(session, NAME, added, items)
        of_head = shadows.agreement(session, policy, "head-app", "1", since)
        alone = shadows.scores(session, "head-app", "1", items)
        few = shadows.agreement(session, policy, NAME, added, since, most_items=5, most_examples=3)
        nothing = shadows.agreement(session, policy, NAME, "none", since)
    by_name = {one.category: one for one in found.categories}
    assert (found.items, found.failed, set(both)) == (12, 0, set(items))
    assert by_name["harassment"].items == 12
    # It puts all items in the same order, with higher scores throughout.
    assert by_name["harassment"].correlation == pytest.approx(1.0)
    assert by_name["harassment"].changes > 0
    assert all(
        list(Route).index(then) > list(Route).index(was) or then is Route.REVIEW
        for was, then in by_name["harassment"].changed
    )
    assert 0 < found.changed <= 12
    largest = found.examples[0]
    assert largest.route is not largest.would_route
    assert largest.would_be == pytest.approx(artifacts.moved(largest.was, 2.0), abs=1e-3)
    # A head without a champion stands in its base's place, in its own category.
    assert [one.category for one in of_head.categories] == ["harassment"]
    for item in items:
        assert both[item].was["harassment"] > alone[item]["harassment"]
    assert {example.would_be for example in of_head.examples} <= {
        scores["harassment"] for scores in alone.values()
    }
    assert (few.items, len(few.examples)) == (5, 3)
    assert (nothing.items, nothing.categories) == (0, ())

    monkeypatch.setattr(cli, "_settings", lambda options: settings)
    assert cli.main(("models", "shadow", NAME)) == 0
    said = capsys.readouterr().out
    assert f"Of the newest 12 items that both scored, {found.changed} would be decided otherwise." in said
    assert any(
        line.split()[:4] == ["harassment", "12", str(by_name["harassment"].changes), "1.000"]
        for line in said.splitlines()
    )


def test_what_a_version_says_of_what_was_decided_long_ago_is_added_once(
    client: TestClient, databases: Databases, settings: Settings
) -> None:
    (item,) = screened(client, settings, 1)
    (signal,) = [row for row in rows(databases, shadow=False)[item] if row.detector == NAME]
    again = {item: [Signal("body", NAME, "7.0", DetectorStatus.OK, {"hate": 0.25})]}
    with transaction(databases.content) as session:
        assert shadows.store(session, again) == 1
        assert shadows.store(session, again) == 0
        assert shadows.scores(session, NAME, "7.0", [item]) == {item: {"hate": 0.25}}
        (both,) = shadows.read(session, NAME, "7.0", [item]).values()
    assert (both.was["hate"], both.would_be["hate"]) == (signal.scores["hate"], 0.25)
    assert "spam" not in both.would_be, "a version stands for the whole of the other"


def test_the_command_line_says_what_is_tried_and_how_to_end_it(
    databases: Databases, settings: Settings, vault: Vault, promoter: By, added: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(cli, "_settings", lambda options: settings)
    people.new_person(databases, vault, Role.TRAINER, email="ann@example.org")

    def run(*words: str) -> str:
        status = cli.main(("models", *words))
        out = capsys.readouterr()
        assert status in (0, cli.REFUSED), out.err
        return (out.out if status == 0 else out.err).strip()

    ann = ("--by", "ann@example.org")
    assert "has no shadow" in run("shadow", NAME)
    assert "--by EMAIL" in run("shadow", NAME, added)
    assert "decides nothing" in run("shadow", NAME, added, *ann)
    assert "No item was scored by both yet" in run("shadow", NAME)
    assert "which VERSION" in run("canary", NAME, *ann)
    assert "such as 0.05" in run("canary", NAME, added, *ann)
    assert "proposed as canary for a share of 0.25" in run("canary", NAME, added, "--share", "0.25", *ann)
    assert "proposed as canary for a share of 0.25" in run("list")
    with transaction(databases.content) as session:
        promotions.promote(session, settings.models, promoter, NAME, added, datetime.now(UTC))
    assert "canary(0.25) shadow" in run("list")
    assert "is no canary any more" in run("canary", NAME, "--off", *ann)
    assert "is no shadow any more" in run("shadow", NAME, "--off", *ann)
    with transaction(databases.content) as session:
        count = select(func.count()).where(ModelAlias.alias.in_((CANARY, SHADOW)))
        assert session.scalar(count) == 0
        actors = session.scalars(select(AuditEvent.actor).where(AuditEvent.action == "model.trial_ended"))
        assert set(actors) == {"operator"}
