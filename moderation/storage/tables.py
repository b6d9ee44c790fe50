"""Tables of the content database. Its keys live elsewhere (`vault.py`): alone it can't be read.

`items`, `parts` and `signals` are partitioned by month over ranges of UUIDv7 (`partitions.py`), so that
expiry is mostly dropping a partition. They carry no foreign keys among themselves: a partition that others
point to could not be dropped, and decisions outlive the items they are about.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped

from moderation.domain.retention import RecordClass
from moderation.storage.columns import Ciphertext, Digest, Pii, columns

Moment = DateTime(timezone=True)

# Items that are due, never tried and tried before: the same words as in the claims, so that each has its index.
FRESH = "state = 'received' AND attempts = 0"
RETRIED = "state = 'received' AND attempts > 0"

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)


_author = columns(RecordClass.AUTHOR, "id")
_item = columns(RecordClass.ITEM, "author_id")
_part = columns(RecordClass.ITEM, "item_id>items.author_id")
_decision = columns(RecordClass.DECISION, "author_id")
_outbox = columns(RecordClass.DELIVERY, "item_id>items.author_id")
_idempotency = columns(RecordClass.IDEMPOTENCY, "item_id>items.author_id")
_audit = columns(RecordClass.AUDIT, "subject_id>items.author_id")
_bank = columns(RecordClass.BANK, None)
_account = columns(RecordClass.ACCOUNT, None)
_setup = columns(RecordClass.CONFIGURATION, None)


class Author(Base):
    """An account of the content service; its reference is readable only with its key."""

    __tablename__ = "authors"
    __table_args__ = (UniqueConstraint("client", "reference_digest"),)

    id: Mapped[UUID] = _author(Uuid, primary_key=True, pii=Pii.PSEUDONYM)
    client: Mapped[str] = _author(Text)
    reference_digest: Mapped[bytes] = _author(Digest, pii=Pii.DIGEST)
    reference: Mapped[bytes] = _author(Ciphertext, pii=Pii.CONTENT)
    created_at: Mapped[datetime] = _author(Moment)


class Item(Base):
    """One posted piece of content, from receipt to destruction."""

    __tablename__ = "items"
    __table_args__ = (
        Index("ix_items_due", "lane", "not_before", "id", postgresql_where=text(FRESH)),
        Index("ix_items_retry", "lane", "not_before", "id", postgresql_where=text(RETRIED)),
        Index("ix_items_leased", "lease_until", postgresql_where=text("state = 'leased'")),
        Index("ix_items_external", "client", "external_digest"),
        Index("ix_items_expires_at", "expires_at", postgresql_where=text("destroyed_at IS NULL")),
        Index("ix_items_author_id", "author_id"),
        Index("ix_items_listing", "client", "state", "id"),
        CheckConstraint("state IN ('received','leased','done','dead','deleted')", name="state"),
        CheckConstraint("(state = 'leased') = (lease_token IS NOT NULL)", name="lease"),
        {"postgresql_partition_by": "RANGE (id)"},
    )

    id: Mapped[UUID] = _item(Uuid, primary_key=True, pii=Pii.PSEUDONYM)
    client: Mapped[str] = _item(Text)
    author_id: Mapped[UUID] = _item(Uuid, pii=Pii.PSEUDONYM)
    external_digest: Mapped[bytes] = _item(Digest, pii=Pii.DIGEST)
    details: Mapped[bytes | None] = _item(Ciphertext, pii=Pii.CONTENT)
    kind: Mapped[str] = _item(Text)
    language: Mapped[str | None] = _item(Text)
    reach: Mapped[int | None] = _item(BigInteger)
    posted_at: Mapped[datetime] = _item(Moment)
    received_at: Mapped[datetime] = _item(Moment)
    callback_id: Mapped[UUID | None] = _item(Uuid)
    lane: Mapped[str] = _item(Text)
    state: Mapped[str] = _item(Text)
    attempts: Mapped[int] = _item(SmallInteger)
    not_before: Mapped[datetime] = _item(Moment)
    lease_token: Mapped[UUID | None] = _item(Uuid)
    lease_until: Mapped[datetime | None] = _item(Moment)
    retention_class: Mapped[str] = _item(Text)
    decided_at: Mapped[datetime | None] = _item(Moment)
    expires_at: Mapped[datetime] = _item(Moment)
    deleted_at: Mapped[datetime | None] = _item(Moment)
    deleted_because: Mapped[str | None] = _item(Text)
    destroyed_at: Mapped[datetime | None] = _item(Moment)


class Part(Base):
    """A text (encrypted in the row) or a picture (encrypted in the blob store) of an item."""

    __tablename__ = "parts"
    __table_args__ = (
        CheckConstraint("kind IN ('text','image')", name="kind"),
        {"postgresql_partition_by": "RANGE (item_id)"},
    )

    item_id: Mapped[UUID] = _part(Uuid, primary_key=True, pii=Pii.PSEUDONYM)
    position: Mapped[int] = _part(SmallInteger, primary_key=True)
    name: Mapped[str] = _part(Text)
    kind: Mapped[str] = _part(Text)
    media_type: Mapped[str] = _part(Text)
    size: Mapped[int] = _part(Integer)
    content: Mapped[bytes | None] = _part(Ciphertext, pii=Pii.CONTENT)
    blob: Mapped[str | None] = _part(Text)


class SignalRow(Base):
    """What one detector found in one part: every score it gave, in one row."""

    __tablename__ = "signals"
    __table_args__ = ({"postgresql_partition_by": "RANGE (item_id)"},)

    item_id: Mapped[UUID] = _part(Uuid, primary_key=True, pii=Pii.PSEUDONYM)
    part: Mapped[str] = _part(Text, primary_key=True)
    detector: Mapped[str] = _part(Text, primary_key=True)
    version: Mapped[str] = _part(Text)
    status: Mapped[str] = _part(Text)
    scores: Mapped[dict[str, float]] = _part(JSONB)
    evidence: Mapped[dict[str, Any]] = _part(JSONB)


class Decision(Base):
    """An append-only record of an outcome. Only `superseded_at` is ever set afterwards."""

    __tablename__ = "decisions"
    __table_args__ = (
        Index(
            "uq_decisions_effective",
            "item_id",
            "policy_version",
            unique=True,
            postgresql_where=text("superseded_at IS NULL"),
        ),
        Index("ix_decisions_author_id", "author_id"),
    )

    id: Mapped[UUID] = _decision(Uuid, primary_key=True)
    item_id: Mapped[UUID] = _decision(Uuid, pii=Pii.PSEUDONYM)
    author_id: Mapped[UUID] = _decision(Uuid, pii=Pii.PSEUDONYM)
    client: Mapped[str] = _decision(Text)
    route: Mapped[str] = _decision(Text)
    category: Mapped[str | None] = _decision(Text)
    reasons: Mapped[list[str]] = _decision(JSONB)
    findings: Mapped[list[dict[str, Any]]] = _decision(JSONB)
    detectors: Mapped[list[dict[str, str]]] = _decision(JSONB)
    decided_by: Mapped[str] = _decision(Text)
    policy_version: Mapped[int] = _decision(Integer, ForeignKey("policies.version"))
    decided_at: Mapped[datetime] = _decision(Moment)
    supersedes: Mapped[UUID | None] = _decision(Uuid)
    superseded_at: Mapped[datetime | None] = _decision(Moment)


class Case(Base):
    """One item's stay before people."""

    __tablename__ = "cases"
    __table_args__ = (
        Index("uq_cases_open", "item_id", unique=True, postgresql_where=text("state = 'open'")),
        Index("ix_cases_waiting", "deadline", "priority", postgresql_where=text("state = 'open'")),
        CheckConstraint("state IN ('open','closed')", name="state"),
    )

    id: Mapped[UUID] = _decision(Uuid, primary_key=True)
    item_id: Mapped[UUID] = _decision(Uuid, pii=Pii.PSEUDONYM)
    author_id: Mapped[UUID] = _decision(Uuid, pii=Pii.PSEUDONYM)
    client: Mapped[str] = _decision(Text)
    decision_id: Mapped[UUID] = _decision(Uuid, ForeignKey("decisions.id"))
    reason: Mapped[str] = _decision(Text)
    category: Mapped[str | None] = _decision(Text)
    severity: Mapped[int] = _decision(SmallInteger)
    priority: Mapped[float] = _decision(Float)
    deadline: Mapped[datetime] = _decision(Moment)
    state: Mapped[str] = _decision(Text)
    opened_at: Mapped[datetime] = _decision(Moment)
    closed_at: Mapped[datetime | None] = _decision(Moment)


