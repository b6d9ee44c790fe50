"""Nothing that is sent makes the service fail: the short form of `benchmarks/fuzz.py`, in this process."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from schemathesis.python import asgi
from sqlalchemy import select

from api import problems
from moderation.domain.access import Role
from moderation.domain.cases import CaseReason
from moderation.domain.decisions import CaseDraft
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.governance import partners
from moderation.pipeline.batch import PARTLY
from moderation.review import decisions, opening
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Item, SignalRow
from moderation.storage.vault import Vault
from tests import fuzz, people, reviewing
from tests.support import drain

SEED = 20261122


@pytest.fixture(autouse=True)
def _no_names_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses of webhooks are checked as they are; no test asks a name server."""

    def resolve(*_: Any, **__: Any) -> list[str]:
        raise OSError("no names in tests")

    monkeypatch.setattr("socket.getaddrinfo", resolve)


def checked(status: int, headers: Any, request: str) -> int:
    """The status of an answer that is no failure of ours, and that refuses as a problem."""
    assert status < 500, request
    if status >= 400:
        assert headers["content-type"] == problems.MEDIA_TYPE, request
    return status


def a_partner(databases: Databases, vault: Vault) -> str:
    """The key of a partner who may read every field."""
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        return partners.create(
            session,
            vault,
            name="lab",
            purpose="quality",
            fields=[str(one) for one in partners.Field],
            expires_at=now + timedelta(days=1),
            actor="operator",
            now=now,
        )


def a_case(client: TestClient, databases: Databases, policy: Policy) -> dict[str, str]:
    """Ids that lead somewhere: of an item, its decision and its open case."""
    now = datetime.now(UTC)
    item = reviewing.decided(client, databases, policy, now, route=Route.REMOVE, category="spam")
    with transaction(databases.content) as session:
        decision = decisions.in_force(session, [item], now)[item].id
        draft = CaseDraft(CaseReason.UNCERTAIN, "spam", 1, 0.5)
        case = opening.open_case(session, policy, session.get_one(Item, item), decision, draft, now)
    return {"item_id": str(item), "decision_id": str(decision), "case_id": str(case)}


def test_whatever_the_document_allows_or_forbids(
    client: TestClient, api_key: str, databases: Databases, vault: Vault, policy: Policy
) -> None:
    seen: Counter[tuple[str, int]] = Counter()
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    # One who may do everything, so that requests get past the door; an hour's worth of them in a minute.
    somebody = people.new_person(databases, vault, *Role)
    tokens = {
        "ApiKey": api_key,
        "PersonSession": people.new_session(databases, somebody),
        "PartnerKey": a_partner(databases, vault),
    }
    known = a_case(client, databases, policy)
    with asgi.get_client(client.app) as session:

        def call(case: fuzz.Request) -> None:
            security = case.operation.definition.raw.get("security") or [{"ApiKey": []}]
            headers = {"Authorization": f"Bearer {tokens[next(iter(security[0]))]}"}
            if (case.method, case.operation.path) == ("DELETE", "/v1/sessions/current"):
                headers = {}  # or nobody would be logged in for the rest
            if case.method != "DELETE" and sum(seen.values()) % 2:
                case.path_parameters |= {
                    name: value for name, value in known.items() if name in case.path_parameters
                }
            answer = case.call(base_url="http://testserver", session=session, headers=headers)
            kind = answer.headers.get("content-type", [""])[0]
            status = checked(answer.status_code, {"content-type": kind}, case.as_curl_command())
            seen[f"{case.method} {case.operation.path}", status] += 1

        fuzz.by_document(schema, call, each=10, start=SEED)
    documented = {(f"{o.method.upper()} {o.path}") for o in fuzz.operations(schema)}
    assert {operation for operation, _ in seen} == documented
    assert seen["POST /v1/items", 202] > 0, "some fit the document"
    assert seen["POST /v1/review/cases/{case_id}/notes", 204] > 0, "also behind a person's door"
    assert seen["POST /v1/items", 422] > 0, "and some do not"


def test_requests_after_an_accident(client: TestClient, settings: Settings, databases: Databases) -> None:
    seen: Counter[int] = Counter()
    for raw in fuzz.mangled(250, SEED):
        answer = client.request(raw.method, raw.path, content=raw.body, headers=list(raw.headers))
        seen[checked(answer.status_code, answer.headers, str(raw)[:500])] += 1
    assert {202, 415, 422} <= set(seen)
    drain(settings)
    assert_screened(databases)


def test_pictures_of_every_kind(client: TestClient, settings: Settings, databases: Databases) -> None:
    accepted = 0
    for number, (name, data) in enumerate(fuzz.pictures(90, SEED)):
        answer = client.post("/v1/items", json=fuzz.with_picture(number, data))
        accepted += checked(answer.status_code, answer.headers, name) == 202
    assert accepted > 40
    drain(settings)
    assert_screened(databases)
    with transaction(databases.content) as session:
        rows = session.scalars(select(SignalRow).where(SignalRow.status == "failed")).all()
        # On a busy machine less of the long animation is looked at within its second.
        failed = [row.detector for row in rows if row.evidence.get("cause") != PARTLY]
    assert set(failed) == {"decoder"}, "broken pictures fail in the decoder and nowhere else"


def assert_screened(databases: Databases) -> None:
    """Every item has an outcome, at the first attempt: nothing brought a worker down."""
    with transaction(databases.content) as session:
        assert {(item.state, item.attempts) for item in session.scalars(select(Item))} == {("done", 1)}
