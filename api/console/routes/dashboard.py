"""The dashboard: how the service stands, in numbers without content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy.orm import Session

from api import promised
from api.auth import services
from api.console import charts
from api.console.charts import Series
from api.console.kept import Kept
from api.console.templating import render
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.decisions import DecidedBy
from moderation.domain.routing import Route
from moderation.governance import certificate_lists
from moderation.governance.certificate_lists import PromiseView
from moderation.governance.sessions import PersonPrincipal
from moderation.review import cases, dashboard, quality
from moderation.review.dashboard import AppealsDue, DetectorHealth, Hour, Outgoing, Waiting
from moderation.review.quality import AgreementReport
from moderation.review.views import QueueState
from moderation.storage.database import transaction

router = APIRouter(include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.DASHBOARD_READ))]

SECONDS = 15.0
AGREEMENT_SECONDS = 300.0
AGREEMENT_DAYS = 30
DAYS = 7
# An hour that ended long enough ago does not change any more, and is counted once a process.
SETTLED = timedelta(hours=2)
VERDICTS = (
    ("machine", Route.ALLOW, "allowed by machine", "m-allow"),
    ("machine", Route.LIMIT, "limited by machine", "m-limit"),
    ("machine", Route.REMOVE, "removed by machine", "m-remove"),
    ("person", Route.ALLOW, "allowed by people", "p-allow"),
    ("person", Route.LIMIT, "limited by people", "p-limit"),
    ("person", Route.REMOVE, "removed by people", "p-remove"),
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the page shows, as of one moment."""

    at: datetime
    flow: Sequence[Hour]
    queues: Sequence[QueueState]
    detectors: Sequence[DetectorHealth]
    outgoing: Outgoing
    appeals: AppealsDue
    waiting: Waiting
    promises: Sequence[PromiseView]
    policy_version: int


@dataclass(frozen=True, slots=True)
class Board:
    """What one process keeps between two looks at its dashboard."""

    recent: Kept[Snapshot] = field(default_factory=lambda: Kept(SECONDS))
    agreement: Kept[AgreementReport] = field(default_factory=lambda: Kept(AGREEMENT_SECONDS))
    past: dict[datetime, Hour] = field(default_factory=dict)


@router.get("/console")
def without_slash() -> RedirectResponse:
    """The dashboard is at /console/."""
    return RedirectResponse("/console/", 308)


@router.get("/console/")
def show(request: Request, held: Held, _: Reader) -> HTMLResponse:
    """How the service stands."""
    board = _board(request)
    now = datetime.now(UTC)
    snapshot = board.recent.get(lambda: _look(held, board.past, now))
    agreement = board.agreement.get(lambda: _agreement(held, now))
    day = [hour for hour in snapshot.flow if hour.start > snapshot.at - timedelta(hours=24)]
    total = dashboard.decided_total(day)
    return render(
        request,
        "dashboard/index.html",
        at=snapshot.at,
        shot=snapshot,
        open_cases=sum(queue.open for queue in snapshot.queues),
        overdue=sum(queue.overdue for queue in snapshot.queues),
        late=sum(hour.late for hour in day),
        hours=_plot_hours(day),
        days=_plot_days(snapshot.flow),
        share=dashboard.automated_share(total),
        outcomes=_plot_outcomes(total),
        agreement=agreement,
        promised=promised,
        charts=charts,
    )


def _board(request: Request) -> Board:
    if not hasattr(request.app.state, "board"):
        request.app.state.board = Board()
    board: Board = request.app.state.board
    return board


def _look(held: Services, past: dict[datetime, Hour], now: datetime) -> Snapshot:
    with transaction(held.databases.content) as session:
        policy = held.policies.current(session, now)
        return Snapshot(
            at=now,
            flow=_flow(session, past, now),
            queues=sorted(cases.queues(session, now), key=lambda queue: queue.oldest),
            detectors=dashboard.detectors(session, now - timedelta(hours=24)),
            outgoing=dashboard.outgoing(session, now),
            appeals=dashboard.appeals_due(session, now),
            waiting=dashboard.waiting(session),
            promises=certificate_lists.listing(session, policy, now),
            policy_version=policy.version,
        )


def _flow(session: Session, past: dict[datetime, Hour], now: datetime) -> list[Hour]:
    """The hours of the last seven calendar days up to now; only what can still change is counted again."""
    first = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=DAYS - 1)
    end = dashboard.start_of_hour(now) + dashboard.HOUR
    settled = end - dashboard.HOUR - SETTLED
    start = first
    while start in past and start < settled:
        start += dashboard.HOUR
    fresh = dashboard.hours(session, start, end, end - timedelta(hours=24))
    kept = [past[hour] for hour in sorted(past) if first <= hour < start]
    past.clear()
    past.update({hour.start: hour for hour in [*kept, *fresh] if hour.start < settled})
    return [*kept, *fresh]


def _agreement(held: Services, now: datetime) -> AgreementReport:
    with transaction(held.databases.content) as session:
        return quality.agreement(session, now - timedelta(days=AGREEMENT_DAYS), now)


@dataclass(frozen=True, slots=True)
class Plot:
    """Two plots over the same time with what they were drawn from."""

    labels: Sequence[str]
    work: Sequence[Series]
    people: Sequence[Series]


def _plot_hours(day: Sequence[Hour]) -> Plot:
    plot = _plot([f"{hour.start:%H:%M}" for hour in day], [[hour] for hour in day])
    by_people = [float(hour.by(DecidedBy.PERSON)) for hour in day]
    return replace(plot, people=(*plot.people, Series("decisions by people", "c-done", by_people)))


def _plot_days(flow: Sequence[Hour]) -> Plot:
    by_day: dict[str, list[Hour]] = {}
    for hour in flow:
        by_day.setdefault(f"{hour.start:%a %d %b}", []).append(hour)
    return _plot(list(by_day), list(by_day.values()))


def _plot(labels: Sequence[str], spans: Sequence[Sequence[Hour]]) -> Plot:
    def total(name: str) -> list[float]:
        return [sum(getattr(hour, name) for hour in span) for span in spans]

    return Plot(
        labels=labels,
        work=(Series("items received", "c-in", total("received")),),
        people=(
            Series("cases opened", "c-open", total("opened")),
            Series("cases closed", "c-done", total("closed")),
        ),
    )


def _plot_outcomes(total: Mapping[tuple[str, str], int]) -> list[tuple[str, str, float]]:
    return [(name, kind, total.get((by, route), 0)) for by, route, name, kind in VERDICTS]
