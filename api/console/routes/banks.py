"""Banks of known content: what they hold, how often they match and how often that was wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from fastapi.responses import HTMLResponse, Response

from api.auth import services
from api.console import inputs
from api.console.templating import render, see
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.errors import InvalidInput, TooLarge
from moderation.domain.signals import BankAction, Category
from moderation.governance import bank_lists, banks
from moderation.governance.sessions import PersonPrincipal
from moderation.review import wellness
from moderation.storage.database import transaction

router = APIRouter(prefix="/console", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.BANK_READ))]
Adder = Annotated[PersonPrincipal, Depends(person(Permission.BANK_ADD))]
Manager = Annotated[PersonPrincipal, Depends(person(Permission.BANK_MANAGE))]

SAID = {
    "created": "The bank is there; add what it should know.",
    "added": "Added. It matches from the next item on.",
    "unverified": "Added. Until somebody verifies it, a match only asks people.",
    "verified": "Verified: a match now does what the bank asks for.",
    "entry_on": "The entry matches again.",
    "entry_off": "The entry matches nothing any more.",
    "removed": "The entry is gone; what it decided stays decided.",
    "on": "The bank is on.",
    "off": "The bank is off: nothing in it matches until it is turned on again.",
}
DOINGS = ("verify", "on", "off", "remove")


@router.get("/banks")
def show_all(request: Request, held: Held, _: Reader) -> HTMLResponse:
    """Every bank."""
    with transaction(held.databases.content) as session:
        found = bank_lists.listing(session, datetime.now(UTC))
    return render(
        request,
        "banks/index.html",
        banks=found,
        kinds=banks.KINDS,
        categories=list(Category),
        bank_actions=list(BankAction),
    )


@router.post("/banks")
def create(
    held: Held,
    principal: Manager,
    name: Annotated[str, Form()],
    kind: Annotated[str, Form()],
    category: Annotated[str, Form()],
    action: Annotated[str, Form()],
    allow: Annotated[bool, Form()] = False,
) -> Response:
    """Make a bank."""
    with transaction(held.databases.content) as session:
        banks.create(
            session,
            name=name.strip(),
            kind=kind,
            category=category,
            action=action,
            allow=allow,
            actor=principal.actor,
            now=datetime.now(UTC),
        )
    return see(f"/console/banks/{name.strip()}", said="created")


@router.get("/banks/{name}")
def show(
    request: Request, held: Held, _: Reader, name: str, said: str = "", before: str = "", show: str = ""
) -> HTMLResponse:
    """One bank with its entries, newest first."""
    now = datetime.now(UTC)
    unverified = inputs.one_of(show, "What to show", ("unverified",)) is not None
    place = inputs.identifier(before, "The place to go on from")
    with transaction(held.databases.content) as session:
        entries = bank_lists.entries(session, name, now, before=place, unverified=unverified)
        bank = next(one for one in bank_lists.listing(session, now) if one.name == name)
    here = f"/console/banks/{name}"
    last = entries[bank_lists.PAGE - 1].id if len(entries) > bank_lists.PAGE else None
    return render(
        request,
        "banks/show.html",
        bank=bank,
        entries=entries[: bank_lists.PAGE],
        unverified=unverified,
        flash=SAID.get(said, ""),
        first=inputs.address(here, {"show": show}) if before else "",
        more=inputs.address(here, {"show": show, "before": last}) if last else "",
    )


@router.post("/banks/{name}/switch")
def switch(held: Held, principal: Manager, name: str, on: Annotated[bool, Form()]) -> Response:
    """Turn a bank on or off."""
    with transaction(held.databases.content) as session:
        banks.switch(session, name, on=on, actor=principal.actor, now=datetime.now(UTC))
    return see(f"/console/banks/{name}", said="on" if on else "off")


@router.post("/banks/{name}/entries")
def add(
    held: Held,
    principal: Adder,
    name: str,
    text: Annotated[str, Form()] = "",
    note: Annotated[str, Form()] = "",
    expires: Annotated[str, Form()] = "",
    verified: Annotated[bool, Form()] = False,
    file: Annotated[UploadFile | None, File()] = None,
) -> Response:
    """Add an entry from a text or a file; only who manages banks may add it as verified."""
    now = datetime.now(UTC)
    content = text.encode("utf-8", "replace")
    if file is not None and file.filename:
        most = held.settings.limits.body_bytes
        content = file.file.read(most + 1)
        if len(content) > most:
            raise TooLarge(f"The file is larger than {most:,} bytes; choose a smaller one.")
    trusted = verified and Permission.BANK_MANAGE in principal.permissions
    with transaction(held.databases.content) as session:
        banks.add_content(
            session,
            bank=name,
            content=content,
            note=note,
            verified=trusted,
            actor=principal.actor,
            now=now,
            expires_at=inputs.day(expires, "The end", end=True),
        )
    return see(f"/console/banks/{name}", said="added" if trusted else "unverified")


@router.post("/banks/{name}/entries/{entry_id}")
def change(held: Held, principal: Manager, name: str, entry_id: UUID, do: Annotated[str, Form()]) -> Response:
    """Verify an entry, turn it on or off, or remove it."""
    now = datetime.now(UTC)
    if do not in DOINGS:
        raise InvalidInput(f"What to do must be one of {', '.join(DOINGS)}.")
    with transaction(held.databases.content) as session:
        if do == "verify":
            banks.verify(session, name, entry_id, actor=principal.actor, now=now)
        elif do == "remove":
            banks.remove_entry(session, name, entry_id, actor=principal.actor, now=now)
        else:
            banks.switch_entry(session, name, entry_id, on=do == "on", actor=principal.actor, now=now)
    said = {"verify": "verified", "remove": "removed", "on": "entry_on", "off": "entry_off"}[do]
    return see(f"/console/banks/{name}", said=said)


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
        banks.not_the_same(session, name, entry_id, row.item_id, actor=principal.actor, now=now)
        if disable and Permission.BANK_MANAGE in principal.permissions:
            banks.switch_entry(session, name, entry_id, on=False, actor=principal.actor, now=now)
    return see(f"/console/cases/{case}", said="not_the_same")


@router.post("/cases/{case_id}/bank")
def bank_this(
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
        banks.add_part(
            session,
            held.vault,
            held.blobs,
            bank=bank,
            item_id=row.item_id,
            position=position,
            note=note,
            actor=principal.actor,
            now=datetime.now(UTC),
        )
    return see(f"/console/cases/{case_id}", said="banked")
