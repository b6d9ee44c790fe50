"""A copy of everything that is held of an author, made on demand from the tables themselves and never stored.

Every table says how its rows lead to their author (`author_path`); the copy is what these paths reach, so
that a table that is added later is in it by itself. Ciphertexts are opened with the author's own keys. Left
out is what is of others: who reported, what they wrote, which person of the service did something; digests,
which say nothing; and what authorities asked for, of which the law decides who is told.

Source: GDPR articles 15 and 20; 15(4) for the rights of others; for the opinions of staff on a person, which
are that person's data, CJEU C-434/16.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any, cast
from uuid import UUID

from sqlalchemy import ColumnElement, Table, Text, Uuid, or_, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import Session

from moderation.domain.content import ItemState
from moderation.domain.purposes import BASIS
from moderation.governance.subjects import place
from moderation.storage.blobs import BlobMissing, FolderBlobs
from moderation.storage.columns import Ciphertext, Digest
from moderation.storage.tables import Appeal, Author, Base, Item, Partner, PartnerItem, Person, Report
from moderation.storage.vault import Key, Vault, VaultError

FORMAT = "moderation-export"
STAFF = "a person of the service"
SUFFIXES = {
    "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/gif": "gif", "image/avif": "avif",
}  # fmt: skip

# Tables of which nothing is copied, whatever is in them: that they are named says nothing of this author.
WITHHELD: Mapping[str, str] = dict.fromkeys(
    ("holds", "held_items", "preservations", "disclosures"),
    "what authorities ask to be kept or handed over; the law decides who is told, and by whom",
)
# What ends with the content of an item, and the column that says of which.
_ENDING = {"items": "id"} | dict.fromkeys(
    ("parts", "part_features", "signals", "sketches", "case_notes", "golden_items", "reports"), "item_id"
)
_SECRET_EVENTS = ("hold.", "preservation.", "disclosure.")
# Columns that are of others, or speak of a hold; digests and whoever works here are left out everywhere.
LEFT_OUT: Mapping[str, frozenset[str]] = {
    # The author of suggestions is a content service and nobody's account; what it sent may be of anybody.
    "suggestions": frozenset({"text"}),
    # The words of whoever reported, and how far they are believed.
    "reports": frozenset({"comment", "weight"}),
    # What machines made of a picture to find its like again; the picture itself is there.
    "part_features": frozenset({"value"}),
    "items": frozenset({"holds", "lease_token"}),
    "authors": frozenset({"holds"}),
    "erasures": frozenset({"kept", "receipt", "before", "after"}),
    "outbox": frozenset({"lease_token"}),
    "minor_checks": frozenset({"preservation_id"}),
}
Row = Mapping[str, Any]
# Where each ciphertext lives: whether it is under the item's key or the author's, and its place.
OPENERS: Mapping[str, tuple[str, Callable[[Row], tuple[str, ...]]]] = {
    "authors.reference": ("author", lambda row: ("authors", "reference", str(row["id"]))),
    "items.details": ("item", lambda row: ("items", "details", str(row["id"]))),
    "parts.content": ("item", lambda row: ("parts", "content", str(row["item_id"]), str(row["position"]))),
    "parts.layout": ("item", lambda row: ("parts", "layout", str(row["item_id"]), str(row["position"]))),
    "case_notes.text": ("item", lambda row: ("case_notes", "text", str(row["id"]))),
    "appeals.statement": ("author", lambda row: ("appeals", "statement", str(row["id"]))),
    "subject_requests.details": ("author", lambda row: place(row["id"])),
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of the copy: its name there, and where and how it is stored."""

    name: str
    blob: str
    key: Key
    place: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Copy:
    """Everything that is held of an author: the document, and the pictures to be opened one by one."""

    document: dict[str, Any]
    pictures: tuple[Picture, ...]


def tables() -> list[Table]:
    """Every table whose rows lead to an author and are copied."""
    found = [cast("Table", mapper.local_table) for mapper in Base.registry.mappers]
    return sorted(
        (one for one in found if author_path(one) and one.name not in WITHHELD), key=lambda one: one.name
    )


