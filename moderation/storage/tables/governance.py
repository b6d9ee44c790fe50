"""Duties: the tree over the log, erasures, holds, disclosures, requests, minors, partners, incidents, reports."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped

from moderation.domain.retention import RecordClass
from moderation.storage.columns import Ciphertext, Digest, Pii, columns
from moderation.storage.tables.base import Base, Moment

_log = columns(RecordClass.AUDIT, None)
_duty = columns(RecordClass.GOVERNANCE, None)
_subject = columns(RecordClass.DECISION, "author_id")
_tombstone = columns(RecordClass.IDEMPOTENCY, "digest>authors.reference_digest")
_account = columns(RecordClass.ACCOUNT, None)
_setup = columns(RecordClass.CONFIGURATION, None)


class AuditTile(Base):
    """256 neighbouring hashes of one level of the tree over the log, complete and never changed (RFC 9162)."""

    __tablename__ = "audit_tiles"

    level: Mapped[int] = _log(SmallInteger, primary_key=True, autoincrement=False)
    index: Mapped[int] = _log(BigInteger, primary_key=True, autoincrement=False)
    hashes: Mapped[bytes] = _log(Digest)


class AuditCheckpoint(Base):
    """The tree's root at one size, signed: a C2SP checkpoint in a signed note."""

    __tablename__ = "audit_checkpoints"

    size: Mapped[int] = _log(BigInteger, primary_key=True, autoincrement=False)
    root: Mapped[bytes] = _log(Digest)
    note: Mapped[str] = _log(Text)
    at: Mapped[datetime] = _log(Moment)


class PolicyDraft(Base):
    """A policy somebody works on. Publishing it makes a version; the draft then ends."""

    __tablename__ = "policy_drafts"

    id: Mapped[UUID] = _setup(Uuid, primary_key=True)
    name: Mapped[str] = _setup(Text)
    document: Mapped[str] = _setup(Text)
    base: Mapped[int] = _setup(Integer)
    saved_by: Mapped[str] = _setup(Text)
    saved_at: Mapped[datetime] = _setup(Moment)


class StatementDelivery(Base):
    """A statement of reasons on its way to the EU's database. Its text is derived anew from the decision."""

    __tablename__ = "statement_deliveries"
    __table_args__ = (
        Index("ix_statement_deliveries_due", "not_before", postgresql_where=text("state = 'pending'")),
        Index("ix_statement_deliveries_unsent", "state", postgresql_where=text("state <> 'sent'")),
        Index("ix_statement_deliveries_author_id", "author_id"),
        CheckConstraint("state IN ('pending','sent','refused')", name="state"),
    )

    decision_id: Mapped[UUID] = _subject(Uuid, ForeignKey("decisions.id"), primary_key=True)
    author_id: Mapped[UUID] = _subject(Uuid, pii=Pii.PSEUDONYM)
    puid: Mapped[str] = _subject(Text, unique=True)  # never used again
    state: Mapped[str] = _subject(Text)
    attempts: Mapped[int] = _subject(SmallInteger, server_default=text("0"))
    not_before: Mapped[datetime] = _subject(Moment)
    sent_at: Mapped[datetime | None] = _subject(Moment)
    last_status: Mapped[int | None] = _subject(Integer)
    last_error: Mapped[str | None] = _subject(Text)


class Erasure(Base):
    """The ledger of erasures: replayed before a restored instance serves, and the source of every receipt."""

    __tablename__ = "erasures"
    __table_args__ = (
        Index("ix_erasures_author_id", "author_id"),
        Index("ix_erasures_open", "requested_at", postgresql_where=text("completed_at IS NULL")),
        CheckConstraint("scope IN ('author','item')", name="scope"),
        CheckConstraint("(scope = 'item') = (item_id IS NOT NULL)", name="item"),
        CheckConstraint("state IN ('hidden','held','done')", name="state"),
    )

    id: Mapped[UUID] = _subject(Uuid, primary_key=True)
    scope: Mapped[str] = _subject(Text)
    author_id: Mapped[UUID] = _subject(Uuid, pii=Pii.PSEUDONYM)
    item_id: Mapped[UUID | None] = _subject(Uuid, pii=Pii.PSEUDONYM)
    client: Mapped[str] = _subject(Text)
    cause: Mapped[str] = _subject(Text)  # `domain.erasing.Cause`
    requested_by: Mapped[str] = _subject(Text)
    requested_at: Mapped[datetime] = _subject(Moment)
    hidden_at: Mapped[datetime] = _subject(Moment)
    state: Mapped[str] = _subject(Text)  # held: done but for what a hold keeps
    completed_at: Mapped[datetime | None] = _subject(Moment)
    before: Mapped[dict[str, Any]] = _subject(JSONB)  # rows, keys and blobs per table, counted at the start
    after: Mapped[dict[str, Any] | None] = _subject(JSONB)
    kept: Mapped[list[dict[str, Any]]] = _subject(JSONB, server_default=text("'[]'"))
    receipt: Mapped[str | None] = _subject(Text)  # canonical JSON, signed


