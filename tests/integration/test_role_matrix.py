"""Every route for people, with every role and with nobody: open where the role carries the permission, else shut.

The table is made from the application itself, so a route is in it from the moment it exists. What a role may do
stands in `moderation.domain.access`; that it is asked for is what this test shows.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from sqlalchemy import update

from api.app import create_app
from moderation.domain.access import GRANTS, Permission, Role
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Person, PersonSession
from moderation.storage.vault import Vault
from tests.people import new_person, new_session, new_sessions
from tests.unit.test_architecture import DOOR, PUBLIC, rights, scopes, walk

NOTHING = "019ab000-0000-7000-8000-000000000000"
REFUSED = {401, 403}


@dataclass(frozen=True, slots=True)
class Door:
    """A route and method, and what it asks for."""

    method: str
    path: str
    permission: Permission
    fresh: bool

    @property
    def address(self) -> str:
        """The path with something in place of every parameter."""
        return re.sub(r"\{[^}]+\}", NOTHING, self.path)


def checks(dependant: Any) -> Iterator[Any]:
    if hasattr(dependant.call, "permission"):
        yield dependant.call
    for inner in dependant.dependencies:
        yield from checks(inner)


@pytest.fixture
def caller(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), follow_redirects=False, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def doors(caller: TestClient) -> list[Door]:
    """Every route that is neither public on purpose nor a service's or partner's: it has to be a person's."""
    found = []
    for route in walk(caller.app.routes):  # type: ignore[attr-defined]
        if not isinstance(route, APIRoute) or route.path in PUBLIC | DOOR:
            continue
        if scopes(route.dependant) or rights(route.dependant):
            continue
        asked = list(checks(route.dependant))
        assert len({check.permission for check in asked}) == 1, f"{route.path} asks for no permission"
        fresh = any(check.fresh for check in asked)
        methods = sorted(route.methods - {"HEAD"})
        found += [Door(method, route.path, asked[0].permission, fresh) for method in methods]
    assert len(found) > 20
    # Last the one that ends every other session: the others' among them.
    return sorted(found, key=lambda door: door.path.endswith("/end-others"))


def ask(client: TestClient, door: Door, headers: dict[str, str]) -> tuple[int, str]:
    """Status of an answer and where it leads to. The body is of the right kind and empty: who calls comes first."""
    body = b""
    if door.method not in ("GET", "DELETE"):
        page = door.path.startswith("/console")
        kind = "application/x-www-form-urlencoded" if page else "application/json"
        headers, body = headers | {"Content-Type": kind}, b"" if page else b"{}"
    answer = client.request(door.method, door.address, headers=headers, content=body)
    return answer.status_code, answer.headers.get("location", "")


def shut(status: int, location: str) -> bool:
    return status in REFUSED or location.startswith(("/console/login?next=", "/console/second-factor?next="))


def turned_away(door: Door, status: int, location: str) -> bool:
    """Whether this is how somebody without a session is answered."""
    if door.path.startswith("/console"):
        return status == 303 and location.startswith("/console/login?next=")
    return status == 401


@pytest.mark.parametrize("role", [*Role, None], ids=[*map(str, Role), "without a role"])
def test_a_role_opens_the_doors_it_has_the_key_to_and_no_other(
    caller: TestClient, doors: list[Door], databases: Databases, vault: Vault, role: Role | None
) -> None:
    who, wrong = new_person(databases, vault, *([role] if role else [])), []
    # A session each: logging out is one of the doors.
    for door, token in zip(doors, new_sessions(databases, who, len(doors)), strict=True):
        status, location = ask(caller, door, {"Authorization": f"Bearer {token}"})
        may = role is not None and door.permission in GRANTS[role]
        if status >= 500 or shut(status, location) == may or (not may and status != 403):
            wrong.append((door.method, door.path, str(door.permission), status, location))
    assert not wrong


def test_nobody_opens_any(
    caller: TestClient, doors: list[Door], databases: Databases, vault: Vault, api_key: str
) -> None:
    who = new_person(databases, vault, *Role)
    tokens = {
        "nobody": None,
        "a made-up session": "ms_" + "a" * 43,
        "an API key": api_key,
        "no second factor": new_session(databases, who, confirmed=False),
        "a revoked session": _changed(databases, who, state="revoked"),
        "an old session": _changed(databases, who, expires_at=datetime.now(UTC)),
        "an idle session": _changed(databases, who, seen_at=datetime.now(UTC) - timedelta(minutes=61)),
        "somebody disabled": new_session(databases, _disabled(databases, vault)),
    }
    wrong = [
        (name, door.method, door.path, answer)
        for name, token in tokens.items()
        # One function judges every session's state; what each door asks at all is shown by the first three.
        for door in (
            doors if name in ("nobody", "an API key", "no second factor") else doors[:: len(doors) // 8]
        )
        if not turned_away(
            door, *(answer := ask(caller, door, {"Authorization": f"Bearer {token}"} if token else {}))
        )
    ]
    assert not wrong


def test_what_is_grave_asks_for_a_second_factor_given_just_now(
    caller: TestClient, doors: list[Door], databases: Databases, vault: Vault
) -> None:
    who, wrong = new_person(databases, vault, *Role), []
    tokens = new_sessions(databases, who, len(doors))
    with transaction(databases.content) as session:
        session.execute(update(PersonSession).values(confirmed_at=datetime.now(UTC) - timedelta(minutes=16)))
    for door, token in zip(doors, tokens, strict=True):
        status, location = ask(caller, door, {"Authorization": f"Bearer {token}"})
        asked = location.startswith("/console/second-factor?next=") or (
            status == 403 and not door.path.startswith("/console")
        )
        if door.fresh and not asked:  # others may ask where it depends on what they are asked for
            wrong.append((door.method, door.path, status, location))
    assert not wrong
    assert sum(door.fresh for door in doors) > 10


def test_no_page_of_another_site_changes_anything(
    caller: TestClient, doors: list[Door], databases: Databases, vault: Vault
) -> None:
    who = new_person(databases, vault, *Role)
    changing = [door for door in doors if door.method != "GET"]
    cookie = {"Cookie": f"moderation_dev={new_session(databases, who)}"}
    for door in changing:
        assert ask(caller, door, cookie)[0] == 403, door
    assert len(changing) > 10


def _changed(databases: Databases, who: UUID, **values: Any) -> str:
    """A session of the person that is not as a new one is."""
    token = new_session(databases, who)
    digest = hashlib.sha256(token.encode()).digest()
    with transaction(databases.content) as session:
        session.execute(update(PersonSession).where(PersonSession.digest == digest).values(**values))
    return token


def _disabled(databases: Databases, vault: Vault) -> UUID:
    who = new_person(databases, vault, *Role)
    with transaction(databases.content) as session:
        session.get_one(Person, who).disabled_at = datetime.now(UTC)
    return who
