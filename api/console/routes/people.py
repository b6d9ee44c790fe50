"""Who works here and as what, for those who manage that; and the keys of content services."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, Response

from api.auth import services
from api.console.routes.login import base_url, refused
from api.console.templating import render, see
from api.people import person
from api.services import Services
from moderation.domain.access import Permission, Role
from moderation.domain.errors import Refusal
from moderation.governance import accounts, invitations, people
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.database import transaction

router = APIRouter(prefix="/console/people", include_in_schema=False)
keys = APIRouter(prefix="/console/keys", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
READER = [Depends(person(Permission.PEOPLE_READ))]
Manager = Annotated[PersonPrincipal, Depends(person(Permission.PEOPLE_MANAGE, fresh=True))]
KEY_READER = [Depends(person(Permission.KEY_MANAGE))]
KeyManager = Annotated[PersonPrincipal, Depends(person(Permission.KEY_MANAGE, fresh=True))]
Choices = Annotated[list[str], Form(max_length=20)]

ROLES: Mapping[str, str] = {
    Role.MODERATOR: "decides cases and appeals",
    Role.LEAD: "also adjudicates, bans, reverses, manages banks and quality, publishes policies, promotes models",
    Role.TRAINER: "exports labels, sees quality, proposes models; no content in the console",
    Role.PRIVACY_OFFICER: "erases, answers requests and incidents, approves holds, signs reports",
    Role.LEGAL: "asks for holds and disclosures, reads kept evidence, manages partners",
    Role.AUDITOR: "reads quality, banks, models, duties and the audit log, signs reports; no content",
    Role.ADMIN: "manages people, keys and incidents, publishes policies, promotes models; no content",
}
SAID = {
    "roles": "The roles are changed; their sessions have ended.",
    "disabled": "They are disabled; their sessions have ended.",
    "enabled": "They may log in again.",
    "withdrawn": "The link works no more.",
    "revoked": "The key is revoked.",
}


@router.get("", dependencies=READER)
def people_page(request: Request, held: Held, said: str = "") -> Response:
    """Everybody, and the links that wait to be used."""
    return _people(request, held, said=SAID.get(said, ""))


def _people(
    request: Request,
    held: Services,
    *,
    said: str = "",
    refusal: Refusal | None = None,
    email: str = "",
    wanted: list[str] | None = None,
) -> HTMLResponse:
    with transaction(held.databases.content) as session:
        context = {
            "people": people.listing(session, held.vault),
            "pending": invitations.pending(session, held.vault, datetime.now(UTC)),
        }
    return _rendered(
        request,
        "people/people.html",
        refusal,
        **context,
        said=said,
        roles=ROLES,
        email=email,
        wanted=wanted or [],
    )


@router.post("")
def invite(
    request: Request,
    held: Held,
    me: Manager,
    email: Annotated[str, Form(max_length=254)],
    roles: Choices = [],  # noqa: B006
) -> Response:
    """Make a link by which somebody new may join."""
    now = datetime.now(UTC)
    try:
        with transaction(held.databases.content) as session:
            token = invitations.invite(session, held.vault, email, roles, now, me.actor)
    except Refusal as refusal:
        return _people(request, held, refusal=refusal, email=email, wanted=roles)
    return _link(request, held, token, email, now)


@router.post("/links/{link_id}/withdraw")
def withdraw(request: Request, held: Held, me: Manager, link_id: UUID) -> Response:
    """Make a link that waits good for nothing."""
    try:
        with transaction(held.databases.content) as session:
            invitations.withdraw(session, link_id, datetime.now(UTC), me.actor)
    except Refusal as refusal:
        return _people(request, held, refusal=refusal)
    return see("/console/people", said="withdrawn")


@router.get("/{person_id}", dependencies=READER)
def person_page(request: Request, held: Held, person_id: UUID, said: str = "") -> Response:
    """One person."""
    return _person(request, held, person_id, said=SAID.get(said, ""))


def _person(
    request: Request, held: Services, person_id: UUID, *, said: str = "", refusal: Refusal | None = None
) -> HTMLResponse:
    with transaction(held.databases.content) as session:
        one = people.profile(session, held.vault, person_id)
    return _rendered(request, "people/person.html", refusal, one=one, said=said, roles=ROLES)


@router.post("/{person_id}/roles")
def change_roles(
    request: Request,
    held: Held,
    me: Manager,
    person_id: UUID,
    roles: Choices = [],  # noqa: B006
) -> Response:
    """Have somebody work as something else."""
    try:
        with transaction(held.databases.content) as session:
            people.change_roles(session, person_id, roles, datetime.now(UTC), me.actor)
    except Refusal as refusal:
        return _person(request, held, person_id, refusal=refusal)
    return see(f"/console/people/{person_id}", said="roles")


@router.post("/{person_id}/disable")
def disable(request: Request, held: Held, me: Manager, person_id: UUID) -> Response:
    """Let somebody in no more."""
    try:
        with transaction(held.databases.content) as session:
            people.disable(session, person_id, datetime.now(UTC), me.actor)
    except Refusal as refusal:
        return _person(request, held, person_id, refusal=refusal)
    return see(f"/console/people/{person_id}", said="disabled")


@router.post("/{person_id}/enable")
def enable(request: Request, held: Held, me: Manager, person_id: UUID) -> Response:
    """Let somebody in again."""
    try:
        with transaction(held.databases.content) as session:
            people.enable(session, person_id, datetime.now(UTC), me.actor)
    except Refusal as refusal:
        return _person(request, held, person_id, refusal=refusal)
    return see(f"/console/people/{person_id}", said="enabled")


@router.post("/{person_id}/password-link")
def password_link(request: Request, held: Held, me: Manager, person_id: UUID) -> Response:
    """A link for a new password; using it asks for the second factor."""
    return _made(request, held, me, person_id, invitations.new_password)


@router.post("/{person_id}/reset")
def reset(request: Request, held: Held, me: Manager, person_id: UUID) -> Response:
    """Take somebody's whole log-in away; the link sets up another."""
    return _made(request, held, me, person_id, invitations.reset)


