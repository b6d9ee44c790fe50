"""People for tests: who they are, and clients that are logged in as them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pyotp
from fastapi.testclient import TestClient
from httpx2 import Response

from api.app import create_app
from moderation.governance import people, secondfactor, sessions
from moderation.governance.sessions import PersonPrincipal
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import Person
from moderation.storage.vault import Vault


class Member(TestClient):
    """A caller whom the API knows as a person: bearer session, second factor given just now."""

    person_id: UUID
    token: str


def new_person(databases: Databases, vault: Vault, *roles: str, email: str | None = None) -> UUID:
    """A person with these roles who can't log in with a password."""
    now = datetime.now(UTC)
    identifier = new_id(now)
    address = email or f"{identifier}@example.org"
    with transaction(databases.content) as session:
        session.add(
            Person(
                id=identifier,
                email_digest=people.email_digest(vault, address),
                email=vault.account_key().encrypt(address.encode(), "people", "email", str(identifier)),
                password_hash="",
                roles=[str(role) for role in roles],
                created_at=now,
            )
        )
    return identifier


@dataclass(slots=True)
class Account:
    """Somebody who can log in: what they know and what they have."""

    id: UUID
    email: str
    password: str
    secret: str
    steps: int = -1

    def code(self) -> str:
        """The authenticator's next code that was not used yet: two are good for long enough to be sent."""
        self.steps += 1
        here = int(datetime.now(UTC).timestamp()) // secondfactor.STEP_SECONDS
        return pyotp.TOTP(self.secret).generate_otp(here + self.steps)


def new_account(databases: Databases, vault: Vault, *roles: str, email: str = "mod@example.org") -> Account:
    """Somebody with a password and an authenticator app."""
    with transaction(databases.content) as session:
        made = people.create_first(session, vault, email, roles, datetime.now(UTC), "operator")
        found = people.find(session, vault, email)
        assert found is not None
        return Account(found.id, made.email, made.password, made.totp_secret)


def new_session(databases: Databases, person_id: UUID, *, confirmed: bool = True) -> str:
    """A bearer token of the person; without `confirmed` the second factor is still owed."""
    with transaction(databases.content) as session:
        return sessions.start(session, person_id, "tests", datetime.now(UTC), confirmed=confirmed)


def new_sessions(databases: Databases, person_id: UUID, count: int) -> list[str]:
    """Many bearer tokens of one person, in one transaction."""
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        return [sessions.start(session, person_id, "tests", now, confirmed=True) for _ in range(count)]


def principal(databases: Databases, vault: Vault, *roles: str) -> PersonPrincipal:
    """A new person with these roles as services take them."""
    token = new_session(databases, new_person(databases, vault, *roles))
    with transaction(databases.content) as session:
        return sessions.authenticate(session, vault, token, datetime.now(UTC))


@contextmanager
def logged_in(settings: Settings, databases: Databases, vault: Vault, *roles: str) -> Iterator[Member]:
    """Somebody with these roles, calling an API of its own; redirects are not followed."""
    person_id = new_person(databases, vault, *roles)
    token = new_session(databases, person_id)
    headers = {"Authorization": f"Bearer {token}"}
    with Member(create_app(settings), headers=headers, follow_redirects=False) as client:
        client.person_id, client.token = person_id, token
        yield client


class Browser(TestClient):
    """A browser without JavaScript: keeps cookies, and sends the form that stands on the page it looks at."""

    csrf: str = ""

    def look(self, path: str, **headers: str) -> Response:
        """Open a page, and take note of its form's token."""
        answer = self.get(path, headers=headers)
        self._note(answer)
        return answer

    def fill(self, path: str, headers: Mapping[str, str] | None = None, **fields: Any) -> Response:
        """Send a form, as the page looked at last has it."""
        answer = self.post(path, data={"csrf": self.csrf} | fields, headers=headers)
        self._note(answer)
        return answer

    def enter(self, account: Account) -> Response:
        """Log in, with both factors."""
        self.look("/console/login")
        self.fill("/console/login", email=account.email, password=account.password)
        self.look("/console/second-factor")
        return self.fill("/console/second-factor", code=account.code())

    def _note(self, answer: Response) -> None:
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', answer.text)
        self.csrf = found[1] if found else self.csrf


@contextmanager
def browsing(settings: Settings, address: str = "testclient") -> Iterator[Browser]:
    """A browser at an address, on a console of its own; redirects are not followed."""
    with Browser(create_app(settings), client=(address, 50000), follow_redirects=False) as browser:
        yield browser
