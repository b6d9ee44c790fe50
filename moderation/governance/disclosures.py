"""Disclosure: a preservation package handed to an authority, asked for by one person and approved by another.

Nothing is handed over without an approved record: the database refuses one that nobody approved, or that says
exported and names no manifest. The record is committed before the first byte leaves. What is handed over is a
ZIP file with a manifest of its own, in the clear or encrypted in a way that OpenSSL opens.

Source: DSA 10 and 15(1)(a), GDPR 6(1)(c).
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from io import RawIOBase
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.padding import PKCS7
from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation.domain.access import Permission
from moderation.domain.errors import Conflict, Forbidden, Gone, InvalidInput, NotFound
from moderation.governance import audit, evidence, papers, preservation
from moderation.governance.preservation import Package
from moderation.governance.sessions import PersonPrincipal
from moderation.governance.signing import canonical
from moderation.storage.blobs import FolderBlobs
from moderation.storage.ids import new_id
from moderation.storage.tables import Disclosure
from moderation.storage.vault import Vault

FORMAT = "moderation-disclosure"
AGAIN_WITHIN = timedelta(days=1)  # a download that broke off is repeated, and nothing is handed over for ever
SHORTEST, LONGEST = 12, 200
ITERATIONS = 600_000
MANIFEST, PACKAGE, SUMS = "manifest.json", "package.json", "SHA256SUMS"
OPENSSL = f"openssl enc -d -aes-256-cbc -pbkdf2 -iter {ITERATIONS} -md sha256 -in FILE.zip.enc -out FILE.zip"


class State(StrEnum):
    """How a disclosure stands."""

    REQUESTED = "requested"
    APPROVED = "approved"
    REFUSED = "refused"
    EXPORTED = "exported"


@dataclass(frozen=True, slots=True)
class HandOver:
    """What is handed over: the manifest, which is on record, and the package it names the files of."""

    id: UUID
    manifest: bytes
    sha256: str
    package: Package

    def archive(self, passphrase: str = "") -> Iterator[bytes]:
        """The ZIP file in pieces, one file of it in memory at a time; encrypted if there is a passphrase.

        Raises:
            VaultError, Gone: a file of the package is not there as its manifest says; the archive is cut off.
        """
        pieces = _zipped(self)
        return _encrypted(pieces, passphrase) if passphrase else pieces


def request(
    session: Session,
    vault: Vault,
    person: PersonPrincipal,
    package_id: UUID,
    authority: str,
    basis: str,
    reference: str,
    now: datetime,
) -> UUID:
    """Ask that a package be handed to an authority; the disclosure's id.

    Raises:
        NotFound: there is no such package.
        Gone: it was destroyed.
        InvalidInput: authority or basis is missing.
    """
    package = preservation.get(session, package_id)
    if package.destroyed_at is not None:
        raise Gone(preservation.ENDED, code="destroyed")
    identifier = new_id(now)
    number = papers.line(reference, "The file number") if reference.strip() else None
    session.add(
        Disclosure(
            id=identifier,
            author_id=package.author_id,
            client=package.client,
            preservation_id=package_id,
            authority=papers.line(authority, "The authority"),
            basis=papers.line(basis, "The basis"),
            reference=number and papers.sealed(vault, "disclosures", "reference", identifier, number),
            requested_by=person.person_id,
            requested_at=now,
            state=State.REQUESTED,
        )
    )
    session.flush()
    _record(session, person, "disclosure.requested", identifier, now, preservation=str(package_id))
    return identifier


def approve(session: Session, person: PersonPrincipal, disclosure_id: UUID, now: datetime) -> None:
    """Approve what somebody else asked for.

    Raises:
        NotFound: there is no such disclosure.
        Forbidden: it is one's own request.
        Conflict: it was answered already.
    """
    row = _requested(session, disclosure_id)
    if row.requested_by == person.person_id:
        raise Forbidden("You asked for this disclosure; somebody else has to approve it.", code="four_eyes")
    row.state, row.approved_by, row.decided_at = State.APPROVED, person.person_id, now
    _record(session, person, "disclosure.approved", disclosure_id, now)


def refuse(session: Session, person: PersonPrincipal, disclosure_id: UUID, now: datetime) -> None:
    """Refuse a request, one's own too.

    Raises:
        NotFound: there is no such disclosure.
        Conflict: it was answered already.
    """
    row = _requested(session, disclosure_id)
    row.state, row.decided_at = State.REFUSED, now
    _record(session, person, "disclosure.refused", disclosure_id, now)


def hand_over(
    session: Session,
    vault: Vault,
    blobs: FolderBlobs,
    person: PersonPrincipal,
    disclosure_id: UUID,
    now: datetime,
) -> HandOver:
    """Put on record what is handed over. The caller commits before anything of it leaves.

    Raises:
        NotFound: there is no such disclosure.
        Forbidden: the person may not read evidence.
        Conflict: nobody approved it, or it was handed over more than a day ago.
        Gone: the package was destroyed.
    """
    row = _locked(session, disclosure_id)
    if Permission.EVIDENCE_READ not in person.permissions:
        raise Forbidden("Only who may read evidence hands it over.")
    if row.state not in (State.APPROVED, State.EXPORTED):
        raise Conflict(f"This disclosure is {row.state}; nothing is handed over before somebody approved it.")
    if row.exported_at is not None and now > row.exported_at + AGAIN_WITHIN:
        raise Conflict(
            "This was handed over more than a day ago; ask for another disclosure.", code="exported"
        )
    package = preservation.open_package(vault, blobs, preservation.get(session, row.preservation_id))
    handed_over_at = row.exported_at or now
    manifest = canonical(
        {
            "format": FORMAT,
            "version": 1,
            "id": str(row.id),
            "authority": row.authority,
            "basis": row.basis,
            "reference": reference_of(vault, row),
            "handed_over_at": evidence.said(handed_over_at),
            "package": str(row.preservation_id),
            "files": _files(package),
        }
    )
    digest = hashlib.sha256(manifest).hexdigest()
    if row.state == State.APPROVED:
        row.state, row.exported_by, row.exported_at = State.EXPORTED, person.person_id, now
        row.sha256 = digest
    elif digest != row.sha256:
        raise Conflict("What is on record is not what would be handed over now; ask for another disclosure.")
    _record(session, person, "disclosure.exported", disclosure_id, now, sha256=digest)
    return HandOver(row.id, manifest, digest, package)


def reference_of(vault: Vault, row: Disclosure) -> str:
    """The authority's file number, in the clear."""
    return papers.opened(vault, "disclosures", "reference", row.id, row.reference)