class Outbox(Base):
    """A webhook on its way to one endpoint. Its id is the `webhook-id` of every attempt."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index("ix_outbox_due", "endpoint_id", "not_before", postgresql_where=text("state = 'pending'")),
        Index("ix_outbox_leased", "lease_until", postgresql_where=text("state = 'leased'")),
        Index("ix_outbox_dead", "client", "id", postgresql_where=text("state = 'dead'")),
        CheckConstraint("state IN ('pending','leased','delivered','dead')", name="state"),
    )

    id: Mapped[UUID] = _outbox(Uuid, primary_key=True)
    client: Mapped[str] = _outbox(Text)
    endpoint_id: Mapped[UUID] = _outbox(Uuid, ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    item_id: Mapped[UUID] = _outbox(Uuid, pii=Pii.PSEUDONYM)
    event: Mapped[str] = _outbox(Text)
    payload: Mapped[dict[str, Any]] = _outbox(JSONB)
    created_at: Mapped[datetime] = _outbox(Moment)
    state: Mapped[str] = _outbox(Text)
    attempts: Mapped[int] = _outbox(SmallInteger)
    not_before: Mapped[datetime] = _outbox(Moment)
    lease_token: Mapped[UUID | None] = _outbox(Uuid)
    lease_until: Mapped[datetime | None] = _outbox(Moment)
    last_status: Mapped[int | None] = _outbox(Integer)
    last_error: Mapped[str | None] = _outbox(Text)
    delivered_at: Mapped[datetime | None] = _outbox(Moment)


class IdempotencyKey(Base):
    """What a client's key was first used for; unlike `items`, unique over all months."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("ix_idempotency_keys_expires_at", "expires_at"),)

    client: Mapped[str] = _idempotency(Text, primary_key=True)
    key_digest: Mapped[bytes] = _idempotency(Digest, primary_key=True, pii=Pii.DIGEST)
    body_digest: Mapped[bytes] = _idempotency(Digest, pii=Pii.DIGEST)
    item_id: Mapped[UUID] = _idempotency(Uuid, pii=Pii.PSEUDONYM)
    expires_at: Mapped[datetime] = _idempotency(Moment)


