"""Row 4: encryption in transit. A process refuses to start where its data would travel in the clear.

Every address and disguise is tried in `tests/unit/test_settings.py`, those of webhooks in
`tests/unit/test_outbound.py`; here the commands themselves are started.
"""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime

import pytest

from moderation.domain.errors import InvalidInput
from moderation.governance import webhooks
from moderation.settings import PREFIX, SettingsError, from_environment
from moderation.storage.database import Databases, transaction
from moderation.storage.vault import Vault

SAFE = {
    "DATABASE_URL": "postgresql://app@db.example/moderation?sslmode=verify-full",
    "KEYSTORE_URL": "postgresql://app@db.example/keystore?sslmode=verify-full",
    "OWNER_DATABASE_URL": "postgresql://owner@db.example/moderation?sslmode=verify-full",
    "OWNER_KEYSTORE_URL": "postgresql://owner@db.example/keystore?sslmode=verify-full",
    "REDIS_URL": "rediss://broker.example",
    "KEK": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "BLOB_DIR": "/nowhere",
}
PLAIN = {
    "DATABASE_URL": "postgresql://app@db.example/moderation",
    "KEYSTORE_URL": "postgresql://app@db.example/keystore?sslmode=disable",
    "OWNER_DATABASE_URL": "postgresql://owner@db.example/moderation?sslmode=prefer",
    "OWNER_KEYSTORE_URL": "postgresql://owner@db.example/keystore",
    "REDIS_URL": "redis://broker.example",
    "CONSOLE_URL": "http://moderation.example",
    "OIDC_ISSUER": "http://login.example",
}
LOCAL = {
    "DATABASE_URL": "postgresql://app@/moderation?host=/run/postgresql",
    "KEYSTORE_URL": "postgresql://app@127.0.0.1/keystore",
    "OWNER_DATABASE_URL": "postgresql://owner@[::1]/moderation",
    "REDIS_URL": "unix:///run/broker.sock",
    "CONSOLE_URL": "http://localhost:8000",
}


def environment(**changes: str) -> dict[str, str]:
    return {PREFIX + name: value for name, value in (SAFE | changes).items()}


def start(command: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return subprocess.run(
        [sys.executable, "-m", "moderation", command],
        env=bare | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("serve", "DATABASE_URL"),
        ("relay", "KEYSTORE_URL"),
        ("migrate", "OWNER_DATABASE_URL"),
        ("work", "REDIS_URL"),
    ],
)
def test_a_process_does_not_start_on_a_plaintext_address(command: str, name: str) -> None:
    started = start(command, environment(**{name: PLAIN[name]}))
    assert started.returncode == 2
    assert f"MODERATION_{name} would carry data unencrypted" in started.stderr
    assert PLAIN[name] not in started.stderr


@pytest.mark.parametrize("name", PLAIN)
def test_each_plaintext_address_is_refused_unless_insecure_dev(name: str) -> None:
    plain = environment(**{name: PLAIN[name]}, OIDC_CLIENT_ID="id", OIDC_CLIENT_SECRET="secret")
    with pytest.raises(SettingsError, match=name):
        from_environment(plain)
    assert from_environment(plain | {PREFIX + "INSECURE_DEV": "1"}).insecure_dev


@pytest.mark.parametrize("name", LOCAL)
def test_sockets_and_loopback_are_exempt(name: str) -> None:
    assert not from_environment(environment(**{name: LOCAL[name]})).insecure_dev


@pytest.mark.parametrize(
    "url", ["http://app.example/hook", "http://127.0.0.1/hook", "https://127.0.0.1/hook"]
)
def test_a_webhook_goes_over_tls_to_the_public_net_only(
    databases: Databases, vault: Vault, now: datetime, url: str
) -> None:
    with transaction(databases.content) as session, pytest.raises(InvalidInput, match=r"url|https"):
        webhooks.register(session, vault, "app", "hook", url, ["item.decided"], False, now)
