"""Row 12: erased means gone or anonymous: nothing opens, nothing comes back, and what is left fits ten or more."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from fastapi.testclient import TestClient
from sqlalchemy import select

from moderation import setup
from moderation.domain.erasing import NOBODY, SHARED_BY
from moderation.governance import erasure
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AccountAction, Appeal, Case, Decision, Item, Opinion
from moderation.storage.vault import Vault
from tests.integration.test_erasure import under_way
from tests.integration.test_erasure_author import ask, author_id
from tests.integration.test_erasure_receipts import copied, restored
from tests.support import count, drain, post, text_part


def run(databases: Databases, vault: Vault, blobs: FolderBlobs) -> int:
    return erasure.run(databases, vault, blobs, datetime.now(UTC), 60.0)


def test_nothing_of_an_erased_author_opens_from_any_copy(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault, blobs: FolderBlobs
) -> None:
    client.post("/v1/items", json=post("post-1", text_part("A mild word.")))
    drain(settings)
    copy = copied(databases)
    (item,), (author,) = ([row["id"] for row in copy[name]] for name in ("items", "authors"))
    assert vault.keys_of(item, author) != (None, None)
    identifier = ask(databases, vault, author)
    assert run(databases, vault, blobs) == 1
    assert vault.keys_of(item, author) == (None, None), "so that no copy of the rows can be opened"
    with transaction(databases.content) as session:
        checks = erasure.verify_receipt(databases, vault, erasure.receipt(session, identifier))
    assert all(check.holds for check in checks)


def test_a_job_in_flight_commits_nothing(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault, blobs: FolderBlobs
) -> None:
    client.post("/v1/items", json=post())
    with under_way(settings):
        ask(databases, vault, author_id(databases, vault))
        run(databases, vault, blobs)
    for table in ("items", "parts", "signals", "sketches", "decisions", "outbox", "cases"):
        assert count(databases.content, table) == 0, table


def test_a_restored_backup_forgets_before_anybody_is_served(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault, blobs: FolderBlobs
) -> None:
    item = client.post("/v1/items", json=post()).json()
    copy = copied(databases)
    ask(databases, vault, author_id(databases, vault))
    run(databases, vault, blobs)
    restored(databases, copy)
    assert client.get(item["status_url"]).status_code == 200, "a copy that is older than the erasure"
    setup.prepare(settings)  # what every start does first
    assert client.get(item["status_url"]).status_code == 404
    assert run(databases, vault, blobs) == 1
    with transaction(databases.content) as session:
        assert not session.scalars(select(Item)).all()


def test_what_is_left_is_shared_by_ten_or_more(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault, blobs: FolderBlobs
) -> None:
    """Whatever a record still says of a person, at least ten records say."""
    posts = [post(f"mine-{n}", author="acct-1", context={"language": "eo"}) for n in range(3)]
    posts += [post(f"old-{n}", author="acct-1", posted_at="2024-03-01T08:00:00Z") for n in range(2)]
    posts += [post(f"theirs-{n}", author=f"other-{n}", context={"language": "en"}) for n in range(SHARED_BY)]
    assert client.post("/v1/items/batch", json={"items": posts}).status_code == 202
    drain(settings)
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        # As decisions say of the content what statements need.
        for row, item in session.execute(select(Decision, Item).join(Item, Item.id == Decision.item_id)):
            row.content_at, row.language = item.posted_at, item.language
    author = author_id(databases, vault)
    ask(databases, vault, author)
    assert run(databases, vault, blobs) == 1
    with transaction(databases.content) as session:
        rows = session.scalars(select(Decision)).all()
        for table in (Decision, Case, Opinion, Appeal, AccountAction):
            assert author not in set(session.scalars(select(table.author_id))), table.__tablename__
    mine = [row for row in rows if row.author_id == NOBODY]
    assert len(mine) == 5
    said = Counter((row.client, row.content_at.strftime("%Y-%m") if row.content_at else "") for row in rows)
    for row in mine:
        assert row.language is None
        assert row.content_at is None or (row.content_at.day, row.content_at.hour) == (1, 0)
        month = row.content_at.strftime("%Y-%m") if row.content_at else ""
        assert not month or said[row.client, month] >= SHARED_BY
    assert {row.content_at for row in mine} == {
        None,
        now.replace(day=1, hour=0, minute=0, second=0, microsecond=0),
    }
