"""Real servers for the tests: one PostgreSQL and one Valkey per run, a migrated database, emptied per test."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis

from moderation import keks, setup
from moderation.domain.policy import Policy
from moderation.embedded import Broker, Postgres
from moderation.embedded.postgres import APPLICATION
from moderation.features import decode
from moderation.governance import policies
from moderation.settings import Limits, Settings, Work
from moderation.storage import database
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, connect
from moderation.storage.vault import Vault
from tests import support

SECONDS_A_DAY = 86_400
NEAR_MIDNIGHT = 45  # longer than a test takes that depends on the day
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

# The same examples in every run, and none refused for being slow on a busy machine.
hypothesis.register_profile(
    "tests",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
hypothesis.load_profile("tests")

# A picture is too slow after two seconds, which a machine that stalls must not make it: one test sets its own.
decode.START_SECONDS = 60.0
database.CONNECT_SECONDS = 60
decode.Decoder.__init__.__kwdefaults__["wall_seconds"] = 60.0


@pytest.fixture(autouse=True)
def _not_across_midnight() -> None:
    """Some limits are by the day: what a test does is done on one day, in UTC."""
    left = SECONDS_A_DAY - time.time() % SECONDS_A_DAY
    if left < NEAR_MIDNIGHT:
        time.sleep(left + 0.1)


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
        database_url=postgres.url("moderation", APPLICATION),
        keystore_url=postgres.url("keystore", APPLICATION),
        owner_url=postgres.url("moderation"),
        owner_keystore_url=postgres.url("keystore"),
        redis_url=broker.url,
        kek=keks.single(os.urandom(32)),
        blob_dir=tmp_path_factory.mktemp("blobs"),
        insecure_dev=True,
        limits=Limits(),
        work=Work(lease_seconds=120.0, retry_seconds=0.05),
    )
    created = setup.prepare(settings)
    assert created is not None
    return settings, created


@pytest.fixture
def settings(prepared: tuple[Settings, setup.FirstRun], databases: Databases) -> Settings:
    """The settings of an installation that is empty but for its keys, policy and models."""
    shutil.rmtree(prepared[0].blob_dir)
    prepared[0].blob_dir.mkdir()
    return prepared[0]


@pytest.fixture(scope="session")
def _engines(prepared: tuple[Settings, setup.FirstRun]) -> Iterator[Databases]:
    engines = connect(prepared[0].database_url, prepared[0].keystore_url)
    yield engines
    engines.dispose()


@pytest.fixture
def databases(_engines: Databases) -> Databases:
    """Both databases, emptied: every table but the installation's own set-up."""
    support.emptied(_engines)
    return _engines


@pytest.fixture
def vault(databases: Databases, settings: Settings) -> Vault:
    """The vault of the installation."""
    return Vault(databases.keystore, settings.kek)


@pytest.fixture
def blobs(settings: Settings) -> FolderBlobs:
    """The blob store of the installation."""
    return FolderBlobs(settings.blob_dir)


@pytest.fixture
def api_key(databases: Databases, vault: Vault) -> str:
    """A key of the client `app` with every scope."""
    return support.new_key(databases, vault, "app")


@pytest.fixture
def client(settings: Settings, api_key: str) -> Iterator[TestClient]:
    """The client `app`, calling."""
    with support.calling(settings, api_key) as client:
        yield client


@pytest.fixture
def policy() -> Policy:
    """The policy a new installation starts with."""
    return policies.read(policies.default_document(), 1)


@pytest.fixture
def now() -> datetime:
    """The moment at which a test happens."""
    return NOW


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).parent.parent
