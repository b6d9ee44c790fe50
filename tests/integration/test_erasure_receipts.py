"""Receipts that anybody can check, and a ledger that outlives a restore of the content."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text

from moderation.cli import REFUSED, main
from moderation.domain.erasing import Cause
from moderation.domain.errors import Conflict, InvalidInput
from moderation.governance import erasure, signing
from moderation.governance.erasing import counting, ledger, orphans, receipts
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import Author, Base, Decision, Erasure, Item, Part
from moderation.storage.vault import Vault
from tests.integration.test_erasure_author import ask, author_id
from tests.support import calling, count, drain, image_part, new_key, post, text_part

DAY = timedelta(days=1)
COPIED = ("authors", "items", "parts", "signals", "sketches", "decisions", "cases", "idempotency_keys")


@pytest.fixture
def carry(databases: Databases, vault: Vault, blobs: FolderBlobs) -> Callable[[], int]:
    return lambda: erasure.run(databases, vault, blobs, datetime.now(UTC), 60.0)


def receipt_of(databases: Databases, identifier: UUID) -> str:
    with transaction(databases.content) as session:
        return erasure.receipt(session, identifier)


def copied(databases: Databases) -> dict[str, list[dict[str, Any]]]:
    """What a backup of the content holds, table by table."""
    with databases.content.connect() as connection:
        return {
            name: [dict(row) for row in connection.execute(select(Base.metadata.tables[name])).mappings()]
            for name in COPIED
        }


def restored(databases: Databases, copy: dict[str, list[dict[str, Any]]]) -> None:
    """Put a backup of the content in the place of what there is; the keystore stays as it is."""
    with databases.content.begin() as connection:
        for name in (*reversed(COPIED), "erasures", "tombstones"):
            connection.execute(text(f"DELETE FROM {name}"))
        for name in COPIED:
            if copy[name]:
                connection.execute(Base.metadata.tables[name].insert(), copy[name])


def test_a_receipt_says_what_there_was_and_what_is_left(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault, carry: Callable[[], int]
) -> None:
    client.post("/v1/items", json=post("post-1", text_part(), image_part()))
    drain(settings)
    identifier = ask(databases, vault, author_id(databases, vault))
    with pytest.raises(Exception, match="no receipt yet"):
        receipt_of(databases, identifier)
    carry()
    said = json.loads(receipt_of(databases, identifier))
    document = said["receipt"]
    assert (document["state"], document["kept"], document["kek_epoch"]) == ("done", [], vault.epoch)
    assert document["keys_destroyed"] == {"author_keys": 1, "item_keys": 1}
    assert {
        name: document["before"][name] for name in ("items", "texts", "blobs", "decisions")
    } == dict.fromkeys(("items", "texts", "blobs", "decisions"), 1)
    assert set(document["after"].values()) == {0}
    data = signing.canonical(document)
    assert signing.verify(said["public_key"], receipts.PURPOSE, data, said["signature"])
    assert "acct-1" not in json.dumps(said)
    checks = erasure.verify_receipt(databases, vault, json.dumps(said))
    assert [check.holds for check in checks] == [True] * 4


@pytest.mark.parametrize(
    "change", [("state", "held"), ("author", str(new_id(datetime.now(UTC)))), ("kept", [{}])]
)
def test_a_changed_receipt_is_not_ours(
    client: TestClient, databases: Databases, vault: Vault, carry: Callable[[], int], change: tuple[str, Any]
) -> None:
    client.post("/v1/items", json=post())
    identifier = ask(databases, vault, author_id(databases, vault))
    carry()
    said = json.loads(receipt_of(databases, identifier))
    said["receipt"][change[0]] = change[1]
    assert not erasure.verify_receipt(databases, vault, json.dumps(said))[0].holds


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"receipt": {}, "signature": 1}', "null", '"x"'])
def test_what_is_no_receipt_is_refused(databases: Databases, vault: Vault, text: str) -> None:
    with pytest.raises(InvalidInput, match="no receipt"):
        erasure.verify_receipt(databases, vault, text)


def test_a_receipt_shows_when_something_came_back(
    client: TestClient, databases: Databases, vault: Vault, carry: Callable[[], int]
) -> None:
    client.post("/v1/items", json=post())
    copy = copied(databases)
    author = author_id(databases, vault)
    identifier = ask(databases, vault, author)
    carry()
    said = receipt_of(databases, identifier)
    with databases.content.begin() as connection:
        for name in ("authors", "items", "parts"):
            connection.execute(Base.metadata.tables[name].insert(), copy[name])
    checks = {
        check.said.split(":")[0]: check.holds for check in erasure.verify_receipt(databases, vault, said)
    }
    assert checks["Counted again there is no more than it says"] is False
    assert checks["Nothing but what it says was kept can be opened."] is True, "its keys are gone"
    vault.create_item_keys({UUID(str(copy["items"][0]["id"])): author}, datetime.now(UTC))
    key = vault.item_keys([copy["items"][0]["id"]])[copy["items"][0]["id"]]
    with transaction(databases.content) as session:
        part = session.scalars(select(Part)).one()
        place = ("parts", "content", str(part.item_id), str(part.position))
        part.content = key.encrypt(b"It is back.", *place)
    last = erasure.verify_receipt(databases, vault, said)[-1]
    assert not last.holds
    assert "parts.content" in last.said


def test_from_the_command_line(
    client: TestClient,
    settings: Settings,
    databases: Databases,
    vault: Vault,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("moderation.cli._settings", lambda _: settings)
    client.post("/v1/items", json=post())
    assert main(["erasure", "run", "nobody", "--client", "app"]) == REFUSED
    assert "no such author" in capsys.readouterr().err
    assert main(["erasure", "run", "acct-1", "--client", "app", "--cause", "cancellation"]) == 0
    assert "It is done." in capsys.readouterr().out
    assert main(["erasure", "list"]) == 0
    identifier = capsys.readouterr().out.split()[0]
    assert main(["erasure", "show", identifier]) == 0
    assert "item_keys             1 -> 0" in capsys.readouterr().out
    assert main(["erasure", "receipt", identifier]) == 0
    file = tmp_path / "receipt.json"
    file.write_text(capsys.readouterr().out)
    assert main(["erasure", "verify", str(file)]) == 0
    assert "FAILED" not in capsys.readouterr().out
    file.write_text(file.read_text().replace("cancellation", "request"))
    assert main(["erasure", "verify", str(file)]) == 1
    assert main(["erasure", "show", "what"]) == REFUSED
    assert main(["retention", "report"]) == 0
    assert "pending" in capsys.readouterr().out
    assert main(["retention", "report", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"]["pending"]["days"] == 30


def test_a_restored_copy_forgets_again(
    client: TestClient,
    settings: Settings,
    databases: Databases,
    vault: Vault,
    carry: Callable[[], int],
) -> None:
    """Only the content is restored: what it has of somebody erased is hidden before anybody is served."""
    mine = client.post("/v1/items", json=post("post-1", text_part(), image_part())).json()
    theirs = client.post("/v1/items", json=post("post-2", author="acct-2")).json()
    drain(settings)
    copy = copied(databases)
    author = author_id(databases, vault)
    identifier = ask(databases, vault, author)
    carry()
    restored(databases, copy)
    assert client.get(mine["status_url"]).status_code == 200, "the copy is older than the erasure"
    assert ledger.replay(databases, datetime.now(UTC)) == 1
    assert client.get(mine["status_url"]).status_code == 404
    assert client.get(theirs["status_url"]).status_code == 200
    late = client.post("/v1/items", json=post("post-9"))
    assert late.status_code == 410, "the tombstones are back too"
    assert ledger.replay(databases, datetime.now(UTC)) == 0, "again there is nothing to do"
    assert carry() == 1
    with transaction(databases.content) as session:
        assert session.get(Author, author) is None
        assert set(counting.of_content(session, author).values()) == {0}
        assert session.get_one(Erasure, identifier).state == "done"
        assert session.scalars(select(Item.id)).all() == [UUID(theirs["id"])]
        assert author not in set(session.scalars(select(Decision.author_id)))
    assert ledger.replay(databases, datetime.now(UTC)) == 0


def test_after_a_restore_what_lost_its_key_is_found_without_any_ledger(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault, blobs: FolderBlobs
) -> None:
    gone = client.post("/v1/items", json=post("post-1")).json()
    kept = client.post("/v1/items", json=post("post-2")).json()
    copy = copied(databases)
    assert client.delete(gone["status_url"]).status_code == 204
    restored(databases, copy)
    assert client.get(gone["status_url"]).status_code == 200
    assert ledger.replay(databases, datetime.now(UTC), every_item=True) == 0
    assert client.get(gone["status_url"]).status_code == 404
    assert client.get(kept["status_url"]).status_code == 200
    assert erasure.sweep(databases, vault, blobs, datetime.now(UTC)) == 1
    assert count(databases.content, "parts") == 1


def test_the_wrong_keystore_forgets_nothing(client: TestClient, databases: Databases, vault: Vault) -> None:
    body = {"items": [post(f"post-{number}") for number in range(5)]}
    client.post("/v1/items/batch", json=body)
    with databases.keystore.begin() as connection:
        connection.execute(text("DELETE FROM item_keys"))
    with pytest.raises(Conflict, match="None of 5 items has a key"):
        ledger.keyless(databases, datetime.now(UTC), UUID(int=0), limit=5)
    with transaction(databases.content) as session:
        assert set(session.scalars(select(Item.state))) == {"received"}


def test_what_a_failed_commit_left_behind_is_found_after_a_day(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault, blobs: FolderBlobs
) -> None:
    item = client.post("/v1/items", json=post("post-1", image_part())).json()
    now = datetime.now(UTC)
    lost_item, lost_author = new_id(now), new_id(now)
    vault.create_item_keys({lost_item: lost_author}, now)
    blob = blobs.put(b"nobody's")

    def scan(at: datetime) -> int:
        return orphans.scan(databases, blobs, orphans.Place(folder=int(blob[:2], 16)), at)

    assert scan(now + timedelta(hours=23)) == 0, "it may still be committed"
    assert scan(now + timedelta(hours=25)) >= 2
    assert scan(now + timedelta(hours=25)) == 0
    assert set(vault.item_keys([lost_item, UUID(item["id"])])) == {UUID(item["id"])}
    assert [path.name for path in settings.blob_dir.rglob("*") if path.is_file()] != [blob]
    assert count(databases.keystore, "author_keys") == 1
    drain(settings)
    assert client.get(item["status_url"]).json()["status"] == "decided"


def test_where_most_seems_to_be_nobodys_nothing_is_touched(
    client: TestClient, databases: Databases, vault: Vault, blobs: FolderBlobs
) -> None:
    """An empty or half restored content database must not cost the keys of what is not there yet."""
    client.post("/v1/items/batch", json={"items": [post(f"post-{number}") for number in range(30)]})
    with databases.content.begin() as connection:
        connection.execute(text("DELETE FROM items"))
    assert orphans.scan(databases, blobs, orphans.Place(), datetime.now(UTC) + 2 * DAY) == 0
    assert count(databases.keystore, "item_keys") == 30


def test_another_clients_deletion_does_not_bury_the_post_of_the_same_name(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault
) -> None:
    with calling(settings, new_key(databases, vault, "else")) as other:
        item = client.post("/v1/items", json=post()).json()
        client.delete(item["status_url"])
        assert other.post("/v1/items", json=post()).status_code == 202


def test_an_erasure_by_a_cause(
    client: TestClient, databases: Databases, vault: Vault, carry: Callable[[], int]
) -> None:
    item = client.post("/v1/items", json=post()).json()
    ask(databases, vault, author_id(databases, vault), cause=Cause.CANCELLATION)
    gone = client.get(item["status_url"]).json()
    assert gone["detail"] == "This item is gone: its author was erased."
