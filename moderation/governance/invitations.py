"""Links that work once, for two days: to join, to choose a new password, to set a log-in up anew.

There is no mail server in this product: whoever makes a link hands it over. What leads nobody round the second
factor: a link for a new password asks for it, and a reset takes it away together with the password, ends every
log-in and is recorded with who did it.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from moderation.domain.errors import Conflict, Forbidden, Gone, InvalidInput, NotFound
from moderation.governance import audit, passwords, people, secondfactor, sessions
from moderation.storage.ids import new_id
from moderation.storage.tables import Invitation, Person
from moderation.storage.vault import Vault

LASTS = timedelta(hours=48)
KEPT = timedelta(days=30)
TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
SPENT = "This link was used, withdrawn, or is older than 48 hours; ask an administrator for a new one."


class Kind(StrEnum):
    """What a link is for."""

    JOIN = "join"  # an address becomes a person
    PASSWORD = "password"  # a new password, against the second factor  # noqa: S105
    RESET = "reset"  # password and second factor anew


@dataclass(frozen=True, slots=True)
class Offer:
    """What a link offers to whoever opens it."""

    id: UUID
    kind: Kind
    email: str
    roles: tuple[str, ...]
    person_id: UUID | None


@dataclass(frozen=True, slots=True)
class Pending:
    """A link that waits to be used, as an administrator sees it."""

    id: UUID
    kind: str
    email: str
    roles: tuple[str, ...]
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Accepted:
    """Who came in, and the recovery codes shown this once."""

    person_id: UUID
    recovery_codes: tuple[str, ...]


def invite(
    session: Session, vault: Vault, email: str, roles: Collection[str], now: datetime, actor: str
) -> str:
    """The link's token for somebody new.

    Raises:
        InvalidInput: no address, or an unknown role.
        Conflict: somebody has this address.
    """
    address, wanted = people.check_email(email), people.check_roles(roles)
    if people.find(session, vault, address) is not None:
        raise Conflict("Somebody with this e-mail address is here already; reset their log-in instead.")
    token, identifier = _add(session, vault, Kind.JOIN, address, wanted, None, now, actor)
    event = audit.Event(actor, "person.invited", "invitation", str(identifier), {"roles": wanted})
    audit.record(session, [event], now)
    return token


def new_password(session: Session, vault: Vault, person_id: UUID, now: datetime, actor: str) -> str:
    """The link's token for somebody who forgot the password and still has the second factor.

    Raises:
        NotFound: there is no such person.
        Conflict: they are disabled, or have no second factor that could be asked for.
    """
    person = _active(session, person_id)
    if person.totp_secret is None and not secondfactor.recovery_codes_left(session, person_id):
        raise Conflict("They have no code to prove themselves with; reset their log-in instead.")
    _withdraw_of(session, person_id, now)
    token, _ = _add(
        session, vault, Kind.PASSWORD, people.email_of(vault, person), person.roles, person_id, now, actor
    )
    audit.record(session, [audit.Event(actor, "person.password_link", "person", str(person_id))], now)
    return token


def reset(session: Session, vault: Vault, person_id: UUID, now: datetime, actor: str) -> str:
    """The link's token for somebody who lost everything: nothing they had works any more, from now on.

    Raises:
        NotFound: there is no such person.
        Conflict: they are disabled.
        Forbidden: nobody resets themselves; one's own account page does that with the second factor.
    """
    person = _active(session, person_id)
    if actor == f"person:{person_id}":
        raise Forbidden(
            "Change your own log-in under your account, or ask another administrator.", code="oneself"
        )
    _withdraw_of(session, person_id, now)
    person.password_hash, person.oidc_subject = "", None
    secondfactor.forget_all(session, person)
    sessions.revoke_all(session, person_id, now, actor)
    token, _ = _add(
        session, vault, Kind.RESET, people.email_of(vault, person), person.roles, person_id, now, actor
    )
    audit.record(session, [audit.Event(actor, "person.reset", "person", str(person_id))], now)
    return token


def read(session: Session, vault: Vault, token: str, now: datetime, *, lock: bool = False) -> Offer:
    """What a link offers.

    Raises:
        Gone: it was used, withdrawn, is too old, or never was.
    """
    query = select(Invitation).where(
        Invitation.digest == _digest(token), Invitation.used_at.is_(None), Invitation.expires_at > now
    )
    row = session.scalar(query.with_for_update() if lock else query) if TOKEN.fullmatch(token) else None
    if row is None:
        raise Gone(SPENT)
    return Offer(row.id, Kind(row.kind), _email(vault, row), tuple(row.roles), row.person_id)


def accept(session: Session, vault: Vault, token: str, password: str, code: str, now: datetime) -> Accepted:
    """Join, or set a log-in up anew: a password and the first code of the offered secret.

    Raises:
        Gone: the link is spent.
        InvalidInput: the password would be guessed, or the code is not the secret's.
        Conflict: the person is here already, or was disabled meanwhile.
    """
    offer = read(session, vault, token, now, lock=True)
    passwords.check_good(password, offer.email)
    if offer.kind is Kind.JOIN:
        person = people.add(session, vault, offer.email, offer.roles, "", now)
        _record(session, person.id, "person.joined", now, roles=list(offer.roles))
    elif offer.kind is Kind.RESET and offer.person_id is not None:
        person = _active(session, offer.person_id)
        _record(session, person.id, "person.log_in_renewed", now)
    else:
        raise InvalidInput("This link is for a new password only.")
    secondfactor.enrol_totp(session, vault, person, offered_secret(vault, token), code, now)
    person.password_hash = passwords.hashed(password)
    codes = secondfactor.issue_recovery_codes(session, vault, person.id, now)
    _spend(session, offer.id, now)
    return Accepted(person.id, codes)


def set_password(session: Session, vault: Vault, token: str, password: str, now: datetime) -> UUID:
    """Choose a new password by a link; the caller has checked the second factor. Every log-in ends.

    Raises:
        Gone: the link is spent.
        InvalidInput: the password would be guessed, or the link is for something else.
        Conflict: the person was disabled meanwhile.
    """
    offer = read(session, vault, token, now, lock=True)
    if offer.kind is not Kind.PASSWORD or offer.person_id is None:
        raise InvalidInput("This link is not for a new password.")
    _active(session, offer.person_id)
    people.change_password(session, vault, offer.person_id, password, now, kept=None)
    _spend(session, offer.id, now)
    return offer.person_id


def offered_secret(vault: Vault, token: str) -> str:
    """The TOTP secret that a link's page shows, each time it is loaded."""
    return secondfactor.proposed_secret(vault, "invitation", token)