class Tombstone(Base):
    """That a post or an author is gone, by keyed digest and for a while: a late retry gets 410."""

    __tablename__ = "tombstones"
    __table_args__ = (
        Index("ix_tombstones_expires_at", "expires_at"),
        CheckConstraint("kind IN ('author','post')", name="kind"),
    )

    client: Mapped[str] = _tombstone(Text, primary_key=True)
    kind: Mapped[str] = _tombstone(Text, primary_key=True)
    digest: Mapped[bytes] = _tombstone(Digest, primary_key=True, pii=Pii.DIGEST)
    erasure_id: Mapped[UUID | None] = _tombstone(Uuid)
    expires_at: Mapped[datetime] = _tombstone(Moment)


class Hold(Base):
    """Content that must not end: on whose authority, asked for by one person and approved by another."""

    __tablename__ = "holds"
    __table_args__ = (
        Index("ix_holds_author_id", "author_id"),
        Index("ix_holds_open", "review_at", postgresql_where=text("state = 'active'")),
        CheckConstraint("scope IN ('author','item')", name="scope"),
        CheckConstraint("(scope = 'item') = (item_id IS NOT NULL)", name="item"),
        CheckConstraint("state IN ('requested','active','refused','released')", name="state"),
        CheckConstraint("approved_by IS NULL OR approved_by <> requested_by", name="four_eyes"),
        CheckConstraint("state <> 'active' OR approved_by IS NOT NULL", name="approved"),
    )

    id: Mapped[UUID] = _subject(Uuid, primary_key=True)
    scope: Mapped[str] = _subject(Text)
    author_id: Mapped[UUID] = _subject(Uuid, pii=Pii.PSEUDONYM)
    item_id: Mapped[UUID | None] = _subject(Uuid, pii=Pii.PSEUDONYM)
    client: Mapped[str] = _subject(Text)
    authority: Mapped[str] = _subject(Text)
    basis: Mapped[str] = _subject(Text)
    reference: Mapped[bytes | None] = _subject(Ciphertext, pii=Pii.CONTENT)  # file number; accounts key
    requested_by: Mapped[UUID] = _subject(Uuid, ForeignKey("people.id"), pii=Pii.PSEUDONYM)
    requested_at: Mapped[datetime] = _subject(Moment)
    approved_by: Mapped[UUID | None] = _subject(Uuid, ForeignKey("people.id"), pii=Pii.PSEUDONYM)
    decided_at: Mapped[datetime | None] = _subject(Moment)
    review_at: Mapped[datetime] = _subject(Moment)
    state: Mapped[str] = _subject(Text)
    released_by: Mapped[UUID | None] = _subject(Uuid, ForeignKey("people.id"), pii=Pii.PSEUDONYM)
    released_at: Mapped[datetime | None] = _subject(Moment)


class HeldItem(Base):
    """An item that a hold keeps. The row stays after release, with `released_at`, as the record of it."""

    __tablename__ = "held_items"
    __table_args__ = (
        Index("ix_held_items_item_id", "item_id"),
        Index("ix_held_items_author_id", "author_id"),
    )

    hold_id: Mapped[UUID] = _subject(Uuid, ForeignKey("holds.id"), primary_key=True)
    item_id: Mapped[UUID] = _subject(Uuid, primary_key=True, pii=Pii.PSEUDONYM)
    author_id: Mapped[UUID] = _subject(Uuid, pii=Pii.PSEUDONYM)
    released_at: Mapped[datetime | None] = _subject(Moment)


class Preservation(Base):
    """Evidence sealed for authorities under a key of its own, read by the legal role only, ended by a date."""

    __tablename__ = "preservations"
    __table_args__ = (
        Index("ix_preservations_author_id", "author_id"),
        Index("ix_preservations_due", "keep_until", postgresql_where=text("destroyed_at IS NULL")),
    )

    id: Mapped[UUID] = _subject(Uuid, primary_key=True)
    author_id: Mapped[UUID] = _subject(Uuid, pii=Pii.PSEUDONYM)
    client: Mapped[str] = _subject(Text)
    hold_id: Mapped[UUID | None] = _subject(Uuid, ForeignKey("holds.id"))
    cause: Mapped[str] = _subject(Text)
    basis: Mapped[str] = _subject(Text)
    created_by: Mapped[str] = _subject(Text)
    created_at: Mapped[datetime] = _subject(Moment)
    keep_until: Mapped[datetime] = _subject(Moment)
    items: Mapped[int] = _subject(Integer)
    sha256: Mapped[str] = _subject(Text)  # of the manifest, which names every file and its SHA-256
    blob: Mapped[str | None] = _subject(Text)  # the sealed package, until it is destroyed
    destroyed_at: Mapped[datetime | None] = _subject(Moment)


