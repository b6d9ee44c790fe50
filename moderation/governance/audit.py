"""Append to the audit log, in the transaction of the action itself.

An event names an actor, an action and a subject by id. It never holds content, and it is never changed:
the database refuses it, and `ledger` numbers what is committed into a tree that shows it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import datetime
from math import copysign, isfinite
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session, aliased

from moderation.domain import purposes
from moderation.domain.purposes import Purpose
from moderation.governance import signing
from moderation.storage.database import insert_many
from moderation.storage.ids import lower_bound, moment_of, new_id
from moderation.storage.tables import AuditEvent

MACHINE = "machine"
SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `actor` is `machine`, `client:NAME`, `partner:NAME`, `person:ID` or `operator`.

    What shows content to somebody carries its purpose in its details: the registered one, or another if the
    caller says so (an officer who looks because of a request).

    Raises:
        UnregisteredPurpose: the action is not in `domain.purposes`.
    """

    actor: str
    action: str
    subject: str
    subject_id: str
    details: Mapping[str, Any] = field(default_factory=dict)
    purpose: InitVar[Purpose | None] = None

    def __post_init__(self, purpose: Purpose | None) -> None:
        object.__setattr__(self, "details", purposes.details_of(self.action, self.details, purpose))


def record(session: Session, events: Sequence[Event], now: datetime) -> list[UUID]:
    """Append `events` in their order, and their ids; they are committed with the action or not at all.

    Raises:
        ValueError: details that the database would not give back as they are.
    """
    identifiers = sorted(new_id(now) for _ in events)
    salts = os.urandom(SALT_BYTES * len(events))
    rows = []
    for at, (identifier, event) in enumerate(zip(identifiers, events, strict=True)):
        salt = salts[at * SALT_BYTES : (at + 1) * SALT_BYTES]
        if event.details and not _lossless(event.details):
            raise ValueError(f"Details of {event.action} would be stored as something else: {event.details}")
        rows.append(
            {
                "id": identifier,
                "at": now,
                "actor": event.actor,
                "action": event.action,
                "subject": event.subject,
                "subject_id": event.subject_id,
                "details": dict(event.details),
                "salt": salt,
                "commitment": commitment(salt, event.details),
            }
        )
    insert_many(session, AuditEvent, rows)
    return identifiers


def record_one(session: Session, event: Event, now: datetime) -> UUID:
    """Append one event; its id.

    Raises:
        ValueError: as `record`.
    """
    return record(session, [event], now)[0]


def new_salt() -> bytes:
    """A salt for one event."""
    return os.urandom(SALT_BYTES)


def commitment(salt: bytes, details: Mapping[str, Any]) -> bytes:
    """What the log holds of `details`: they can be checked against it, and can go while it stays.

    The salt keeps a short detail from being found by trying.
    """
    return hashlib.sha256(salt + (signing.canonical(details) if details else b"{}")).digest()


def _lossless(value: Any) -> bool:
    """Whether PostgreSQL's JSONB gives `value` back the same, as far as its hash can tell."""
    if isinstance(value, str):
        return "\x00" not in value
    if value is None or isinstance(value, int):
        return True
    if isinstance(value, float):
        # Stored without exponent: 1e16 comes back as a whole number. Minus zero loses its sign.
        return isfinite(value) and "e+" not in repr(value) and (value != 0.0 or copysign(1.0, value) > 0)
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and _lossless(name) for name in value) and all(
            map(_lossless, value.values())
        )
    return isinstance(value, (list, tuple)) and all(map(_lossless, value))


PAGE = 50
WINDOW = 50_000  # events that one page looks at: a rare action must not read the whole log
ACTORS = ("machine", "operator", "client", "person", "partner")


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
    if query.actor in ("client", "person", "partner"):
        found.append(event.actor.startswith(f"{query.actor}:", autoescape=True))
    elif query.actor:
        found.append(event.actor == query.actor)
    if query.action and query.action.endswith("."):
        found.append(event.action.startswith(query.action, autoescape=True))
    elif query.action:
        found.append(event.action == query.action)
    return found
