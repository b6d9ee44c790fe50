"""Looking pictures up in banks by their hashes, and by themselves."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from moderation.features import fingerprints
from moderation.features.decode import Decoder
from moderation.features.fingerprints import Kept
from moderation.features.hashes import sha256
from moderation.governance import banks
from moderation.governance.accounts import Scope
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent
from moderation.storage.vault import Vault
from tests import hostile, scenes
from tests.support import calling, count, new_key

PATH = "/v1/hashes"
DATA = scenes.saved(scenes.scene(3))


@pytest.fixture(scope="module")
def kept() -> Kept:
    with Decoder() as decoder:
        return fingerprints.kept(decoder.decode(DATA))


@pytest.fixture
def bank(databases: Databases, vault: Vault, kept: Kept) -> Callable[..., UUID]:
    """Make a bank of the one picture; its entry."""

    def made(name: str, *, verified: bool = True, **options: Any) -> UUID:
        now = datetime.now(UTC)
        settled = {"action": "remove", "category": "spam", "allow": False} | options
        with transaction(databases.content) as session:
            banks.create(session, name=name, kind="image", actor="operator", now=now, **settled)
            return banks.add_content(
                session, vault, bank=name, content=DATA, note="", verified=verified, actor="operator", now=now,
                kept=kept,
            ).id  # fmt: skip

    return made


def looked_up(client: TestClient, **hashes: Any) -> list[dict[str, Any]]:
    answer = client.get(f"{PATH}/lookup", params=hashes)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["results"]
    return found


def matched(client: TestClient, data: bytes) -> dict[str, Any]:
    answer = client.post(f"{PATH}/match", json={"image": base64.b64encode(data).decode()})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_hash_is_answered_with_bank_entry_distance_and_source(
    client: TestClient, bank: Callable[..., UUID], kept: Kept
) -> None:
    entry = bank("known", source="A list of others")
    near = kept.pdq[0].copy()
    near[:3] ^= 0b11  # six bits
    far = kept.pdq[0].copy()
    far[:8] ^= 0xFF  # and sixty-four
    queries = {
        "pdq": [near.tobytes().hex().upper(), far.tobytes().hex()],
        "sha256": sha256(DATA).hex(),
        "phash": f"{kept.phash:016x}",
    }
    same, close, beyond, second = looked_up(client, **queries)
    (match,) = close["matches"]
    assert match == {
        "bank": "known", "kind": "image", "entry": str(entry), "how": "picture", "distance": 6, "score": 0.9766,
        "category": "spam", "action": "remove", "allow": False, "verified": True, "quarantined": False,
        "source": "A list of others",
    }  # fmt: skip
    assert [one["how"] for one in same["matches"]] == ["equal"]
    assert (close["by"], close["hash"]) == ("pdq", near.tobytes().hex())
    assert beyond["matches"] == []
    (alike,) = second["matches"]
    assert (alike["how"], alike["action"], "distance" in alike) == ("alike", "review", False)


def test_a_picture_is_found_as_its_copies_are(
    client: TestClient, bank: Callable[..., UUID], kept: Kept
) -> None:
    bank("known", verified=False)
    bank("harmless", allow=True)
    bank("off")
    client.patch("/v1/banks/off", json={"enabled": False})
    answer = matched(client, scenes.saved(scenes.mirrored(scenes.scene(3))))
    (match,) = answer["matches"]
    assert (match["bank"], match["how"], match["verified"]) == ("known", "picture", False)
    files = {"image": ("photo.jpg", DATA, "image/jpeg")}
    upload = client.post(f"{PATH}/match", files=files).json()
    assert upload["sha256"] == sha256(DATA).hex()
    assert upload["pdq"] == kept.pdq[0].tobytes().hex()
    assert upload["quality"] >= 50
    assert {(one["bank"], one["how"]) for one in upload["matches"]} == {
        ("known", "equal"),
        ("harmless", "equal"),
    }
    assert matched(client, scenes.saved(scenes.scene(4)))["matches"] == []


def test_a_new_entry_is_answered_at_once_and_one_that_left_no_more(
    client: TestClient, bank: Callable[..., UUID]
) -> None:
    assert matched(client, DATA)["matches"] == []
    entry = bank("known")
    assert matched(client, DATA)["matches"]
    assert client.delete(f"/v1/banks/known/entries/{entry}").status_code == 204
    assert matched(client, DATA)["matches"] == []


def test_an_answer_is_on_the_record_without_what_was_asked(
    client: TestClient, databases: Databases, bank: Callable[..., UUID]
) -> None:
    matched(client, DATA)
    bank("known")
    matched(client, DATA)
    with transaction(databases.content) as session:
        (event,) = session.scalars(select(AuditEvent).where(AuditEvent.action == "bank.looked_up"))
    assert (event.actor, event.details) == ("client:app", {"asked": 1, "entries": 1})
    for table in ("items", "parts", "part_features"):
        assert count(databases.content, table) == 0


@pytest.mark.parametrize(
    ("query", "words"),
    [({}, "Name from 1 to 100"), ({"pdq": "abc"}, "pdq"), ({"sha256": "x" * 64}, "sha256"),
     ({"phash": ["0" * 16] * 101}, "phash"), ({"pdq": ["0" * 64] * 60, "sha256": ["0" * 64] * 60}, "Name from 1")],
)  # fmt: skip
def test_hashes_that_are_none_are_refused(client: TestClient, query: dict[str, Any], words: str) -> None:
    answer = client.get(f"{PATH}/lookup", params=query)
    assert answer.status_code == 422
    assert words in answer.text


def test_pictures_that_are_none_are_refused(client: TestClient) -> None:
    for data, status in ((b"no picture", 415), (hostile.png_bomb(), 422), (hostile.png_bad_checksum(), 422)):
        answer = client.post(f"{PATH}/match", files={"image": ("photo", data)})
        assert answer.status_code == status, answer.text
    files = {"image": ("photo", DATA), "other": ("photo", DATA)}
    assert client.post(f"{PATH}/match", files=files).status_code == 422
    assert client.post(f"{PATH}/match", data={"image": "a text"}, files={"x": ("x", b"")}).status_code == 422
    assert (
        client.post(f"{PATH}/match", content=b"x", headers={"content-type": "image/png"}).status_code == 415
    )
    assert client.post(f"{PATH}/match", json={"picture": "eA=="}).status_code == 422


def test_a_key_needs_the_scope(settings: Settings, databases: Databases, vault: Vault) -> None:
    others = [scope for scope in Scope if scope is not Scope.HASHES_READ]
    with calling(settings, new_key(databases, vault, "app", *others)) as client:
        assert client.get(f"{PATH}/lookup", params={"pdq": "0" * 64}).status_code == 403
        assert client.post(f"{PATH}/match", files={"image": ("photo", DATA)}).status_code == 403
    with calling(settings, new_key(databases, vault, "app", Scope.HASHES_READ)) as client:
        assert client.get(f"{PATH}/lookup", params={"pdq": "0" * 64}).status_code == 200
        assert client.post("/v1/banks", json={}).status_code == 403