def pending(session: Session, vault: Vault, now: datetime) -> list[Pending]:
    """Links that wait to be used, newest first."""
    rows = session.scalars(
        select(Invitation)
        .where(Invitation.used_at.is_(None), Invitation.expires_at > now)
        .order_by(Invitation.id.desc())
    )
    return [
        Pending(row.id, row.kind, _email(vault, row), tuple(row.roles), row.created_at, row.expires_at)
        for row in rows
    ]


def withdraw(session: Session, invitation_id: UUID, now: datetime, actor: str) -> None:
    """Make a link that waits good for nothing.

    Raises:
        NotFound: there is none that waits.
    """
    row = session.scalar(
        select(Invitation).where(Invitation.id == invitation_id, Invitation.used_at.is_(None))
    )
    if row is None or row.expires_at <= now:
        raise NotFound("There is no such link waiting; it may have been used.")
    _spend(session, invitation_id, now)
    event = audit.Event(actor, "invitation.withdrawn", "invitation", str(invitation_id))
    audit.record(session, [event], now)


def accepted_elsewhere(session: Session, vault: Vault, email: str, now: datetime) -> Offer | None:
    """The invitation of an address that proved itself by other means than the link."""
    wanted = people.email_digest(vault, email)
    rows = session.scalars(
        select(Invitation)
        .where(Invitation.kind == Kind.JOIN, Invitation.used_at.is_(None), Invitation.expires_at > now)
        .with_for_update()
    )
    for row in rows:
        if people.email_digest(vault, _email(vault, row)) == wanted:
            row.used_at = now
            return Offer(row.id, Kind.JOIN, _email(vault, row), tuple(row.roles), None)
    return None


def _add(
    session: Session,
    vault: Vault,
    kind: Kind,
    email: str,
    roles: Collection[str],
    person_id: UUID | None,
    now: datetime,
    actor: str,
) -> tuple[str, UUID]:
    token, identifier = secrets.token_urlsafe(32), new_id(now)
    session.add(
        Invitation(
            digest=_digest(token),
            id=identifier,
            kind=str(kind),
            email=vault.account_key().encrypt(email.encode(), "invitations", "email", str(identifier)),
            roles=list(roles),
            person_id=person_id,
            created_by=actor,
            created_at=now,
            expires_at=now + LASTS,
        )
    )
    session.flush()
    return token, identifier


def _active(session: Session, person_id: UUID) -> Person:
    person = people.get(session, person_id)
    if person.disabled_at is not None:
        raise Conflict("This person is disabled; enable them first.")
    return person


def _withdraw_of(session: Session, person_id: UUID, now: datetime) -> None:
    waiting = (Invitation.person_id == person_id, Invitation.used_at.is_(None))
    session.execute(update(Invitation).where(*waiting).values(used_at=now))


def _spend(session: Session, invitation_id: UUID, now: datetime) -> None:
    session.execute(update(Invitation).where(Invitation.id == invitation_id).values(used_at=now))


def _email(vault: Vault, row: Invitation) -> str:
    return vault.account_key().decrypt(row.email, "invitations", "email", str(row.id)).decode()


def _record(session: Session, person_id: UUID, action: str, now: datetime, **details: object) -> None:
    event = audit.Event(f"person:{person_id}", action, "person", str(person_id), details)
    audit.record(session, [event], now)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def forget(session: Session, now: datetime) -> int:
    """Remove links that ended a month ago, and with them the addresses they were for; how many."""
    old = delete(Invitation).where(Invitation.expires_at <= now - KEPT).returning(Invitation.id)
    return len(session.scalars(old).all())