def listing(session: Session, limit: int = 200) -> Sequence[Disclosure]:
    """Disclosures, the newest first."""
    return session.scalars(select(Disclosure).order_by(Disclosure.id.desc()).limit(limit)).all()


def get(session: Session, disclosure_id: UUID) -> Disclosure:
    """One disclosure.

    Raises:
        NotFound: there is no such disclosure.
    """
    row = session.get(Disclosure, disclosure_id)
    if row is None:
        raise NotFound("There is no disclosure with this id; the list of disclosures has them all.")
    return row


def checked_passphrase(passphrase: str, again: str) -> str:
    """The passphrase for an archive, or nothing for one in the clear.

    Raises:
        InvalidInput: it is short, or written differently the second time.
    """
    if passphrase != again:
        raise InvalidInput("The two passphrases differ; write the same one twice.")
    if passphrase and not SHORTEST <= len(passphrase) <= LONGEST:
        raise InvalidInput(f"A passphrase has {SHORTEST} to {LONGEST} characters.")
    return passphrase


def _requested(session: Session, disclosure_id: UUID) -> Disclosure:
    row = _locked(session, disclosure_id)
    if row.state != State.REQUESTED:
        raise Conflict(f"This disclosure is {row.state} already.", code="answered")
    return row


def _locked(session: Session, disclosure_id: UUID) -> Disclosure:
    get(session, disclosure_id)
    query = select(Disclosure).where(Disclosure.id == disclosure_id).with_for_update(key_share=True)
    return session.scalars(query.execution_options(populate_existing=True)).one()


def _files(package: Package) -> list[dict[str, Any]]:
    """Every file of the archive but its own manifest and the list of sums."""
    sealed = canonical(package.manifest)
    return [
        {"name": PACKAGE, "size": len(sealed), "sha256": package.sha256},
        *(
            {"name": one["name"], "size": one["size"], "sha256": one["sha256"]}
            for one in package.manifest["files"]
        ),
    ]


class _Pieces(RawIOBase):
    """A file that can only be written on; what was written is taken out in pieces."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._written.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        """What was written since the last time."""
        taken, self._written = b"".join(self._written), []
        return taken


def _zipped(handed: HandOver) -> Iterator[bytes]:
    files = _files(handed.package)
    sums = [(handed.sha256, MANIFEST), *((one["sha256"], one["name"]) for one in files)]
    own = {
        MANIFEST: handed.manifest,
        SUMS: "".join(f"{digest}  {name}\n" for digest, name in sums).encode(),
        PACKAGE: canonical(handed.package.manifest),
    }
    pieces = _Pieces()
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (*own, *handed.package.names()):
            data = own[name] if name in own else handed.package.file(name)
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
            yield pieces.taken()
    yield pieces.taken()


def _encrypted(pieces: Iterator[bytes], passphrase: str) -> Iterator[bytes]:
    """As `openssl enc -aes-256-cbc -pbkdf2` does, so that who receives it needs nothing of ours."""
    salt = os.urandom(8)
    derived = PBKDF2HMAC(hashes.SHA256(), 48, salt, ITERATIONS).derive(passphrase.encode())
    cipher = Cipher(algorithms.AES(derived[:32]), modes.CBC(derived[32:])).encryptor()
    padder = PKCS7(128).padder()
    yield b"Salted__" + salt
    for piece in pieces:
        yield cipher.update(padder.update(piece))
    yield cipher.update(padder.finalize()) + cipher.finalize()


def _record(
    session: Session,
    person: PersonPrincipal,
    action: str,
    disclosure_id: UUID,
    now: datetime,
    **details: object,
) -> None:
    audit.record(session, [audit.Event(person.actor, action, "disclosure", str(disclosure_id), details)], now)