class Disclosure(Base):
    """That content was handed to an authority: what, why, by whose order, approved by a second person."""

    __tablename__ = "disclosures"
    __table_args__ = (
        Index("ix_disclosures_author_id", "author_id"),
        CheckConstraint("state IN ('requested','approved','refused','exported')", name="state"),
        CheckConstraint("approved_by IS NULL OR approved_by <> requested_by", name="four_eyes"),
        CheckConstraint("state NOT IN ('approved','exported') OR approved_by IS NOT NULL", name="approved"),
        CheckConstraint("(state = 'exported') = (sha256 IS NOT NULL)", name="manifest"),
    )

    id: Mapped[UUID] = _subject(Uuid, primary_key=True)
    author_id: Mapped[UUID] = _subject(Uuid, pii=Pii.PSEUDONYM)
    client: Mapped[str] = _subject(Text)
    preservation_id: Mapped[UUID] = _subject(Uuid, ForeignKey("preservations.id"))
    authority: Mapped[str] = _subject(Text)
    basis: Mapped[str] = _subject(Text)
    reference: Mapped[bytes | None] = _subject(Ciphertext, pii=Pii.CONTENT)  # file number; accounts key
    requested_by: Mapped[UUID] = _subject(Uuid, ForeignKey("people.id"), pii=Pii.PSEUDONYM)
    requested_at: Mapped[datetime] = _subject(Moment)
    approved_by: Mapped[UUID | None] = _subject(Uuid, ForeignKey("people.id"), pii=Pii.PSEUDONYM)
    decided_at: Mapped[datetime | None] = _subject(Moment)
    state: Mapped[str] = _subject(Text)
    exported_by: Mapped[UUID | None] = _subject(Uuid, ForeignKey("people.id"), pii=Pii.PSEUDONYM)
    exported_at: Mapped[datetime | None] = _subject(Moment)
    sha256: Mapped[str | None] = _subject(Text)  # of the manifest that was handed over


class SubjectRequest(Base):
    """Somebody uses a right over what we hold of them, through the content service that knows who they are."""

    __tablename__ = "subject_requests"
    __table_args__ = (
        Index("ix_subject_requests_author_id", "author_id"),
        Index("ix_subject_requests_open", "due_at", postgresql_where=text("state = 'open'")),
        CheckConstraint("state IN ('open','done','refused')", name="state"),
    )

    id: Mapped[UUID] = _subject(Uuid, primary_key=True)
    client: Mapped[str] = _subject(Text)
    author_id: Mapped[UUID] = _subject(Uuid, pii=Pii.PSEUDONYM)
    kind: Mapped[str] = _subject(Text)  # `domain.subjects.Right`
    identity_verified: Mapped[bool] = _subject(Boolean)
    details: Mapped[bytes | None] = _subject(Ciphertext, pii=Pii.CONTENT)  # under the author's key
    received_at: Mapped[datetime] = _subject(Moment)
    due_at: Mapped[datetime] = _subject(Moment)
    state: Mapped[str] = _subject(Text)
    outcome: Mapped[str | None] = _subject(Text)  # a word of ours, such as erased or not_found
    closed_by: Mapped[str | None] = _subject(Text)
    closed_at: Mapped[datetime | None] = _subject(Moment)
    erasure_id: Mapped[UUID | None] = _subject(Uuid)


class MinorCheck(Base):
    """Whether an author is a minor: opened by a signal, a report or a notice, answered by a person."""

    __tablename__ = "minor_checks"
    __table_args__ = (
        Index("uq_minor_checks_open", "author_id", unique=True, postgresql_where=text("state = 'suspected'")),
        Index("ix_minor_checks_author_id", "author_id"),
        Index("ix_minor_checks_due", "deadline", postgresql_where=text("state = 'suspected'")),
        CheckConstraint("state IN ('suspected','confirmed','cleared')", name="state"),
        CheckConstraint("source IN ('signal','report','notice','person')", name="source"),
    )

    id: Mapped[UUID] = _subject(Uuid, primary_key=True)
    author_id: Mapped[UUID] = _subject(Uuid, pii=Pii.PSEUDONYM)
    client: Mapped[str] = _subject(Text)
    source: Mapped[str] = _subject(Text)
    item_id: Mapped[UUID | None] = _subject(Uuid, pii=Pii.PSEUDONYM)
    opened_at: Mapped[datetime] = _subject(Moment)
    deadline: Mapped[datetime] = _subject(Moment)
    state: Mapped[str] = _subject(Text)
    decided_by: Mapped[UUID | None] = _subject(Uuid, ForeignKey("people.id"), pii=Pii.PSEUDONYM)
    decided_at: Mapped[datetime | None] = _subject(Moment)
    erasure_id: Mapped[UUID | None] = _subject(Uuid)
    preservation_id: Mapped[UUID | None] = _subject(Uuid)


