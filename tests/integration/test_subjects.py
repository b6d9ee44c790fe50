"""Requests of data subjects: what the service does alone, what waits for an officer, what is handed out."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from moderation.domain.access import Role
from moderation.domain.erasing import NOBODY
from moderation.domain.errors import Conflict, InvalidInput, NotFound
from moderation.domain.subjects import Refused
from moderation.governance import corrections, erasure, rights, subjects
from moderation.governance.accounts import Scope
from moderation.governance.corrections import Correction
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, Author, Item, Outbox, SubjectRequest
from moderation.storage.vault import Vault
from tests import people, reviewing, support

HERE = "/v1/subjects/acct-1"


@pytest.fixture
def stranger(settings: Settings, databases: Databases, vault: Vault) -> Iterator[TestClient]:
    """Another content service."""
    with support.calling(settings, support.new_key(databases, vault, "other")) as client:
        yield client


def ask(client: TestClient, kind: str, *, author: str = "acct-1", **body: Any) -> dict[str, Any]:
    answer = client.post(f"/v1/subjects/{author}/requests", json={"kind": kind} | body)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()  # type: ignore[no-any-return]


def verified(client: TestClient, kind: str, **changes: Any) -> dict[str, Any]:
    return ask(client, kind, identity_verified=True, **changes)


def told(databases: Databases, event: str) -> list[dict[str, Any]]:
    with transaction(databases.content) as session:
        found = session.scalars(select(Outbox.payload).where(Outbox.event == event).order_by(Outbox.id))
        return list(found)


def actions(databases: Databases, family: str) -> list[str]:
    with transaction(databases.content) as session:
        found = select(AuditEvent.action).where(AuditEvent.action.startswith(family)).order_by(AuditEvent.id)
        return list(session.scalars(found))


def test_a_copy_is_ready_at_once_and_fetched_by_its_own_service_only(
    client: TestClient, stranger: TestClient, databases: Databases
) -> None:
    picture = support.image_part()
    reviewing.submitted(client, "post-1", parts=[support.text_part("Mine alone."), picture])
    reviewing.endpoint(client, "subject_request.closed")
    asked = verified(client, "access")
    assert (asked["state"], asked["outcome"]) == ("done", "ready")
    answer = client.get(asked["export_url"])
    assert answer.headers["content-type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    document = json.loads(archive.read("export.json"))
    assert [row["content"] for row in document["tables"]["parts"]] == ["Mine alone.", None]
    assert document["tables"]["authors"][0]["reference"] == "acct-1"
    (name,) = [name for name in archive.namelist() if name.startswith("pictures/")]
    assert archive.read(name)[:4] == b"\x89PNG"
    assert stranger.get(asked["export_url"]).status_code == 404
    assert stranger.get(f"{HERE}/requests").json() == {"requests": []}
    assert told(databases, "subject_request.closed") == [
        {"request_id": asked["id"], "kind": "access", "state": "done", "outcome": "ready"}
    ]
    assert sorted(actions(databases, "subject_request.")) == [
        "subject_request.closed", "subject_request.exported", "subject_request.received",
    ]  # fmt: skip


def test_a_copy_is_stale_after_a_week(client: TestClient, databases: Databases) -> None:
    reviewing.submitted(client)
    asked = verified(client, "export")
    with transaction(databases.content) as session:
        past = datetime.now(UTC) - subjects.FRESH - timedelta(minutes=1)
        session.execute(update(SubjectRequest).values(closed_at=past))
    assert client.get(asked["export_url"]).status_code == 410
    assert "export_url" not in client.get(f"{HERE}/requests/{asked['id']}").json()


@pytest.mark.parametrize("kind", ["access", "export", "erase", "cancel", "withdraw", "restrict", "object"])
def test_nothing_happens_without_a_verified_identity(
    client: TestClient, databases: Databases, kind: str
) -> None:
    reviewing.submitted(client)
    asked = ask(client, kind, details="It is me, really.")
    assert asked["state"] == "open"
    assert client.get(f"{HERE}/requests/{asked['id']}/export").status_code == 409
    with transaction(databases.content) as session:
        author = session.scalars(select(Author)).one()
        assert (author.restricted_at, author.erasing_at) == (None, None)
        row = session.scalars(select(SubjectRequest)).one()
        assert b"really" not in (row.details or b"")
        assert row.due_at == row.received_at + timedelta(days=30)
    again = verified(client, kind)
    assert again["id"] == asked["id"], "the same request, carried out now"
    assert again["state"] == "done" or again["erasure_id"]


@pytest.mark.parametrize("kind", ["erase", "cancel", "withdraw"])
def test_an_erasure_hides_at_once_and_ends_the_request_when_all_is_gone(
    client: TestClient, databases: Databases, vault: Vault, blobs: FolderBlobs, kind: str
) -> None:
    item = reviewing.submitted(client)
    reviewing.endpoint(client, "subject_request.closed")
    asked = verified(client, kind)
    assert client.get(f"/v1/items/{item}").status_code == 404
    assert asked["state"] == "open"
    assert verified(client, kind)["id"] == asked["id"], "sent twice, it is one"
    now = datetime.now(UTC)
    erasure.run(databases, vault, blobs, now, 10)
    rights.watch(databases, now)
    shown = client.get(f"{HERE}/requests/{asked['id']}").json()
    assert (shown["state"], shown["outcome"], shown["kind"]) == ("done", "erased", kind)
    assert told(databases, "subject_request.closed")[0]["outcome"] == "erased"
    assert verified(client, kind)["id"] == asked["id"], "a late retry finds it"
    assert client.get(f"{HERE}/requests").json() == {"requests": []}
    with transaction(databases.content) as session:
        assert not session.scalars(select(Author)).all()


def test_of_whom_nothing_is_held_the_answer_says_so_and_nothing_is_kept(
    client: TestClient, databases: Databases
) -> None:
    asked = verified(client, "access", author="nobody", details="My secret token zq77.")
    assert (asked["state"], asked["outcome"]) == ("done", "not_found")
    assert client.get(f"/v1/subjects/nobody/requests/{asked['id']}").json()["outcome"] == "not_found"
    assert "export_url" not in asked
    with transaction(databases.content) as session:
        row = session.scalars(select(SubjectRequest)).one()
        assert (row.author_id, row.details) == (NOBODY, None)


def test_an_open_request_is_the_same_request_and_its_details_are_kept_encrypted(
    client: TestClient, databases: Databases
) -> None:
    reviewing.submitted(client)
    first = verified(client, "correct", details="The language is wrong.")
    assert verified(client, "correct")["id"] == first["id"]
    assert first["state"] == "open", "a person corrects"
    listed = client.get(f"{HERE}/requests").json()["requests"]
    assert [row["id"] for row in listed] == [first["id"]]


def test_another_correction_is_another_request(client: TestClient) -> None:
    reviewing.submitted(client)
    first = ask(client, "correct", details="The language is wrong.")
    second = ask(client, "correct", details="So is the thread.")
    assert first["id"] != second["id"]
    assert ask(client, "correct", details="The language is wrong.")["id"] == first["id"]


def test_a_copy_is_of_whoever_asked_for_it_and_of_nobody_else(
    client: TestClient, databases: Databases, vault: Vault, blobs: FolderBlobs
) -> None:
    for author in ("acct-1", "acct-2"):
        reviewing.submitted(client, f"post of {author}", author=author)
    asked = verified(client, "access")
    there = f"/v1/subjects/acct-2/requests/{asked['id']}/export"
    assert client.get(there).status_code == 404
    verified(client, "erase")
    assert client.get(there).status_code == 404
    erasure.run(databases, vault, blobs, datetime.now(UTC), 10)
    assert client.get(there).status_code == 404, "who asked is gone, and somebody else is not meant"


def test_of_somebody_who_is_being_erased_nothing_else_is_carried_out(
    client: TestClient, databases: Databases, vault: Vault
) -> None:
    reviewing.submitted(client)
    waiting = [UUID(ask(client, kind)["id"]) for kind in ("access", "restrict")]
    verified(client, "cancel")
    body = {"kind": "access", "identity_verified": True}
    assert client.post(f"{HERE}/requests", json=body).status_code == 410
    officer, now = people.principal(databases, vault, Role.PRIVACY_OFFICER), datetime.now(UTC)
    with transaction(databases.content) as session:
        outcomes = [subjects.carry_out(session, vault, officer, one, now).outcome for one in waiting]
    assert outcomes == ["not_found", "not_found"], "no copy is promised that nobody can fetch"


def test_a_reference_may_hold_a_slash(client: TestClient) -> None:
    reviewing.submitted(client, "post-1", author="forum/acct 1")
    asked = verified(client, "access", author="forum/acct 1")
    assert asked["outcome"] == "ready"
    assert client.get(asked["export_url"]).status_code == 200


def test_what_makes_no_sense_is_refused(client: TestClient) -> None:
    reviewing.submitted(client)
    for body in (
        {"kind": "steal"},
        {"kind": "access", "identity": True},
        {},
        {"kind": "access", "details": "\x00"},
    ):
        assert client.post(f"{HERE}/requests", json=body).status_code == 422, body
    assert client.delete(f"{HERE}/restriction").status_code == 404
    assert client.delete("/v1/subjects/nobody/restriction").status_code == 404
    assert client.get(f"{HERE}/requests/{NOBODY}").status_code == 404


def test_it_takes_a_scope_of_its_own(settings: Settings, databases: Databases, vault: Vault) -> None:
    key = support.new_key(databases, vault, "app", Scope.ITEMS_WRITE, Scope.ITEMS_READ)
    with support.calling(settings, key) as client:
        assert client.post(f"{HERE}/requests", json={"kind": "access"}).status_code == 403


def test_an_officer_corrects_and_every_version_is_kept(
    client: TestClient, databases: Databases, vault: Vault
) -> None:
    item = reviewing.submitted(client, "post-1", context={"language": "en", "thread": "thread-1"})
    other = reviewing.submitted(client, "post-2", author="acct-2")
    asked = verified(client, "correct", details="It is Portuguese, in thread 2.")
    officer, now = people.principal(databases, vault, Role.PRIVACY_OFFICER), datetime.now(UTC)
    request = UUID(asked["id"])
    right = Correction(language="pt", thread="thread-2")
    with transaction(databases.content) as session:
        shown = subjects.view(session, vault, officer, request, now)
        assert (shown.reference, shown.details) == ("acct-1", "It is Portuguese, in thread 2.")
        assert corrections.correct(session, vault, officer, request, item, right, now) == [
            "language",
            "thread",
        ]
        with pytest.raises(InvalidInput, match="different"):
            corrections.correct(session, vault, officer, request, item, right, now)
        with pytest.raises(NotFound):
            corrections.correct(session, vault, officer, request, other, right, now)
        subjects.carry_out(session, vault, officer, request, now)
        with pytest.raises(Conflict):
            corrections.correct(session, vault, officer, request, item, Correction(language="es"), now)
    assert client.get(f"{HERE}/requests/{request}").json()["outcome"] == "corrected"
    copy = verified(client, "access")
    archive = zipfile.ZipFile(io.BytesIO(client.get(copy["export_url"]).content))
    (row,) = json.loads(archive.read("export.json"))["tables"]["items"]
    assert (row["language"], row["details"]["thread"]) == ("pt", "thread-2")
    (version,) = row["details"]["versions"]
    assert (version["language"], version["thread"]) == (["en", "pt"], ["thread-1", "thread-2"])
    assert actions(databases, "item.corrected") == ["item.corrected"]
    assert "subject_request.viewed" in actions(databases, "subject_request.")


def test_an_officer_refuses_on_a_ground_that_the_law_knows(
    client: TestClient, databases: Databases, vault: Vault
) -> None:
    reviewing.submitted(client)
    asked = ask(client, "erase")
    officer, now = people.principal(databases, vault, Role.PRIVACY_OFFICER), datetime.now(UTC)
    with transaction(databases.content) as session:
        subjects.refuse(session, officer, UUID(asked["id"]), Refused.NOT_IDENTIFIED, now)
        with pytest.raises(Conflict):
            subjects.carry_out(session, vault, officer, UUID(asked["id"]), now)
    shown = client.get(f"{HERE}/requests/{asked['id']}").json()
    assert (shown["state"], shown["outcome"]) == ("refused", "not_identified")


def test_an_officer_carries_out_what_came_without_a_verified_identity(
    client: TestClient, databases: Databases, vault: Vault
) -> None:
    reviewing.submitted(client)
    asked = ask(client, "erase")
    officer, now = people.principal(databases, vault, Role.PRIVACY_OFFICER), datetime.now(UTC)
    with transaction(databases.content) as session:
        subjects.carry_out(session, vault, officer, UUID(asked["id"]), now)
        with pytest.raises(Conflict, match="runs"):
            subjects.refuse(session, officer, UUID(asked["id"]), Refused.UNFOUNDED, now)
    with transaction(databases.content) as session:
        assert session.scalars(select(Item.state)).all() == ["deleted"]


def test_what_is_late_is_counted(client: TestClient, databases: Databases) -> None:
    reviewing.submitted(client)
    ask(client, "access")
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        assert subjects.overdue(session, now + timedelta(days=29)) == 0
        assert subjects.overdue(session, now + timedelta(days=31)) == 1
