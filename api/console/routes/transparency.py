"""The transparency report of a period: to look at, and to take away as JSON or CSV."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, Response

from api.auth import services
from api.console import charts, inputs
from api.console.templating import render
from api.people import person
from api.services import Services
from moderation import statement_sender
from moderation.domain import dsa
from moderation.domain.access import Permission
from moderation.domain.errors import InvalidInput
from moderation.governance import audit, transparency
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.database import transaction

router = APIRouter(prefix="/console/governance/transparency", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.TRANSPARENCY_READ))]
Since = Annotated[str, Query(alias="from")]
Until = Annotated[str, Query(alias="to")]
DAYS = 183
FORMATS = {
    "json": (transparency.as_json, "application/json"),
    "csv": (transparency.as_csv, "text/csv; charset=utf-8"),
}
HEADINGS = {
    "category": "Category", "source": "How it was found", "detection": "Found by automated means",
    "automation": "How far automated", "visibility": "What was done to the content",
    "account": "What was done to the account", "ground": "Ground", "content_type": "Kind of content",
    "language": "Language of the content",
}  # fmt: skip


@router.get("")
def show(request: Request, held: Held, _: Reader, since: Since = "", until: Until = "") -> HTMLResponse:
    """The last half year, unless another period is chosen."""
    now = datetime.now(UTC)
    made, fault = None, ""
    with transaction(held.databases.content) as session:
        try:
            begin, end = _period(since, until, now)
            made = transparency.report(session, held.policies, begin, end, now)
        except InvalidInput as error:
            fault = error.detail
        deliveries = statement_sender.counts(session)
    given = {"from": since, "to": until}
    if made is not None:
        given = {"from": f"{made.since:%Y-%m-%d}", "to": f"{made.until - timedelta(days=1):%Y-%m-%d}"}
    return render(
        request,
        "transparency/index.html",
        422 if fault else 200,
        report=made,
        fault=fault,
        given=given,
        downloads=[
            (name.upper(), inputs.address(f"/console/governance/transparency/report.{name}", given))
            for name in FORMATS
        ],
        headings=HEADINGS,
        means=dsa.means,
        charts=charts,
        deliveries=deliveries,
        sending=bool(held.settings.statements_url),
    )


@router.get("/report.{form}")
def download(held: Held, me: Reader, form: str, since: Since = "", until: Until = "") -> Response:
    """The same numbers as a file. That somebody took them away is on record."""
    now = datetime.now(UTC)
    if form not in FORMATS:
        raise InvalidInput(f"The report is there as {' and '.join(FORMATS)}; choose one of them.")
    written, media_type = FORMATS[form]
    with transaction(held.databases.content) as session:
        begin, end = _period(since, until, now)
        made = transparency.report(session, held.policies, begin, end, now)
        period = {"since": f"{begin:%Y-%m-%d}", "until": f"{end:%Y-%m-%d}", "format": form}
        event = audit.Event(me.actor, "transparency.exported", "report", "transparency", period)
        audit.record(session, [event], now)
    name = f"transparency-{begin:%Y%m%d}-{end - timedelta(days=1):%Y%m%d}.{form}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(written(made), media_type=media_type, headers=headers)


def _period(since: str, until: str, now: datetime) -> tuple[datetime, datetime]:
    """The period that was asked for: whole days, the last one counted in.

    Raises:
        InvalidInput: a day can't be read.
    """
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    end = inputs.day(until, "To", end=True) or midnight + timedelta(days=1)
    begin = inputs.day(since, "From") or min(end, midnight) - timedelta(days=DAYS)
    if begin >= end:
        raise InvalidInput("From must not lie after to; exchange the two dates.")
    return begin, end
