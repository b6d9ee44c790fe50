"""Scores for clients of other services: the shapes, the tables, the refusals, and that nothing of it is kept."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from sqlalchemy import select

from api import compat_errors, compat_inputs, compat_scores, problems
from api.compat_errors import ANALYZE, MODERATIONS, SUGGEST
from moderation.domain.policy import Policy
from moderation.domain.routing import Route, Routing
from moderation.governance.accounts import Scope
from moderation.pipeline.scoring import Scored
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Decision, SignalRow
from moderation.storage.vault import Vault
from tests import hostile, support
from tests.support import MILD, drain, image_part, post, text_part

CANARY = "zq7Canary9x"
RUDE = "You are an idiot and nobody likes you."
PNG = hostile.saved(hostile.gradient(), "PNG")


def data_url(data: bytes = PNG, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def image_url(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def moderated(client: TestClient, sent: Any) -> list[dict[str, Any]]:
    answer = client.post(MODERATIONS, json={"input": sent})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


def analyzed(client: TestClient, text: str, *names: str, **more: Any) -> dict[str, Any]:
    body = {"comment": {"text": text}, "requestedAttributes": {name: {} for name in names}}
    answer = client.post(ANALYZE, json=body | more)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_text_is_scored_under_their_names_and_ours(client: TestClient) -> None:
    answer = client.post(MODERATIONS, json={"input": RUDE, "model": "omni-moderation-latest"}).json()
    assert answer["id"].startswith("modr-")
    assert answer["model"].startswith("text-minilm-")
    (result,) = answer["results"]
    assert set(result["categories"]) == {*compat_scores.OPENAI, *compat_scores.OWN}
    assert (
        set(result["category_scores"])
        == set(result["category_applied_input_types"])
        == set(result["categories"])
    )
    assert result["flagged"]
    assert result["categories"]["harassment"]
    assert result["category_scores"]["harassment"] > 0.5
    assert result["category_applied_input_types"]["harassment"] == ["text"]
    # What nobody looked for says so.
    assert result["category_scores"]["violence/graphic"] == 0
    assert result["category_applied_input_types"]["violence/graphic"] == []
    assert not moderated(client, MILD)[0]["flagged"]


def test_texts_have_a_result_each_and_parts_of_a_post_one(client: TestClient) -> None:
    mild, rude = moderated(client, [MILD, RUDE])
    assert (mild["flagged"], rude["flagged"]) == (False, True)
    (both,) = moderated(client, [{"type": "text", "text": RUDE}, image_url(data_url())])
    assert both["category_applied_input_types"]["sexual"] == ["text", "image"]
    assert both["category_applied_input_types"]["hate"] == ["text"]
    assert both["category_scores"]["harassment"] == pytest.approx(
        rude["category_scores"]["harassment"], abs=0.02
    )
    (picture,) = moderated(client, [image_url(data_url())])
    assert picture["category_applied_input_types"]["sexual"] == ["image"]
    assert picture["category_applied_input_types"]["hate"] == []


def test_the_scores_are_those_that_an_item_gets(
    client: TestClient, settings: Settings, databases: Databases
) -> None:
    texts = [
        MILD,
        RUDE,
        "F-r-e-e  m.o.n.e.y, click now!!!",
        "Ein Satz auf Deutsch.",
        "\uff39\uff4f\uff55 idiot",
    ]
    for number, one in enumerate(texts):
        parts = [text_part(one)] + ([image_part(PNG)] if number == 0 else [])
        assert client.post("/v1/items", json=post(f"post-{number}", *parts)).status_code == 202
    drain(settings)
    with transaction(databases.content) as session:
        rows = session.scalars(select(SignalRow).order_by(SignalRow.item_id)).all()
        routes = session.scalars(select(Decision.route).order_by(Decision.item_id)).all()
    items: dict[Any, dict[str, float]] = {}
    for row in rows:
        scores = items.setdefault(row.item_id, {})
        for name, value in row.scores.items():
            scores[name] = max(value, scores.get(name, 0.0))
    results = moderated(client, texts)
    (results[0],) = moderated(client, [{"type": "text", "text": MILD}, image_url(data_url())])
    for text, said, result, route in zip(texts, items.values(), results, routes, strict=True):
        found = analyzed(client, text, "TOXICITY", "INSULT", "PROFANITY", "SPAM")["attributeScores"]
        for name in ("toxicity", "harassment", "hate", "sexual", "spam"):
            assert result["category_scores"][name] == pytest.approx(said[name], abs=0.01), text
        for name, ours in (("TOXICITY", "toxicity"), ("INSULT", "harassment"), ("PROFANITY", "profanity")):
            assert found[name]["summaryScore"]["value"] == pytest.approx(said[ours], abs=0.01), text
        assert result["flagged"] == (route != Route.ALLOW), text


def test_nothing_of_it_is_kept(client: TestClient, databases: Databases) -> None:
    before = {
        name: support.count(databases.content, name) for name in ("items", "parts", "signals", "audit_events")
    }
    moderated(client, f"{CANARY} {RUDE}")
    analyzed(client, f"{CANARY} {RUDE}", "TOXICITY", doNotStore=False)
    assert before == {name: support.count(databases.content, name) for name in before}


def refused(answer: Response, status: int) -> dict[str, Any]:
    """The document of a refusal, whose two halves agree, and which repeats nothing."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["error"]["message"] == problem["detail"]
    assert CANARY not in answer.text
    return problem


