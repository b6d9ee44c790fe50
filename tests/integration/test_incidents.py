"""Incidents: whom they touch by the log, who is told, and a clock that nobody overhears."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from moderation import cli
from moderation.domain.access import Role
from moderation.domain.errors import Conflict, InvalidInput, NotFound
from moderation.domain.policy import Policy
from moderation.governance import audit, incident_scopes, incidents
from moderation.governance.accounts import Scope as ApiScope
from moderation.governance.incident_scopes import Scope
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, IncidentAuthor, Outbox
from moderation.storage.vault import Vault
from tests import people, support
from tests.holding import Place

HOUR = timedelta(hours=1)


@pytest.fixture
def place(databases: Databases, vault: Vault, blobs: FolderBlobs, policy: Policy, now: datetime) -> Place:
    ann, bob = (people.principal(databases, vault, Role.LEGAL) for _ in range(2))
    return Place(databases, vault, blobs, policy, ann, bob, now)


def opened(place: Place, scope: Scope, **changes: Any) -> UUID:
    options: dict[str, Any] = {
        "kind": "access", "severity": 4, "description": "Somebody used a session that was not theirs.",
        "detected_at": place.now, "actor": "operator", "now": place.now,
    }  # fmt: skip
    with transaction(place.databases.content) as session:
        return incidents.open_incident(session, place.vault, scope=scope, **options | changes)


def viewed(place: Place, items: list[UUID], person: str, at: datetime, action: str = "item.viewed") -> None:
    with transaction(place.databases.content) as session:
        audit.record(session, [audit.Event(person, action, "item", str(one)) for one in items], at)


def affected(place: Place, incident: UUID, now: datetime | None = None) -> incidents.Affected:
    with transaction(place.databases.content) as session:
        return incidents.find_affected(session, incident, "operator", now or place.now)


def named(place: Place, incident: UUID) -> set[UUID]:
    with transaction(place.databases.content) as session:
        query = select(IncidentAuthor.author_id).where(IncidentAuthor.incident_id == incident)
        return set(session.scalars(query))


def test_the_log_says_whom_it_touches(place: Place) -> None:
    mine, theirs, early, late = (place.submit(f"acct-{n}", place.now - 9 * HOUR, 2) for n in range(4))
    viewed(place, mine, "person:1", place.now - HOUR)
    viewed(place, theirs, "person:2", place.now - HOUR)
    viewed(place, early, "person:1", place.now - 5 * HOUR)
    viewed(place, late, "person:1", place.now + HOUR)
    viewed(place, theirs, "person:1", place.now - HOUR, "item.history_viewed")
    scope = Scope("person:1", "item.viewed", place.now - 2 * HOUR, place.now)
    incident = opened(place, scope)
    found = affected(place, incident)
    assert (found.items, found.authors, found.erased, found.by_client) == (2, 1, 0, {"app": 1})
    assert named(place, incident) == {place.author_of(mine[0])}
    wide = opened(place, Scope("person", "item.", place.now - 2 * HOUR, place.now + 2 * HOUR))
    assert affected(place, wide).authors == 3
    assert affected(place, opened(place, Scope(action="item."))).authors == 4
    assert affected(place, opened(place, Scope(everybody=True))).authors == 4
    assert affected(place, opened(place, Scope("person:3"))).authors == 0


def test_it_is_found_through_cases_decisions_and_authors(
    client: TestClient, load: Any, place: Place, databases: Databases
) -> None:
    cases = load.waiting(2, author="acct-1")
    other = place.submit("acct-2", place.now)
    with transaction(databases.content) as session:
        events = [
            audit.Event("person:1", "case.viewed", "case", str(cases[0])),
            audit.Event("person:1", "author.viewed", "author", str(place.author_of(other[0]))),
            audit.Event("person:1", "policy.published", "policy", "7"),
        ]
        audit.record(session, events, place.now + HOUR)
    found = affected(place, opened(place, Scope("person:1")))
    assert (found.items, found.authors) == (1, 2)


def test_who_was_erased_since_is_left_out_and_counted(place: Place) -> None:
    stays, goes = place.submit("acct-1", place.now), place.submit("acct-2", place.now)
    viewed(place, [*stays, *goes], "person:1", place.now)
    author = place.author_of(goes[0])
    place.erase(author, place.now)
    first = opened(place, Scope("person:1"))
    assert (affected(place, first).authors, affected(place, first).erased) == (1, 1)
    place.carry_out(place.now)
    later = opened(place, Scope("person:1"))
    found = affected(place, later)
    assert (found.items, found.authors, found.erased + found.lost) == (2, 1, 1)
    assert named(place, later) == {place.author_of(stays[0])}


def test_the_content_service_is_told_how_many_and_reads_whom(
    place: Place, client: TestClient, settings: Settings, databases: Databases, vault: Vault
) -> None:
    hook = {"name": "hook", "url": "http://127.0.0.1:8999/hook", "events": ["incident.notice"]}
    assert client.post("/v1/webhook-endpoints", json=hook).status_code == 201
    items = [item for n in range(3) for item in place.submit(f"acct-{n}", place.now)]
    place.submit("acct-9", place.now)
    viewed(place, items, "person:1", place.now)
    incident = opened(place, Scope("person:1", "item.viewed"))
    with transaction(databases.content) as session, pytest.raises(Conflict, match="Ask first"):
        incidents.tell_services(session, incident, "operator", place.now)
    affected(place, incident)
    with transaction(databases.content) as session:
        assert incidents.tell_services(session, incident, "operator", place.now) == incidents.Told(
            ("app",), ()
        )
        message = session.scalars(select(Outbox).where(Outbox.event == "incident.notice")).one()
        assert message.payload == {
            "incident_id": str(incident), "kind": "access", "severity": 4, "authors": 3,
            "detected_at": "2026-11-22T12:00:00Z",
        }  # fmt: skip
        assert incidents.tell_services(session, incident, "operator", place.now) == incidents.Told((), ())
        assert incidents.get(session, incident).authors_told_at == place.now
    answer = client.get(f"/v1/incidents/{incident}/authors")
    assert answer.status_code == 200
    assert sorted(answer.json()["authors"]) == ["acct-0", "acct-1", "acct-2"]
    with transaction(databases.content) as session:
        reads = session.scalars(select(AuditEvent).where(AuditEvent.actor == "client:app",
                                                         AuditEvent.action == "incident.viewed")).all()  # fmt: skip
    assert [one.details["purpose"] for one in reads] == ["security"]
    for key in (
        support.new_key(databases, vault, "other"),
        support.new_key(databases, vault, "app", ApiScope.ITEMS_READ),
    ):
        with support.calling(settings, key) as other:
            assert other.get(f"/v1/incidents/{incident}/authors").status_code in (403, 404)


def test_a_service_without_an_endpoint_is_named_as_not_told(place: Place, databases: Databases) -> None:
    viewed(place, place.submit("acct-1", place.now), "person:1", place.now)
    incident = opened(place, Scope("person:1"))
    affected(place, incident)
    with transaction(databases.content) as session:
        assert incidents.tell_services(session, incident, "operator", place.now) == incidents.Told(
            (), ("app",)
        )
        assert incidents.get(session, incident).authors_told_at is None


def test_many_authors_are_read_page_by_page(
    place: Place, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incidents, "PAGE", 2)
    for n in range(5):
        place.submit(f"acct-{n}", place.now)
    incident = opened(place, Scope(everybody=True))
    affected(place, incident)
    seen: list[list[str]] = []
    after = ""
    while True:
        answer = client.get(f"/v1/incidents/{incident}/authors{after}").json()
        seen.append(answer["authors"])
        if "next" not in answer:
            break
        after = f"?after={answer['next']}"
    assert [len(one) for one in seen] == [2, 2, 1]
    assert sorted(one for page in seen for one in page) == [f"acct-{n}" for n in range(5)]


def test_the_clock(place: Place) -> None:
    def left(moment: datetime) -> float:
        with transaction(place.databases.content) as session:
            return incidents.seconds_left(session, moment)

    def late(moment: datetime) -> int:
        with transaction(place.databases.content) as session:
            return incidents.overdue(session, moment)

    assert left(place.now) == math.inf
    incident = opened(place, Scope("person:1"), detected_at=place.now - 10 * HOUR)
    second = opened(place, Scope("person:1"))
    assert left(place.now) == 62 * 3600
    assert left(place.now + 62 * HOUR) == 0
    assert left(place.now + 63 * HOUR) == -3600
    assert [late(place.now + hours * HOUR) for hours in (61, 62, 72)] == [0, 1, 2]
    with transaction(place.databases.content) as session:
        for wrong in (place.now - 11 * HOUR, place.now + 2 * HOUR):
            with pytest.raises(InvalidInput):
                incidents.authority_told(session, incident, wrong, "operator", place.now + HOUR)
        incidents.authority_told(session, incident, place.now + HOUR, "operator", place.now + HOUR)
    assert left(place.now) == 72 * 3600
    with transaction(place.databases.content) as session:
        with pytest.raises(Conflict, match="when the authority was told"):
            incidents.close(session, second, "operator", place.now)
        incidents.close(session, second, "operator", place.now, no_risk=True)
        incidents.close(session, incident, "operator", place.now)
        with pytest.raises(Conflict, match="closed"):
            incidents.find_affected(session, incident, "operator", place.now)
    assert left(place.now) == math.inf


def test_the_scope_is_changed_until_somebody_was_told(place: Place, databases: Databases) -> None:
    mine, theirs = place.submit("acct-1", place.now), place.submit("acct-2", place.now)
    viewed(place, mine, "person:1", place.now)
    viewed(place, theirs, "person:2", place.now)
    incident = opened(place, Scope("person:1"))
    affected(place, incident)
    with transaction(databases.content) as session:
        incidents.rescope(session, incident, Scope("person:2"), "operator", place.now)
    affected(place, incident)
    assert named(place, incident) == {place.author_of(theirs[0])}
    with transaction(databases.content) as session:
        session.scalars(select(IncidentAuthor)).one().told_at = place.now
    with transaction(databases.content) as session, pytest.raises(Conflict):
        incidents.rescope(session, incident, Scope("person:1"), "operator", place.now)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "fire"},
        {"severity": 9},
        {"description": "  "},
        {"detected_at": datetime(2027, 1, 1, tzinfo=UTC)},
        {"scope": Scope()},
        {"scope": Scope(actor="person 1; DROP")},
        {"scope": Scope(since=datetime(2026, 1, 2, tzinfo=UTC), until=datetime(2026, 1, 1, tzinfo=UTC))},
    ],
)
def test_an_incident_that_can_not_be(place: Place, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        opened(place, wrong.pop("scope", Scope("person:1")), **wrong)


def test_a_scope_is_read_as_it_was_stored() -> None:
    scope = Scope("person", "item.", datetime(2026, 1, 1, tzinfo=UTC), None)
    assert incident_scopes.read(incident_scopes.stored(scope)) == scope
    everybody = Scope(everybody=True)
    assert incident_scopes.read(incident_scopes.stored(everybody)) == everybody


def test_what_happened_is_encrypted_and_unknown_ones_are_not_found(
    place: Place, databases: Databases
) -> None:
    incident = opened(place, Scope("person:1"))
    with transaction(databases.content) as session:
        row = incidents.get(session, incident)
        assert row.description is not None
        assert b"session" not in row.description
        assert incidents.description_of(place.vault, row) == "Somebody used a session that was not theirs."
        with pytest.raises(NotFound):
            incidents.get(session, uuid4())


def test_from_the_command_line(
    place: Place,
    settings: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli, "_settings", lambda _: settings)
    said = _running(capsys)
    (item,) = place.submit("acct-1", place.now)
    viewed(place, [item], "person:1", datetime.now(UTC) - HOUR)
    text = tmp_path / "what.txt"
    text.write_text("A laptop was lost.", encoding="utf-8")
    opening = ["open", "--kind", "loss", "--severity", "3", "--description", str(text), "--actor", "person:1"]
    incident = said(*opening).strip()
    assert "h to tell the authority" in said("list")
    assert "1 authors in all, of 1 items" in said("affected", incident)
    assert "has no endpoint" in said("notify", incident, code=1)
    assert "A laptop was lost." in said("show", incident)
    assert said("close", incident, code=2) == ""
    assert "stands still" in said("authority-told", incident)
    assert said("close", incident) == "Closed.\n"
    assert "closed" in said("list")


def _running(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def said(*arguments: str, code: int = 0) -> str:
        assert cli.main(["incident", *arguments]) == code
        return capsys.readouterr().out

    return said
