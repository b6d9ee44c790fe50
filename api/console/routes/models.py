"""Models: which versions there are, what each has shown, which serves; propose, promote, go back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Path, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.orm import Session

from api import promised
from api.auth import services
from api.console import charts, curves, inputs
from api.console.routes.drafts import SIMULATED, days_of
from api.console.routes.login import refused
from api.console.templating import render, see
from api.people import person
from api.services import Services
from models.registry import SILENT, ArtifactError
from moderation.domain.access import Permission
from moderation.domain.errors import Conflict, InvalidInput, NotFound, Refusal
from moderation.domain.simulation import UNKNOWN
from moderation.governance import (
    learning,
    model_ages,
    model_evidence,
    model_lists,
    models,
    promotions,
    shadows,
    simulation,
)
from moderation.governance.certification import Candidate
from moderation.governance.promotions import By
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.database import transaction

router = APIRouter(prefix="/console/models", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.MODEL_READ))]
Proposer = Annotated[PersonPrincipal, Depends(person(Permission.MODEL_PROPOSE, fresh=True))]
Promoter = Annotated[PersonPrincipal, Depends(person(Permission.MODEL_PROMOTE, fresh=True))]
Word = Annotated[str, Path(max_length=64)]

LONGEST_DAYS = 90
ROUNDS = 20

SAID = {
    "proposed": "Proposed. It serves once somebody else has promoted it.",
    "promoted": "Promoted. Workers load and check it within seconds; what served before is kept for a way back.",
    "refused": "Refused. What serves stays.",
    "withdrawn": "Taken back. What serves stays.",
    "rolled_back": "The version before serves again. To bring the other one back takes two people.",
    "shadowed": "It is the shadow: it scores whatever comes in from now on, and decides nothing.",
    "unshadowed": "The shadow ended. What it said stays with its items.",
    "canary_proposed": "Proposed as a canary. It judges its share once somebody else has promoted it.",
    "canary_promoted": "It judges its share of the items, by a hash of their ids; what serves judges the rest.",
    "canary_ended": "The canary ended. What serves judges every item again.",
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
        ageing = model_ages.ageing(session, held.policies.current(session))
        rounds = learning.listing(session, ROUNDS)
    context: dict[str, Any] = {
        "versions": versions,
        "history": history,
        "ageing": {(one.name, one.version): one for one in ageing},
        "rounds": rounds,
        "flash": SAID.get(said, ""),
    }
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
        evidence = model_evidence.of(session, held.policies.current(session), one)
    context: dict[str, Any] = {
        "one": one,
        "before": before,
        "evidence": evidence,
        "draw": curves,
        "scores": one.kind not in SILENT,
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


@router.post("/{name}/{version}/canary")
def propose_canary(
    request: Request, held: Held, me: Proposer, name: Word, version: Word, share: Annotated[str, Form()] = ""
) -> Response:
    """Propose that a version judges a share of the items, given in percent."""

    def act(session: Session, by: By, now: datetime) -> object:
        wanted = inputs.number(share, "The share in percent", 0.1, 99.9) / 100
        return promotions.propose(
            session, held.settings.models, by, name, version, now, alias=models.CANARY, share=wanted
        )

    return _done(request, held, me, name, version, act, "canary_proposed")


@router.post("/{name}/{version}/promote")
def promote(
    request: Request,
    held: Held,
    me: Promoter,
    name: Word,
    version: Word,
    alias: Annotated[str, Form()] = "",
    share: Annotated[str, Form()] = "",
) -> Response:
    """Have a version serve that somebody else proposed, as the page showed it to be proposed."""

    def act(session: Session, by: By, now: datetime) -> object:
        believed = inputs.number(share, "The share", 0, 1) if share else None
        return promotions.promote(
            session, held.settings.models, by, name, version, now, alias=alias or None, share=believed
        )

    said = "canary_promoted" if alias == models.CANARY else "promoted"
    return _done(request, held, me, name, version, act, said)


@router.post("/{name}/{version}/shadow")
def shadow(request: Request, held: Held, me: Proposer, name: Word, version: Word) -> Response:
    """Have a version score whatever comes in and decide nothing: one person is enough."""

    def act(session: Session, by: By, now: datetime) -> object:
        return promotions.shadow(session, held.settings.models, by, name, version, now)

    return _done(request, held, me, name, version, act, "shadowed")


@router.post("/{name}/{version}/shadow/end")
def end_shadow(request: Request, held: Held, me: Proposer, name: Word, version: Word) -> Response:
    """End a shadow."""

    def act(session: Session, by: By, now: datetime) -> object:
        return _end(session, by, name, version, models.SHADOW, now)

    return _done(request, held, me, name, version, act, "unshadowed")


@router.post("/{name}/{version}/canary/end")
def end_canary(request: Request, held: Held, me: Promoter, name: Word, version: Word) -> Response:
    """End a canary: at once, and one person is enough, as for going back."""

    def act(session: Session, by: By, now: datetime) -> object:
        return _end(session, by, name, version, models.CANARY, now)

    return _done(request, held, me, name, version, act, "canary_ended")


def _end(session: Session, by: By, name: str, version: str, alias: str, now: datetime) -> str:
    """End what the page showed, and nothing that took its place since."""
    models.find(session, name, version)
    if models.alias_of(session, name, alias) != version:
        raise Conflict(f"{name} {version} is not the {alias} any more; load its page again.")
    return promotions.end_trial(session, by, name, alias, now)


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


@router.get("/{name}/{version}/shadow")
def compare(
    request: Request, held: Held, _: Reader, name: Word, version: Word, days: str = "7"
) -> HTMLResponse:
    """What a version says that decides nothing, beside what decided; examples are named, never shown."""
    now = datetime.now(UTC)
    both, fault = None, None
    with transaction(held.databases.content) as session:
        one = model_lists.one(session, held.settings.models, name, version)
        try:
            since = now - timedelta(days=inputs.number(days, "The days", 1, LONGEST_DAYS))
            policy = held.policies.current(session, now)
            both = shadows.agreement(session, policy, name, version, since)
        except InvalidInput as refusal:
            fault = refusal
    context: dict[str, Any] = {"one": one, "both": both, "days": days, "most": shadows.MOST_ITEMS}
    if fault is not None:
        return refused(request, "models/shadow.html", fault, **context)
    return render(request, "models/shadow.html", **context, error="")


@router.get("/{name}/{version}/simulate")
def simulate(
    request: Request, held: Held, _: Reader, name: Word, version: Word, days: str = "7"
) -> HTMLResponse:
    """A back-test: what a version would have done under the policy in force, by what it said in the shadow."""
    now = datetime.now(UTC)
    result, fault = None, None
    with transaction(held.databases.content) as session:
        one = model_lists.one(session, held.settings.models, name, version)
        policy = held.policies.current(session, now)
        try:
            result = simulation.run(
                session, policy, policy, days_of(days), now, most=SIMULATED,
                candidate=Candidate(name, version),
            )  # fmt: skip
        except InvalidInput as refusal:
            fault = refusal
    context: dict[str, Any] = {
        "one": one,
        "result": result,
        "days": days,
        "promised": promised,
        "languages": policy.certificates.languages,
        "unknown": UNKNOWN,
        "most": SIMULATED,
    }
    if fault is not None:
        return refused(request, "models/simulated.html", fault, **context)
    return render(request, "models/simulated.html", **context, error="")
