"""People who work here: who they are, how they log in, and what they chose."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, ForeignKey, Index, Integer, SmallInteger, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped

from moderation.domain.retention import RecordClass
from moderation.storage.columns import Ciphertext, Digest, Pii, columns
from moderation.storage.tables.base import Base, Moment

_account = columns(RecordClass.ACCOUNT, None)


class Person(Base):
    """Somebody who works here: a moderator, an officer, an administrator.

    `queues` and `languages` are the skills by which work finds them (empty: all); `opt_outs` are categories
    they do not want to see, for which nobody is owed a reason.
    """

    __tablename__ = "people"

    id: Mapped[UUID] = _account(Uuid, primary_key=True, pii=Pii.PSEUDONYM)
    email_digest: Mapped[bytes] = _account(Digest, unique=True, pii=Pii.DIGEST)
    email: Mapped[bytes] = _account(Ciphertext, pii=Pii.CONTENT)
    name: Mapped[bytes | None] = _account(Ciphertext, pii=Pii.CONTENT)
    password_hash: Mapped[str] = _account(Text)
    totp_secret: Mapped[bytes | None] = _account(Ciphertext, pii=Pii.CONTENT)
    totp_step: Mapped[int] = _account(
        BigInteger, server_default=text("0")
    )  # the last one used: each works once
    roles: Mapped[list[str]] = _account(ARRAY(Text))
    queues: Mapped[list[str]] = _account(ARRAY(Text), server_default=text("'{}'"))
    languages: Mapped[list[str]] = _account(ARRAY(Text), server_default=text("'{}'"))
    opt_outs: Mapped[list[str]] = _account(ARRAY(Text), server_default=text("'{}'"))
    preferences: Mapped[dict[str, Any]] = _account(JSONB, server_default=text("'{}'"))
    oidc_subject: Mapped[bytes | None] = _account(Digest, unique=True, pii=Pii.DIGEST)
    created_at: Mapped[datetime] = _account(Moment)
    disabled_at: Mapped[datetime | None] = _account(Moment)


class PersonSession(Base):
    """A log-in: the token's SHA-256, until when, and when a second factor was last given."""

    __tablename__ = "person_sessions"
    __table_args__ = (Index("ix_person_sessions_person_id", "person_id"),)

    digest: Mapped[bytes] = _account(Digest, primary_key=True, pii=Pii.DIGEST)
    id: Mapped[UUID] = _account(Uuid, unique=True)
    person_id: Mapped[UUID] = _account(Uuid, ForeignKey("people.id"), pii=Pii.PSEUDONYM)
    state: Mapped[str] = _account(Text)  # password: the second factor is still owed; open; revoked
    agent: Mapped[str] = _account(Text)
    created_at: Mapped[datetime] = _account(Moment)
    seen_at: Mapped[datetime] = _account(Moment)
    expires_at: Mapped[datetime] = _account(Moment)
    confirmed_at: Mapped[datetime | None] = _account(Moment)
    challenge: Mapped[bytes | None] = _account(
        Ciphertext, pii=Pii.CONTENT
    )  # of the WebAuthn ceremony under way


class Passkey(Base):
    """A WebAuthn credential of a person."""

    __tablename__ = "passkeys"

    id: Mapped[UUID] = _account(Uuid, primary_key=True)
    person_id: Mapped[UUID] = _account(Uuid, ForeignKey("people.id"), index=True, pii=Pii.PSEUDONYM)
    credential_digest: Mapped[bytes] = _account(Digest, unique=True, pii=Pii.DIGEST)
    credential: Mapped[bytes] = _account(Ciphertext, pii=Pii.CONTENT)  # JSON: id and public key, base64url
    sign_count: Mapped[int] = _account(BigInteger)
    name: Mapped[str] = _account(Text)
    created_at: Mapped[datetime] = _account(Moment)
    used_at: Mapped[datetime | None] = _account(Moment)


class RecoveryCode(Base):
    """One of the codes that stand in for a lost second factor, each once."""

    __tablename__ = "recovery_codes"

    digest: Mapped[bytes] = _account(Digest, primary_key=True, pii=Pii.DIGEST)
    person_id: Mapped[UUID] = _account(Uuid, ForeignKey("people.id"), index=True, pii=Pii.PSEUDONYM)
    used_at: Mapped[datetime | None] = _account(Moment)


class Invitation(Base):
    """An address that may become a person, or a person who may choose a new password: one link, once."""

    __tablename__ = "invitations"

    digest: Mapped[bytes] = _account(Digest, primary_key=True, pii=Pii.DIGEST)
    id: Mapped[UUID] = _account(Uuid, unique=True)
    kind: Mapped[str] = _account(Text)  # join, password (the second factor stays), reset (it does not)
    email: Mapped[bytes] = _account(Ciphertext, pii=Pii.CONTENT)
    roles: Mapped[list[str]] = _account(ARRAY(Text))
    person_id: Mapped[UUID | None] = _account(Uuid, ForeignKey("people.id"), pii=Pii.PSEUDONYM)
    created_by: Mapped[str] = _account(Text)
    created_at: Mapped[datetime] = _account(Moment)
    expires_at: Mapped[datetime] = _account(Moment)
    used_at: Mapped[datetime | None] = _account(Moment)


class LoginFailures(Base):
    """Failed log-ins of one address from one source: only that source waits, nobody is locked out by others."""

    __tablename__ = "login_failures"

    digest: Mapped[bytes] = _account(Digest, primary_key=True, pii=Pii.DIGEST)
    count: Mapped[int] = _account(Integer)
    last_at: Mapped[datetime] = _account(Moment)


class SavedFilter(Base):
    """A view of the queue under a name; without a person it is everybody's."""

    __tablename__ = "saved_filters"

    id: Mapped[UUID] = _account(Uuid, primary_key=True)
    person_id: Mapped[UUID | None] = _account(Uuid, ForeignKey("people.id"), index=True, pii=Pii.PSEUDONYM)
    name: Mapped[str] = _account(Text)
    query: Mapped[str] = _account(Text)
    created_at: Mapped[datetime] = _account(Moment)


class Exposure(Base):
    """That a person was shown something grave: what caps and rotation count, and nothing else."""

    __tablename__ = "exposures"
    __table_args__ = (Index("ix_exposures_recent", "person_id", "at"),)

    id: Mapped[UUID] = _account(Uuid, primary_key=True)
    person_id: Mapped[UUID] = _account(Uuid, ForeignKey("people.id"), pii=Pii.PSEUDONYM)
    case_id: Mapped[UUID] = _account(Uuid)
    kind: Mapped[str] = _account(Text)  # case: it was opened; reveal: its content was shown unblurred
    severity: Mapped[int] = _account(SmallInteger)
    category: Mapped[str | None] = _account(Text)
    at: Mapped[datetime] = _account(Moment)
