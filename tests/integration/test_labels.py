"""Labels: what the log of opinions says of an item, and how it leaves the service sealed and registered."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from moderation import bundles, cli
from moderation.bundles import BundleError
from moderation.domain.content import ItemState
from moderation.domain.errors import InvalidInput, NotFound
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.review import decisions, golden, labels
from moderation.review.labels import CATEGORIES, Label, Settled, Source, Wanted
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Appeal, AuditEvent, Bundle, BundleItem, Decision, Item, Opinion, Report
from moderation.storage.vault import Vault
from tests import support
from tests.judging import Floor, at_once
from training import dataset
from training.__main__ import main as training
from training.common import Run, TrainingError
from training.dataset import OWN, Row, read_bundle

DAY = timedelta(days=1)
NOTHING = dict.fromkeys(CATEGORIES, 0)


@pytest.fixture
def floor(client: TestClient, databases: Databases, vault: Vault, policy: Policy) -> Floor:
    return Floor(client, databases, vault, at_once(policy))


def found(floor: Floor, **wanted: Any) -> dict[UUID, Label]:
    with transaction(floor.databases.content) as session:
        options = {"since": floor.now - DAY, "until": floor.now + DAY} | wanted
        return {one.item_id: one for one in labels.labels(session, floor.now, **options)}


def judged(floor: Floor, name: str, verdict: str = "remove", category: str | None = "hate") -> UUID:
    """A post that went before people and that one of them settled."""
    item = floor.decided(name, Route.REVIEW, "hate")
    floor.give(floor.person(), floor.case_of(item), verdict, category)
    return item


def test_one_word_says_which_rule_is_broken_and_nothing_of_the_others(floor: Floor) -> None:
    item = judged(floor, "post")
    assert found(floor)[item] == Label(
        item, author(floor, item), {"hate": 1}, 1, 1.0, True, 1, Settled.SINGLE, Source.REVIEW
    )


def author(floor: Floor, item: UUID) -> UUID:
    with transaction(floor.databases.content) as session:
        return session.get_one(Item, item).author_id


def test_allowed_means_that_no_rule_is_broken_but_for_those_about_minors(floor: Floor) -> None:
    item = judged(floor, "post", "allow", None)
    assert found(floor)[item].labels == NOTHING
    assert not {"sexual_minors", "underage"} & set(NOTHING)
    assert list(found(floor, category="spam")) == [item]


def test_a_category_is_asked_for_where_somebody_judged_it(floor: Floor) -> None:
    hate = judged(floor, "hate")
    judged(floor, "spam", "remove", "spam")
    assert list(found(floor, category="hate")) == [hate]


def test_a_decision_that_nobody_judged_is_no_label(floor: Floor) -> None:
    floor.decided("allowed")
    floor.audited("waiting")
    assert not found(floor)


def test_an_audit_draw_brings_its_propensity_and_was_judged_without_a_score(floor: Floor) -> None:
    item = floor.audited("post", share=0.05)
    floor.give(floor.person(), floor.case_of(item))
    label = found(floor)[item]
    assert (label.source, label.propensity, label.score_shown) == (Source.AUDIT, 0.05, False)
    assert (label.labels, label.agreement) == (NOTHING, Settled.SINGLE)


def test_what_people_differ_on_is_no_label_until_it_is_settled(floor: Floor) -> None:
    item = floor.audited("post")
    floor.give(floor.person(), floor.case_of(item), "remove", "hate")
    assert not found(floor), "somebody else is asked"
    floor.give(floor.person(), floor.case_of(item), "allow")
    assert not found(floor), "a lead is asked"
    floor.give(floor.person("lead"), floor.case_of(item), "remove", "harassment")
    label = found(floor)[item]
    assert label.labels == {"hate": 1, "harassment": 1}, "both who back it name what they saw"
    assert (label.agreement, label.reviewers, label.source) == (Settled.ADJUDICATED, 3, Source.AUDIT)


def test_two_against_one_is_said(floor: Floor) -> None:
    item = floor.decided("post", Route.REVIEW, "hate")
    floor.give(floor.person(), floor.case_of(item), "allow", dice=0.0)
    label = found(floor)[item]
    assert label.agreement is Settled.SINGLE, "a check that nobody began leaves it as it is"
    for _ in range(2):
        floor.give(floor.person(), floor.case_of(item, "quality"), "remove", "hate")
    label = found(floor)[item]
    assert (label.labels, label.agreement, label.reviewers) == ({"hate": 1}, Settled.OVERRULED, 3)
    assert (label.source, label.propensity, label.score_shown) == (Source.REVIEW, 1.0, False)


def test_an_open_window_or_an_undone_decision_is_no_label(floor: Floor, policy: Policy) -> None:
    hasty, person = replace(floor, policy=policy), floor.person()
    item = hasty.decided("post", Route.REVIEW, "hate")
    answer = hasty.give(person, hasty.case_of(item), "remove", "hate")
    assert not found(hasty), "it can still be undone"
    assert answer.undo is not None
    with transaction(floor.databases.content) as session:
        decisions.undo(session, policy, person, UUID(answer.undo.id), floor.now)
    floor.now += timedelta(minutes=5)
    assert not found(floor)
    with transaction(floor.databases.content) as session:
        assert session.scalars(select(Opinion.undone_at)).one() is not None


def appealed(session: Any, floor: Floor, item: UUID) -> None:
    decision = session.scalars(
        select(Decision).where(Decision.item_id == item).order_by(Decision.id.desc())
    ).first()
    session.add(Appeal(
        id=uuid4(), decision_id=decision.id, item_id=item, author_id=decision.author_id, client="app",
        by="author", lodged_at=floor.now, deadline=floor.now, state="open",
    ))  # fmt: skip


def reported(session: Any, floor: Floor, item: UUID) -> None:
    session.add(Report(
        id=uuid4(), item_id=item, author_id=session.get_one(Item, item).author_id, client="app",
        reporter_digest=b"r", category="underage", weight=0.5, reported_at=floor.now,
    ))  # fmt: skip


def changed(table: Any, **values: Any) -> Callable[[Any, Floor, UUID], None]:
    def change(session: Any, floor: Floor, item: UUID) -> None:
        column = table.id if table is Item else table.item_id
        session.execute(update(table).where(column == item).values(**values))

    return change


@pytest.mark.parametrize(
    "change",
    [
        appealed,
        reported,
        changed(Opinion, late=True),
        changed(Opinion, undone_at=datetime.now(UTC)),
        changed(Opinion, category="sexual_minors"),
        changed(Item, state=ItemState.DELETED),
        changed(Item, destroyed_at=datetime.now(UTC)),
        changed(Item, expires_at=datetime.now(UTC) - DAY),
    ],
    ids=["appealed", "reported for minors", "late", "undone", "minors", "deleted", "destroyed", "expired"],
)
def test_what_may_not_be_used_is_left_out(floor: Floor, change: Callable[[Any, Floor, UUID], None]) -> None:
    item, other = judged(floor, "post"), judged(floor, "other")
    assert set(found(floor)) == {item, other}
    with transaction(floor.databases.content) as session:
        change(session, floor, item)
    assert set(found(floor)) == {other}


def test_an_item_that_was_ever_suspected_to_show_minors_is_left_out(floor: Floor) -> None:
    item = floor.decided("post", Route.REVIEW, "underage")
    floor.give(floor.person(), floor.case_of(item))
    assert not found(floor)


def test_an_answer_to_a_golden_case_is_no_label(floor: Floor) -> None:
    item, person = floor.decided("post"), floor.person()
    with transaction(floor.databases.content) as session:
        golden.add(session, floor.person("lead"), item, floor.now)
    asked = floor.next(person, golden_dice=0.0)
    assert asked is not None
    floor.give(person, asked, number=1)
    assert not found(floor)


def test_a_reported_item_says_so(floor: Floor) -> None:
    item = floor.decided("post")
    report = {"reporter": "acct-9", "category": "hate"}
    assert floor.client.post(f"/v1/items/{item}/reports", json=report).status_code == 202
    floor.give(floor.person(), floor.case_of(item), "remove", "hate")
    assert (found(floor)[item].source, found(floor)[item].propensity) == (Source.REPORT, 1.0)


def exported(floor: Floor, folder: Path, name: str = "labels.bundle", **wanted: Any) -> labels.Exported:
    options = {"since": floor.now - DAY, "until": floor.now + DAY} | wanted
    with transaction(floor.databases.content) as session:
        return labels.export(
            session,
            floor.vault,
            folder / name,
            folder / f"{name}.key",
            Wanted(**options),
            "operator",
            floor.now,
        )


def opened(folder: Path, made: labels.Exported, name: str = "labels.bundle") -> list[dict[str, Any]]:
    key = bundles.read_key(folder / f"{name}.key", made.id)
    return list(bundles.read(folder / name, key, datetime.now(UTC)))


def test_an_export_is_sealed_registered_and_audited(floor: Floor, tmp_path: Path) -> None:
    items = [judged(floor, "one"), judged(floor, "two", "allow", None)]
    made = exported(floor, tmp_path)
    rows = opened(tmp_path, made)
    assert [(row["text"], row["labels"]) for row in rows] == [
        ("Text of one.", {"hate": 1}),
        ("Text of two.", NOTHING),
    ]
    assert set(rows[0]) == {"ref", "text", "labels", "policy_version", "propensity", "score_shown", "reviewers",
                            "agreement", "source"}  # fmt: skip
    assert not [row for row in rows if bundles.flaw(row)]
    content = (tmp_path / "labels.bundle").read_bytes()
    assert b"Text of" not in content
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    with transaction(floor.databases.content) as session:
        bundle = session.scalars(select(Bundle)).one()
        assert (bundle.id, bundle.rows, bundle.ended_at) == (made.id, 2, None)
        assert bundle.sha256 == bundles.header_of(tmp_path / "labels.bundle").manifest_sha256
        assert bundle.expires_at == made.expires_at == floor.now + 90 * DAY
        assert labels.key_of(floor.vault, bundle) == bundles.read_key(tmp_path / "labels.bundle.key", made.id)
        members = session.scalars(select(BundleItem)).all()
        assert {(one.item_id, one.author_id) for one in members} == {
            (item, author(floor, item)) for item in items
        }
        event = session.scalars(select(AuditEvent).where(AuditEvent.action == "labels.exported")).one()
        assert (event.actor, event.subject_id, event.details["rows"]) == ("operator", str(made.id), 2)


def test_a_reference_leads_nowhere_and_is_another_one_in_every_bundle(floor: Floor, tmp_path: Path) -> None:
    item = judged(floor, "one")
    first, second = (exported(floor, tmp_path, name) for name in ("a", "b"))
    (one,), (other,) = opened(tmp_path, first, "a"), opened(tmp_path, second, "b")
    assert one["ref"] != other["ref"]
    assert str(item) not in json.dumps(one)
    assert labels.reference(floor.vault, first.id, item) == one["ref"], "we find it again"


def test_pictures_stay_and_texts_of_several_parts_are_joined(floor: Floor, tmp_path: Path) -> None:
    parts = (support.text_part("A title", "title"), support.text_part("And more", "body"))
    for name, more in (("text", ()), ("picture", (support.image_part(),))):
        item = floor.decided(name, Route.REVIEW, "hate", parts=(*parts, *more))
        floor.give(floor.person(), floor.case_of(item), "remove", "hate")
    made = exported(floor, tmp_path)
    assert [row["text"] for row in opened(tmp_path, made)] == ["A title\nAnd more"]
    assert (made.rows, made.left_out) == (1, 1)


def test_what_is_deleted_while_a_bundle_is_written_is_not_in_it(
    floor: Floor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, kept = judged(floor, "gone"), judged(floor, "kept")
    seal = bundles.seal

    def slow(*arguments: Any, **options: Any) -> bundles.Sealed:
        done = seal(*arguments, **options)
        monkeypatch.setattr(bundles, "seal", seal)
        with transaction(floor.databases.content) as session:
            session.execute(update(Item).where(Item.id == gone).values(state=ItemState.DELETED))
        return done

    monkeypatch.setattr(bundles, "seal", slow)
    made = exported(floor, tmp_path)
    assert [row["text"] for row in opened(tmp_path, made)] == ["Text of kept."]
    with transaction(floor.databases.content) as session:
        assert session.scalars(select(BundleItem.item_id)).all() == [kept]
        assert session.scalars(select(Bundle.rows)).one() == 1


@pytest.mark.parametrize(
    "wanted",
    [{"category": "sexual_minors"}, {"category": "nonsense"}, {"days": 0}, {"days": 366}, {"category": "spam"},
     {"until": datetime(2020, 1, 1, tzinfo=UTC)}],
)  # fmt: skip
def test_a_refused_export_leaves_nothing(floor: Floor, tmp_path: Path, wanted: dict[str, Any]) -> None:
    judged(floor, "one")
    with pytest.raises(InvalidInput):
        exported(floor, tmp_path, **wanted)
    assert not list(tmp_path.iterdir())
    assert support.count(floor.databases.content, "bundles") == 0


def test_an_existing_file_is_never_overwritten(floor: Floor, tmp_path: Path) -> None:
    judged(floor, "one")
    (tmp_path / "labels.bundle.key").write_text("precious")
    with pytest.raises(InvalidInput, match="exists already"):
        exported(floor, tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"]


def test_a_bundle_ends_by_command_or_by_its_date(floor: Floor, tmp_path: Path) -> None:
    judged(floor, "one")
    first, second = (exported(floor, tmp_path, name, days=days) for name, days in (("a", 90), ("b", 1)))
    with transaction(floor.databases.content) as session:
        labels.end(session, first.id, "operator", floor.now)
        with pytest.raises(NotFound):
            labels.end(session, first.id, "operator", floor.now)
        assert labels.end_expired(session, floor.now) == 0
        assert labels.end_expired(session, floor.now + DAY) == 1
    with transaction(floor.databases.content) as session:
        rows = labels.listing(session)
        assert {row.id for row in rows} == {second.id, first.id}
        assert all(row.ended_at is not None and labels.key_of(floor.vault, row) is None for row in rows)
        assert not session.scalars(select(BundleItem)).all()
        ended = session.scalars(select(AuditEvent).where(AuditEvent.action == "bundle.ended")).all()
        assert {event.actor for event in ended} == {"operator", "machine"}


def test_training_reads_a_bundle(floor: Floor, tmp_path: Path) -> None:
    judged(floor, "one")
    judged(floor, "two", "allow", None)
    judged(floor, "three", "remove", "fraud")
    exported(floor, tmp_path)
    path = tmp_path / "labels.bundle"
    rows = {row.text: row for row in read_bundle(path, None, floor.now)}
    assert rows["Text of one."].labels == {"hate": 1}
    assert rows["Text of two."].labels == {
        "harassment": 0, "hate": 0, "threat": 0, "sexual": 0, "self_harm": 0, "spam": 0, "fraud": 0,
    }  # fmt: skip
    assert rows["Text of three."].labels == {"fraud": 1}
    assert {row.source for row in rows.values()} == {OWN}
    with pytest.raises(TrainingError, match="ended on"):
        read_bundle(path, path.with_name("labels.bundle.key"), floor.now + 91 * DAY)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TrainingError, match="does not open"):
        read_bundle(path, None, floor.now)
    with pytest.raises(BundleError):
        bundles.header_of(tmp_path / "labels.bundle.key")


def test_the_dataset_stage_takes_a_bundle_beside_the_published_sources(
    floor: Floor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged(floor, "one")
    made = exported(floor, tmp_path)
    published = Row("Text of another.", "cad", "train", {"hate": 0})
    monkeypatch.setattr(dataset, "read_source", lambda *_: [(dataset.key(published.text), published)])
    monkeypatch.setattr(dataset, "contrast_rows", lambda *_: [])
    (tmp_path / dataset.FILE).write_bytes(b"")
    folder = tmp_path / "run"
    path = str(tmp_path / "labels.bundle")
    assert training(["dataset", "--data", str(tmp_path), "--run", str(folder), "--bundle", path]) == 0
    rows = {row.text: row for row in dataset.read(Run(folder), "train", "calibrate", "evaluate")}
    assert rows["Text of one."].source == OWN
    assert "Text of another." in rows
    record = (folder / "dataset.json").read_text()
    assert f"bundle {made.id}" in record
    assert str(tmp_path) not in record, "a place on somebody's machine"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (
        training(["dataset", "--data", str(tmp_path), "--run", str(tmp_path / "x"), "--bundle", path + "x"])
        == 1
    )


def test_the_command_line(
    floor: Floor,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    judged(floor, "one")
    monkeypatch.setattr("moderation.settings.from_environment", lambda _: settings)
    out = tmp_path / "labels.bundle"
    assert cli.main(["labels", "export", "--out", str(out), "--since", f"{floor.now - DAY:%Y-%m-%d}"]) == 0
    said = capsys.readouterr().out
    assert "1 labelled texts" in said
    identifier = str(bundles.header_of(out).id)
    assert cli.main(["labels", "export", "--out", str(out)]) == cli.REFUSED
    assert "exists already" in capsys.readouterr().err
    assert out.exists()
    assert cli.main(["labels", "list"]) == 0
    assert identifier in capsys.readouterr().out
    assert cli.main(["labels", "end", identifier]) == 0
    assert cli.main(["labels", "list"]) == 0
    assert "ended" in capsys.readouterr().out.splitlines()[-1]
    assert cli.main(["labels", "end", "nonsense"]) == cli.REFUSED
