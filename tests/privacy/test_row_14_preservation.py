"""Row 14: a held item is never deleted; released, it goes at the next sweep; and nobody holds anything alone."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from moderation.domain.access import GRANTS, Permission, Role
from moderation.domain.errors import Forbidden
from moderation.domain.policy import Policy
from moderation.governance import holds, preservation
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.vault import Vault
from tests import people
from tests.holding import Place, Race

DAY = timedelta(days=1)


@pytest.fixture
def place(
    databases: Databases, vault: Vault, blobs: FolderBlobs, policy: Policy, now: datetime, settings: Settings
) -> Place:
    ann, bob = (people.principal(databases, vault, Role.LEGAL) for _ in range(2))
    return Place(databases, vault, blobs, policy, ann, bob, now)


def test_a_held_item_is_never_deleted_and_a_released_one_is_at_the_next_sweep(place: Place) -> None:
    item, later = place.submit("acct-1", place.now)[0], place.now + 60 * DAY
    hold = place.ask(place.now, item_id=item)
    place.answer("approve", hold.id, place.now)
    place.sweep(later)
    place.delete(item, later)
    place.erase(place.author_of(item), later)
    place.carry_out(later)
    place.sweep(later)
    assert place.readable(item), "neither its expiry, its deletion nor its author's erasure ends it"
    place.answer("release", hold.id, later)
    place.sweep(later)
    assert place.gone(item)


def test_of_a_hold_and_a_deletion_that_meet_one_wins_whole(place: Place) -> None:
    outcome = Race(place, items=16, seed=14).run(attempts=40)
    assert outcome.faults == []


def test_only_with_a_second_person(place: Place) -> None:
    (item,) = place.submit("acct-1", place.now)
    hold = place.ask(place.now, item_id=item)
    with transaction(place.databases.content) as session, pytest.raises(Forbidden):
        holds.approve(session, place.ann, hold.id, place.now)
    alone = text("UPDATE holds SET state = 'active', approved_by = requested_by")
    with place.databases.content.begin() as connection, pytest.raises(IntegrityError):
        connection.execute(alone)
    place.answer("refuse", hold.id, place.now)
    place.expire([item], place.now)
    place.sweep(place.now)
    assert place.gone(item), "what nobody else wanted kept is not kept"


def test_a_package_is_under_a_key_of_its_own_and_ends_by_its_date(place: Place) -> None:
    (item,) = place.submit("acct-1", place.now)
    author = place.author_of(item)
    made = preservation.seal(
        place.databases, place.vault, place.blobs, author_id=author, items=[item], cause="minor",
        basis="18 USC 2258A(h)", created_by="machine", now=place.now,
    )  # fmt: skip
    place.erase(author, place.now)
    place.carry_out(place.now)
    with transaction(place.databases.content) as session:
        row = preservation.get(session, made)
    package = preservation.open_package(place.vault, place.blobs, row)
    assert package.file(f"items/{item}/0-body.txt").startswith(b"Text of post-")
    assert preservation.destroy_due(place.databases, place.vault, place.blobs, row.keep_until) == 1


def test_who_reads_evidence_is_the_legal_role_alone() -> None:
    assert [role for role in Role if Permission.EVIDENCE_READ in GRANTS[role]] == [Role.LEGAL]
