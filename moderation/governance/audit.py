"""Append to the audit log, in the transaction of the action itself.

An event names an actor, an action and a subject by id. It never holds content, and it is never changed:
the database refuses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session, aliased

from moderation.storage.database import insert_many
from moderation.storage.ids import lower_bound, moment_of, new_id
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


PAGE = 50
WINDOW = 50_000  # events that one page looks at: a rare action must not read the whole log
ACTORS = ("machine", "operator", "client", "person")


@dataclass(frozen=True, slots=True)
class Query:
    """Which events somebody wants to see; everything that is given must hold."""

    actor: str | None = None  # one of ACTORS, or one of them by name: person:ID
    action: str | None = None  # a whole action, or its beginning up to a dot: case.
    subject_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: UUID | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Events newest first. `next` goes on; with `looked_until` the search stopped there to stay quick."""

    events: tuple[AuditEvent, ...] = ()
    next: UUID | None = None
    looked_until: datetime | None = None


def page(session: Session, query: Query) -> Page:
    """A page of the log, newest first."""
    bounds = _bounds(query)
    if query.subject_id:
        few = select(AuditEvent).where(AuditEvent.subject_id == query.subject_id, *bounds)
        rows = session.scalars(
            few.where(*_filters(query, AuditEvent)).order_by(AuditEvent.id.desc()).limit(PAGE + 1)
        ).all()
        return _cut(rows)
    newest = select(AuditEvent).where(*bounds).order_by(AuditEvent.id.desc())
    looked_at = aliased(AuditEvent, newest.limit(WINDOW).subquery())
    wanted = select(looked_at).where(*_filters(query, looked_at)).order_by(looked_at.id.desc())
    found = _cut(session.scalars(wanted.limit(PAGE + 1)).all())
    if found.next is not None or not _filters(query, looked_at):
        return found
    last = session.scalar(newest.with_only_columns(AuditEvent.id).offset(WINDOW - 1).limit(1))
    return found if last is None else Page(found.events, last, moment_of(last))


def _cut(rows: Sequence[AuditEvent]) -> Page:
    return Page(tuple(rows[:PAGE]), rows[PAGE - 1].id if len(rows) > PAGE else None)


def _bounds(query: Query) -> list[ColumnElement[bool]]:
    bounds: list[ColumnElement[bool]] = []
    if query.since:
        bounds.append(AuditEvent.id >= lower_bound(query.since))
    if query.until:
        bounds.append(AuditEvent.id < lower_bound(query.until))
    if query.before:
        bounds.append(AuditEvent.id < query.before)
    return bounds


def _filters(query: Query, event: type[AuditEvent]) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if query.actor in ("client", "person"):
        found.append(event.actor.startswith(f"{query.actor}:", autoescape=True))
    elif query.actor:
        found.append(event.actor == query.actor)
    if query.action and query.action.endswith("."):
        found.append(event.action.startswith(query.action, autoescape=True))
    elif query.action:
        found.append(event.action == query.action)
    return found
