"""The vault: AES-256-GCM per field under a key per item, wrapped by a key per author, wrapped by the KEK.

Destroying an item's key ends that item; destroying an author's key ends all of the author's items at
once, in every backup of the content database too. Each ciphertext is bound to its place by additional
authenticated data (table, column, row): moved elsewhere, it does not open.

Lookup digests (HMAC-SHA-256) use a service key and not the KEK, so that a new KEK leaves them valid.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, Engine, delete, select
from sqlalchemy.dialects.postgresql import insert

from moderation.storage.database import among, insert_many
from moderation.storage.keystore import AuthorKey, ItemKey, ServiceKey

NONCE = 12


class VaultError(Exception):
    """A field does not open: its key is gone, wrong, or the ciphertext is not the one that was stored."""


@dataclass(frozen=True, slots=True)
class Key:
    """A data key in the clear, for as long as one request or batch lasts."""

    owner: UUID | str
    cipher: AESGCM

    def encrypt(self, plaintext: bytes, *place: str) -> bytes:
        """`nonce || ciphertext || tag`, bound to `place` (table, column, row)."""
        nonce = os.urandom(NONCE)
        return nonce + self.cipher.encrypt(nonce, plaintext, self._bound(place))

    def decrypt(self, ciphertext: bytes, *place: str) -> bytes:
        """The plaintext.

        Raises:
            VaultError: another key, another place, or altered bytes.
        """
        try:
            return self.cipher.decrypt(ciphertext[:NONCE], ciphertext[NONCE:], self._bound(place))
        except (InvalidTag, ValueError) as error:
            raise VaultError(f"{'.'.join(place[:2])} of one row does not open with its key.") from error

    def _bound(self, place: tuple[str, ...]) -> bytes:
        return "\x1f".join((*place, str(self.owner))).encode()


class Vault:
    """Keys in and out of the keystore. Holds the KEK and the service keys in memory, nothing else."""

    def __init__(self, keystore: Engine, kek: bytes) -> None:
        self._keystore = keystore
        self._kek = Key("kek", AESGCM(kek))
        self._service: dict[str, bytes] = {}

    def ensure_service_keys(self, names: Sequence[str], now: datetime) -> None:
        """Create the service keys that do not exist yet."""
        rows = [
            {
                "name": name,
                "wrapped": self._kek.encrypt(os.urandom(32), "service_keys", name),
                "created_at": now,
            }
            for name in names
        ]
        with self._keystore.begin() as connection:
            connection.execute(insert(ServiceKey).on_conflict_do_nothing(), rows)

    def digest(self, purpose: str, *values: str | bytes) -> bytes:
        """A keyed digest (32 bytes) by which a reference can be found again but not read."""
        mac = hmac.new(self._service_key("lookup"), purpose.encode(), hashlib.sha256)
        for value in values:
            data = value.encode() if isinstance(value, str) else value
            mac.update(len(data).to_bytes(8, "big") + data)
        return mac.digest()

    def account_key(self) -> Key:
        """The key under which our own people's and clients' secrets are encrypted."""
        return Key("accounts", AESGCM(self._service_key("accounts")))

    def author_keys(self, authors: Sequence[UUID], now: datetime) -> dict[UUID, Key]:
        """The key of each author, created where there is none."""
        with self._keystore.begin() as connection:
            return self._author_keys(connection, list(dict.fromkeys(authors)), now)

    def _author_keys(self, connection: Connection, authors: Sequence[UUID], now: datetime) -> dict[UUID, Key]:
        known = self._wrapped_author_keys(connection, authors)
        fresh = [
            {
                "author_id": author,
                "wrapped": self._wrap("author_keys", author, os.urandom(32)),
                "created_at": now,
            }
            for author in authors
            if author not in known
        ]
        if fresh:
            # Somebody else may have been quicker: theirs is the key then.
            connection.execute(insert(AuthorKey).on_conflict_do_nothing(), fresh)
            known.update(self._wrapped_author_keys(connection, authors))
        return {author: self._unwrap("author_keys", author, known[author]) for author in authors}

    @staticmethod
    def _wrapped_author_keys(connection: Connection, authors: Sequence[UUID]) -> dict[UUID, bytes]:
        rows = connection.execute(
            select(AuthorKey.author_id, AuthorKey.wrapped).where(among(AuthorKey.author_id, authors))
        )
        return dict(rows.all())

    def create_item_keys(self, items: Mapping[UUID, UUID], now: datetime) -> dict[UUID, Key]:
        """Fresh keys for `items` (item -> author).

        Committed before the items themselves: a key without an item is harmless, an item without a key lost.
        """
        keys = {item: os.urandom(32) for item in items}
        with self._keystore.begin() as connection:
            authors = self._author_keys(connection, list(dict.fromkeys(items.values())), now)
            rows = [
                {
                    "item_id": item,
                    "author_id": author,
                    "wrapped": authors[author].encrypt(keys[item], "item_keys", "wrapped", str(item)),
                }
                for item, author in items.items()
            ]
            insert_many(connection, ItemKey, rows)
        return {item: Key(item, AESGCM(key)) for item, key in keys.items()}

    def item_keys(self, items: Sequence[UUID]) -> dict[UUID, Key]:
        """The keys of those `items` that still have one."""
        with self._keystore.connect() as connection:
            rows = connection.execute(
                select(ItemKey.item_id, ItemKey.author_id, ItemKey.wrapped, AuthorKey.wrapped)
                .join(AuthorKey)
                .where(among(ItemKey.item_id, items))
            ).all()
        authors: dict[UUID, Key] = {}
        keys = {}
        for item, author, wrapped, author_wrapped in rows:
            if author not in authors:
                authors[author] = self._unwrap("author_keys", author, author_wrapped)
            keys[item] = Key(
                item, AESGCM(authors[author].decrypt(wrapped, "item_keys", "wrapped", str(item)))
            )
        return keys

    def keys_of(self, item: UUID, author: UUID) -> tuple[Key | None, Key | None]:
        """The keys of one item and of its author, in one look-up; None where there is none."""
        with self._keystore.connect() as connection:
            row = connection.execute(
                select(AuthorKey.wrapped, ItemKey.wrapped)
                .outerjoin(ItemKey, (ItemKey.author_id == AuthorKey.author_id) & (ItemKey.item_id == item))
                .where(AuthorKey.author_id == author)
            ).one_or_none()
        if row is None:
            return None, None
        whose = self._unwrap("author_keys", author, row[0])
        if row[1] is None:
            return None, whose
        return Key(item, AESGCM(whose.decrypt(row[1], "item_keys", "wrapped", str(item)))), whose

    def destroy_item_keys(self, items: Sequence[UUID]) -> int:
        """Destroy keys for good; returns how many there were. Doing it again changes nothing."""
        with self._keystore.begin() as connection:
            return connection.execute(delete(ItemKey).where(ItemKey.item_id.in_(items))).rowcount

    def destroy_author_keys(self, authors: Sequence[UUID]) -> int:
        """Destroy authors' keys, and with them every key they wrap; returns how many there were."""
        with self._keystore.begin() as connection:
            return connection.execute(delete(AuthorKey).where(AuthorKey.author_id.in_(authors))).rowcount

    def _service_key(self, name: str) -> bytes:
        if name not in self._service:
            with self._keystore.connect() as connection:
                wrapped = connection.scalar(select(ServiceKey.wrapped).where(ServiceKey.name == name))
            if wrapped is None:
                raise VaultError(f"The keystore has no service key {name!r}; run `moderation migrate` first.")
            self._service[name] = self._kek.decrypt(wrapped, "service_keys", name)
        return self._service[name]

    def _wrap(self, table: str, owner: UUID, key: bytes) -> bytes:
        return self._kek.encrypt(key, table, "wrapped", str(owner))

    def _unwrap(self, table: str, owner: UUID, wrapped: bytes) -> Key:
        return Key(owner, AESGCM(self._kek.decrypt(wrapped, table, "wrapped", str(owner))))
