"""Drafts of the policy: keep one, compare it, see what it would have done, delete it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.orm import Session

from api import promised
from api.auth import services
from api.console import inputs
from api.console.routes.policy import Sent, Work, difference, in_order, is_fresh
from api.console.templating import render, see
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.errors import Conflict, InvalidInput, PolicyInvalid
from moderation.domain.simulation import UNKNOWN
from moderation.governance import drafts, model_lists, policies, simulation
from moderation.governance.certification import Candidate
from moderation.governance.drafts import Draft
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.database import transaction

router = APIRouter(prefix="/console/policy/drafts", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Publisher = Annotated[PersonPrincipal, Depends(person(Permission.POLICY_PUBLISH))]
# What a page waits for; the command line looks at more.
SIMULATED = 20_000
LONGEST_VERSION = 10  # digits; what has more is no version, and no id either
SAID = {"saved": "Saved. Nothing is published.", "deleted": "The draft is deleted."}


@router.get("")
def show(request: Request, held: Held, _: Publisher, said: str = "") -> HTMLResponse:
    """Every draft."""
    with transaction(held.databases.content) as session:
        found = drafts.listing(session)
    return render(request, "policy/drafts.html", drafts=found, flash=SAID.get(said, ""))


@router.post("")
def save(request: Request, held: Held, principal: Publisher, work: Sent) -> Response:
    """Keep a document as a draft, with whatever faults it has."""
    try:
        seen = inputs.moment(work.seen, "The time it was opened")
        with transaction(held.databases.content) as session:
            draft_id = drafts.save(
                session,
                name=work.name,
                document=work.document,
                base=work.base,
                by=principal.actor,
                now=datetime.now(UTC),
                draft_id=work.draft,
                seen=seen,
            )
    except (Conflict, InvalidInput) as error:
        status = 409 if isinstance(error, Conflict) else 422
        fresh = is_fresh(principal, datetime.now(UTC))
        return render(
            request, "policy/edit.html", status, work=work, faults=(), fresh=fresh, fault=error.detail
        )
    return see(f"/console/policy/drafts/{draft_id}", said="saved")


@router.get("/{draft_id}")
def show_draft(
    request: Request, held: Held, _: Publisher, draft_id: UUID, against: str = "", said: str = ""
) -> HTMLResponse:
    """A draft in the editor, and what it changes: in the version it was begun from, or in another one."""
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        draft = drafts.load(session, draft_id)
        context = _compared(session, draft, against, now)
    work = Work(draft.base, draft.document, draft.id, draft.name, draft.saved_at.isoformat())
    return render(
        request,
        "policy/draft.html",
        draft=draft,
        work=work,
        faults=_faults(draft),
        flash=SAID.get(said, ""),
        **context,
    )


@router.post("/{draft_id}/delete")
def delete(held: Held, principal: Publisher, draft_id: UUID) -> Response:
    """Delete a draft."""
    with transaction(held.databases.content) as session:
        drafts.end(session, draft_id, principal.actor, datetime.now(UTC))
    return see("/console/policy/drafts", said="deleted")


@router.get("/{draft_id}/simulate")
def simulate(
    request: Request, held: Held, _: Publisher, draft_id: UUID, days: str = "7", model: str = ""
) -> HTMLResponse:
    """What the draft would have done with what was screened lately, scored as it was or by another version."""
    now = datetime.now(UTC)
    result, fault = None, ""
    with transaction(held.databases.content) as session:
        draft = drafts.load(session, draft_id)
        before = held.policies.current(session, now)
        others = model_lists.scoring_beside(session)
        try:
            after = policies.read(draft.document, before.version + 1)
            candidate = _candidate(model, others)
            result = simulation.run(
                session, before, after, days_of(days), now, most=SIMULATED, candidate=candidate
            )
        except PolicyInvalid:
            fault = "The draft has faults; correct them, then simulate it."
        except InvalidInput as error:
            fault = error.detail
    return render(
        request,
        "policy/simulated.html",
        422 if fault else 200,
        draft=draft,
        days=days,
        result=result,
        fault=fault,
        models=[("", "what served")] + [(" ".join(one), " ".join(one)) for one in others] if others else [],
        model=model,
        promised=promised,
        languages=before.certificates.languages,
        unknown=UNKNOWN,
        most=SIMULATED,
    )


def days_of(text: str) -> float:
    """So many days as a simulation looks at.

    Raises:
        InvalidInput: it is no number.
    """
    try:
        return float(text)
    except ValueError as error:
        raise InvalidInput(f"Give a number of days from 1 to {simulation.LONGEST_DAYS}.") from error


def _candidate(model: str, known: Sequence[tuple[str, str]]) -> Candidate | None:
    if not model:
        return None
    name, _, version = model.partition(" ")
    if (name, version) not in known:
        raise InvalidInput("Choose one of the versions that are offered.")
    return Candidate(name, version)


def _compared(session: Session, draft: Draft, against: str, now: datetime) -> Mapping[str, Any]:
    """The difference to a version, or to another draft, as the address asks."""
    versions = policies.versions(session, now)
    others = [one for one in drafts.listing(session) if one.id != draft.id]
    chosen = against or str(draft.base)
    if chosen.isascii() and chosen.isdecimal() and len(chosen) < LONGEST_VERSION:
        older = policies.document_of(session, int(chosen))
    else:
        other = inputs.identifier(chosen, "The draft to compare with")
        older = drafts.load(session, other).document if other else ""
    return {
        "versions": versions,
        "others": others,
        "against": chosen,
        "diff": difference(older, draft.document),
        "newest": versions[0].version,
    }


def _faults(draft: Draft) -> Any:
    try:
        policies.read(draft.document, draft.base + 1)
    except PolicyInvalid as error:
        return in_order(error.faults)
    return ()
