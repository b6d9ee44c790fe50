"""What an installation needs before it serves: migrations, keys, a policy, models, a first key and admin."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from models.registry import KINDS, shipped
from moderation.domain.access import Role
from moderation.governance import accounts, erasure, models, people, policies, rotation, trials
from moderation.settings import Settings
from moderation.storage.database import connect, transaction
from moderation.storage.migrate import migrate
from moderation.storage.vault import Vault

SERVICE_KEYS = ("lookup", "accounts", "signing")
FIRST_CLIENT = "first"
FIRST_ADMIN = "admin@localhost"
# A lead too: somebody has to see the first cases before there is anybody else.
FIRST_ROLES = (Role.ADMIN, Role.LEAD)


@dataclass(frozen=True, slots=True)
class FirstRun:
    """What a first run created, in the clear for the only time."""

    api_key: str
    email: str
    password: str
    totp_secret: str


def upgrade(settings: Settings, now: datetime) -> None:
    """Bring both databases to the newest level, as their owner, and grant the application its rights."""
    urls = (settings.database_url, settings.keystore_url)
    owners = (settings.owner_url or urls[0], settings.owner_keystore_url or urls[1])
    migrate(*owners, now, applications=urls)


def prepare(settings: Settings) -> FirstRun | None:
    """Bring an installation to where it can serve. Idempotent; None unless this was its first run.

    Raises:
        models.registry.ArtifactError: a shipped model is damaged.
    """
    now = datetime.now(UTC)
    upgrade(settings, now)
    databases = connect(settings.database_url, settings.keystore_url, pool_size=1)
    try:
        vault = Vault(databases.keystore, settings.kek)
        vault.ensure_service_keys(SERVICE_KEYS, now)
        rotation.note(databases, vault, now, "operator")
        # A restored copy is older than what it forgot: whoever was erased is hidden again before anybody is served.
        erasure.replay(databases, now)
        with transaction(databases.content) as session:
            exchangeable = [manifest for manifest in shipped() if manifest.kind in KINDS]
            models.settle(session, exchangeable, settings.models, now)
            trials.settle(session, settings.models, now)
            # A published policy stays: the default document is only ever the first one.
            if not policies.published(session):
                policies.publish(session, policies.default_document(), "operator", now)
            if people.anybody(session):
                return None
            key = accounts.create_api_key(session, vault, FIRST_CLIENT, list(accounts.Scope), now, "operator")
            admin = people.create_first(session, vault, FIRST_ADMIN, FIRST_ROLES, now, "operator")
    finally:
        databases.dispose()
    return FirstRun(key, admin.email, admin.password, admin.totp_secret)
