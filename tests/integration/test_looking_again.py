"""Labels in doubt: asked about again, blind; held back until somebody has settled them; and said at export."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from moderation import cli
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.review import golden, labels, looking_again, quality
from moderation.review.looking_again import Looked
from moderation.settings import Settings
from moderation.storage.database import Databases, insert_many, transaction
from moderation.storage.tables import AuditEvent, Case, GoldenItem, Opinion, SignalRow
from moderation.storage.vault import Vault
from tests.judging import Floor, at_once

DAY = timedelta(days=1)
FEWEST = 6  # of a class, so that a test has not to make twenty


@pytest.fixture
def floor(client: TestClient, databases: Databases, vault: Vault, policy: Policy) -> Floor:
    return Floor(client, databases, vault, at_once(policy))


def scored(floor: Floor, item: UUID, score: float, *, shadow: bool = False) -> None:
    row = {
        "item_id": item, "part": "body", "detector": "m:2" if shadow else "m", "version": "1", "status": "ok",
        "scores": {"hate": score}, "evidence": {}, "shadow": shadow,
    }  # fmt: skip
    with transaction(floor.databases.content) as session:
        insert_many(session, SignalRow, [row])


@pytest.fixture
def slips(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
    """Several that people judged as their scores say, and three that are the other way round."""
    monkeypatch.setattr(looking_again, "FEWEST", FEWEST)
    person, wrong = floor.person(), []
    for number in range(FEWEST + 1):
        for verdict, score in (("remove", 0.9), ("allow", 0.05)):
            slip = number == 0 or (number == 1 and verdict == "allow")
            item = floor.decided(f"{verdict} {number}", Route.REVIEW, "hate")
            floor.give(person, floor.case_of(item), verdict, "hate" if verdict == "remove" else None)
            # What a shadow said is another model's word.
            scored(floor, item, (1 - score) if slip else score)
            scored(floor, item, 0.5, shadow=True)
            wrong += [item] if slip else []
    return wrong


def look(floor: Floor, **options: Any) -> Looked:
    with transaction(floor.databases.content) as session:
        return looking_again.look(session, floor.policy, "operator", floor.now + DAY, **options)


def given(floor: Floor) -> set[UUID]:
    with transaction(floor.databases.content) as session:
        found = labels.labels(session, floor.now + DAY, since=floor.now - DAY, until=floor.now + DAY)
        return {one.item_id for one in found}


def test_what_is_at_odds_is_asked_about_again_and_held_back(
    floor: Floor, slips: list[UUID], tmp_path: Path
) -> None:
    before = given(floor)
    assert set(slips) <= before
    dry = look(floor, dry=True)
    assert set(dry.asked) == set(slips)
    assert given(floor) == before, "nobody was asked"

    asked = look(floor)
    assert (set(asked.asked), asked.labels, asked.thin) == (set(slips), 2 * (FEWEST + 1), ())
    with transaction(floor.databases.content) as session:
        cases = session.scalars(select(Case).where(Case.reason == "look_again")).all()
        assert {(one.item_id, one.kind, one.blind, one.state) for one in cases} == {
            (item, "quality", True, "open") for item in slips
        }
        event = session.scalars(select(AuditEvent).where(AuditEvent.action == "labels.doubted")).one()
        assert event.details["asked"] == 3
    assert given(floor) == before - set(slips)
    assert look(floor).asked == (), "once"

    wanted = labels.Wanted(floor.now - DAY, floor.now + 2 * DAY)
    with transaction(floor.databases.content) as session:
        made = labels.export(
            session, floor.vault, tmp_path / "b", tmp_path / "b.key", wanted, "operator", floor.now
        )
    assert (made.rows, made.held.look_again, made.held.contested) == (len(before) - 3, 3, 0)


def test_somebody_else_settles_it_and_then_it_is_a_label_again(floor: Floor, slips: list[UUID]) -> None:
    look(floor, most=1)
    (item,) = {one for one in slips if floor.case_of(one, "quality").int}
    case = floor.case_of(item, "quality")
    was = _verdict(floor, item)
    for _ in range(2):
        floor.give(
            floor.person(), case, "allow" if was == "remove" else "remove", "hate" if was == "allow" else None
        )
    with transaction(floor.databases.content) as session:
        found = labels.labels(session, floor.now + DAY, since=floor.now - DAY, until=floor.now + DAY)
        (label,) = [one for one in found if one.item_id == item]
        agreement = quality.agreement(session, floor.now - DAY, floor.now + DAY)
    assert label.labels["hate"] == int(was == "allow")
    assert (label.agreement, label.source) == ("overruled", "review")
    assert agreement.overall.cases == 0, "what was chosen for being at odds says nothing of agreement"
    assert item not in look(floor).asked, "two have looked"


def _verdict(floor: Floor, item: UUID) -> str:
    with transaction(floor.databases.content) as session:
        return session.scalars(select(Opinion.verdict).where(Opinion.item_id == item)).one()


def test_at_most_so_many_are_asked_the_widest_margin_first(floor: Floor, slips: list[UUID]) -> None:
    worst = slips[1]
    with transaction(floor.databases.content) as session:
        session.execute(
            update(SignalRow)
            .where(SignalRow.item_id == worst, SignalRow.shadow.is_(False))
            .values(scores={"hate": 0.999 if _verdict(floor, worst) == "allow" else 0.001})
        )
    assert look(floor, most=1).asked == (worst,)


@pytest.mark.parametrize("state", ["open", "withdrawn", "upheld"])
def test_a_golden_item_whose_answer_is_contested_is_held_back(
    floor: Floor, state: str, tmp_path: Path
) -> None:
    item = floor.decided("one", Route.REVIEW, "hate")
    floor.give(floor.person(), floor.case_of(item), "remove", "hate")
    with transaction(floor.databases.content) as session:
        golden.add(session, floor.person("lead"), item, floor.now)
        session.execute(update(Opinion).where(Opinion.item_id == item).values(contested=state))
        assert session.scalars(select(GoldenItem.item_id)).all() == [item]
    other = floor.decided("two", Route.REVIEW, "hate")
    floor.give(floor.person(), floor.case_of(other), "remove", "hate")
    assert given(floor) == ({item, other} if state == "upheld" else {other})
    wanted = labels.Wanted(floor.now - DAY, floor.now + DAY)
    with transaction(floor.databases.content) as session:
        made = labels.export(
            session, floor.vault, tmp_path / "b", tmp_path / "b.key", wanted, "operator", floor.now
        )
        assert made.held.contested == (state != "upheld")
        event = session.scalars(select(AuditEvent).where(AuditEvent.action == "labels.exported")).one()
        assert event.details["held_back"] == {"look_again": 0, "contested": int(state != "upheld")}


def test_only_what_a_client_posted_is_exported_for_it(floor: Floor) -> None:
    item = floor.decided("one", Route.REVIEW, "hate")
    floor.give(floor.person(), floor.case_of(item), "remove", "hate")
    with transaction(floor.databases.content) as session:
        for client, expected in (("app", {item}), ("other", set())):
            found = labels.labels(
                session, floor.now, since=floor.now - DAY, until=floor.now + DAY, client=client
            )
            assert {one.item_id for one in found} == expected


def test_the_command_line_says_what_is_in_doubt(
    floor: Floor, slips: list[UUID], settings: Settings, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("moderation.settings.from_environment", lambda _: settings)
    assert cli.main(["labels", "check", "--dry-run"]) == 0
    assert "3 would be asked about again. Nobody was asked." in capsys.readouterr().out
    assert cli.main(["labels", "check", "--most", "2"]) == 0
    assert "2 are asked about again, blind; 2 wait." in capsys.readouterr().out
    assert cli.main(["labels", "export", "--out", str(tmp_path / "b")]) == 0
    assert "2 labels are held back" in capsys.readouterr().out
