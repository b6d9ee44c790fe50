"""The policy: read what is in force, compare versions, edit, look at the difference, publish."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, Response

from api.auth import services
from api.console import charts, inputs
from api.console.templating import render, see
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.errors import (
    Conflict,
    Fault,
    InvalidInput,
    NotFound,
    PolicyInvalid,
    StepUpRequired,
    TooLarge,
)
from moderation.governance import certification, drafts, policies, sessions
from moderation.governance.policies import Emergency, State
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.database import transaction

router = APIRouter(prefix="/console/policy", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.POLICY_READ))]
Publisher = Annotated[PersonPrincipal, Depends(person(Permission.POLICY_PUBLISH))]
SAID = {
    "published": "Published. It holds for every item screened from now on; decisions keep the version they cite.",
    "announced": "Announced. Every client is told; until its date the version in force goes on.",
    "same": "Nothing was published: the newest version says the same.",
    "deleted": "The draft is deleted.",
}
EMERGENCIES = {
    Emergency.IMMINENT_HARM: "waiting would hurt somebody",
    Emergency.LEGAL_ORDER: "an authority or a court demands it",
    Emergency.FAULT_IN_FORCE: "what is in force does not do what it says",
}


@dataclass(frozen=True, slots=True)
class Work:
    """A document somebody works on: from which version on, and which draft keeps it, if any."""

    base: int
    document: str
    draft: UUID | None = None
    name: str = ""
    seen: str = ""


def sent(
    document: Annotated[str, Form()],
    base: Annotated[int, Form()],
    draft: Annotated[str, Form()] = "",
    name: Annotated[str, Form()] = "",
    seen: Annotated[str, Form()] = "",
) -> Work:
    """A dependency: the document with the ends of lines it was stored with; browsers send others.

    Raises (when called):
        TooLarge: it is no policy any more.
        InvalidInput: the draft is none.
    """
    if len(document) > drafts.LONGEST:
        raise TooLarge(f"A policy has {drafts.LONGEST:,} characters at most; this one has {len(document):,}.")
    unified = document.replace("\r\n", "\n").rstrip() + "\n"
    return Work(base, unified, inputs.identifier(draft, "The draft"), name, seen)


Sent = Annotated[Work, Depends(sent)]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a difference: added, removed, a place in the document, or what surrounds a change."""

    kind: str
    text: str


def difference(old: str, new: str) -> list[Line]:
    """The unified difference of two documents, three lines around each change."""
    kinds = {"+": "add", "-": "del", "@": "at"}
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=3)
    return [
        Line(kinds.get(line[:1], "same"), line or " ")
        for line in lines
        if not line.startswith(("---", "+++"))
    ]


@router.get("")
def show(request: Request, held: Held, _: Reader, said: str = "") -> HTMLResponse:
    """The policy in force, and what is announced."""
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        policy = held.policies.current(session, now)
        found = policies.versions(session, now)
        in_force = certification.in_force(session, policy, now)
    return render(
        request,
        "policy/show.html",
        certified=sorted(in_force.certificates.values(), key=lambda one: (one.slice, one.lineup)),
        policy=policy,
        published=next(one for one in found if one.version == policy.version),
        announced=[one for one in reversed(found) if one.state is State.ANNOUNCED],
        charts=charts,
        flash=SAID.get(said, ""),
    )


@router.get("/versions")
def show_versions(request: Request, held: Held, _: Reader) -> HTMLResponse:
    """Every version that was published."""
    with transaction(held.databases.content) as session:
        found = policies.versions(session, datetime.now(UTC))
    return render(request, "policy/versions.html", versions=found)


@router.get("/versions/{version}")
def show_version(
    request: Request, held: Held, _: Reader, version: int, against: int | None = None
) -> HTMLResponse:
    """One version, and what it changed."""
    with transaction(held.databases.content) as session:
        document = policies.document_of(session, version)
        found = policies.versions(session, datetime.now(UTC))
        other = version - 1 if against is None else against
        older = policies.document_of(session, other) if other else ""
    return render(
        request,
        "policy/version.html",
        version=next(one for one in found if one.version == version),
        versions=found,
        document=document,
        against=other,
        diff=difference(older, document) if other else [],
    )


