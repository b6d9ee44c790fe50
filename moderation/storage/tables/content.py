"""What is posted and what screening found in it.

`items`, `parts`, `part_features` and `signals` are partitioned by month over ranges of UUIDv7 (`partitions.py`),
so that expiry is mostly dropping a partition. They carry no foreign keys among themselves: a partition that others
point to could not be dropped, and decisions outlive the items they are about.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
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

# Items that are due, never tried and tried before: the same words as in the claims, so that each has its index.
FRESH = "state = 'received' AND attempts = 0"
RETRIED = "state = 'received' AND attempts > 0"

_author = columns(RecordClass.AUTHOR, "id")
_item = columns(RecordClass.ITEM, "author_id")
_part = columns(RecordClass.ITEM, "item_id>items.author_id")
_burst = columns(RecordClass.BURST, "author_id")
_idempotency = columns(RecordClass.IDEMPOTENCY, "item_id>items.author_id")


class Author(Base):
    """An account of the content service; its reference is readable only with its key."""

    __tablename__ = "authors"
    __table_args__ = (UniqueConstraint("client", "reference_digest"),)

    id: Mapped[UUID] = _author(Uuid, primary_key=True, pii=Pii.PSEUDONYM)
    client: Mapped[str] = _author(Text)
    reference_digest: Mapped[bytes] = _author(Digest, pii=Pii.DIGEST)
    reference: Mapped[bytes] = _author(Ciphertext, pii=Pii.CONTENT)
    created_at: Mapped[datetime] = _author(Moment)
    holds: Mapped[int] = _author(SmallInteger, server_default=text("0"))  # active ones on all their items
    # No machine judges them and no trainer reads them: since when, and which right says so.
    restricted_at: Mapped[datetime | None] = _author(Moment)
    restricted_because: Mapped[str | None] = _author(Text)
    erasing_at: Mapped[datetime | None] = _author(Moment)


class Item(Base):
    """One posted piece of content, from receipt to destruction."""

    __tablename__ = "items"
    __table_args__ = (
        Index("ix_items_due", "lane", "not_before", "id", postgresql_where=text(FRESH)),
        Index("ix_items_retry", "lane", "not_before", "id", postgresql_where=text(RETRIED)),
        Index("ix_items_leased", "lease_until", postgresql_where=text("state = 'leased'")),
        Index("ix_items_external", "client", "external_digest"),
        Index("ix_items_expires_at", "expires_at", postgresql_where=text("destroyed_at IS NULL")),
        Index(
            "ix_items_doomed_at",
            "doomed_at",
            postgresql_where=text("doomed_at IS NOT NULL AND destroyed_at IS NULL"),
        ),
        Index("ix_items_destroyed_at", "destroyed_at", postgresql_where=text("destroyed_at IS NOT NULL")),
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
    # Of one row, so that a hold and a deletion can never both win: only what no hold counts may be doomed, and
    # only what is not doomed may be held.
    holds: Mapped[int] = _item(SmallInteger, server_default=text("0"))
    doomed_at: Mapped[datetime | None] = _item(Moment)
    destroyed_at: Mapped[datetime | None] = _item(Moment)


class Part(Base):
    """A text (encrypted in the row) or a picture (encrypted in the blob store) of an item.

    A text that was read in a picture is a part of its own, derived from the picture's; `layout` says where in the
    picture each line stands, as JSON.
    """

    __tablename__ = "parts"
    __table_args__ = (
        CheckConstraint("kind IN ('text','image')", name="kind"),
        Index("ix_parts_blob", "blob", postgresql_where=text("blob IS NOT NULL")),
        {"postgresql_partition_by": "RANGE (item_id)"},
    )

    item_id: Mapped[UUID] = _part(Uuid, primary_key=True, pii=Pii.PSEUDONYM)
    position: Mapped[int] = _part(SmallInteger, primary_key=True)
    name: Mapped[str] = _part(Text)
    kind: Mapped[str] = _part(Text)
    media_type: Mapped[str] = _part(Text)
    size: Mapped[int] = _part(Integer)
    content: Mapped[bytes | None] = _part(Ciphertext, pii=Pii.CONTENT)
    language: Mapped[str | None] = _part(Text)  # of a text, as screening found it: ISO 639-1, or "und"
    blob: Mapped[str | None] = _part(Text)
    derived_from: Mapped[int | None] = _part(SmallInteger)  # the position of the picture it was read in
    layout: Mapped[bytes | None] = _part(Ciphertext, pii=Pii.CONTENT)


class PartFeature(Base):
    """What machines made of a picture to find its like again: its hashes, its vector, each as of one maker."""

    __tablename__ = "part_features"
    __table_args__ = (
        CheckConstraint("name IN ('hashes','embedding')", name="name"),
        {"postgresql_partition_by": "RANGE (item_id)"},
    )

    item_id: Mapped[UUID] = _part(Uuid, primary_key=True, pii=Pii.PSEUDONYM)
    position: Mapped[int] = _part(SmallInteger, primary_key=True)
    name: Mapped[str] = _part(Text, primary_key=True)
    maker: Mapped[str] = _part(Text)
    value: Mapped[bytes] = _part(Ciphertext, pii=Pii.CONTENT)


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
    # By a version that decides nothing; `detector` is then its name and version with a colon between.
    shadow: Mapped[bool] = _part(Boolean, server_default=text("false"))


class Sketch(Base):
    """One band of a part's near-duplicate sketch: parts that share a band are compared with each other.

    The key is keyed by the vault, so that a band says nothing of the text to whoever holds the database alone.
    """

    __tablename__ = "sketches"
    __table_args__ = (Index("ix_sketches_key", "key", "item_id"),)  # the newest first: ids are in time order

    item_id: Mapped[UUID] = _part(Uuid, primary_key=True, pii=Pii.PSEUDONYM)
    part: Mapped[str] = _part(Text, primary_key=True)
    band: Mapped[int] = _part(SmallInteger, primary_key=True)
    key: Mapped[bytes] = _part(Digest, pii=Pii.DIGEST)


class BurstRow(Base):
    """That an author said a text lately, by keyed digests of it: the same of many authors is a burst.

    Unlogged: what a crash takes of the last hour is not worth writing twice.
    """

    __tablename__ = "bursts"
    __table_args__ = (Index("ix_bursts_seen_at", "seen_at"), {"prefixes": ["UNLOGGED"]})

    key: Mapped[bytes] = _burst(Digest, primary_key=True, pii=Pii.DIGEST)
    author_id: Mapped[UUID] = _burst(Uuid, primary_key=True, pii=Pii.PSEUDONYM)
    seen_at: Mapped[datetime] = _burst(Moment)


class IdempotencyKey(Base):
    """What a client's key was first used for; unlike `items`, unique over all months."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("ix_idempotency_keys_expires_at", "expires_at"),)

    client: Mapped[str] = _idempotency(Text, primary_key=True)
    key_digest: Mapped[bytes] = _idempotency(Digest, primary_key=True, pii=Pii.DIGEST)
    body_digest: Mapped[bytes] = _idempotency(Digest, pii=Pii.DIGEST)
    item_id: Mapped[UUID] = _idempotency(Uuid, pii=Pii.PSEUDONYM)
    expires_at: Mapped[datetime] = _idempotency(Moment)
