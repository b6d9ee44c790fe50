"""The API as its callers see it: accepted once, asked for, listed, deleted; who may do what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from moderation.features.hashes import text_digest
from moderation.governance.accounts import Scope
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import ApiKey
from moderation.storage.vault import Vault
from tests import hostile, support
from tests.support import MILD, bank_of, calling, drain, image_part, new_key, post, text_part

KEY = "Idempotency-Key"


# --- submit ---


def test_an_item_is_accepted_with_its_address(client: TestClient) -> None:
    answer = client.post("/v1/items", json=post())
    assert answer.status_code == 202
    item = answer.json()
    assert set(item) == {"id", "status", "status_url", "received_at", "expires_at"}
    assert UUID(item["id"]).version == 7
    assert answer.headers["location"] == item["status_url"] == f"/v1/items/{item['id']}"
    assert client.get(item["status_url"]).json() == item


def test_everything_a_post_may_say_is_taken(client: TestClient) -> None:
    context = {"thread": "t-1", "parent": "p-1", "reach": 10_000_000_000, "language": "pt-BR"}
    body = post("p/2 ü", text_part(), posted_at="2026-11-22T09:30:00+13:45", context=context)
    assert client.post("/v1/items", json=body).status_code == 202


def test_waiting_brings_the_outcome(client: TestClient, settings: Settings) -> None:
    with ThreadPoolExecutor(1) as pool:
        for _ in range(3):  # a machine that stalls for half a minute is asked again
            waiting = pool.submit(client.post, "/v1/items?wait=30", json=post())
            while not waiting.done():
                drain(settings)
            answer = waiting.result()
            if answer.status_code == 200:
                break
    assert answer.status_code == 200
    assert answer.json()["verdict"] == "allow"
    again = client.post("/v1/items?wait=30", json=post())
    assert (again.status_code, again.json()["decision_id"]) == (200, answer.json()["decision_id"])


def test_waiting_in_vain_answers_202_and_loses_nothing(client: TestClient, databases: Databases) -> None:
    answer = client.post("/v1/items?wait=0.3", json=post())
    assert (answer.status_code, answer.json()["status"]) == (202, "received")
    assert len(support.items(databases)) == 1


# --- once and only once ---


def test_the_same_request_gets_the_same_answer(client: TestClient, databases: Databases) -> None:
    answers = [client.post("/v1/items", json=post(), headers={KEY: "k"}).json() for _ in range(3)]
    assert answers == [answers[0]] * 3
    assert len(support.items(databases)) == 1


def test_the_order_of_fields_and_of_their_bytes_does_not_matter(
    client: TestClient, databases: Databases
) -> None:
    first = client.post("/v1/items", json=post()).json()
    reordered = json.dumps(dict(reversed(post().items())), indent=2)
    again = client.post("/v1/items", content=reordered, headers={"Content-Type": "application/json"}).json()
    assert again == first


@pytest.mark.parametrize(
    "changes",
    [
        {"author": "acct-2"},
        {"kind": "post"},
        {"parts": [text_part("Fine weather in Lisbon today.")]},
        {"parts": [text_part(name="title")]},
        {"context": {"reach": 1}},
        {"posted_at": "2026-11-22T09:30:00Z"},
    ],
)
def test_another_body_under_the_same_key_is_refused(client: TestClient, changes: dict[str, Any]) -> None:
    client.post("/v1/items", json=post())
    answer = client.post("/v1/items", json=post(**changes))
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_conflict")


def test_a_key_and_an_external_id_never_meet(client: TestClient, databases: Databases) -> None:
    client.post("/v1/items", json=post("post-1"))
    client.post("/v1/items", json=post("post-2"), headers={KEY: "post-1"})
    client.post("/v1/items", json=post("post-3"), headers={KEY: "external:post-1"})
    assert len(support.items(databases)) == 3


def test_a_new_key_is_a_new_revision(client: TestClient, databases: Databases) -> None:
    client.post("/v1/items", json=post(), headers={KEY: "revision-1"})
    revised = post("post-1", text_part("Fine weather in Lisbon today."))
    client.post("/v1/items", json=revised, headers={KEY: "revision-2"})
    listed = client.get("/v1/items", params={"external_id": "post-1"}).json()["items"]
    assert len(listed) == 2
    assert listed[0]["id"] > listed[1]["id"], "newest first"


def test_sent_at_once_by_many_it_is_one_item(client: TestClient, databases: Databases) -> None:
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: client.post("/v1/items", json=post()), range(24)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(support.items(databases)) == support.count(databases.keystore, "item_keys") == 1


def test_two_bodies_at_once_under_one_key_are_one_item_and_one_refusal(
    client: TestClient, databases: Databases
) -> None:
    bodies = [post(author=f"acct-{number % 2}") for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(lambda body: client.post("/v1/items", json=body).status_code, bodies))
    assert sorted(statuses) == [202] * 6 + [409] * 6
    assert len(support.items(databases)) == 1


def test_overlapping_batches_at_once_do_not_wait_for_each_other(
    client: TestClient, databases: Databases
) -> None:
    batches = [{"items": [post(f"post-{n}") for n in order]} for order in (range(20), range(19, -1, -1))] * 3
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda body: client.post("/v1/items/batch", json=body), batches))
    assert {answer.status_code for answer in answers} == {202}
    assert len(support.items(databases)) == 20


# --- batches and files ---


def test_a_batch_is_accepted_or_refused_one_by_one_in_order(client: TestClient, databases: Databases) -> None:
    client.post("/v1/items", json=post("post-4"))
    sent = [
        post("post-1"),
        post("post-2", unknown=1),
        post("post-3", text_part("a\0b")),
        post("post-4", author="acct-9"),
        "not an item",
        post("post-1"),
        post("post-1", author="acct-9"),
        post("post-5", image_part(b"no picture")),
        post("post-6", callback="nobody"),
        post("post-7", image_part()),
    ]
    answer = client.post("/v1/items/batch", json={"items": sent})
    assert answer.status_code == 202
    results = answer.json()["results"]
    assert [one["problem"]["status"] if "problem" in one else 202 for one in results] == [
        202, 422, 422, 409, 422, 202, 409, 415, 422, 202,
    ]  # fmt: skip
    assert results[0]["item"]["id"] == results[5]["item"]["id"], "twice in one batch is once"
    assert len(support.items(databases)) == 3


def test_a_batch_of_a_hundred_is_one_request(client: TestClient, databases: Databases) -> None:
    body = {"items": [post(f"post-{number}", author=f"acct-{number % 7}") for number in range(100)]}
    assert client.post("/v1/items/batch", json=body).status_code == 202
    assert len(support.items(databases)) == 100
    assert support.count(databases.content, "authors") == 7


def multipart(client: TestClient, body: Any, files: Any, **options: Any) -> Any:
    return client.post("/v1/items", data={"item": json.dumps(body)}, files=files, **options)


def upload(name: str = "photo", field: str = "file1") -> dict[str, str]:
    return {"type": "image", "name": name, "upload": field}


def test_pictures_can_come_as_files(client: TestClient, databases: Databases) -> None:
    picture = hostile.saved(hostile.gradient(), "JPEG")
    answer = multipart(client, post("post-1", upload()), {"file1": ("a.bin", picture, "text/plain")})
    assert answer.status_code == 202, answer.text
    same = client.post("/v1/items", json=post("post-1", image_part(picture)))
    assert same.json() == answer.json(), "however it came, it is the same picture"


def test_a_large_file_never_lies_on_a_disk_unencrypted(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spill(*_: Any, **__: Any) -> None:
        raise AssertionError("a file was written")

    monkeypatch.setattr("tempfile.TemporaryFile", spill)
    flood = hostile.app1_flood(5_000_000)
    answer = multipart(client, post("post-1", upload()), {"file1": ("a.jpg", flood, "image/jpeg")})
    assert answer.status_code == 202


@pytest.mark.parametrize(
    ("parts", "files", "said"),
    [
        ([upload()], {"other": b""}, "names an upload that was not sent"),
        ([text_part()], {"file1": b"x"}, "A file was sent that no part names"),
        ([upload("a"), upload("b", "file2")], {"file1": b"x"}, "upload"),
        ([{"type": "image", "name": "a"}], {}, "needs either `data`"),
        ([{**image_part(), "upload": "file1"}], {"file1": b"x"}, "needs either `data`"),
    ],
)
def test_files_and_parts_must_agree(
    client: TestClient, parts: list[dict[str, str]], files: dict[str, bytes], said: str
) -> None:
    picture = hostile.saved(hostile.gradient(), "PNG")
    sent = dict.fromkeys(files, ("a.png", picture, "image/png")) or {"item2": ("", b"", "")}
    answer = multipart(client, post("post-1", *parts), sent)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


# --- ask, list, delete ---


def test_items_are_listed_by_state(
    client: TestClient, settings: Settings, databases: Databases, now: datetime
) -> None:
    bank_of(databases, text_digest("Look at this."), "review", now)
    made = {
        "decided": client.post("/v1/items", json=post("post-1")).json()["id"],
        "in_review": client.post("/v1/items", json=post("post-2", text_part("Look at this."))).json()["id"],
    }
    gone = client.post("/v1/items", json=post("post-3")).json()
    drain(settings)
    client.delete(gone["status_url"])
    made |= {"deleted": gone["id"], "received": client.post("/v1/items", json=post("post-4")).json()["id"]}

    def listed(**query: str) -> list[str]:
        return [item["id"] for item in client.get("/v1/items", params=query).json()["items"]]

    for state, identifier in made.items():
        assert listed(state=state) == [identifier]
        assert all(item["status"] == state for item in client.get(f"/v1/items?state={state}").json()["items"])
    assert listed(state="processing") == []
    assert listed() == [made["received"], made["in_review"], made["decided"]]
    assert listed(external_id="post-1") == [made["decided"]]
    assert listed(external_id="post-1", state="in_review") == []
    assert listed(external_id="post-3") == []
    assert listed(external_id="post-3", state="deleted") == [gone["id"]]
    assert listed(external_id="post-9") == []


@pytest.mark.parametrize("by", ["client", "external_id"])
def test_pages_follow_each_other_without_gap_or_repetition(client: TestClient, by: str) -> None:
    query = {"external_id": "post-1"} if by == "external_id" else {}
    sent = [
        client.post("/v1/items", json=post("post-1"), headers={KEY: f"k{number}"}).json()["id"]
        for number in range(103)
    ]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(4):
        page = client.get("/v1/items", params=query | cursor).json()
        seen += [item["id"] for item in page["items"]]
        if "next" not in page:
            break
        cursor = {"cursor": page["next"]}
    assert sorted(seen) == sorted(sent)
    assert seen == sorted(seen, reverse=True)


def test_an_unknown_item_is_404(client: TestClient) -> None:
    answer = client.get(f"/v1/items/{UUID(int=7)}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert client.delete(f"/v1/items/{UUID(int=7)}").status_code == 404


# --- who calls ---


@pytest.fixture
def stranger(settings: Settings, databases: Databases, vault: Vault) -> Iterator[TestClient]:
    """Another client, which may do everything with what is its own."""
    with calling(settings, new_key(databases, vault, "other")) as stranger:
        yield stranger


def test_nobody_sees_or_deletes_what_another_client_sent(client: TestClient, stranger: TestClient) -> None:
    item = client.post("/v1/items", json=post()).json()
    assert stranger.get(item["status_url"]).status_code == 404
    assert stranger.delete(item["status_url"]).status_code == 404
    assert stranger.get("/v1/items").json() == {"items": []}
    assert stranger.get("/v1/items", params={"external_id": "post-1"}).json() == {"items": []}
    assert stranger.get("/v1/items", params={"cursor": str(UUID(int=2**128 - 1))}).json() == {"items": []}
    assert client.get(item["status_url"]).status_code == 200


def test_two_clients_may_use_the_same_ids(
    client: TestClient, stranger: TestClient, databases: Databases
) -> None:
    assert (
        client.post("/v1/items", json=post()).json()["id"]
        != stranger.post("/v1/items", json=post()).json()["id"]
    )
    assert support.count(databases.content, "authors") == 2


@pytest.mark.parametrize(
    "header",
    [
        None, "", "Bearer", "Bearer ", "Bearer mk_0", "Basic YTpi", "mk_0123456789abcdef_" + "a" * 43,
        "Bearer mk_0123456789abcdef_" + "a" * 43, "Bearer " + "\u00e9" * 9, "Bearer " + "x" * 5000,
    ],
)  # fmt: skip
def test_without_a_key_of_ours_nobody_comes_in(
    settings: Settings, databases: Databases, header: str | None
) -> None:
    with calling(settings, None) as nobody:
        headers = {"Authorization": header.encode("latin-1")} if header is not None else {}
        for method, path in (("POST", "/v1/items"), ("GET", "/v1/items"), ("GET", "/v1/webhook-endpoints")):
            answer = nobody.request(method, path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == 'Bearer realm="moderation"'
            assert answer.json()["detail"].endswith(".")


def test_a_key_does_what_its_scopes_say(settings: Settings, databases: Databases, vault: Vault) -> None:
    asked = {
        Scope.ITEMS_WRITE: [
            ("POST", "/v1/items"),
            ("POST", "/v1/items/batch"),
            ("DELETE", f"/v1/items/{UUID(int=1)}"),
        ],
        Scope.ITEMS_READ: [("GET", "/v1/items"), ("GET", f"/v1/items/{UUID(int=1)}")],
        Scope.WEBHOOKS: [("GET", "/v1/webhook-endpoints"), ("GET", "/v1/webhooks/dead")],
    }
    for scope in Scope:
        with calling(settings, new_key(databases, vault, "app", scope)) as limited:
            for needed, calls in asked.items():
                for method, path in calls:
                    status = limited.request(method, path).status_code
                    assert (status == 403) == (needed is not scope), (scope, method, path, status)


def test_a_revoked_key_or_one_with_another_secret_is_refused(
    client: TestClient, databases: Databases, api_key: str
) -> None:
    forged = api_key[:-1] + ("a" if api_key[-1] != "a" else "b")
    assert client.get("/v1/items", headers={"Authorization": f"Bearer {forged}"}).status_code == 401
    with transaction(databases.content) as session:
        session.execute(update(ApiKey).values(revoked_at=datetime.now(UTC)))
    assert client.get("/v1/items").status_code == 401


# --- when it is too much ---


def test_who_sends_too_fast_is_told_when_to_come_back(settings: Settings, api_key: str) -> None:
    slow = replace(settings, limits=replace(settings.limits, requests_per_minute=3))
    with calling(slow, api_key) as client:
        answers = [client.get("/v1/items") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[3].json()["code"] == "too_many_requests"
    assert 1 <= int(answers[3].headers["retry-after"]) <= 60


def test_a_full_backlog_refuses_its_own_client_first(
    settings: Settings, databases: Databases, vault: Vault, api_key: str
) -> None:
    limits = replace(settings.limits, backlog_items_per_client=2, backlog_items=3)
    small = replace(settings, limits=limits)
    with calling(small, api_key) as client:
        assert client.post("/v1/items/batch", json={"items": [post("a"), post("b")]}).status_code == 202
    with calling(small, api_key) as client:
        full = client.post("/v1/items", json=post("c"))
        assert (full.status_code, full.json()["code"]) == (429, "backlog_full")
        assert int(full.headers["retry-after"]) >= 1
    with calling(small, new_key(databases, vault, "other")) as other:
        assert other.post("/v1/items", json=post("a")).status_code == 202
    with calling(small, new_key(databases, vault, "third")) as third:
        over = third.post("/v1/items", json=post("a"))
        assert (over.status_code, over.json()["code"]) == (503, "backlog_full")
        assert third.get("/v1/items").status_code == 200, "asking is always possible"


def test_nobody_is_told_what_was_known(client: TestClient, databases: Databases, now: datetime) -> None:
    """An answer to a submission is the same whether or not the text is in a bank."""
    bank_of(databases, text_digest(MILD), "remove", now)
    assert client.post("/v1/items", json=post()).json()["status"] == "received"
