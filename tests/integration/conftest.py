"""A caseload, and people to work on it."""

from __future__ import annotations

from datetime import datetime

import pytest

from moderation.domain.policy import Policy
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases
from moderation.storage.vault import Vault
from tests import people
from tests.caseload import Caseload


@pytest.fixture
def load(databases: Databases, vault: Vault, blobs: FolderBlobs, policy: Policy, now: datetime) -> Caseload:
    """Cases, and a clock that the test moves by hand."""
    return Caseload(databases, vault, blobs, policy, now)


@pytest.fixture
def ann(databases: Databases, vault: Vault) -> PersonPrincipal:
    """A moderator."""
    return people.principal(databases, vault, "moderator")


@pytest.fixture
def bob(databases: Databases, vault: Vault) -> PersonPrincipal:
    """Another moderator."""
    return people.principal(databases, vault, "moderator")


@pytest.fixture
def lead(databases: Databases, vault: Vault) -> PersonPrincipal:
    """Somebody who settles what others disagree on."""
    return people.principal(databases, vault, "lead")