def _made(request: Request, held: Services, me: PersonPrincipal, person_id: UUID, make: Any) -> Response:
    now = datetime.now(UTC)
    try:
        with transaction(held.databases.content) as session:
            token = make(session, held.vault, person_id, now, me.actor)
            email = people.email_of(held.vault, people.get(session, person_id))
    except Refusal as refusal:
        return _person(request, held, person_id, refusal=refusal)
    return _link(request, held, token, email, now)


def _link(request: Request, held: Services, token: str, email: str, now: datetime) -> Response:
    link = f"{base_url(request, held)}/console/join/{token}"
    return render(request, "people/link.html", 200, link=link, email=email, until=now + invitations.LASTS)


@keys.get("", dependencies=KEY_READER)
def keys_page(request: Request, held: Held, said: str = "") -> Response:
    """The API keys, without their secrets."""
    return _keys(request, held, said=SAID.get(said, ""))


@keys.post("")
def create_key(
    request: Request,
    held: Held,
    me: KeyManager,
    client: Annotated[str, Form(max_length=100)],
    scopes: Choices = [],  # noqa: B006
) -> Response:
    """A new key, shown in this answer and nowhere else."""
    try:
        with transaction(held.databases.content) as session:
            key = accounts.create_api_key(session, held.vault, client, scopes, datetime.now(UTC), me.actor)
    except Refusal as refusal:
        return _keys(request, held, refusal=refusal, client=client)
    return _keys(request, held, fresh_key=key)


@keys.post("/{key_id}/revoke")
def revoke_key(request: Request, held: Held, me: KeyManager, key_id: str) -> Response:
    """End a key at once."""
    try:
        with transaction(held.databases.content) as session:
            accounts.revoke_api_key(session, key_id, datetime.now(UTC), me.actor)
    except Refusal as refusal:
        return _keys(request, held, refusal=refusal)
    return see("/console/keys", said="revoked")


def _keys(
    request: Request,
    held: Services,
    *,
    said: str = "",
    refusal: Refusal | None = None,
    fresh_key: str = "",
    client: str = "",
) -> HTMLResponse:
    with transaction(held.databases.content) as session:
        found = accounts.api_keys(session)
    return _rendered(
        request,
        "people/keys.html",
        refusal,
        keys=found,
        scopes=list(accounts.Scope),
        fresh_key=fresh_key,
        client=client,
        said=said,
    )


def _rendered(request: Request, template: str, refusal: Refusal | None, **context: Any) -> HTMLResponse:
    if refusal is not None:
        return refused(request, template, refusal, **context)
    return render(request, template, 200, **context, error="")
