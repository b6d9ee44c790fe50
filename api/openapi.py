"""The OpenAPI 3.1 document: what FastAPI derives, with the bodies read by hand, problems and examples added."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api import problems
from api.schemas import BatchIn, ItemIn, ProblemOut

TEXT_POST = {
    "external_id": "post-1029",
    "author": "acct-77",
    "kind": "comment",
    "parts": [{"type": "text", "name": "body", "text": "Lovely weather in Lisbon today."}],
    "context": {"thread": "thread-12", "reach": 1200, "language": "en"},
}
PICTURE_POST = {
    "external_id": "post-1030",
    "author": "acct-77",
    "kind": "post",
    "parts": [{"type": "image", "name": "photo", "upload": "file1"}],
}
OUTCOME = {
    "id": "0192f0c1-7d6e-7c3a-9b2f-5a1d7e8c9f01",
    "status": "decided",
    "status_url": "/v1/items/0192f0c1-7d6e-7c3a-9b2f-5a1d7e8c9f01",
    "received_at": "2026-11-22T09:30:01Z",
    "expires_at": "2026-12-22T09:30:02Z",
    "decision_id": "0192f0c1-8101-7a55-8f0e-2b6c4d5e6f70",
    "verdict": "allow",
    "categories": [
        {
            "category": "spam",
            "probability": 0.0213,
            "part": "body",
            "detector": "text-minilm",
            "version": "1",
        }
    ],
    "reasons": [
        "Every category lies below its allow threshold; the highest is spam 0.02 in body, allow below 0.50."
    ],
    "policy_version": 1,
    "detectors": [{"name": "text-minilm", "version": "1", "status": "ok"}],
    "decided_by": "machine",
    "decided_at": "2026-11-22T09:30:02Z",
}
ACCEPTED = {name: OUTCOME[name] for name in ("id", "status_url", "received_at", "expires_at")} | {
    "status": "received"
}
CONFLICT = problems.document(
    409, "idempotency_conflict", "This key was used for another body; send an Idempotency-Key of its own."
)

# Beyond what every operation with a key may answer (401, 403, 429, 503) and what its parameters imply.
REFUSALS: dict[tuple[str, str], tuple[int, ...]] = {
    ("/v1/items", "post"): (400, 409, 410, 413, 415, 422),
    ("/v1/items/batch", "post"): (400, 413, 415, 422),
    ("/v1/webhook-endpoints", "post"): (409, 422),
}
KEYED = (401, 403, 429, 503)


def describe(app: FastAPI) -> dict[str, Any]:
    """The document of `app`, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        _add_schemas(document["components"]["schemas"])
        _describe_bodies(document["paths"])
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                _describe_answers(path, method, operation)
        app.openapi_schema = document
    return app.openapi_schema


def _add_schemas(schemas: dict[str, Any]) -> None:
    for model in (ItemIn, BatchIn, ProblemOut):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    for leftover in ("HTTPValidationError", "ValidationError"):
        schemas.pop(leftover, None)
    schemas["BatchIn"]["properties"]["items"] |= {
        "items": {"$ref": "#/components/schemas/ItemIn"},
        "maxItems": 100,
    }
    schemas["ItemIn"]["properties"]["parts"] |= {"minItems": 1, "maxItems": 100}
    schemas["TextPartIn"]["properties"]["text"]["maxLength"] = 50_000


def _describe_bodies(paths: dict[str, Any]) -> None:
    item = {"$ref": "#/components/schemas/ItemIn"}
    form = {
        "type": "object",
        "properties": {"item": item},
        "required": ["item"],
        "additionalProperties": {"type": "string", "contentMediaType": "application/octet-stream"},
    }
    paths["/v1/items"]["post"]["requestBody"] = {
        "required": True,
        "content": {
            "application/json": {"schema": item, "example": TEXT_POST},
            "multipart/form-data": {
                "schema": form,
                "encoding": {"item": {"contentType": "application/json"}},
                "example": {"item": PICTURE_POST, "file1": "(the bytes of the picture)"},
            },
        },
    }
    batch = {"$ref": "#/components/schemas/BatchIn"}
    paths["/v1/items/batch"]["post"]["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": batch, "example": {"items": [TEXT_POST]}}},
    }
    answers = paths["/v1/items"]["post"]["responses"]
    answers["202"]["content"]["application/json"]["example"] = ACCEPTED
    answers["200"]["content"]["application/json"]["example"] = OUTCOME
    paths["/v1/items/{item_id}"]["get"]["responses"]["200"]["content"]["application/json"]["example"] = (
        OUTCOME
    )
    paths["/v1/items/batch"]["post"]["responses"]["202"]["content"]["application/json"]["example"] = {
        "results": [{"item": {name: ACCEPTED[name] for name in ("id", "status", "status_url")}}]
    }


def _describe_answers(path: str, method: str, operation: dict[str, Any]) -> None:
    answers = operation["responses"]
    answers.pop("422", None)
    codes = set(REFUSALS.get((path, method), ()))
    if "security" in operation:
        codes |= set(KEYED)
    if operation.get("parameters"):
        codes.add(422)
    if "{" in path:
        codes.add(404)
    for code in sorted(codes):
        answers[str(code)] = {
            "description": f"{problems.TITLES[code]}; `detail` says what to do.",
            "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemOut"}}},
        }
    if "409" in answers and path == "/v1/items":
        answers["409"]["content"][problems.MEDIA_TYPE]["example"] = CONFLICT
    for busy in {"429", "503"} & set(answers):
        if "security" in operation:
            seconds = {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
            answers[busy]["headers"] = {"Retry-After": seconds}
