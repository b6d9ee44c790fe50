"""Row 5: encrypted storage. What was posted is nowhere to be read; no ciphertext opens anywhere but in its place.

The scan of a whole installation's raw bytes is `tests/integration/test_canary.py`; here a short form of it, and the
binding of every column that holds ciphertext.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Table, select, text

from moderation.embedded import Postgres
from moderation.governance import people, subjects, webhooks
from moderation.review import appealed, notes, reports, suggestions
from moderation.settings import Settings
from moderation.storage.columns import Ciphertext
from moderation.storage.database import Databases, transaction
from moderation.storage.ids import new_id
from moderation.storage.keystore import KeystoreBase
from moderation.storage.tables import Author, Base, Item, Part
from moderation.storage.vault import Vault, VaultError
from tests.canary import hits_in
from tests.support import as_owner, drain, image_part, post, text_part

SECRET = b"Lovely weather in Lisbon today."
CANARY = "zq7kanarienvogel9x"
Place = Callable[[UUID], tuple[str, ...]]


def named(table: str, column: str) -> Place:
    return lambda row: (table, column, str(row))


# How each column's ciphertext is bound, with the product's own function where it has one.
PLACES: dict[str, Place] = {
    "authors.reference": named("authors", "reference"),
    "items.details": named("items", "details"),
    "parts.content": lambda row: ("parts", "content", str(row), "0"),
    "parts.layout": lambda row: ("parts", "layout", str(row), "1000"),
    "part_features.value": lambda row: ("part_features", "value", str(row), "0", "hashes"),
    "reports.comment": reports.comment_place,
    "appeals.statement": appealed.statement_place,
    "case_notes.text": notes.place,
    "subject_requests.details": subjects.place,
    "suggestions.text": suggestions.place,
    "webhook_endpoints.secret": webhooks.secret_place,
    "holds.reference": named("holds", "reference"),
    "disclosures.reference": named("disclosures", "reference"),
    "incidents.description": named("incidents", "description"),
    "bundles.key": named("bundles", "key"),
    "bank_entries.value": named("bank_entries", "value"),
    "bank_entries.features": named("bank_entries", "features"),
    "people.email": named("people", "email"),
    "people.name": named("people", "name"),
    "people.totp_secret": named("people", "totp_secret"),
    "invitations.email": named("invitations", "email"),
    "passkeys.credential": named("passkeys", "credential"),
    "person_sessions.challenge": named("person_sessions", "challenge"),
    "author_keys.wrapped": named("author_keys", "wrapped"),
    "item_keys.wrapped": named("item_keys", "wrapped"),
    "held_keys.wrapped": named("held_keys", "wrapped"),
    "package_keys.wrapped": named("package_keys", "wrapped"),
    "service_keys.wrapped": lambda row: ("service_keys", str(row)),
}


def ciphertexts(tables: list[Table]) -> set[str]:
    return {
        f"{table.name}.{column.name}"
        for table in tables
        for column in table.columns
        if isinstance(column.type, Ciphertext)
    }


def test_every_column_of_ciphertext_is_listed_here() -> None:
    assert ciphertexts([*Base.metadata.sorted_tables, *KeystoreBase.metadata.sorted_tables]) == set(PLACES)


@pytest.mark.parametrize("column", PLACES)
def test_a_column_is_written_in_the_place_that_is_listed(column: str, repository: Path) -> None:
    """The product names table and column together wherever it encrypts, so that what is listed is what is done."""
    table, name = column.split(".")
    source = "".join(path.read_text() for path in (repository / "moderation").rglob("*.py"))
    wanted = rf'"{table}",?\s' if table == "service_keys" else rf'"{table}",\s*"{name}"'
    assert re.search(wanted, source), column


@pytest.mark.parametrize("column", PLACES)
def test_a_ciphertext_opens_in_no_other_row_column_or_table(column: str, vault: Vault, now: datetime) -> None:
    row, other = new_id(now), new_id(now)
    key = vault.create_item_keys({row: new_id(now)}, now)[row]
    stored = key.encrypt(SECRET, *PLACES[column](row))
    assert key.decrypt(stored, *PLACES[column](row)) == SECRET
    elsewhere = {PLACES[column](other), *(place(row) for name, place in PLACES.items() if name != column)}
    assert len(elsewhere) == len(PLACES)
    for place in elsewhere:
        with pytest.raises(VaultError):
            key.decrypt(stored, *place)


@pytest.fixture
def two(client: TestClient, settings: Settings) -> list[str]:
    """Two items of one author with a text and a picture each."""
    ids = []
    for name in ("post-1", "post-2"):
        parts = [text_part(f"Lovely weather, says {CANARY} of {name}."), image_part()]
        answer = client.post("/v1/items", json=post(name, *parts, context={"thread": CANARY}))
        ids.append(answer.json()["id"])
    drain(settings)
    return ids


def test_a_stored_ciphertext_moved_to_another_row_does_not_open(
    databases: Databases, vault: Vault, two: list[str]
) -> None:
    """Under one author, and even under the other item's own key: it is bound to its row."""
    first, second = (UUID(item) for item in two)
    with transaction(databases.content) as session:
        rows = {
            part.item_id: part.content for part in session.scalars(select(Part).where(Part.kind == "text"))
        }
        details = {item.id: item.details for item in session.scalars(select(Item))}
        author = session.scalars(select(Author)).one()
    keys = vault.item_keys([first, second])
    assert keys[first].decrypt(rows[first] or b"", "parts", "content", str(first), "0")
    assert keys[first].decrypt(details[first] or b"", "items", "details", str(first))
    for mine, theirs in itertools.permutations((first, second)):
        for stored, place in ((rows, ("parts", "content")), (details, ("items", "details"))):
            for key in keys.values():
                with pytest.raises(VaultError):
                    key.decrypt(
                        stored[mine] or b"", *place, str(theirs), *(["0"] if place[0] == "parts" else [])
                    )
    (whose,) = vault.author_keys([author.id], author.created_at).values()
    with pytest.raises(VaultError):
        whose.decrypt(author.reference, "authors", "reference", str(first))


