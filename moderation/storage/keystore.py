"""Tables of the keystore: wrapped keys only, in a database of its own, left out of content backups.

Whoever has the content database without this one, or both without the key-encryption key, can read nothing.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Float, ForeignKey, Integer, MetaData, Text, Uuid, text
from sqlalchemy.orm import DeclarativeBase, Mapped

from moderation.domain.retention import RecordClass
from moderation.storage.columns import Ciphertext, Pii, columns
from moderation.storage.tables import NAMING, Moment


class KeystoreBase(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)


_author = columns(RecordClass.AUTHOR, "author_id")
_item = columns(RecordClass.ITEM, "author_id")
_setup = columns(RecordClass.CONFIGURATION, None)
_held = columns(RecordClass.ITEM, "author_id")
_package = columns(RecordClass.GOVERNANCE, None)
_ledger = columns(RecordClass.DECISION, "author_id")

# Which key-encryption key wraps a row: epochs follow each other, and the key of one that ended is destroyed.
FIRST_EPOCH = text("1")


class KekEpoch(KeystoreBase):
    """An epoch of the key-encryption key: since when, and how far its end has come. The key is never here."""

    __tablename__ = "kek_epochs"

    epoch: Mapped[int] = _setup(Integer, primary_key=True, autoincrement=False)
    created_at: Mapped[datetime] = _setup(Moment)
    grace_hours: Mapped[float | None] = _setup(Float)  # how long those before it stay; None: as configured
    rewrapped_at: Mapped[datetime | None] = _setup(Moment)  # from when on nothing older was left
    retired_at: Mapped[datetime | None] = _setup(Moment)  # a trigger refuses new rows under it


class ServiceKey(KeystoreBase):
    """A key of the service itself (lookup digests, account secrets), wrapped by the KEK."""

    __tablename__ = "service_keys"

    name: Mapped[str] = _setup(Text, primary_key=True)
    wrapped: Mapped[bytes] = _setup(Ciphertext)
    epoch: Mapped[int] = _setup(Integer, server_default=FIRST_EPOCH)
    created_at: Mapped[datetime] = _setup(Moment)


class AuthorKey(KeystoreBase):
    """One key per author, wrapped by the KEK. Destroying it ends all of the author's items at once."""

    __tablename__ = "author_keys"

    author_id: Mapped[UUID] = _author(Uuid, primary_key=True, pii=Pii.PSEUDONYM)
    wrapped: Mapped[bytes] = _author(Ciphertext)
    epoch: Mapped[int] = _author(Integer, server_default=FIRST_EPOCH, index=True)
    created_at: Mapped[datetime] = _author(Moment)


class ItemKey(KeystoreBase):
    """One key per item, wrapped by its author's."""

    __tablename__ = "item_keys"

    item_id: Mapped[UUID] = _item(Uuid, primary_key=True, pii=Pii.PSEUDONYM)
    author_id: Mapped[UUID] = _item(
        Uuid, ForeignKey("author_keys.author_id", ondelete="CASCADE"), index=True, pii=Pii.PSEUDONYM
    )
    wrapped: Mapped[bytes] = _item(Ciphertext)


class PackageKey(KeystoreBase):
    """The key of a preservation package or of a hold, wrapped by the KEK; it outlives the author's."""

    __tablename__ = "package_keys"

    id: Mapped[UUID] = _package(Uuid, primary_key=True)
    wrapped: Mapped[bytes] = _package(Ciphertext)
    epoch: Mapped[int] = _package(Integer, server_default=FIRST_EPOCH)
    created_at: Mapped[datetime] = _package(Moment)


class HeldKey(KeystoreBase):
    """The key of a held item whose author was erased, wrapped by its hold's: what is left until the release."""

    __tablename__ = "held_keys"

    item_id: Mapped[UUID] = _held(Uuid, primary_key=True, pii=Pii.PSEUDONYM)
    author_id: Mapped[UUID] = _held(Uuid, index=True, pii=Pii.PSEUDONYM)
    package_id: Mapped[UUID] = _held(Uuid, ForeignKey("package_keys.id", ondelete="CASCADE"), index=True)
    wrapped: Mapped[bytes] = _held(Ciphertext)
    held_at: Mapped[datetime] = _held(Moment)


class Erased(KeystoreBase):
    """A second copy of the ledger of erasures: a restored content database is older than what it forgot."""

    __tablename__ = "erased"

    erasure_id: Mapped[UUID] = _ledger(Uuid, primary_key=True)
    author_id: Mapped[UUID] = _ledger(Uuid, index=True, pii=Pii.PSEUDONYM)
    item_id: Mapped[UUID | None] = _ledger(Uuid, pii=Pii.PSEUDONYM)
    client: Mapped[str] = _ledger(Text)
    cause: Mapped[str] = _ledger(Text)
    requested_at: Mapped[datetime] = _ledger(Moment)
