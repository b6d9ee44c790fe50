"""Log-ins: opaque tokens kept on the server as a digest, listed, revocable at once.

A session is of one person and one browser or program. It ends after 12 hours, after an hour without use, and the
moment it is revoked: every request looks it up. Before the second factor was given it can do nothing else.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from moderation.domain.access import Permission, granted
from moderation.domain.errors import NotFound, StepUpRequired, Unauthenticated
from moderation.governance import audit
from moderation.storage.ids import new_id
from moderation.storage.tables import Person, PersonSession
from moderation.storage.vault import Vault

TOKEN = re.compile(r"ms_[A-Za-z0-9_-]{43}")
LASTS = timedelta(hours=12)
IDLE = timedelta(minutes=60)
# Between password and second factor.
HALF_LASTS = timedelta(minutes=10)
STEP_UP_MINUTES = 15
KEPT = timedelta(days=30)
# How exactly `seen_at` is kept: a write a minute, not one a request.
SEEN_EVERY = timedelta(minutes=1)

PASSWORD, OPEN, REVOKED = "password", "open", "revoked"
INVALID = "Your session has ended; log in again."


@dataclass(frozen=True, slots=True)
class PersonPrincipal:
    """Who is logged in, second factor given; `preferences` are for their own screen."""

    person_id: UUID
    session_id: UUID
    roles: frozenset[str]
    permissions: frozenset[Permission]
    confirmed_at: datetime | None
    preferences: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def actor(self) -> str:
        """How the audit log names this person."""
        return f"person:{self.person_id}"


@dataclass(frozen=True, slots=True)
class Half:
    """Who gave the right password and still owes the second factor."""

    person_id: UUID
    session_id: UUID


@dataclass(frozen=True, slots=True)
class Login:
    """One of a person's log-ins, as the person sees it."""

    id: UUID
    agent: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime


def start(
    session: Session,
    person_id: UUID,
    agent: str,
    now: datetime,
    *,
    confirmed: bool,
    confirmed_at: datetime | None = None,
) -> str:
    """A new session's token, `ms_...`: open if the second factor was given, good only for giving it otherwise.

    `confirmed_at` is when it was given, if that was not just now.
    """
    token = f"ms_{secrets.token_urlsafe(32)}"
    # Those that ended long ago are nobody's concern.
    session.execute(
        delete(PersonSession).where(PersonSession.person_id == person_id, PersonSession.expires_at < now)
    )
    session.add(
        PersonSession(
            digest=_digest(token),
            id=new_id(now),
            person_id=person_id,
            state=OPEN if confirmed else PASSWORD,
            agent=described(agent),
            created_at=now,
            seen_at=now,
            expires_at=now + (LASTS if confirmed else HALF_LASTS),
            confirmed_at=(confirmed_at or now) if confirmed else None,
        )
    )
    session.flush()
    return token


def authenticate(session: Session, vault: Vault, token: str, now: datetime) -> PersonPrincipal:  # noqa: ARG001
    """The person behind a session's token, whose use it notes.

    Raises:
        Unauthenticated: malformed, unknown, ended, revoked, or the second factor is still owed.
    """
    row, who = _living(session, token, now)
    if row.state != OPEN:
        raise Unauthenticated("Give your second factor first.", code="second_factor_required")
    if now - row.seen_at >= SEEN_EVERY:
        row.seen_at = now
    return PersonPrincipal(
        row.person_id, row.id, frozenset(who.roles), granted(who.roles), row.confirmed_at, who.preferences
    )


def half(session: Session, token: str, now: datetime) -> Half:
    """Who owes the second factor.

    Raises:
        Unauthenticated: no such session, or it owes nothing.
    """
    row, _ = _living(session, token, now)
    if row.state != PASSWORD:
        raise Unauthenticated(INVALID)
    return Half(row.person_id, row.id)


def _living(session: Session, token: str, now: datetime) -> tuple[PersonSession, Person]:
    found = None
    if TOKEN.fullmatch(token):
        found = session.execute(
            select(PersonSession, Person)
            .join(Person, Person.id == PersonSession.person_id)
            .where(
                PersonSession.digest == _digest(token),
                PersonSession.state != REVOKED,
                PersonSession.expires_at > now,
                PersonSession.seen_at > now - IDLE,
                Person.disabled_at.is_(None),
            )
        ).one_or_none()
    if found is None:
        raise Unauthenticated(INVALID)
    return found[0], found[1]


