"""The OpenAPI 3.1 document: what FastAPI derives, with the bodies read by hand, problems and examples added."""

from __future__ import annotations

from typing import Any, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from api import compat_errors, compat_schemas, problems, query_keys
from api.certificate_schemas import CERTIFICATE
from api.compat_schemas import AnalyzeIn, ImageInputIn, ModerationIn, SuggestIn, TextInputIn
from api.hash_schemas import PictureIn
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
    "certificates": [],
    "promise": "No certificate: this carries no promise.",
}
ACCEPTED = {name: OUTCOME[name] for name in ("id", "status_url", "received_at", "expires_at")} | {
    "status": "received"
}
CONFLICT = problems.document(
    409, "idempotency_conflict", "This key was used for another body; send an Idempotency-Key of its own."
)

DECISION = {
    "id": "0192f0c1-8101-7a55-8f0e-2b6c4d5e6f70",
    "item_id": OUTCOME["id"],
    "author": "acct-77",
    "verdict": "limit",
    "category": "harassment",
    "clause": "H1",
    "reason": "It insults a person.",
    "restrictions": ["demote", "no_interaction"],
    "measures": [
        {"measure": "strike", "effective_at": "2026-11-22T10:02:13Z", "until": "2027-02-20T10:02:03Z"}
    ],
    "decided_by": "person",
    "decided_at": "2026-11-22T10:02:03Z",
    "effective_at": "2026-11-22T10:02:13Z",
    "policy_version": 1,
    "informed_at": "2026-11-22T10:03:00Z",
    "appeal_until": "2027-05-24T10:03:00Z",
}
STATEMENT = {
    "puid": DECISION["id"],
    "decision_visibility": [
        "DECISION_VISIBILITY_CONTENT_DEMOTED",
        "DECISION_VISIBILITY_CONTENT_INTERACTION_RESTRICTED",
    ],
    "decision_ground": "DECISION_GROUND_INCOMPATIBLE_CONTENT",
    "incompatible_content_ground": "Clause H1 of the policy 'default', version 1: Insults or degrades a person.",
    "incompatible_content_explanation": "The content was judged to be harassment of a person. It insults a person.",
    "content_type": ["CONTENT_TYPE_TEXT"],
    "category": "STATEMENT_CATEGORY_CYBER_VIOLENCE",
    "category_specification": ["KEYWORD_CYBER_HARASSMENT"],
    "territorial_scope": ["AT", "BE", "DE"],
    "content_language": "EN",
    "content_date": "2026-11-22",
    "application_date": "2026-11-22",
    "decision_facts": "A user of the service reported the content. It was judged to be harassment of a person.",
    "source_type": "SOURCE_ARTICLE_16",
    "automated_detection": "No",
    "automated_decision": "AUTOMATED_DECISION_NOT_AUTOMATED",
}
PARAGRAPHS = [
    "This is about what you posted on 2026-11-22.",
    "We limited it: it is shown less widely. This applies from 2026-11-22.",
    "Reference: 0192f0c1-8101-7a55-8f0e-2b6c4d5e6f70",
]
NOTICE = {
    "decision_id": DECISION["id"],
    "language": "en",
    "subject": "Your post was limited",
    "text": "\n\n".join(PARAGRAPHS),
    "paragraphs": PARAGRAPHS,
    "redress": "open",
    "appeal_until": DECISION["appeal_until"],
}
APPEAL = {
    "id": "0192f0d3-10c2-7b1e-9a51-7a0e2f6b9c44",
    "decision_id": DECISION["id"],
    "item_id": OUTCOME["id"],
    "by": "author",
    "state": "open",
    "lodged_at": "2026-11-22T11:00:00Z",
    "deadline": "2026-11-29T11:00:00Z",
}
REPORT = {
    "id": "0192f0c9-4a11-7e02-8d34-0c9d1e2f3a4b",
    "item_id": OUTCOME["id"],
    "category": "harassment",
    "reported_at": "2026-11-22T09:58:00Z",
}
MODERATION = {
    "id": "modr-0c1d6ce1b0f94b1e8a0d6f2f1f3b7a52",
    "model": "text-minilm-2",
    "results": [
        {
            "flagged": False,
            "categories": {"hate": False, "spam": False},
            "category_scores": {"hate": 0.0021, "spam": 0.0213},
            "category_applied_input_types": {"hate": ["text"], "spam": ["text"]},
        }
    ],
}
ANALYSIS = {
    "attributeScores": {
        "TOXICITY": {
            "summaryScore": {"value": 0.0074, "type": "PROBABILITY"},
            "spanScores": [{"begin": 0, "end": 31, "score": {"value": 0.0074, "type": "PROBABILITY"}}],
        }
    },
    "languages": ["en"],
}
BANK = {
    "name": "known_swindles",
    "kind": "link",
    "category": "fraud",
    "action": "remove",
    "allow": False,
    "enabled": True,
    "created_at": "2026-11-22T09:00:00Z",
    "sample_share": 1.0,
    "entries": 0,
    "unverified": 0,
    "quarantined": 0,
    "matches": 0,
}
BANK_ENTRY = {
    "id": "0192f0d9-7b3c-7a11-9c52-4e1f6a8b2d33",
    "value": "prizes.example",
    "form": "host",
    "note": "Reported by the bank it poses as.",
    "verified": True,
    "live": True,
    "quarantined": False,
    "added_by": "client:app",
    "added_at": "2026-11-22T09:05:00Z",
    "matches": 0,
    "not_same": 0,
}
PICTURE = {
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "pdq": "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22",
    "quality": 100,
    "matches": [
        {
            "bank": "known_pictures",
            "kind": "image",
            "entry": "0192f0d9-7b3c-7a11-9c52-4e1f6a8b2d33",
            "how": "picture",
            "distance": 12,
            "score": 0.9531,
            "category": "spam",
            "action": "remove",
            "allow": False,
            "verified": True,
            "quarantined": False,
        }
    ],
}
# What is asked of the two addresses that speak as Perspective's do.
COMMENTS = {compat_errors.ANALYZE: AnalyzeIn, compat_errors.SUGGEST: SuggestIn}
EXAMPLES: dict[tuple[str, str, str], dict[str, Any]] = {
    ("/v1/items/{item_id}/reports", "post", "202"): REPORT,
    ("/v1/moderations", "post", "200"): MODERATION,
    ("/v1/decisions/{decision_id}", "get", "200"): DECISION,
    ("/v1/decisions/{decision_id}/statement", "get", "200"): STATEMENT,
    ("/v1/decisions/{decision_id}/notice", "get", "200"): NOTICE,
    ("/v1/decisions/{decision_id}/appeals", "post", "201"): APPEAL,
    ("/v1/decisions/{decision_id}/appeals", "post", "200"): APPEAL,
    ("/v1/banks", "post", "201"): BANK,
    ("/v1/banks/{name}", "get", "200"): BANK | {"entries": 2},
    ("/v1/banks/{name}/entries", "post", "201"): BANK_ENTRY,
    ("/v1/hashes/match", "post", "200"): PICTURE,
    ("/v1/certificates/{certificate_id}", "get", "200"): CERTIFICATE,
    ("/v1/hashes/lookup", "get", "200"): {
        "results": [{"by": "pdq", "hash": PICTURE["pdq"], "matches": PICTURE["matches"]}]
    },
    ("/v1/appeals/{appeal_id}", "get", "200"): APPEAL
    | {
        "state": "reversed",
        "outcome_id": "0192f0e7-22d4-7c3f-8b62-8b1f3a7c0d55",
        "verdict": "allow",
        "closed_at": "2026-11-23T08:15:00Z",
    },
}

