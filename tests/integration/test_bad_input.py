"""Every parameter of every page and route of governance, given what makes no sense: a sentence, never a fault."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from sqlalchemy import select

from api.app import create_app
from moderation.domain.access import Role
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.governance import disclosures, drafts, holds, incidents, partners, policies, preservation
from moderation.governance.incident_scopes import Scope
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Decision, MinorCheck, SubjectRequest
from moderation.storage.vault import Vault
from tests import people, reviewing
from tests.unit.test_architecture import walk

HERE = ("/console/governance", "/console/policy/drafts", "/v1/subjects", "/v1/minor-checks", "/v1/incidents")
NONSENSE = (
    "", "a\x00b", "\u00b2", "9" * 5000, "-1", "nan", "9999-12-31", "0001-01-01T00:00:00+14:00",
)  # fmt: skip
NOTHING = "019ab000-0000-7000-8000-000000000000"


@dataclass(frozen=True, slots=True)
class Place:
    """A parameter of a route, and the others with something that makes sense."""

    method: str
    route: str
    kind: str  # path, query or body
    name: str
    paths: tuple[str, ...]
    forms: tuple[str, ...]


def named(dependant: Any, kind: str) -> Iterator[str]:
    yield from (one.alias for one in getattr(dependant, f"{kind}_params"))
    for inner in dependant.dependencies:
        yield from named(inner, kind)


def places(app: Any) -> list[Place]:
    """Where something can be said; what only shows comes before what changes anything."""
    found = []
    for route in walk(app.routes):
        if not isinstance(route, APIRoute) or not route.path.startswith(HERE):
            continue
        paths, forms = (tuple(named(route.dependant, kind)) for kind in ("path", "body"))
        for method in route.methods - {"HEAD"}:
            for kind in ("path", "query", "body"):
                names = dict.fromkeys(named(route.dependant, kind))
                found += [Place(method, route.path, kind, name, paths, forms) for name in names]
    return sorted(found, key=lambda one: (one.method != "GET", one.route, one.kind, one.name))


def given(known: Mapping[str, str]) -> dict[str, str]:
    """What makes sense in the forms: so that a parameter is not spared because another one is missing."""
    day = f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}"
    return {
        "id": known["item_id"], "item": known["item_id"], "items": known["item_id"], "package": known["package_id"],
        "scope": "item", "authority": "Court", "basis": "Order", "reference": "1", "review": day, "keep": day,
        "until": day, "kind": "access", "severity": "3", "description": "One.", "actor": "client", "client": "app",
        "author": "acct-9", "cause": "request", "sure": "true", "no_risk": "true", "purpose": "review",
        "fields": "text", "language": "pt", "ground": "unfounded", "preserve": "true", "base": "1",
        "document": "name: [", "name": "lab",
    }  # fmt: skip


@pytest.fixture
def known(
    client: TestClient, databases: Databases, vault: Vault, blobs: FolderBlobs, policy: Policy
) -> Mapping[str, str]:
    """One of everything that an address can name."""
    now = datetime.now(UTC)
    item = reviewing.decided(
        client, databases, policy, now - timedelta(hours=1), "post-1", Route.REMOVE, "hate"
    )
    body = {"kind": "correct", "identity_verified": True, "details": "It is Portuguese."}
    client.post("/v1/subjects/acct-1/requests", json=body).raise_for_status()
    ann, bob = (people.principal(databases, vault, "legal") for _ in range(2))
    with transaction(databases.content) as session:
        hold = holds.request(session, vault, ann, holds.Wanted("Court", "Order", item_id=item), now).id
        holds.approve(session, bob, hold, now)
        partners.create(
            session, vault, name="lab", purpose="review", fields=["text"], actor="operator",
            expires_at=now + timedelta(days=9), now=now,
        )  # fmt: skip
        partners.assign(session, "lab", "operator", now, items=[item])
        base, document = policies.newest_document(session)
        draft = drafts.save(session, name="One", document=document, base=base, by="operator", now=now)
        incident = incidents.open_incident(
            session, vault, kind="access", severity=3, description="One.", detected_at=now, scope=Scope("client"),
            actor="operator", now=now,
        )  # fmt: skip
        incidents.find_affected(session, incident, "operator", now)
    client.post("/v1/subjects/acct-1/minor-notice").raise_for_status()
    package = preservation.seal_hold(databases, vault, blobs, ann, hold, now)
    with transaction(databases.content) as session:
        disclosure = disclosures.request(session, vault, ann, package, "Court", "Order", "", now)
        found = {
            "item_id": item, "hold_id": hold, "draft_id": draft, "incident_id": incident, "package_id": package,
            "disclosure_id": disclosure, "request_id": session.scalars(select(SubjectRequest.id)).one(),
            "check_id": session.scalars(select(MinorCheck.id)).one(), "author": "acct-1", "name": "lab",
            "decision_id": session.scalars(select(Decision.id)).one(), "position": 0, "form": "csv",
        }  # fmt: skip
        return {name: str(value) for name, value in found.items()}


def test_nonsense_is_answered_by_a_sentence(
    settings: Settings, databases: Databases, vault: Vault, known: Mapping[str, str], api_key: str
) -> None:
    token = people.new_session(databases, people.new_person(databases, vault, *Role))
    sense, faults, shown = given(known), [], 0
    with TestClient(create_app(settings), follow_redirects=False, raise_server_exceptions=False) as caller:
        found = places(caller.app)
        for place in found:
            headers = {"Authorization": f"Bearer {token if '/console' in place.route else api_key}"}
            for value in NONSENSE:
                said = {place.name: value}
                in_path = {name: known.get(name, NOTHING) for name in place.paths}
                if place.kind == "path":
                    in_path |= {place.name: value or " "}
                form = {name: sense.get(name, "") for name in place.forms}
                answer = caller.request(
                    place.method,
                    re.sub(r"\{(\w+)(:\w+)?\}", lambda m, of=in_path: quote(of[m[1]], safe=""), place.route),
                    headers=headers,
                    params=said if place.kind == "query" else None,
                    data=form | (said if place.kind == "body" else {}) if place.method != "GET" else None,
                )
                shown += answer.status_code == 200
                if answer.status_code >= 500:
                    faults.append((place.method, place.route, place.name, value[:20]))
    assert not faults
    assert len(found) > 80, "too little is looked at"
    assert shown > 100, "too little was there to be shown"
