"""The application: `create_app` puts settings, routes and problems together."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

import structlog
from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import bodies, compat_errors, openapi, problems, query_keys, services
from api.console import security, templating
from api.console.routes import account, cases, login, media, pages, provider, queue, static
from api.console.routes import people as people_pages
from api.console.routes import settings as settings_pages
from api.routes import (
    appeals,
    bank_import,
    banks,
    certificates,
    compat,
    decisions,
    hashes,
    health,
    incidents,
    items,
    models,
    partners,
    quality,
    reports,
    review,
    sessions,
    subjects,
    webhooks,
)
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
    app.state.renditions = media.Renditions()
    problems.install(app, templating.problem_page, compat_errors.SHAPES)
    for router in (
        items.router, reports.router, decisions.router, appeals.router, incidents.router,
        subjects.router, banks.router, bank_import.router, hashes.router, partners.router,
        compat.router, compat.perspective, review.router, quality.router, models.router,
        certificates.router, webhooks.router, webhooks.dead_letters, sessions.router, health.router,
    ):  # fmt: skip
        app.include_router(router)
    for router in (
        static.router, login.router, provider.router, account.router, people_pages.router, people_pages.keys,
    ):  # fmt: skip
        app.include_router(router)
    for router in (cases.router, queue.router, media.router, settings_pages.router):
        app.include_router(router)
    for router in pages.ROUTERS:
        app.include_router(router)
    app.add_middleware(bodies.BodyCap, limits=settings.limits)
    app.add_middleware(security.SecurityHeaders)
    app.add_middleware(_RequestIds)
    app.add_middleware(query_keys.QueryKeys, paths=(compat_errors.ANALYZE, compat_errors.SUGGEST))
    app.openapi = lambda: openapi.describe(app)  # type: ignore[method-assign]
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
        app.state.renditions.close()
        held.marks.close()
        held.scoring.close()
        held.embedding.close()
        held.databases.dispose()


class _RequestIds:
    """Gives each request an id of ours, which its log lines and its answer carry.

    Plain ASGI: the framework's own kind of middleware hands every chunk of a body through two more tasks.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identifier = uuid4().hex

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-Id"] = identifier
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=identifier):
            await self._app(scope, receive, send_with_id)
