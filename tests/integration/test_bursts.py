"""The same text of many authors within minutes goes before people; of that nothing is kept for long."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, text

from moderation.domain.erasing import Cause
from moderation.features.hashes import text_digest
from moderation.governance import erasure
from moderation.review import bursts
from moderation.review.bursts import KEPT, BurstRule, Said
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import BurstRow, SignalRow
from moderation.storage.vault import Vault
from tests.support import drain, post, text_part

SAID = "Everybody come to the harbour at nine this evening, and bring a friend or two with you!"
NEARLY = "Everybody come to the harbour at nine this evening, and bring a friend or two with you!!"
OTHER = "The trick is to toast the rice before adding the stock, and to stir it for as long as it takes."
RULE = BurstRule()


def _said(author: UUID, at: datetime, words: str = SAID, client: str = "app") -> Said:
    return Said(client, author, at, words, text_digest(words))


def _count(databases: Databases, vault: Vault, *said: Said, rule: BurstRule = RULE) -> list[int]:
    with transaction(databases.content) as session:
        return bursts.count(session, vault, said, rule)


def _rows(databases: Databases) -> int:
    with transaction(databases.content) as session:
        return session.scalar(select(func.count()).select_from(BurstRow)) or 0


def _signals(databases: Databases) -> list[SignalRow]:
    with transaction(databases.content) as session:
        return list(session.scalars(select(SignalRow).where(SignalRow.detector == "burst")))


def test_many_authors_are_a_burst_and_people_decide(
    client: TestClient, settings: Settings, databases: Databases
) -> None:
    urls = []
    for number in range(5):
        if number == 4:
            drain(settings)
        body = post(f"post-{number}", text_part(SAID), author=f"acct-{number}")
        urls.append(client.post("/v1/items", json=body).json()["status_url"])
    drain(settings)
    shown = [client.get(url).json() for url in urls]
    assert [one["status"] for one in shown] == ["decided"] * 4 + ["in_review"], shown
    (signal,) = _signals(databases)
    assert signal.evidence == {"authors": 5, "minutes": 10.0}
    assert signal.scores == {"spam": 0.6}


def test_one_author_alone_is_no_burst(client: TestClient, settings: Settings, databases: Databases) -> None:
    for number in range(8):
        client.post("/v1/items", json=post(f"post-{number}", text_part(SAID)))
        client.post(
            "/v1/items", json=post(f"ok-{number}", text_part("good morning"), author=f"acct-{number}")
        )
    drain(settings)
    assert not _signals(databases), "short texts are what many say"


def test_authors_of_one_batch_are_counted_together(databases: Databases, vault: Vault, now: datetime) -> None:
    said = [
        _said(new_id(now), now, words) for words in (SAID, SAID, NEARLY, SAID.upper(), OTHER, "too short")
    ]
    assert _count(databases, vault, *said) == [4, 4, 4, 4, 1, 0]


def test_only_the_window_around_a_text_counts(databases: Databases, vault: Vault, now: datetime) -> None:
    first, second, third = (new_id(now) for _ in range(3))
    assert _count(databases, vault, _said(first, now)) == [1]
    assert _count(databases, vault, _said(second, now + timedelta(minutes=9))) == [2]
    assert _count(databases, vault, _said(third, now + timedelta(minutes=18))) == [2]
    assert _count(databases, vault, _said(first, now + timedelta(minutes=19))) == [3]
    assert _count(databases, vault, _said(second, now - timedelta(minutes=30))) == [1], "a backlog"


def test_what_is_said_elsewhere_is_not_told(databases: Databases, vault: Vault, now: datetime) -> None:
    _count(databases, vault, *(_said(new_id(now), now) for _ in range(5)))
    assert _count(databases, vault, _said(new_id(now), now, client="another")) == [1]


def test_nothing_of_the_text_is_kept_and_not_for_long(
    databases: Databases, vault: Vault, now: datetime
) -> None:
    _count(databases, vault, _said(new_id(now), now), _said(new_id(now), now - KEPT, OTHER))
    assert _rows(databases) == 6
    with transaction(databases.content) as session:
        keys = set(session.scalars(select(BurstRow.key)))
        assert text_digest(SAID)[: bursts.KEY_BYTES] not in keys
        assert {len(key) for key in keys} == {bursts.KEY_BYTES}
        assert session.scalar(text("SELECT relpersistence FROM pg_class WHERE relname = 'bursts'")) == "u"
        assert bursts.sweep(session, now + timedelta(seconds=1)) == 3
    assert _rows(databases) == 3
    with transaction(databases.content) as session:
        bursts.sweep(session, now + KEPT + timedelta(seconds=1))
    assert _rows(databases) == 0


def test_a_great_burst_is_counted_up_to_a_point(
    databases: Databases, vault: Vault, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bursts, "MOST_COUNTED", 7)
    assert set(_count(databases, vault, *(_said(new_id(now), now) for _ in range(20)))) == {7}


def test_workers_side_by_side_lose_nobody(databases: Databases, vault: Vault, now: datetime) -> None:
    authors = [new_id(now) for _ in range(40)]
    troubles: list[BaseException] = []

    def work(offset: int) -> None:
        try:
            for start in range(0, len(authors), 5):
                mine = authors[start : start + 5]
                words = [SAID, OTHER] if offset % 2 else [OTHER, SAID]
                _count(databases, vault, *(_said(author, now, one) for author in mine for one in words))
        except BaseException as error:
            troubles.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not troubles
    assert _count(databases, vault, _said(authors[0], now)) == [len(authors)]
    assert _rows(databases) == len(authors) * 6


def test_an_erased_author_is_in_no_burst(
    client: TestClient,
    settings: Settings,
    databases: Databases,
    vault: Vault,
    blobs: FolderBlobs,
    now: datetime,
) -> None:
    for number in range(2):
        client.post("/v1/items", json=post(f"post-{number}", text_part(SAID), author=f"acct-{number}"))
    drain(settings)
    assert _rows(databases) == 6
    with transaction(databases.content) as session:
        author = erasure.author_of(session, vault, "app", "acct-0")
        erasure.request(
            session,
            vault,
            client="app",
            author_id=author,
            cause=Cause.REQUEST,
            requested_by="client:app",
            now=now,
        )
    assert erasure.run(databases, vault, blobs, now, 60.0) == 1
    with transaction(databases.content) as session:
        assert author not in set(session.scalars(select(BurstRow.author_id)))
    assert _rows(databases) == 3
