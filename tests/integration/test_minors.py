"""Suspected minors: suspended at once, in no dataset, looked at by a person in time; then erased or cleared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from moderation.domain.access import Role
from moderation.domain.errors import Conflict, Forbidden, InvalidInput, NotFound
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.domain.subjects import CLEARED_DAYS, MinorSource, RightsRules, suspected_again
from moderation.features.hashes import text_digest
from moderation.governance import erasure, rights
from moderation.governance import minors as checks
from moderation.review import golden, labels, minors
from moderation.review.labels import Wanted
from moderation.review.minors import Preserve
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import (
    AccountAction,
    Author,
    BundleItem,
    Case,
    Decision,
    Item,
    MinorCheck,
    Outbox,
    Preservation,
)
from moderation.storage.vault import Vault
from tests import people, reviewing, support
from tests.judging import Floor, at_once

DAY = timedelta(days=1)


@pytest.fixture
def floor(client: TestClient, databases: Databases, vault: Vault, policy: Policy) -> Floor:
    return Floor(client, databases, vault, at_once(policy))


def rows(databases: Databases, table: type[Any], *conditions: Any) -> list[Any]:
    with transaction(databases.content) as session:
        return list(session.scalars(select(table).where(*conditions).order_by(table.id)))


def told(databases: Databases) -> list[dict[str, Any]]:
    """What was said of checks, in the order of time and, at one moment, suspicions first."""
    found = [row for row in rows(databases, Outbox) if row.event == "author.suspected_minor"]
    order = {"suspected": 0, "cleared": 1, "confirmed": 2}
    return [
        row.payload for row in sorted(found, key=lambda one: (one.created_at, order[one.payload["state"]]))
    ]


def notice(client: TestClient, author: str = "acct-1") -> dict[str, Any]:
    answer = client.post(f"/v1/subjects/{author}/minor-notice")
    assert answer.status_code == 202, answer.text
    return answer.json()  # type: ignore[no-any-return]


def report(client: TestClient, item: UUID, category: str = "underage", reporter: str = "reader-1") -> None:
    body = {"reporter": reporter, "category": category}
    client.post(f"/v1/items/{item}/reports", json=body).raise_for_status()


def test_a_notice_opens_a_check_once_and_tells_its_service(client: TestClient, databases: Databases) -> None:
    reviewing.submitted(client)
    reviewing.endpoint(client, "author.suspected_minor")
    first = notice(client)
    assert (first["state"], first["author"]) == ("suspected", "acct-1")
    assert notice(client)["id"] == first["id"]
    assert told(databases) == [{"check_id": first["id"], "state": "suspected"}]
    shown = client.get(f"/v1/minor-checks/{first['id']}").json()
    assert (shown["author"], shown["state"]) == ("acct-1", "suspected")
    (row,) = rows(databases, MinorCheck)
    assert row.deadline - row.opened_at == timedelta(hours=4)
    assert client.post("/v1/subjects/nobody/minor-notice").status_code == 404


def test_only_its_own_service_sees_a_check(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault
) -> None:
    reviewing.submitted(client)
    check = notice(client)
    with support.calling(settings, support.new_key(databases, vault, "other")) as other:
        assert other.get(f"/v1/minor-checks/{check['id']}").status_code == 404


@pytest.mark.parametrize("decided", [True, False])
def test_a_report_opens_a_check_before_or_after_screening(
    client: TestClient, databases: Databases, policy: Policy, decided: bool
) -> None:
    item = reviewing.submitted(client)
    if decided:
        reviewing.decide(databases, policy, item, datetime.now(UTC))
    report(client, item, "spam")
    assert not rows(databases, MinorCheck)
    report(client, item)
    (row,) = rows(databases, MinorCheck)
    assert (row.source, row.item_id) == ("report", item)
    urgent = [(case.reason, case.urgent) for case in rows(databases, Case)]
    assert urgent == ([("minor", True)] if decided else [])


def test_a_signal_opens_a_check(
    client: TestClient, settings: Settings, databases: Databases, now: datetime
) -> None:
    support.bank_of(databases, text_digest(support.MILD), "review", now, category="underage")
    item = reviewing.submitted(client)
    support.drain(settings)
    (row,) = rows(databases, MinorCheck)
    assert (row.source, row.item_id) == ("signal", item)
    (case,) = rows(databases, Case)
    assert (case.reason, case.urgent) == ("minor", True)


def test_an_opinion_opens_a_check(floor: Floor, databases: Databases) -> None:
    item = floor.decided("post", Route.REVIEW, "hate")
    floor.give(floor.person(), floor.case_of(item), "remove", "underage")
    (row,) = rows(databases, MinorCheck)
    assert (row.source, row.item_id) == ("person", item)


def test_the_deadline_is_the_policys_and_what_is_late_is_counted(
    client: TestClient, databases: Databases, policy: Policy, now: datetime
) -> None:
    reviewing.submitted(client)
    with transaction(databases.content) as session:
        author = session.scalars(select(Author)).one()
        quick = replace(policy, rights=RightsRules(minor_hours=0.5))
        checks.suspect(
            session, quick, client="app", author_id=author.id, item_id=None, source=MinorSource.PERSON,
            actor="operator", now=now,
        )  # fmt: skip
        assert checks.overdue(session, now + timedelta(minutes=29)) == 0
        assert checks.overdue(session, now + timedelta(minutes=31)) == 1


def judged(floor: Floor, name: str) -> UUID:
    item = floor.decided(name, Route.REVIEW, "hate")
    floor.give(floor.person(), floor.case_of(item), "remove", "hate")
    return item


def known(floor: Floor) -> set[UUID]:
    with transaction(floor.databases.content) as session:
        found = labels.labels(session, floor.now, since=floor.now - DAY, until=floor.now + DAY)
        return {one.item_id for one in found}


def test_nothing_of_a_suspected_minor_is_in_a_dataset(floor: Floor, tmp_path: Path) -> None:
    mine, kept = judged(floor, "mine"), judged(floor, "kept")
    with transaction(floor.databases.content) as session:
        path = tmp_path / "before.bundle"
        wanted = Wanted(floor.now - DAY, floor.now + DAY)
        labels.export(session, floor.vault, path, tmp_path / "before.key", wanted, "operator", floor.now)
        golden.add(session, floor.person(Role.LEAD), mine, floor.now)
    assert known(floor) == {mine, kept}
    # Another item of theirs, which nothing connects with minors, is out too.
    check = notice(floor.client, "author of mine")
    assert known(floor) == {kept}
    rights.tend(floor.databases, floor.vault, floor.now)
    with transaction(floor.databases.content) as session:
        assert session.scalars(select(BundleItem.item_id)).all() == [kept]
        assert golden.golden_case(session, floor.policy, floor.person(Role.LEAD), floor.now) is None
        minors.clear(session, floor.person(Role.LEAD), UUID(check["id"]), floor.now)
    assert kept in known(floor)


def test_clearing_ends_the_suspension_and_protects_from_another(
    client: TestClient, databases: Databases, vault: Vault
) -> None:
    item = reviewing.submitted(client)
    reviewing.endpoint(client, "author.suspected_minor")
    report(client, item)
    lead, now = people.principal(databases, vault, Role.LEAD), datetime.now(UTC)
    (check,) = rows(databases, MinorCheck)
    with transaction(databases.content) as session:
        minors.clear(session, lead, check.id, now)
        with pytest.raises(Conflict):
            minors.clear(session, lead, check.id, now)
    assert [one["state"] for one in told(databases)] == ["suspected", "cleared"]
    report(client, item, reporter="reader-2")
    assert len(rows(databases, MinorCheck)) == 1, "reporters do not suspend somebody again at once"
    assert notice(client)["state"] == "suspected", "their content service always can"
    assert suspected_again(MinorSource.REPORT, now, now + timedelta(days=CLEARED_DAYS))


def confirm(
    databases: Databases,
    vault: Vault,
    blobs: FolderBlobs,
    policy: Policy,
    check: UUID,
    preserve: Preserve | None = None,
    roles: Sequence[str] = (Role.LEAD,),
) -> UUID | None:
    person = people.principal(databases, vault, *roles)
    now = datetime.now(UTC)
    return minors.confirm(databases, vault, blobs, policy, person, check, now, preserve)


def test_confirming_decides_tells_and_erases(
    client: TestClient, databases: Databases, vault: Vault, blobs: FolderBlobs, policy: Policy
) -> None:
    item = reviewing.submitted(client)
    reviewing.decide(databases, policy, item, datetime.now(UTC))
    second = reviewing.submitted(client, "post-2")
    reviewing.endpoint(client, "author.suspected_minor", "author.erased")
    report(client, item)
    (check,) = rows(databases, MinorCheck)
    erased = confirm(databases, vault, blobs, policy, check.id)
    assert {client.get(f"/v1/items/{one}").status_code for one in (item, second)} == {404}
    (decision,) = [row for row in rows(databases, Decision) if row.person_id]
    assert (decision.item_id, decision.route, decision.category) == (item, "remove", "underage")
    assert decision.effective_at == decision.decided_at, "no undo window"
    assert [row.kind for row in rows(databases, AccountAction)] == ["ban"]
    erasure.run(databases, vault, blobs, datetime.now(UTC), 10)
    assert not rows(databases, Author)
    assert not rows(databases, Item)
    assert not rows(databases, Preservation)
    final = told(databases)[-1]
    assert final == {"check_id": str(check.id), "state": "confirmed", "decision_id": str(decision.id)}
    shown = client.get(f"/v1/decisions/{decision.id}").json()
    assert (shown["verdict"], shown["category"]) == ("remove", "underage")
    done = client.get(f"/v1/minor-checks/{check.id}").json()
    assert (done["state"], done["erasure_id"]) == ("confirmed", str(erased))
    assert "author" not in done


def test_an_author_without_items_is_erased_without_a_decision(
    client: TestClient, databases: Databases, vault: Vault, blobs: FolderBlobs, policy: Policy
) -> None:
    item = reviewing.submitted(client)
    check = notice(client)
    client.delete(f"/v1/items/{item}").raise_for_status()
    confirm(databases, vault, blobs, policy, UUID(check["id"]))
    assert not rows(databases, Decision)
    erasure.run(databases, vault, blobs, datetime.now(UTC), 10)
    assert not rows(databases, Author)


def test_whoever_deletes_their_posts_is_still_looked_at(
    client: TestClient, databases: Databases, vault: Vault
) -> None:
    item = reviewing.submitted(client)
    check = UUID(notice(client)["id"])
    client.delete(f"/v1/items/{item}").raise_for_status()
    assert erasure.sweep_authors(databases, vault, datetime.now(UTC)) == 0
    with transaction(databases.content) as session:
        minors.clear(session, people.principal(databases, vault, Role.LEAD), check, datetime.now(UTC))
    assert erasure.sweep_authors(databases, vault, datetime.now(UTC)) == 1


def test_a_check_of_somebody_who_left_since_can_be_answered(
    client: TestClient, databases: Databases, vault: Vault, blobs: FolderBlobs, policy: Policy
) -> None:
    reviewing.submitted(client)
    check = notice(client)
    body = {"kind": "cancel", "identity_verified": True}
    client.post("/v1/subjects/acct-1/requests", json=body).raise_for_status()
    erasure.run(databases, vault, blobs, datetime.now(UTC), 10)
    assert not rows(databases, Author)
    keep = Preserve("18 USC 2258A(h)", datetime.now(UTC) + 30 * DAY)
    assert confirm(databases, vault, blobs, policy, UUID(check["id"]), keep) is None
    assert client.get(f"/v1/minor-checks/{check['id']}").json()["state"] == "confirmed"
    with transaction(databases.content) as session:
        assert checks.overdue(session, datetime.now(UTC) + DAY) == 0


def test_a_copy_is_kept_only_where_a_law_asks_for_it(
    client: TestClient, databases: Databases, vault: Vault, blobs: FolderBlobs, policy: Policy
) -> None:
    reviewing.submitted(client)
    check = UUID(notice(client)["id"])
    now = datetime.now(UTC)
    for wrong in (Preserve(" ", now + DAY), Preserve("18 USC 2258A", now), Preserve("x", now + 400 * DAY)):
        with pytest.raises(InvalidInput):
            confirm(databases, vault, blobs, policy, check, wrong)
    assert not rows(databases, Preservation)
    confirm(databases, vault, blobs, policy, check, Preserve("18 USC 2258A(h)", now + 365 * DAY))
    (package,) = rows(databases, Preservation)
    assert (package.cause, package.items) == ("minor", 1)
    assert rows(databases, MinorCheck)[0].preservation_id == package.id


def test_it_takes_somebody_who_may(
    client: TestClient, databases: Databases, vault: Vault, blobs: FolderBlobs, policy: Policy
) -> None:
    reviewing.submitted(client)
    check = UUID(notice(client)["id"])
    with pytest.raises(Forbidden):
        confirm(databases, vault, blobs, policy, check, roles=(Role.MODERATOR,))
    with pytest.raises(NotFound):
        confirm(databases, vault, blobs, policy, UUID(int=1))
    confirm(databases, vault, blobs, policy, check, roles=(Role.PRIVACY_OFFICER,))
    with pytest.raises(Conflict):
        confirm(databases, vault, blobs, policy, check)