class AuditEvent(Base):
    """What happened, by whom, to what: ids and words, never content. A trigger refuses any change."""

    __tablename__ = "audit_events"
    __table_args__ = (Index("ix_audit_events_subject_id", "subject_id"),)

    id: Mapped[UUID] = _audit(Uuid, primary_key=True)
    at: Mapped[datetime] = _audit(Moment)
    actor: Mapped[str] = _audit(Text)
    action: Mapped[str] = _audit(Text)
    subject: Mapped[str] = _audit(Text)
    subject_id: Mapped[str] = _audit(Text, pii=Pii.PSEUDONYM)
    details: Mapped[dict[str, Any]] = _audit(JSONB)


class ApiKey(Base):
    """A content service's key: `mk_<id>_<secret>`, the secret kept as an HMAC only."""

    __tablename__ = "api_keys"

    id: Mapped[str] = _account(Text, primary_key=True)
    client: Mapped[str] = _account(Text)
    secret_digest: Mapped[bytes] = _account(Digest, pii=Pii.DIGEST)
    scopes: Mapped[list[str]] = _account(ARRAY(Text))
    created_at: Mapped[datetime] = _account(Moment)
    revoked_at: Mapped[datetime | None] = _account(Moment)


class Person(Base):
    """Somebody who works here: a moderator, an officer, an administrator."""

    __tablename__ = "people"

    id: Mapped[UUID] = _account(Uuid, primary_key=True, pii=Pii.PSEUDONYM)
    email_digest: Mapped[bytes] = _account(Digest, unique=True, pii=Pii.DIGEST)
    email: Mapped[bytes] = _account(Ciphertext, pii=Pii.CONTENT)
    password_hash: Mapped[str] = _account(Text)
    totp_secret: Mapped[bytes] = _account(Ciphertext, pii=Pii.CONTENT)
    roles: Mapped[list[str]] = _account(ARRAY(Text))
    created_at: Mapped[datetime] = _account(Moment)
    disabled_at: Mapped[datetime | None] = _account(Moment)


