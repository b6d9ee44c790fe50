"""Promises: what the policy asks for, which certificates keep it, what each was proved from; certify, void."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, Response

from api import promised
from api.auth import services
from api.console import charts, curves
from api.console.curves import Curve, Figure, Scale
from api.console.routes.login import refused
from api.console.templating import render, see
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.errors import Conflict, Refusal
from moderation.domain.promises import Occasion, Void
from moderation.governance import certificate_lists, certification
from moderation.governance.certificate_lists import CertificateView, CurvePoint, PromiseView
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.database import transaction

_percent = curves.percent
router = APIRouter(prefix="/console/promises", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.POLICY_READ))]
Publisher = Annotated[PersonPrincipal, Depends(person(Permission.POLICY_PUBLISH, fresh=True))]
ENDED = 30  # of the certificates that ended, the newest
FEWEST = 3  # points that a curve has; of fewer the numbers say enough
NEAR = 12  # curves of promises that no certificate keeps yet

SAID = {
    "certified": "Certified. What was proved holds from now on; what was not is as it was.",
    "nothing": "Nothing could be proved: there are not enough right checks yet. What was in force stays.",
    "voided": "Void. Nothing is decided under it any more; the policy's own bands hold again.",
}


@router.get("")
def show(request: Request, held: Held, _: Reader, said: str = "") -> HTMLResponse:
    """Every promise of the policy and how it stands, and what ended."""
    return _list(request, held, said=said)


@router.post("")
def certify(request: Request, held: Held, principal: Publisher) -> Response:
    """Certify now: one of the quarter's certifications, whatever comes of it."""
    now = datetime.now(UTC)
    try:
        with transaction(held.databases.content) as session:
            policy = held.policies.current(session, now)
            made = certification.certify(session, policy, principal.actor, now, Occasion.ASKED)
    except Refusal as refusal:
        return _list(request, held, refusal=refusal)
    return see("/console/promises", said="certified" if made.issued else "nothing")


@router.get("/{certificate_id}")
def show_one(request: Request, held: Held, _: Reader, certificate_id: UUID, said: str = "") -> HTMLResponse:
    """One certificate: what it names, and the curve it was read from."""
    return _one(request, held, certificate_id, said=said)


@router.post("/{certificate_id}/void")
def void(request: Request, held: Held, principal: Publisher, certificate_id: UUID) -> Response:
    """End a certificate before its time."""
    now = datetime.now(UTC)
    try:
        with transaction(held.databases.content) as session:
            policy = held.policies.current(session, now)
            certificate_lists.one(session, policy, certificate_id, now)
            if not certification.void(session, [certificate_id], Void.PERSON, principal.actor, now):
                raise Conflict("This certificate ended already; load its page again.", code="void")
    except Conflict as refusal:
        return _one(request, held, certificate_id, refusal=refusal)
    return see(f"/console/promises/{certificate_id}", said="voided")


def _list(
    request: Request, held: Services, *, said: str = "", refusal: Refusal | None = None
) -> HTMLResponse:
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        policy = held.policies.current(session, now)
        found = certificate_lists.listing(session, policy, now)
        every = certificate_lists.certificates(session, policy, now, everything=True)
        made = certificate_lists.certifications(session)
        term = certification.term_of(session, now)
    ended = [one for one in every if not one.in_force]
    last = {_key(one): one.id for one in reversed(ended)}
    context: dict[str, Any] = {
        "policy": policy,
        "rules": policy.certificates,
        "promises": [(one, None if one.certificate else last.get(_key(one))) for one in found],
        "near": [one for one in found if not one.certificate and _drawable(one.curve)][:NEAR],
        "certified": sum(one.certificate is not None for one in found),
        "ended": ended[:ENDED],
        "made": made,
        "term": term,
        "left": term.left(policy),
        "risk": risk_over_coverage,
        "promised": promised,
        "why": certificate_lists.ENDED,
        "charts": charts,
        "flash": SAID.get(said, ""),
    }
    if refusal is not None:
        return refused(request, "promises/index.html", refusal, **context)
    return render(request, "promises/index.html", **context, error="")


def _one(
    request: Request,
    held: Services,
    certificate_id: UUID,
    *,
    said: str = "",
    refusal: Refusal | None = None,
) -> HTMLResponse:
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        policy = held.policies.current(session, now)
        one = certificate_lists.one(session, policy, certificate_id, now)
    context: dict[str, Any] = {
        "one": one,
        "rules": policy.certificates,
        "risk": risk_over_coverage,
        "promised": promised,
        "why": certificate_lists.ENDED,
        "charts": charts,
        "flash": SAID.get(said, ""),
    }
    if refusal is not None:
        return refused(request, "promises/show.html", refusal, **context)
    return render(request, "promises/show.html", **context, error="")


def _drawable(points: Sequence[CurvePoint]) -> bool:
    return sum(point.risk is not None for point in points) >= FEWEST


def _key(one: CertificateView | PromiseView) -> tuple[str, str, str, str]:
    return one.category, one.side, one.slice, one.lineup


def risk_over_coverage(points: Sequence[CurvePoint], allowed: float, threshold: float | None) -> Figure:
    """How often a rule errs by how much it decides: found, proved, and promised as a line across.

    With a `threshold` that point is marked. What lies far above the promise is cut off.
    """
    right = curves.reach(max(point.coverage for point in points))
    nearest = min(point.bound for point in points)
    up = curves.reach(min(1.0, max(3 * allowed, 1.2 * nearest)))
    seen = [point for point in points if point.risk is not None]
    here = next((point for point in points if point.threshold == threshold), None)
    at, certified = None, ""
    if here is not None:
        at = (here.coverage, here.bound)
        certified = f" Certified: {_percent(here.coverage)} decided, at most {_percent(here.bound, 2)} wrong."
    said = [
        f"{_percent(point.coverage)} decided, {point.mistakes} of {point.checks} checks wrong"
        for point in seen
    ]
    plot = curves.plot(
        "Risk over coverage",
        f"At most {promised.share(allowed)} may be wrong.{certified} The numbers are in the table.",
        [
            Curve("at most, by the proof", "bound", [(point.coverage, point.bound) for point in points]),
            Curve("found wrong", "found", [(point.coverage, point.risk or 0.0) for point in seen], said=said),
        ],
        Scale(right, up),
        level=allowed,
        at=at,
    )
    return Figure(plot, right, up)
