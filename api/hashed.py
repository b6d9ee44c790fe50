"""Pictures that somebody uploads to a bank, as banks take them: decoded in the guarded child, and hashed."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import numpy as np
from fastapi import Request, UploadFile

from api.services import Services
from moderation.domain.errors import TooLarge
from moderation.domain.signals import BankKind, Match
from moderation.features import fingerprints
from moderation.features.fingerprints import Asked, Kept
from moderation.features.hashes import sha256
from moderation.governance import banks
from moderation.pipeline import pictures
from moderation.storage.database import transaction

MOST_QUALITY = 100
_HASH = re.compile(r"[0-9a-f]{64}")


def uploaded(held: Services, file: UploadFile | None) -> bytes | None:
    """The bytes of a form's file, if one was chosen.

    Raises:
        TooLarge: it is larger than any body may be.
    """
    if file is None or not file.filename:
        return None
    most = held.settings.limits.body_bytes
    data = file.file.read(most + 1)
    if len(data) > most:
        raise TooLarge(f"The file is larger than {most:,} bytes; choose a smaller one.")
    return data


def kept(request: Request, data: bytes) -> Kept:
    """What a bank keeps of a picture to find its near copies.

    Raises:
        moderation.features.decode.UndecodableImage: it can't be decoded.
    """
    return fingerprints.kept(request.app.state.renditions.picture(data))


def asked(request: Request, data: bytes) -> Asked:
    """What banks are asked for a picture by.

    Raises:
        moderation.features.decode.UndecodableImage: it can't be decoded.
    """
    return fingerprints.asked(request.app.state.renditions.picture(data), sha256(data))


def asked_by_hash(written: str) -> Asked | None:
    """The same for 64 hexadecimal digits, which are the SHA-256 of a file or the PDQ hash of a picture."""
    digits = written.strip().lower()
    if _HASH.fullmatch(digits) is None:
        return None
    known = bytes.fromhex(digits)
    return Asked(known, np.frombuffer(known, np.uint8).reshape(1, 32), (), MOST_QUALITY)


def found(held: Services, name: str | None, wanted: Sequence[Asked], now: datetime) -> list[list[Match]]:
    """For each picture the live entries of one bank that it equals or comes near to, be the bank on or off.

    Without `name` of all banks of pictures that are on.
    """
    with transaction(held.databases.content) as session:
        digests = {(str(BankKind.IMAGE), one.sha256) for one in wanted}
        equal = banks.lookup(session, digests, now, only=name)
        snapshot = held.pictures.current(session, held.vault, now)
    proposed = snapshot.propose(wanted)
    with transaction(held.databases.content) as session:
        near = pictures.matches(session, proposed, now, only=name)
    answers = []
    for one, mine in zip(wanted, near, strict=True):
        matches: dict[str, Match] = {}
        for match in (*equal.get((BankKind.IMAGE, one.sha256), ()), *mine):
            matches.setdefault(match.entry, match)
        answers.append(list(matches.values()))
    return answers


def near_hash(held: Services, name: str, written: str, now: datetime) -> Collection[UUID]:
    """The entries of a bank near a hash that somebody looks for; none where they look for something else."""
    wanted = asked_by_hash(written)
    return [UUID(one.entry) for one in found(held, name, [wanted], now)[0]] if wanted else []
