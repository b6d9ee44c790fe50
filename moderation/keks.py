"""Key-encryption keys: one an epoch, in a file of lines `EPOCH BASE64`, the newest of which wraps.

A file that holds one plain base64 line is epoch 1. Who ends an epoch removes its line: whatever was wrapped
under it and not re-wrapped, as in an old copy of the keystore, opens no more.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

LENGTH = 32
FIRST = 1


class KekError(Exception):
    """The keys can't be read or written; the message says what to do and shows no key."""


@dataclass(frozen=True, slots=True)
class Keks:
    """The keys by epoch, and the file they came from if they came from one."""

    keys: Mapping[int, bytes] = field(repr=False)
    file: Path | None = None

    @property
    def newest(self) -> int:
        """The epoch under which keys are wrapped from now on."""
        return max(self.keys)


def single(key: bytes) -> Keks:
    """One key, of epoch 1, from no file."""
    return Keks({FIRST: key})


def parse(text: str, file: Path | None = None) -> Keks:
    """Read lines `EPOCH BASE64`, commas for line ends where there can be none; one base64 word alone is epoch 1.

    Raises:
        KekError: no key, a malformed line, an epoch twice, or a key that is not 32 bytes.
    """
    keys: dict[int, bytes] = {}
    stripped = (line.strip() for line in text.replace(",", "\n").splitlines())
    lines = [line for line in stripped if line and not line.startswith("#")]
    for line in lines:
        words = line.split()
        if len(words) == 1 and len(lines) == 1:
            words = [str(FIRST), *words]
        if len(words) != 2 or not words[0].isdecimal() or int(words[0]) < FIRST:
            raise KekError("has a line that is not EPOCH BASE64, as in `2 q83v…`; write one such line a key.")
        epoch = int(words[0])
        if epoch in keys:
            raise KekError(f"names epoch {epoch} twice; keep the line that was there first.")
        keys[epoch] = _decoded(words[1])
    if not keys:
        raise KekError("is empty; write 32 random bytes in base64.")
    return Keks(keys, file)


def read(path: Path) -> Keks:
    """The keys in a file.

    Raises:
        KekError: it can't be read, or as `parse`.
    """
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise KekError(f"{path} can't be read; check the path and mode.") from error
    return parse(text, path)


def append(path: Path) -> int:
    """Add a new epoch with a fresh key to the file; returns its number.

    Raises:
        KekError: the file can't be read or written.
    """
    keys = dict(read(path).keys)
    epoch = max(keys) + 1
    _write(path, keys | {epoch: secrets.token_bytes(LENGTH)})
    return epoch


def remove(path: Path, epoch: int) -> None:
    """Remove an epoch's key from the file, for good; nothing happens where it is gone already.

    Raises:
        KekError: the file can't be read or written, or this is the newest key.
    """
    keys = dict(read(path).keys)
    if epoch == max(keys):
        raise KekError(f"{path} has no newer key than epoch {epoch}; nothing would open without it.")
    if keys.pop(epoch, None) is not None:
        _write(path, keys)


def writable(path: Path) -> bool:
    """Whether this process may replace the file."""
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)


class Ring:
    """The keys as one process knows them.

    The file is looked at before every use, so that a rotation needs no restart.
    """

    def __init__(self, keks: Keks) -> None:
        self._keks = keks
        self._seen: tuple[int, int, int] | None = None
        self._lock = threading.Lock()

    def current(self) -> Keks:
        """The keys of the file as it is now. One that can't be read leaves the keys that were."""
        path = self._keks.file
        if path is None:
            return self._keks
        try:
            status = path.stat()
            seen = (status.st_mtime_ns, status.st_ino, status.st_size)
            if seen != self._seen:
                with self._lock:
                    self._keks, self._seen = _later(self._keks, read(path)), seen
        except (OSError, KekError):
            # Half-mounted, somebody edits it, or another installation's: what is in memory is right until it fits.
            return self._keks
        return self._keks


def _later(before: Keks, after: Keks) -> Keks:
    """The keys of a file that was read again, if they can be what became of those before.

    Raises:
        KekError: a key is another one, or the newest is gone: what would be wrapped now, nobody could open later.
    """
    changed = [epoch for epoch, key in before.keys.items() if after.keys.get(epoch, key) != key]
    if changed or after.newest < before.newest:
        raise KekError("holds other keys than before; put the file back that belongs to this keystore.")
    return after


def _decoded(word: str) -> bytes:
    try:
        key = base64.b64decode(word, validate=True)
    except binascii.Error as error:
        raise KekError("is not base64; write 32 random bytes in base64.") from error
    if len(key) != LENGTH:
        raise KekError(f"holds {len(key)} bytes; it must hold exactly {LENGTH}.")
    return key


def _write(path: Path, keys: Mapping[int, bytes]) -> None:
    """Replace the file as a whole and durably, readable by its owner only from the first byte on.

    It stays whose it was: a service that runs as another user than whoever rotates has to read it afterwards.
    """
    fresh = path.with_name(path.name + ".new")
    lines = [f"{epoch} {base64.b64encode(key).decode()}\n" for epoch, key in sorted(keys.items())]
    try:
        fresh.unlink(missing_ok=True)
        with os.fdopen(
            os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii"
        ) as file:
            if path.exists():
                before = path.stat()
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
                # Its group reads it where it did; the rest of the world never does, whatever the old file said.
                os.fchmod(file.fileno(), before.st_mode & 0o660 | 0o600)
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise KekError(f"{path} can't be written: {error.strerror}. Run this as its owner.") from error
