"""One entry of a bank: adding it, what became of it, and what people say of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from fastapi.responses import HTMLResponse, Response

from api.auth import services
from api.console import charts, inputs
from api.console.charts import Series
from api.console.routes.banks import SAID
from api.console.templating import render, see
from api.hashed import kept, uploaded
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.errors import InvalidInput, NotFound
from moderation.domain.signals import BankKind
from moderation.governance import bank_history, bank_judging, bank_lists, bank_parts, banks
from moderation.governance.bank_judging import Lowered
from moderation.governance.sessions import PersonPrincipal
from moderation.review import wellness
from moderation.storage.database import transaction

router = APIRouter(prefix="/console", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.BANK_READ))]
Adder = Annotated[PersonPrincipal, Depends(person(Permission.BANK_ADD))]
Manager = Annotated[PersonPrincipal, Depends(person(Permission.BANK_MANAGE))]

DONE = {
    "verify": "verified",
    "release": "released",
    "on": "entry_on",
    "off": "entry_off",
    "remove": "removed",
}
TOLD = {
    "bank.entry_added": "added",
    "bank.entry_completed": "given hashes, by which near copies are found",
    "bank.entry_verified": "verified",
    "bank.entry_doubted": "not verified any more, for it did not mean an item",
    "bank.entry_enabled": "turned on",
    "bank.entry_disabled": "turned off",
    "bank.entry_quarantined": "put in quarantine",
    "bank.entry_released": "released from quarantine",
    "bank.not_the_same": "said not to mean an item",
}


@router.post("/banks/{name}/entries")
def add(
    request: Request,
    held: Held,
    principal: Adder,
    name: str,
    text: Annotated[str, Form()] = "",
    note: Annotated[str, Form()] = "",
    expires: Annotated[str, Form()] = "",
    verified: Annotated[bool, Form()] = False,
    form: Annotated[str, Form()] = "",
    source: Annotated[str, Form()] = "",
    file: Annotated[UploadFile | None, File()] = None,
) -> Response:
    """Add an entry from a text, a file or a hash; only who manages banks may add it as verified."""
    now = datetime.now(UTC)
    data = uploaded(held, file)
    with transaction(held.databases.content) as session:
        pictures = banks.kind_of(session, name) == BankKind.IMAGE
    trusted = verified and Permission.BANK_MANAGE in principal.permissions
    # Decoded before anything is locked: a picture may take two seconds.
    hashes = kept(request, data) if pictures and data is not None else None
    if pictures and data is not None:
        form = ""
    with transaction(held.databases.content) as session:
        added = banks.add_content(
            session,
            held.vault,
            bank=name,
            content=text.encode("utf-8", "replace") if data is None else data,
            note=note,
            verified=trusted,
            actor=principal.actor,
            now=now,
            expires_at=inputs.day(expires, "The end", end=True),
            form=form or None,
            source=source,
            kept=hashes,
        )
    said = "known" if not added.fresh else "added" if trusted else "unverified"
    if added.fresh and pictures and not added.near:
        said = "bytes"
    return see(f"/console/banks/{name}", said=said)


@router.get("/banks/{name}/entries/{entry_id}")
def show(
    request: Request, held: Held, principal: Reader, name: str, entry_id: UUID, said: str = ""
) -> HTMLResponse:
    """One entry: what it is, who did what to it, and how often it matched."""
    now = datetime.now(UTC)
    # What it says only for whoever may add to the bank.
    vault = held.vault if Permission.BANK_ADD in principal.permissions else None
    with transaction(held.databases.content) as session:
        found = bank_lists.entries(session, name, now, only=entry_id, vault=vault)
        if not found:
            raise NotFound(f"Bank {name} has no such entry; somebody may have removed it.")
        bank = bank_lists.one(session, name, now)
        history = bank_history.of_entry(session, entry_id, now)
    days = [f"{day:%d %b}" for day, _ in history.days]
    hits = [hits for _, hits in history.days]
    return render(
        request,
        "banks/entry.html",
        bank=bank,
        entry=found[0],
        history=history,
        told=TOLD,
        matched=sum(hits),
        busiest=max(zip(hits, days, strict=True)),
        charts=charts,
        days=days,
        series=[Series("items", "c-in", hits)],
        flash=SAID.get(said, ""),
    )


@router.post("/banks/{name}/entries/{entry_id}")
def change(
    held: Held,
    principal: Manager,
    name: str,
    entry_id: UUID,
    do: Annotated[str, Form()],
    alone: Annotated[bool, Form()] = False,
) -> Response:
    """Verify an entry, let it out of quarantine, turn it on or off, or remove it; `alone` if on its own page."""
    now, actor = datetime.now(UTC), principal.actor
    if do not in DONE:
        raise InvalidInput(f"What to do must be one of {', '.join(DONE)}.")
    with transaction(held.databases.content) as session:
        if do == "verify":
            bank_judging.verify(session, name, entry_id, actor=actor, now=now)
        elif do == "release":
            bank_judging.release(session, name, entry_id, actor=actor, now=now)
        elif do == "remove":
            banks.remove_entry(session, name, entry_id, actor=actor, now=now)
        else:
            bank_judging.switch_entry(session, name, entry_id, on=do == "on", actor=actor, now=now)
    here = (
        f"/console/banks/{name}/entries/{entry_id}" if alone and do != "remove" else f"/console/banks/{name}"
    )
    return see(here, said=DONE[do])


@router.post("/banks/{name}/entries/{entry_id}/not-the-same")
def not_the_same(
    held: Held,
    principal: Adder,
    name: str,
    entry_id: UUID,
    case: Annotated[UUID, Form()],
    disable: Annotated[bool, Form()] = False,
) -> Response:
    """Say that an entry did not mean the item of a case; who manages banks may turn the entry off with it."""
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        row = wellness.visible(session, principal, case)
        bank_judging.check_matched(session, entry_id, row.item_id)
        lowered = bank_judging.not_the_same(
            session, name, entry_id, row.item_id, actor=principal.actor, now=now
        )
        if disable and Permission.BANK_MANAGE in principal.permissions:
            bank_judging.switch_entry(session, name, entry_id, on=False, actor=principal.actor, now=now)
            lowered = Lowered.OFF
    said = {Lowered.DOUBTED: "not_the_same_doubted", Lowered.OFF: "not_the_same_off"}
    return see(f"/console/cases/{case}", said=said.get(lowered, "not_the_same"))


@router.post("/cases/{case_id}/bank")
def bank_this(
    request: Request,
    held: Held,
    principal: Adder,
    case_id: UUID,
    bank: Annotated[str, Form()],
    position: Annotated[int, Form()],
    note: Annotated[str, Form()] = "",
) -> Response:
    """Add a part of a case's item to a bank, as an entry that nobody has verified yet."""
    with transaction(held.databases.content) as session:
        row = wellness.visible(session, principal, case_id)
        bank_parts.add_part(
            session,
            held.vault,
            held.blobs,
            bank=bank,
            item_id=row.item_id,
            position=position,
            note=note,
            actor=principal.actor,
            now=datetime.now(UTC),
            hashed=lambda data: kept(request, data),
        )
    return see(f"/console/cases/{case_id}", said="banked")
