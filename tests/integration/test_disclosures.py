"""Disclosures: nothing is handed over that nobody approved, and what was handed over can be shown to be it."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import zipfile
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from moderation.domain.access import Role
from moderation.domain.errors import Conflict, Forbidden, Gone, InvalidInput, NotFound
from moderation.domain.policy import Policy
from moderation.governance import disclosures, preservation
from moderation.governance.disclosures import HandOver
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, Disclosure
from moderation.storage.vault import Vault
from tests import people
from tests.holding import Place

DAY = timedelta(days=1)


@pytest.fixture
def place(databases: Databases, vault: Vault, blobs: FolderBlobs, policy: Policy, now: datetime) -> Place:
    """An installation with two people of the legal role."""
    ann, bob = (people.principal(databases, vault, Role.LEGAL) for _ in range(2))
    return Place(databases, vault, blobs, policy, ann, bob, now)


@pytest.fixture
def package(place: Place) -> UUID:
    items = place.submit("acct-1", place.now, 3)
    return preservation.seal(
        place.databases, place.vault, place.blobs, author_id=place.author_of(items[0]), items=items,
        cause="hold", basis="Order to preserve", created_by="machine", now=place.now,
    )  # fmt: skip


def asked(place: Place, package: UUID) -> UUID:
    with transaction(place.databases.content) as session:
        return disclosures.request(
            session,
            place.vault,
            place.ann,
            package,
            "District court",
            "Order of 1 November",
            "7 C 1/26",
            place.now,
        )


def approved(place: Place, package: UUID) -> UUID:
    identifier = asked(place, package)
    with transaction(place.databases.content) as session:
        disclosures.approve(session, place.bob, identifier, place.now)
    return identifier


def handed(
    place: Place, disclosure: UUID, now: datetime | None = None, person: PersonPrincipal | None = None
) -> HandOver:
    with transaction(place.databases.content) as session:
        return disclosures.hand_over(
            session, place.vault, place.blobs, person or place.ann, disclosure, now or place.now
        )


def test_what_is_handed_over_is_what_was_sealed_and_its_manifest_is_on_record(
    place: Place, package: UUID, tmp_path: Path
) -> None:
    identifier = approved(place, package)
    given = handed(place, identifier)
    archive = zipfile.ZipFile(io.BytesIO(b"".join(given.archive())))
    assert archive.testzip() is None
    manifest = json.loads(archive.read("manifest.json"))
    with transaction(place.databases.content) as session:
        row = disclosures.get(session, identifier)
        event = session.scalars(select(AuditEvent).where(AuditEvent.action == "disclosure.exported")).one()
    digest = hashlib.sha256(archive.read("manifest.json")).hexdigest()
    assert (row.state, row.sha256, row.exported_by) == ("exported", digest, place.ann.person_id)
    assert (event.details["sha256"], event.details["purpose"]) == (digest, "legal")
    assert manifest["authority"] == "District court"
    assert manifest["reference"] == "7 C 1/26"
    assert {one["name"] for one in manifest["files"]} == set(archive.namelist()) - {
        "manifest.json",
        "SHA256SUMS",
    }
    for one in manifest["files"]:
        data = archive.read(one["name"])
        assert (len(data), hashlib.sha256(data).hexdigest()) == (one["size"], one["sha256"])
    archive.extractall(tmp_path)
    checked = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path, capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
    assert sum(name.endswith(".txt") for name in archive.namelist()) == 3


def test_an_encrypted_archive_opens_with_openssl(place: Place, package: UUID, tmp_path: Path) -> None:
    given = handed(place, approved(place, package))
    sealed = b"".join(given.archive("correct horse battery"))
    assert b"manifest.json" not in sealed
    (tmp_path / "FILE.zip.enc").write_bytes(sealed)
    command = [*disclosures.OPENSSL.split(), "-pass", "pass:correct horse battery"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert zipfile.ZipFile(tmp_path / "FILE.zip").read("manifest.json") == given.manifest


def test_a_passphrase_is_long_and_written_twice() -> None:
    assert disclosures.checked_passphrase("", "") == ""
    for once, again in (("short", "short"), ("long enough, really", "another one, also long")):
        with pytest.raises(InvalidInput):
            disclosures.checked_passphrase(once, again)


def test_four_eyes(place: Place, package: UUID, databases: Databases) -> None:
    identifier = asked(place, package)
    with pytest.raises(Conflict, match="before somebody approved it"):
        handed(place, identifier)
    with transaction(databases.content) as session, pytest.raises(Forbidden, match="somebody else"):
        disclosures.approve(session, place.ann, identifier, place.now)
    for change, name in (
        ("state = 'approved'", "ck_disclosures_approved"),
        ("state = 'exported', sha256 = repeat('0', 64)", "ck_disclosures_approved"),
        ("state = 'approved', approved_by = requested_by", "four_eyes"),
    ):
        with databases.content.begin() as connection, pytest.raises(IntegrityError, match=name):
            connection.execute(text(f"UPDATE disclosures SET {change}"))
    with (
        databases.content.begin() as connection,
        pytest.raises(IntegrityError, match="ck_disclosures_manifest"),
    ):
        connection.execute(
            text("UPDATE disclosures SET state = 'exported', approved_by = :bob"),
            {"bob": place.bob.person_id},
        )


def test_who_reads_no_evidence_hands_nothing_over(
    place: Place, package: UUID, databases: Databases, vault: Vault
) -> None:
    identifier = approved(place, package)
    officer = people.principal(databases, vault, Role.PRIVACY_OFFICER)
    with pytest.raises(Forbidden):
        handed(place, identifier, person=officer)
    with transaction(databases.content) as session:
        assert disclosures.get(session, identifier).state == "approved"


def test_a_refusal_is_the_end_of_it(place: Place, package: UUID) -> None:
    identifier = asked(place, package)
    with transaction(place.databases.content) as session:
        disclosures.refuse(session, place.ann, identifier, place.now)
    with transaction(place.databases.content) as session, pytest.raises(Conflict):
        disclosures.approve(session, place.bob, identifier, place.now)
    with pytest.raises(Conflict, match="refused"):
        handed(place, identifier)


def test_a_download_that_broke_off_is_repeated_for_a_day(place: Place, package: UUID) -> None:
    identifier = approved(place, package)
    first = handed(place, identifier)
    again = handed(place, identifier, place.now + timedelta(hours=3), place.bob)
    assert (again.sha256, again.manifest) == (first.sha256, first.manifest)
    with transaction(place.databases.content) as session:
        row = session.scalars(select(Disclosure)).one()
        assert (row.exported_by, row.exported_at) == (place.ann.person_id, place.now)
        exported = select(AuditEvent.actor).where(AuditEvent.action == "disclosure.exported")
        assert set(session.scalars(exported)) == {place.ann.actor, place.bob.actor}
    with pytest.raises(Conflict, match="more than a day ago"):
        handed(place, identifier, place.now + timedelta(hours=25))


def test_of_a_package_that_is_gone_nothing_is_handed_over(place: Place, package: UUID) -> None:
    identifier = approved(place, package)
    preservation.destroy_due(place.databases, place.vault, place.blobs, place.now + 366 * DAY)
    with pytest.raises(Gone):
        handed(place, identifier, place.now + 366 * DAY)
    with transaction(place.databases.content) as session:
        assert disclosures.get(session, identifier).state == "approved", "it was not handed over"
        with pytest.raises(Gone):
            disclosures.request(session, place.vault, place.ann, package, "A", "B", "", place.now + 367 * DAY)
        with pytest.raises(NotFound):
            disclosures.request(session, place.vault, place.ann, uuid4(), "A", "B", "", place.now)