class Partner(Base):
    """A processor we hand items to: for one purpose, these fields only, until a date. Key `mp_<id>_<secret>`."""

    __tablename__ = "partners"

    id: Mapped[str] = _account(Text, primary_key=True)
    name: Mapped[str] = _account(Text, unique=True)
    secret_digest: Mapped[bytes] = _account(Digest, pii=Pii.DIGEST)
    purpose: Mapped[str] = _account(Text)
    fields: Mapped[list[str]] = _account(ARRAY(Text))
    created_by: Mapped[str] = _account(Text)
    created_at: Mapped[datetime] = _account(Moment)
    expires_at: Mapped[datetime] = _account(Moment)
    revoked_at: Mapped[datetime | None] = _account(Moment)


class PartnerItem(Base):
    """An item that a partner may read; once it is gone here, they are told until they acknowledge it."""

    __tablename__ = "partner_items"
    __table_args__ = (
        Index("ix_partner_items_item_id", "item_id"),
        Index("ix_partner_items_author_id", "author_id"),
        Index(
            "ix_partner_items_deleted",
            "partner_id",
            postgresql_where=text("deleted_at IS NOT NULL AND acknowledged_at IS NULL"),
        ),
    )

    partner_id: Mapped[str] = _subject(Text, ForeignKey("partners.id"), primary_key=True)
    item_id: Mapped[UUID] = _subject(Uuid, primary_key=True, pii=Pii.PSEUDONYM)
    author_id: Mapped[UUID] = _subject(Uuid, pii=Pii.PSEUDONYM)
    assigned_by: Mapped[str] = _subject(Text)
    assigned_at: Mapped[datetime] = _subject(Moment)
    deleted_at: Mapped[datetime | None] = _subject(Moment)
    acknowledged_at: Mapped[datetime | None] = _subject(Moment)


class Incident(Base):
    """A breach or a suspicion of one: what is known, whom it touches, by when who must be told."""

    __tablename__ = "incidents"
    __table_args__ = (
        Index("ix_incidents_open", "notify_by", postgresql_where=text("closed_at IS NULL")),
        CheckConstraint("severity BETWEEN 1 AND 5", name="severity"),
    )

    id: Mapped[UUID] = _duty(Uuid, primary_key=True)
    kind: Mapped[str] = _duty(Text)
    severity: Mapped[int] = _duty(SmallInteger)
    description: Mapped[bytes | None] = _duty(Ciphertext, pii=Pii.CONTENT)  # accounts key
    detected_at: Mapped[datetime] = _duty(Moment)
    opened_by: Mapped[str] = _duty(Text)
    opened_at: Mapped[datetime] = _duty(Moment)
    notify_by: Mapped[datetime] = _duty(Moment)
    # Which events of the log are concerned: actor, action, since, until.
    scope: Mapped[dict[str, Any]] = _duty(JSONB)
    affected: Mapped[int | None] = _duty(Integer)
    authority_told_at: Mapped[datetime | None] = _duty(Moment)
    authors_told_at: Mapped[datetime | None] = _duty(Moment)
    closed_at: Mapped[datetime | None] = _duty(Moment)


class IncidentAuthor(Base):
    """An author whom an incident touches, and when their content service was told."""

    __tablename__ = "incident_authors"
    __table_args__ = (Index("ix_incident_authors_author_id", "author_id"),)

    incident_id: Mapped[UUID] = _subject(Uuid, ForeignKey("incidents.id"), primary_key=True)
    author_id: Mapped[UUID] = _subject(Uuid, primary_key=True, pii=Pii.PSEUDONYM)
    client: Mapped[str] = _subject(Text)
    told_at: Mapped[datetime | None] = _subject(Moment)


class SignedReport(Base):
    """A scheduled report on audit, retention or access: the document and its Ed25519 signature."""

    __tablename__ = "signed_reports"
    __table_args__ = (Index("uq_signed_reports_period", "kind", "since", unique=True),)

    id: Mapped[UUID] = _duty(Uuid, primary_key=True)
    kind: Mapped[str] = _duty(Text)  # audit, retention, access
    since: Mapped[datetime] = _duty(Moment)
    until: Mapped[datetime] = _duty(Moment)
    made_at: Mapped[datetime] = _duty(Moment)
    made_by: Mapped[str] = _duty(Text)
    document: Mapped[str] = _duty(Text)  # canonical JSON: counts, never content
    signature: Mapped[str] = _duty(Text)
