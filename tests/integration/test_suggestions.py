"""Suggested labels: encrypted, under an author of their own, erased with that author, gone after 30 days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from api.compat_errors import SUGGEST
from moderation import bundles
from moderation.domain.erasing import Cause
from moderation.domain.errors import InvalidInput, TooManyRequests
from moderation.governance import erasure
from moderation.governance.erasing import orphans, trained
from moderation.review import suggestion_bundles, suggestions
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, Author, Suggestion
from moderation.storage.vault import Vault, VaultError
from tests.support import count, post

CANARY = "zq7Canary9x"
TEXT = f"Lovely weather, says {CANARY}."


def suggest(client: TestClient, text: str = TEXT, value: float = 0.0, **more: object) -> None:
    scores = {"TOXICITY": {"summaryScore": {"value": value}}, "INSULT": {"summaryScore": {"value": 1}}}
    body = {"comment": {"text": text}, "attributeScores": scores, "clientToken": "t-2", "languages": ["en"]}
    answer = client.post(SUGGEST, json=body | more)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"clientToken": "t-2", "requestedLanguages": ["en"]}


def kept(databases: Databases) -> list[Suggestion]:
    with transaction(databases.content) as session:
        return list(session.scalars(select(Suggestion).order_by(Suggestion.id)))


def opened(vault: Vault, row: Suggestion) -> str:
    key = vault.item_keys([row.id])[row.id]
    return key.decrypt(row.text, *suggestions.place(row.id)).decode()


def test_a_suggestion_is_kept_encrypted_under_an_author_of_its_own(
    client: TestClient, databases: Databases, vault: Vault
) -> None:
    suggest(client)
    suggest(client, f"Another one of {CANARY}.", 0.75)
    first, second = kept(databases)
    assert (first.client, first.scores) == ("app", {"toxicity": 0.0, "harassment": 1.0})
    assert first.expires_at - first.suggested_at == timedelta(days=30)
    assert first.author_id == second.author_id
    assert CANARY.encode() not in first.text
    assert opened(vault, first) == TEXT
    with pytest.raises(VaultError):
        vault.item_keys([first.id])[first.id].decrypt(first.text, *suggestions.place(second.id))
    with transaction(databases.content) as session:
        (author,) = session.scalars(select(Author))
        events = session.scalars(select(AuditEvent).where(AuditEvent.action == "labels.suggested")).all()
        assert suggestions.counts(session, datetime.now(UTC)) == {"harassment": 2, "toxicity": 2}
        assert suggestions.counts(session, datetime.now(UTC) + suggestions.KEPT) == {}
    assert author.id == first.author_id
    assert [(event.actor, event.details) for event in events] == [("client:app", {})] * 2


def test_after_thirty_days_it_is_gone_and_its_author_with_it(
    client: TestClient, databases: Databases, vault: Vault, blobs: FolderBlobs
) -> None:
    suggest(client)
    (row,) = kept(databases)
    end = row.expires_at
    before = end - timedelta(seconds=1)
    assert erasure.sweep_authors(databases, vault, before) == 0, "somebody's while a suggestion is kept"
    assert orphans.scan(databases, blobs, orphans.Place(), before) == 0, "its key belongs to something"
    assert suggestions.sweep(databases, vault, before) == 0
    assert suggestions.sweep(databases, vault, end) == 1
    assert not kept(databases)
    assert vault.item_keys([row.id]) == {}, "so that no copy of the row opens"
    assert erasure.sweep_authors(databases, vault, end) == 1
    assert count(databases.keystore, "author_keys") == 0


def erased(databases: Databases, vault: Vault, blobs: FolderBlobs, author: UUID) -> dict[str, int]:
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        identifier = erasure.request(
            session,
            vault,
            client="app",
            author_id=author,
            cause=Cause.REQUEST,
            requested_by="operator",
            now=now,
        )
    assert erasure.run(databases, vault, blobs, now, 60.0) == 1
    with transaction(databases.content) as session:
        checks = erasure.verify_receipt(databases, vault, erasure.receipt(session, identifier))
    assert all(check.holds for check in checks)
    return {"rows": len(kept(databases)), "keys": count(databases.keystore, "item_keys")}


def test_a_content_service_erases_what_it_suggested_as_it_erases_an_author(
    client: TestClient, databases: Databases, vault: Vault, blobs: FolderBlobs
) -> None:
    suggest(client)
    client.post("/v1/items", json=post("post-1"))
    (row,) = kept(databases)
    with transaction(databases.content) as session:
        author = erasure.author_of(session, vault, "app", suggestions.AUTHOR)
    assert author == row.author_id
    assert erased(databases, vault, blobs, author) == {"rows": 0, "keys": 1}, "the item stays"
    suggest(client)
    assert [one.author_id != author for one in kept(databases)] == [True], "what is sent later is kept again"


def test_while_it_is_being_erased_nothing_comes_in(
    client: TestClient, databases: Databases, vault: Vault, blobs: FolderBlobs
) -> None:
    suggest(client)
    (row,) = kept(databases)
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        erasure.request(
            session, vault, client="app", author_id=row.author_id, cause=Cause.REQUEST, requested_by="operator",
            now=now,
        )  # fmt: skip
    body = {"comment": {"text": TEXT}, "attributeScores": {"TOXICITY": {"summaryScore": {"value": 0}}}}
    answer = client.post(SUGGEST, json=body)
    assert (answer.status_code, answer.json()["error"]["status"]) == (409, "ABORTED")
    assert CANARY not in answer.text
    erasure.run(databases, vault, blobs, now, 60.0)
    assert not kept(databases)


def test_there_is_a_most(
    client: TestClient, databases: Databases, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suggestions, "MOST", 2)
    suggest(client)
    suggest(client)
    body = {"comment": {"text": TEXT}, "attributeScores": {"TOXICITY": {"summaryScore": {"value": 0}}}}
    answer = client.post(SUGGEST, json=body)
    assert (answer.status_code, answer.json()["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
    with transaction(databases.content) as session, pytest.raises(TooManyRequests):
        suggestions.keep(session, vault, "app", TEXT, {}, datetime.now(UTC))
    with transaction(databases.content) as session:
        assert suggestions.keep(session, vault, "another", TEXT, {}, datetime.now(UTC))


def test_an_attribute_that_nobody_knows_is_not_suggested(client: TestClient, databases: Databases) -> None:
    body = {"comment": {"text": TEXT}, "attributeScores": {"FLIRTATION": {"summaryScore": {"value": 0}}}}
    assert client.post(SUGGEST, json=body).status_code == 400
    made = {"SEVERE_TOXICITY": {"summaryScore": {"value": 0}}}
    assert client.post(SUGGEST, json=body | {"attributeScores": made}).status_code == 400
    assert client.post(SUGGEST, json=body | {"attributeScores": {}}).status_code == 400
    assert not kept(databases)


def test_a_trainer_has_them_as_what_they_are_and_loses_them_as_they_end(
    client: TestClient, databases: Databases, vault: Vault, blobs: FolderBlobs, tmp_path: Path
) -> None:
    suggest(client, value=0.9)
    suggest(client, "Another.")
    path, key_path = tmp_path / "suggested", tmp_path / "suggested.key"
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        made = suggestion_bundles.export(session, vault, path, key_path, "operator", now)
    assert CANARY.encode() not in path.read_bytes()

    def rows() -> list[dict[str, Any]]:
        return list(bundles.read(path, bundles.read_key(key_path, made.id), now))

    first, second = rows()
    assert bundles.flaw(first) is None
    assert (first["text"], first["labels"]) == (TEXT, {"toxicity": 1, "harassment": 1})
    assert (second["labels"], second["source"]) == ({"toxicity": 0, "harassment": 1}, "suggestion")
    trained.clean(databases, vault, now)
    assert len(rows()) == 2, "they are kept, though they are no items"
    one, _ = kept(databases)
    with databases.content.begin() as connection:
        connection.execute(update(Suggestion).where(Suggestion.id == one.id).values(expires_at=now))
    assert suggestions.sweep(databases, vault, now) == 1
    trained.clean(databases, vault, now)
    assert [row["text"] for row in rows()] == ["Another."]
    (left,) = kept(databases)
    assert erased(databases, vault, blobs, left.author_id) == {"rows": 0, "keys": 0}
    assert rows() == []


def test_without_suggestions_there_is_no_bundle(databases: Databases, vault: Vault, tmp_path: Path) -> None:
    path = tmp_path / "suggested"
    with transaction(databases.content) as session, pytest.raises(InvalidInput):
        suggestion_bundles.export(session, vault, path, tmp_path / "key", "operator", datetime.now(UTC))
    assert not list(tmp_path.iterdir())
