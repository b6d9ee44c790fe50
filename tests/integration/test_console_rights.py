"""The console's pages of requests, minors and partners: empty, filled, answered, asked for what makes no sense."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from moderation.domain.access import Role
from moderation.domain.policy import Policy
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import (
    AuditEvent,
    Author,
    Item,
    MinorCheck,
    Partner,
    PartnerItem,
    PersonSession,
    Preservation,
    SubjectRequest,
)
from moderation.storage.vault import Vault
from tests import people, reviewing, support
from tests.people import Member

HERE = "/console/governance"
NOBODY = "019ab000-0000-7000-8000-000000000000"


@pytest.fixture
def officer(settings: Settings, databases: Databases, vault: Vault) -> Iterator[Member]:
    with people.logged_in(settings, databases, vault, Role.PRIVACY_OFFICER, Role.LEGAL) as member:
        yield member


def ask(client: TestClient, kind: str, **body: Any) -> str:
    answer = client.post("/v1/subjects/acct-1/requests", json={"kind": kind} | body)
    answer.raise_for_status()
    return str(answer.json()["id"])


def rows(databases: Databases, table: type[Any]) -> list[Any]:
    with transaction(databases.content) as session:
        return list(session.scalars(select(table)))


@pytest.mark.parametrize(
    "path", ["requests", "requests?show=answered", "minors", "minors?show=answered", "partners"]
)
def test_every_page_of_an_empty_service_says_so(officer: Member, path: str) -> None:
    answer = officer.get(f"{HERE}/{path}")
    assert answer.status_code == 200
    assert 'class="empty"' in answer.text


@pytest.mark.parametrize(
    ("path", "status"),
    [("requests?show=all", 422), ("requests?before=x", 422), (f"requests/{NOBODY}", 404), ("minors?show=all", 422),
     (f"minors/{NOBODY}", 404), ("partners/nobody", 404), ("requests/x", 422)],
)  # fmt: skip
def test_what_makes_no_sense_is_answered_by_a_sentence(officer: Member, path: str, status: int) -> None:
    assert officer.get(f"{HERE}/{path}").status_code == status


def test_an_officer_reads_corrects_and_closes(
    client: TestClient, officer: Member, databases: Databases
) -> None:
    item = reviewing.submitted(client)
    request = ask(client, "correct", identity_verified=True, details="It is Portuguese.")
    assert request[-8:] in officer.get(f"{HERE}/requests").text
    page = officer.get(f"{HERE}/requests/{request}")
    assert "It is Portuguese." in page.text
    assert "acct-1" in page.text
    viewed = [row for row in rows(databases, AuditEvent) if row.action == "subject_request.viewed"]
    assert [(row.actor, row.subject_id) for row in viewed] == [(f"person:{officer.person_id}", request)]
    there = f"{HERE}/requests/{request}"
    assert officer.post(f"{there}/correct", data={"item": "12", "language": "pt"}).status_code == 422
    assert officer.post(f"{there}/correct", data={"item": NOBODY, "language": "pt"}).status_code == 404
    assert officer.post(f"{there}/correct", data={"item": str(item)}).status_code == 422
    fixed = {"item": str(item), "language": "pt", "posted_at": "2026-11-01 09:30"}
    assert officer.post(f"{there}/correct", data=fixed).status_code == 303
    assert officer.post(f"{there}/done").status_code == 303
    (row,) = rows(databases, Item)
    assert (row.language, row.posted_at) == ("pt", datetime(2026, 11, 1, 9, 30, tzinfo=UTC))
    assert "corrected" in officer.get(f"{HERE}/requests?show=answered").text
    assert officer.post(f"{there}/done").status_code == 409


def test_an_officer_refuses_with_a_ground(client: TestClient, officer: Member, databases: Databases) -> None:
    reviewing.submitted(client)
    there = f"{HERE}/requests/{ask(client, 'erase')}"
    assert officer.post(f"{there}/refuse", data={"ground": "because"}).status_code == 422
    assert officer.post(f"{there}/refuse", data={"ground": "not_identified"}).status_code == 303
    assert [(row.state, row.outcome) for row in rows(databases, SubjectRequest)] == [
        ("refused", "not_identified")
    ]


def test_an_officer_lifts_a_restriction(client: TestClient, officer: Member, databases: Databases) -> None:
    reviewing.submitted(client)
    there = f"{HERE}/requests/{ask(client, 'restrict', identity_verified=True)}"
    assert "Lift the restriction" in officer.get(there).text
    assert officer.post(f"{there}/lift").status_code == 303
    assert [row.restricted_at for row in rows(databases, Author)] == [None]


def test_a_person_confirms_a_minor(
    client: TestClient, officer: Member, databases: Databases, policy: Policy
) -> None:
    item = reviewing.decided(client, databases, policy, datetime.now(UTC))
    client.post(
        f"/v1/items/{item}/reports", json={"reporter": "r-1", "category": "underage"}
    ).raise_for_status()
    (check,) = rows(databases, MinorCheck)
    there = f"{HERE}/minors/{check.id}"
    page = officer.get(there).text
    assert "acct-1" in page
    assert "a report" in page
    assert "minor.viewed" in [row.action for row in rows(databases, AuditEvent)]
    preserved = {
        "preserve": "true",
        "basis": "",
        "keep": f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}",
    }
    assert officer.post(f"{there}/confirm", data=preserved).status_code == 422
    assert officer.post(f"{there}/confirm", data=preserved | {"keep": ""}).status_code == 422
    assert officer.post(f"{there}/confirm", data=preserved | {"basis": "18 USC 2258A(h)"}).status_code == 303
    assert [row.state for row in rows(databases, MinorCheck)] == ["confirmed"]
    assert len(rows(databases, Preservation)) == 1
    assert officer.post(f"{there}/clear").status_code == 409
    assert "confirmed" in officer.get(there).text


def test_a_person_suspects_and_clears(client: TestClient, officer: Member, databases: Databases) -> None:
    reviewing.submitted(client)
    (author,) = rows(databases, Author)
    assert "They may be a minor" in officer.get(f"/console/authors/{author.id}").text
    answer = officer.post(f"{HERE}/minors", data={"author": str(author.id)})
    there = answer.headers["location"].partition("?")[0]
    assert there.startswith(f"{HERE}/minors/")
    assert "suspended" in officer.get(f"/console/authors/{author.id}").text
    assert officer.post(f"{there}/clear").status_code == 303
    assert [(row.source, row.state) for row in rows(databases, MinorCheck)] == [("person", "cleared")]
    assert officer.post(f"{HERE}/minors", data={"author": NOBODY}).status_code == 404


def test_what_is_grave_asks_for_a_second_factor(
    client: TestClient, officer: Member, databases: Databases
) -> None:
    reviewing.submitted(client)
    request = ask(client, "erase")
    check = client.post("/v1/subjects/acct-1/minor-notice").json()["id"]
    with transaction(databases.content) as session:
        past = datetime.now(UTC) - timedelta(hours=1)
        session.execute(update(PersonSession).values(confirmed_at=past))
    for path in (f"requests/{request}/done", f"minors/{check}/confirm", "partners", "partners/lab/revoke"):
        answer = officer.post(f"{HERE}/{path}")
        assert answer.headers["location"].startswith("/console/second-factor?next="), path
    assert [row.erasing_at for row in rows(databases, Author)] == [None]


def test_a_partner_is_made_given_items_and_revoked(
    client: TestClient, officer: Member, settings: Settings, databases: Databases
) -> None:
    item = reviewing.submitted(client)
    until = f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}"
    made = {"name": "lab", "purpose": "review", "fields": ["text"], "until": until}
    assert officer.post(f"{HERE}/partners", data=made | {"fields": []}).status_code == 422
    assert officer.post(f"{HERE}/partners", data=made | {"until": ""}).status_code == 422
    page = officer.post(f"{HERE}/partners", data=made)
    assert page.headers["cache-control"] == "no-store"
    token = re.findall(r'value="(mp_[^"]+)"', page.text)[0]
    assert token not in officer.get(f"{HERE}/partners").text
    there = f"{HERE}/partners/lab"
    assert officer.post(f"{there}/assign", data={"items": "x"}).status_code == 422
    assert officer.post(f"{there}/assign", data={"items": NOBODY}).status_code == 404
    assert officer.post(f"{there}/assign", data={"items": f"{item}\n"}).status_code == 303
    assert str(item)[-8:] in officer.get(there).text
    with support.calling(settings, token) as lab:
        assert lab.get(f"/v1/partner/items/{item}").status_code == 200
    assert officer.post(f"{there}/revoke").status_code == 303
    assert "They deleted it" in officer.get(there).text
    assert officer.post(f"{there}/deletions/{item}").status_code == 303
    assert all(row.acknowledged_at for row in rows(databases, PartnerItem))
    assert [row.name for row in rows(databases, Partner)] == ["lab"]
    assert officer.post(f"{there}/deletions/{UUID(NOBODY)}").status_code == 404
