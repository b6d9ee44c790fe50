"""Row 20: a statement says "fully automated" if and only if no human event came before; recomputed from the log."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from uuid import UUID

from sqlalchemy import select

from moderation.domain import dsa
from moderation.governance import statements
from moderation.governance.policies import PolicyCache
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, Decision
from moderation.storage.vault import Vault
from tests import stating

FULLY = "AUTOMATED_DECISION_FULLY"
HUMAN = ("opinion.given", "decision.made")


def test_fully_automated_if_and_only_if_no_human_event_came_before(
    databases: Databases, vault: Vault, blobs: FolderBlobs, now: datetime
) -> None:
    world = stating.world(databases, vault, blobs, now, 20, 160)
    end, cache = stating.at_end(world), PolicyCache()
    with transaction(databases.content) as session:
        rows = session.scalars(select(Decision).where(*statements.stated(end))).all()
        said = {
            row.id: statements.of_decision(session, cache, row, end)["automated_decision"] for row in rows
        }
        events = session.scalars(select(AuditEvent).where(AuditEvent.action.in_(HUMAN))).all()
    # What people did to each item, as the audit log has it and the statements do not look.
    human: dict[UUID, list[tuple[datetime, str]]] = defaultdict(list)
    for event in events:
        if event.actor.startswith("person:"):
            item = event.details["item"] if event.action == "opinion.given" else event.subject_id
            human[UUID(item)].append((event.at, event.details.get("decision", "")))
    for row in rows:
        came_before = any(at < row.decided_at or made == str(row.id) for at, made in human[row.item_id])
        assert (said[row.id] == FULLY) == (not came_before), row.id
    # Both sides must have been seen, and machines that came after people too.
    assert set(said.values()) == set(dsa.enumerations().enums["AUTOMATED_DECISIONS"])
    after_people = [row for row in rows if row.decided_by == "machine" and said[row.id] != FULLY]
    assert after_people
