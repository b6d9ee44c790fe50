"""Signed reports: which there are, what one says, its file; and making what is owed without waiting."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, Response

from api.auth import services
from api.console.templating import render, see
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.errors import Unavailable
from moderation.domain.reporting import Schedule
from moderation.governance import reports, signing
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.database import transaction

router = APIRouter(prefix="/console/governance/reports", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
READER = [Depends(person(Permission.GOVERNANCE_READ))]
Signer = Annotated[PersonPrincipal, Depends(person(Permission.REPORT_SIGN, fresh=True))]
SAID = {
    "made": "Made and signed.",
    "none": "Nothing is owed.",
}


@router.get("", dependencies=READER)
def show(request: Request, held: Held, said: str = "") -> HTMLResponse:
    """Every report, and what is owed."""
    return _page(request, held, SAID.get(said, ""))


def _page(
    request: Request, held: Services, said: str = "", fault: str = "", status: int = 200
) -> HTMLResponse:
    schedule = Schedule(held.settings.reports)
    with transaction(held.databases.content) as session:
        found = reports.listing(session)
        owed = reports.outstanding(session, schedule, datetime.now(UTC))
    return render(
        request,
        "reports/index.html",
        status,
        reports=found,
        owed=owed,
        schedule=schedule,
        flash=said,
        fault=fault,
    )


@router.post("")
def make(request: Request, held: Held, principal: Signer) -> Response:
    """Make everything that is owed now."""
    now = datetime.now(UTC)
    try:
        with transaction(held.databases.content) as session:
            owed = reports.outstanding(session, Schedule(held.settings.reports), now)
            for one in owed:
                reports.make(session, held.vault, one.kind, one.period, principal.actor, now)
    except Unavailable as error:
        return _page(request, held, fault=error.detail, status=409)
    return see("/console/governance/reports", said="made" if owed else "none")


@router.get("/{report_id}", dependencies=READER)
def show_report(request: Request, held: Held, report_id: UUID) -> HTMLResponse:
    """One report, and whether its signature and its numbers still hold."""
    with transaction(held.databases.content) as session:
        report = reports.load(session, report_id)
        checked = reports.check(session, held.vault, report)
    return render(
        request,
        "reports/show.html",
        report=report,
        counts=report.counts,
        checked=checked,
        public_key=signing.public_key(held.vault),
    )


@router.get("/{report_id}/download", dependencies=READER)
def download(held: Held, report_id: UUID) -> Response:
    """The report as a file with its signature."""
    with transaction(held.databases.content) as session:
        report = reports.load(session, report_id)
    name = f"{report.kind}-{report.period.since:%Y-%m-%d}.json"
    return Response(
        reports.envelope(report, signing.public_key(held.vault)),
        media_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )
