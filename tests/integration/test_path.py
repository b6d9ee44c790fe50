"""One item travels its whole path: over HTTP, through relay, broker and worker, to a verdict and back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from moderation.features.hashes import sha256, text_digest
from moderation.governance import models
from moderation.pipeline import run
from moderation.pipeline.batch import Batch
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, BankEntry, Case, Decision, Item, Outbox, Part, SignalRow
from tests import hostile, support
from tests.support import MILD, bank_of, drain, image_part, post, text_part


def test_accepts(client: TestClient, databases: Databases) -> None:
    answer = client.post("/v1/items", json=post())
    assert answer.status_code == 202, answer.text
    again = client.post("/v1/items", json=post())
    assert again.json() == answer.json()
    with transaction(databases.content) as session:
        assert len(session.scalars(select(Item)).all()) == 1
        assert session.scalars(select(AuditEvent.action)).all() == ["api_key.created", "item.received"]


def test_a_harmless_text_is_allowed(client: TestClient, settings: Settings) -> None:
    item = client.post("/v1/items", json=post()).json()
    assert item["status"] == "received"
    assert "verdict" not in item
    drain(settings)
    shown = client.get(item["status_url"]).json()
    assert shown["status"] == "decided", shown
    assert shown["verdict"] == "allow"
    assert shown["decided_by"] == "machine"
    assert shown["policy_version"] == 1
    assert shown["expires_at"] > item["expires_at"], "a decision moves the clock"


def test_text_and_pictures_end_in_one_record(
    client: TestClient, settings: Settings, databases: Databases
) -> None:
    pictures = [hostile.saved(hostile.gradient(), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF")]
    parts = [image_part(data, f"photo{number}") for number, data in enumerate(pictures)]
    item = client.post("/v1/items", json=post("post-1", text_part(), *parts)).json()
    drain(settings)
    shown = client.get(item["status_url"]).json()
    assert shown["verdict"] == "allow", shown
    assert {detector["status"] for detector in shown["detectors"]} == {"ok"}
    with transaction(databases.content) as session:
        served = {one.name for one in models.wanted(session, settings.models, ("text", "image"))}
    assert {detector["name"] for detector in shown["detectors"]} == served
    with transaction(databases.content) as session:
        stored = session.scalars(select(SignalRow)).all()
        assert {row.part for row in stored} == {"body", "photo0", "photo1", "photo2", "photo3"}
        assert session.scalars(select(Decision.route)).all() == ["allow"]
        assert not session.scalars(select(Case)).all()
        actions = session.scalars(select(AuditEvent.action).where(AuditEvent.subject == "item")).all()
        assert sorted(actions) == ["item.decided", "item.received"]


@pytest.mark.parametrize("action", ["remove", "limit", "review"])
def test_a_known_text_gets_its_banks_verdict(
    client: TestClient, settings: Settings, databases: Databases, now: datetime, action: str
) -> None:
    client.post("/v1/webhook-endpoints", json={
        "name": "hook", "url": "http://127.0.0.1:8999/hook", "events": ["item.decided", "item.in_review"],
    })  # fmt: skip
    bank_of(databases, text_digest(MILD), action, now)
    item = client.post("/v1/items", json=post()).json()
    drain(settings)
    shown = client.get(item["status_url"]).json()
    assert shown["verdict"] == action
    assert shown["status"] == ("in_review" if action == "review" else "decided")
    assert "bank" in shown["reasons"][0]
    with transaction(databases.content) as session:
        cases = session.scalars(select(Case)).all()
        assert [case.reason for case in cases] == (["bank"] if action == "review" else [])
        entry = session.scalars(select(BankEntry.id)).one()
        assert session.scalars(select(Decision.matches)).one() == [
            {"part": "body", "bank": f"bank_{text_digest(MILD).hex()[:8]}_{action}", "entry": str(entry),
             "action": action, "verified": True}
        ]  # fmt: skip


def test_a_known_picture_is_matched_by_its_bytes(
    client: TestClient, settings: Settings, databases: Databases, now: datetime
) -> None:
    picture = hostile.saved(hostile.gradient(), "PNG")
    bank_of(databases, sha256(picture), "remove", now, kind="image")
    item = client.post("/v1/items", json=post("post-1", image_part(picture))).json()
    drain(settings)
    assert client.get(item["status_url"]).json()["verdict"] == "remove"


def test_a_picture_nobody_can_decode_goes_to_people(
    client: TestClient, settings: Settings, databases: Databases
) -> None:
    # Its header is whole, so that intake takes it.
    broken = image_part(hostile.png_bad_checksum())
    item = client.post("/v1/items", json=post("post-1", text_part(), broken)).json()
    drain(settings)
    shown = client.get(item["status_url"]).json()
    assert shown["status"] == "in_review"
    failed = [detector["name"] for detector in shown["detectors"] if detector["status"] == "failed"]
    assert failed == ["decoder"], "a failed detector is named"
    with transaction(databases.content) as session:
        assert session.scalars(select(Case.reason)).all() == ["detector_failed"]


def test_an_item_that_can_not_be_read_becomes_a_case(
    client: TestClient, settings: Settings, databases: Databases
) -> None:
    poisoned = client.post("/v1/items", json=post("poison")).json()
    sound = [client.post("/v1/items", json=post(f"post-{number}")).json() for number in range(3)]
    support.unprotected(
        databases.content, f"UPDATE parts SET content = '\\x00' WHERE item_id = '{poisoned['id']}'"
    )
    for _ in range(40):
        drain(settings)
        if client.get(poisoned["status_url"]).json()["status"] == "in_review":
            break
    shown = client.get(poisoned["status_url"]).json()
    assert shown["status"] == "in_review"
    assert "Screening failed 4 times" in shown["reasons"][0]
    assert [client.get(one["status_url"]).json()["verdict"] for one in sound] == ["allow"] * 3
    with transaction(databases.content) as session:
        assert session.scalars(select(Case.reason)).all() == ["dead_letter"]
        assert session.scalars(select(Item.state).order_by(Item.id)).all() == ["dead", "done", "done", "done"]


def test_nothing_posted_is_stored_in_the_clear(
    client: TestClient, databases: Databases, settings: Settings
) -> None:
    client.post("/v1/items", json=post("post-1", text_part(), image_part()))
    with transaction(databases.content) as session:
        parts = session.scalars(select(Part)).all()
        assert not any(MILD.encode() in (part.content or b"") for part in parts)
        assert not session.scalars(select(Outbox)).all(), "nobody registered an endpoint"
    (blob,) = [path for path in settings.blob_dir.rglob("*") if path.is_file()]
    assert b"PNG" not in blob.read_bytes()[:64]
    assert blob.stat().st_mode & 0o777 == 0o600


def test_expiry_is_known_from_the_first_moment(client: TestClient, databases: Databases) -> None:
    before = datetime.now(UTC)
    client.post("/v1/items", json=post())
    (item,) = support.items(databases)
    assert item.retention_class == "pending"
    assert 29.9 < (item.expires_at - before).total_seconds() / 86_400 < 30.1


def test_a_batch_takes_no_more_pictures_than_fit_into_memory(
    client: TestClient, settings: Settings, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "BATCH_BYTES", 2 * run.PICTURE_BYTES + 100_000)
    together: list[int] = []
    normalise = run.normalise

    def counted(batch: Batch, *arguments: Any) -> None:
        normalise(batch, *arguments)
        together.append(len(batch.images))

    monkeypatch.setattr(run, "normalise", counted)
    large = [image_part(name=f"photo{number}") for number in range(4)]
    posts = [post("large", *large), *(post(f"post-{number}", image_part()) for number in range(5))]
    assert client.post("/v1/items/batch", json={"items": posts}).status_code == 202
    drain(settings)
    together.remove(4)  # one item is always taken, however large, and then alone
    assert sum(together) == 5
    assert max(together) == 2
    assert {(item.state, item.attempts) for item in support.items(databases)} == {("done", 1)}


def test_every_answer_names_its_request(client: TestClient) -> None:
    answers = [
        client.get("/livez"),
        client.get("/v1/items/none"),
        client.post("/v1/items", json=post("post-1")),
    ]
    found = {answer.headers["X-Request-Id"] for answer in answers}
    assert len(found) == len(answers)


def test_a_text_too_long_to_be_read_whole_goes_to_people(
    client: TestClient, settings: Settings, databases: Databases
) -> None:
    # Every character is a token of its own here, so that even 192 windows leave some of it unread.
    item = client.post("/v1/items", json=post("post-1", support.text_part("。" * 40_000))).json()
    support.drain(settings)
    shown = client.get(item["status_url"]).json()
    assert shown["status"] == "in_review"
    assert any("only a part of it was looked at" in reason for reason in shown["reasons"])
