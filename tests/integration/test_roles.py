"""The application's role is made at migration time, by whoever may, and everything else is said in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from moderation.domain.errors import Conflict
from moderation.embedded import Postgres
from moderation.storage import migrate, roles
from tests.conftest import NOW


class Place:
    """Two databases of a test's own, that belong to a role which is no superuser."""

    def __init__(self, postgres: Postgres, admin: Engine, name: str) -> None:
        self.postgres, self.admin, self.name = postgres, admin, name
        self.application = f"{name}_app"
        self.run(
            f"CREATE ROLE {name} LOGIN", *(f"CREATE DATABASE {db} OWNER {name}" for db in self.databases)
        )

    @property
    def databases(self) -> tuple[str, str]:
        return f"{self.name}_content", f"{self.name}_keystore"

    def run(self, *statements: str) -> None:
        with self.admin.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))

    def urls(self, role: str, password: str = "") -> tuple[str, str]:
        shown = f"{role}:{password}@" if password else f"{role}@"
        first, second = (self.postgres.url(db, role).replace(f"{role}@", shown, 1) for db in self.databases)
        return first, second

    def migrate(self, password: str = "") -> None:
        migrate.migrate(*self.urls(self.name), NOW, applications=self.urls(self.application, password))

    def close(self) -> None:
        self.run(*(f"DROP DATABASE {db} WITH (FORCE)" for db in self.databases))
        self.run(f"DROP ROLE IF EXISTS {self.application}", f"DROP ROLE {self.name}")


@pytest.fixture
def place(postgres: Postgres) -> Iterator[Place]:
    admin = create_engine(postgres.url("postgres"), isolation_level="AUTOCOMMIT")
    found = Place(postgres, admin, f"owner_{uuid4().hex[:8]}")
    yield found
    found.close()
    admin.dispose()


def works(place: Place) -> None:
    for url in place.urls(place.application):
        engine = create_engine(url)
        with engine.connect() as connection:
            assert not roles.is_owner(connection)
        engine.dispose()
    engine = create_engine(place.urls(place.application)[0])
    with engine.begin() as connection:
        connection.execute(text("UPDATE items SET attempts = 0"))
    with pytest.raises(DBAPIError, match="permission denied"), engine.begin() as connection:
        connection.execute(text("UPDATE policies SET document = ''"))
    engine.dispose()


def test_an_owner_who_may_not_create_roles_says_what_to_run(place: Place) -> None:
    with pytest.raises(Conflict, match=f"CREATE ROLE {place.application} LOGIN PASSWORD"):
        place.migrate("hunter2")
    place.run(f"CREATE ROLE {place.application} LOGIN")
    place.migrate()
    place.migrate()
    works(place)


def test_an_owner_who_may_creates_it_with_the_password_of_its_address(place: Place) -> None:
    place.run(f"ALTER ROLE {place.name} CREATEROLE")
    place.migrate("hunter2")
    works(place)
    with place.admin.connect() as connection:
        stored = connection.scalar(
            text("SELECT rolpassword FROM pg_authid WHERE rolname = :name"), {"name": place.application}
        )
    assert stored.startswith("SCRAM-SHA-256$")


def test_a_grant_that_was_too_wide_is_taken_back(place: Place) -> None:
    place.run(f"CREATE ROLE {place.application} LOGIN")
    place.migrate()
    engine = create_engine(place.urls(place.name)[0])
    with engine.begin() as connection:
        connection.execute(text(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {place.application}"))
    engine.dispose()
    place.migrate()
    works(place)


def test_without_an_owner_of_its_own_the_application_migrates_as_before(place: Place) -> None:
    migrate.migrate(*place.urls(place.name), NOW)
    engine = create_engine(place.urls(place.name)[0])
    with engine.connect() as connection:
        assert roles.is_owner(connection), "and doctor says so"
        assert not connection.scalar(text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"))
    engine.dispose()
