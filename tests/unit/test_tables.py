"""Every column says how personal it is, how long it lives and how it leads to its author."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from sqlalchemy import Column, Integer, LargeBinary, MetaData, Table, Text

from moderation.domain.retention import RecordClass
from moderation.storage.columns import Ciphertext, Digest, Pii
from moderation.storage.keystore import KeystoreBase
from moderation.storage.tables import Base

METADATA = (Base.metadata, KeystoreBase.metadata)
TABLES: Mapping[str, Table] = {name: table for each in METADATA for name, table in each.tables.items()}

# Records of people who work here and of what is known, not of somebody who posts.
OF_NO_AUTHOR = {RecordClass.ACCOUNT, RecordClass.BANK, RecordClass.CONFIGURATION, RecordClass.GOVERNANCE}


def faults(table: Table, tables: Mapping[str, Table]) -> list[str]:
    """What is wrong with a table's declarations."""
    return [
        f"{table.name}.{column.name} {said}" for column in table.columns for said in _wrong(column, tables)
    ]


def _wrong(column: Column[object], tables: Mapping[str, Table]) -> list[str]:
    if not {"pii", "retention", "author_path"} <= set(column.info):
        return ["stays silent"]
    pii, retention, path = (column.info[key] for key in ("pii", "retention", "author_path"))
    said = []
    if not isinstance(pii, Pii) or not isinstance(retention, RecordClass):
        said.append("does not use our words")
    if pii is Pii.CONTENT and not isinstance(column.type, Ciphertext):
        said.append("holds content that is not encrypted")
    if pii is Pii.DIGEST and not isinstance(column.type, Digest):
        said.append("holds a digest of another type")
    if pii is not Pii.NONE and path is None and retention not in OF_NO_AUTHOR:
        said.append("is personal and leads to nobody")
    if path is not None and not resolves(column.table, path, tables):
        said.append(f"leads nowhere: {path}")
    return said


def resolves(table: Table, path: str, tables: Mapping[str, Table]) -> bool:
    """Whether each step of `column>table.column>...` exists and the last one names an author."""
    first, *further = path.split(">")
    if first not in table.columns:
        return False
    last = first
    for step in further:
        name, _, last = step.partition(".")
        if name not in tables or last not in tables[name].columns:
            return False
    return (
        last == "author_id"
        or (table.name == "authors" and last == "id")
        or path.endswith("authors.reference_digest")
    )


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_table_declares_itself(name: str) -> None:
    assert not faults(TABLES[name], TABLES)


def test_personal_bytes_are_never_plain() -> None:
    for table in TABLES.values():
        for column in table.columns:
            assert type(column.type) is not LargeBinary, f"{table.name}.{column.name} holds bytes of no kind"


def test_content_is_where_it_is_known_to_be() -> None:
    content = {
        f"{table.name}.{column.name}"
        for table in TABLES.values()
        for column in table.columns
        if column.info["pii"] is Pii.CONTENT
    }
    assert content == {
        "authors.reference", "items.details", "parts.content", "parts.layout", "part_features.value",
        "people.email", "people.name", "people.totp_secret", "webhook_endpoints.secret",
        "invitations.email", "passkeys.credential", "person_sessions.challenge",
        "case_notes.text", "reports.comment", "appeals.statement",
        "holds.reference", "disclosures.reference", "subject_requests.details", "incidents.description",
        "suggestions.text",
        "bank_entries.value", "bank_entries.features",
    }  # fmt: skip


def test_one_table_has_one_clock() -> None:
    for table in TABLES.values():
        assert len({column.info["retention"] for column in table.columns}) == 1, table.name


def test_each_fault_would_be_seen() -> None:
    good = {"pii": Pii.NONE, "retention": RecordClass.ITEM, "author_path": "author_id"}
    table = Table(
        "things",
        MetaData(),
        Column("author_id", Integer, info=good),
        Column("silent", Text),
        Column("plain", Text, info=good | {"pii": Pii.CONTENT}),
        Column("digest", LargeBinary, info=good | {"pii": Pii.DIGEST}),
        Column("lost", Text, info=good | {"pii": Pii.PSEUDONYM, "author_path": None}),
        Column("astray", Text, info=good | {"author_path": "author_id>nowhere.author_id"}),
        Column("ours", Text, info=good | {"pii": "none"}),
    )
    assert faults(table, TABLES) == [
        "things.silent stays silent",
        "things.plain holds content that is not encrypted",
        "things.digest holds a digest of another type",
        "things.lost is personal and leads to nobody",
        "things.astray leads nowhere: author_id>nowhere.author_id",
        "things.ours does not use our words",
    ]
