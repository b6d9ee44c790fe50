"""Row 15: nothing is handed to an authority without an approved record, and each is counted."""

from __future__ import annotations

import hashlib
import io
import zipfile
from datetime import datetime
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from moderation.domain.access import Role
from moderation.domain.errors import Conflict
from moderation.domain.policy import Policy
from moderation.governance import disclosures, preservation
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.vault import Vault
from tests import people
from tests.holding import Place


@pytest.fixture
def place(
    databases: Databases, vault: Vault, blobs: FolderBlobs, policy: Policy, now: datetime, settings: Settings
) -> Place:
    ann, bob = (people.principal(databases, vault, Role.LEGAL) for _ in range(2))
    return Place(databases, vault, blobs, policy, ann, bob, now)


@pytest.fixture
def asked(place: Place) -> UUID:
    """A disclosure that nobody approved yet."""
    items = place.submit("acct-1", place.now, 2)
    package = preservation.seal(
        place.databases, place.vault, place.blobs, author_id=place.author_of(items[0]), items=items,
        cause="hold", basis="Order to preserve", created_by="machine", now=place.now,
    )  # fmt: skip
    with transaction(place.databases.content) as session:
        return disclosures.request(
            session, place.vault, place.ann, package, "District court", "Order", "", place.now
        )


def handed(place: Place, disclosure: UUID) -> disclosures.HandOver:
    with transaction(place.databases.content) as session:
        return disclosures.hand_over(session, place.vault, place.blobs, place.ann, disclosure, place.now)


def exported(place: Place) -> list[str]:
    """What the transparency report counts."""
    with place.databases.content.connect() as connection:
        found = connection.execute(text("SELECT sha256 FROM disclosures WHERE state = 'exported'"))
        return list(found.scalars())


def test_no_export_without_an_approved_record(place: Place, asked: UUID) -> None:
    with pytest.raises(Conflict):
        handed(place, asked)
    for change in (
        "state = 'exported', sha256 = repeat('0', 64)",
        "state = 'exported', approved_by = requested_by, sha256 = repeat('0', 64)",
        "state = 'approved'",
    ):
        with place.databases.content.begin() as connection, pytest.raises(IntegrityError):
            connection.execute(text(f"UPDATE disclosures SET {change}"))
    assert exported(place) == []


def test_what_is_exported_is_counted_by_the_hash_of_its_manifest(place: Place, asked: UUID) -> None:
    with transaction(place.databases.content) as session:
        disclosures.approve(session, place.bob, asked, place.now)
    assert exported(place) == [], "approved is not yet handed over"
    archive = zipfile.ZipFile(io.BytesIO(b"".join(handed(place, asked).archive())))
    digest = hashlib.sha256(archive.read("manifest.json")).hexdigest()
    assert exported(place) == [digest]
