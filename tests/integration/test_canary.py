"""What was posted is nowhere to be read: not in the databases, blobs, broker, logs or metrics.

A word that stands in every field of every post is looked for in the raw bytes of a real installation, in six
encodings, while it works and afterwards. The same scanner finds the word wherever it is planted.
"""

from __future__ import annotations

import base64
import gzip
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from rq import Queue

from moderation.embedded.process import wait_until
from tests import hostile
from tests.canary import hits, hits_in, unescaped
from tests.service import Service, running

PLAIN = "zq7kanarienvogel9x"
ACCENTED = "zq8Kanárienvögel8x"
WORDS = (PLAIN, ACCENTED)
SAID = f"{PLAIN} {ACCENTED}"

ENCODINGS = {
    "utf-8": SAID.encode(),
    "utf-16": SAID.encode("utf-16-le"),
    "json": json.dumps(ACCENTED).encode(),
    "zlib": zlib.compress(SAID.encode()),
    "gzip": gzip.compress(SAID.encode()),
    **{f"base64 at {n}": base64.b64encode(b"x" * n + PLAIN.encode() + b"y" * 7) for n in range(3)},
}


def picture(note: str) -> bytes:
    """A PNG that carries a note in a chunk of its own."""
    data = hostile.saved(hostile.gradient(), "PNG")
    return data[:33] + hostile.chunk(b"tEXt", b"Comment\0" + note.encode()) + data[33:]


def item(number: int, *parts: dict[str, Any]) -> dict[str, Any]:
    context = {"thread": f"t {SAID}", "parent": f"p {SAID}", "language": "en"}
    text = {"type": "text", "name": "body", "text": f"Lovely weather, says the {SAID} of {number}."}
    image = base64.b64encode(picture(SAID)).decode()
    return {
        "external_id": f"{number} {SAID}",
        "author": f"a {SAID}",
        "kind": "comment",
        "parts": list(parts) or [text, {"type": "image", "name": "photo", "data": image}],
        "context": context,
    }


def refused(client: httpx.Client) -> list[httpx.Response]:
    """Requests that are refused, each in its own way and with the word in it."""
    bodies: list[Any] = [
        {SAID: SAID},
        {**item(90), "tags": [SAID]},
        item(91, {"type": SAID, "name": "body"}),
        item(92, {"type": "text", "name": "body", "text": f"{SAID}\0"}),
        item(93, {"type": "image", "name": "photo", "data": base64.b64encode(SAID.encode()).decode()}),
        {**item(94), "callback": SAID},
        {**item(95), "posted_at": SAID},
    ]
    answers = [client.post("/v1/items", json=body) for body in bodies]
    answers.append(
        client.post("/v1/items", content=SAID.encode(), headers={"Content-Type": "application/json"})
    )
    answers.append(client.get("/v1/items", params={"external_id": f"{SAID}\n"}))
    answers.append(client.get(f"/v1/items/{SAID}"))
    said, wanted = {"text": SAID}, {"requestedAttributes": {SAID: {}}}
    elsewhere = {"type": "image_url", "image_url": {"url": f"https://example.com/{SAID}"}}
    answers += [
        client.post("/v1/moderations", json={"input": sent}) for sent in ([elsewhere], [{SAID: SAID}])
    ]
    answers.append(client.post(f"/v1alpha1/comments:analyze?key={PLAIN}", json={"comment": said} | wanted))
    return answers


def scored(client: httpx.Client) -> None:
    """What is scored, and not submitted; and what is suggested, which is kept."""
    said = {
        "comment": {"text": f"Lovely weather, says the {SAID}."},
        "clientToken": PLAIN,
        "sessionId": PLAIN,
    }
    assert client.post("/v1/moderations", json={"input": SAID, "model": PLAIN}).is_success
    wanted = {"requestedAttributes": {"TOXICITY": {}}, "spanAnnotations": True, "communityId": PLAIN}
    assert client.post(f"/v1alpha1/comments:analyze?alt={PLAIN}", json=said | wanted).is_success
    suggested = {"attributeScores": {"TOXICITY": {"summaryScore": {"value": 0}}}}
    assert client.post("/v1alpha1/comments:suggestscore", json=said | suggested).is_success


@contextmanager
def monitored(service: Service) -> Iterator[bytearray]:
    """Everything that is said to the broker."""
    seen = bytearray()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.connect(str(service.broker_socket))
        listener.sendall(b"MONITOR\r\n")

        def listen() -> None:
            while data := listener.recv(1 << 16):
                seen.extend(data)

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield seen
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def work_through(service: Service) -> str:
    """Post, screen, refuse, fail, ask and delete; returns the metrics at the end."""
    with service.client() as client:
        for number in range(6):
            key = {"Idempotency-Key": f"k {PLAIN} {number}"}
            assert screened(client, json=item(number), headers=key)["verdict"] in ("allow", "review")
        sent = {"item": json.dumps(item(7, {"type": "image", "name": "photo", "upload": "file1"}))}
        large = hostile.app1_flood(1_500_000)[:-2] + SAID.encode() + b"\xff\xd9"
        files = {"file1": (f"{PLAIN}.jpg", large, "image/jpeg")}
        assert screened(client, data=sent, files=files)
        damaged = picture(SAID)[:-200] + SAID.encode()
        part = {"type": "image", "name": "photo", "data": base64.b64encode(damaged).decode()}
        assert screened(client, json=item(8, part))["verdict"] == "review"
        poison(service, client)
        scored(client)
        for answer in refused(client):
            assert 400 <= answer.status_code < 500, answer.text
            assert not hits(answer.content, (PLAIN, ACCENTED)), answer.text
        batch = {"items": [item(number) for number in range(20, 60)]}
        assert client.post("/v1/items/batch", json=batch).status_code == 202
        listed = client.get("/v1/items", params={"external_id": f"0 {SAID}"}).json()["items"]
        assert client.delete(listed[0]["status_url"]).status_code == 204
        return client.get("/metrics").text


