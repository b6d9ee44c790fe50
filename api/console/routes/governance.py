"""The overview of every duty: what is open, what is overdue, and where it is looked after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from api.auth import services
from api.console.templating import render
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.reporting import Schedule
from moderation.governance import overview
from moderation.governance.overview import Duty
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.database import transaction

router = APIRouter(prefix="/console/governance", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.GOVERNANCE_READ))]

# A page of a duty is at /console/governance/NAME, but for what was there before.
EVIDENCE = "/console/governance/evidence"  # counted nowhere: to find it all is to read every item
ELSEWHERE = {"audit": "/console/audit", "policy": "/console/policy"}
TITLES: Mapping[str, tuple[str, str]] = {
    "retention": ("Retention", "What ends when, by class"),
    "erasures": ("Erasures", "What was erased, with receipts"),
    "requests": ("Requests of people", "Access, export, correction, erasure, objection"),
    "minors": ("Minors", "Suspend, confirm, delete"),
    "holds": ("Holds", "Content that must not end"),
    "preservations": ("Preservation", "Evidence under seal, for authorities"),
    "disclosures": ("Disclosures", "What was handed to authorities"),
    "incidents": ("Incidents", "Breaches, whom they touch, who must be told"),
    "partners": ("Partners", "Who else reads items, until when"),
    "statements": ("Statements of reasons", "Why each decision was made, and where that was sent"),
    "transparency": ("Transparency", "The counted report over all decisions"),
    "reports": ("Signed reports", "On audit, retention and access, one of each for every period"),
    "policy": ("Policy", "The rules, and what is announced"),
    "audit": ("Audit log", "Every action and every view of content"),
}


@dataclass(frozen=True, slots=True)
class Card:
    """One duty on the page; without an address it has no page yet."""

    title: str
    about: str
    duty: Duty
    address: str


@router.get("")
def show(request: Request, held: Held, principal: Reader) -> HTMLResponse:
    """Every duty that this person may see."""
    schedule = Schedule(held.settings.reports)
    with transaction(held.databases.content) as session:
        found = overview.duties(session, datetime.now(UTC), principal.permissions, schedule)
    served = set(_paths(request.app.routes))
    cards = []
    for name, duty in found.items():
        address = ELSEWHERE.get(name, f"/console/governance/{name}")
        cards.append(Card(*TITLES[name], duty, address if address in served else ""))
    return render(
        request,
        "governance/index.html",
        cards=cards,
        most=overview.MOST,
        evidence=EVIDENCE if EVIDENCE in served else "",
    )


def _paths(routes: Any) -> Iterator[str]:
    """The path of every route; the framework keeps what was included behind an entry of its own."""
    for route in routes:
        yield getattr(route, "path", "")
        yield from _paths(getattr(getattr(route, "original_router", route), "routes", ()))