def author_path(table: Table) -> str | None:
    """How the rows of a table lead to their author, as its columns declare it."""
    path: str | None = next(iter(table.columns)).info["author_path"]
    return path


def reached(table: Table, author: Author) -> ColumnElement[bool]:
    """Which rows of a table lead to `author`, by its path."""
    first, *further = (author_path(table) or "").split(">")
    column = table.c[first]
    if not further:
        return column == author.id
    if further[-1].startswith("authors."):
        return (column == author.reference_digest) & (table.c.client == author.client)
    items = select(Item.id).where(Item.author_id == author.id)
    if isinstance(column.type, Uuid):
        return column.in_(items)
    # The log names its subjects in words: the author's items, and the author.
    words = select(sql_cast(Item.id, Text)).where(Item.author_id == author.id)
    return column.in_(words) | (column == str(author.id))


def make(session: Session, vault: Vault, author: Author, now: datetime) -> Copy:
    """The copy of everything. Whoever asks for it has recorded that, and commits before it is sent."""
    staff = {str(one) for one in session.scalars(select(Person.id))}
    unseen = _unseen(session, author, now)
    rows = {table.name: _rows(session, table, author, unseen) for table in tables()}
    keys = vault.item_keys([row["id"] for row in rows["items"]])
    _, whose = vault.keys_of(UUID(int=0), author.id)
    opener = _Opener(keys, whose, staff)
    pictures = tuple(_pictures(rows["parts"], keys))
    document = {
        "format": FORMAT,
        "version": 1,
        "made_at": now.astimezone(UTC).isoformat(),
        "service": author.client,
        "purposes": {str(purpose): basis for purpose, basis in BASIS.items()},
        "recipients": _recipients(session, author),
        "withheld": dict(WITHHELD),
        "tables": {
            name: [opener.opened(Base.metadata.tables[name], row) for row in found]
            for name, found in rows.items()
        },
        "reports_made": _reports_made(session, vault, author),
        "appeals_made_as_reporter": _appeals_made(session, vault, author),
    }
    return Copy(document, pictures)


def _unseen(session: Session, author: Author, now: datetime) -> set[UUID]:
    """Items that are over for everybody and would be gone, if no hold kept them: to show one is to tell of it."""
    over = or_(Item.state == ItemState.DELETED, Item.expires_at <= now)
    return set(session.scalars(select(Item.id).where(Item.author_id == author.id, Item.holds > 0, over)))


def _rows(session: Session, table: Table, author: Author, unseen: set[UUID]) -> list[Row]:
    query = select(table).where(reached(table, author)).order_by(*table.primary_key.columns)
    rows = [dict(row) for row in session.execute(query).mappings()]
    if table.name == "audit_events":
        rows = [row for row in rows if not _of_law(row)]
    if table.name in _ENDING:
        rows = [row for row in rows if row[_ENDING[table.name]] not in unseen]
    return cast("list[Row]", rows)


def _of_law(event: Row) -> bool:
    """Whether an event is of a hold, or somebody of the legal role looked at what is over for everybody else."""
    return event["action"].startswith(_SECRET_EVENTS) or bool(event["details"].get("restricted"))


@dataclass(frozen=True, slots=True)
class _Opener:
    """Turns rows into plain values: ciphertexts opened, what is of others left out, staff without a name."""

    items: Mapping[UUID, Key]
    author: Key | None
    staff: set[str]

    def opened(self, table: Table, row: Row) -> dict[str, Any]:
        left_out = LEFT_OUT.get(table.name, frozenset())
        said: dict[str, Any] = {}
        for column in table.columns:
            value = row[column.name]
            if isinstance(column.type, Digest) or column.name in left_out:
                continue
            if isinstance(column.type, Ciphertext):
                # A reporter who appealed wrote this, and not the author.
                foreign = table.name == "appeals" and row["by"] != "author"
                value = None if foreign else self._open(table, row, value, f"{table.name}.{column.name}")
            said[column.name] = self._plain(value)
        return said

    def _open(self, table: Table, row: Row, value: bytes | None, column: str) -> Any:
        if value is None or column not in OPENERS:
            return None
        under, where = OPENERS[column]
        item = row["id"] if table.name == "items" else row.get("item_id")
        key = self.author if under == "author" else self.items.get(cast("UUID", item))
        try:
            text = key.decrypt(value, *where(row)).decode() if key else None
        except VaultError:
            return None
        return json.loads(text) if text is not None and column == "items.details" else text

    def _plain(self, value: Any) -> Any:
        match value:
            case datetime():
                return value.astimezone(UTC).isoformat()
            case UUID() | str():
                said = str(value)
                return STAFF if said.removeprefix("person:") in self.staff else said
            case dict():
                return {str(name): self._plain(one) for name, one in value.items()}
            case list() | tuple():
                return [self._plain(one) for one in value]
            case bytes():
                return None
        return value


