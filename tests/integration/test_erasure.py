"""How content ends: at once or at the end of its floor, by request or by time, and never under somebody's hands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, true, update

from moderation import jobs, relay, worker
from moderation.domain.content import Context, Lane, Submission, TextPart
from moderation.domain.policy import Policy
from moderation.features.hashes import text_digest
from moderation.governance import erasure
from moderation.governance.erasing import ending
from moderation.pipeline import intake
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, Case, Decision, IdempotencyKey, Item, Outbox
from moderation.storage.vault import Vault
from tests import support
from tests.support import MILD, bank_of, count, drain, image_part, post, text_part

DAY = timedelta(days=1)
Sweep = Callable[[datetime], int]


@pytest.fixture
def sweep(databases: Databases, vault: Vault, blobs: FolderBlobs) -> Sweep:
    """What the relay does every few seconds, at a moment of the test's choice."""
    return lambda moment: erasure.sweep(databases, vault, blobs, moment)


@pytest.fixture
def decided(
    client: TestClient, settings: Settings, databases: Databases, now: datetime
) -> Callable[[str], Any]:
    """A text and a picture that were screened, with the verdict asked for."""

    def decide(verdict: str) -> dict[str, Any]:
        if verdict != "allow":
            bank_of(databases, text_digest(MILD), verdict, now)
        item = client.post("/v1/items", json=post("post-1", text_part(), image_part())).json()
        drain(settings)
        shown = client.get(item["status_url"]).json()
        assert shown["verdict"] == verdict, shown
        return shown  # type: ignore[no-any-return]

    return decide


def is_destroyed(databases: Databases, vault: Vault, settings: Settings, identifier: str) -> bool:
    """Whether nothing of an item's content is left; half destroyed is a failure of its own."""
    (item,) = [item for item in support.items(databases) if str(item.id) == identifier]
    traces = [
        bool(vault.item_keys([item.id])),
        item.details is not None,
        item.destroyed_at is None,
        count(databases.content, "parts") > 0,
        any(path.is_file() for path in settings.blob_dir.rglob("*")),
    ]
    assert len(set(traces)) == 1, traces
    return not traces[0]


def actions(databases: Databases) -> set[str]:
    with transaction(databases.content) as session:
        found = session.scalars(select(AuditEvent.action).where(AuditEvent.subject == "item")).all()
    assert len(found) == len(set(found)), "each is recorded once"
    return set(found)


@pytest.mark.parametrize("verdict", ["allow", "review"])
def test_what_nobody_may_appeal_is_destroyed_at_once(
    client: TestClient, databases: Databases, vault: Vault, settings: Settings, decided: Any, verdict: str
) -> None:
    item = decided(verdict)
    assert client.delete(item["status_url"]).status_code == 204
    assert is_destroyed(databases, vault, settings, item["id"])
    assert count(databases.content, "signals") == 0, "scores die with their item"
    assert actions(databases) == {"item.received", "item.decided", "item.deleted", "item.destroyed"}
    with transaction(databases.content) as session:
        assert session.scalars(select(Decision.route)).all() == [verdict], "the record outlives the content"
        assert set(session.scalars(select(Case.state))) <= {"closed"}, "nobody is asked about it any more"


@pytest.mark.parametrize("verdict", ["limit", "remove"])
def test_what_may_be_appealed_is_hidden_and_kept_until_its_floor(
    client: TestClient,
    databases: Databases,
    vault: Vault,
    settings: Settings,
    decided: Any,
    sweep: Sweep,
    verdict: str,
) -> None:
    item = decided(verdict)
    assert client.delete(item["status_url"]).status_code == 204
    assert client.get(item["status_url"]).status_code == 404
    assert not is_destroyed(databases, vault, settings, item["id"])
    today = datetime.now(UTC)
    assert sweep(today + 212 * DAY) == 0
    assert not is_destroyed(databases, vault, settings, item["id"])
    assert sweep(today + 213 * DAY + timedelta(minutes=1)) == 1
    assert is_destroyed(databases, vault, settings, item["id"])
    assert sweep(today + 214 * DAY) == 0, "a second time there is nothing to do"


def test_a_deleted_item_says_why_it_is_gone_and_a_late_retry_does_not_revive_it(
    client: TestClient, databases: Databases, decided: Any
) -> None:
    item = decided("allow")
    client.delete(item["status_url"])
    gone = client.get(item["status_url"])
    assert (gone.status_code, gone.json()["code"]) == (404, "deleted")
    assert gone.json()["detail"] == "This item is gone: deleted by the content service."
    assert client.delete(item["status_url"]).status_code == 404
    same = client.post("/v1/items", json=post("post-1", text_part(), image_part()))
    other = client.post("/v1/items", json=post(), headers={"Idempotency-Key": "another"})
    assert [(retry.status_code, retry.json()["code"]) for retry in (same, other)] == [(410, "deleted")] * 2
    batch = client.post("/v1/items/batch", json={"items": [post(), post("post-2")]}).json()["results"]
    assert batch[0]["problem"]["status"] == 410
    assert batch[1]["item"]["status"] == "received"
    assert len(support.items(databases)) == 2


def test_deleting_one_revision_deletes_the_post(client: TestClient, databases: Databases) -> None:
    first = client.post("/v1/items", json=post(), headers={"Idempotency-Key": "one"}).json()
    second = client.post("/v1/items", json=post(), headers={"Idempotency-Key": "two"}).json()
    other = client.post("/v1/items", json=post("post-2")).json()
    assert client.delete(first["status_url"]).status_code == 204
    assert client.get(second["status_url"]).status_code == 404
    assert client.get(other["status_url"]).status_code == 200
    assert [item.state for item in support.items(databases)] == ["deleted", "deleted", "received"]


def test_the_endpoint_is_told(client: TestClient, databases: Databases) -> None:
    hook = {"name": "hook", "url": "http://127.0.0.1:8999/hook", "events": ["item.deleted"]}
    assert client.post("/v1/webhook-endpoints", json=hook).status_code == 201
    item = client.post("/v1/items", json=post()).json()
    client.delete(item["status_url"])
    with transaction(databases.content) as session:
        (message,) = session.scalars(select(Outbox)).all()
        assert (message.event, message.payload) == ("item.deleted", {"item_id": item["id"]})


@contextmanager
def under_way(settings: Settings) -> Iterator[worker.RegisteredWorker]:
    """A worker that has its batch and has not begun: whatever happens in here happens in between."""
    with (
        relay.opened(settings) as relaying,
        worker.opened(settings, jobs.SCREENING, lambda: 1.0) as screening,
    ):
        assert relay.tick(relaying, datetime.now(UTC))
        yield screening
        screening.work(burst=True, logging_level="WARNING")


def test_processing_under_way_commits_nothing(
    client: TestClient, settings: Settings, databases: Databases
) -> None:
    item = client.post("/v1/items", json=post()).json()
    other = client.post("/v1/items", json=post("post-2")).json()
    with under_way(settings):
        assert client.get(item["status_url"]).json()["status"] == "processing"
        client.delete(item["status_url"])
    assert client.get(item["status_url"]).status_code == 404
    assert client.get(other["status_url"]).json()["verdict"] == "allow"
    with transaction(databases.content) as session:
        assert [str(one) for one in session.scalars(select(Decision.item_id))] == [other["id"]]
    assert count(databases.content, "signals WHERE item_id = '" + item["id"] + "'") == 0


