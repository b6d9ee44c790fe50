"""Whether the service lives, whether it is ready, and its metrics. Open to whoever can reach the port."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from redis import Redis
from sqlalchemy import text

from api.auth import services
from api.services import Services
from models.registry import Manifest
from models.serving import Wanted, verified
from moderation.domain.reporting import Schedule
from moderation.governance import models, reports
from moderation.storage.database import transaction
from moderation.storage.migrate import pending

router = APIRouter(tags=["health"])
Held = Annotated[Services, Depends(services)]
log = structlog.get_logger()


@router.get("/livez")
def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"description": "Something it needs is missing."}})
def ready(held: Held, response: Response) -> dict[str, Any]:
    """Database, keystore, broker, models and migration level, each with a word."""
    checks = {
        "database": lambda: _database(held),
        "keystore": lambda: _keystore(held),
        "broker": lambda: _broker(held),
        "models": lambda: _models(held),
        "policy": lambda: _policy(held),
        "reports": lambda: _reports(held),
    }
    said = {name: _said(name, check) for name, check in checks.items()}
    # Without the broker items are still accepted and nothing is lost, a report that is late keeps no item
    # waiting, and while a new model is refused the old one serves: degraded, but ready.
    needed = [word for name, word in said.items() if name not in ("broker", "reports") and word != "refused"]
    if any(word != "ok" for word in needed):
        response.status_code = 503
    status = (
        "ok" if set(said.values()) == {"ok"} else "degraded" if response.status_code != 503 else "failing"
    )
    return {"status": status, "checks": said}


@router.get("/metrics", response_class=Response)
def show_metrics() -> Response:
    """Prometheus metrics of every process of this machine; no author, item or person in any label."""
    registry: CollectorRegistry = REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


@cache
def _verified(champion: Wanted) -> Manifest:
    """Each artifact is read through once a process; it is too large for every probe."""
    return verified(champion)


def _said(name: str, check: Callable[[], str]) -> str:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - whatever is wrong, readiness says which part
        log.warning("not_ready", part=name, error=type(error).__name__)
        return "unreachable"


def _database(held: Services) -> str:
    with held.databases.content.connect() as connection:
        return "migrate" if pending("content", connection) else "ok"


def _keystore(held: Services) -> str:
    with held.databases.keystore.connect() as connection:
        connection.execute(text("SELECT 1"))
        return "migrate" if pending("keystore", connection) else "ok"


def _broker(held: Services) -> str:
    connection = Redis.from_url(held.settings.redis_url, socket_connect_timeout=2, socket_timeout=2)
    try:
        connection.ping()
    finally:
        connection.close()
    return "ok"


def _models(held: Services) -> str:
    with transaction(held.databases.content) as session:
        champions = models.wanted(session, held.settings.models)
        refused = models.troubles(session)
    # One that no process could load is not served by any: the version before it is.
    sound = [_verified(champion) for champion in champions if champion.name not in refused]
    return "refused" if refused else "ok" if sound else "none"


def _policy(held: Services) -> str:
    with transaction(held.databases.content) as session:
        held.policies.current(session)
    return "ok"


def _reports(held: Services) -> str:
    with transaction(held.databases.content) as session:
        owed = reports.outstanding(session, Schedule(held.settings.reports), datetime.now(UTC))
    return "overdue" if any(one.overdue for one in owed) else "ok"
