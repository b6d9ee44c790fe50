"""What every column says of itself: how personal it is, how long it lives, how it leads to its author.

`tests/unit/test_tables.py` walks the metadata and fails on a column that stays silent, on personal data
that is not encrypted, and on personal data without a path to its author.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from sqlalchemy import LargeBinary, TypeDecorator
from sqlalchemy.orm import MappedColumn, mapped_column

from moderation.domain.retention import RecordClass


class Pii(StrEnum):
    """How personal a column is, and so how it must be stored."""

    NONE = "none"  # says nothing of a person
    PSEUDONYM = "pseudonym"  # an id of ours that leads to a person
    DIGEST = "digest"  # a keyed or cryptographic digest of personal data: `Digest`
    CONTENT = "content"  # what a person posted, or is: `Ciphertext`


class Ciphertext(TypeDecorator[bytes]):
    """Bytes the vault encrypted: nonce, AES-256-GCM ciphertext, tag."""

    impl = LargeBinary
    cache_ok = True


class Digest(TypeDecorator[bytes]):
    """A digest by which something can be found but not read."""

    impl = LargeBinary
    cache_ok = True


Column = Callable[..., MappedColumn[Any]]


def columns(retention: RecordClass, author_path: str | None) -> Column:
    """A `mapped_column` for one table that declares the table's retention and author path each time.

    `author_path` names the way to the author, such as `item_id>items.author_id`; None says that the
    record is of nobody who posts.
    """

    def column(*args: Any, pii: Pii = Pii.NONE, **kwargs: Any) -> MappedColumn[Any]:
        info = {"pii": pii, "retention": retention, "author_path": author_path}
        return mapped_column(*args, info=info, **kwargs)

    return column