def complete(session: Session, session_id: UUID, now: datetime) -> str:
    """The second factor was given: the session opens under another token, and the old one is nothing any more.

    Raises:
        Unauthenticated: it ended meanwhile.
    """
    token = f"ms_{secrets.token_urlsafe(32)}"
    changed = session.execute(
        update(PersonSession)
        .where(PersonSession.id == session_id, PersonSession.state == PASSWORD)
        .values(
            digest=_digest(token),
            state=OPEN,
            seen_at=now,
            expires_at=now + LASTS,
            confirmed_at=now,
            challenge=None,
        )
        .returning(PersonSession.id)
        .execution_options(synchronize_session=False)
    ).all()
    if not changed:
        raise Unauthenticated(INVALID)
    session.expire_all()
    return token


def confirm(session: Session, session_id: UUID, now: datetime) -> str:
    """A second factor was given again: a fresh confirmation, and a fresh token with it.

    Raises:
        Unauthenticated: the session ended meanwhile.
    """
    token = f"ms_{secrets.token_urlsafe(32)}"
    changed = session.execute(
        update(PersonSession)
        .where(PersonSession.id == session_id, PersonSession.state == OPEN)
        .values(digest=_digest(token), seen_at=now, confirmed_at=now, challenge=None)
        .returning(PersonSession.id)
        .execution_options(synchronize_session=False)
    ).all()
    if not changed:
        raise Unauthenticated(INVALID)
    session.expire_all()
    return token


def require_fresh(principal: PersonPrincipal, now: datetime) -> None:
    """Refuse what is grave unless a second factor was given a short while ago.

    Raises:
        StepUpRequired: it was given longer ago than `STEP_UP_MINUTES`.
    """
    confirmed = principal.confirmed_at
    if confirmed is None or now - confirmed > timedelta(minutes=STEP_UP_MINUTES):
        raise StepUpRequired(
            f"This asks for a second factor given in the last {STEP_UP_MINUTES} minutes; confirm that it is you."
        )


def listing(session: Session, person_id: UUID, now: datetime) -> list[Login]:
    """A person's log-ins that are still good, the one used last first."""
    rows = session.scalars(
        select(PersonSession)
        .where(
            PersonSession.person_id == person_id,
            PersonSession.state == OPEN,
            PersonSession.expires_at > now,
            PersonSession.seen_at > now - IDLE,
        )
        .order_by(PersonSession.seen_at.desc())
    )
    return [Login(row.id, row.agent, row.created_at, row.seen_at, row.expires_at) for row in rows]


def revoke(session: Session, person_id: UUID, session_id: UUID, now: datetime) -> None:
    """End one of a person's own log-ins at once.

    Raises:
        NotFound: the person has no such log-in.
    """
    ended = session.execute(
        update(PersonSession)
        .where(
            PersonSession.id == session_id,
            PersonSession.person_id == person_id,
            PersonSession.state != REVOKED,
        )
        .values(state=REVOKED, challenge=None)
        .returning(PersonSession.id)
    ).all()
    if not ended:
        raise NotFound("You have no such session; it may have ended already.")
    event = audit.Event(f"person:{person_id}", "session.revoked", "session", str(session_id))
    audit.record(session, [event], now)


def revoke_all(
    session: Session, person_id: UUID, now: datetime, actor: str, *, but: UUID | None = None
) -> int:
    """End all of a person's log-ins at once, except perhaps the one in use; how many there were."""
    wanted = [PersonSession.person_id == person_id, PersonSession.state != REVOKED]
    if but is not None:
        wanted.append(PersonSession.id != but)
    count = session.scalar(select(func.count()).select_from(PersonSession).where(*wanted)) or 0
    session.execute(update(PersonSession).where(*wanted).values(state=REVOKED, challenge=None))
    if count:
        event = audit.Event(actor, "sessions.revoked", "person", str(person_id), {"count": count})
        audit.record(session, [event], now)
    return count


def forget(session: Session, now: datetime) -> int:
    """Remove log-ins that ended a month ago; how many. What remains of them is in the audit log."""
    old = delete(PersonSession).where(PersonSession.expires_at <= now - KEPT).returning(PersonSession.id)
    return len(session.scalars(old).all())


def described(agent: str) -> str:
    """Browser and system in two words: enough to know one's own, too little to track anybody."""
    browsers = (("Edg", "Edge"), ("OPR", "Opera"), ("Firefox", "Firefox"), ("Chrom", "Chromium"),
                ("Safari", "Safari"), ("curl", "curl"), ("python", "Python"))  # fmt: skip
    systems = (("Android", "Android"), ("iPhone", "iOS"), ("iPad", "iOS"), ("Windows", "Windows"),
               ("Mac OS", "macOS"), ("Linux", "Linux"))  # fmt: skip
    browser = next((name for word, name in browsers if word in agent), "a program")
    system = next((name for word, name in systems if word in agent), None)
    return f"{browser} on {system}" if system else browser


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