def screened(client: httpx.Client, **post: Any) -> dict[str, Any]:
    """A post and what came of it, however long that takes on a machine that stalls."""
    for _ in range(10):
        answer = client.post("/v1/items?wait=30", **post)
        assert answer.is_success, answer.text
        if answer.status_code == 200:
            shown: dict[str, Any] = answer.json()
            return shown
    raise AssertionError("it was never screened")


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether it comes to hold: what is written once a second, or said by somebody else."""
    return wait_until(condition, 60.0, 0.2)


def poison(service: Service, client: httpx.Client) -> None:
    """An item that can't be read, so that every kind of failure is logged and counted too."""
    with service.database() as connection:
        connection.execute(
            "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql "
            "AS $$ BEGIN NEW.content := '\\x00'; RETURN NEW; END $$"
        )
        connection.execute(
            "CREATE TRIGGER spoil BEFORE INSERT ON parts FOR EACH ROW EXECUTE FUNCTION spoil()"
        )
        assert client.post("/v1/items", json=item(9)).status_code == 202
        connection.execute("DROP TRIGGER spoil ON parts")


def settle(service: Service) -> None:
    with service.client() as client:
        for _ in range(3000):
            pages = [client.get("/v1/items", params={"state": state}) for state in ("received", "processing")]
            if not any(page.json()["items"] for page in pages):
                return
            time.sleep(0.1)
    raise AssertionError("items are still waiting")


def plant(service: Service) -> None:
    """The word in the clear, in a table and in a job, as a mistake of ours would leave it."""
    with service.database() as connection:
        connection.execute("CREATE TABLE mistake (said text)")
        connection.execute("INSERT INTO mistake VALUES (%s)", (SAID,))
        connection.execute("CHECKPOINT")
    connection_to_broker = Redis(unix_socket_path=str(service.broker_socket))
    Queue("mistake", connection=connection_to_broker, serializer="json").enqueue_call("x", args=(SAID,))
    connection_to_broker.close()
    (service.directory / "logs" / "mistake.log").write_text(json.dumps({"event": SAID}))


PLANTED = {"postgres/data/base", "postgres/data/pg_wal", "broker/appendonlydir", "logs/mistake.log"}


def places_of(service: Service) -> set[str]:
    """Where the word is found: the folder, and within PostgreSQL's the one below."""
    found = hits_in(service.directory, WORDS)[0]
    return {"/".join(name.split("/")[: 3 if name.startswith("postgres/data/") else 2]) for name in found}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_scanner_finds_the_word_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    surroundings = struct.pack("<500Q", *range(500))
    (tmp_path / "file").write_bytes(surroundings + ENCODINGS[encoding] + surroundings)
    assert hits_in(tmp_path, WORDS)[0] == {"file": {encoding}}


def test_the_scanner_finds_it_across_the_edge_of_a_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.canary.CHUNK", 1000)
    (tmp_path / "file").write_bytes(b"." * 995 + PLAIN.encode() + b"." * 2000)
    assert hits_in(tmp_path, WORDS)[0] == {"file": {"utf-8"}}


def test_what_was_posted_is_nowhere_to_be_read(tmp_path: Path) -> None:
    with running(tmp_path / "var", RETRY_SECONDS="0.1") as service:
        with monitored(service) as heard:
            metrics = work_through(service)
            settle(service)
            assert eventually(lambda: b"screen" in heard), "nothing was heard"
        with service.database() as connection:
            connection.execute("CHECKPOINT")
        time.sleep(1.1)  # the broker writes its file once a second
        found, looked_at = hits_in(service.directory, WORDS)
        assert found == {}
        assert not hits(metrics.encode(), WORDS)
        assert not hits(bytes(heard), WORDS)
        assert not hits(unescaped(bytes(heard)), WORDS)
        assert looked_at > 30_000_000
        logs = "".join(log.read_text() for log in (service.directory / "logs").glob("*.log"))
        assert "VaultError" in logs, "the failure was logged, without a word of content"

        with monitored(service) as heard:
            plant(service)
            assert eventually(lambda: places_of(service) >= PLANTED), places_of(service)
            # RQ compresses what a job is called with.
            assert eventually(lambda: hits(unescaped(bytes(heard)), WORDS) >= {"zlib"})
        assert places_of(service) == PLANTED
