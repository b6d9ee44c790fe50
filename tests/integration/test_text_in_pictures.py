"""What stands in a picture is a text of its item: screened, shown, handed on with its origin, and erased."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from moderation.domain.policy import Policy
from moderation.features.ocr import Reader
from moderation.governance import banks, erasure, evidence, exports, partners, statements
from moderation.governance.erasing import counting
from moderation.pipeline import read
from moderation.review import history, labels, sources
from moderation.settings import Settings
from moderation.storage import items as queue
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Author, Case, Decision, Item, Part, SignalRow
from moderation.storage.vault import Vault
from tests import captions, hostile, people
from tests.support import calling, drain, image_part, post, text_part

MAP = Reader.map
SAID = ("Lovely weather in Lisbon", "and a train to the coast")
TERM = "train to the coast"


@pytest.fixture
def banked(databases: Databases, vault: Vault) -> None:
    """A bank that knows a term."""
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        banks.create(
            session, name="trips", kind="term", category="spam", action="review", allow=False, distance=None,
            actor="operator", now=now,
        )  # fmt: skip
        banks.add_content(
            session,
            vault,
            bank="trips",
            content=TERM.encode(),
            note="",
            verified=True,
            actor="operator",
            now=now,
        )


@pytest.fixture
def screened(client: TestClient, settings: Settings) -> Callable[..., dict[str, Any]]:
    """A post after it was screened: a mild text and a picture in which something stands."""

    def screen(*lines: str, name: str = "post-1", **changes: Any) -> dict[str, Any]:
        parts = (text_part(), image_part(captions.saved(*lines)))
        item = client.post("/v1/items", json=post(name, *parts)).json()
        drain(replace(settings, **changes))
        shown: dict[str, Any] = client.get(item["status_url"]).json()
        return shown

    return screen


@pytest.fixture
def ada(settings: Settings, databases: Databases, vault: Vault) -> Iterator[people.Member]:
    with people.logged_in(settings, databases, vault, "moderator") as member:
        yield member


def parts(databases: Databases) -> list[Part]:
    with transaction(databases.content) as session:
        return list(session.scalars(select(Part).order_by(Part.item_id, Part.position)))


def signals(databases: Databases, detector: str) -> list[SignalRow]:
    with transaction(databases.content) as session:
        return list(session.scalars(select(SignalRow).where(SignalRow.detector == detector)))


def case_of(databases: Databases, item: str) -> UUID:
    with transaction(databases.content) as session:
        found = session.scalar(select(Case.id).where(Case.item_id == UUID(item)))
        assert found is not None
        return found


def test_a_banked_term_in_a_picture_is_found(
    banked: None, screened: Callable[..., dict[str, Any]], databases: Databases, vault: Vault
) -> None:
    shown = screened(*SAID)
    assert shown["verdict"] == "review"
    with transaction(databases.content) as session:
        (decision,) = session.scalars(select(Decision))
    (match,) = decision.matches
    assert (match["part"], match["bank"], match["how"]) == ("photo.text", "trips", "term")
    assert "\n".join(SAID)[match["start"] : match["end"]] == TERM
    assert decision.content_types == ["image", "text"]
    _, picture, text = parts(databases)
    assert (text.position, text.derived_from, text.name, text.kind) == (1001, 1, "photo.text", "text")
    assert (text.size, text.language, text.blob) == (len("\n".join(SAID)), "en", None)
    assert picture.derived_from is None
    assert b"weather" not in (text.content or b"") + (text.layout or b"")
    key = vault.item_keys([text.item_id])[text.item_id]
    place = (str(text.item_id), "1001")
    assert key.decrypt(text.content or b"", "parts", "content", *place).decode() == "\n".join(SAID)
    layout = json.loads(key.decrypt(text.layout or b"", "parts", "layout", *place))
    assert [(line["start"], line["end"]) for line in layout] == [(0, 24), (25, 49)]
    assert {row.part for row in signals(databases, "text-minilm")} == {"body", "photo.text"}


def test_a_picture_that_is_allowed_is_so_with_what_stands_in_it(
    banked: None, screened: Callable[..., dict[str, Any]], databases: Databases, vault: Vault
) -> None:
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        banks.create(
            session, name="harmless", kind="image", category="spam", action="review", allow=True, actor="operator",
            now=now,
        )  # fmt: skip
        banks.add_content(
            session, vault, bank="harmless", content=captions.saved(*SAID), note="", verified=True,
            actor="operator", now=now,
        )  # fmt: skip
    assert screened(*SAID)["verdict"] == "allow"
    assert screened(*SAID, "and back", name="post-2")["verdict"] == "review", "another picture"


def test_without_the_switch_nothing_is_read(
    banked: None, screened: Callable[..., dict[str, Any]], databases: Databases, settings: Settings
) -> None:
    shown = screened(*SAID, work=replace(settings.work, ocr=False))
    assert shown["verdict"] == "allow"
    assert [part.name for part in parts(databases)] == ["body", "photo"]


def test_a_failed_reader_is_said_and_the_policy_decides(
    screened: Callable[..., dict[str, Any]], databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no reader today")

    monkeypatch.setattr(Reader, "read", broken)
    assert screened(*SAID)["verdict"] == "review"
    (signal,) = signals(databases, "ocr")
    assert (signal.part, signal.status, signal.evidence) == ("photo", "failed", {"cause": "error"})
    with transaction(databases.content) as session:
        (decision,) = session.scalars(select(Decision))
        (case,) = session.scalars(select(Case))
    assert {"name": "ocr", "version": signal.version, "status": "failed"} in decision.detectors
    assert case.reason == "detector_failed"
    assert [part.name for part in parts(databases)] == ["body", "photo"]


def test_what_was_not_read_to_its_end_is_said(
    screened: Callable[..., dict[str, Any]], databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moderation.features.ocr.PIXELS", 800)
    screened(*SAID)
    (signal,) = signals(databases, "ocr")
    assert signal.status == "failed"
    assert len(parts(databases)) == 3


def test_an_item_of_many_pictures_is_read_up_to_a_bound(
    client: TestClient, settings: Settings, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "MOST", 1)
    pictures = [captions.saved(line, "and a train to the coast") for line in ("One", "Two", "One")]
    posted = [image_part(data, f"photo{number}") for number, data in enumerate(pictures)]
    client.post("/v1/items", json=post("post-1", *posted))
    client.post("/v1/items", json=post("post-2", image_part(captions.saved("Three", "of another item"))))
    drain(settings)
    assert [part.name for part in parts(databases) if part.derived_from is not None] == [
        "photo0.text", "photo2.text", "photo.text",
    ]  # fmt: skip
    (signal,) = signals(databases, "ocr")
    assert (signal.part, signal.evidence) == ("photo1", {"cause": "only a part of it was looked at"})


def test_screened_again_it_is_read_again_and_never_read_back(
    screened: Callable[..., dict[str, Any]], databases: Databases, settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    screened(*SAID)
    before = parts(databases)[2]
    read: list[int] = []
    original = Reader.read
    monkeypatch.setattr(Reader, "read", lambda self, picture: read.append(1) or original(self, picture))

    def again() -> list[Part]:
        with transaction(databases.content) as session:
            # As if its first screening had never been written.
            for table in (SignalRow, Decision):
                session.query(table).delete()
            session.execute(update(Item).values(state="received", decided_at=None))
        drain(settings)
        return parts(databases)

    once = again()
    assert len(once) == 3
    assert read == [1]
    assert once[2].content != before.content  # sealed anew
    monkeypatch.setattr(Reader, "map", lambda self, rgb: MAP(self, rgb) * 0)
    assert [part.name for part in again()] == ["body", "photo"]


def test_only_what_was_posted_counts_as_posted(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault
) -> None:
    item = client.post("/v1/items", json=post("post-1", image_part(captions.saved(*SAID)))).json()
    drain(settings)
    identifier = UUID(item["id"])
    assert [part.name for part in parts(databases)] == ["photo", "photo.text"]
    with transaction(databases.content) as session:
        (decision,) = session.scalars(select(Decision))
        assert decision.content_types == ["image"]
        assert sources.kinds_of(session, [identifier]) == {identifier: {"image"}}
        decision.content_types = []  # as an older release wrote it, and never flushed here
        with session.no_autoflush:
            assert statements._parts(session, [decision]) == {identifier: ["image"]}
        session.refresh(decision)
        assert [part.name for part in queue.parts_of(session, [identifier], posted=True)] == ["photo"]
        # No example of a text: a picture belongs to it.
        assert labels._texts(session, vault, [identifier]) == {}
        shown = history.of_item(session, vault, identifier, datetime.now(UTC))
        assert [(part.name, part.machine_read) for part in shown.parts] == [
            ("photo", False),
            ("photo.text", True),
        ]


def test_the_page_of_a_case_shows_what_was_read_and_where(
    banked: None, screened: Callable[..., dict[str, Any]], databases: Databases, ada: people.Member
) -> None:
    case = case_of(databases, screened(*SAID)["id"])
    page = ada.get(f"/console/cases/{case}").text
    assert "Read in the picture by a machine" in page
    said = re.sub(r"<[^>]+>", "", page)
    assert SAID[0] in said
    assert re.search(rf'<mark class="found" data-label="trips"[^>]*>{TERM}', page)
    assert "<polygon" not in page  # the picture is blurred: nothing lies over it
    assert 'tabindex="0">Lovely' not in page
    ada.post(f"/console/cases/{case}/reveal")
    page = ada.get(f"/console/cases/{case}").text
    drawn = re.findall(r'<polygon data-line="(\d)" points="([^"]+)"', page)
    assert [number for number, _ in drawn] == ["0", "1"]
    assert all(0 <= float(number) <= 1 for _, points in drawn for number in re.split("[ ,]", points))
    assert 'data-line="0" tabindex="0">Lovely weather' in page
    assert 'data-line="1" tabindex="-1">' in page
    (_, _, text) = ada.get(f"/v1/review/cases/{case}").json()["parts"]
    assert (text["name"], text["text"], text["read_in"]) == ("photo.text", "\n".join(SAID), 1)
    assert [line["end"] for line in text["lines"]] == [24, 49]


def test_whoever_answers_for_it_is_told_that_a_machine_read_it(
    screened: Callable[..., dict[str, Any]], databases: Databases, vault: Vault, blobs: FolderBlobs
) -> None:
    identifier = UUID(screened(*SAID)["id"])
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        item = session.get(Item, identifier)
        assert item is not None
        author = session.get(Author, item.author_id)
        assert author is not None
        found = evidence.pieces(session, blobs, evidence.keys_of(vault, identifier, author.id), identifier)
        assert [(one.name, one.machine_read) for one in found] == [
            ("body", False), ("photo", False), ("photo.text", True)
        ]  # fmt: skip
        assert found[2].text == "\n".join(SAID)
        document = exports.make(session, vault, author, now).document
    (read,) = [row for row in document["tables"]["parts"] if row["derived_from"] is not None]
    assert read["content"] == "\n".join(SAID)
    assert json.loads(read["layout"])[0]["end"] == len(SAID[0])


def test_it_ends_with_its_item(
    screened: Callable[..., dict[str, Any]], databases: Databases, vault: Vault, blobs: FolderBlobs, policy: Policy
) -> None:  # fmt: skip
    identifier = UUID(screened(*SAID)["id"])
    text = parts(databases)[2]
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        item = session.get(Item, identifier, with_for_update=True)
        assert item is not None
        before = counting.of_content(session, item.author_id, identifier)
        assert (before["texts"], before["texts_in_pictures"], before["blobs"]) == (1, 1, 1)
        erasure.mark_deleted(session, [item], policy.retention, "client:app", now)
    erasure.destroy(databases, vault, blobs, [identifier], now)
    assert vault.item_keys([identifier]) == {}
    assert all(part.item_id != text.item_id for part in parts(databases))


def test_a_partner_needs_both_fields_to_be_given_it(
    screened: Callable[..., dict[str, Any]], settings: Settings, databases: Databases, vault: Vault
) -> None:
    identifier = UUID(screened(*SAID)["id"])
    now = datetime.now(UTC)
    given = {}
    for name, fields in (("both", ["text", "image"]), ("texts", ["text"]), ("pictures", ["image"])):
        with transaction(databases.content) as session:
            token = partners.create(
                session, vault, name=name, fields=fields, purpose="review", actor="operator", now=now,
                expires_at=now + timedelta(days=1),
            )  # fmt: skip
            partners.assign(session, name, "operator", now, items=[identifier])
        with calling(settings, token) as client:
            shown = client.get(f"/v1/partner/items/{identifier}").json()["parts"]
            given[name] = [(part["name"], part.get("machine_read", False)) for part in shown]
    assert given["both"] == [("body", False), ("photo", False), ("photo.text", True)]
    assert given["texts"] == [("body", False)]
    assert given["pictures"] == [("photo", False)]


def test_scores_of_a_picture_are_those_of_what_it_says_too(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault
) -> None:
    def scored(picture: bytes) -> Any:
        address = "data:image/png;base64," + image_part(picture)["data"]
        body = {"model": "moderation", "input": [{"type": "image_url", "image_url": {"url": address}}]}
        answer = client.post("/v1/moderations", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["results"][0]

    said, silent = (
        scored(captions.saved("you are a stupid idiot")),
        scored(hostile.saved(hostile.gradient(), "PNG")),
    )
    assert said["category_scores"]["harassment"] > 0.5
    assert said["category_applied_input_types"]["harassment"] == ["image"]
    assert silent["category_applied_input_types"]["harassment"] == []
