"""The published clients of other services against the running service: only the address is another one."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
import uvicorn
from googleapiclient.discovery import build_from_document
from googleapiclient.errors import HttpError

from api.app import create_app
from moderation.governance.accounts import Scope
from moderation.settings import Settings
from moderation.storage.database import Databases
from moderation.storage.vault import Vault
from tests import hostile, perspective, support
from tests.integration.test_compat import data_url
from tests.service import Service, running

MILD = "Lovely weather in Lisbon today."
RUDE = "You are an idiot and nobody likes you."
CANARY = "zq7Canary9x"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("compat") / "data") as service:
        yield service


@pytest.fixture
def openai_client(service: Service) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=service.api_key, base_url=f"{service.url}/v1", timeout=120) as client:
        yield client


@pytest.fixture
def comments(service: Service) -> Iterator[Any]:
    """Google's own library with the key where Perspective's users have it: in the address."""
    with build_from_document(perspective.document(service.url), developerKey=service.api_key) as client:
        yield client.comments()


def test_openais_client_reads_texts(openai_client: openai.OpenAI) -> None:
    answer = openai_client.moderations.create(model="omni-moderation-latest", input=[MILD, RUDE])
    assert answer.id.startswith("modr-")
    mild, rude = answer.results
    assert (mild.flagged, rude.flagged) == (False, True)
    assert rude.categories.harassment
    assert rude.category_scores.harassment > 0.5 > mild.category_scores.harassment
    assert rude.category_applied_input_types.harassment == ["text"]
    assert rude.category_applied_input_types.violence_graphic == []
    assert rude.category_scores.sexual_minors == 0
    extra = rude.category_scores.model_extra
    assert extra is not None
    assert extra["toxicity"] > 0.5


def test_openais_client_reads_pictures(openai_client: openai.OpenAI) -> None:
    picture = data_url(hostile.saved(hostile.gradient(), "PNG"))
    answer = openai_client.moderations.create(
        input=[{"type": "text", "text": MILD}, {"type": "image_url", "image_url": {"url": picture}}]
    )
    (result,) = answer.results
    assert result.category_applied_input_types.sexual == ["text", "image"]
    assert not result.flagged


def test_openais_client_reads_refusals(service: Service, openai_client: openai.OpenAI) -> None:
    elsewhere: Any = [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]
    with pytest.raises(openai.UnprocessableEntityError, match="Nothing is fetched") as refused:
        openai_client.moderations.create(input=elsewhere)
    assert (refused.value.type, refused.value.code) == ("invalid_request_error", "image_url_not_data")
    with openai.OpenAI(api_key="mk_no", base_url=f"{service.url}/v1") as nobody:
        with pytest.raises(openai.AuthenticationError) as unknown:
            nobody.moderations.create(input=MILD)
        assert unknown.value.code == "invalid_api_key"


def test_googles_client_analyzes(comments: Any) -> None:
    body = {
        "comment": {"text": f"{MILD} {RUDE}"},
        "requestedAttributes": {"TOXICITY": {}, "INSULT": {}, "THREAT": {"scoreThreshold": 0.99}},
        "languages": ["en"],
        "doNotStore": True,
        "spanAnnotations": True,
        "clientToken": "t-1",
    }
    answer = comments.analyze(body=body).execute()
    assert answer["clientToken"] == "t-1"
    assert set(answer["attributeScores"]) == {"TOXICITY", "INSULT"}
    insult = answer["attributeScores"]["INSULT"]
    assert insult["summaryScore"]["type"] == "PROBABILITY"
    mild, rude = insult["spanScores"]
    assert (mild["begin"], rude["begin"]) == (0, len(MILD) + 1)
    assert rude["score"]["value"] > 0.5 > mild["score"]["value"]


def test_googles_client_suggests(service: Service, comments: Any) -> None:
    suggestion = {
        "comment": {"text": f"{MILD} {CANARY}"},
        "attributeScores": {"TOXICITY": {"summaryScore": {"value": 0.0}}},
        "communityId": "somewhere",
    }
    answer = comments.suggestscore(body=suggestion | {"clientToken": "t-2"}).execute()
    assert answer == {"clientToken": "t-2", "detectedLanguages": ["en"]}
    with service.database() as database:
        row = database.execute("SELECT client, scores, text FROM suggestions").fetchone()
    assert row is not None
    assert row[:2] == ("first", {"toxicity": 0.0})
    assert CANARY.encode() not in row[2]


def test_googles_client_reads_refusals(service: Service, comments: Any) -> None:
    body: dict[str, Any] = {"comment": {"text": MILD}, "requestedAttributes": {"FLIRTATION": {}}}
    with pytest.raises(HttpError) as unknown:
        comments.analyze(body=body).execute()
    assert unknown.value.resp.status == 400
    assert "is not offered here" in unknown.value.reason
    assert unknown.value.error_details[0]["errorType"] == "INVALID_REQUEST"
    body |= {"requestedAttributes": {"TOXICITY": {}}, "languages": ["tlh"]}
    with pytest.raises(HttpError, match="LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE"):
        comments.analyze(body=body).execute()
    body = {"comment": {"text": MILD}, "requestedAttributes": {"TOXICITY": {}}}
    with (
        build_from_document(perspective.document(service.url), developerKey="mk_no") as nobody,
        pytest.raises(HttpError) as refused,
    ):
        nobody.comments().analyze(body=body).execute()
    assert refused.value.resp.status == 401


def test_no_log_has_the_key_or_the_text(service: Service, comments: Any) -> None:
    """Of the service as it runs: after answers, refusals and what no server can read."""
    body = {"comment": {"text": f"{MILD} {CANARY}"}, "requestedAttributes": {"TOXICITY": {}}}
    comments.analyze(body=body).execute()
    secret = service.api_key.split("_", 2)[2]  # a secret may hold underscores of its own
    for path in ("comments:analyze", "comments:suggestscore", "comments:other"):
        httpx.post(f"{service.url}/v1alpha1/{path}?key={service.api_key}", content=f"{{{CANARY}")
    written = service.directory.with_name(f"{service.directory.name}.out").read_bytes()
    logs = [path.read_bytes() for path in service.directory.rglob("*.log")]
    first_run = re.sub(
        rb"API key:? .*", b"", written
    )  # where the first run says it, once, to whoever started it
    for log in (first_run, *logs):
        assert CANARY.encode() not in log
        assert log.count(secret.encode()) == 0


def test_an_access_log_would_not_have_the_key_either(
    settings: Settings, databases: Databases, vault: Vault
) -> None:
    """Ours is off. Whoever turns the server's on gets addresses without the key."""
    key = support.new_key(databases, vault, "app", Scope.MODERATIONS_SCORE)
    config = uvicorn.Config(create_app(settings), port=0, log_config=None, access_log=True, log_level="info")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("uvicorn.access").addHandler(handler)
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        body = {"comment": {"text": MILD}, "requestedAttributes": {"TOXICITY": {}}}
        url = f"http://127.0.0.1:{port}/v1alpha1/comments:analyze?key={key}&alt=json"
        assert httpx.post(url, json=body, timeout=120).status_code == 200
        assert httpx.post(f"{url}&key=other", json={}, timeout=120).status_code == 400
    finally:
        server.should_exit = True
        thread.join()
        logging.getLogger("uvicorn.access").removeHandler(handler)
    assert len(lines) == 2
    assert all("analyze?alt=json" in line and key not in line for line in lines), lines
