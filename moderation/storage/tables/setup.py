"""The service's own set-up: clients' keys and endpoints, what is sent to them, policies, models, banks, the log."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped

from moderation.domain.retention import RecordClass
from moderation.storage.columns import Ciphertext, Digest, Pii, columns
from moderation.storage.tables.base import Base, Moment

_outbox = columns(RecordClass.DELIVERY, "item_id>items.author_id")
_audit = columns(RecordClass.AUDIT, "subject_id>items.author_id")
_bank = columns(RecordClass.BANK, None)
_account = columns(RecordClass.ACCOUNT, None)
_setup = columns(RecordClass.CONFIGURATION, None)


class Outbox(Base):
    """A webhook on its way to one endpoint. Its id is the `webhook-id` of every attempt."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index("ix_outbox_due", "endpoint_id", "not_before", postgresql_where=text("state = 'pending'")),
        Index("ix_outbox_leased", "lease_until", postgresql_where=text("state = 'leased'")),
        Index("ix_outbox_dead", "client", "id", postgresql_where=text("state = 'dead'")),
        Index("ix_outbox_undo_id", "undo_id", postgresql_where=text("undo_id IS NOT NULL")),
        # From when the time to appeal counts, where nobody said that the author was informed.
        Index(
            "ix_outbox_told",
            "item_id",
            postgresql_where=text("event = 'item.decided' AND delivered_at IS NOT NULL"),
        ),
        CheckConstraint("state IN ('pending','leased','delivered','dead')", name="state"),
    )

    id: Mapped[UUID] = _outbox(Uuid, primary_key=True)
    client: Mapped[str] = _outbox(Text)
    endpoint_id: Mapped[UUID] = _outbox(Uuid, ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    item_id: Mapped[UUID | None] = _outbox(Uuid, pii=Pii.PSEUDONYM)
    event: Mapped[str] = _outbox(Text)
    payload: Mapped[dict[str, Any]] = _outbox(JSONB)
    created_at: Mapped[datetime] = _outbox(Moment)
    state: Mapped[str] = _outbox(Text)
    attempts: Mapped[int] = _outbox(SmallInteger)
    not_before: Mapped[datetime] = _outbox(Moment)
    undo_id: Mapped[UUID | None] = _outbox(Uuid)  # of the act that it tells of, until that can't be undone
    lease_token: Mapped[UUID | None] = _outbox(Uuid)
    lease_until: Mapped[datetime | None] = _outbox(Moment)
    last_status: Mapped[int | None] = _outbox(Integer)
    last_error: Mapped[str | None] = _outbox(Text)
    delivered_at: Mapped[datetime | None] = _outbox(Moment)


class AuditEvent(Base):
    """What happened, by whom, to what: ids and words, never content. A trigger refuses any change but numbering."""

    __tablename__ = "audit_events"
    __table_args__ = (
        Index("ix_audit_events_subject_id", "subject_id"),
        # Partial: an event that is written has no number, and should not pay for this index too.
        Index(
            "uq_audit_events_leaf_index",
            "leaf_index",
            unique=True,
            postgresql_where=text("leaf_index IS NOT NULL"),
        ),
        Index("ix_audit_events_waiting", "id", postgresql_where=text("leaf_index IS NULL")),
    )

    id: Mapped[UUID] = _audit(Uuid, primary_key=True)
    at: Mapped[datetime] = _audit(Moment)
    actor: Mapped[str] = _audit(Text)
    action: Mapped[str] = _audit(Text)
    subject: Mapped[str] = _audit(Text)
    subject_id: Mapped[str] = _audit(Text, pii=Pii.PSEUDONYM)
    details: Mapped[dict[str, Any]] = _audit(JSONB)
    salt: Mapped[bytes | None] = _audit(Digest)
    commitment: Mapped[bytes | None] = _audit(Digest)  # to the details: they can go and the tree stays valid
    leaf_index: Mapped[int | None] = _audit(BigInteger)  # given by the sequencer after the commit


class ApiKey(Base):
    """A content service's key: `mk_<id>_<secret>`, the secret kept as an HMAC only."""

    __tablename__ = "api_keys"

    id: Mapped[str] = _account(Text, primary_key=True)
    client: Mapped[str] = _account(Text)
    secret_digest: Mapped[bytes] = _account(Digest, pii=Pii.DIGEST)
    scopes: Mapped[list[str]] = _account(ARRAY(Text))
    created_at: Mapped[datetime] = _account(Moment)
    revoked_at: Mapped[datetime | None] = _account(Moment)


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
    effective_at: Mapped[datetime | None] = _setup(Moment)  # None: from when it was published


class ModelRow(Base):
    """A model version known to this installation: shipped with the release, or added here by somebody."""

    __tablename__ = "models"
    __table_args__ = (CheckConstraint("origin IN ('shipped','own')", name="origin"),)

    name: Mapped[str] = _setup(Text, primary_key=True)
    version: Mapped[str] = _setup(Text, primary_key=True)
    kind: Mapped[str] = _setup(Text)
    manifest_sha256: Mapped[str] = _setup(Text)
    folder: Mapped[str] = _setup(Text)  # below the shipped artifacts, or below the model folder, by origin
    added_at: Mapped[datetime] = _setup(Moment)
    origin: Mapped[str] = _setup(Text, server_default=text("'shipped'"))
    # Which bundles it learned from; how many of their rows were erased since, and since when; when it was retired.
    bundles: Mapped[list[UUID]] = _setup(ARRAY(Uuid), server_default=text("'{}'"))
    erased: Mapped[int] = _setup(Integer, server_default=text("0"))
    tainted_at: Mapped[datetime | None] = _setup(Moment)
    retired_at: Mapped[datetime | None] = _setup(Moment)
    # What it scores, from its manifest: `governance.lineups.described`. Kept here, for files may go.
    outputs: Mapped[dict[str, Any]] = _setup(JSONB, server_default=text("'{}'"))


class ModelAlias(Base):
    """Which version serves, the alias `champion` of each name, and which did before it, `previous`.

    `shadow` scores everything and decides nothing; `canary` decides for a `share` of items, by a hash of the id.
    `trouble` is why a process could not serve it; whatever served before goes on there.
    """

    __tablename__ = "model_aliases"

    name: Mapped[str] = _setup(Text, primary_key=True)
    alias: Mapped[str] = _setup(Text, primary_key=True)
    version: Mapped[str] = _setup(Text)
    set_at: Mapped[datetime] = _setup(Moment)
    trouble: Mapped[str | None] = _setup(Text)
    share: Mapped[float | None] = _setup(Double)  # of a canary


class ModelProposal(Base):
    """That a version should serve: proposed by one person with the gates as they stood, decided by another."""

    __tablename__ = "model_proposals"
    __table_args__ = (
        Index(
            "uq_model_proposals_open",
            "name",
            "version",
            "alias",
            unique=True,
            postgresql_where=text("state = 'open'"),
        ),
        CheckConstraint("state IN ('open','promoted','refused')", name="state"),
        CheckConstraint("(state = 'open') = (decided_by IS NULL)", name="decided"),
        CheckConstraint("state <> 'promoted' OR decided_by <> proposed_by", name="four_eyes"),
    )

    id: Mapped[UUID] = _setup(Uuid, primary_key=True)
    name: Mapped[str] = _setup(Text)
    version: Mapped[str] = _setup(Text)
    alias: Mapped[str] = _setup(Text)
    share: Mapped[float | None] = _setup(Double)  # of a canary
    gates: Mapped[list[dict[str, Any]]] = _setup(JSONB)
    proposed_by: Mapped[UUID] = _setup(Uuid, ForeignKey("people.id"), pii=Pii.PSEUDONYM)
    proposed_at: Mapped[datetime] = _setup(Moment)
    by_operator: Mapped[bool] = _setup(Boolean)  # named at the command line, where nobody logs in
    decided_by: Mapped[UUID | None] = _setup(Uuid, ForeignKey("people.id"), pii=Pii.PSEUDONYM)
    decided_at: Mapped[datetime | None] = _setup(Moment)
    state: Mapped[str] = _setup(Text)


class Bank(Base):
    """A named list of what is known, of one kind, and what a match with one of its entries means."""

    __tablename__ = "banks"
    __table_args__ = (
        CheckConstraint("kind IN ('image','text','term','link','claim')", name="kind"),
        CheckConstraint("action IN ('remove','limit','review','label')", name="action"),
        # Two sentences that mean the same are no proof that either is false.
        CheckConstraint("kind <> 'claim' OR action IN ('review','label')", name="claim"),
        # Of pictures in bits, of everything else a share.
        CheckConstraint("distance BETWEEN 0 AND CASE kind WHEN 'image' THEN 48 ELSE 1 END", name="distance"),
        CheckConstraint("sample_share > 0 AND sample_share <= 1", name="sample_share"),
    )

    id: Mapped[UUID] = _bank(Uuid, primary_key=True)
    name: Mapped[str] = _bank(Text, unique=True)
    kind: Mapped[str] = _bank(Text)
    category: Mapped[str] = _bank(Text)
    action: Mapped[str] = _bank(Text)
    allow: Mapped[bool] = _bank(Boolean)
    enabled: Mapped[bool] = _bank(Boolean)
    created_at: Mapped[datetime] = _bank(Moment)
    distance: Mapped[float | None] = _bank(Double)  # how near is near enough; see `governance.banks`
    version: Mapped[int] = _bank(BigInteger, server_default=text("1"))  # counts changes of it or its entries
    sample_share: Mapped[float] = _bank(Double, server_default=text("1"))  # of the items that match, acted on
    source: Mapped[str | None] = _bank(Text)  # whose list it is, where it is not our own


class BankEntry(Base):
    """One thing that is known: who added it and whether somebody verified it.

    Found by its digest; a text or picture is kept as no more than that. What can't be found by a digest is kept
    encrypted: a term, a host or a claim in `value`, and in `features` what near copies are found by. They may name
    people (an address that is passed around, a swindler's number), and a sketch, vector or picture's hash tells of
    what it was made of.
    """

    __tablename__ = "bank_entries"
    __table_args__ = (
        UniqueConstraint("bank_id", "digest"),
        Index("ix_bank_entries_digest", "digest"),
        Index("ix_bank_entries_version", "bank_id", "version"),
        Index("ix_bank_entries_quarantined", "bank_id", postgresql_where=text("quarantined_at IS NOT NULL")),
    )

    id: Mapped[UUID] = _bank(Uuid, primary_key=True)
    bank_id: Mapped[UUID] = _bank(Uuid, ForeignKey("banks.id", ondelete="CASCADE"))
    digest: Mapped[bytes] = _bank(Digest, pii=Pii.DIGEST)  # keyed, but of texts and pictures
    verified: Mapped[bool] = _bank(Boolean)
    note: Mapped[str] = _bank(Text)
    added_by: Mapped[str] = _bank(Text)
    added_at: Mapped[datetime] = _bank(Moment)
    expires_at: Mapped[datetime | None] = _bank(Moment)
    form: Mapped[str | None] = _bank(Text)  # of terms and links: literal, pattern, host, url, phone, email
    category: Mapped[str | None] = _bank(Text)  # None: the bank's
    value: Mapped[bytes | None] = _bank(Ciphertext, pii=Pii.CONTENT)
    features: Mapped[bytes | None] = _bank(Ciphertext, pii=Pii.CONTENT)
    features_by: Mapped[str | None] = _bank(Text)  # what made them: those of another maker are made anew
    version: Mapped[int] = _bank(BigInteger, server_default=text("0"))  # the bank's, with its last change
    source: Mapped[str | None] = _bank(Text)  # None: the bank's
    # Since when it only asks people, because it matched far more than ever; and when a person let it go on.
    quarantined_at: Mapped[datetime | None] = _bank(Moment)
    released_at: Mapped[datetime | None] = _bank(Moment)
    last_matched_at: Mapped[datetime | None] = _bank(Moment)  # to the day: from when its retention counts


class BankReference(Base):
    """Whose list an imported entry came from and what it is called there: what is withdrawn by all of them goes."""

    __tablename__ = "bank_references"
    __table_args__ = (Index("ix_bank_references_reference", "source", "reference"),)

    entry_id: Mapped[UUID] = _bank(Uuid, ForeignKey("bank_entries.id", ondelete="CASCADE"), primary_key=True)
    source: Mapped[str] = _bank(Text, primary_key=True)
    reference: Mapped[str] = _bank(Text, primary_key=True)  # empty where the list has no names for entries


class BankRemoval(Base):
    """An entry that left a bank, and the bank's version with that: how whoever holds a copy hears of it."""

    __tablename__ = "bank_removals"

    bank_id: Mapped[UUID] = _bank(Uuid, ForeignKey("banks.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = _bank(BigInteger, primary_key=True)
    entry_id: Mapped[UUID] = _bank(Uuid, primary_key=True)
    removed_at: Mapped[datetime] = _bank(Moment)


class BankHit(Base):
    """How many items an entry matched within an hour; and in one bit of 63 for each, of how many authors at least.

    Without a foreign key: an entry that is removed meanwhile must not fail the batch that it matched. What is left
    of it goes with its hour.
    """

    __tablename__ = "bank_hits"
    __table_args__ = (Index("ix_bank_hits_hour", "hour"),)

    entry_id: Mapped[UUID] = _bank(Uuid, primary_key=True)
    hour: Mapped[datetime] = _bank(Moment, primary_key=True)
    hits: Mapped[int] = _bank(Integer)
    authors: Mapped[int] = _bank(BigInteger, server_default=text("0"))


class Rescan(Base):
    """A search for a bank's entries in everything that is retained: how far it came and what it found."""

    __tablename__ = "rescans"
    __table_args__ = (
        Index("uq_rescans_open", "bank_id", "dry", unique=True, postgresql_where=text("finished_at IS NULL")),
    )

    id: Mapped[UUID] = _bank(Uuid, primary_key=True)
    bank_id: Mapped[UUID] = _bank(Uuid, ForeignKey("banks.id", ondelete="CASCADE"))
    dry: Mapped[bool] = _bank(Boolean)
    since_version: Mapped[int] = _bank(BigInteger)  # only entries that changed after it are looked for
    version: Mapped[int] = _bank(BigInteger)  # the bank's when it began
    started_by: Mapped[str] = _bank(Text)
    started_at: Mapped[datetime] = _bank(Moment)
    cursor: Mapped[UUID | None] = _bank(Uuid)  # the last item that was looked at
    seen: Mapped[int] = _bank(BigInteger, server_default=text("0"))
    matched: Mapped[int] = _bank(BigInteger, server_default=text("0"))
    changed: Mapped[int] = _bank(
        BigInteger, server_default=text("0")
    )  # decided anew, or brought before people
    finished_at: Mapped[datetime | None] = _bank(Moment)