# Beyond what every operation with a key may answer (401, 403, 429, 503) and what its parameters imply.
REFUSALS: dict[tuple[str, str], tuple[int, ...]] = {
    ("/v1/items", "post"): (400, 409, 410, 413, 415, 422),
    ("/v1/items/batch", "post"): (400, 413, 415, 422),
    ("/v1/moderations", "post"): (413, 415, 422),
    (compat_errors.SUGGEST, "post"): (409,),
    ("/v1/webhook-endpoints", "post"): (409, 422),
    ("/v1/items/{item_id}/reports", "post"): (410, 422),
    ("/v1/decisions/{decision_id}/statement", "get"): (409,),
    ("/v1/decisions/{decision_id}/notice", "get"): (409,),
    ("/v1/decisions/{decision_id}/appeals", "post"): (409, 410, 422),
    ("/v1/banks", "post"): (409,),
    ("/v1/banks/{name}/entries", "post"): (413,),
    ("/v1/banks/{name}/import", "post"): (409, 413, 415),
    ("/v1/hashes/match", "post"): (413, 415, 422),
    ("/v1/subjects/{author}/requests", "post"): (410, 422),
    ("/v1/subjects/{author}/requests/{request_id}/export", "get"): (409, 410),
    ("/v1/partner/items/{item_id}", "get"): (410,),
    ("/v1/sessions", "post"): (401, 422, 429),
    ("/v1/review/cases/{case_id}/claim", "post"): (409,),
    ("/v1/review/cases/{case_id}/heartbeat", "post"): (409,),
    ("/v1/review/cases/{case_id}/escalate", "post"): (409, 410),
    ("/v1/review/cases/{case_id}/hand-over", "post"): (409, 410),
    ("/v1/review/cases/{case_id}/notes", "post"): (410,),
    ("/v1/review/cases/{case_id}/opinions", "post"): (409, 410),
    ("/v1/review/cases/{case_id}/cluster-decision", "post"): (409, 410),
    ("/v1/review/undo/{undo_id}", "post"): (409,),
    ("/v1/review/decisions/{decision_id}/reverse", "post"): (409, 410),
    ("/v1/review/filters", "post"): (409,),
    ("/v1/review/golden/{item_id}", "put"): (409, 410),
    ("/v1/review/opinions/{opinion_id}/contest", "post"): (409, 410),
    ("/v1/review/contests/{opinion_id}", "post"): (409,),
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
        _describe_compat(document)
        for (path, method, code), example in EXAMPLES.items():
            answer = document["paths"][path][method]["responses"][code]
            answer["content"]["application/json"]["example"] = example
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                _describe_answers(path, method, operation)
        app.openapi_schema = document
    return app.openapi_schema


def _add_schemas(schemas: dict[str, Any]) -> None:
    sent = (ItemIn, BatchIn, PictureIn, ModerationIn, TextInputIn, ImageInputIn, *COMMENTS.values())
    for model in cast("tuple[type[BaseModel], ...]", (*sent, ProblemOut)):
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
    schemas["ModerationIn"]["properties"]["input"] = compat_schemas.INPUT
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
    _describe_picture(paths["/v1/hashes/match"]["post"])
    answers = paths["/v1/items"]["post"]["responses"]
    answers["202"]["content"]["application/json"]["example"] = ACCEPTED
    answers["200"]["content"]["application/json"]["example"] = OUTCOME
    paths["/v1/items/{item_id}"]["get"]["responses"]["200"]["content"]["application/json"]["example"] = (
        OUTCOME
    )
    paths["/v1/items/batch"]["post"]["responses"]["202"]["content"]["application/json"]["example"] = {
        "results": [{"item": {name: ACCEPTED[name] for name in ("id", "status", "status_url")}}]
    }


def _describe_picture(operation: dict[str, Any]) -> None:
    """The body of a look-up by a picture itself."""
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    operation["requestBody"] = {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/PictureIn"}},
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"image": file}, "required": ["image"]},
                "example": {"image": "(the bytes of the picture)"},
            },
        },
    }


