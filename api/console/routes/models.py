"""Models: which versions there are, what each has shown, which serves; propose, promote, go back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.orm import Session

from api.auth import services
from api.console import charts
from api.console.routes.login import refused
from api.console.templating import render, see
from api.people import person
from api.services import Services
from models.registry import ArtifactError
from moderation.domain.access import Permission
from moderation.domain.errors import Conflict, NotFound, Refusal
from moderation.governance import model_lists, promotions
from moderation.governance.promotions import By
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.database import transaction

router = APIRouter(prefix="/console/models", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.MODEL_READ))]
Proposer = Annotated[PersonPrincipal, Depends(person(Permission.MODEL_PROPOSE, fresh=True))]
Promoter = Annotated[PersonPrincipal, Depends(person(Permission.MODEL_PROMOTE, fresh=True))]
Word = Annotated[str, Path(max_length=64)]

SAID = {
    "proposed": "Proposed. It serves once somebody else has promoted it.",
    "promoted": "Promoted. Workers load and check it within seconds; what served before is kept for a way back.",
    "refused": "Refused. What serves stays.",
    "withdrawn": "Taken back. What serves stays.",
    "rolled_back": "The version before serves again. To bring the other one back takes two people.",
}


@router.get("")
def show_all(request: Request, held: Held, _: Reader, said: str = "") -> HTMLResponse:
    """Every version by name, and what was decided on proposals."""
    return _list(request, held, said=said)


def _list(
    request: Request, held: Services, *, said: str = "", refusal: Refusal | None = None
) -> HTMLResponse:
    with transaction(held.databases.content) as session:
        versions = model_lists.listing(session, held.settings.models)
        history = model_lists.history(session)
    context: dict[str, Any] = {"versions": versions, "history": history, "flash": SAID.get(said, "")}
    if refusal is not None:
        return refused(request, "models/index.html", refusal, **context)
    return render(request, "models/index.html", **context, error="")


@router.get("/{name}/{version}")
def show_one(
    request: Request, held: Held, me: Reader, name: Word, version: Word, said: str = ""
) -> HTMLResponse:
    """One version: its gates, its numbers, its card."""
    return _one(request, held, me, name, version, said=said)


def _one(
    request: Request,
    held: Services,
    me: PersonPrincipal,
    name: str,
    version: str,
    *,
    said: str = "",
    refusal: Refusal | None = None,
) -> HTMLResponse:
    with transaction(held.databases.content) as session:
        one = model_lists.one(session, held.settings.models, name, version)
        before = model_lists.previous(session, name)
    context: dict[str, Any] = {
        "one": one,
        "before": before,
        "card": model_lists.card(one),
        "mine": one.proposal is not None and one.proposal.proposed_by == me.person_id,
        "charts": charts,
        "flash": SAID.get(said, ""),
    }
    if refusal is not None:
        return refused(request, "models/show.html", refusal, **context)
    return render(request, "models/show.html", **context, error="")


@router.post("/{name}/{version}/propose")
def propose(request: Request, held: Held, me: Proposer, name: Word, version: Word) -> Response:
    """Propose that a version serves."""

    def act(session: Session, by: By, now: datetime) -> object:
        return promotions.propose(session, held.settings.models, by, name, version, now)

    return _done(request, held, me, name, version, act, "proposed")


@router.post("/{name}/{version}/promote")
def promote(request: Request, held: Held, me: Promoter, name: Word, version: Word) -> Response:
    """Have a version serve that somebody else proposed."""

    def act(session: Session, by: By, now: datetime) -> object:
        return promotions.promote(session, held.settings.models, by, name, version, now)

    return _done(request, held, me, name, version, act, "promoted")


@router.post("/{name}/{version}/refuse")
def refuse(request: Request, held: Held, me: Promoter, name: Word, version: Word) -> Response:
    """Refuse a proposal."""

    def act(session: Session, by: By, now: datetime) -> None:
        promotions.refuse(session, by, name, version, now)

    return _done(request, held, me, name, version, act, "refused")


@router.post("/{name}/{version}/withdraw")
def withdraw(request: Request, held: Held, me: Proposer, name: Word, version: Word) -> Response:
    """Take one's own proposal back."""

    def act(session: Session, by: By, now: datetime) -> None:
        promotions.refuse(session, by, name, version, now)

    return _done(request, held, me, name, version, act, "withdrawn")


@router.post("/{name}/{version}/rollback")
def rollback(request: Request, held: Held, me: Promoter, name: Word, version: Word) -> Response:
    """Have the version serve again that served before this one."""

    def act(session: Session, by: By, now: datetime) -> object:
        return promotions.rollback(session, held.settings.models, by, name, now, champion=version)

    return _done(request, held, me, name, version, act, "rolled_back")


def _done(
    request: Request,
    held: Services,
    me: PersonPrincipal,
    name: str,
    version: str,
    act: Callable[[Session, By, datetime], object],
    said: str,
) -> Response:
    """Do it and go on to the version's page, or show that page with the sentence that says why not."""
    try:
        with transaction(held.databases.content) as session:
            act(session, promotions.logged_in(me), datetime.now(UTC))
    except NotFound:
        raise
    except Refusal as refusal:
        return _one(request, held, me, name, version, refusal=refusal)
    except ArtifactError as error:
        return _one(request, held, me, name, version, refusal=Conflict(str(error)))
    return see(f"/console/models/{name}/{version}", said=said)
