"""Tables of the keystore: wrapped keys only, in a database of its own, left out of content backups.

Whoever has the content database without this one, or both without the key-encryption key, can read nothing.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, MetaData, Text, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped

from moderation.domain.retention import RecordClass
from moderation.storage.columns import Ciphertext, Pii, columns
from moderation.storage.tables import NAMING, Moment


class KeystoreBase(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)


_author = columns(RecordClass.AUTHOR, "author_id")
_item = columns(RecordClass.ITEM, "author_id")
_setup = columns(RecordClass.CONFIGURATION, None)


class ServiceKey(KeystoreBase):
    """A key of the service itself (lookup digests, account secrets), wrapped by the KEK."""

    __tablename__ = "service_keys"

    name: Mapped[str] = _setup(Text, primary_key=True)
    wrapped: Mapped[bytes] = _setup(Ciphertext)
    created_at: Mapped[datetime] = _setup(Moment)


class AuthorKey(KeystoreBase):
    """One key per author, wrapped by the KEK. Destroying it ends all of the author's items at once."""

    __tablename__ = "author_keys"

    author_id: Mapped[UUID] = _author(Uuid, primary_key=True, pii=Pii.PSEUDONYM)
    wrapped: Mapped[bytes] = _author(Ciphertext)
    created_at: Mapped[datetime] = _author(Moment)


class ItemKey(KeystoreBase):
    """One key per item, wrapped by its author's."""

    __tablename__ = "item_keys"

    item_id: Mapped[UUID] = _item(Uuid, primary_key=True, pii=Pii.PSEUDONYM)
    author_id: Mapped[UUID] = _item(
        Uuid, ForeignKey("author_keys.author_id", ondelete="CASCADE"), index=True, pii=Pii.PSEUDONYM
    )
    wrapped: Mapped[bytes] = _item(Ciphertext)
