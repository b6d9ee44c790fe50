"""Preservation packages: evidence sealed under a key of its own, which no erasure of its author ends.

A package is a manifest and files, each encrypted under the package's key into a blob of its own, so that a large
one needs no more memory than its largest file. The manifest names every file with its SHA-256; the row keeps
the manifest's. The blob of the manifest begins with a line in the clear: the references of the other blobs,
which say nothing, so that a destruction that was interrupted after the key went still finds them.

Source: 18 USC 2258A(h) (a year from the report), Regulation (EU) 2021/1232 article 3(1)(h) and (i).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation.domain.errors import Conflict, Gone, InvalidInput, NotFound
from moderation.governance import audit, evidence, papers
from moderation.governance.holds import State
from moderation.governance.sessions import PersonPrincipal
from moderation.governance.signing import canonical
from moderation.storage.blobs import BlobMissing, FolderBlobs
from moderation.storage.database import Databases, among, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import Author, HeldItem, Hold, Item, Preservation
from moderation.storage.vault import Key, Vault, VaultError

KEPT = timedelta(days=365)
KEPT_WITHIN = timedelta(days=366)
MOST_ITEMS = 10_000
FORMAT = "moderation-preservation"
AUTHOR = "author.json"
RENEWED = re.compile(r"^from \d{4}-\d{2}-\d{2}: ")
SUFFIXES = {
    "text/plain": "txt", "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/gif": "gif",
    "image/avif": "avif",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Package:
    """An opened package: its manifest as it was sealed, and its files on demand."""

    id: UUID
    manifest: Mapping[str, Any]
    sha256: str
    _key: Key = field(repr=False)
    _blobs: FolderBlobs = field(repr=False)
    _references: Sequence[str] = field(repr=False)

    def names(self) -> list[str]:
        """The names of the files, in the order of the manifest."""
        return [str(one["name"]) for one in self.manifest["files"]]

    def file(self, name: str) -> bytes:
        """One file, checked against the manifest.

        Raises:
            NotFound: the package has no such file.
            VaultError: it is not what was sealed.
            Gone: it was destroyed meanwhile.
        """
        names = self.names()
        if name not in names:
            raise NotFound("The package has no such file; its page lists them.")
        place = names.index(name)
        try:
            sealed = self._blobs.open(self._references[place])
        except BlobMissing as error:
            raise Gone(ENDED, code="destroyed") from error
        data = self._key.decrypt(sealed, "preservations", "file", str(self.id), name)
        if hashlib.sha256(data).hexdigest() != self.manifest["files"][place]["sha256"]:
            raise VaultError("A file of this package is not the one its manifest names.")
        return data


ENDED = "This package was destroyed when its time was over; what it held can't be read any more."


def seal(
    databases: Databases,
    vault: Vault,
    blobs: FolderBlobs,
    *,
    author_id: UUID,
    items: Sequence[UUID],
    cause: str,
    basis: str,
    created_by: str,
    now: datetime,
    keep_until: datetime | None = None,
    hold_id: UUID | None = None,
) -> UUID:
    """Seal what there is of `items`, all of one author; the package's id. Owns its transactions.

    Raises:
        InvalidInput: no basis, no items or too many, or kept until a date behind us or over a year ahead.
        NotFound: there is no such author, or an item is not theirs.
        Conflict: nothing of the items is left to be sealed.
    """
    said = papers.line(basis, "The basis")
    until = papers.ahead(keep_until or now + KEPT, "The date it is kept until", now, KEPT_WITHIN)
    if not 0 < len(set(items)) <= MOST_ITEMS:
        raise InvalidInput(f"A package holds 1 to {MOST_ITEMS:,} items; seal the rest in another.")
    identifier = new_id(now)
    row = Preservation(
        id=identifier,
        author_id=author_id,
        hold_id=hold_id,
        cause=cause,
        basis=said,
        created_by=created_by,
        created_at=now,
        keep_until=until,
    )
    sealing = _Sealing(identifier, vault.create_package_key(identifier, now), blobs)
    try:
        with transaction(databases.content) as session:
            _fill(session, vault, sealing, row, items)
            session.add(row)
            details = {"items": row.items, "files": len(sealing.files), "sha256": row.sha256, "cause": cause}
            _record(session, created_by, "preservation.sealed", identifier, now, **details)
    except BaseException:
        vault.destroy_package_keys([identifier])
        sealing.discard()
        raise
    return identifier


def _fill(
    session: Session, vault: Vault, sealing: _Sealing, row: Preservation, items: Sequence[UUID]
) -> None:
    """Write the files and the manifest, and say of the row what was sealed."""
    author = _author(session, row.author_id)
    sealed = _seal_items(session, vault, sealing, author, items)
    if not sealed:
        raise Conflict("Nothing of this is left that could be sealed.", code="too_late")
    manifest = {
        "format": FORMAT,
        "version": 1,
        "id": str(row.id),
        "created_at": evidence.said(row.created_at),
        "cause": row.cause,
        "basis": row.basis,
        "hold": str(row.hold_id) if row.hold_id else None,
        "author": str(row.author_id),
        "client": author.client,
        "items": [str(one) for one in sealed],
        "missing": sorted(str(one) for one in set(items) - set(sealed)),
        "files": sealing.files,
    }
    row.client, row.items = author.client, len(sealed)
    row.blob, row.sha256 = sealing.close(manifest)


def seal_hold(
    databases: Databases,
    vault: Vault,
    blobs: FolderBlobs,
    person: PersonPrincipal,
    hold_id: UUID,
    now: datetime,
    keep_until: datetime | None = None,
) -> UUID:
    """Seal what a hold keeps, on the hold's own basis; the package's id. Owns its transactions.

    Raises:
        NotFound: there is no such hold.
        Conflict: nobody approved the hold, it has ended, or it keeps nothing.
        InvalidInput: as `seal`.
    """
    with transaction(databases.content) as session:
        hold = session.get(Hold, hold_id)
        if hold is None:
            raise NotFound("There is no hold with this id; `moderation holds list` shows them.")
        if hold.state != State.ACTIVE:
            raise Conflict(f"This hold is {hold.state}; only what an approved hold keeps is sealed.")
        kept = session.scalars(
            select(HeldItem.item_id)
            .where(HeldItem.hold_id == hold_id, HeldItem.released_at.is_(None))
            .order_by(HeldItem.item_id)
        ).all()
    if not kept:
        raise Conflict("This hold keeps no item yet, so there is nothing to seal.")
    return seal(
        databases,
        vault,
        blobs,
        author_id=hold.author_id,
        items=kept,
        cause="hold",
        basis=hold.basis,
        created_by=person.actor,
        now=now,
        keep_until=keep_until,
        hold_id=hold_id,
    )


@dataclass(slots=True)
class _Sealing:
    """A package that is being written."""

    id: UUID
    key: Key
    blobs: FolderBlobs
    files: list[dict[str, Any]] = field(default_factory=list)
    references: list[str] = field(default_factory=list)

    def add(self, name: str, data: bytes) -> None:
        self.references.append(
            self.blobs.put(self.key.encrypt(data, "preservations", "file", str(self.id), name))
        )
        self.files.append({"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()})

    def close(self, manifest: Mapping[str, Any]) -> tuple[str, str]:
        """Write the manifest; its blob and its SHA-256."""
        data = canonical(manifest)
        head = json.dumps(self.references).encode() + b"\n"
        blob = self.blobs.put(head + self.key.encrypt(data, "preservations", "manifest", str(self.id)))
        self.references.append(blob)
        return blob, hashlib.sha256(data).hexdigest()

    def discard(self) -> None:
        for reference in self.references:
            self.blobs.destroy(reference)


def _seal_items(
    session: Session, vault: Vault, sealing: _Sealing, author: Author, items: Sequence[UUID]
) -> list[UUID]:
    """Write the files of every item of which there is content; which those are."""
    rows = session.scalars(
        select(Item).where(among(Item.id, set(items)), Item.author_id == author.id).order_by(Item.id)
    ).all()
    if len(rows) < len(set(items)):
        raise NotFound("There is no such item of this author; an item's page names its author.")
    sealed: list[UUID] = []
    for row in rows:
        keys = evidence.keys_of(vault, row.id, author.id)
        parts = [one for one in evidence.pieces(session, sealing.blobs, keys, row.id) if one.data is not None]
        if not parts:
            continue
        if not sealed:
            sealing.add(AUTHOR, _document(evidence.author(session, keys, author)))
        sealing.add(f"items/{row.id}/record.json", _document(evidence.record(session, keys, row)))
        for part in parts:
            suffix = SUFFIXES.get(part.media_type, "bin")
            name = f"{part.name}.read-by-machine" if part.machine_read else part.name
            sealing.add(f"items/{row.id}/{part.position}-{name}.{suffix}", part.data or b"")
        sealed.append(row.id)
    return sealed


def _document(facts: Mapping[str, Any]) -> bytes:
    return json.dumps(facts, indent=1, ensure_ascii=False, sort_keys=True).encode()


def get(session: Session, package_id: UUID) -> Preservation:
    """A package's row.

    Raises:
        NotFound: there is no such package.
    """
    row = session.get(Preservation, package_id)
    if row is None:
        raise NotFound("There is no preservation package with this id; the list of packages has them all.")
    return row


def open_package(vault: Vault, blobs: FolderBlobs, row: Preservation) -> Package:
    """Open a package. Whoever calls this records and commits that somebody looks before anything is shown.

    Raises:
        Gone: it was destroyed.
        VaultError: its manifest is not the one that was sealed.
    """
    if row.blob is None:
        raise Gone(ENDED, code="destroyed")
    try:
        references, sealed = _read(blobs, row.blob)
        key = vault.package_key(row.id)
    except (BlobMissing, VaultError) as error:
        raise Gone(ENDED, code="destroyed") from error
    data = key.decrypt(sealed, "preservations", "manifest", str(row.id))
    digest = hashlib.sha256(data).hexdigest()
    if digest != row.sha256:
        raise VaultError("The manifest of this package is not the one on record.")
    return Package(row.id, json.loads(data), digest, key, blobs, references)


def _read(blobs: FolderBlobs, blob: str) -> tuple[list[str], bytes]:
    head, _, sealed = blobs.open(blob).partition(b"\n")
    references: list[str] = json.loads(head)
    return references, sealed


def renew(
    session: Session,
    person: PersonPrincipal,
    package_id: UUID,
    basis: str,
    keep_until: datetime,
    now: datetime,
) -> None:
    """Keep a package longer, on a basis that it did not have before.

    Raises:
        NotFound: there is no such package.
        Gone: it was destroyed.
        InvalidInput: the basis is missing or not a new one, or the date lies behind or over a year ahead.
    """
    row = _locked(session, package_id)
    said = papers.line(basis, "The new basis")
    if said.casefold() in {RENEWED.sub("", one).casefold() for one in row.basis.split("\n")}:
        raise InvalidInput("A package is kept longer on a new basis only, and it had this one already.")
    row.keep_until = papers.ahead(keep_until, "The date it is kept until", now, KEPT_WITHIN)
    row.basis = f"{row.basis}\nfrom {now:%Y-%m-%d}: {said}"
    _record(session, person.actor, "preservation.renewed", package_id, now, until=f"{keep_until:%Y-%m-%d}")


def destroy_due(
    databases: Databases, vault: Vault, blobs: FolderBlobs, now: datetime, limit: int = 20
) -> int:
    """Destroy up to `limit` packages whose time is over: key, files, manifest. Owns its transactions."""
    due = (Preservation.destroyed_at.is_(None), Preservation.keep_until <= now)
    with transaction(databases.content) as session:
        ids = session.scalars(
            select(Preservation.id).where(*due).order_by(Preservation.keep_until).limit(limit)
        ).all()
    done = 0
    for identifier in ids:
        with transaction(databases.content) as session:
            # Locked against a renewal, which may have come just before.
            row = session.scalar(
                select(Preservation)
                .where(Preservation.id == identifier, *due)
                .with_for_update(key_share=True, skip_locked=True)
            )
            if row is None:
                continue
            vault.destroy_package_keys([identifier])
            for reference in _all_blobs(blobs, row.blob):
                blobs.destroy(reference)
            row.blob, row.destroyed_at = None, now
            _record(session, audit.MACHINE, "preservation.destroyed", identifier, now)
            done += 1
    return done


def references(session: Session, blobs: FolderBlobs) -> set[str]:
    """Every blob of every package that is there: nothing but the packages' manifests names them."""
    kept = session.scalars(select(Preservation.blob).where(Preservation.blob.is_not(None)))
    return {one for blob in kept for one in _all_blobs(blobs, blob)}


def _all_blobs(blobs: FolderBlobs, blob: str | None) -> Iterator[str]:
    """Every blob of a package, that of the manifest last: it says where the others are."""
    if blob is None:
        return
    try:
        references, _ = _read(blobs, blob)
    except BlobMissing:
        return
    yield from references
    yield blob


def _author(session: Session, author_id: UUID) -> Author:
    author = session.get(Author, author_id)
    if author is None:
        raise NotFound("There is no author with this id; nothing of them is left to be sealed.")
    return author


def _locked(session: Session, package_id: UUID) -> Preservation:
    get(session, package_id)
    query = select(Preservation).where(Preservation.id == package_id).with_for_update(key_share=True)
    row = session.scalars(query.execution_options(populate_existing=True)).one()
    if row.destroyed_at is not None:
        raise Gone(ENDED, code="destroyed")
    return row


def _record(
    session: Session, actor: str, action: str, package_id: UUID, now: datetime, **details: object
) -> None:
    audit.record(session, [audit.Event(actor, action, "preservation", str(package_id), details)], now)