@router.get("/edit")
def edit(request: Request, held: Held, principal: Publisher, version: int | None = None) -> HTMLResponse:
    """The document in an editor: the one published last, or an older version to go back to."""
    with transaction(held.databases.content) as session:
        base, document = policies.newest_document(session)
        if version is not None:
            document = policies.document_of(session, version)
    return _editor(request, principal, Work(base, document))


@router.post("/edit")
def preview(request: Request, held: Held, principal: Publisher, work: Sent) -> HTMLResponse:
    """Every fault with its line; or, without any, the difference to look at before it is published."""
    faults = _faults(work.document, work.base + 1)
    if faults:
        return _editor(request, principal, work, faults, 422)
    return _preview(request, held, principal, work)


@router.post("/edit/again")
def edit_again(request: Request, held: Held, principal: Publisher, work: Sent) -> HTMLResponse:
    """Back from the difference to the editor. Whoever saw the difference to the newest version builds on that."""
    with transaction(held.databases.content) as session:
        base, _ = policies.newest_document(session)
    return _editor(request, principal, replace(work, base=base))


@router.post("/publish")
def publish(
    request: Request,
    held: Held,
    principal: Publisher,
    work: Sent,
    effective: Annotated[str, Form()] = "",
    emergency: Annotated[str, Form()] = "",
) -> Response:
    """Publish a document as the next version, if nobody published one meanwhile; a draft then ends."""
    now = datetime.now(UTC)
    try:
        sessions.require_fresh(principal, now)
        why = inputs.one_of(emergency, "The emergency", list(Emergency))
        begins = inputs.moment(effective, "The date")
        with transaction(held.databases.content) as session:
            policy = policies.publish(
                session,
                work.document,
                principal.actor,
                now,
                base=work.base,
                effective_at=begins,
                emergency=Emergency(why) if why else None,
            )
            if work.draft:
                drafts.end(session, work.draft, principal.actor, now, policy.version)
    except PolicyInvalid as error:
        return _editor(request, principal, work, in_order(error.faults), 422)
    except StepUpRequired as error:
        # What was written must not be lost on the way to the second factor and back.
        return _preview(request, held, principal, work, error.detail, 403, effective)
    except (Conflict, NotFound) as error:
        return _preview(request, held, principal, work, error.detail, 409, effective)
    except InvalidInput as error:
        return _preview(request, held, principal, work, error.detail, 422, effective)
    same = policy.version <= work.base
    return see("/console/policy", said="same" if same else "announced" if begins else "published")


def _editor(
    request: Request, principal: PersonPrincipal, work: Work, faults: Sequence[Fault] = (), status: int = 200
) -> HTMLResponse:
    fresh = is_fresh(principal, datetime.now(UTC))
    return render(request, "policy/edit.html", status, work=work, faults=faults, fresh=fresh, fault="")


def _preview(
    request: Request,
    held: Services,
    principal: PersonPrincipal,
    work: Work,
    fault: str = "",
    status: int = 200,
    effective: str = "",
) -> HTMLResponse:
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        newest, current = policies.newest_document(session)
        notice = held.policies.current(session, now).notice_days
    return render(
        request,
        "policy/preview.html",
        status,
        work=work,
        newest=newest,
        notice=notice,
        effective=effective,
        emergencies=EMERGENCIES,
        diff=difference(current, work.document),
        fault=fault,
        fresh=is_fresh(principal, now),
    )


def _faults(document: str, version: int) -> Sequence[Fault]:
    try:
        policies.read(document, version)
    except PolicyInvalid as error:
        return in_order(error.faults)
    return ()


def in_order(faults: Sequence[Fault]) -> list[Fault]:
    """Faults from the first line to the last, one for each key."""
    named = {(fault.line or 0, fault.path): fault for fault in reversed(faults)}
    return [named[place] for place in sorted(named)]


def is_fresh(principal: PersonPrincipal, now: datetime) -> bool:
    """Whether the person may publish without giving their second factor again."""
    try:
        sessions.require_fresh(principal, now)
    except StepUpRequired:
        return False
    return True
