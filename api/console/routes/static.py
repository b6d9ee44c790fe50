"""Styles, scripts and what browsers report: public, because the log-in page needs them too."""

from __future__ import annotations

import mimetypes
from functools import cache
from http import HTTPStatus

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.console import security, templating
from moderation import metrics
from moderation.domain.errors import NotFound

router = APIRouter(include_in_schema=False)
log = structlog.get_logger()

FOR_EVER = "public, max-age=31536000, immutable"
MOST = 16_384
mimetypes.add_type("text/javascript", ".mjs")


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    """Every static file in memory, by name: what is not listed can't be asked for, whatever the path says."""
    return {
        path.relative_to(templating.STATIC).as_posix(): (
            path.read_bytes(),
            mimetypes.guess_type(path.name)[0] or "text/plain",
        )
        for path in templating.STATIC.rglob("*")
        if path.is_file()
    }


@router.get("/console/static/{version}/{name:path}")
def static_file(version: str, name: str) -> Response:
    """A static file. Another release's address answers too, but is not kept."""
    if name not in _files():
        raise NotFound("There is no such file; load the page again.")
    content, media_type = _files()[name]
    kept = FOR_EVER if version == templating.static_version() else "no-cache"
    return Response(content, media_type=media_type, headers={"Cache-Control": kept})


@router.post(security.REPORTS)
async def violation(request: Request) -> Response:
    """A browser says that a page broke its own rules. Counted; what it says may quote a page, so it is not kept."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MOST:
            break
    metrics.CSP_REPORTS.inc()
    log.warning("csp_report", size=size)
    return Response(status_code=HTTPStatus.NO_CONTENT)
