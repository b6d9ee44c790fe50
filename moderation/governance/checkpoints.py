"""Checkpoints as text: the tree's size and root, signed, in the form that other logs use too.

    moderation-log/9f86d081884c7d65        who signs: named by the key itself
    20852163                               how many events
    CsUYapGGPo4dkMgIAUqom/Xajj7h...=       the root of their tree
    time 2026-11-22T12:00:00.000000Z       when it was signed

    — moderation-log/9f86d081884c7d65 Az3grlgtzPICa5OS8npV...

Sources: C2SP tlog-checkpoint and signed-note (Ed25519, type 0x01).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from moderation.domain.merkle import HASH_BYTES

ED25519 = b"\x01"
KEY_ID_BYTES = 4
TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_DASH = "\u2014 "


class NoteInvalid(Exception):
    """A text is no checkpoint, or not one of the key's; the message says why."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tree at one size; `note` is the signed text that says so."""

    size: int
    root: bytes
    at: datetime
    note: str


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key and the name it signs under. As text: NAME+ID+KEY, as other tools for signed notes take it."""

    name: str
    raw: bytes

    @property
    def id(self) -> bytes:
        """The first bytes of every signature: which key made it."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.raw).digest()[:KEY_ID_BYTES]

    @property
    def fingerprint(self) -> str:
        """A short form to compare by eye: the first 16 bytes of the key's SHA-256."""
        return hashlib.sha256(self.raw).hexdigest()[:32]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(ED25519 + self.raw).decode()}"


def key_of(private: Ed25519PrivateKey) -> VerifierKey:
    """The public half; its name is derived from it, so that no two logs are ever called the same."""
    raw = private.public_key().public_bytes_raw()
    return VerifierKey(f"moderation-log/{hashlib.sha256(raw).hexdigest()[:16]}", raw)


def read_key(text: str) -> VerifierKey:
    """The key that `str()` of one gave.

    Raises:
        NoteInvalid: it is no such text.
    """
    try:
        name, identifier, encoded = text.strip().split("+", 2)
        raw = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error) as error:
        raise NoteInvalid(
            "That is no public key; it looks like NAME+ID+KEY (`moderation audit key`)."
        ) from error
    key = VerifierKey(name, raw[1:])
    if len(raw) != 33 or raw[:1] != ED25519 or not name or key.id.hex() != identifier:
        raise NoteInvalid("That public key is damaged: its parts do not fit each other.")
    return key


def sign(private: Ed25519PrivateKey, size: int, root: bytes, at: datetime) -> Checkpoint:
    """A new checkpoint."""
    key = key_of(private)
    moment = at.astimezone(UTC)
    text = f"{key.name}\n{size}\n{base64.b64encode(root).decode()}\ntime {moment.strftime(TIME)}\n"
    signature = base64.b64encode(key.id + private.sign(text.encode())).decode()
    return Checkpoint(size, root, moment, f"{text}\n{_DASH}{key.name} {signature}\n")


def opened(key: VerifierKey, note: str) -> str:
    """The text of a note that `key` signed.

    Raises:
        NoteInvalid: it is no note, or its signature is another key's or wrong.
    """
    text, blank, rest = note.rpartition("\n\n")
    if not blank or not rest.endswith("\n"):
        raise NoteInvalid("It is not a signed note: text, an empty line, signatures.")
    text += "\n"
    for line in rest[:-1].split("\n"):
        words = line.removeprefix(_DASH).split(" ")
        if not line.startswith(_DASH) or len(words) != 2:
            raise NoteInvalid("It is not a signed note: a line of the signatures can't be read.")
        try:
            signature = base64.b64decode(words[1], validate=True)
        except (ValueError, binascii.Error) as error:
            raise NoteInvalid("It is not a signed note: a signature can't be read.") from error
        if (words[0], signature[:KEY_ID_BYTES]) != (key.name, key.id):
            continue  # a witness may sign too; whom we don't know we don't ask
        try:
            Ed25519PublicKey.from_public_bytes(key.raw).verify(signature[KEY_ID_BYTES:], text.encode())
        except (InvalidSignature, ValueError) as error:
            raise NoteInvalid(
                "Its signature is wrong: the text was altered, or the signature was."
            ) from error
        return text
    raise NoteInvalid(f"It was not signed by {key.name} (key {key.id.hex()}).")


def read(key: VerifierKey, note: str) -> Checkpoint:
    """A checkpoint that `key` signed.

    Raises:
        NoteInvalid: it is none, or the signature is another key's or wrong.
    """
    lines = opened(key, note).split("\n")[:-1]
    try:
        origin, size, encoded, said = lines
        root = base64.b64decode(encoded, validate=True)
        at = datetime.strptime(said.removeprefix("time "), TIME).replace(tzinfo=UTC)
    except (ValueError, binascii.Error) as error:
        raise NoteInvalid("It is a signed note, but not a checkpoint.") from error
    if origin != key.name or not _SIZE.fullmatch(size) or len(root) != HASH_BYTES:
        raise NoteInvalid("It is a signed note, but not a checkpoint of this log.")
    return Checkpoint(int(size), root, at, note)


def size_of(note: str) -> int:
    """The size a checkpoint speaks of; whether it may be trusted is not asked.

    Raises:
        NoteInvalid: it is no checkpoint.
    """
    lines = note.split("\n")
    if len(lines) < 6 or not _SIZE.fullmatch(lines[1]) or not lines[-2].startswith(_DASH):
        raise NoteInvalid("It is not a checkpoint.")
    return int(lines[1])


def split(text: str) -> Iterator[str]:
    """The notes of a file that holds any number, one after the other.

    Raises:
        NoteInvalid: something else stands in it.
    """
    lines: list[str] = []
    signed = False
    for line in text.split("\n"):
        if signed and not line.startswith(_DASH):
            yield "".join(lines)
            lines, signed = [], False
        if lines or line:
            lines.append(line + "\n")
        signed = signed or line.startswith(_DASH)
    if "".join(lines).strip():
        raise NoteInvalid("It ends in the middle of a checkpoint.")
