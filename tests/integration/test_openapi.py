"""The document says what the API does; its examples are requests that the API takes."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import BaseModel

import api
from api import openapi
from api.schemas import ItemIn, ItemOut
from moderation.embedded.process import wait_until


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    answer = client.get("/openapi.json")
    assert answer.status_code == 200
    return answer.json()  # type: ignore[no-any-return]


def model_named(name: str) -> type[BaseModel]:
    """A schema's model, in whichever of the modules of schemas it stands."""
    names = [module.name for module in pkgutil.iter_modules(api.__path__) if module.name.endswith("schemas")]
    modules = [importlib.import_module(f"api.{module}") for module in names]
    found: type[BaseModel] = next(getattr(module, name) for module in modules if hasattr(module, name))
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_is_openapi_3_1_and_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known


def test_every_operation_explains_itself(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    for path, method, operation in operations(document):
        assert operation["summary"], (method, path)
        assert operation["description"].endswith("."), (method, path)


def test_what_needs_a_key_says_so_with_what_it_may_refuse(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        if path.startswith("/v1/") and (method, path) != ("post", "/v1/sessions"):
            of_people = path.startswith(("/v1/review/", "/v1/sessions/", "/v1/models", "/v1/certificates"))
            wanted = "PersonSession" if of_people else "ApiKey"
            wanted = "PartnerKey" if path.startswith("/v1/partner/") else wanted
            assert operation["security"] == [{wanted: []}], (method, path)
            assert set(operation["responses"]) >= {"401", "403", "429", "503"}
        elif path.startswith("/v1alpha1/"):
            assert operation["security"] == [{"ApiKey": []}, {"ApiKeyInAddress": []}], (method, path)
            assert set(operation["responses"]) >= {"400", "401", "403", "429", "503"}
        else:
            assert "security" not in operation, (method, path)
    assert set(document["paths"]["/v1/items"]["post"]["responses"]) >= {
        "200", "202", "409", "410", "413", "415", "422",
    }  # fmt: skip


def test_refusals_are_problems(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        for code, answer in operation["responses"].items():
            if code.startswith("4"):
                assert list(answer["content"]) == ["application/problem+json"], (method, path, code)


def test_the_examples_are_taken(client: TestClient, document: dict[str, Any]) -> None:
    content = document["paths"]["/v1/items"]["post"]["requestBody"]["content"]
    assert client.post("/v1/items", json=content["application/json"]["example"]).status_code == 202
    assert ItemIn.model_validate(content["multipart/form-data"]["example"]["item"])
    batch = document["paths"]["/v1/items/batch"]["post"]["requestBody"]["content"]["application/json"][
        "example"
    ]
    assert client.post("/v1/items/batch", json=batch).status_code == 202
    hook = document["components"]["schemas"]["EndpointIn"]["properties"]
    assert all(hook[field]["examples"] for field in ("name", "url", "events"))


def test_the_examples_of_answers_have_their_shape(client: TestClient, document: dict[str, Any]) -> None:
    answers = document["paths"]["/v1/items"]["post"]["responses"]
    for code in ("200", "202"):
        example = answers[code]["content"]["application/json"]["example"]
        assert set(example) <= set(ItemOut.model_fields)
        assert ItemOut.model_validate(example)


@pytest.mark.parametrize(("path", "method", "code"), openapi.EXAMPLES)
def test_every_other_example_has_its_shape(
    document: dict[str, Any], path: str, method: str, code: str
) -> None:
    content = document["paths"][path][method]["responses"][code]["content"]["application/json"]
    model = model_named(content["schema"]["$ref"].rpartition("/")[2])
    assert set(content["example"]) <= set(model.model_fields)
    assert model.model_validate(content["example"])


def test_ready_when_everything_is(client: TestClient) -> None:
    assert wait_until(lambda: client.get("/readyz").is_success, 60.0)  # a machine that stalls is not ready
    answer = client.get("/readyz")
    assert answer.json() == {
        "status": "ok",
        "checks": dict.fromkeys(("database", "keystore", "broker", "models", "policy", "reports"), "ok"),
    }
    assert client.get("/livez").json() == {"status": "ok"}


def test_metrics_count_without_naming_anybody(client: TestClient) -> None:
    client.post("/v1/items", json={
        "external_id": "zq7external", "author": "zq7author", "kind": "comment",
        "parts": [{"type": "text", "name": "body", "text": "zq7text"}],
    })  # fmt: skip
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'moderation_items_total{kind="comment",source="app"}' in answer.text
    assert "zq7" not in answer.text