def test_a_text_moved_to_another_item_is_shown_to_nobody(
    databases: Databases, client: TestClient, two: list[str], settings: Settings
) -> None:
    """Whoever can write to the database still can't make one post say what another said."""
    with databases.content.begin() as connection:
        moved = "UPDATE parts SET content = (SELECT content FROM parts WHERE item_id = :a AND content IS NOT NULL)"
        connection.execute(
            text(f"{moved} WHERE item_id = :b AND content IS NOT NULL"), {"a": two[0], "b": two[1]}
        )
        connection.execute(
            text("UPDATE items SET state = 'received', not_before = now() WHERE id = :b"), {"b": two[1]}
        )
    drain(settings)
    assert "post-1" not in client.get(f"/v1/items/{two[1]}").text


def test_an_address_moved_to_another_person_does_not_open(
    databases: Databases, vault: Vault, now: datetime
) -> None:
    with transaction(databases.content) as session:
        people.create_first(session, vault, "ann@example.org", ["admin"], now, "operator")  # type: ignore[list-item]
        people.create_first(session, vault, "bob@example.org", ["admin"], now, "operator")  # type: ignore[list-item]
    with databases.content.begin() as connection:
        connection.execute(text("UPDATE people SET email = (SELECT email FROM people ORDER BY id LIMIT 1)"))
    with transaction(databases.content) as session, pytest.raises(VaultError, match=r"people\.email"):
        people.listing(session, vault)


def test_the_word_is_in_no_raw_byte_of_databases_and_pictures(
    databases: Databases, postgres: Postgres, settings: Settings, two: list[str]
) -> None:
    """The files of the tables, where the whole scan also reads the log of writes, the broker and our logs."""
    tables, planted = postgres.data / "base", "zq9versehentlich9x"
    flushed(databases)
    for directory in (tables, settings.blob_dir):
        found, looked_at = hits_in(directory, (CANARY,))
        assert found == {}
        assert looked_at
    with as_owner(databases.content) as connection:
        connection.execute(
            text("CREATE TABLE mistake AS SELECT CAST(:word AS text) AS said"), {"word": planted}
        )
    flushed(databases)
    found, _ = hits_in(tables, (planted,))
    with as_owner(databases.content) as connection:
        connection.execute(text("DROP TABLE mistake"))
    assert found, "the scan finds the word where it is"


def flushed(databases: Databases) -> None:
    """Have PostgreSQL write everything to its files."""
    with as_owner(databases.content) as connection:
        connection.execute(text("CHECKPOINT"))
