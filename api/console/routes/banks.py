"""Banks of known content: what they hold, how often they match and how often that was wrong."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from fastapi.responses import HTMLResponse, Response

from api.auth import services
from api.console import inputs
from api.console.templating import how_found, render, see
from api.hashed import asked, asked_by_hash, near_hash, uploaded
from api.hashed import found as find
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.errors import InvalidInput, Unavailable
from moderation.domain.signals import BankAction, BankKind, Category, Match
from moderation.features.hashes import text_digest
from moderation.governance import bank_lists, banks
from moderation.governance.bank_lists import Show
from moderation.governance.banks import Tuning
from moderation.governance.sessions import PersonPrincipal
from moderation.pipeline.matchers import Unembedded
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
    "verified": "Verified: a match now does what the bank asks for.",
    "released": "Released: a match does what the bank asks for again.",
    "entry_on": "The entry matches again.",
    "entry_off": "The entry matches nothing any more.",
    "known": "It is in the bank already; nothing was changed.",
    "bytes": "Added by its bytes alone: there is too little in the picture to find near copies of it.",
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
    BankKind.IMAGE: "pictures, equal or nearly so",
}
TRIED = 10_000  # characters of a text that is tried


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
    share: Annotated[str, Form()] = "",
    source: Annotated[str, Form()] = "",
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
            sample_share=_share(share),
            source=source,
        )
    return see(f"/console/banks/{name.strip()}", said="created")


def _distance(written: str) -> float | None:
    try:
        return float(written) if written.strip() else None
    except ValueError as error:
        raise InvalidInput(
            "The distance is a number such as 0.6; leave it empty for what is equal."
        ) from error


def _share(written: str) -> float:
    """A share as people write it: in percent, 100 if nothing is written."""
    try:
        return float(written.replace("%", "").strip() or "100") / 100
    except ValueError as error:
        raise InvalidInput(
            "The sample share is a number of percent such as 5; leave it empty for all."
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
    search: str = "",
) -> HTMLResponse:
    """One bank with its entries, newest first; what they say only for whoever may add to it."""
    return _page(request, held, principal, name, said=said, before=before, show=show, search=search)


def _page(
    request: Request,
    held: Services,
    principal: PersonPrincipal,
    name: str,
    *,
    said: str = "",
    before: str = "",
    show: str = "",
    search: str = "",
    tried: str = "",
    found: Sequence[Match] | None = None,
) -> HTMLResponse:
    now = datetime.now(UTC)
    chosen = inputs.one_of(show, "What to show", tuple(Show))
    place = inputs.identifier(before, "The place to go on from")
    # A list may name people: who only looks after the numbers sees how many entries there are, and their digests.
    vault = held.vault if Permission.BANK_ADD in principal.permissions else None
    near = near_hash(held, name, search, now) if search and vault is not None else ()
    with transaction(held.databases.content) as session:
        entries = bank_lists.entries(
            session,
            name,
            now,
            before=place,
            show=Show(chosen) if chosen else None,
            search=search,
            near=near,
            vault=vault,
        )
        bank = bank_lists.one(session, name, now)
    here = f"/console/banks/{name}"
    last = entries[bank_lists.PAGE - 1].id if len(entries) > bank_lists.PAGE else None
    return render(
        request,
        "banks/show.html",
        bank=bank,
        entries=entries[: bank_lists.PAGE],
        show=chosen or "",
        search=search,
        tried=tried,
        found=found,
        spans=[
            Span(one.start, one.end, how_found(one.how))
            for one in found or ()
            if one.start is not None and one.end is not None and not one.view
        ],
        flash=SAID.get(said, ""),
        first=inputs.address(here, {"show": show, "search": search}) if before else "",
        more=inputs.address(here, {"show": show, "search": search, "before": last}) if last else "",
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
            raise InvalidInput("This bank holds pictures; look for one of them.")
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


@router.post("/banks/{name}/look")
def look(
    request: Request,
    held: Held,
    principal: Adder,
    name: str,
    file: Annotated[UploadFile | None, File()] = None,
    digits: Annotated[str, Form(alias="hash")] = "",
) -> HTMLResponse:
    """The entries that a picture, or its hash, equals or comes near to; the picture is not kept."""
    with transaction(held.databases.content) as session:
        if banks.kind_of(session, name) != BankKind.IMAGE:
            raise InvalidInput("This bank holds no pictures; try a text against it.")
    data = uploaded(held, file)
    wanted = asked(request, data) if data is not None else asked_by_hash(digits)
    if wanted is None:
        raise InvalidInput("Choose a picture, or write its hash: 64 hexadecimal digits.")
    return _page(request, held, principal, name, found=find(held, name, [wanted], datetime.now(UTC))[0])


@router.post("/banks/{name}/tune")
def tune(
    held: Held,
    principal: Manager,
    name: str,
    distance: Annotated[str, Form()] = "",
    share: Annotated[str, Form()] = "",
    source: Annotated[str, Form()] = "",
) -> Response:
    """Change how near is near enough, on which share of the items a match acts, and whose list it is."""
    wanted: Tuning = {"distance": _distance(distance), "sample_share": _share(share), "source": source}
    with transaction(held.databases.content) as session:
        banks.tune(session, name, actor=principal.actor, now=datetime.now(UTC), **wanted)
    return see(f"/console/banks/{name}", said="tuned")


@router.post("/banks/{name}/switch")
def switch(held: Held, principal: Manager, name: str, on: Annotated[bool, Form()]) -> Response:
    """Turn a bank on or off."""
    with transaction(held.databases.content) as session:
        banks.switch(session, name, on=on, actor=principal.actor, now=datetime.now(UTC))
    return see(f"/console/banks/{name}", said="on" if on else "off")
