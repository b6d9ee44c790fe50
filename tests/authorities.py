"""What the pages for authorities show: a hold, one that waits, a package, a disclosure, an incident."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select

from moderation.governance import disclosures, holds, incidents, preservation
from moderation.governance.incident_scopes import Scope
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import transaction
from moderation.storage.tables import Item
from tests import people, seeding
from tests.service import Service


def fill(service: Service, items: Sequence[str], now: datetime) -> None:
    """Some of each, about these items; the second of them has a picture."""
    with seeding.opened(service) as (databases, vault):
        blobs = FolderBlobs(seeding.settings_of(service).blob_dir)
        ann, bob = (people.principal(databases, vault, "legal") for _ in range(2))
        court, order = "District court of Example", "Order to preserve of 1 November"
        with transaction(databases.content) as session:
            author = session.scalars(select(Item.author_id).where(Item.id == UUID(items[3]))).one()
            first = holds.Wanted(court, order, reference="17 Js 1/26", item_id=UUID(items[1]))
            hold = holds.request(session, vault, ann, first, now).id
            holds.approve(session, bob, hold, now)
            holds.request(session, vault, ann, holds.Wanted(court, order, author_id=author), now)
        package = preservation.seal_hold(databases, vault, blobs, ann, hold, now)
        with transaction(databases.content) as session:
            made = disclosures.request(session, vault, ann, package, court, order, "", now)
            disclosures.approve(session, bob, made, now)
            incident = incidents.open_incident(
                session,
                vault,
                kind="access",
                severity=4,
                description="A session was used from two places at once.",
                detected_at=now,
                scope=Scope("person", "item."),
                actor=ann.actor,
                now=now,
            )
            incidents.find_affected(session, incident, ann.actor, now)
