"""Decided items and open cases for tests of review, without the models that would decide them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from fastapi.testclient import TestClient

from moderation.domain.decisions import Outcome
from moderation.domain.policy import Policy
from moderation.domain.routing import Route, Routing
from moderation.review import decisions, reports
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Item
from tests import support


def submitted(client: TestClient, name: str = "post-1", **changes: object) -> UUID:
    """A post that waits to be screened."""
    answer = client.post("/v1/items", json=support.post(name, **changes))  # type: ignore[arg-type]
    assert answer.status_code == 202, answer.text
    return UUID(answer.json()["id"])


def decide(
    databases: Databases,
    policy: Policy,
    item: UUID,
    now: datetime,
    route: Route = Route.ALLOW,
    category: str | None = None,
) -> UUID:
    """What the pipeline writes at the end, with an outcome chosen here; the decision's id."""
    routing = Routing(route, category, 0.9, ("Chosen by a test.",), ())
    with transaction(databases.content) as session:
        row = session.get_one(Item, item)
        recorded = decisions.record(session, policy, [(row, Outcome(routing, (), (), None))], now)
        reports.take_up(session, policy, [row], now)
    return recorded[0].decision_id


def decided(
    client: TestClient,
    databases: Databases,
    policy: Policy,
    now: datetime,
    name: str = "post-1",
    route: Route = Route.ALLOW,
    category: str | None = None,
) -> UUID:
    """A post that a machine has decided."""
    item = submitted(client, name)
    decide(databases, policy, item, now, route, category)
    return item


def endpoint(client: TestClient, *events: str) -> None:
    """An endpoint that is told of `events`; nothing is sent to it in these tests."""
    body = {"name": "main", "url": "http://127.0.0.1:9999/hook", "events": list(events)}
    answer = client.post("/v1/webhook-endpoints", json=body)
    assert answer.status_code == 201, answer.text
