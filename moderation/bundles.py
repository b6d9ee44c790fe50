"""Bundles: labels that leave the service, sealed under a key of their own, with an end.

A file is a header in the clear, the sealed manifest, then the rows as JSON lines in sealed chunks of whole
lines, each AES-256-GCM:

    MODBUND1 | length | header | length | nonce | sealed manifest | length | nonce | sealed chunk | ...

A row is `{ref, text | embedding, labels, policy_version, propensity, score_shown, reviewers}` and may hold more (an
embedding comes with its `maker`, the backbone that made it: vectors of two makers can't be compared);
`flaw` says what keeps something from being one.

Every chunk is bound to the header, to its number, and to whether it is the last one: a chunk that was altered,
left out, put elsewhere or taken from another bundle does not open, and a file that was cut off has no last one.
The end is a promise and not a lock: whoever holds key and file can read it with a program of their own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from moderation.domain.errors import InvalidInput

MAGIC = b"MODBUND1"
VERSION = 1
CHUNK = 1 << 20
LARGEST = 64 << 20  # of a chunk: a header's length is not trusted with all memory
NONCE = 12
KEY_FILE = "moderation-bundle-key"
FIELDS = ("ref", "labels", "policy_version", "propensity", "score_shown", "reviewers")
"""What every row holds beside its text, its embedding, or both."""


class BundleError(InvalidInput):
    """A bundle or key file is not what it should be; the message says what to do."""

    code = "bundle_invalid"


@dataclass(frozen=True, slots=True)
class Header:
    """What a bundle says of itself in the clear."""

    id: UUID
    created_at: datetime
    expires_at: datetime
    manifest_sha256: str

    @property
    def bound(self) -> dict[str, Any]:
        """What every chunk is bound to."""
        return {
            "format": "moderation-bundle",
            "version": VERSION,
            "id": str(self.id),
            "created_at": self.created_at.isoformat(),
            "expires_at": self.expires_at.isoformat(),
        }


@dataclass(frozen=True, slots=True)
class Sealed:
    """What was written: how many rows, and the SHA-256 of the manifest, which names that of the rows."""

    id: UUID
    rows: int
    manifest_sha256: str


@dataclass(frozen=True, slots=True)
class Flaw:
    """A field of a row that is missing or not what it should be, and what it should be; never its content."""

    field: str
    wanted: str


# Per field what it should be, in words and as a test.
_SHAPES: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "ref": ("a name that is not empty", lambda value: isinstance(value, str) and value != ""),
    "text": ("text", lambda value: isinstance(value, str)),
    "embedding": (
        "a list of finite numbers that is not empty",
        lambda value: isinstance(value, list) and value != [] and all(map(_is_number, value)),
    ),
    "maker": ("the name of what made the embedding", lambda value: isinstance(value, str) and value != ""),
    "labels": (
        "categories, each with 0 or 1",
        lambda value: (
            isinstance(value, dict) and all(type(one) is int and one in (0, 1) for one in value.values())
        ),
    ),
    "policy_version": ("a whole number", lambda value: type(value) is int and value >= 0),
    "propensity": ("a number above 0 and at most 1", lambda value: _is_number(value) and 0 < value <= 1),
    "score_shown": ("true or false", lambda value: isinstance(value, bool)),
    "reviewers": ("a whole number from 1", lambda value: type(value) is int and value >= 1),
}


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]  # checked just before


def flaw(row: object, needed: Collection[str] = FIELDS) -> Flaw | None:
    """The first thing that keeps `row` from being a row of labels; None if nothing does.

    Of `needed` every field must be there; a field that is not needed must be right if it is there.
    """
    if not isinstance(row, dict):
        return Flaw("labels", "a field of an object")
    if "text" not in row and "embedding" not in row:
        return Flaw("text", "there, or an embedding in its place")
    for field, (wanted, fits) in _SHAPES.items():
        if (field in row or field in needed) and not fits(row.get(field)):
            return Flaw(field, wanted)
    return None


def new_key() -> bytes:
    """A fresh key; each bundle has one of its own."""
    return AESGCM.generate_key(256)


def seal(
    path: Path,
    rows: Iterable[Mapping[str, Any]],
    key: bytes,
    *,
    identifier: UUID,
    created_at: datetime,
    expires_at: datetime,
) -> Sealed:
    """Write `rows` to `path`, readable by its owner only, by way of a neighbour: never half a bundle."""
    header = Header(identifier, created_at, expires_at, "")
    body, partial = path.with_name(f"{path.name}.body"), path.with_name(f"{path.name}.partial")
    try:
        with _private(body) as file:
            manifest = _write_body(file, rows, key, header)
        document = _json(manifest)
        digest = hashlib.sha256(document).hexdigest()
        with _private(partial) as file, body.open("rb") as sealed:
            clear = _json({**header.bound, "manifest_sha256": digest})
            file.write(MAGIC + len(clear).to_bytes(4, "big") + clear)
            _write_chunk(file, AESGCM(key), document, _place(header, 0, last=False))
            while block := sealed.read(CHUNK):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        body.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)
    return Sealed(identifier, manifest["rows"], digest)


def _write_body(
    file: BinaryIO, rows: Iterable[Mapping[str, Any]], key: bytes, header: Header
) -> dict[str, Any]:
    cipher, digest = AESGCM(key), hashlib.sha256()
    count, number, chunk = 0, 1, bytearray()
    for row in rows:
        line = _json(row) + b"\n"
        if chunk and len(chunk) + len(line) > CHUNK:
            _write_chunk(file, cipher, bytes(chunk), _place(header, number, last=False))
            number, chunk = number + 1, bytearray()
        chunk += line
        digest.update(line)
        count += 1
    _write_chunk(file, cipher, bytes(chunk), _place(header, number, last=True))
    return {"rows": count, "chunks": number, "rows_sha256": digest.hexdigest()}


def header_of(path: Path) -> Header:
    """What the bundle at `path` says of itself; nothing of it is proven before it is read with its key.

    Raises:
        BundleError: it is no bundle of a version that we know.
    """
    with _opened(path) as file:
        return _read_header(file, path)


def read(path: Path, key: bytes, now: datetime) -> Iterator[dict[str, Any]]:
    """The rows, each authentic. That none is missing is known at the end only: take them all, then use them.

    Raises:
        BundleError: it has expired, the key is another one's, or it was altered or cut off.
    """
    with _opened(path) as file:
        header = _read_header(file, path)
        if now >= header.expires_at:
            raise BundleError(
                f"{path} ended on {header.expires_at:%Y-%m-%d}: delete it and ask for a new one."
            )
        document = _read_chunk(file, path, key, header, 0, last=False)
        if hashlib.sha256(document).hexdigest() != header.manifest_sha256:
            raise _damaged(path)
        manifest = json.loads(document)
        digest = hashlib.sha256()
        for number in range(1, manifest["chunks"] + 1):
            chunk = _read_chunk(file, path, key, header, number, last=number == manifest["chunks"])
            digest.update(chunk)
            yield from map(json.loads, chunk.splitlines())
        if file.read(1) or digest.hexdigest() != manifest["rows_sha256"]:
            raise _damaged(path)


def rewrite(path: Path, key: bytes, fresh_key: bytes, without: Collection[str], now: datetime) -> Sealed:
    """Write the bundle anew under `fresh_key`, without the rows of the refs in `without`; same id and end.

    The old key opens what is left of the old file, wherever a copy of it lies: destroy it too.

    Raises:
        BundleError: as `read`; the bundle at `path` is then as it was.
    """
    header = header_of(path)
    kept = (row for row in read(path, key, now) if row["ref"] not in without)
    return seal(
        path,
        kept,
        fresh_key,
        identifier=header.id,
        created_at=header.created_at,
        expires_at=header.expires_at,
    )


def write_key(path: Path, identifier: UUID, key: bytes) -> None:
    """Write the key of a bundle to a file of its own, readable by its owner only.

    Raises:
        FileExistsError: `path` is there already; a key is never overwritten.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{KEY_FILE} {identifier} {base64.urlsafe_b64encode(key).decode()}\n")


