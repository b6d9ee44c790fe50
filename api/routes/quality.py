"""The review API's numbers of quality: agreement, overturns, golden items and their contests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from api.auth import services
from api.people import person
from api.review_schemas import ContestAnswerIn, NoteIn
from api.services import Services
from moderation.domain.access import Permission
from moderation.governance import prevalence as prevalences
from moderation.governance.prevalence import Prevalences
from moderation.governance.sessions import PersonPrincipal
from moderation.review import golden, quality
from moderation.review.golden import Contest, GoldenView
from moderation.review.quality import AgreementReport, Check, Overturns, OwnResults
from moderation.storage.database import transaction

router = APIRouter(prefix="/v1/review", tags=["quality"])

Held = Annotated[Services, Depends(services)]
Myself = Annotated[PersonPrincipal, Depends(person(Permission.SELF_MANAGE))]
Decider = Annotated[PersonPrincipal, Depends(person(Permission.CASE_DECIDE))]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.QUALITY_READ))]
Manager = Annotated[PersonPrincipal, Depends(person(Permission.QUALITY_MANAGE))]
Days = Annotated[int, Query(ge=1, le=366, description="How far back to look.")]


@router.get("/agreement", response_model=AgreementReport)
def agreement(held: Held, me: Reader, days: Days = 90) -> AgreementReport:  # noqa: ARG001
    """How much people agree who judged the same item without knowing of each other.

    Krippendorff's alpha (1 is perfect, 0 is chance) with a 95 % bootstrap interval, over all and by category.
    """
    with transaction(held.databases.content) as session:
        now = datetime.now(UTC)
        return quality.agreement(session, now - timedelta(days=days), now)


@router.get("/overturns", response_model=Overturns)
def overturns(held: Held, me: Reader, days: Days = 90) -> Overturns:  # noqa: ARG001
    """How often decisions did not stand, by detector, bank and clause; of nobody by name."""
    with transaction(held.databases.content) as session:
        return quality.overturns(session, datetime.now(UTC) - timedelta(days=days))


@router.get("/checks", response_model=list[Check])
def checks(held: Held, me: Reader, days: Days = 90) -> list[Check]:  # noqa: ARG001
    """What the blind checks came to: audit draws, second opinions, samples."""
    with transaction(held.databases.content) as session:
        return list(quality.checks(session, datetime.now(UTC) - timedelta(days=days)))


@router.get("/prevalence", response_model=Prevalences)
def prevalence(held: Held, me: Reader, days: Days = 90) -> Prevalences:  # noqa: ARG001
    """How much of what came in breaks which rule, estimated from blind checks, with 95 % intervals."""
    with transaction(held.databases.content) as session:
        now = datetime.now(UTC)
        return prevalences.prevalence(session, now - timedelta(days=days), now)


@router.get("/results", response_model=OwnResults)
def own_results(held: Held, me: Myself, days: Days = 90) -> OwnResults:
    """Your own results, which nobody else is shown."""
    with transaction(held.databases.content) as session:
        return quality.own_results(session, me, datetime.now(UTC) - timedelta(days=days))


@router.get("/golden", response_model=list[GoldenView])
def list_golden(held: Held, me: Manager) -> list[GoldenView]:  # noqa: ARG001
    """Golden items, and how each was answered."""
    with transaction(held.databases.content) as session:
        return golden.listing(session)


@router.put("/golden/{item_id}", status_code=204)
def make_golden(item_id: UUID, held: Held, me: Manager) -> None:
    """Make a decided item golden: the decision in force is the right answer from now on."""
    with transaction(held.databases.content) as session:
        golden.add(session, me, item_id, datetime.now(UTC))


@router.delete("/golden/{item_id}", status_code=204)
def retire_golden(item_id: UUID, held: Held, me: Manager) -> None:
    """Ask nobody about a golden item any more."""
    with transaction(held.databases.content) as session:
        golden.retire(session, me, item_id, datetime.now(UTC))


@router.post("/opinions/{opinion_id}/contest", status_code=204)
def contest(opinion_id: UUID, body: NoteIn, held: Held, me: Decider) -> None:
    """Say that the right answer to a golden item is wrong; a lead looks at it."""
    with transaction(held.databases.content) as session:
        golden.contest(session, held.vault, me, opinion_id, body.text, datetime.now(UTC))


@router.get("/contests", response_model=list[Contest])
def list_contests(held: Held, me: Manager) -> list[Contest]:
    """Contests of golden answers that wait for a lead."""
    with transaction(held.databases.content) as session:
        return golden.contests(session, held.vault, me, datetime.now(UTC))


@router.post("/contests/{opinion_id}", status_code=204)
def settle_contest(opinion_id: UUID, body: ContestAnswerIn, held: Held, me: Manager) -> None:
    """Answer a contest: the golden answer stands, or it is withdrawn and counts against nobody."""
    with transaction(held.databases.content) as session:
        golden.settle(session, me, opinion_id, datetime.now(UTC), upheld=body.upheld)
