"""The pages for holds, packages, disclosures and incidents: who may do what there, and what is on record of it."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from sqlalchemy import select, update

from moderation import upkeep
from moderation.domain.access import Role
from moderation.governance import erasure, incidents
from moderation.metrics import HOLDS_OVERDUE, INCIDENT_DEADLINE
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, Author, Hold, Incident, Item, PersonSession
from moderation.storage.vault import Vault
from tests import people, support
from tests.people import Member

HOLDS = "/console/governance/holds"
PACKAGES = "/console/governance/preservations"
DISCLOSURES = "/console/governance/disclosures"
INCIDENTS = "/console/governance/incidents"
WHY = {"authority": "District court", "basis": "Order to preserve", "reference": "17 Js 1/26"}


@pytest.fixture
def ann(settings: Settings, databases: Databases, vault: Vault) -> Iterator[Member]:
    with people.logged_in(settings, databases, vault, Role.LEGAL) as member:
        yield member


@pytest.fixture
def bob(settings: Settings, databases: Databases, vault: Vault) -> Iterator[Member]:
    with people.logged_in(settings, databases, vault, Role.LEGAL) as member:
        yield member


@pytest.fixture
def item(client: TestClient) -> str:
    """A post of a text and a picture."""
    made = client.post("/v1/items", json=support.post("post-1", support.text_part(), support.image_part()))
    return str(made.json()["id"])


def there(answer: Response) -> str:
    """Where a form led to, without what it says there."""
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"]).partition("?")[0]


def ask(who: Member, item: str, **changes: str) -> str:
    return there(who.post(HOLDS, data=WHY | {"scope": "item", "id": item} | changes))


def events(databases: Databases, action: str, subject: str | None = None) -> list[AuditEvent]:
    with transaction(databases.content) as session:
        query = select(AuditEvent).where(AuditEvent.action == action)
        if subject is not None:
            query = query.where(AuditEvent.subject == subject)
        return list(session.scalars(query.order_by(AuditEvent.id)))


def stale(databases: Databases, person: UUID) -> None:
    """Let the second factor have been given long ago."""
    with transaction(databases.content) as session:
        long_ago = datetime.now(UTC) - timedelta(hours=2)
        session.execute(
            update(PersonSession).where(PersonSession.person_id == person).values(confirmed_at=long_ago)
        )


def test_a_hold_from_its_request_to_its_release(
    ann: Member, bob: Member, item: str, databases: Databases, vault: Vault, settings: Settings
) -> None:
    assert "Nothing is held." in ann.get(HOLDS).text
    hold = ask(ann, item)
    shown = ann.get(f"{hold}?said=requested").text
    assert "somebody else has to approve it" in shown
    assert "17 Js 1/26" in shown
    assert "Approve the hold" not in shown
    assert ann.post(f"{hold}/approve").status_code == 403
    assert "Approve the hold" in bob.get(hold).text
    assert there(bob.post(f"{hold}/approve")) == hold
    again = bob.post(f"{hold}/refuse")
    assert (again.status_code, "Release it instead" in again.text) == (409, True)
    next_month = f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}"
    assert there(ann.post(f"{hold}/extend", data={"review": next_month})) == hold
    assert ann.post(f"{hold}/extend", data={"review": "2099-01-01"}).status_code == 422
    assert there(bob.post(f"{hold}/release")) == hold
    assert hold in ann.get(f"{HOLDS}?show=ended").text
    assert {one.details["purpose"] for one in events(databases, "hold.viewed")} == {"legal"}
    with transaction(databases.content) as session:
        assert session.scalars(select(Item.holds)).all() == [0]


def test_a_hold_on_an_author_and_faults_of_the_form(ann: Member, item: str, databases: Databases) -> None:
    with transaction(databases.content) as session:
        author = str(session.scalars(select(Author.id)).one())
    assert f'value="{author}"' in ann.get(f"{HOLDS}?author={author}").text
    hold = ask(ann, author, scope="author")
    assert "everything of one author" in ann.get(hold).text
    for wrong, status in (
        ({"id": "17"}, 422),
        ({"id": ""}, 422),
        ({"scope": "street"}, 422),
        ({"authority": " "}, 422),
        ({"review": "soon"}, 422),
        ({"id": str(uuid4())}, 404),
    ):
        answer = ann.post(HOLDS, data=WHY | {"scope": "item", "id": item} | wrong)
        assert answer.status_code == status, wrong
        assert 'role="alert"' in answer.text
        assert "Order to preserve" in answer.text, "what was written is not lost"
    assert ann.get(f"{HOLDS}/{uuid4()}").status_code == 404
    assert ann.post(f"{HOLDS}/{uuid4()}/release").status_code == 404
    assert ann.get(f"{hold}?after=x").status_code == 422


def test_held_content_that_ended_is_for_the_legal_role_and_each_look_is_on_record(
    ann: Member,
    bob: Member,
    item: str,
    client: TestClient,
    settings: Settings,
    databases: Databases,
    vault: Vault,
) -> None:
    hold = ask(ann, item)
    assert client.delete(f"/v1/items/{item}").status_code == 204
    look = f"{hold}/items/{item}"
    assert ann.get(look).status_code == 404, "nobody approved it"
    bob.post(f"{hold}/approve")
    assert not events(databases, "hold.viewed", "item")
    shown = ann.get(look)
    assert shown.status_code == 200
    assert support.MILD in shown.text
    assert "ended for everybody else" in shown.text
    (seen,) = events(databases, "hold.viewed", "item")
    assert (seen.actor, seen.subject_id) == (f"person:{ann.person_id}", item)
    assert (seen.details["purpose"], seen.details["hold"]) == ("legal", hold.rpartition("/")[2])
    assert ann.get(f"{look}/1").headers["content-type"] == "image/webp"
    assert len(events(databases, "hold.viewed", "item")) == 1, "blurred it shows nothing"
    assert ann.get(f"{look}/1?view=grey").status_code == 200
    assert len(events(databases, "hold.viewed", "item")) == 2
    assert ann.get(f"{look}/7").status_code == 410
    for role in (Role.PRIVACY_OFFICER, Role.LEAD, Role.ADMIN, Role.AUDITOR):
        with people.logged_in(settings, databases, vault, role) as other:
            assert other.get(look).status_code == 403, role
            assert other.get(f"{look}/1").status_code == 403, role
    stale(databases, ann.person_id)
    answer = ann.get(look)
    assert (answer.status_code, "second-factor" in answer.headers.get("location", "")) == (303, True)
    bob.post(f"{hold}/release")
    assert bob.get(look).status_code == 404


def test_from_a_hold_to_a_package_to_a_disclosure(
    ann: Member, bob: Member, item: str, databases: Databases
) -> None:
    assert "Nothing is sealed." in ann.get(PACKAGES).text
    assert "Nothing was handed to anybody." in ann.get(DISCLOSURES).text
    hold = ask(ann, item)
    assert ann.post(f"{hold}/seal").status_code == 409
    bob.post(f"{hold}/approve")
    package = there(ann.post(f"{hold}/seal"))
    assert package.startswith(PACKAGES)
    assert package in ann.get(hold).text
    assert package in ann.get(PACKAGES).text
    assert f"items/{item}/0-body.txt" in ann.get(f"{package}/files").text
    assert support.MILD in ann.get(f"{package}/file?name=items/{item}/0-body.txt").text
    assert "acct-1" in ann.get(f"{package}/file").text
    assert ann.get(f"{package}/picture?name=items/{item}/1-photo.png").status_code == 200
    assert ann.get(f"{package}/file?name=other").status_code == 404
    assert len(events(databases, "preservation.opened")) == 5
    form = WHY | {"package": package.rpartition("/")[2]}
    assert ann.post(DISCLOSURES, data=form | {"authority": ""}).status_code == 422
    disclosure = there(ann.post(DISCLOSURES, data=form))
    assert ann.post(f"{disclosure}/export").status_code == 409
    assert ann.post(f"{disclosure}/approve").status_code == 403
    assert not events(databases, "disclosure.exported")
    there(bob.post(f"{disclosure}/approve"))
    assert ann.post(f"{disclosure}/export", data={"passphrase": "short", "again": "short"}).status_code == 422
    archive = ann.post(f"{disclosure}/export")
    names = zipfile.ZipFile(io.BytesIO(archive.content)).namelist()
    assert f"items/{item}/1-photo.png" in names
    assert archive.headers["content-disposition"].startswith("attachment")
    word = {"passphrase": "correct horse battery", "again": "correct horse battery"}
    assert ann.post(f"{disclosure}/export", data=word).content.startswith(b"Salted__")
    assert "handed over" in ann.get(disclosure).text
    assert disclosure in ann.get(package).text


def test_an_officer_approves_and_never_reads(
    ann: Member, bob: Member, item: str, settings: Settings, databases: Databases, vault: Vault
) -> None:
    hold = ask(ann, item)
    with people.logged_in(settings, databases, vault, Role.PRIVACY_OFFICER) as officer:
        assert there(officer.post(f"{hold}/approve")) == hold
        assert officer.post(HOLDS, data=WHY | {"scope": "item", "id": item}).status_code == 403
        package = there(ann.post(f"{hold}/seal"))
        assert officer.get(package).status_code == 200
        for path in ("files", "file", "picture"):
            assert officer.get(f"{package}/{path}").status_code == 403
        disclosure = there(ann.post(DISCLOSURES, data=WHY | {"package": package.rpartition("/")[2]}))
        assert there(officer.post(f"{disclosure}/approve")) == disclosure
        assert officer.post(f"{disclosure}/export").status_code == 403
        longer = {"basis": "Another order", "keep": f"{datetime.now(UTC) + timedelta(days=300):%Y-%m-%d}"}
        assert there(officer.post(f"{package}/renew", data=longer)) == package
        assert "Another order" in officer.get(package).text
        assert officer.post(f"{package}/renew", data=longer).status_code == 422
        assert officer.post(f"{package}/renew", data={"basis": "A third"}).status_code == 422
        assert officer.post(f"{disclosure}/refuse").status_code == 409


def test_an_incident_from_its_detection_to_its_end(
    settings: Settings, databases: Databases, vault: Vault, item: str, client: TestClient
) -> None:
    with people.logged_in(settings, databases, vault, Role.PRIVACY_OFFICER) as officer:
        assert "No incident was written down." in officer.get(INCIDENTS).text
        given = {"kind": "access", "severity": "4", "description": "A session was stolen.", "action": "item."}
        for wrong in (
            {"severity": "x"},
            {"kind": "fire"},
            {"action": ""},
            {"since": "soon"},
            {"description": ""},
        ):
            answer = officer.post(INCIDENTS, data=given | wrong)
            assert answer.status_code == 422, wrong
        incident = there(officer.post(INCIDENTS, data=given))
        assert "A session was stolen." in officer.get(incident).text
        assert "Nobody asked the log yet." in officer.get(incident).text
        assert officer.post(f"{incident}/notify").status_code == 409
        there(officer.post(f"{incident}/affected"))
        assert re.search(r"<th scope=\"row\">app</th><td class=\"num\">1</td>", officer.get(incident).text)
        assert "unreachable" in officer.post(f"{incident}/notify").headers["location"]
        hook = {"name": "hook", "url": "http://127.0.0.1:8999/hook", "events": ["incident.notice"]}
        client.post("/v1/webhook-endpoints", json=hook)
        assert "said=notified" in officer.post(f"{incident}/notify").headers["location"]
        assert officer.post(f"{incident}/scope", data={"actor": "person"}).status_code == 409
        assert officer.post(f"{incident}/close").status_code == 409
        there(officer.post(f"{incident}/authority-told"))
        there(officer.post(f"{incident}/close"))
        assert "closed" in officer.get(INCIDENTS).text
        assert officer.post(f"{incident}/affected").status_code == 409
        assert officer.get(f"{INCIDENTS}/{uuid4()}").status_code == 404
    assert {one.details["purpose"] for one in events(databases, "incident.viewed")} == {"security"}
    with people.logged_in(settings, databases, vault, Role.LEGAL) as legal:
        assert legal.get(incident).status_code == 200
        assert legal.post(INCIDENTS, data=given).status_code == 403


def test_the_metrics_say_what_is_overdue(
    ann: Member, item: str, settings: Settings, databases: Databases, vault: Vault, blobs: FolderBlobs
) -> None:
    held = upkeep.Upkeep(settings, databases, vault, blobs)
    upkeep._gauges(held)
    assert (HOLDS_OVERDUE._value.get(), INCIDENT_DEADLINE._value.get()) == (0, float("inf"))
    ask(ann, item)
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        session.execute(update(Hold).values(requested_at=now - timedelta(days=8)))
        incidents.open_incident(
            session, vault, kind="loss", severity=2, description="A disk.", detected_at=now - timedelta(hours=73),
            scope=incidents.Scope(everybody=True), actor="operator", now=now,
        )  # fmt: skip
    upkeep._gauges(held)
    assert HOLDS_OVERDUE._value.get() == 1
    assert -3700 < INCIDENT_DEADLINE._value.get() <= -3600
    with transaction(databases.content) as session:
        assert session.scalars(select(Incident.notify_by)).one() < now


def test_upkeep_destroys_packages_that_are_due(
    ann: Member,
    bob: Member,
    item: str,
    settings: Settings,
    databases: Databases,
    vault: Vault,
    blobs: FolderBlobs,
) -> None:
    hold = ask(ann, item)
    bob.post(f"{hold}/approve")
    package = there(ann.post(f"{hold}/seal"))
    held = upkeep.Upkeep(settings, databases, vault, blobs)
    upkeep._packages(held)
    assert ann.get(f"{package}/files").status_code == 200
    with databases.content.begin() as connection:
        connection.exec_driver_sql("UPDATE preservations SET keep_until = now()")
    upkeep._packages(held)
    assert ann.get(f"{package}/files").status_code == 410
    assert "nobody can read it" in ann.get(package).text
    erasure.sweep(databases, vault, blobs, datetime.now(UTC) + timedelta(days=300))
    with transaction(databases.content) as session:
        assert session.scalars(select(Item.destroyed_at)).all() == [None], "the hold goes on"
