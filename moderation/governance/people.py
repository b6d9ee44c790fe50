"""The people who work here: who they are, what they work as, and whether they still do."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from unicodedata import normalize
from uuid import UUID

import pyotp
from sqlalchemy import any_, exists, func, literal, select
from sqlalchemy.orm import Session

from moderation.domain.access import Role
from moderation.domain.errors import Conflict, Forbidden, InvalidInput, NotFound
from moderation.governance import audit, passwords, sessions
from moderation.storage.ids import new_id
from moderation.storage.tables import Passkey, Person, PersonSession
from moderation.storage.vault import Vault

EMAIL = re.compile(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f]{1,189}")
NAME_LENGTH = 100


@dataclass(frozen=True, slots=True)
class NewPerson:
    """What a new person needs to log in, known in the clear only now."""

    email: str
    password: str
    totp_secret: str


@dataclass(frozen=True, slots=True)
class Profile:
    """A person as those see them who may: never a secret."""

    id: UUID
    email: str
    name: str | None
    roles: tuple[str, ...]
    totp: bool
    passkeys: int
    created_at: datetime
    disabled_at: datetime | None
    seen_at: datetime | None


def email_digest(vault: Vault, email: str) -> bytes:
    """By which an address is found again, however it is capitalised."""
    return vault.digest("email", normalize("NFKC", email.strip()).casefold())


def check_email(email: str) -> str:
    """The address without the space around it.

    Raises:
        InvalidInput: it is none.
    """
    address = normalize("NFKC", email.strip())
    if not EMAIL.fullmatch(address):
        raise InvalidInput("This is no e-mail address; it looks like name@example.org.")
    return address


def check_roles(roles: Collection[str]) -> list[str]:
    """The roles in their usual order.

    Raises:
        InvalidInput: there is none, or one that we don't know.
    """
    unknown = sorted(set(roles) - set(Role))
    if unknown or not roles:
        raise InvalidInput(f"Choose roles from {', '.join(Role)}.")
    return [str(role) for role in Role if role in roles]


def add(
    session: Session, vault: Vault, email: str, roles: Collection[str], password_hash: str, now: datetime
) -> Person:
    """A person who can log in once there is a second factor.

    Raises:
        InvalidInput: no address, or an unknown role.
        Conflict: somebody has this address.
    """
    address, wanted = check_email(email), check_roles(roles)
    if find(session, vault, address) is not None:
        raise Conflict("Somebody with this e-mail address is here already.")
    identifier = new_id(now)
    person = Person(
        id=identifier,
        email_digest=email_digest(vault, address),
        email=vault.account_key().encrypt(address.encode(), "people", "email", str(identifier)),
        password_hash=password_hash,
        roles=wanted,
        created_at=now,
    )
    session.add(person)
    session.flush()
    return person


def create_first(
    session: Session, vault: Vault, email: str, roles: Collection[str], now: datetime, actor: str
) -> NewPerson:
    """A person with a fresh password and TOTP secret (RFC 6238), both returned once."""
    password, secret = secrets.token_urlsafe(15), pyotp.random_base32()
    person = add(session, vault, email, roles, passwords.hashed(password), now)
    person.totp_secret = vault.account_key().encrypt(secret.encode(), "people", "totp_secret", str(person.id))
    event = audit.Event(actor, "person.created", "person", str(person.id), {"roles": person.roles})
    audit.record(session, [event], now)
    return NewPerson(email, password, secret)


def anybody(session: Session) -> bool:
    """Whether there is a person at all; a first run creates one."""
    return bool(session.scalar(select(exists().select_from(Person))))


def find(session: Session, vault: Vault, email: str) -> Person | None:
    """The person with this address."""
    return session.scalar(select(Person).where(Person.email_digest == email_digest(vault, email)))


def get(session: Session, person_id: UUID) -> Person:
    """The person.

    Raises:
        NotFound: there is none with this id.
    """
    person = session.get(Person, person_id)
    if person is None:
        raise NotFound("There is no such person.")
    return person


def email_of(vault: Vault, person: Person) -> str:
    """Their address in the clear."""
    return vault.account_key().decrypt(person.email, "people", "email", str(person.id)).decode()


def name_of(vault: Vault, person: Person) -> str | None:
    """The name they go by, if they chose one."""
    if person.name is None:
        return None
    return vault.account_key().decrypt(person.name, "people", "name", str(person.id)).decode()


def rename(session: Session, vault: Vault, person_id: UUID, name: str) -> None:
    """Go by another name, or by none.

    Raises:
        InvalidInput: it is too long.
    """
    person = get(session, person_id)
    wanted = " ".join(normalize("NFC", name).split())
    if len(wanted) > NAME_LENGTH or not wanted.isprintable():
        raise InvalidInput(f"A name has at most {NAME_LENGTH} printable characters.")
    sealed = vault.account_key().encrypt(wanted.encode(), "people", "name", str(person_id))
    person.name = sealed if wanted else None


def profile(session: Session, vault: Vault, person_id: UUID) -> Profile:
    """One person, as `listing` shows all.

    Raises:
        NotFound: there is none with this id.
    """
    return _profiles(session, vault, [get(session, person_id)])[0]


def listing(session: Session, vault: Vault) -> list[Profile]:
    """Everybody, those who still work here first, by address."""
    found = _profiles(session, vault, session.scalars(select(Person)).all())
    return sorted(found, key=lambda one: (one.disabled_at is not None, one.email))


def _profiles(session: Session, vault: Vault, people: Sequence[Person]) -> list[Profile]:
    wanted = [person.id for person in people]
    passkeys = dict(
        session.execute(
            select(Passkey.person_id, func.count())
            .where(Passkey.person_id.in_(wanted))
            .group_by(Passkey.person_id)
        ).all()
    )
    seen = dict(
        session.execute(
            select(PersonSession.person_id, func.max(PersonSession.seen_at))
            .where(PersonSession.person_id.in_(wanted), PersonSession.state != sessions.PASSWORD)
            .group_by(PersonSession.person_id)
        ).all()
    )
    return [
        Profile(
            id=person.id,
            email=email_of(vault, person),
            name=name_of(vault, person),
            roles=tuple(person.roles),
            totp=person.totp_secret is not None,
            passkeys=passkeys.get(person.id, 0),
            created_at=person.created_at,
            disabled_at=person.disabled_at,
            seen_at=seen.get(person.id),
        )
        for person in people
    ]


def change_roles(
    session: Session, person_id: UUID, roles: Collection[str], now: datetime, actor: str
) -> None:
    """Have a person work as something else; they log in again.

    Raises:
        NotFound: there is no such person.
        InvalidInput: no role, or an unknown one.
        Forbidden: nobody changes their own roles.
        Conflict: there would be no administrator left.
    """
    person, wanted = get(session, person_id), check_roles(roles)
    _refuse_oneself(person, actor, "Another administrator has to change your roles.")
    if Role.ADMIN not in wanted:
        _refuse_last_admin(session, person)
    before, person.roles = person.roles, wanted
    session.flush()
    details = {"from": before, "to": wanted}
    audit.record(
        session, [audit.Event(actor, "person.roles_changed", "person", str(person_id), details)], now
    )
    sessions.revoke_all(session, person_id, now, actor)


def disable(session: Session, person_id: UUID, now: datetime, actor: str) -> None:
    """Let a person in no more, from this moment on. What they did stays on the record.

    Raises:
        NotFound: there is no such person, or they are disabled.
        Forbidden: nobody disables themselves.
        Conflict: there would be no administrator left.
    """
    person = get(session, person_id)
    if person.disabled_at is not None:
        raise NotFound("This person is disabled already.")
    _refuse_oneself(person, actor, "Another administrator has to disable you.")
    _refuse_last_admin(session, person)
    person.disabled_at = now
    session.flush()
    audit.record(session, [audit.Event(actor, "person.disabled", "person", str(person_id))], now)
    sessions.revoke_all(session, person_id, now, actor)


def enable(session: Session, person_id: UUID, now: datetime, actor: str) -> None:
    """Let a person in again, with the log-in they had.

    Raises:
        NotFound: there is no such person, or they are not disabled.
    """
    person = get(session, person_id)
    if person.disabled_at is None:
        raise NotFound("This person is not disabled.")
    person.disabled_at = None
    session.flush()
    audit.record(session, [audit.Event(actor, "person.enabled", "person", str(person_id))], now)


def change_password(
    session: Session, vault: Vault, person_id: UUID, password: str, now: datetime, *, kept: UUID | None
) -> None:
    """Set a new password; every log-in but the one in use ends. The old one is checked by the caller.

    Raises:
        InvalidInput: the password would be guessed.
    """
    person = get(session, person_id)
    passwords.check_good(password, email_of(vault, person))
    person.password_hash = passwords.hashed(password)
    session.flush()
    actor = f"person:{person_id}"
    audit.record(session, [audit.Event(actor, "person.password_changed", "person", str(person_id))], now)
    sessions.revoke_all(session, person_id, now, actor, but=kept)


def _refuse_oneself(person: Person, actor: str, sentence: str) -> None:
    if actor == f"person:{person.id}":
        raise Forbidden(sentence, code="oneself")


def _refuse_last_admin(session: Session, person: Person) -> None:
    if Role.ADMIN not in person.roles:
        return
    # Two at once must not each count on the other.
    admins = session.scalars(
        select(Person.id)
        .where(literal(str(Role.ADMIN)) == any_(Person.roles), Person.disabled_at.is_(None))
        .order_by(Person.id)
        .with_for_update()
    ).all()
    if set(admins) <= {person.id}:
        raise Conflict(
            "There would be no administrator left; make somebody else one first.", code="last_admin"
        )
