"""The application: `create_app` puts settings, routes and problems together."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi

from api import problems, services
from api.routes import health, items, webhooks
from api.schemas import BatchIn, ItemIn, ProblemOut
from moderation import logs
from moderation.settings import Settings, from_environment

DESCRIPTION = """Submit posts, get verdicts. Every refusal is a problem document (RFC 9457) whose `detail`
says what to do. Times are UTC; probabilities are calibrated."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The ASGI application, from `settings` or from the environment.

    Raises:
        moderation.settings.SettingsError: the environment can't be used.
    """
    settings = settings or from_environment(os.environ)
    logs.configure(settings.log_level)
    app = FastAPI(
        title="Moderation",
        version="1",
        description=DESCRIPTION,
        lifespan=_lifespan,
        # The stock pages load their scripts from elsewhere; the document itself is at /openapi.json.
        docs_url=None,
        redoc_url=None,
    )
    app.state.services = services.build(settings)
    problems.install(app)
    for router in (items.router, webhooks.router, webhooks.dead_letters, health.router):
        app.include_router(router)
    app.middleware("http")(_with_request_id)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    held: services.Services = app.state.services
    listener = asyncio.create_task(held.verdicts.listen())
    try:
        yield
    finally:
        listener.cancel()
        with suppress(asyncio.CancelledError):
            await listener
        held.databases.dispose()


async def _with_request_id(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
    """Give each request an id of ours, which its log lines and its answer carry."""
    identifier = uuid4().hex
    with structlog.contextvars.bound_contextvars(request_id=identifier):
        response = await proceed(request)
    response.headers["X-Request-Id"] = identifier
    return response


def _openapi(app: FastAPI) -> dict[str, Any]:
    """OpenAPI 3.1 with the two bodies that are read by hand, and problems as they really look."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        components = document.setdefault("components", {}).setdefault("schemas", {})
        for model in (ItemIn, BatchIn, ProblemOut):
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            components.update(schema.pop("$defs", {}))
            components[model.__name__] = schema
        for leftover in ("HTTPValidationError", "ValidationError"):
            components.pop(leftover, None)
        components["BatchIn"]["properties"]["items"]["items"] = {"$ref": "#/components/schemas/ItemIn"}
        _describe_bodies(document["paths"])
        _describe_problems(document["paths"])
        app.openapi_schema = document
    return app.openapi_schema


def _describe_bodies(paths: dict[str, Any]) -> None:
    item = {"$ref": "#/components/schemas/ItemIn"}
    form = {
        "type": "object",
        "properties": {"item": item},
        "required": ["item"],
        "additionalProperties": {"type": "string", "format": "binary"},
    }
    paths["/v1/items"]["post"]["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": item}, "multipart/form-data": {"schema": form}},
    }
    paths["/v1/items/batch"]["post"]["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/BatchIn"}}},
    }


def _describe_problems(paths: dict[str, Any]) -> None:
    problem = {
        "description": "Refused; `detail` says what to do.",
        "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemOut"}}},
    }
    for methods in paths.values():
        for operation in methods.values():
            operation["responses"].pop("422", None)
            operation["responses"]["4XX"] = problem
