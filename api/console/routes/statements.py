"""A decision's statement of reasons, and the notice that its author gets, as they would be given now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, JSONResponse
from sqlalchemy.orm import Session

from api import promised
from api.auth import services
from api.console import inputs
from api.console.templating import render
from api.people import person
from api.services import Services
from moderation import statement_sender
from moderation.domain import dsa
from moderation.domain.access import Permission
from moderation.domain.errors import Conflict, NotFound
from moderation.domain.notices import LANGUAGES, phrases
from moderation.governance import notices, statements
from moderation.governance.sessions import PersonPrincipal
from moderation.review import appeals, history
from moderation.storage.database import transaction
from moderation.storage.tables import Decision, StatementDelivery

router = APIRouter(prefix="/console/governance/statements", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Overseer = Annotated[PersonPrincipal, Depends(person(Permission.TRANSPARENCY_READ))]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.ITEM_READ))]
STATES = ("pending", "sent", "refused")
BLIND = "You are judging this item blind. What was decided of it opens once you have given your opinion."
NONE = "There is no such decision, or it can still be undone."


@router.get("")
def listing(request: Request, held: Held, me: Overseer, state: str = "", before: str = "") -> HTMLResponse:
    """Every decision that has a statement, the newest first, and where it stands with the EU's database."""
    now = datetime.now(UTC)
    wanted = inputs.one_of(state, "The state", STATES)
    earlier = inputs.identifier(before, "The place to go on from")
    with transaction(held.databases.content) as session:
        counts = statement_sender.counts(session)
        rows = statement_sender.page(session, now, wanted, earlier)
        # Of what somebody judges blind, an outcome must not be found by other ways.
        blind = history.judged_blind(session, me.person_id)
    more = rows[statement_sender.PAGE - 1].decision_id if len(rows) > statement_sender.PAGE else None
    here, given = "/console/governance/statements", {"state": state}
    return render(
        request,
        "statements/index.html",
        rows=[row for row in rows[: statement_sender.PAGE] if row.item_id not in blind],
        counts=counts,
        sending=bool(held.settings.statements_url),
        state=state,
        states=STATES,
        first=inputs.address(here, given) if before else "",
        more=inputs.address(here, given | {"before": more}) if more else "",
    )


@router.get("/{decision_id}")
def show(request: Request, held: Held, me: Reader, decision_id: UUID, language: str = "") -> HTMLResponse:
    """The statement field by field, where it stands with the EU's database, and the notice in one language."""
    now = datetime.now(UTC)
    chosen = inputs.one_of(language, "The language", LANGUAGES)
    with transaction(held.databases.content) as session:
        row = _decision(session, me, decision_id, now)
        record = (
            statements.of_decision(session, held.policies, row, now)
            if statements.is_stated(row, now)
            else None
        )
        until = appeals.appeal_until(session, held.policies.current(session, now), row)
        try:
            notice = notices.of_decision(session, held.policies, row, chosen, until, now)
        except Conflict:
            notice = None
        delivery = session.get(StatementDelivery, decision_id)
        promise = promised.sentence(row, promised.cited(session, [row]))
    return render(
        request,
        "statements/show.html",
        promise=promise,
        decision=row,
        record=record,
        faults=dsa.faults(record) if record else [],
        means=dsa.means,
        source=dsa.enumerations().source,
        notice=notice,
        languages=[(code, phrases(code).name) for code in LANGUAGES],
        delivery=delivery,
    )


@router.get("/{decision_id}/statement.json")
def download(held: Held, me: Reader, decision_id: UUID) -> JSONResponse:
    """The record as the EU's database takes it."""
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        row = _decision(session, me, decision_id, now)
        record = statements.of_decision(session, held.policies, row, now)
    name = f'attachment; filename="statement-{decision_id}.json"'
    return JSONResponse(record, headers={"Content-Disposition": name})


def _decision(session: Session, me: PersonPrincipal, decision_id: UUID, now: datetime) -> Decision:
    """A decision that took effect, for anybody who does not judge its item blind.

    Raises:
        NotFound: there is none.
        Conflict: it would tell somebody what others thought.
    """
    row = session.get(Decision, decision_id)
    if row is None or row.undone_at is not None or row.effective_at > now:
        raise NotFound(NONE)
    if history.judging_blind(session, row.item_id, me.person_id):
        raise Conflict(BLIND, code="judging_blind")
    return row
