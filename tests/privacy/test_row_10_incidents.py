"""Row 10: the query finds exactly those whom an incident touches, and the clock is heard in time."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import select

from moderation.domain.access import Role
from moderation.domain.policy import Policy
from moderation.governance import audit, incidents
from moderation.governance.incident_scopes import Scope
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import IncidentAuthor
from moderation.storage.vault import Vault
from tests import people
from tests.holding import Place

HOUR = timedelta(hours=1)
WHO = ("person:a", "person:b", "client:app")
WHAT = ("item.viewed", "item.history_viewed", "media.revealed")


@pytest.fixture
def place(
    databases: Databases, vault: Vault, blobs: FolderBlobs, policy: Policy, now: datetime, settings: Settings
) -> Place:
    ann, bob = (people.principal(databases, vault, Role.LEGAL) for _ in range(2))
    return Place(databases, vault, blobs, policy, ann, bob, now)


def opened(place: Place, scope: Scope) -> UUID:
    with transaction(place.databases.content) as session:
        return incidents.open_incident(
            session, place.vault, kind="access", severity=4, description="A stolen session.",
            detected_at=place.now, scope=scope, actor="operator", now=place.now,
        )  # fmt: skip


def found(place: Place, incident: UUID) -> set[UUID]:
    with transaction(place.databases.content) as session:
        answer = incidents.find_affected(session, incident, "operator", place.now)
        query = select(IncidentAuthor.author_id).where(IncidentAuthor.incident_id == incident)
        authors = set(session.scalars(query))
    assert answer.authors == len(authors)
    return authors


def test_the_query_equals_the_planted_set(place: Place) -> None:
    chance = random.Random(10)
    items = [place.submit(f"acct-{n}", place.now - 99 * HOUR)[0] for n in range(30)]
    author = {item: place.author_of(item) for item in items}
    planted = [
        (
            chance.choice(items),
            chance.choice(WHO),
            chance.choice(WHAT),
            place.now - chance.randint(0, 50) * HOUR,
        )
        for _ in range(150)
    ]
    for item, who, what, at in planted:
        with transaction(place.databases.content) as session:
            audit.record(session, [audit.Event(who, what, "item", str(item))], at)
    for who, what, since, until in (
        ("person:a", None, None, None),
        ("person:b", "item.viewed", None, None),
        ("person", "item.", place.now - 20 * HOUR, place.now - 10 * HOUR),
        (None, "media.revealed", place.now - 5 * HOUR, None),
        ("client:app", "item.", None, place.now - 40 * HOUR),
    ):
        expected = {
            author[item]
            for item, actor, action, at in planted
            if (who is None or actor == who or actor.startswith(f"{who}:"))
            and (what is None or action == what or (what.endswith(".") and action.startswith(what)))
            and (since is None or at >= since)
            and (until is None or at < until)
        }
        # What intake wrote of the items themselves is an event of the content service too.
        if who == "client:app":
            expected = set(author.values())
        assert found(place, opened(place, Scope(who, what, since, until))) == expected
    assert found(place, opened(place, Scope("person:nobody"))) == set()


def test_the_alarm_fires_by_the_clock(place: Place) -> None:
    opened(place, Scope("person:a"))

    def alarm(moment: datetime) -> tuple[float, int]:
        with transaction(place.databases.content) as session:
            return incidents.seconds_left(session, moment), incidents.overdue(session, moment)

    assert alarm(place.now) == (72 * 3600, 0)
    assert alarm(place.now + 71 * HOUR) == (3600, 0)
    assert alarm(place.now + 73 * HOUR) == (-3600, 1)
