"""The file of a backup: a tar of tables and blobs that ends with a manifest of everything in it.

    manifest.json      kind, schema revision, when, every table with its columns and rows, SHA-256 of each file
    tables/NAME.gz     COPY text of one table
    blobs/REFERENCE    one encrypted blob
    blobs.sha256       SHA-256 of each blob, as `sha256sum` writes it

The manifest comes last, so that whatever was broken off has none; the file gets its name when it is whole.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from moderation.domain.errors import InvalidInput

FORMAT = 1
MANIFEST = "manifest.json"
DIGESTS = "blobs.sha256"
MEMBER = re.compile(r"tables/[a-z_]+\.gz|blobs/[0-9a-f]{32}")
CHUNK = 1 << 20


@dataclass(slots=True)
class Writer:
    """A backup being written: members first, the manifest at the end."""

    _tar: tarfile.TarFile
    _folder: Path
    _digests: IO[bytes]
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    blobs: int = 0

    def table(self, name: str, write: Callable[[IO[bytes]], int]) -> int:
        """Add a table's file, which `write` fills; returns what it returns, the number of rows."""
        with tempfile.TemporaryFile(dir=self._folder) as spool:
            rows = write(spool)
            self._add(f"tables/{name}.gz", spool)
        return rows

    def blob(self, reference: str, data: bytes) -> None:
        """Add a blob."""
        name = f"blobs/{reference}"
        self._tar.addfile(_member(name, len(data)), io.BytesIO(data))
        self._digests.write(_line(name, hashlib.sha256(data).hexdigest()))
        self.blobs += 1

    def finish(self, facts: dict[str, Any]) -> None:
        """Add the manifest: `facts`, and what each file must be."""
        self._add(DIGESTS, self._digests)
        manifest = {"format": FORMAT, **facts, "blobs": self.blobs, "files": self.files}
        data = json.dumps(manifest, indent=1, sort_keys=True).encode()
        self._tar.addfile(_member(MANIFEST, len(data)), io.BytesIO(data))

    def _add(self, name: str, spool: IO[bytes]) -> None:
        size = spool.tell()
        spool.seek(0)
        self.files[name] = {"bytes": size, "sha256": _digest(spool)}
        spool.seek(0)
        self._tar.addfile(_member(name, size), spool)


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """A new backup at `path`, readable by its owner only; on any error there is none.

    Raises:
        InvalidInput: there is a file of that name, or it can't be written.
    """
    if path.exists():
        raise InvalidInput(f"{path} exists; a backup never replaces another. Choose another name.")
    partial = path.with_name(path.name + ".partial")
    try:
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise InvalidInput(f"{path} can't be written: {error.strerror}.") from error
    try:
        with (
            os.fdopen(descriptor, "wb") as file,
            tempfile.TemporaryFile(dir=path.parent) as digests,
        ):
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                yield Writer(tar, path.parent, digests)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def verified(path: Path) -> dict[str, Any]:
    """The manifest of a backup of which every byte is what was written.

    Raises:
        InvalidInput: it can't be read, is not whole, or was altered.
    """
    try:
        return _verified(path)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InvalidInput(f"{path} can't be read as a backup; is it the right file, and whole?") from error


def _verified(path: Path) -> dict[str, Any]:
    seen: dict[str, dict[str, Any]] = {}
    digests = hashlib.sha256()
    blobs = 0
    manifest: dict[str, Any] | None = None
    for name, file in members(path):
        if manifest is not None:
            raise InvalidInput(f"{path} has something behind its manifest: it is no backup of ours.")
        if name == MANIFEST:
            manifest = _read_manifest(path, file)
        elif name.startswith("blobs/"):
            digests.update(_line(name, _digest(file)))
            blobs += 1
        else:
            seen[name] = {"sha256": _digest(file), "bytes": file.tell()}
    if manifest is None:
        raise InvalidInput(f"{path} is not whole: its manifest, which comes last, is missing.")
    for name in sorted(seen.keys() | manifest["files"].keys()):
        if seen.get(name) != manifest["files"].get(name):
            raise InvalidInput(f"{path} was altered or damaged: {name} is not what was backed up.")
    if digests.hexdigest() != seen[DIGESTS]["sha256"] or blobs != manifest["blobs"]:
        raise InvalidInput(f"{path} was altered or damaged: its blobs are not what was backed up.")
    return manifest


def members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Every file of a backup, in order, to be read before the next is asked for.

    Raises:
        InvalidInput: it holds what no backup of ours holds.
    """
    with tarfile.open(path, mode="r|") as tar:
        for member in tar:
            file = tar.extractfile(member)
            known = MEMBER.fullmatch(member.name) or member.name in (MANIFEST, DIGESTS)
            if file is None or not member.isreg() or not known:
                raise InvalidInput(f"{path} holds {member.name!r}: it is no backup of ours.")
            yield member.name, file


def _read_manifest(path: Path, file: IO[bytes]) -> dict[str, Any]:
    try:
        manifest = json.loads(file.read())
        found = manifest["format"]
        whole = {"kind", "revision", "tables", "files", "blobs", "fingerprint"} <= manifest.keys()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{path} has a manifest that can't be read: it was altered or damaged.") from error
    if found != FORMAT or not whole:
        raise InvalidInput(
            f"{path} is of format {found}, and this version reads {FORMAT}: use the version it is from."
        )
    return dict(manifest)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member


def _line(name: str, digest: str) -> bytes:
    return f"{digest}  {name}\n".encode()


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while data := file.read(CHUNK):
        digest.update(data)
    return digest.hexdigest()
