"""The vault: AES-256-GCM per field under a key per item, wrapped by a key per author, wrapped by the KEK.

Destroying an item's key ends that item; destroying an author's key ends all of the author's items at
once, in every backup of the content database too, save those that were re-wrapped under the key of a hold.
KEKs come in epochs: the newest wraps, each row says which one opens it (`storage.rotation` re-wraps).

Each ciphertext is bound to its place by additional authenticated data (table, column, row): moved elsewhere,
it does not open.

Lookup digests (HMAC-SHA-256) use a service key and not the KEK, so that a new KEK leaves them valid.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, Engine, delete, select
from sqlalchemy.dialects.postgresql import insert

from moderation.keks import Keks, Ring, single
from moderation.storage.database import among, insert_many
from moderation.storage.keystore import AuthorKey, Erased, HeldKey, ItemKey, PackageKey, ServiceKey

NONCE = 12
Result = TypeVar("Result")


class VaultError(Exception):
    """A field does not open: its key is gone, wrong, or the ciphertext is not the one that was stored."""


class EpochUnknown(VaultError):
    """The key-encryption key of a row is not among ours."""


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


class Wrapper:
    """Wraps keys under the newest KEK and opens them with the one of their epoch."""

    def __init__(self, keks: Keks) -> None:
        self._ring = Ring(keks)

    @property
    def keks(self) -> Keks:
        """The keys as they are now."""
        return self._ring.current()

    def wrap(self, key: bytes, *place: str) -> tuple[int, bytes]:
        """The epoch, and `key` wrapped under it."""
        keks = self.keks
        return keks.newest, _kek(keks, keks.newest).encrypt(key, *place)

    def unwrap(self, epoch: int, wrapped: bytes, *place: str) -> bytes:
        """The key in the clear.

        Raises:
            EpochUnknown: the epoch is not among ours: retired, or its key was not brought here.
            VaultError: another key, another place, or altered bytes.
        """
        keks = self.keks
        if epoch not in keks.keys:
            raise EpochUnknown(
                f"A key is wrapped under epoch {epoch}, and the KEK file has no such line: it was retired, "
                "or belongs to another installation. `moderation kek status` shows which there are."
            )
        return _kek(keks, epoch).decrypt(wrapped, *place)


def _kek(keks: Keks, epoch: int) -> Key:
    return Key("kek", AESGCM(keks.keys[epoch]))


class Vault:
    """Keys in and out of the keystore. Holds the KEKs and the service keys in memory, nothing else."""

    def __init__(self, keystore: Engine, kek: Keks | bytes) -> None:
        self._keystore = keystore
        self.wrapper = Wrapper(single(kek) if isinstance(kek, bytes) else kek)
        self._service: dict[str, bytes] = {}

    @property
    def epoch(self) -> int:
        """The epoch under which keys are wrapped now."""
        return self.wrapper.keks.newest

    def ensure_service_keys(self, names: Sequence[str], now: datetime) -> None:
        """Create the service keys that do not exist yet."""
        rows = []
        for name in names:
            epoch, wrapped = self.wrapper.wrap(os.urandom(32), "service_keys", name)
            rows.append({"name": name, "epoch": epoch, "wrapped": wrapped, "created_at": now})
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

    def signing_seed(self) -> bytes:
        """The seed (32 bytes) of the Ed25519 key with which the service signs; see `governance.signing`."""
        return self._service_key("signing")

    def author_keys(self, authors: Sequence[UUID], now: datetime) -> dict[UUID, Key]:
        """The key of each author, created where there is none."""

        def opened() -> dict[UUID, Key]:
            with self._keystore.begin() as connection:
                return self._author_keys(connection, list(dict.fromkeys(authors)), now)

        return _twice(opened)

    def _author_keys(self, connection: Connection, authors: Sequence[UUID], now: datetime) -> dict[UUID, Key]:
        known = self._wrapped_author_keys(connection, authors)
        fresh = []
        for author in authors:
            if author not in known:
                epoch, wrapped = self.wrapper.wrap(os.urandom(32), "author_keys", "wrapped", str(author))
                fresh.append({"author_id": author, "epoch": epoch, "wrapped": wrapped, "created_at": now})
        if fresh:
            # Somebody else may have been quicker: theirs is the key then.
            connection.execute(insert(AuthorKey).on_conflict_do_nothing(), fresh)
            known.update(self._wrapped_author_keys(connection, authors))
        return {author: self._unwrap("author_keys", author, *known[author]) for author in authors}

    @staticmethod
    def _wrapped_author_keys(
        connection: Connection, authors: Sequence[UUID]
    ) -> dict[UUID, tuple[int, bytes]]:
        rows = connection.execute(
            select(AuthorKey.author_id, AuthorKey.epoch, AuthorKey.wrapped).where(
                among(AuthorKey.author_id, authors)
            )
        )
        return {author: (epoch, wrapped) for author, epoch, wrapped in rows}

    def create_item_keys(self, items: Mapping[UUID, UUID], now: datetime) -> dict[UUID, Key]:
        """Fresh keys for `items` (item -> author).

        Committed before the items themselves: a key without an item is harmless, an item without a key lost.
        """
        keys = {item: os.urandom(32) for item in items}

        def made() -> dict[UUID, Key]:
            with self._keystore.begin() as connection:
                authors = self._author_keys(connection, list(dict.fromkeys(items.values())), now)
                rows = [
                    {
                        "item_id": item,
                        "author_id": author,
                        "wrapped": authors[author].encrypt(keys[item], *_place_of_item(item)),
                    }
                    for item, author in items.items()
                ]
                insert_many(connection, ItemKey, rows)
            return {item: Key(item, AESGCM(key)) for item, key in keys.items()}

        return _twice(made)

    def item_keys(self, items: Sequence[UUID]) -> dict[UUID, Key]:
        """The keys of those `items` that still have one, their author's or that of a hold."""
        return {item: Key(item, AESGCM(key)) for item, key in self._opened(items).items()}

    def _opened(self, items: Sequence[UUID]) -> dict[UUID, bytes]:
        """The keys in the clear. Most are their authors': only for the rest it asks for held ones."""

        def found() -> dict[UUID, bytes]:
            keys = self._of_authors(items)
            rest = [item for item in items if item not in keys]
            return keys | self._of_holds(rest) if rest else keys

        return _twice(found)

    def _of_authors(self, items: Sequence[UUID]) -> dict[UUID, bytes]:
        with self._keystore.connect() as connection:
            rows = connection.execute(
                select(
                    ItemKey.item_id, ItemKey.author_id, ItemKey.wrapped, AuthorKey.epoch, AuthorKey.wrapped
                )
                .join(AuthorKey)
                .where(among(ItemKey.item_id, items))
            ).all()
        authors: dict[UUID, Key] = {}
        keys = {}
        for item, author, wrapped, epoch, author_wrapped in rows:
            if author not in authors:
                authors[author] = self._unwrap("author_keys", author, epoch, author_wrapped)
            keys[item] = authors[author].decrypt(wrapped, *_place_of_item(item))
        return keys

    def _of_holds(self, items: Sequence[UUID]) -> dict[UUID, bytes]:
        with self._keystore.connect() as connection:
            rows = connection.execute(
                select(HeldKey.item_id, HeldKey.wrapped, PackageKey.id, PackageKey.epoch, PackageKey.wrapped)
                .join(PackageKey)
                .where(among(HeldKey.item_id, items))
            ).all()
        return {
            item: self._unwrap("package_keys", package, epoch, package_wrapped).decrypt(
                wrapped, *_place_of_held(item)
            )
            for item, wrapped, package, epoch, package_wrapped in rows
        }

    def keys_of(self, item: UUID, author: UUID) -> tuple[Key | None, Key | None]:
        """The keys of one item and of its author, mostly in one look-up; None where there is none."""

        def found() -> tuple[bytes | None, Key | None]:
            with self._keystore.connect() as connection:
                row = connection.execute(
                    select(AuthorKey.epoch, AuthorKey.wrapped, ItemKey.wrapped)
                    .outerjoin(
                        ItemKey, (ItemKey.author_id == AuthorKey.author_id) & (ItemKey.item_id == item)
                    )
                    .where(AuthorKey.author_id == author)
                ).one_or_none()
            whose = self._unwrap("author_keys", author, row[0], row[1]) if row else None
            if whose is None or row is None or row[2] is None:
                return self._of_holds([item]).get(item), whose
            return whose.decrypt(row[2], *_place_of_item(item)), whose

        key, whose = _twice(found)
        return None if key is None else Key(item, AESGCM(key)), whose

    def destroy_item_keys(self, items: Sequence[UUID]) -> int:
        """Destroy keys for good, held ones too; how many items had one. Doing it again changes nothing."""
        with self._keystore.begin() as connection:
            gone = connection.scalars(
                delete(ItemKey).where(among(ItemKey.item_id, items)).returning(ItemKey.item_id)
            ).all()
            held = connection.scalars(
                delete(HeldKey).where(among(HeldKey.item_id, items)).returning(HeldKey.item_id)
            ).all()
        return len({*gone, *held})

    def destroy_author_keys(self, authors: Sequence[UUID]) -> int:
        """Destroy authors' keys, and with them every key they wrap; how many authors had one.

        Keys that a hold keeps stay: they are wrapped by the hold's.
        """
        with self._keystore.begin() as connection:
            return connection.execute(delete(AuthorKey).where(among(AuthorKey.author_id, authors))).rowcount

    def note_erased(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Copy entries of the ledger of erasures here, where no restored copy of the content is older than they."""
        if rows:
            with self._keystore.begin() as connection:
                connection.execute(insert(Erased).on_conflict_do_nothing(), list(rows))

    def forget_erased(self, before: datetime) -> int:
        """Remove entries of the ledger's copy that were asked for before then; how many."""
        with self._keystore.begin() as connection:
            return connection.execute(delete(Erased).where(Erased.requested_at < before)).rowcount

    def create_package_key(self, package: UUID, now: datetime) -> Key:
        """A fresh key for a preservation package or a hold, which outlives the author's."""
        key = os.urandom(32)
        epoch, wrapped = self.wrapper.wrap(key, "package_keys", "wrapped", str(package))
        row = {"id": package, "epoch": epoch, "wrapped": wrapped, "created_at": now}
        with self._keystore.begin() as connection:
            connection.execute(insert(PackageKey), row)
        return Key(package, AESGCM(key))

    def package_key(self, package: UUID) -> Key:
        """The key of a package or hold.

        Raises:
            VaultError: it was destroyed, or never was.
        """

        def found() -> Key:
            with self._keystore.connect() as connection:
                row = connection.execute(
                    select(PackageKey.epoch, PackageKey.wrapped).where(PackageKey.id == package)
                ).one_or_none()
            if row is None:
                raise VaultError("The key of this package is gone: it was destroyed when its time was over.")
            return self._unwrap("package_keys", package, row[0], row[1])

        return _twice(found)

    def destroy_package_keys(self, packages: Sequence[UUID]) -> int:
        """Destroy packages' keys, and with them every item's key they hold; how many there were."""
        with self._keystore.begin() as connection:
            return connection.execute(delete(PackageKey).where(among(PackageKey.id, packages))).rowcount

    def hold_item_keys(self, items: Sequence[UUID], package: UUID, now: datetime) -> int:
        """Wrap the keys of `items` under a package's too, so that their author's may go; how many there were.

        An item whose key another package holds moves to this one: call it before the other package ends.
        """
        key = self.package_key(package)
        keys = self._opened(items)
        statement = insert(HeldKey)
        fresh = {name: statement.excluded[name] for name in ("package_id", "wrapped", "held_at")}
        with self._keystore.begin() as connection:
            rows = [
                {
                    "item_id": item,
                    "author_id": author,
                    "package_id": package,
                    "wrapped": key.encrypt(keys[item], *_place_of_held(item)),
                    "held_at": now,
                }
                for item, author in self._authors_of(connection, list(keys))
            ]
            if rows:
                connection.execute(
                    statement.on_conflict_do_update(index_elements=["item_id"], set_=fresh), rows
                )
        return len(rows)

    @staticmethod
    def _authors_of(connection: Connection, items: Sequence[UUID]) -> Sequence[tuple[UUID, UUID]]:
        """Whose each item is; one whose key is destroyed meanwhile is left out."""
        live = select(ItemKey.item_id, ItemKey.author_id).where(among(ItemKey.item_id, items))
        held = select(HeldKey.item_id, HeldKey.author_id).where(among(HeldKey.item_id, items))
        return [(item, author) for item, author in connection.execute(live.union(held))]

    def _service_key(self, name: str) -> bytes:
        if name not in self._service:
            self._service[name] = _twice(lambda: self._stored_service_key(name))
        return self._service[name]

    def _stored_service_key(self, name: str) -> bytes:
        with self._keystore.connect() as connection:
            row = connection.execute(
                select(ServiceKey.epoch, ServiceKey.wrapped).where(ServiceKey.name == name)
            ).one_or_none()
        if row is None:
            raise VaultError(f"The keystore has no service key {name!r}; run `moderation migrate` first.")
        return self.wrapper.unwrap(row[0], row[1], "service_keys", name)

    def _unwrap(self, table: str, owner: UUID, epoch: int, wrapped: bytes) -> Key:
        return Key(owner, AESGCM(self.wrapper.unwrap(epoch, wrapped, table, "wrapped", str(owner))))


def _place_of_item(item: UUID) -> tuple[str, str, str]:
    return "item_keys", "wrapped", str(item)


def _place_of_held(item: UUID) -> tuple[str, str, str]:
    return "held_keys", "wrapped", str(item)


def _twice(read: Callable[[], Result]) -> Result:
    """What `read` finds; again if an epoch ended between the row that it read and the key that it looked for."""
    try:
        return read()
    except EpochUnknown:
        return read()
