"""Quality of judgement: agreement, what did not stand, blind checks, golden items. Of nobody by name."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, Response

from api.auth import services
from api.console import charts, curves
from api.console.templating import render, see
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.cases import Verdict
from moderation.domain.signals import Category
from moderation.governance import prevalence
from moderation.governance.sessions import PersonPrincipal
from moderation.review import golden, quality
from moderation.review.quality import Sampling
from moderation.storage.database import transaction

router = APIRouter(prefix="/console/quality", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.QUALITY_READ))]
Lead = Annotated[PersonPrincipal, Depends(person(Permission.QUALITY_MANAGE))]
DAYS = 30
SAID = {
    "sampled": "The checks are open. Whoever had no part in a decision will be given them, blind.",
    "none": "Nothing fits, so nothing was drawn: ask for less.",
    "retired": "Retired: nobody is asked about this item any more.",
    "upheld": "The golden answer stands.",
    "withdrawn": "Withdrawn: the item is golden no more, and the answer counts against nobody.",
}


@router.get("")
def show(request: Request, held: Held, principal: Reader, said: str = "") -> HTMLResponse:
    """The last 30 days."""
    now = datetime.now(UTC)
    since = now - timedelta(days=DAYS)
    leads = Permission.QUALITY_MANAGE in principal.permissions
    with transaction(held.databases.content) as session:
        policy = held.policies.current(session)
        agreement = quality.agreement(session, since, now)
        overturns = quality.overturns(session, since)
        checks = quality.checks(session, since)
        prevalent = prevalence.prevalence(session, since, now)
        items = golden.listing(session) if leads else []
        contests = golden.contests(session, held.vault, principal, now) if leads else []
    return render(
        request,
        "quality/index.html",
        days=DAYS,
        agreement=agreement,
        overturns=overturns,
        checks=checks,
        prevalent=prevalent,
        top=curves.reach(max((one.high or 0.0 for one in prevalent.rows), default=0.0)),
        golden=items,
        contests=contests,
        verdicts=list(Verdict),
        categories=list(Category),
        clauses=list(policy.clauses),
        charts=charts,
        flash=SAID.get(said, ""),
    )


@router.post("/sample")
def sample(
    held: Held,
    principal: Lead,
    count: Annotated[int, Form()],
    days: Annotated[int, Form()],
    route: Annotated[str, Form()] = "",
    category: Annotated[str, Form()] = "",
    clause: Annotated[str, Form()] = "",
) -> Response:
    """Draw decided items at random and open a blind check of each."""
    now = datetime.now(UTC)
    wanted = Sampling(days, route or None, category or None, clause or None)
    with transaction(held.databases.content) as session:
        policy = held.policies.current(session)
        drawn = quality.sample(session, policy, principal, wanted, count, secrets.token_hex(16), now)
    return see("/console/quality", said="sampled" if drawn.cases else "none")


@router.post("/golden/{item_id}/retire")
def retire(held: Held, principal: Lead, item_id: UUID) -> Response:
    """Ask nobody about a golden item any more."""
    with transaction(held.databases.content) as session:
        golden.retire(session, principal, item_id, datetime.now(UTC))
    return see("/console/quality", said="retired")


@router.post("/contests/{opinion_id}")
def settle(held: Held, principal: Lead, opinion_id: UUID, upheld: Annotated[bool, Form()]) -> Response:
    """Answer a contest of a golden item."""
    with transaction(held.databases.content) as session:
        golden.settle(session, principal, opinion_id, datetime.now(UTC), upheld=upheld)
    return see("/console/quality", said="upheld" if upheld else "withdrawn")
