"""Row 16: a suspected minor is suspended and in no dataset; once confirmed, nothing of them opens any more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text

from moderation.domain.access import Role
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.governance import erasure, rights
from moderation.governance import minors as checks
from moderation.review import labels, minors
from moderation.review.labels import Wanted
from moderation.review.minors import Preserve
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Author, Base, BundleItem, Item, MinorCheck, Outbox, Part, Preservation
from moderation.storage.vault import Vault
from tests import canary, people, reviewing, support
from tests.judging import Floor, at_once

DAY = timedelta(days=1)
WORD = "zq90gooseberry"


@pytest.fixture
def floor(client: TestClient, databases: Databases, vault: Vault, policy: Policy) -> Floor:
    return Floor(client, databases, vault, at_once(policy))


def judged(floor: Floor, name: str, word: str = "") -> UUID:
    """An item with a text and a label."""
    item = floor.decided(name, Route.REVIEW, "hate", parts=(support.text_part(f"{name} {word}"),))
    floor.give(floor.person(), floor.case_of(item), "remove", "hate")
    return item


def report(floor: Floor, item: UUID) -> MinorCheck:
    body = {"reporter": "reader-1", "category": "underage"}
    floor.client.post(f"/v1/items/{item}/reports", json=body).raise_for_status()
    with transaction(floor.databases.content) as session:
        return session.scalars(select(MinorCheck)).one()


def test_the_deadline_is_met_or_an_alarm_says_so(floor: Floor) -> None:
    reviewing.endpoint(floor.client, "author.suspected_minor")
    check = report(floor, judged(floor, "mine"))
    assert check.deadline == check.opened_at + timedelta(hours=4)
    with transaction(floor.databases.content) as session:
        said = session.scalars(select(Outbox).where(Outbox.event == "author.suspected_minor")).one()
        assert said.payload == {"check_id": str(check.id), "state": "suspected"}
        assert said.not_before <= check.opened_at, "suspended at once, not after an undo window"
        assert checks.overdue(session, check.deadline) == 0
        assert checks.overdue(session, check.deadline + timedelta(seconds=1)) == 1
        minors.clear(session, floor.person(Role.LEAD), check.id, floor.now)
        assert checks.overdue(session, check.deadline + DAY) == 0


def test_no_dataset_has_them_from_the_first_suspicion_on(floor: Floor, tmp_path: Path) -> None:
    mine, kept = judged(floor, "mine"), judged(floor, "kept")
    export(floor, tmp_path / "before")
    report(floor, mine)
    rights.tend(floor.databases, floor.vault, floor.now)
    made = export(floor, tmp_path / "after")
    assert made.rows == 1
    with transaction(floor.databases.content) as session:
        assert set(session.scalars(select(BundleItem.item_id))) == {kept}, "the older bundle lost them too"


def export(floor: Floor, path: Path) -> labels.Exported:
    wanted = Wanted(floor.now - DAY, floor.now + DAY)
    with transaction(floor.databases.content) as session:
        return labels.export(
            session, floor.vault, path, path.with_suffix(".key"), wanted, "operator", floor.now
        )


def ended(floor: Floor, blobs: FolderBlobs, preserve: Preserve | None = None) -> tuple[UUID, UUID, list[str]]:
    """A confirmed minor whose erasure was carried out: author, item, and the references of their blobs."""
    item = floor.decided(
        "mine", Route.REVIEW, "hate", parts=(support.text_part(f"{WORD} as posted"), support.image_part())
    )
    check = report(floor, item)
    with transaction(floor.databases.content) as session:
        author = session.get_one(Item, item).author_id
        pictures = [str(one) for one in session.scalars(select(Part.blob).where(Part.blob.is_not(None)))]
    person = people.principal(floor.databases, floor.vault, Role.PRIVACY_OFFICER)
    now = datetime.now(UTC)
    minors.confirm(floor.databases, floor.vault, blobs, floor.policy, person, check.id, now, preserve)
    erasure.run(floor.databases, floor.vault, blobs, now, 20)
    return author, item, pictures


def said(databases: Databases) -> bytes:
    """Every row of the content database, as text."""
    with databases.content.connect() as connection:
        found = [
            connection.execute(text(f'SELECT CAST(t AS text) FROM "{name}" t')).scalars().all()
            for name in Base.metadata.tables
        ]
    return "\n".join(row for rows in found for row in rows).encode()


def test_nothing_of_them_opens_afterwards(floor: Floor, blobs: FolderBlobs) -> None:
    author, item, pictures = ended(floor, blobs)
    assert floor.client.get(f"/v1/items/{item}").status_code == 404
    assert floor.vault.item_keys([item]) == {}
    assert floor.vault.keys_of(item, author) == (None, None)
    assert pictures
    for reference in pictures:
        with pytest.raises(Exception):  # noqa: B017 - gone, in whichever way
            blobs.open(reference)
    with transaction(floor.databases.content) as session:
        assert not session.scalars(select(Author)).all()
        assert not session.scalars(select(Part)).all()
        assert not session.scalars(select(Preservation)).all()
    assert not canary.hits(said(floor.databases), [WORD, "author of mine"])


def test_a_preservation_package_is_all_that_stays_where_a_law_asks_for_it(
    floor: Floor, blobs: FolderBlobs
) -> None:
    preserve = Preserve("18 USC 2258A(h)", datetime.now(UTC) + 300 * DAY)
    author, item, _ = ended(floor, blobs, preserve)
    assert floor.vault.keys_of(item, author) == (None, None)
    with transaction(floor.databases.content) as session:
        package = session.scalars(select(Preservation)).one()
        assert (package.cause, package.items, package.basis) == ("minor", 1, "18 USC 2258A(h)")
        assert not session.scalars(select(Part)).all()
