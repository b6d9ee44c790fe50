"""Real servers for the tests: one PostgreSQL and one Valkey per run, a freshly migrated database, emptied per test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from moderation import setup
from moderation.embedded import Broker, Postgres
from moderation.settings import Limits, Settings, Work
from moderation.storage.database import Databases, connect
from moderation.storage.keystore import KeystoreBase
from moderation.storage.tables import Base
from moderation.storage.vault import Vault

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
KEPT = {"service_keys", "policies", "models", "model_aliases", "audit_events"}


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL of this run's own."""
    with Postgres(tmp_path_factory.mktemp("postgres")) as server:
        server.create_database("moderation")
        server.create_database("keystore")
        yield server


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A Valkey of this run's own."""
    with Broker(tmp_path_factory.mktemp("broker")) as server:
        yield server


@pytest.fixture(scope="session")
def prepared(
    postgres: Postgres, broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Settings, setup.FirstRun]:
    """An installation after its first run."""
    settings = Settings(
        database_url=postgres.url("moderation"),
        keystore_url=postgres.url("keystore"),
        redis_url=broker.url,
        kek=os.urandom(32),
        blob_dir=tmp_path_factory.mktemp("blobs"),
        insecure_dev=True,
        limits=Limits(),
        work=Work(lease_seconds=5.0, retry_seconds=0.05),
    )
    created = setup.prepare(settings)
    assert created is not None
    return settings, created


@pytest.fixture
def settings(prepared: tuple[Settings, setup.FirstRun], databases: Databases) -> Settings:
    """The settings of an installation whose tables are empty but for keys, policy and models."""
    return prepared[0]


@pytest.fixture(scope="session")
def _engines(prepared: tuple[Settings, setup.FirstRun]) -> Iterator[Databases]:
    engines = connect(prepared[0].database_url, prepared[0].keystore_url)
    yield engines
    engines.dispose()


@pytest.fixture
def databases(_engines: Databases) -> Databases:
    """Both databases, emptied: every table but the installation's own set-up."""
    _empty(_engines)
    return _engines


def _empty(engines: Databases) -> None:
    for engine, metadata in ((engines.content, Base.metadata), (engines.keystore, KeystoreBase.metadata)):
        names = ", ".join(name for name in metadata.tables if name not in KEPT)
        with engine.begin() as connection:
            # The log refuses to be emptied; only its owner may lift that, and only here.
            if metadata is Base.metadata:
                connection.execute(text("ALTER TABLE audit_events DISABLE TRIGGER USER"))
                connection.execute(text(f"TRUNCATE {names}, audit_events CASCADE"))
                connection.execute(text("ALTER TABLE audit_events ENABLE TRIGGER USER"))
            else:
                connection.execute(text(f"TRUNCATE {names} CASCADE"))


@pytest.fixture
def vault(databases: Databases, settings: Settings) -> Vault:
    """The vault of the installation."""
    return Vault(databases.keystore, settings.kek)


@pytest.fixture
def now() -> datetime:
    """The moment at which a test happens."""
    return NOW


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).parent.parent
