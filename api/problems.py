"""Refusals as RFC 9457 problem documents. The only place that knows an HTTP status of a refusal."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any

import psycopg
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from moderation.domain import errors
from moderation.storage.vault import VaultError

STATUS: Mapping[type[errors.Refusal], int] = {
    errors.InvalidInput: 422,
    errors.TooLarge: 413,
    errors.UnsupportedMedia: 415,
    errors.PolicyInvalid: 422,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.StepUpRequired: 403,
    errors.NotFound: 404,
    errors.Gone: 410,
    errors.Conflict: 409,
    errors.TooManyRequests: 429,
    errors.Unavailable: 503,
}
# Pictures are refused by one class with a code each; two of the codes have a status of their own.
STATUS_OF_CODE = {"unsupported_format": 415, "too_large": 413}

TITLES = {
    400: "Malformed request",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    410: "Gone",
    413: "Too large",
    415: "Unsupported media type",
    422: "Invalid input",
    429: "Too many requests",
    500: "Internal error",
    503: "Service unavailable",
}
# What the framework itself refuses, and for which it has two words where a caller needs a sentence.
SENTENCES = {
    404: "There is nothing at this address; /openapi.json lists what there is.",
    405: "This address does not take that method; /openapi.json lists those it takes.",
}
FAILED = "Something failed on our side; nothing was stored. Send the request again later."
MEDIA_TYPE = "application/problem+json"
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,31}")
log = structlog.get_logger()


def status_of(refusal: errors.Refusal) -> int:
    """The HTTP status of a refusal, by its code or the nearest class in `STATUS`."""
    if refusal.code in STATUS_OF_CODE:
        return STATUS_OF_CODE[refusal.code]
    return next(STATUS[kind] for kind in type(refusal).__mro__ if kind in STATUS)


def document(status: int, code: str, detail: str, **extra: Any) -> dict[str, Any]:
    """The members of a problem: type, title, status, detail, and ours: code."""
    title = TITLES.get(status, "Error")
    return {"type": f"urn:moderation:problem:{code}", "title": title, "status": status, "detail": detail} | {
        "code": code,
        **extra,
    }


def of_refusal(refusal: errors.Refusal) -> dict[str, Any]:
    """The problem document of a refusal."""
    extra: dict[str, Any] = {}
    if isinstance(refusal, errors.PolicyInvalid):
        extra["faults"] = [
            {"path": list(f.path), "line": f.line, "message": f.message} for f in refusal.faults
        ]
    return document(status_of(refusal), refusal.code, refusal.detail, **extra)


def of_validation(faults: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The problem document of a body or parameter that does not fit its schema; it never repeats input."""
    listed = [{"path": _path(fault), "message": _message(fault)} for fault in faults[:20]]
    first = (
        f"{'.'.join(listed[0]['path'])}: {listed[0]['message']}" if listed else "The request is malformed."
    )
    return document(422, "invalid_input", f"{first.rstrip('.')}.", errors=listed)


def _path(fault: Mapping[str, Any]) -> list[str]:
    """Where it is. A field's name came from the caller too: one that is no plain word is not repeated."""
    steps = [str(step) for step in fault["loc"]]
    return [step if step.isdecimal() or _WORD.fullmatch(step) else "(unnamed)" for step in steps]


def _message(fault: Mapping[str, Any]) -> str:
    """What is wrong. The words for a wrong tag would quote it."""
    if fault["type"] == "union_tag_invalid":
        return "type must be 'text' or 'image'"
    if fault["type"] == "extra_forbidden":
        return "this field is not known; check its name"
    return str(fault["msg"])


def respond(body: dict[str, Any], headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A response of the problem's own status."""
    return JSONResponse(body, status_code=body["status"], media_type=MEDIA_TYPE, headers=headers)


Page = Callable[[Request, Mapping[str, Any], Mapping[str, str]], Response]
Shape = Callable[[dict[str, Any]], dict[str, Any]]


def install(app: FastAPI, page: Page | None = None, shapes: Mapping[str, Shape] | None = None) -> None:
    """Have every exception leave the application as a problem document, or under /console as a `page`.

    `shapes`: by path, what else the document has to hold for the clients of that address.
    """
    app.state.problem_page = page
    app.state.problem_shapes = shapes or {}
    handlers: list[tuple[type[Exception], Any]] = [
        (errors.Refusal, _refusal),
        (RequestValidationError, _invalid),
        (HTTPException, _http),
        (ClientDisconnect, _hung_up),
        (DBAPIError, _database),
        (PoolTimeoutError, _crowded),
        (VaultError, _unexpected),
        (Exception, _unexpected),
    ]
    for kind, handler in handlers:
        app.add_exception_handler(kind, handler)


def _answer(request: Request, body: dict[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    page: Page | None = request.app.state.problem_page
    if page and request.url.path.startswith("/console"):
        return page(request, body, headers or {})
    shape: Shape | None = request.app.state.problem_shapes.get(request.url.path)
    return respond(shape(body) if shape else body, headers)


def _refusal(request: Request, error: errors.Refusal) -> Response:
    headers = {}
    if isinstance(error, errors.Busy):
        headers["Retry-After"] = str(max(1, ceil(error.retry_after)))
    if isinstance(error, errors.Unauthenticated):
        # RFC 6750 wants a parameter behind the scheme, and some clients can't read the header without one.
        headers["WWW-Authenticate"] = 'Bearer realm="moderation"'
    return _answer(request, of_refusal(error), headers)


def _invalid(request: Request, error: RequestValidationError) -> Response:
    return _answer(request, of_validation(error.errors()))


def _http(request: Request, error: HTTPException) -> Response:
    code = TITLES.get(error.status_code, "Error").lower().replace(" ", "_")
    detail = SENTENCES.get(error.status_code, f"{str(error.detail).rstrip('.')}.")
    return _answer(request, document(error.status_code, code, detail), error.headers)


def _hung_up(request: Request, _error: ClientDisconnect) -> Response:
    # Nobody reads this answer; without it a caller that hangs up would look like a fault of ours.
    return _answer(request, document(400, "malformed_request", "The body ended early; send all of it."))


def _crowded(request: Request, _error: PoolTimeoutError) -> Response:
    sentence = "Too many requests at once; nothing was stored. Send the request again."
    return _answer(request, document(503, "unavailable", sentence), {"Retry-After": "2"})


def _database(request: Request, error: DBAPIError) -> Response:
    # An outage is told as one; a statement the database refuses is a fault of ours, unless for a value in it.
    log.error("database_error", error=type(error.orig).__name__)
    if isinstance(error.orig, psycopg.DataError):
        sentence = "A value in the request is out of range, or holds a character that can't be stored."
        return _answer(request, document(422, "invalid_input", sentence))
    if error.connection_invalidated or isinstance(error.orig, psycopg.OperationalError):
        sentence = "The database can't be reached; nothing was stored. Send the request again."
        return _answer(request, document(503, "unavailable", sentence), {"Retry-After": "2"})
    return _answer(request, document(500, "internal_error", FAILED))


def _unexpected(request: Request, error: Exception) -> Response:
    log.error("unexpected_error", error=type(error).__name__)
    return _answer(request, document(500, "internal_error", FAILED))
