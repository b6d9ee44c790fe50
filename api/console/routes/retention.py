"""What is kept until when: the retention report and its calendar. Numbers only."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from api.auth import services
from api.console.templating import render
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.governance import keeping
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.database import transaction

router = APIRouter(prefix="/console/governance/retention", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.GOVERNANCE_READ))]
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
SHADES = 4


@router.get("")
def show(request: Request, held: Held, _: Reader) -> HTMLResponse:
    """What is due when, by class and by day."""
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        found = keeping.report(session, held.policies.current(session).retention, now)
    most = max(found.days.values(), default=0)
    shades = {day: _shade(number, most) for day, number in found.days.items()}
    return render(
        request,
        "retention/index.html",
        report=found,
        weekdays=WEEKDAYS,
        weeks=_weeks(list(found.days)),
        shades=shades,
        most=most,
    )


def _shade(number: int, most: int) -> int:
    """How dark a day is: 0 for none, then in quarters of the busiest."""
    return 0 if number == 0 else max(1, -(-number * SHADES // most))


def _weeks(days: list[date]) -> list[list[date | None]]:
    """Days in rows from Monday to Sunday, with gaps before the first and after the last."""
    padded: list[date | None] = [None] * days[0].weekday() + list(days)
    padded += [None] * (-len(padded) % 7)
    return [padded[start : start + 7] for start in range(0, len(padded), 7)]