MANY = ["x"] * 101
REFUSED: dict[str, tuple[Any, int]] = {
    "nothing": ([], 422),
    "a number": (5, 422),
    "null": (None, 422),
    "a list of both": (["x", {"type": "text", "text": "y"}], 422),
    "a part of no type": ([{"text": CANARY}], 422),
    "a part of another type": ([{"type": CANARY}], 422),
    "a part with more": ([{"type": "text", "text": "x", "name": CANARY}], 422),
    "a text of a number": ([{"type": "text", "text": 5}], 422),
    "an image without an address": ([{"type": "image_url"}], 422),
    "an image elsewhere": ([image_url(f"https://example.com/{CANARY}.png")], 422),
    "an image in a file": ([image_url(f"file:///{CANARY}.png")], 422),
    "no base64": ([image_url("data:image/png;base64,%%%")], 422),
    "not even said to be": ([image_url("data:image/png,abc")], 422),
    "a text as a picture": ([image_url(data_url(CANARY.encode()))], 415),
    "half a picture": ([image_url(data_url(PNG[: len(PNG) // 2]))], 422),
    "too many texts": (MANY, 413),
    "too many pictures": ([image_url(data_url())] * 9, 413),
    "too long a text": ("x" * 50_001, 413),
    "too much text": (["x" * 50_000] * 3, 413),
    "NUL": (f"{CANARY}\0", 422),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_scored_is_refused_as_openais_clients_read_it(client: TestClient, name: str) -> None:
    sent, status = REFUSED[name]
    problem = refused(client.post(MODERATIONS, json={"input": sent}), status)
    assert set(problem["error"]) == {"message", "type", "param", "code"}
    assert problem["error"]["type"] == "invalid_request_error"


def test_only_data_is_taken_for_a_picture_and_the_sentence_says_so(client: TestClient) -> None:
    answer = client.post(MODERATIONS, json={"input": [image_url("https://example.com/a.png")]})
    problem = refused(answer, 422)
    assert problem["code"] == "image_url_not_data"
    assert "data:image/png;base64" in problem["detail"]


def test_who_may_ask(settings: Settings, databases: Databases, vault: Vault) -> None:
    with support.calling(settings, None) as nobody:
        assert (
            refused(nobody.post(MODERATIONS, json={"input": "x"}), 401)["error"]["code"] == "invalid_api_key"
        )
        for path in (ANALYZE, SUGGEST):
            assert refused(nobody.post(path, json={}), 401)["error"]["status"] == "UNAUTHENTICATED"
    with support.calling(settings, support.new_key(databases, vault, "app", Scope.ITEMS_WRITE)) as other:
        assert refused(other.post(MODERATIONS, json={"input": "x"}), 403)
        assert refused(other.post(ANALYZE, json={}), 403)["error"]["status"] == "PERMISSION_DENIED"


def test_the_key_may_stand_in_the_address_on_two_paths_only(
    settings: Settings, databases: Databases, vault: Vault
) -> None:
    key = support.new_key(databases, vault, "app", Scope.MODERATIONS_SCORE)
    body = {"comment": {"text": MILD}, "requestedAttributes": {"TOXICITY": {}}}
    with support.calling(settings, None) as client:
        assert client.post(f"{ANALYZE}?key={key}&alt=json", json=body).status_code == 200
        suggested = {
            "comment": {"text": MILD},
            "attributeScores": {"TOXICITY": {"summaryScore": {"value": 0}}},
        }
        assert client.post(f"{SUGGEST}?key={key}", json=suggested).status_code == 200
        assert client.post(f"{MODERATIONS}?key={key}", json={"input": MILD}).status_code == 401
        assert client.get(f"/v1/items?key={key}").status_code == 401
        for wrong in ("?key=", "?key=mk_no", "?key=%ff%fe", "?key=%0d%0a", "?yek=" + key, "?%6bey"):
            assert client.post(ANALYZE + wrong, json=body).status_code == 401, wrong
        wrong_header = {"Authorization": "Bearer mk_no"}
        assert client.post(f"{ANALYZE}?key={key}", json=body, headers=wrong_header).status_code == 401


def test_attributes_are_ours_under_their_names(client: TestClient) -> None:
    found = analyzed(
        client, RUDE, "TOXICITY", "INSULT_EXPERIMENTAL", "THREAT", clientToken="t-1", sessionId="s"
    )
    assert found["clientToken"] == "t-1"
    assert found["languages"] == found["detectedLanguages"] == ["en"]
    assert set(found["attributeScores"]) == {"TOXICITY", "INSULT_EXPERIMENTAL", "THREAT"}
    one = found["attributeScores"]["INSULT_EXPERIMENTAL"]
    assert one["summaryScore"]["type"] == "PROBABILITY"
    assert one["summaryScore"]["value"] > 0.5
    assert one["spanScores"] == [{"begin": 0, "end": len(RUDE), "score": one["summaryScore"]}]


def test_scores_below_their_threshold_are_left_out(client: TestClient) -> None:
    wanted = {
        "TOXICITY": {"scoreThreshold": 0.5},
        "THREAT": {"scoreType": "PROBABILITY", "scoreThreshold": 0.99},
    }
    answer = client.post(ANALYZE, json={"comment": {"text": RUDE}, "requested_attributes": wanted})
    assert set(answer.json()["attributeScores"]) == {"TOXICITY"}


def test_each_sentence_has_a_span_where_they_are_asked_for(client: TestClient) -> None:
    text = f"\U0001f33c {MILD} {RUDE}"
    found = analyzed(client, text, "INSULT", spanAnnotations=True)["attributeScores"]["INSULT"]
    units = text.encode("utf-16-le")
    said = [units[2 * span["begin"] : 2 * span["end"]].decode("utf-16-le") for span in found["spanScores"]]
    assert said == [f"\U0001f33c {MILD}", RUDE]
    mild, rude = (span["score"]["value"] for span in found["spanScores"])
    assert mild < 0.3
    assert rude > 0.5


def test_sentences_cover_a_text_and_are_never_too_many() -> None:
    assert [span.text for span in compat_inputs.sentences("One. Two?! \u201cThree.\u201d Four")] == [
        "One.", "Two?!", "\u201cThree.\u201d", "Four",
    ]  # fmt: skip
    assert not compat_inputs.sentences(" \n ")
    long = "Word. " * 5_000
    spans = compat_inputs.sentences(long)
    assert len(spans) <= compat_inputs.MOST_SPANS
    assert "".join(span.text for span in spans).count("Word.") == 5_000
    assert spans[-1].end == len(long.rstrip())


COMMENT = {"text": MILD}
WANTED = {"TOXICITY": {}}
UNREADABLE: dict[str, tuple[dict[str, Any], str]] = {
    "no comment": ({"requestedAttributes": WANTED}, "INVALID_REQUEST"),
    "an empty one": ({"comment": {"text": " "}, "requestedAttributes": WANTED}, "COMMENT_EMPTY"),
    "too long a one": (
        {"comment": {"text": "x" * 50_001}, "requestedAttributes": WANTED},
        "COMMENT_TOO_LONG",
    ),
    "a page": ({"comment": {"text": "x", "type": "HTML"}, "requestedAttributes": WANTED}, "INVALID_REQUEST"),
    "no attributes": ({"comment": COMMENT, "requestedAttributes": {}}, "NO_REQUESTED_ATTRIBUTES"),
    "another attribute": ({"comment": COMMENT, "requestedAttributes": {CANARY: {}}}, "INVALID_REQUEST"),
    "flirtation": ({"comment": COMMENT, "requestedAttributes": {"FLIRTATION": {}}}, "INVALID_REQUEST"),
    "another score": (
        {"comment": COMMENT, "requestedAttributes": {"TOXICITY": {"scoreType": "RAW"}}},
        "INVALID_REQUEST",
    ),
    "a threshold of 2": (
        {"comment": COMMENT, "requestedAttributes": {"TOXICITY": {"scoreThreshold": 2}}},
        "INVALID_REQUEST",
    ),
    "another language": (
        {"comment": COMMENT, "requestedAttributes": WANTED, "languages": ["tlh"]},
        "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE",
    ),
    "no language": (
        {"comment": COMMENT, "requestedAttributes": WANTED, "languages": [f"{CANARY}!"]},
        "INVALID_REQUEST",
    ),
    "more": ({"comment": COMMENT, "requestedAttributes": WANTED, "zq": CANARY}, "INVALID_REQUEST"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_analyzed_is_refused_as_perspectives_clients_read_it(
    client: TestClient, name: str
) -> None:
    body, kind = UNREADABLE[name]
    error = refused(client.post(ANALYZE, json=body), 400)["error"]
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert [detail["errorType"] for detail in error["details"]] == [kind]


@pytest.mark.parametrize("path", [MODERATIONS, ANALYZE, SUGGEST])
def test_accidents_are_told_in_their_shapes_too(client: TestClient, path: str) -> None:
    as_malformed = {422: 400, 415: 400, 413: 400} if path != MODERATIONS else {}
    refused(
        client.post(path, content=b"{", headers={"Content-Type": "application/json"}),
        as_malformed.get(422, 422),
    )
    refused(
        client.post(path, content=b"{}", headers={"Content-Type": "text/plain"}), as_malformed.get(415, 415)
    )
    refused(client.get(path), 405)
    large = {"Content-Type": "application/json", "Content-Length": "48000001"}
    refused(client.post(path, content=b"{}", headers=large), as_malformed.get(413, 413))


def test_english_by_any_of_its_names(client: TestClient) -> None:
    found = analyzed(client, MILD, "TOXICITY", languages=["fr", "en-US"])
    assert found["languages"] == ["en"]
    assert "detectedLanguages" not in found, "somebody said"


def test_every_refusal_has_a_name_of_googles() -> None:
    for status in {*problems.STATUS.values(), *problems.STATUS_OF_CODE.values(), 400, 405, 500}:
        error = compat_errors.google(problems.document(status, "any", "A sentence."))["error"]
        assert error["status"] != "UNKNOWN", status


def scored(**scores: float) -> Scored:
    return Scored({"text": scores}, Routing(Route.ALLOW, None, 0.0, (), ()))


def test_of_two_categories_the_lower_counts(policy: Policy) -> None:
    one = scored(hate=0.9, threat=0.01, toxicity=0.8)
    result = compat_scores.result(one, policy)
    assert result["category_scores"]["hate/threatening"] == 0.01  # type: ignore[index]
    assert result["categories"]["hate"]  # type: ignore[index]
    assert not result["categories"]["hate/threatening"]  # type: ignore[index]
    assert compat_scores.attribute(one, "SEVERE_TOXICITY") == 0.8
    assert compat_scores.attribute(scored(toxicity=0.8), "SEVERE_TOXICITY") is None, "nobody looked"
