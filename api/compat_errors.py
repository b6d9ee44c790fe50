"""Refusals that clients of other services can read: their member `error` in the same problem document.

RFC 9457 lets a problem have further members, and both kinds of clients look for theirs in any JSON, whatever its
media type. So one document serves both, and nobody who reads problems has to know about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

MODERATIONS = "/v1/moderations"
ANALYZE = "/v1alpha1/comments:analyze"
SUGGEST = "/v1alpha1/comments:suggestscore"

Problem = dict[str, Any]

_OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}
_OPENAI_CODES = {"unauthenticated": "invalid_api_key", "too_many_requests": "rate_limit_exceeded"}
_GOOGLE_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    409: "ABORTED",
    410: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
# What the other service calls a malformed request, we divide further.
_AS_MALFORMED = {413, 415, 422}
_PERSPECTIVE_ERRORS = {
    "comment_empty",
    "comment_too_long",
    "language_not_supported_by_attribute",
    "no_requested_attributes",
}


def openai(problem: Problem) -> Problem:
    """The problem with OpenAI's `{"error": {message, type, param, code}}` beside."""
    errors = problem.get("errors") or ()
    error = {
        "message": problem["detail"],
        "type": _OPENAI_TYPES.get(problem["status"], "invalid_request_error"),
        "param": ".".join(errors[0]["path"]) if errors else None,
        "code": _OPENAI_CODES.get(problem["code"], problem["code"]),
    }
    return {**problem, "error": error}


def google(problem: Problem) -> Problem:
    """The problem with Google's `{"error": {code, message, status, details}}` beside.

    Perspective answers 400 to whatever it can't read, and its clients look for that number.
    """
    status = 400 if problem["status"] in _AS_MALFORMED else problem["status"]
    error: dict[str, Any] = {
        "code": status,
        "message": problem["detail"],
        "status": _GOOGLE_STATUS.get(status, "UNKNOWN"),
    }
    if status == 400:
        known = problem["code"] in _PERSPECTIVE_ERRORS
        error["details"] = [
            {
                "@type": "type.googleapis.com/google.commentanalyzer.v1alpha1.Error",
                "errorType": problem["code"].upper() if known else "INVALID_REQUEST",
            }
        ]
    return {**problem, "status": status, "error": error}


SHAPES: Mapping[str, Callable[[Problem], Problem]] = {
    MODERATIONS: openai,
    ANALYZE: google,
    SUGGEST: google,
}