def read_key(path: Path, identifier: UUID) -> bytes:
    """The key in the file at `path`, which must be that of the bundle `identifier`.

    Raises:
        BundleError: it holds something else.
    """
    with _opened(path) as file:
        words = file.read(1024).decode("ascii", "replace").split()
    if len(words) != 3 or words[0] != KEY_FILE:
        raise BundleError(f"{path} is no key file of a bundle.")
    if words[1] != str(identifier):
        raise BundleError(f"{path} is the key of bundle {words[1]}, not of {identifier}.")
    try:
        key = base64.urlsafe_b64decode(words[2])
    except ValueError as error:
        raise BundleError(f"{path} is damaged; ask for the key again.") from error
    if len(key) != 32:
        raise BundleError(f"{path} is damaged; ask for the key again.")
    return key


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise BundleError(f"{path} can't be read: {error.strerror}.") from error


def _private(path: Path) -> BinaryIO:
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b")


def _json(document: Mapping[str, Any]) -> bytes:
    # Escaped, so that no character of a text can end a line.
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _place(header: Header, number: int, *, last: bool) -> bytes:
    return _json({**header.bound, "chunk": number, "last": last})


def _write_chunk(file: BinaryIO, cipher: AESGCM, plaintext: bytes, place: bytes) -> None:
    nonce = os.urandom(NONCE)
    sealed = nonce + cipher.encrypt(nonce, plaintext, place)
    file.write(len(sealed).to_bytes(4, "big") + sealed)


def _read_header(file: BinaryIO, path: Path) -> Header:
    if file.read(len(MAGIC)) != MAGIC:
        raise BundleError(f"{path} is no bundle of this service.")
    clear = _read_sized(file, path)
    try:
        said = json.loads(clear)
        header = Header(
            UUID(said["id"]),
            datetime.fromisoformat(said["created_at"]),
            datetime.fromisoformat(said["expires_at"]),
            said["manifest_sha256"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path) from error
    if said != {**header.bound, "manifest_sha256": header.manifest_sha256}:
        raise BundleError(f"{path} is of another version than {VERSION}; use the program that wrote it.")
    return header


def _read_chunk(file: BinaryIO, path: Path, key: bytes, header: Header, number: int, *, last: bool) -> bytes:
    sealed = _read_sized(file, path)
    try:
        return AESGCM(key).decrypt(sealed[:NONCE], sealed[NONCE:], _place(header, number, last=last))
    except (InvalidTag, ValueError) as error:
        raise _damaged(path) from error


def _read_sized(file: BinaryIO, path: Path) -> bytes:
    size = int.from_bytes(file.read(4), "big")
    if not 0 < size <= LARGEST:
        raise _damaged(path)
    data = file.read(size)
    if len(data) < size:
        raise _damaged(path)
    return data


def _damaged(path: Path) -> BundleError:
    return BundleError(f"{path} does not open: another key, or it was altered or cut off. Get it again.")
