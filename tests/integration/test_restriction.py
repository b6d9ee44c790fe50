"""Restriction: from then on no machine judges what an author posts and nobody learns from it; people still do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from models.runtime import Scores
from models.text import TextClassifier
from moderation import bundles, worker
from moderation.domain.access import Role
from moderation.domain.content import Lane
from moderation.domain.errors import InvalidInput
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.domain.subjects import Right
from moderation.features.hashes import text_digest
from moderation.governance import erasure, restriction, rights
from moderation.pipeline import run
from moderation.review import golden, labels, quality
from moderation.review.labels import Wanted
from moderation.review.quality import Sampling
from moderation.settings import Settings
from moderation.storage import items as queue
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import (
    Author,
    BundleItem,
    Case,
    Decision,
    GoldenItem,
    Item,
    Outbox,
    SignalRow,
    Sketch,
)
from moderation.storage.vault import Vault
from tests import reviewing, support
from tests.judging import Floor, at_once

DAY = timedelta(days=1)


@pytest.fixture
def floor(client: TestClient, databases: Databases, vault: Vault, policy: Policy) -> Floor:
    return Floor(client, databases, vault, at_once(policy))


def use(client: TestClient, kind: str = "object", author: str = "acct-1") -> dict[str, Any]:
    body = {"kind": kind, "identity_verified": True}
    answer = client.post(f"/v1/subjects/{author}/requests", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()  # type: ignore[no-any-return]


def restrict(databases: Databases, item: UUID) -> None:
    with transaction(databases.content) as session:
        author = session.get_one(Author, session.get_one(Item, item).author_id)
        restriction.restrict(session, author, Right.RESTRICT, "operator", datetime.now(UTC))


def rows(databases: Databases, table: type[Any], *conditions: Any) -> list[Any]:
    with transaction(databases.content) as session:
        return list(session.scalars(select(table).where(*conditions)))


@pytest.mark.parametrize("kind", ["restrict", "object"])
def test_people_decide_and_no_machine_looks(
    client: TestClient, settings: Settings, databases: Databases, now: datetime, kind: str
) -> None:
    reviewing.submitted(client, "before")
    support.drain(settings)
    asked = use(client, kind)
    assert (asked["state"], asked["outcome"]) == ("done", "restricted")
    # A bank that would remove it for certain is a machine too.
    support.bank_of(databases, text_digest(support.MILD), "remove", now)
    item = reviewing.submitted(client, "after", parts=[support.text_part(), support.image_part()])
    support.drain(settings, dice=0.0)
    shown = client.get(f"/v1/items/{item}").json()
    assert (shown["status"], shown["verdict"]) == ("in_review", "review")
    assert shown["reasons"] == [restriction.SENTENCE]
    assert (shown["categories"], shown["detectors"]) == ([], [])
    assert [case.reason for case in rows(databases, Case)] == ["restricted"]
    assert not rows(databases, SignalRow, SignalRow.item_id == item)
    assert not rows(databases, Sketch)


def test_it_outlives_the_last_post(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault
) -> None:
    item = reviewing.submitted(client, "before")
    use(client)
    client.delete(f"/v1/items/{item}").raise_for_status()
    assert erasure.sweep_authors(databases, vault, datetime.now(UTC)) == 0
    after = reviewing.submitted(client, "after")
    support.drain(settings)
    assert client.get(f"/v1/items/{after}").json()["reasons"] == [restriction.SENTENCE]
    client.delete(f"/v1/items/{after}").raise_for_status()
    client.delete("/v1/subjects/acct-1/restriction").raise_for_status()
    assert erasure.sweep_authors(databases, vault, datetime.now(UTC)) == 1, "nothing else is left of them"


def test_others_in_the_same_batch_are_judged_as_ever(
    client: TestClient, settings: Settings, databases: Databases
) -> None:
    reviewing.submitted(client, "first")
    support.drain(settings)
    use(client)
    mine = reviewing.submitted(client, "mine")
    other = reviewing.submitted(client, "other", author="acct-2")
    support.drain(settings)
    assert client.get(f"/v1/items/{mine}").json()["verdict"] == "review"
    assert client.get(f"/v1/items/{other}").json()["verdict"] == "allow"
    assert {row.item_id for row in rows(databases, SignalRow)} >= {other}
    assert mine not in {row.item_id for row in rows(databases, SignalRow)}


class Watching:
    """A text classifier that notes what it is given."""

    def __init__(self, inner: TextClassifier, seen: list[str]) -> None:
        self._inner, self._seen = inner, seen
        self.manifest, self.reads_whole = inner.manifest, inner.reads_whole

    def score(self, batch: Sequence[str]) -> Scores:
        self._seen.extend(batch)
        return self._inner.score(batch)


def watched(tools: run.Tools, seen: list[str]) -> run.Tools:
    """The same tools, whose text classifiers note what they are given."""
    return replace(tools, text=[Watching(one, seen) for one in tools.text])  # type: ignore[misc]


def in_flight(settings: Settings, databases: Databases, meanwhile: Callable[[], None]) -> list[str]:
    """Claim and examine what is due, let something happen, then commit; the texts that classifiers saw."""
    seen: list[str] = []
    lease, now = timedelta(seconds=60), datetime.now(UTC)
    with worker.tools(settings, lambda: 1.0) as held:
        tools = watched(held, seen)
        with transaction(databases.content) as session:
            claim = queue.claim_due(session, Lane.LIVE, 10, lease, now)
        assert claim is not None
        screened = run.examine(tools, claim.token, claim.ids, now, lease)
        meanwhile()
        with transaction(databases.content) as session:
            run.commit(session, claim.token, screened)
    return seen


def test_a_batch_in_flight_commits_nothing_of_what_it_found(
    client: TestClient, settings: Settings, databases: Databases
) -> None:
    mine, other = reviewing.submitted(client, "mine"), reviewing.submitted(client, "other", author="acct-2")
    seen = in_flight(settings, databases, lambda: restrict(databases, mine))
    assert seen, "it was examined before"
    decided = {row.item_id: row for row in rows(databases, Decision)}
    assert (decided[mine].route, decided[mine].findings, decided[mine].detectors) == ("review", [], [])
    assert decided[mine].reasons == [restriction.SENTENCE]
    assert decided[other].route == "allow"
    assert {row.item_id for row in rows(databases, SignalRow)} == {other}


def test_what_is_restricted_reaches_no_classifier(
    client: TestClient, settings: Settings, databases: Databases
) -> None:
    mine = reviewing.submitted(client, "mine", parts=[support.text_part("zq81 quince jam")])
    reviewing.submitted(client, "other", author="acct-2", parts=[support.text_part("zq82 plum jam")])
    restrict(databases, mine)
    seen = in_flight(settings, databases, lambda: None)
    assert any("zq82" in text for text in seen)
    assert not any("zq81" in text for text in seen)


def test_lifting_it_lets_machines_judge_again(
    client: TestClient, settings: Settings, databases: Databases
) -> None:
    reviewing.endpoint(client, "author.restricted")
    reviewing.submitted(client, "first")
    support.drain(settings)
    request = use(client)
    assert client.delete("/v1/subjects/acct-1/restriction").status_code == 204
    assert client.delete("/v1/subjects/acct-1/restriction").status_code == 404
    item = reviewing.submitted(client, "later")
    support.drain(settings)
    assert client.get(f"/v1/items/{item}").json()["verdict"] == "allow"
    said = sorted((row.payload["state"], row.payload["request_id"]) for row in rows(databases, Outbox)
                  if row.event == "author.restricted")  # fmt: skip
    assert said == [("lifted", None), ("restricted", request["id"])] or said[1] == (
        "restricted",
        request["id"],
    )


def judged(floor: Floor, name: str) -> UUID:
    item = floor.decided(name, Route.REVIEW, "hate")
    floor.give(floor.person(), floor.case_of(item), "remove", "hate")
    return item


def exported(floor: Floor, folder: Path, name: str = "labels") -> labels.Exported:
    wanted = Wanted(floor.now - DAY, floor.now + DAY)
    path = folder / f"{name}.bundle"
    with transaction(floor.databases.content) as session:
        return labels.export(
            session, floor.vault, path, path.with_name(path.name + ".key"), wanted, "operator", floor.now
        )


def texts(folder: Path, made: labels.Exported, name: str = "labels") -> list[str]:
    path = folder / f"{name}.bundle"
    key = bundles.read_key(path.with_name(path.name + ".key"), made.id)
    return [row["text"] for row in bundles.read(path, key, datetime.now(UTC))]


def test_training_never_gets_it_and_loses_what_it_had(floor: Floor, tmp_path: Path) -> None:
    mine, kept = judged(floor, "mine"), judged(floor, "kept")
    before = exported(floor, tmp_path, "before")
    assert sorted(texts(tmp_path, before, "before")) == ["Text of kept.", "Text of mine."]
    restrict(floor.databases, mine)
    after = exported(floor, tmp_path, "after")
    assert texts(tmp_path, after, "after") == ["Text of kept."]
    assert rights.untrain(floor.databases, floor.vault, floor.now) == 1
    assert {row.item_id for row in rows(floor.databases, BundleItem)} == {kept}
    assert rights.untrain(floor.databases, floor.vault, floor.now) == 0


def test_nobody_draws_it_for_quality(floor: Floor, databases: Databases, policy: Policy) -> None:
    lead, other = floor.person(Role.LEAD), floor.person(Role.LEAD)
    mine, kept = judged(floor, "mine"), judged(floor, "kept")
    with transaction(databases.content) as session:
        golden.add(session, lead, mine, floor.now)
    restrict(databases, mine)
    with transaction(databases.content) as session:
        drawn = quality.sample(session, policy, lead, Sampling(), 10, "seed", floor.now)
        assert drawn.population == 1
        assert session.get_one(Case, drawn.cases[0]).item_id == kept
        with pytest.raises(InvalidInput, match="nothing but to judge it"):
            golden.add(session, lead, mine, floor.now)
        assert golden.golden_case(session, policy, other, floor.now) is None
        session.execute(update(Author).values(restricted_at=None))
        assert session.scalars(select(GoldenItem.item_id)).all() == [mine]
        assert golden.golden_case(session, policy, other, floor.now) is not None, "else this shows nothing"


def test_a_second_opinion_is_not_drawn_of_it(floor: Floor, databases: Databases) -> None:
    item = floor.decided("mine", Route.REVIEW, "hate")
    restrict(databases, item)
    case = floor.case_of(item)
    floor.give(floor.person(), case, "remove", "hate", dice=0.0)
    assert not rows(databases, Case, Case.kind == "quality")
    other = floor.decided("other", Route.REVIEW, "hate")
    floor.give(floor.person(), floor.case_of(other), "remove", "hate", dice=0.0)
    assert len(rows(databases, Case, Case.kind == "quality")) == 1, "else this shows nothing"


def test_who_restricts_twice_is_restricted_once(client: TestClient, databases: Databases) -> None:
    reviewing.submitted(client)
    assert use(client, "restrict")["id"] != use(client, "restrict")["id"]
    with transaction(databases.content) as session:
        author = session.scalars(select(Author)).one()
        assert author.restricted_because == "restrict"
        assert not restriction.restrict(session, author, Right.OBJECT, "operator", datetime.now(UTC))
        assert not restriction.is_set_apart(session, uuid4())
