"""Preservation packages: what is sealed, who outlives whom, and how one ends."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text

from moderation.domain.access import Role
from moderation.domain.errors import Conflict, Gone, InvalidInput, NotFound
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.governance import erasure, preservation
from moderation.governance.erasing import orphans
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, Preservation
from moderation.storage.vault import Vault, VaultError
from tests import people, reviewing, support
from tests.holding import Place

DAY = timedelta(days=1)
BASIS = "18 USC 2258A(h)"


@pytest.fixture
def place(databases: Databases, vault: Vault, blobs: FolderBlobs, policy: Policy, now: datetime) -> Place:
    """An installation with two people of the legal role."""
    ann, bob = (people.principal(databases, vault, Role.LEGAL) for _ in range(2))
    return Place(databases, vault, blobs, policy, ann, bob, now)


@pytest.fixture
def item(client: TestClient, databases: Databases, policy: Policy, now: datetime) -> UUID:
    """A post of a text and a picture that was reported and removed."""
    made = client.post("/v1/items", json=support.post("post-1", support.text_part(), support.image_part()))
    identifier = UUID(made.json()["id"])
    report = {"reporter": "reader-77", "category": "harassment", "comment": "This is about somebody I know."}
    assert client.post(f"/v1/items/{identifier}/reports", json=report).status_code in (201, 202)
    reviewing.decide(databases, policy, identifier, now, Route.REMOVE, "harassment")
    return identifier


def sealed(place: Place, items: list[UUID], **changes: Any) -> UUID:
    options: dict[str, Any] = {"cause": "minor", "basis": BASIS, "created_by": "machine", "now": place.now}
    author = changes.pop("author_id", None) or place.author_of(items[0])
    return preservation.seal(
        place.databases, place.vault, place.blobs, author_id=author, items=items, **options | changes
    )


def opened(place: Place, package: UUID) -> preservation.Package:
    with transaction(place.databases.content) as session:
        row = preservation.get(session, package)
    return preservation.open_package(place.vault, place.blobs, row)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_everything_of_an_item_is_sealed_and_nobody_who_reported_it(
    place: Place, item: UUID, databases: Databases
) -> None:
    package = opened(place, sealed(place, [item]))
    assert package.names() == [
        "author.json", f"items/{item}/record.json", f"items/{item}/0-body.txt", f"items/{item}/1-photo.png",
    ]  # fmt: skip
    assert package.file(f"items/{item}/0-body.txt").decode() == support.MILD
    assert package.file(f"items/{item}/1-photo.png").startswith(b"\x89PNG")
    assert json.loads(package.file("author.json"))["reference"] == "acct-1"
    record = json.loads(package.file(f"items/{item}/record.json"))
    assert record["item"]["external_id"] == "post-1"
    assert record["item"]["posted_at"] <= record["item"]["received_at"]
    assert [one["verdict"] for one in record["decisions"]] == ["remove"]
    assert [one["comment"] for one in record["reports"]] == ["This is about somebody I know."]
    everything = b"".join(package.file(name) for name in package.names()) + str(package.manifest).encode()
    assert b"reader-77" not in everything
    for one in package.manifest["files"]:
        data = package.file(one["name"])
        assert (len(data), hashlib.sha256(data).hexdigest()) == (one["size"], one["sha256"])
    with transaction(databases.content) as session:
        row = session.scalars(select(Preservation)).one()
        event = session.scalars(select(AuditEvent).where(AuditEvent.action == "preservation.sealed")).one()
    assert (row.items, row.sha256, row.keep_until) == (1, package.sha256, place.now + 365 * DAY)
    assert event.details["sha256"] == package.sha256


def test_the_blob_store_holds_nothing_that_can_be_read(place: Place, item: UUID, settings: Settings) -> None:
    sealed(place, [item])
    raw = b"".join(path.read_bytes() for path in settings.blob_dir.rglob("*") if path.is_file())
    for secret in (support.MILD.encode(), b"acct-1", b"somebody I know", b"PNG", BASIS.encode()):
        assert secret not in raw


def test_a_package_outlives_its_author(place: Place, item: UUID) -> None:
    package = sealed(place, [item])
    place.erase(place.author_of(item), place.now)
    place.carry_out(place.now)
    assert place.gone(item)
    assert opened(place, package).file(f"items/{item}/0-body.txt").decode() == support.MILD


def test_it_is_destroyed_when_it_is_due_and_not_before(place: Place, item: UUID, settings: Settings) -> None:
    before = files(settings.blob_dir)
    package = sealed(place, [item])
    assert len(files(settings.blob_dir)) > len(before) + 3
    until = place.now + 365 * DAY

    def destroy(moment: datetime) -> int:
        return preservation.destroy_due(place.databases, place.vault, place.blobs, moment)

    assert destroy(until - timedelta(seconds=1)) == 0
    assert opened(place, package)
    assert destroy(until) == 1
    assert files(settings.blob_dir) == before, "the item's own picture is another's business"
    with pytest.raises(VaultError):
        place.vault.package_key(package)
    with pytest.raises(Gone):
        opened(place, package)
    assert destroy(until + DAY) == 0


def test_a_destruction_that_was_interrupted_is_taken_up_again(
    place: Place, item: UUID, settings: Settings
) -> None:
    before = files(settings.blob_dir)
    package = sealed(place, [item])
    place.vault.destroy_package_keys([package])
    with pytest.raises(Gone):
        opened(place, package)
    assert preservation.destroy_due(place.databases, place.vault, place.blobs, place.now + 366 * DAY) == 1
    assert files(settings.blob_dir) == before


def test_it_is_kept_longer_on_a_new_basis_only(place: Place, item: UUID) -> None:
    package, now = sealed(place, [item], keep_until=place.now + 30 * DAY), place.now + DAY
    for basis, until, fault in (
        (BASIS.lower(), now + 90 * DAY, "had this one already"),
        ("", now + 90 * DAY, "missing"),
        ("Order of 2 December", now + 400 * DAY, "must lie ahead"),
    ):
        with transaction(place.databases.content) as session, pytest.raises(InvalidInput, match=fault):
            preservation.renew(session, place.bob, package, basis, until, now)
    with transaction(place.databases.content) as session:
        preservation.renew(session, place.bob, package, "Order of 2 December", now + 90 * DAY, now)
    with transaction(place.databases.content) as session, pytest.raises(InvalidInput, match="already"):
        preservation.renew(session, place.bob, package, "order of 2 december", now + 200 * DAY, now)
    assert preservation.destroy_due(place.databases, place.vault, place.blobs, now + 89 * DAY) == 0
    assert preservation.destroy_due(place.databases, place.vault, place.blobs, now + 90 * DAY) == 1
    with transaction(place.databases.content) as session, pytest.raises(Gone):
        preservation.renew(session, place.bob, package, "Another order", now + 200 * DAY, now + 91 * DAY)


def test_what_is_sealed_of_a_hold_is_what_it_keeps_once_it_is_approved(place: Place) -> None:
    first, second, other = *place.submit("acct-1", place.now, 2), *place.submit("acct-2", place.now)
    hold = place.ask(place.now, author_id=place.author_of(first))

    def seal() -> UUID:
        return preservation.seal_hold(
            place.databases, place.vault, place.blobs, place.ann, hold.id, place.now
        )

    with pytest.raises(Conflict, match="only what an approved hold keeps"):
        seal()
    place.answer("approve", hold.id, place.now)
    package = opened(place, seal())
    assert sorted(package.manifest["items"]) == sorted(map(str, (first, second)))
    assert str(other) not in str(package.manifest)
    assert package.manifest["hold"] == str(hold.id)
    place.answer("release", hold.id, place.now)
    with pytest.raises(Conflict):
        seal()


def test_what_has_ended_is_named_as_missing(place: Place, settings: Settings) -> None:
    kept, gone = place.submit("acct-1", place.now, 2)
    author = place.author_of(kept)
    place.delete(gone, place.now)
    package = opened(place, sealed(place, [kept, gone], author_id=author))
    assert (package.manifest["items"], package.manifest["missing"]) == ([str(kept)], [str(gone)])
    place.delete(kept, place.now)
    before = files(settings.blob_dir)
    keys = support.count(place.databases.keystore, "package_keys")
    with pytest.raises(Conflict, match="Nothing of this"):
        sealed(place, [kept, gone], author_id=author)
    assert files(settings.blob_dir) == before, "what was begun is taken back"
    assert support.count(place.databases.keystore, "package_keys") == keys


def test_only_items_of_one_author(place: Place) -> None:
    (mine,), (theirs,) = place.submit("acct-1", place.now), place.submit("acct-2", place.now)
    with pytest.raises(NotFound, match="no such item of this author"):
        sealed(place, [mine, theirs])
    with pytest.raises(InvalidInput):
        sealed(place, [mine], basis=" ")
    with pytest.raises(InvalidInput):
        sealed(place, [mine], keep_until=place.now + 400 * DAY)
    with pytest.raises(InvalidInput):
        sealed(place, [], author_id=place.author_of(mine))


def test_a_package_that_was_tampered_with_does_not_open(
    place: Place, item: UUID, databases: Databases
) -> None:
    package = sealed(place, [item])
    one = opened(place, package)
    with pytest.raises(NotFound):
        one.file("items/other.txt")
    swapped = preservation.Package(
        one.id, one.manifest, one.sha256, one._key, one._blobs, list(reversed(one._references))
    )
    with pytest.raises(VaultError):
        swapped.file("author.json")
    with databases.content.begin() as connection:
        connection.execute(text("UPDATE preservations SET sha256 = repeat('0', 64)"))
    with pytest.raises(VaultError, match="not the one on record"):
        opened(place, package)


def test_nobody_takes_its_blobs_for_orphans(place: Place, item: UUID, settings: Settings) -> None:
    package = sealed(place, [item])
    with transaction(place.databases.content) as session:
        named = preservation.references(session, place.blobs)
    assert len(named) == 5
    assert named < files(settings.blob_dir)
    scan = orphans.Place()
    for _ in range(orphans.FOLDERS):
        orphans.scan(place.databases, place.blobs, scan, place.now + 10 * DAY, named)
    assert opened(place, package).file(f"items/{item}/1-photo.png")


def test_a_hold_that_was_erased_around_is_still_sealed_whole(place: Place) -> None:
    """Of an author who was erased while an item was held, the reference is gone and the content is not."""
    (item,) = place.submit("acct-1", place.now)
    author = place.author_of(item)
    hold = place.ask(place.now, item_id=item)
    place.answer("approve", hold.id, place.now)
    place.erase(author, place.now)
    place.carry_out(place.now)
    made = preservation.seal_hold(place.databases, place.vault, place.blobs, place.ann, hold.id, place.now)
    package = opened(place, made)
    assert package.file(f"items/{item}/0-body.txt").startswith(b"Text of post-")
    assert json.loads(package.file("author.json"))["reference"] is None
    place.answer("release", hold.id, place.now)
    erasure.sweep(place.databases, place.vault, place.blobs, place.now)
    place.carry_out(place.now)
    assert opened(place, made).file(f"items/{item}/0-body.txt")
