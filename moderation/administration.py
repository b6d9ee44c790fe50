"""What an operator does from the command line: policies and API keys. Each call owns its transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from moderation.domain.policy import Policy
from moderation.governance import accounts, policies
from moderation.settings import Settings
from moderation.storage.database import connect, transaction
from moderation.storage.tables import ApiKey
from moderation.storage.vault import Vault

OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class _Open:
    session: Session
    vault: Vault
    now: datetime


@contextmanager
def _opened(settings: Settings) -> Iterator[_Open]:
    databases = connect(settings.database_url, settings.keystore_url, pool_size=1)
    try:
        with transaction(databases.content) as session:
            yield _Open(session, Vault(databases.keystore, settings.kek), datetime.now(UTC))
    finally:
        databases.dispose()


def policy_in_force(settings: Settings) -> tuple[int, str]:
    """Version and YAML document of the newest policy.

    Raises:
        NotFound: none is published.
    """
    with _opened(settings) as held:
        return policies.newest_document(held.session)


def publish_policy(settings: Settings, document: str) -> Policy:
    """Publish a YAML document as the next version.

    Raises:
        PolicyInvalid: with every fault and its line.
    """
    with _opened(settings) as held:
        return policies.publish(held.session, document, OPERATOR, held.now)


def create_key(settings: Settings, client: str, scopes: Sequence[str]) -> str:
    """A new API key for `client`, in the clear for the only time.

    Raises:
        InvalidInput: the name or a scope is unknown to us.
    """
    with _opened(settings) as held:
        return accounts.create_api_key(
            held.session, held.vault, client, scopes or list(accounts.Scope), held.now, OPERATOR
        )


def keys(settings: Settings) -> Sequence[ApiKey]:
    """Every API key, newest first, revoked ones too; never its secret."""
    with _opened(settings) as held:
        return accounts.api_keys(held.session)


def revoke_key(settings: Settings, key_id: str) -> None:
    """Revoke a key at once.

    Raises:
        NotFound: there is no such key, or it is revoked already.
    """
    with _opened(settings) as held:
        accounts.revoke_api_key(held.session, key_id, held.now, OPERATOR)