def _pictures(parts: Sequence[Row], keys: Mapping[UUID, Key]) -> Iterator[Picture]:
    for row in parts:
        item, position = row["item_id"], row["position"]
        if row["blob"] is not None and item in keys:
            suffix = SUFFIXES.get(row["media_type"], "bin")
            where = ("parts", "blob", str(item), str(position))
            yield Picture(f"pictures/{item}/{position}.{suffix}", row["blob"], keys[item], where)


def _recipients(session: Session, author: Author) -> list[str]:
    """To whom items of theirs were handed."""
    given = select(PartnerItem.partner_id).where(PartnerItem.author_id == author.id)
    return list(session.scalars(select(Partner.name).where(Partner.id.in_(given)).order_by(Partner.name)))


def _reports_made(session: Session, vault: Vault, author: Author) -> list[dict[str, Any]]:
    """What the author reported: their own words, and not of whose item."""
    rows = session.scalars(
        select(Report)
        .where(Report.client == author.client, Report.reporter_digest == author.reference_digest)
        .order_by(Report.id)
    ).all()
    keys = vault.item_keys([row.item_id for row in rows])
    return [
        {
            "category": row.category,
            "comment": _own(keys.get(row.item_id), row.comment, "reports", "comment", str(row.id)),
            "reported_at": _moment(row.reported_at),
            "outcome": row.outcome,
            "weight": row.weight,
        }
        for row in rows
    ]


def _appeals_made(session: Session, vault: Vault, author: Author) -> list[dict[str, Any]]:
    """What the author appealed as a reporter, likewise; it lies under the key of whom they reported."""
    rows = session.scalars(
        select(Appeal)
        .where(Appeal.client == author.client, Appeal.reporter_digest == author.reference_digest)
        .order_by(Appeal.id)
    ).all()
    return [
        {
            "statement": _own(
                vault.keys_of(row.item_id, row.author_id)[1],
                row.statement,
                "appeals",
                "statement",
                str(row.id),
            ),
            "lodged_at": _moment(row.lodged_at),
            "state": row.state,
        }
        for row in rows
    ]


def _own(key: Key | None, sealed: bytes | None, *where: str) -> str | None:
    try:
        return key.decrypt(sealed, *where).decode() if key and sealed else None
    except VaultError:
        return None


def _moment(value: datetime) -> str:
    return value.astimezone(UTC).isoformat()


class _Chunks:
    """What a ZIP is written into: a file that can't go back, and whose bytes are taken away piece by piece."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._written.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing waits."""

    def take(self) -> bytes:
        """What was written since the last time."""
        taken, self._written = b"".join(self._written), []
        return taken


def archive(copy: Copy, blobs: FolderBlobs) -> Iterator[bytes]:
    """The copy as a ZIP, piece by piece: `export.json` and each picture; never more than one of them in memory."""
    chunks = _Chunks()
    with zipfile.ZipFile(cast("IO[bytes]", chunks), "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("export.json", json.dumps(copy.document, ensure_ascii=False, indent=1))
        yield chunks.take()
        for picture in copy.pictures:
            try:
                data = picture.key.decrypt(blobs.open(picture.blob), *picture.place)
            except (BlobMissing, VaultError):
                continue  # it ended while the copy was being sent
            made.writestr(picture.name, data, zipfile.ZIP_STORED)
            yield chunks.take()
    yield chunks.take()
