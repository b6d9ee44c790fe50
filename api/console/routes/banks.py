"""Banks of known content: what they hold, how often they match and how often that was wrong."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from fastapi.responses import HTMLResponse, Response

from api.auth import services
from api.console import inputs
from api.console.templating import how_found, render, see
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.errors import InvalidInput, TooLarge, Unavailable
from moderation.domain.signals import BankAction, BankKind, Category, Match
from moderation.features.hashes import text_digest
from moderation.governance import bank_lists, banks
from moderation.governance.sessions import PersonPrincipal
from moderation.pipeline.matchers import Unembedded
from moderation.review import wellness
from moderation.review.views import Span
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
    "known": "It is in the bank already; nothing was changed.",
    "verified": "Verified: a match now does what the bank asks for.",
    "entry_on": "The entry matches again.",
    "entry_off": "The entry matches nothing any more.",
    "removed": "The entry is gone; what it decided stays decided.",
    "on": "The bank is on.",
    "tuned": "Changed, from the next item on.",
    "off": "The bank is off: nothing in it matches until it is turned on again.",
}
# What a kind is called where one is chosen; every bank's page says the rest.
HOLDS = {
    BankKind.TEXT: "texts, equal or nearly so",
    BankKind.TERM: "terms and patterns",
    BankKind.LINK: "links, hosts and contacts",
    BankKind.CLAIM: "claims, by what they mean",
    BankKind.IMAGE: "pictures, by their bytes",
}
TRIED = 10_000  # characters of a text that is tried
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
        kinds=HOLDS,
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
    distance: Annotated[str, Form()] = "",
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
            distance=_distance(distance),
        )
    return see(f"/console/banks/{name.strip()}", said="created")


def _distance(written: str) -> float | None:
    try:
        return float(written) if written.strip() else None
    except ValueError as error:
        raise InvalidInput(
            "The distance is a number such as 0.6; leave it empty for what is equal."
        ) from error


@router.get("/banks/{name}")
def show(
    request: Request,
    held: Held,
    principal: Reader,
    name: str,
    said: str = "",
    before: str = "",
    show: str = "",
) -> HTMLResponse:
    """One bank with its entries, newest first; what they say only for whoever may add to it."""
    return _page(request, held, principal, name, said=said, before=before, show=show)


def _page(
    request: Request,
    held: Services,
    principal: PersonPrincipal,
    name: str,
    *,
    said: str = "",
    before: str = "",
    show: str = "",
    tried: str = "",
    found: Sequence[Match] | None = None,
) -> HTMLResponse:
    now = datetime.now(UTC)
    unverified = inputs.one_of(show, "What to show", ("unverified",)) is not None
    place = inputs.identifier(before, "The place to go on from")
    # A list may name people: who only looks after the numbers sees how many entries there are, and their digests.
    vault = held.vault if Permission.BANK_ADD in principal.permissions else None
    with transaction(held.databases.content) as session:
        entries = bank_lists.entries(session, name, now, before=place, unverified=unverified, vault=vault)
        bank = bank_lists.one(session, name, now)
    here = f"/console/banks/{name}"
    last = entries[bank_lists.PAGE - 1].id if len(entries) > bank_lists.PAGE else None
    return render(
        request,
        "banks/show.html",
        bank=bank,
        entries=entries[: bank_lists.PAGE],
        unverified=unverified,
        tried=tried,
        found=found,
        spans=[
            Span(one.start, one.end, how_found(one.how))
            for one in found or ()
            if one.start is not None and one.end is not None and not one.view
        ],
        flash=SAID.get(said, ""),
        first=inputs.address(here, {"show": show}) if before else "",
        more=inputs.address(here, {"show": show, "before": last}) if last else "",
    )


@router.post("/banks/{name}/try")
def try_text(
    request: Request, held: Held, principal: Adder, name: str, text: Annotated[str, Form()] = ""
) -> HTMLResponse:
    """What the bank finds in a text, be the bank on or off; the text is not kept."""
    if not text.strip() or len(text) > TRIED:
        raise InvalidInput(f"Write a text of {TRIED:,} characters at most, to see what the bank finds in it.")
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        bank = banks.named(session, name)
        if bank.kind == BankKind.IMAGE:
            raise InvalidInput("This bank holds pictures; a text can't be tried against it.")
        equal = banks.lookup(session, {(bank.kind, text_digest(text))}, now, only=name)
        snapshot = held.matchers.current(session, held.vault, now, only=name)
    found = [*equal.get((str(bank.kind), text_digest(text)), ())]
    try:
        found += [
            one
            for every in (snapshot.find([text], now), snapshot.find_claims([text], now))
            for one in every[0]
        ]
    except Unembedded as error:
        raise Unavailable(
            "No embedding model serves, so claims can't be compared; `moderation models` shows what there is.",
            retry_after=60.0,
        ) from error
    known: dict[str, Match] = {}
    for one in found:
        known.setdefault(one.entry, one)
    return _page(request, held, principal, name, tried=text, found=list(known.values()))


@router.post("/banks/{name}/distance")
def tune(held: Held, principal: Manager, name: str, distance: Annotated[str, Form()] = "") -> Response:
    """Change how near is near enough."""
    with transaction(held.databases.content) as session:
        banks.tune(session, name, _distance(distance), actor=principal.actor, now=datetime.now(UTC))
    return see(f"/console/banks/{name}", said="tuned")


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
    form: Annotated[str, Form()] = "",
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
        added = banks.add_content(
            session,
            held.vault,
            bank=name,
            content=content,
            note=note,
            verified=trusted,
            actor=principal.actor,
            now=now,
            expires_at=inputs.day(expires, "The end", end=True),
            form=form or None,
        )
    said = "known" if not added.fresh else "added" if trusted else "unverified"
    return see(f"/console/banks/{name}", said=said)


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
