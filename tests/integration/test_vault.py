"""What is encrypted opens with its own key at its own place, and with nothing else, nowhere else."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime

import pytest
from sqlalchemy import select, text, update

from moderation.settings import Settings
from moderation.setup import SERVICE_KEYS
from moderation.storage.blobs import BlobMissing, FolderBlobs
from moderation.storage.database import Databases
from moderation.storage.ids import new_id
from moderation.storage.keystore import AuthorKey, ItemKey, ServiceKey
from moderation.storage.vault import Key, Vault, VaultError

PLACE = ("parts", "content", "row-1", "0")
SECRET = b"Lovely weather in Lisbon today."


@pytest.fixture
def key(vault: Vault, now: datetime) -> Key:
    """The key of one item."""
    item = new_id(now)
    return vault.create_item_keys({item: new_id(now)}, now)[item]


def test_what_was_encrypted_opens(key: Key) -> None:
    ciphertext = key.encrypt(SECRET, *PLACE)
    assert SECRET not in ciphertext
    assert key.decrypt(ciphertext, *PLACE) == SECRET


def test_the_same_text_never_looks_the_same(key: Key) -> None:
    assert len({key.encrypt(SECRET, *PLACE) for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "elsewhere",
    [
        ("items", "content", "row-1", "0"),
        ("parts", "blob", "row-1", "0"),
        ("parts", "content", "row-2", "0"),
        ("parts", "content", "row-1", "1"),
        ("parts", "content", "row-1"),
        ("parts", "contentrow-1", "0"),
    ],
)
def test_moved_to_another_table_column_or_row_it_does_not_open(key: Key, elsewhere: tuple[str, ...]) -> None:
    with pytest.raises(VaultError):
        key.decrypt(key.encrypt(SECRET, *PLACE), *elsewhere)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:12],
        lambda data: b"",
        lambda data: data + b"\0",
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: data[:20] + bytes([data[20] ^ 128]) + data[21:],
    ],
)
def test_altered_bytes_do_not_open(key: Key, damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(VaultError):
        key.decrypt(damage(key.encrypt(SECRET, *PLACE)), *PLACE)


def test_the_error_holds_no_content(key: Key) -> None:
    with pytest.raises(VaultError) as caught:
        key.decrypt(key.encrypt(SECRET, *PLACE)[:-1], *PLACE)
    assert "row-1" not in str(caught.value)
    assert str(caught.value) == "parts.content of one row does not open with its key."


def test_a_key_is_found_again(vault: Vault, key: Key) -> None:
    ciphertext = key.encrypt(SECRET, *PLACE)
    (found,) = vault.item_keys([key.owner]).values()  # type: ignore[list-item]
    assert found.decrypt(ciphertext, *PLACE) == SECRET


def test_another_items_key_does_not_open_it(vault: Vault, key: Key, now: datetime) -> None:
    other = vault.create_item_keys({new_id(now): new_id(now)}, now).popitem()[1]
    with pytest.raises(VaultError):
        other.decrypt(key.encrypt(SECRET, *PLACE), *PLACE)


def test_a_destroyed_key_is_gone_for_everybody(vault: Vault, key: Key) -> None:
    assert vault.destroy_item_keys([key.owner]) == 1  # type: ignore[list-item]
    assert vault.destroy_item_keys([key.owner]) == 0, "a second time changes nothing"  # type: ignore[list-item]
    assert vault.item_keys([key.owner]) == {}  # type: ignore[list-item]


def test_an_authors_key_ends_all_their_items_and_nobody_elses(vault: Vault, now: datetime) -> None:
    author, bystander = new_id(now), new_id(now)
    mine, theirs = [new_id(now) for _ in range(3)], new_id(now)
    vault.create_item_keys({**dict.fromkeys(mine, author), theirs: bystander}, now)
    assert vault.destroy_author_keys([author]) == 1
    assert set(vault.item_keys([*mine, theirs])) == {theirs}


def test_an_author_has_one_key_however_often_it_is_asked_for(vault: Vault, now: datetime) -> None:
    author = new_id(now)
    ciphertext = vault.author_keys([author], now)[author].encrypt(SECRET, "authors", "reference", str(author))
    again = vault.author_keys([author, author], now)[author]
    assert again.decrypt(ciphertext, "authors", "reference", str(author)) == SECRET


def test_another_kek_opens_nothing(vault: Vault, databases: Databases, key: Key) -> None:
    thief = Vault(databases.keystore, os.urandom(32))
    with pytest.raises(VaultError):
        thief.item_keys([key.owner])  # type: ignore[list-item]
    with pytest.raises(VaultError):
        thief.digest("author", "app", "acct-1")
    with pytest.raises(VaultError):
        thief.account_key()


def test_a_wrapped_key_moved_to_another_row_does_not_open(
    vault: Vault, databases: Databases, key: Key, now: datetime
) -> None:
    author = new_id(now)
    mine, other = new_id(now), new_id(now)
    vault.create_item_keys({mine: author, other: author}, now)
    with databases.keystore.begin() as connection:
        wrapped = connection.scalar(select(ItemKey.wrapped).where(ItemKey.item_id == other))
        connection.execute(update(ItemKey).where(ItemKey.item_id == mine).values(wrapped=wrapped))
    with pytest.raises(VaultError):
        vault.item_keys([mine])


def test_an_authors_wrapped_key_moved_to_another_author_does_not_open(
    vault: Vault, databases: Databases, now: datetime
) -> None:
    authors = [new_id(now), new_id(now)]
    vault.author_keys(authors, now)
    with databases.keystore.begin() as connection:
        wrapped = connection.scalar(select(AuthorKey.wrapped).where(AuthorKey.author_id == authors[0]))
        connection.execute(update(AuthorKey).where(AuthorKey.author_id == authors[1]).values(wrapped=wrapped))
    with pytest.raises(VaultError):
        vault.author_keys([authors[1]], now)


def test_no_key_lies_in_the_clear(vault: Vault, databases: Databases, now: datetime) -> None:
    """With both databases, and without the KEK, nothing opens: no stored key is itself a key."""
    author, item = new_id(now), new_id(now)
    vault.create_item_keys({item: author}, now)
    with databases.keystore.connect() as connection:
        stored = [
            *connection.scalars(select(ServiceKey.wrapped)),
            *connection.scalars(select(AuthorKey.wrapped)),
            *connection.scalars(select(ItemKey.wrapped)),
        ]
    assert len(stored) == len(SERVICE_KEYS) + 2
    assert {len(wrapped) for wrapped in stored} == {12 + 32 + 16}, "nonce, key, tag"


def test_a_digest_is_the_same_for_every_process(
    vault: Vault, databases: Databases, settings: Settings
) -> None:
    other = Vault(databases.keystore, settings.kek)
    assert vault.digest("author", "app", "acct-1") == other.digest("author", "app", "acct-1")
    assert len(vault.digest("author", "app", "acct-1")) == 32


def test_digests_differ_by_purpose_by_value_and_by_where_one_value_ends(vault: Vault) -> None:
    made = [
        vault.digest("author", "app", "acct-1"),
        vault.digest("external", "app", "acct-1"),
        vault.digest("author", "apps", "acct-1"),
        vault.digest("author", "appa", "cct-1"),
        vault.digest("author", "app", "acct-2"),
        vault.digest("author", "appacct-1"),
        vault.digest("author", "app", "", "acct-1"),
    ]
    assert len(set(made)) == len(made)


def test_a_digest_needs_its_service_key(vault: Vault, databases: Databases) -> None:
    with databases.keystore.begin() as connection:
        kept = connection.execute(select(ServiceKey)).mappings().all()
        connection.execute(text("DELETE FROM service_keys"))
    try:
        with pytest.raises(VaultError, match="run `moderation migrate`"):
            Vault(databases.keystore, bytes(32)).digest("author", "acct-1")
    finally:
        with databases.keystore.begin() as connection:
            connection.execute(ServiceKey.__table__.insert(), [dict(row) for row in kept])


def test_service_keys_are_made_once(vault: Vault, now: datetime) -> None:
    before = vault.digest("author", "acct-1")
    vault.ensure_service_keys(("lookup", "accounts"), now)
    vault._service.clear()
    assert vault.digest("author", "acct-1") == before


def test_blobs_are_stored_opened_and_destroyed(blobs: FolderBlobs) -> None:
    reference = blobs.put(SECRET)
    assert blobs.open(reference) == SECRET
    blobs.destroy(reference)
    blobs.destroy(reference)
    with pytest.raises(BlobMissing):
        blobs.open(reference)


def test_two_equal_blobs_have_two_names_that_say_nothing(blobs: FolderBlobs) -> None:
    one, other = blobs.put(SECRET), blobs.put(SECRET)
    assert one != other
    assert len(bytes.fromhex(one)) == 16
