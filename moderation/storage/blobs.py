"""Image bytes, already encrypted by the vault: put, open, destroy.

The folder store is the one that exists; an S3-compatible one needs the same three functions. A reference
is random and says nothing of what it holds.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path


class BlobMissing(Exception):
    """The blob was destroyed or never written."""


class FolderBlobs:
    """Blobs as files under `root`, spread over 256 folders, readable by their owner only."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, data: bytes) -> str:
        """Store `data` durably and return its reference."""
        reference = secrets.token_hex(16)
        path = self._path(reference)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return reference

    def open(self, reference: str) -> bytes:
        """The stored bytes.

        Raises:
            BlobMissing: there are none.
        """
        try:
            return self._path(reference).read_bytes()
        except FileNotFoundError as error:
            raise BlobMissing("The blob is not there any more.") from error

    def put_back(self, reference: str, data: bytes) -> None:
        """Store `data` under the reference it had, from a backup."""
        path = self._path(reference)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def destroy(self, reference: str) -> None:
        """Remove the bytes; doing it again changes nothing."""
        self._path(reference).unlink(missing_ok=True)

    def listing(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """What is stored under the two hexadecimal digits `prefix`, and since when."""
        folder = self._root / prefix
        if folder.is_dir():
            for path in folder.iterdir():
                with suppress(FileNotFoundError):
                    yield path.name, datetime.fromtimestamp(path.stat().st_mtime, UTC)

    def everything(self) -> Iterator[tuple[str, bytes]]:
        """Every blob there is, one after the other, save those that go away meanwhile."""
        for number in range(256):
            for reference, _ in self.listing(f"{number:02x}"):
                with suppress(FileNotFoundError):
                    yield reference, self._path(reference).read_bytes()

    def _path(self, reference: str) -> Path:
        return self._root / reference[:2] / reference