def test_deleted_between_the_look_and_the_commit_nothing_is_committed(
    client: TestClient, settings: Settings, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = client.post("/v1/items", json=post()).json()
    examine = jobs.run.examine

    def examine_then_delete(*arguments: Any) -> Any:
        screened = examine(*arguments)
        assert client.delete(item["status_url"]).status_code == 204
        return screened

    monkeypatch.setattr(jobs.run, "examine", examine_then_delete)
    with under_way(settings):
        pass
    assert [one.state for one in support.items(databases)] == ["deleted"]
    assert count(databases.content, "decisions") == count(databases.content, "signals") == 0


def test_what_has_expired_is_swept_and_what_has_not_is_untouched(
    client: TestClient, databases: Databases, settings: Settings, vault: Vault, decided: Any, sweep: Sweep
) -> None:
    item = decided("allow")
    expiry = datetime.fromisoformat(item["expires_at"])
    assert sweep(expiry - timedelta(seconds=1)) == 0
    assert client.get(item["status_url"]).status_code == 200
    assert sweep(expiry) == 1
    assert is_destroyed(databases, vault, settings, item["id"])
    gone = client.get(item["status_url"])
    assert gone.json()["detail"] == "This item is gone: its retention period ended."
    assert actions(databases) == {"item.received", "item.decided", "item.expired", "item.destroyed"}


def test_a_post_that_expired_may_have_a_new_revision(client: TestClient, decided: Any, sweep: Sweep) -> None:
    item = decided("allow")
    assert sweep(datetime.now(UTC) + 31 * DAY) == 1
    retry = client.post("/v1/items", json=post("post-1", text_part(), image_part()))
    assert retry.status_code == 410, "its old request is answered with why it is gone"
    revised = client.post("/v1/items", json=post(), headers={"Idempotency-Key": "revision-2"})
    assert revised.status_code == 202
    assert revised.json()["id"] != item["id"]


def test_what_was_never_screened_expires_too(client: TestClient, databases: Databases, sweep: Sweep) -> None:
    client.post("/v1/items", json=post())
    assert sweep(datetime.now(UTC) + 31 * DAY) == 1
    assert [item.state for item in support.items(databases)] == ["deleted"]


def test_a_sweep_that_was_interrupted_is_taken_up_again(
    client: TestClient, databases: Databases, vault: Vault, settings: Settings, decided: Any, sweep: Sweep
) -> None:
    item = decided("allow")
    later = datetime.now(UTC) + 31 * DAY
    with transaction(databases.content) as session:
        assert ending.doom(session, true(), later, 10) == [UUID(item["id"])]
    vault.destroy_item_keys([UUID(item["id"])])
    assert sweep(later) == 0, "somebody else may be at it"
    later += ending.LEFT_BEHIND
    assert sweep(later) == 1
    assert is_destroyed(databases, vault, settings, item["id"])


def test_a_large_backlog_is_swept_in_pieces(
    client: TestClient, databases: Databases, vault: Vault, blobs: FolderBlobs
) -> None:
    client.post("/v1/items/batch", json={"items": [post(f"post-{number}") for number in range(7)]})
    later = datetime.now(UTC) + 31 * DAY
    assert [erasure.sweep(databases, vault, blobs, later, limit=3) for _ in range(4)] == [3, 3, 1, 0]
    assert count(databases.keystore, "item_keys") == 0


def test_how_overdue_it_is_can_be_told(client: TestClient, databases: Databases) -> None:
    client.post("/v1/items", json=post())
    (item,) = support.items(databases)
    with transaction(databases.content) as session:
        assert erasure.overdue(session, item.expires_at - DAY) == {}
        assert erasure.overdue(session, item.expires_at + DAY) == {"pending": 86_400.0}


def test_an_author_is_forgotten_when_nothing_is_left(
    client: TestClient, databases: Databases, vault: Vault, sweep: Sweep
) -> None:
    client.post("/v1/items", json=post("post-1"))
    client.post("/v1/items", json=post("post-2"))
    client.post("/v1/items", json=post("post-3", author="acct-2"))
    with transaction(databases.content) as session:
        authors = session.scalars(select(Item.author_id).order_by(Item.id)).all()
        session.execute(
            update(Item).where(Item.author_id == authors[0]).values(expires_at=datetime.now(UTC) + DAY)
        )
    assert erasure.sweep_authors(databases, vault, datetime.now(UTC)) == 0
    assert sweep(datetime.now(UTC) + 2 * DAY) == 2
    assert erasure.sweep_authors(databases, vault, datetime.now(UTC)) == 1
    with databases.keystore.connect() as connection:
        left = connection.exec_driver_sql("SELECT author_id FROM author_keys").scalars().all()
    assert left == [authors[2]]
    assert count(databases.content, "authors") == 1


def test_an_author_is_not_forgotten_while_an_item_is_being_accepted(
    client: TestClient, databases: Databases, vault: Vault, blobs: FolderBlobs, policy: Policy, now: datetime
) -> None:
    item = client.post("/v1/items", json=post("post-1")).json()
    client.delete(item["status_url"])
    submission = Submission(
        "post-2", "acct-1", "comment", (TextPart("body", MILD),), Context(), lane=Lane.LIVE
    )
    with transaction(databases.content) as session:
        (accepted,) = intake.accept(
            session, vault, blobs, policy, "app", [intake.Request(submission, "external:post-2")], now
        )
        assert isinstance(accepted, intake.Accepted)
        assert erasure.sweep_authors(databases, vault, datetime.now(UTC)) == 0, (
            "their last item is gone, the next not yet here"
        )
    assert erasure.sweep_authors(databases, vault, datetime.now(UTC)) == 0
    assert set(vault.item_keys([accepted.id])) == {accepted.id}


def test_an_author_who_comes_back_is_somebody_new(
    client: TestClient, databases: Databases, vault: Vault
) -> None:
    item = client.post("/v1/items", json=post("post-1")).json()
    client.delete(item["status_url"])
    assert erasure.sweep_authors(databases, vault, datetime.now(UTC)) == 1
    assert client.post("/v1/items", json=post("post-2")).status_code == 202
    before, after = support.items(databases)
    assert before.author_id != after.author_id


def test_keys_and_messages_past_their_time_are_removed(client: TestClient, databases: Databases) -> None:
    client.post("/v1/items", json=post())
    later = datetime.now(UTC) + 31 * DAY
    with transaction(databases.content) as session:
        assert erasure.sweep_records(session, later - 2 * DAY, later) == 0
        assert erasure.sweep_records(session, later, later) == 1
        assert not session.scalars(select(IdempotencyKey)).all()