class WebhookEndpoint(Base):
    """Where a client wants to be told; the signing secret is encrypted under a service key."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (UniqueConstraint("client", "name"),)

    id: Mapped[UUID] = _account(Uuid, primary_key=True)
    client: Mapped[str] = _account(Text)
    name: Mapped[str] = _account(Text)
    url: Mapped[str] = _account(Text)
    events: Mapped[list[str]] = _account(ARRAY(Text))
    secret: Mapped[bytes] = _account(Ciphertext, pii=Pii.CONTENT)
    created_at: Mapped[datetime] = _account(Moment)
    disabled_at: Mapped[datetime | None] = _account(Moment)
    disabled_because: Mapped[str | None] = _account(Text)


class PolicyRow(Base):
    """A published policy; a trigger refuses any change."""

    __tablename__ = "policies"

    version: Mapped[int] = _setup(Integer, primary_key=True, autoincrement=False)
    sha256: Mapped[str] = _setup(Text, unique=True)
    document: Mapped[str] = _setup(Text)
    published_at: Mapped[datetime] = _setup(Moment)
    published_by: Mapped[str] = _setup(Text)


class ModelRow(Base):
    """A model version known to this installation."""

    __tablename__ = "models"

    name: Mapped[str] = _setup(Text, primary_key=True)
    version: Mapped[str] = _setup(Text, primary_key=True)
    kind: Mapped[str] = _setup(Text)
    manifest_sha256: Mapped[str] = _setup(Text)
    folder: Mapped[str] = _setup(Text)
    added_at: Mapped[datetime] = _setup(Moment)


class ModelAlias(Base):
    """Which version serves: the alias `champion` of each name."""

    __tablename__ = "model_aliases"

    name: Mapped[str] = _setup(Text, primary_key=True)
    alias: Mapped[str] = _setup(Text, primary_key=True)
    version: Mapped[str] = _setup(Text)
    set_at: Mapped[datetime] = _setup(Moment)


class Bank(Base):
    """A named list of known content: what an exact match with one of its entries means."""

    __tablename__ = "banks"
    __table_args__ = (
        CheckConstraint("kind IN ('image','text')", name="kind"),
        CheckConstraint("action IN ('remove','limit','review','label')", name="action"),
    )

    id: Mapped[UUID] = _bank(Uuid, primary_key=True)
    name: Mapped[str] = _bank(Text, unique=True)
    kind: Mapped[str] = _bank(Text)
    category: Mapped[str] = _bank(Text)
    action: Mapped[str] = _bank(Text)
    allow: Mapped[bool] = _bank(Boolean)
    enabled: Mapped[bool] = _bank(Boolean)
    created_at: Mapped[datetime] = _bank(Moment)


class BankEntry(Base):
    """One known text or picture, by digest: who added it and whether somebody verified it."""

    __tablename__ = "bank_entries"
    __table_args__ = (UniqueConstraint("bank_id", "digest"), Index("ix_bank_entries_digest", "digest"))

    id: Mapped[UUID] = _bank(Uuid, primary_key=True)
    bank_id: Mapped[UUID] = _bank(Uuid, ForeignKey("banks.id", ondelete="CASCADE"))
    digest: Mapped[bytes] = _bank(Digest, pii=Pii.DIGEST)
    verified: Mapped[bool] = _bank(Boolean)
    note: Mapped[str] = _bank(Text)
    added_by: Mapped[str] = _bank(Text)
    added_at: Mapped[datetime] = _bank(Moment)
    expires_at: Mapped[datetime | None] = _bank(Moment)
