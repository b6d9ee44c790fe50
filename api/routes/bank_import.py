"""Lists into banks: what `moderation banks import` does, for services."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool

from api import bodies
from api.auth import caller, services
from api.bank_schemas import EntryForm
from api.import_schemas import ImportOut
from api.schemas import Name
from api.services import Services
from moderation.domain.errors import UnsupportedMedia
from moderation.domain.signals import BankKind
from moderation.governance import bank_feeds, bank_loading, banks
from moderation.governance.accounts import Principal, Scope
from moderation.governance.bank_formats import Format
from moderation.governance.bank_json import HEAD
from moderation.storage.database import transaction

router = APIRouter(prefix="/v1/banks", tags=["banks"])

Held = Annotated[Services, Depends(services)]
Caller = Annotated[Principal, Depends(caller(Scope.BANKS_WRITE))]
MEDIA = {"text/csv": Format.CSV, "application/x-ndjson": Format.JSONL, "text/plain": Format.LIST}
"""What lists of our own are sent as. An exchange's is told by how it begins."""
TOLD_BY_LOOKS = ("application/json", "application/xml", "text/xml")
EXCHANGES = (Format.THREATEXCHANGE, Format.NCMEC, Format.STOPNCII)
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "text/csv": {"schema": {"type": "string"}, "example": "value,note\nprizes.example,reported\n"},
            "application/x-ndjson": {
                "schema": {"type": "string"},
                "example": '{"value": "prizes.example"}\n',
            },
            "text/plain": {
                "schema": {"type": "string"},
                "example": "prizes.example\ndocs.example/forms/77\n",
            },
            "application/xml": {"schema": {"type": "string"}},
        },
    }
}


@router.post("/{name}/import", response_model=ImportOut, openapi_extra=BODY)
async def import_list(
    name: Name,
    request: Request,
    held: Held,
    principal: Caller,
    dry_run: Annotated[bool, Query(description="Say what would come of it, and change nothing.")] = False,
    format: Annotated[Format | None, Query(description="Else by the content type.")] = None,  # noqa: A002
    form: Annotated[EntryForm | None, Query(description="Of lines that name none.")] = None,
    source: Annotated[str | None, Query(max_length=100, description="Whose list it is.")] = None,
    note: Annotated[str, Query(max_length=300, description="Of lines without a note.")] = "",
    verified: Annotated[bool, Query(description="Somebody made sure; no list verifies itself.")] = False,
) -> dict[str, Any]:
    """Add what a list says, and take out what its source takes back, all or nothing.

    A list is one value a line, CSV with a header, JSON lines as the command line exports them, or what an
    exchange of hashes hands out: ThreatExchange, NCMEC, StopNCII. Lines that can't be used are left out and
    told by number.
    """
    kind = bodies.content_type(request)
    if kind not in MEDIA and kind not in TOLD_BY_LOOKS:
        raise UnsupportedMedia(
            "Send text/csv, application/x-ndjson, text/plain, application/json or application/xml."
        )
    data = await bodies.capped(request, held.settings.limits)
    shape = format or MEDIA.get(kind) or bank_feeds.looks_like(data[:HEAD])
    about = bank_loading.About(
        note=note, verified=verified, form=form, source=source or (str(shape) if shape in EXCHANGES else None)
    )
    return await run_in_threadpool(_fill, held, principal, name, data, shape, about, dry_run)


def _fill(
    held: Services,
    principal: Principal,
    name: str,
    data: bytes,
    shape: Format,
    about: bank_loading.About,
    dry: bool,
) -> dict[str, Any]:
    source = io.BufferedReader(io.BytesIO(data), HEAD)
    with transaction(held.databases.content) as session:
        kind = BankKind(banks.kind_of(session, name))
        filled = bank_loading.fill(
            session,
            held.vault,
            name,
            bank_feeds.read(source, shape, kind),
            about,
            actor=principal.actor,
            now=datetime.now(UTC),
            dry=dry,
        )
    return {
        "format": str(shape),
        "dry_run": dry,
        "added": filled.added,
        "known": filled.known,
        "completed": filled.completed,
        "repeated": filled.repeated,
        "bad": filled.bad,
        "faults": [{"line": line, "why": why} for line, why in filled.faults],
        "foreign": dict(filled.foreign),
        "removed": filled.removed,
        "absent": filled.absent,
    }
