"""What is owed to people and done now and then: erasures that end requests, deletions at partners, what is late."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select

from moderation import metrics
from moderation.governance import minors, partners, subjects
from moderation.governance.erasing import trained
from moderation.governance.restriction import set_apart
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import BundleItem
from moderation.storage.vault import Vault

AT_ONCE = 20


def watch(databases: Databases, now: datetime) -> None:
    """Close what an erasure has answered, and say what is overdue. Owns its transaction."""
    with transaction(databases.content) as session:
        subjects.settle(session, now)
        metrics.MINOR_CHECKS_OVERDUE.set(minors.overdue(session, now))
        metrics.REQUESTS_OVERDUE.set(subjects.overdue(session, now))
        metrics.PARTNER_DELETIONS.set(partners.unacknowledged(session, now))


def tend(databases: Databases, vault: Vault, now: datetime) -> None:
    """Note what partners have to delete, and clean bundles: both look at more rows. Owns its transactions."""
    with transaction(databases.content) as session:
        partners.note_deletions(session, now)
    untrain(databases, vault, now)


def untrain(databases: Databases, vault: Vault, now: datetime) -> int:
    """Take whoever is set apart out of the bundles made before; how many authors. Owns its transactions."""
    with transaction(databases.content) as session:
        authors = session.scalars(
            select(BundleItem.author_id).where(set_apart(BundleItem.author_id)).distinct().limit(AT_ONCE)
        ).all()
    for author in authors:
        trained.clean(databases, vault, now, author)
    return len(authors)
