"""Guessing made slow, without a way to lock others out.

Failed attempts are counted by account and source. The source is the client's address or, in a browser that has
logged in to this account before, a signed cookie of that browser (OWASP's device cookies): strangers who try out
passwords make strangers wait, and not the person whose account it is. An attempt is counted before it is judged,
in a transaction of its own, so that many at once count as many.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address
from uuid import UUID

from sqlalchemy import Integer, case, cast, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from moderation.domain.errors import TooManyRequests
from moderation.governance import audit, passwords, sessions
from moderation.governance.people import email_digest
from moderation.storage.tables import LoginFailures, Person
from moderation.storage.vault import Vault

FREE = 5  # attempts before the first wait
FREE_OF_SOURCE = 50  # over all accounts
LONGEST_WAIT = 900  # seconds
FORGOTTEN = timedelta(hours=24)
WRONG = "The e-mail address or the password is wrong."
WRONG_PASSKEY = "The passkey could not be verified; try again, or use a code."
WRONG_CODE = "This code is wrong, was used already, or is no longer good; take the next one."


@dataclass(frozen=True, slots=True)
class Source:
    """Where an attempt comes from: the client's address, and the device cookie its browser sent."""

    address: str
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """Whose password is to be tried; `person_id` is None when there is no such account."""

    person_id: UUID | None
    password_hash: str | None
    digest: bytes
    counter: bytes
    source: bytes | None = None  # its counter over all accounts, unless the browser is known

    def proved_by(self, password: str) -> bool:
        """Whether the password is theirs. Takes its time, so not while a transaction is open."""
        return passwords.matches(self.password_hash, password) and self.person_id is not None


def attempt(session: Session, vault: Vault, email: str, source: Source, now: datetime) -> Candidate:
    """Count an attempt and say whose password to try. Commit before trying it.

    Raises:
        TooManyRequests: this source has to wait; nothing is counted.
    """
    digest = email_digest(vault, email)
    known = device_of(vault, digest, source.device)
    counter = vault.digest("login", digest, known or network(source.address))
    everybody = vault.digest("login_source", network(source.address)) if known is None else None
    if everybody is not None:
        _count(session, everybody, FREE_OF_SOURCE, now)
    _count(session, counter, FREE, now)
    row = session.execute(
        select(Person.id, Person.password_hash).where(
            Person.email_digest == digest, Person.disabled_at.is_(None)
        )
    ).one_or_none()
    return Candidate(row[0] if row else None, row[1] if row else None, digest, counter, everybody)


def failed(session: Session, now: datetime, what: str = "password") -> None:
    """Record that an attempt failed; of whom is nobody's business."""
    audit.record(
        session, [audit.Event(audit.MACHINE, "login.failed", "login", "unknown", {"what": what})], now
    )


def password_given(session: Session, candidate: Candidate, password: str, agent: str, now: datetime) -> str:
    """The password was right: a session's token that is good for giving the second factor only."""
    assert candidate.person_id is not None
    succeeded(session, candidate, now)
    person = session.get_one(Person, candidate.person_id)
    if passwords.outdated(person.password_hash):
        person.password_hash = passwords.hashed(password)
    return sessions.start(session, person.id, agent, now, confirmed=False)


def succeeded(session: Session, candidate: Candidate, now: datetime) -> None:
    """The password was right: it counts as no failure, neither the account's nor its whole office's."""
    forget(session, candidate.counter, now)
    if candidate.source is not None:
        mine = update(LoginFailures).where(LoginFailures.digest == candidate.source, LoginFailures.count > 0)
        session.execute(
            mine.values(count=LoginFailures.count - 1).execution_options(synchronize_session=False)
        )


def attempt_factor(session: Session, vault: Vault, person_id: UUID, source: Source, now: datetime) -> bytes:
    """Count an attempt at the second factor; who gets here has the password. Commit before judging it.

    Without a cookie of a known browser the whole world is one source, so that no number of addresses helps.

    Raises:
        TooManyRequests: this source has to wait; nothing is counted.
    """
    digest = session.get_one(Person, person_id).email_digest
    counter = vault.digest("factor", digest, device_of(vault, digest, source.device) or b"anywhere")
    _count(session, counter, FREE, now)
    return counter


def factor_given(session: Session, vault: Vault, person_id: UUID, counter: bytes, now: datetime) -> str:
    """The second factor was right: forget the failures, and know this browser again by the returned cookie."""
    forget(session, counter, now)
    return new_device(vault, session.get_one(Person, person_id).email_digest)


def new_device(vault: Vault, digest: bytes) -> str:
    """A cookie by which this account knows the browser again; it says nothing of whose it is."""
    nonce = secrets.token_hex(16)
    return f"{nonce}{vault.digest('device', digest, nonce).hex()}"


def device_of(vault: Vault, digest: bytes, cookie: str | None) -> bytes | None:
    """The nonce of a device cookie of this account; None if there is none, or it is another's or forged."""
    if cookie is None or len(cookie) != 96:
        return None
    nonce, signature = cookie[:32], cookie[32:]
    genuine = hmac.compare_digest(vault.digest("device", digest, nonce).hex().encode(), signature.encode())
    return nonce.encode() if genuine else None


def network(address: str) -> bytes:
    """What one subscriber has: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address.encode()
    if isinstance(parsed, IPv6Address):
        mapped = parsed.ipv4_mapped
        return mapped.packed if mapped else parsed.packed[:8]
    return parsed.packed


def wait(count: int, free: int) -> int:
    """Seconds to wait after the last of `count` failures."""
    return 0 if count < free else min(LONGEST_WAIT, 2 ** min(count - free, 20))


def _count(session: Session, digest: bytes, free: int, now: datetime) -> None:
    """Count one attempt, unless it came too early.

    Raises:
        TooManyRequests: it came too early.
    """
    over = func.least(cast(LoginFailures.count - free, Integer), 20)
    seconds = func.least(LONGEST_WAIT, func.power(2, over))
    due = LoginFailures.last_at + func.make_interval(0, 0, 0, 0, 0, 0, seconds)
    counted = session.scalar(
        insert(LoginFailures)
        .values(digest=digest, count=1, last_at=now)
        .on_conflict_do_update(
            index_elements=[LoginFailures.digest],
            set_={
                "count": case((LoginFailures.last_at < now - FORGOTTEN, 1), else_=LoginFailures.count + 1),
                "last_at": now,
            },
            where=or_(LoginFailures.count < free, due <= now),
        )
        .returning(LoginFailures.count)
    )
    if counted is None:
        row = session.get_one(LoginFailures, digest)
        left = (row.last_at + timedelta(seconds=wait(row.count, free)) - now).total_seconds()
        raise TooManyRequests(
            f"Too many failed attempts from here; wait {max(1, round(left))} seconds and try again.",
            retry_after=max(1.0, left),
            code="login_delayed",
        )


def forget(session: Session, counter: bytes, now: datetime) -> None:
    """The secret was given: its failures count no more. Old counters of anybody go with them."""
    session.execute(
        delete(LoginFailures).where(
            or_(LoginFailures.digest == counter, LoginFailures.last_at < now - FORGOTTEN)
        )
    )
