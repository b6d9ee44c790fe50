"""Append to the audit log, in the transaction of the action itself.

An event names an actor, an action and a subject by id. It never holds content, and it is never changed:
the database refuses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from moderation.storage.database import insert_many
from moderation.storage.ids import new_id
from moderation.storage.tables import AuditEvent

MACHINE = "machine"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `actor` is `machine`, `client:NAME`, `person:ID` or `operator`."""

    actor: str
    action: str
    subject: str
    subject_id: str
    details: Mapping[str, Any] = field(default_factory=dict)


def record(session: Session, events: Sequence[Event], now: datetime) -> None:
    """Append `events`; they are committed with the action or not at all."""
    insert_many(
        session,
        AuditEvent,
        [
            {
                "id": new_id(now),
                "at": now,
                "actor": event.actor,
                "action": event.action,
                "subject": event.subject,
                "subject_id": event.subject_id,
                "details": dict(event.details),
            }
            for event in events
        ],
    )
