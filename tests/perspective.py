"""What a client of Perspective needs to know of its two methods, for Google's own client library.

Written by us from the public reference, in the form that the library reads; it asks no network for it.
"""

from __future__ import annotations

from typing import Any


def _field(kind: str) -> dict[str, str]:
    return {"type": kind}


def _list(kind: str) -> dict[str, Any]:
    return {"type": "array", "items": _field(kind)}


def _by_name(schema: str) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": {"$ref": schema}}


_SHARED = {
    "comment": {"$ref": "TextEntry"},
    "languages": _list("string"),
    "clientToken": _field("string"),
    "communityId": _field("string"),
    "sessionId": _field("string"),
}
_SCHEMAS: dict[str, dict[str, Any]] = {
    "TextEntry": {"text": _field("string"), "type": _field("string")},
    "Score": {"value": {"type": "number", "format": "float"}, "type": _field("string")},
    "SpanScore": {"begin": _field("integer"), "end": _field("integer"), "score": {"$ref": "Score"}},
    "AttributeScores": {
        "summaryScore": {"$ref": "Score"},
        "spanScores": {"type": "array", "items": {"$ref": "SpanScore"}},
    },
    "AttributeParameters": {
        "scoreType": _field("string"),
        "scoreThreshold": {"type": "number", "format": "float"},
    },
    "AnalyzeCommentRequest": {
        **_SHARED,
        "requestedAttributes": _by_name("AttributeParameters"),
        "doNotStore": _field("boolean"),
        "spanAnnotations": _field("boolean"),
    },
    "AnalyzeCommentResponse": {
        "attributeScores": _by_name("AttributeScores"),
        "languages": _list("string"),
        "detectedLanguages": _list("string"),
        "clientToken": _field("string"),
    },
    "SuggestCommentScoreRequest": {**_SHARED, "attributeScores": _by_name("AttributeScores")},
    "SuggestCommentScoreResponse": {
        "clientToken": _field("string"),
        "requestedLanguages": _list("string"),
        "detectedLanguages": _list("string"),
    },
}


def _method(name: str, sent: str, answered: str) -> dict[str, Any]:
    path = f"v1alpha1/comments:{name}"
    return {
        "id": f"commentanalyzer.comments.{name}",
        "httpMethod": "POST",
        "path": path,
        "flatPath": path,
        "parameters": {},
        "parameterOrder": [],
        "request": {"$ref": sent},
        "response": {"$ref": answered},
    }


def document(url: str) -> dict[str, Any]:
    """The discovery document of a service at `url`."""
    root = url.rstrip("/") + "/"
    return {
        "kind": "discovery#restDescription",
        "name": "commentanalyzer",
        "version": "v1alpha1",
        "rootUrl": root,
        "servicePath": "",
        "batchPath": "batch",
        "parameters": {"key": {"type": "string", "location": "query"}},
        "schemas": {
            name: {"id": name, "type": "object", "properties": fields} for name, fields in _SCHEMAS.items()
        },
        "resources": {
            "comments": {
                "methods": {
                    "analyze": _method("analyze", "AnalyzeCommentRequest", "AnalyzeCommentResponse"),
                    "suggestscore": _method(
                        "suggestscore", "SuggestCommentScoreRequest", "SuggestCommentScoreResponse"
                    ),
                }
            }
        },
    }
