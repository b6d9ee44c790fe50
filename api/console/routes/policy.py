"""The policy: read what is in force, compare versions, edit, look at the difference, publish."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, Response

from api.auth import services
from api.console import charts
from api.console.templating import render, see
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.errors import Conflict, Fault, PolicyInvalid, StepUpRequired, TooLarge
from moderation.governance import policies, sessions
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.database import transaction

router = APIRouter(prefix="/console/policy", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.POLICY_READ))]
Publisher = Annotated[PersonPrincipal, Depends(person(Permission.POLICY_PUBLISH))]
Document = Annotated[str, Form()]
LONGEST = 200_000
SAID = {
    "published": "Published. It holds for every item screened from now on; decisions keep the version they cite.",
    "same": "Nothing was published: this is the version in force.",
}


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
    """The policy in force."""
    with transaction(held.databases.content) as session:
        policy = held.policies.current(session)
        published = policies.versions(session)[0]
    return render(
        request, "policy/show.html", policy=policy, published=published, charts=charts,
        flash=SAID.get(said, ""),
    )  # fmt: skip


@router.get("/versions")
def show_versions(request: Request, held: Held, _: Reader) -> HTMLResponse:
    """Every version that was published."""
    with transaction(held.databases.content) as session:
        found = policies.versions(session)
    return render(request, "policy/versions.html", versions=found)


@router.get("/versions/{version}")
def show_version(
    request: Request, held: Held, _: Reader, version: int, against: int | None = None
) -> HTMLResponse:
    """One version, and what it changed."""
    with transaction(held.databases.content) as session:
        document = policies.document_of(session, version)
        found = policies.versions(session)
        other = version - 1 if against is None else against
        older = policies.document_of(session, other) if other else ""
    return render(
        request,
        "policy/version.html",
        version=next(one for one in found if one.version == version),
        newest=found[0].version,
        versions=found,
        document=document,
        against=other,
        diff=difference(older, document) if other else [],
    )


@router.get("/edit")
def edit(request: Request, held: Held, principal: Publisher, version: int | None = None) -> HTMLResponse:
    """The document in an editor: the one in force, or an older version to go back to."""
    with transaction(held.databases.content) as session:
        base, document = policies.newest_document(session)
        if version is not None:
            document = policies.document_of(session, version)
    fresh = _is_fresh(principal, datetime.now(UTC))
    return render(request, "policy/edit.html", base=base, document=document, faults=(), fresh=fresh)


@router.post("/edit")
def preview(
    request: Request, held: Held, principal: Publisher, document: Document, base: Annotated[int, Form()]
) -> HTMLResponse:
    """Every fault with its line; or, without any, the difference to look at before it is published."""
    document = _unified(document)
    faults = _faults(document, base + 1)
    fresh = _is_fresh(principal, datetime.now(UTC))
    if faults:
        return render(
            request, "policy/edit.html", 422, base=base, document=document, faults=faults, fresh=fresh
        )
    return _preview(request, held, principal, document, base)


@router.post("/edit/again")
def edit_again(request: Request, held: Held, principal: Publisher, document: Document) -> HTMLResponse:
    """Back from the difference to the editor. Whoever saw the difference to the newest version builds on that."""
    with transaction(held.databases.content) as session:
        base, _ = policies.newest_document(session)
    return render(
        request,
        "policy/edit.html",
        base=base,
        document=_unified(document),
        faults=(),
        fresh=_is_fresh(principal, datetime.now(UTC)),
    )


@router.post("/publish")
def publish(
    request: Request, held: Held, principal: Publisher, document: Document, base: Annotated[int, Form()]
) -> Response:
    """Publish a document as the next version, if nobody published one meanwhile."""
    now = datetime.now(UTC)
    document = _unified(document)
    try:
        sessions.require_fresh(principal, now)
        with transaction(held.databases.content) as session:
            policy = policies.publish(session, document, principal.actor, now, base=base)
    except PolicyInvalid as error:
        return render(
            request,
            "policy/edit.html",
            422,
            base=base,
            document=document,
            faults=_in_order(error.faults),
            fresh=True,
        )
    except StepUpRequired as error:
        # What was written must not be lost on the way to the second factor and back.
        return _preview(request, held, principal, document, base, error.detail, 403)
    except Conflict as error:
        return _preview(request, held, principal, document, base, error.detail, 409)
    return see("/console/policy", said="published" if policy.version > base else "same")


def _preview(
    request: Request,
    held: Services,
    principal: PersonPrincipal,
    document: str,
    base: int,
    fault: str = "",
    status: int = 200,
) -> HTMLResponse:
    with transaction(held.databases.content) as session:
        newest, current = policies.newest_document(session)
    return render(
        request,
        "policy/preview.html",
        status,
        base=base,
        newest=newest,
        document=document,
        diff=difference(current, document),
        fault=fault,
        fresh=_is_fresh(principal, datetime.now(UTC)),
    )


def _unified(document: str) -> str:
    """The document with the ends of lines it was stored with; browsers send others.

    Raises:
        TooLarge: it is no policy any more.
    """
    if len(document) > LONGEST:
        raise TooLarge(f"A policy has {LONGEST:,} characters at most; this one has {len(document):,}.")
    return document.replace("\r\n", "\n").rstrip() + "\n"


def _faults(document: str, version: int) -> Sequence[Fault]:
    try:
        policies.read(document, version)
    except PolicyInvalid as error:
        return _in_order(error.faults)
    return ()


def _in_order(faults: Sequence[Fault]) -> list[Fault]:
    """Faults from the first line to the last, one for each key."""
    named = {(fault.line or 0, fault.path): fault for fault in reversed(faults)}
    return [named[place] for place in sorted(named)]


def _is_fresh(principal: PersonPrincipal, now: datetime) -> bool:
    try:
        sessions.require_fresh(principal, now)
    except StepUpRequired:
        return False
    return True