def _describe_compat(document: dict[str, Any]) -> None:
    """The bodies of the addresses for clients of other services, and the key in the address of two of them."""
    paths = document["paths"]
    bodies = {compat_errors.MODERATIONS: ModerationIn, **COMMENTS}
    text = TEXT_POST["parts"][0]["text"]  # type: ignore[index]
    examples: dict[str, dict[str, Any]] = {
        compat_errors.MODERATIONS: {"input": text},
        compat_errors.ANALYZE: {"comment": {"text": text}, "requestedAttributes": {"TOXICITY": {}}},
        compat_errors.SUGGEST: {
            "comment": {"text": text},
            "attributeScores": {"TOXICITY": {"summaryScore": {"value": 0}}},
        },
    }
    for path, model in bodies.items():
        schema = {"$ref": f"#/components/schemas/{model.__name__}"}
        content = {"application/json": {"schema": schema, "example": examples[path]}}
        paths[path]["post"]["requestBody"] = {"required": True, "content": content}
    answer = paths[compat_errors.ANALYZE]["post"]["responses"]["200"]
    answer["content"]["application/json"]["example"] = ANALYSIS
    document["components"]["securitySchemes"]["ApiKeyInAddress"] = {
        "type": "apiKey",
        "in": "query",
        "name": query_keys.NAME,
        "description": "As Perspective's clients send it. Prefer the header: addresses are written down.",
    }
    for path in COMMENTS:
        paths[path]["post"]["security"].append({"ApiKeyInAddress": []})


def _describe_answers(path: str, method: str, operation: dict[str, Any]) -> None:
    answers = operation["responses"]
    answers.pop("422", None)
    codes = set(REFUSALS.get((path, method), ()))
    if "security" in operation:
        codes |= set(KEYED)
    if operation.get("parameters") or "requestBody" in operation:
        codes.add(400 if path in COMMENTS else 422)
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
