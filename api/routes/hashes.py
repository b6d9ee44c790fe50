"""Pictures looked up in the banks that are on, by their hashes or by themselves. Nothing of them is kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool

from api import bodies, hashed
from api.auth import caller, services
from api.hash_schemas import Digest, HashesOut, PictureOut, Short
from api.services import Services
from moderation.domain.errors import InvalidInput
from moderation.domain.signals import BankKind, Match
from moderation.features.fingerprints import Asked
from moderation.governance import audit
from moderation.governance.accounts import Principal, Scope
from moderation.storage.database import transaction

router = APIRouter(prefix="/v1/hashes", tags=["hashes"])

Held = Annotated[Services, Depends(services)]
Reader = Annotated[Principal, Depends(caller(Scope.HASHES_READ))]
MOST = 100
By = Literal["sha256", "pdq", "phash"]
NOTHING = b""


@router.get("/lookup", response_model=HashesOut, response_model_exclude_none=True)
def lookup_hashes(
    held: Held,
    principal: Reader,
    sha256: Annotated[list[Digest], Query(max_length=MOST, description="Of the bytes of a file.")] = [],  # noqa: B006
    pdq: Annotated[list[Digest], Query(max_length=MOST, description="64 hexadecimal digits.")] = [],  # noqa: B006
    phash: Annotated[list[Short], Query(max_length=MOST, description="16 hexadecimal digits.")] = [],  # noqa: B006
) -> dict[str, Any]:
    """Look hashes up in every bank of pictures that is on: which entry of which bank, how near, whose list.

    Each may be named several times, a hundred in all. A hash is looked up as it is: of a picture that may be
    mirrored or has a border, send the picture itself to `/v1/hashes/match`.
    """
    named: list[tuple[By, str]] = [
        *(("sha256", one.lower()) for one in sha256),
        *(("pdq", one.lower()) for one in pdq),
        *(("phash", one.lower()) for one in phash),
    ]
    if not 1 <= len(named) <= MOST:
        raise InvalidInput(f"Name from 1 to {MOST} hashes, as sha256, pdq or phash.")
    found = _found(held, principal, [_asked(*one) for one in named])
    return {
        "results": [
            {"by": by, "hash": written, "matches": [_match(one) for one in matches]}
            for (by, written), matches in zip(named, found, strict=True)
        ]
    }


@router.post("/match", response_model=PictureOut, response_model_exclude_none=True)
async def match_picture(request: Request, held: Held, principal: Reader) -> dict[str, Any]:
    """Look a picture up in every bank of pictures that is on: as it is, turned, mirrored, without its border.

    It is decoded apart from everything else and hashed; nothing of it is kept.
    """
    data = await bodies.picture(request, held.settings.limits)
    asked = await held.scoring.hashed(data)
    (matches,) = await run_in_threadpool(_found, held, principal, [asked])
    return {
        "sha256": asked.sha256.hex(),
        "pdq": asked.pdq[0].tobytes().hex() if len(asked.pdq) else None,
        "quality": asked.quality,
        "matches": [_match(one) for one in matches],
    }


def _asked(by: By, written: str) -> Asked:
    known = bytes.fromhex(written)
    pdq = np.frombuffer(known if by == "pdq" else NOTHING, np.uint8).reshape(-1, 32)
    phashes = (int.from_bytes(known),) if by == "phash" else ()
    return Asked(known if by == "sha256" else NOTHING, pdq, phashes, hashed.MOST_QUALITY)


def _found(held: Services, principal: Principal, asked: Sequence[Asked]) -> list[list[Match]]:
    """What each matches; that something was answered is on the record, and of what not."""
    now = datetime.now(UTC)
    found = hashed.found(held, None, asked, now)
    told = {(one.bank, one.entry) for matches in found for one in matches}
    if told:
        details = {"asked": len(asked), "entries": len(told)}
        event = audit.Event(principal.actor, "bank.looked_up", "client", principal.client, details)
        with transaction(held.databases.content) as session:
            audit.record(session, [event], now)
    return found


def _match(match: Match) -> dict[str, Any]:
    return {
        "bank": match.bank,
        "kind": BankKind.IMAGE,
        "entry": match.entry,
        "how": match.how,
        "distance": match.distance,
        "score": round(match.score, 4),
        "category": match.category,
        "action": match.action,
        "allow": match.allow,
        "verified": match.verified,
        "quarantined": match.quarantined,
        "source": match.source,
    }
