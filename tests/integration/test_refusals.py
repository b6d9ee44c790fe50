"""What the API refuses: with the right status, in a sentence that says what to do, never repeating content."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from starlette.requests import Request

from api import bodies
from moderation.domain.errors import TooLarge
from moderation.settings import Settings
from moderation.storage.database import Databases
from tests import hostile, support
from tests.support import image_part, post, text_part

CANARY = "zq7Canary9x"
JSON = {"Content-Type": "application/json"}


def send(client: TestClient, body: bytes, **headers: str) -> Response:
    return client.post("/v1/items", content=body, headers=JSON | headers)


def refused(answer: Response, status: int, code: str | None = None) -> str:
    """The sentence of a problem that is as a problem should be."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"] == f"urn:moderation:problem:{problem['code']}"
    assert problem["title"]
    assert problem["detail"].endswith((".", "?")), problem["detail"]
    assert code is None or problem["code"] == code
    assert CANARY not in answer.text
    return str(problem["detail"])


def raw(**changes: Any) -> bytes:
    return json.dumps(post(**changes)).encode()


DEEP = 100_000
MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "a space": b" ",
    "half": raw()[:-5],
    "two documents": raw() + raw(),
    "not UTF-8": raw().replace(b"Lovely", b"\xff\xfe" + CANARY.encode()),
    "UTF-16": raw().decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + raw(),
    "gzip": gzip.compress(raw()),
    "brackets": b"[" * DEEP,
    "braces": b'{"a":' * DEEP,
    "closed brackets": b"[" * DEEP + b"]" * DEEP,
    "deep in a field": raw(context="@").replace(b'"@"', b"[" * 5000 + b"]" * 5000),
    "deeper than one reader": raw(context="@").replace(b'"@"', b"[" * 300 + b"]" * 300),
    "deep, just so": raw(context="@").replace(b'"@"', b"[" * 900 + b"]" * 900),
    "NaN": raw(context={"reach": 1}).replace(b'"reach": 1', b'"reach": NaN'),
    "Infinity": raw(context={"reach": 1}).replace(b'"reach": 1', b'"reach": -Infinity'),
    "a number without end": raw(context={"reach": 1}).replace(b'"reach": 1', b'"reach": 1' + b"0" * 5000),
    "1e999": raw(context={"reach": 1}).replace(b'"reach": 1', b'"reach": 1e999'),
    "a name twice": raw().replace(b'"kind"', b'"author": "acct-2", "kind"'),
    "a name twice, deep down": raw().replace(b'"name": "body"', b'"name": "body", "name": "body"'),
    "an array": b"[]",
    "a string": b'"item"',
    "null": b"null",
    "half a surrogate pair": raw(parts=[text_part("@")]).replace(b"@", b"\\ud800"),
    "the other half": raw(author="@").replace(b"@", b"\\udfff"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_body_is_refused(client: TestClient, databases: Databases, name: str) -> None:
    refused(send(client, MALFORMED[name]), 422)
    assert not support.items(databases)


@pytest.mark.parametrize("name", MALFORMED)
def test_in_a_batch_too(client: TestClient, databases: Databases, name: str) -> None:
    body = b'{"items": [' + MALFORMED[name] + b"]}"
    answer = client.post("/v1/items/batch", content=body, headers=JSON)
    if answer.status_code == 202:
        assert all(one["problem"]["status"] == 422 for one in answer.json()["results"])
    else:
        refused(answer, 422)
    assert not support.items(databases)


def parts(*given: dict[str, Any]) -> dict[str, Any]:
    return {"parts": list(given)}


INVALID: dict[str, tuple[dict[str, Any], int]] = {
    "an unknown field": ({"tags": [CANARY]}, 422),
    "an unknown field of a part": (parts({**text_part(), "colour": CANARY}), 422),
    "an unknown field of the context": ({"context": {"place": CANARY}}, 422),
    "a field named like content": ({f"{CANARY} is this": 1}, 422),
    "no parts": ({"parts": []}, 422),
    "a part of no type": (parts({"name": "body", "text": CANARY}), 422),
    "a part of another type": (parts({"type": f"video {CANARY}", "name": "body"}), 422),
    "two parts of one name": (parts(text_part(), text_part()), 422),
    "101 parts": (parts(*(text_part(name=f"p{n}") for n in range(101))), 413),
    "50,001 code points": (parts(text_part("\U0001f33c" * 50_001)), 413),
    "NUL": (parts(text_part(f"{CANARY}\0")), 422),
    "a number as text": (parts({"type": "text", "name": "body", "text": 5}), 422),
    "a name in capitals": (parts(text_part(name="Body")), 422),
    "a name with a line break": (parts(text_part(name="body\n")), 422),
    "an empty external_id": ({"external_id": ""}, 422),
    "a long external_id": ({"external_id": "x" * 257}, 422),
    "a NUL in external_id": ({"external_id": f"{CANARY}\0"}, 422),
    "a line break in author": ({"author": f"{CANARY}\n"}, 422),
    "an author of null": ({"author": None}, 422),
    "a thread of control characters": ({"context": {"thread": "\x1b[2J"}}, 422),
    "a negative reach": ({"context": {"reach": -1}}, 422),
    "a reach beyond everybody": ({"context": {"reach": 10_000_000_001}}, 422),
    "half a reader": ({"context": {"reach": 0.5}}, 422),
    "no language": ({"context": {"language": f"{CANARY}!"}}, 422),
    "a local time": ({"posted_at": "2026-11-22T09:30:00"}, 422),
    "no time": ({"posted_at": CANARY}, 422),
    "the year 1": ({"posted_at": "0001-01-01T00:00:00+14:00"}, 422),
    "the last year": ({"posted_at": "9999-12-31T23:59:59-14:00"}, 422),
    "a callback of nobody": ({"callback": "nobody"}, 422),
    "a callback with a NUL": ({"callback": "a\0b"}, 422),
    "a callback that is content": ({"callback": CANARY}, 422),
    "no base64": (parts({"type": "image", "name": "photo", "data": "%%%"}), 422),
    "base64 cut short": (parts({"type": "image", "name": "photo", "data": "AAA"}), 422),
    "an empty picture": (parts(image_part(b"")), 422),
    "a text as a picture": (parts(image_part(CANARY.encode())), 415),
    "a bitmap": (parts(image_part(hostile.saved(hostile.gradient(), "BMP"))), 415),
    "a drawing": (parts(image_part(hostile.SVG)), 415),
    "too many pixels": (parts(image_part(hostile.png_bomb())), 422),
    "half a picture": (parts(image_part(hostile.saved(hostile.gradient(), "JPEG")[:100])), 422),
    "11 MB": (parts(image_part(hostile.app1_flood(11_000_000))), 413),
}


@pytest.mark.parametrize("name", INVALID)
def test_what_does_not_fit_is_refused(client: TestClient, databases: Databases, name: str) -> None:
    changes, status = INVALID[name]
    refused(client.post("/v1/items", json=post(**changes)), status)
    result = client.post("/v1/items/batch", json={"items": [post(**changes)]})
    assert result.json()["results"][0]["problem"]["status"] == status
    assert CANARY not in result.text
    assert not support.items(databases)


def test_what_just_fits_is_taken(client: TestClient) -> None:
    most = [text_part("\U0001f33c" * 50_000, "p0"), *(text_part(name=f"p{n}") for n in range(1, 100))]
    body = post("x" * 256, *most, author="\u4e2d" * 256)
    assert client.post("/v1/items", json=body).status_code == 202
    flood = image_part(hostile.app1_flood(9_000_000))
    assert client.post("/v1/items", json=post("post-2", flood)).status_code == 202


def test_a_refusal_says_which_field(client: TestClient) -> None:
    answer = client.post("/v1/items", json=post(tags=1, context={"reach": -1}))
    errors = answer.json()["errors"]
    assert {tuple(error["path"]) for error in errors} == {("tags",), ("context", "reach")}
    assert refused(answer, 422).startswith(("tags: ", "context.reach: "))


@pytest.mark.parametrize(
    "kind", [None, "", "text/plain", "application/x-www-form-urlencoded", "application/json5", "\u00e4"]
)
def test_another_content_type_is_refused(client: TestClient, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind.encode("latin-1")}
    for path in ("/v1/items", "/v1/items/batch"):
        refused(client.post(path, content=raw(), headers=headers), 415)


def test_json_may_name_its_charset(client: TestClient) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert client.post("/v1/items", content=raw(), headers=headers).status_code == 202


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=b"])
def test_a_body_without_end_is_cut_off_while_it_streams(settings: Settings, kind: str) -> None:
    given = 0

    async def receive() -> dict[str, Any]:
        nonlocal given
        opening = b'--b\r\nContent-Disposition: form-data; name="item"; filename="a"\r\n\r\n'
        chunk = opening if given == 0 else b"x" * 1_000_000
        given += len(chunk)
        assert given < 2 * settings.limits.body_bytes, "nobody stops reading"
        return {"type": "http.request", "body": chunk, "more_body": True}

    # An announced length that is too small must not be believed either.
    headers = [(b"content-type", kind.encode()), (b"content-length", b"10")]
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
    with pytest.raises(TooLarge):
        asyncio.run(bodies.item(request, settings.limits))
    assert given <= settings.limits.body_bytes + 1_000_100


@pytest.mark.parametrize("length", ["48000001", "9" * 18, "9" * 200])
def test_an_absurd_announcement_is_refused_before_anything_is_read(client: TestClient, length: str) -> None:
    for kind in ("application/json", "multipart/form-data; boundary=b"):
        refused(send(client, b"{}", **{"Content-Length": length, "Content-Type": kind}), 413, "too_large")


@pytest.mark.parametrize("length", ["abc", "-1", "1.5", "\u00b2"])
def test_a_nonsensical_announcement_is_not_believed(client: TestClient, length: str) -> None:
    answer = send(client, b"{", **{"Content-Length": length.encode("latin-1")})  # type: ignore[arg-type]
    refused(answer, 422)


def test_too_many_in_a_batch_or_none(client: TestClient) -> None:
    for items, status in (([], 422), ([post(f"p-{n}") for n in range(101)], 413), ("x", 422), (None, 422)):
        refused(client.post("/v1/items/batch", json={"items": items}), status)
    refused(client.post("/v1/items/batch", json={}), 422)
    refused(client.post("/v1/items/batch", json={"items": [post()], "more": 1}), 422)


FORM = "multipart/form-data; boundary=b"
START = b'--b\r\nContent-Disposition: form-data; name="item"\r\n\r\n'
FORMS: dict[str, tuple[str, bytes]] = {
    "no boundary": ("multipart/form-data", b""),
    "nothing": (FORM, b""),
    "another boundary": (FORM, START.replace(b"--b", b"--c") + b"{}\r\n--c--\r\n"),
    "no end": (FORM, START + raw()),
    "no name": (FORM, b"--b\r\nContent-Disposition: form-data\r\n\r\n{}\r\n--b--\r\n"),
    "no headers": (FORM, b"--b\r\n\r\n{}\r\n--b--\r\n"),
    "no item": (FORM, START.replace(b'"item"', b'"other"') + b"{}\r\n--b--\r\n"),
    "two items": (FORM, START + raw() + b"\r\n" + START + raw() + b"\r\n--b--\r\n"),
    "an item that is not JSON": (FORM, START + CANARY.encode() + b"\r\n--b--\r\n"),
    "an item of bytes": (FORM, START + b"\xff\xfe\x00\r\n--b--\r\n"),
    "an odd charset": (f"{FORM}; charset=idna", START + b"\xff\xfe\x00\r\n--b--\r\n"),
    "no charset at all": (f"{FORM}; charset=base64", START + b"\xff\r\n--b--\r\n"),
    "a name twice": (FORM, START + raw().replace(b'"kind"', b'"kind": "a", "kind"') + b"\r\n--b--\r\n"),
    "102 files": (
        FORM,
        b"".join(
            b'--b\r\nContent-Disposition: form-data; name="f%d"; filename="a"\r\n\r\nx\r\n' % n
            for n in range(102)
        ),
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_malformed_form_is_refused(client: TestClient, databases: Databases, name: str) -> None:
    kind, body = FORMS[name]
    refused(send(client, body, **{"Content-Type": kind}), 422)
    assert not support.items(databases)


@pytest.mark.parametrize(
    ("key", "status"),
    [
        (b"", 422),
        (b"x" * 256, 202),
        (b"x" * 257, 422),
        (b"\xff\xfe", 202),
        (b"a\tb", 422),
        (b"\x80\x9f", 422),
    ],
)
def test_a_key_is_printable_and_short(client: TestClient, key: bytes, status: int) -> None:
    answer = client.post("/v1/items", json=post(), headers=[(b"Idempotency-Key", key)])  # type: ignore[arg-type]
    assert answer.status_code == status
    if status != 202:
        refused(answer, status)


@pytest.mark.parametrize(
    "query",
    [
        "wait=31", "wait=-1", "wait=nan", "wait=inf", "wait=x", "wait=", "wait=%00", "wait=%ff", "lane=fast",
        "lane=%ed%a0%80",
    ],
)  # fmt: skip
def test_a_query_that_makes_no_sense_is_refused(client: TestClient, databases: Databases, query: str) -> None:
    refused(client.post(f"/v1/items?{query}", json=post()), 422)
    assert not support.items(databases)


@pytest.mark.parametrize(
    "query",
    [
        "state=happy", "state=", "cursor=1", "cursor=%00", "external_id=", "external_id=%00", "external_id=%0a",
        "external_id=" + "x" * 257, "external_id=a%00b",
    ],
)  # fmt: skip
def test_a_listing_that_makes_no_sense_is_refused(client: TestClient, query: str) -> None:
    refused(client.get(f"/v1/items?{query}"), 422)


def test_odd_but_printable_references_find_nothing(client: TestClient) -> None:
    for reference in ("%ff", "%ed%a0%80", "%F0%9F%8C%BC", "a%20b", "%25"):
        assert client.get(f"/v1/items?external_id={reference}").status_code == 200, reference


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/items/1", 422),
        ("GET", "/v1/items/%00", 422),
        ("GET", "/v1/items/%ff%fe", 422),
        ("DELETE", f"/v1/items/{CANARY}", 422),
        ("PUT", "/v1/items", 405),
        ("PATCH", "/v1/items/1", 405),
        ("GET", "/v2/items", 404),
        ("GET", f"/{CANARY}", 404),
        ("GET", "/v1/items/..%2f..%2fetc", 404),
        ("DELETE", "/v1/webhook-endpoints/a%00b", 422),
        ("DELETE", "/v1/webhook-endpoints/%ff", 422),
        ("DELETE", "/v1/webhook-endpoints/nobody", 404),
        ("POST", "/v1/webhooks/dead/msg_x/replay", 422),
        ("POST", "/v1/webhooks/dead/%00/replay", 422),
    ],
)
def test_an_address_that_is_none(client: TestClient, method: str, path: str, status: int) -> None:
    refused(client.request(method, path), status)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Hook"}, {"name": "a\0"}, {"url": "ftp://example.com/"}, {"url": f"https://{CANARY}\0.example/"},
        {"url": "https://127.0.0.1:22/"}, {"url": "x" * 3000}, {"events": []}, {"events": [CANARY]},
        {"events": ["item.decided"] * 21}, {"secret": CANARY}, {"events": [None]},
    ],
)  # fmt: skip
def test_an_endpoint_that_can_not_be_is_refused(client: TestClient, changes: dict[str, Any]) -> None:
    body = {"name": "hook", "url": "http://127.0.0.1:8999/hook", "events": ["item.decided"]} | changes
    refused(client.post("/v1/webhook-endpoints", json=body), 422)


def test_base64_of_anything_else_is_not_repeated(client: TestClient) -> None:
    data = base64.b64encode(CANARY.encode()).decode()
    answer = client.post("/v1/items", json=post("post-1", {"type": "image", "name": "photo", "data": data}))
    refused(answer, 415, "unsupported_format")
    assert data not in answer.text
