"""Row 13: what the law has kept is kept for the legal role alone, and ends by itself when its floor has passed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from moderation.domain.access import GRANTS, Permission, Role
from moderation.domain.cases import CaseReason
from moderation.domain.decisions import CaseDraft
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.governance import erasure
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, Item
from moderation.storage.vault import Vault
from tests import people
from tests.caseload import Caseload
from tests.support import MILD, post


@pytest.fixture
def kept(client: TestClient, load: Caseload) -> UUID:
    """Of the gravest category, before people, and deleted by its content service."""
    item = client.post("/v1/items", json=post()).json()
    draft = CaseDraft(CaseReason.UNCERTAIN, "sexual_minors", 5, 0.6)
    load.routed([UUID(item["id"])], Route.REVIEW, draft, "sexual_minors")
    assert client.delete(item["status_url"]).status_code == 204
    return UUID(item["id"])


@pytest.mark.parametrize("role", list(Role))
def test_only_the_legal_role_reads_it(
    settings: Settings, databases: Databases, vault: Vault, kept: UUID, role: Role
) -> None:
    may = Permission.EVIDENCE_READ in GRANTS[role]
    assert may == (role is Role.LEGAL)
    with people.logged_in(settings, databases, vault, role) as member:
        pages = [
            f"/console/governance/evidence/{kept}",
            f"/console/items/{kept}/content",
            f"/console/items/{kept}",
        ]
        shown = [MILD in member.get(page).text for page in pages]
    assert shown == [may, False, False]
    with transaction(databases.content) as session:
        views = session.scalars(select(AuditEvent.actor).where(AuditEvent.action == "item.viewed")).all()
    assert len(views) == int(may), "and that they looked is on record"


def test_it_ends_by_itself_when_the_floor_has_passed(
    databases: Databases, vault: Vault, blobs: FolderBlobs, policy: Policy, kept: UUID
) -> None:
    with transaction(databases.content) as session:
        item = session.get_one(Item, kept)
        floor = item.received_at + timedelta(days=policy.retention.classes["grave"].floor_days)
    assert floor > datetime.now(UTC) + timedelta(days=300)
    assert erasure.sweep(databases, vault, blobs, floor - timedelta(seconds=1)) == 0
    assert set(vault.item_keys([kept])) == {kept}
    assert erasure.sweep(databases, vault, blobs, floor) == 1
    assert vault.item_keys([kept]) == {}
