"""Banks of what is known: pictures, texts, terms, links and claims, kept up by services."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from api.auth import caller, services
from api.bank_schemas import BankIn, BankOut, BanksOut, EntriesOut, EntryIn, EntryOut
from api.schemas import Name
from api.services import Services
from moderation.domain.errors import InvalidInput
from moderation.domain.signals import BankKind
from moderation.governance import bank_lists, banks
from moderation.governance.accounts import Principal, Scope
from moderation.governance.bank_lists import BankView, EntryView
from moderation.storage.database import transaction

router = APIRouter(prefix="/v1/banks", tags=["banks"])

Held = Annotated[Services, Depends(services)]
Caller = Annotated[Principal, Depends(caller(Scope.BANKS_WRITE))]


@router.post("", status_code=201, response_model=BankOut, response_model_exclude_none=True)
def create_bank(body: BankIn, response: Response, held: Held, principal: Caller) -> dict[str, Any]:
    """Make an empty bank. Workers look for what it holds from their next batch on."""
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        banks.create(session, **body.model_dump(), actor=principal.actor, now=now)
        response.headers["Location"] = f"/v1/banks/{body.name}"
        return _bank(bank_lists.one(session, body.name, now))


@router.get("", response_model=BanksOut, response_model_exclude_none=True)
def list_banks(held: Held, _: Caller) -> dict[str, Any]:
    """Every bank by name."""
    with transaction(held.databases.content) as session:
        return {"banks": [_bank(one) for one in bank_lists.listing(session, datetime.now(UTC))]}


@router.get("/{name}", response_model=BankOut, response_model_exclude_none=True)
def get_bank(name: Name, held: Held, _: Caller) -> dict[str, Any]:
    """One bank."""
    with transaction(held.databases.content) as session:
        return _bank(bank_lists.one(session, name, datetime.now(UTC)))


@router.delete("/{name}", status_code=204)
def remove_bank(name: Name, held: Held, principal: Caller) -> None:
    """Delete a bank with its entries. What it decided stays decided; that it was deleted is in the audit log."""
    with transaction(held.databases.content) as session:
        banks.remove(session, name, actor=principal.actor, now=datetime.now(UTC))


@router.post(
    "/{name}/entries",
    status_code=201,
    response_model=EntryOut,
    response_model_exclude_none=True,
    responses={
        200: {"model": EntryOut, "description": "It is in the bank already; the entry as it is there."}
    },
)
def add_entry(name: Name, body: EntryIn, response: Response, held: Held, principal: Caller) -> dict[str, Any]:
    """Add what the bank should know. Sent again it is there once, as it was.

    What can't be looked for is refused with a sentence: a pattern that RE2 does not know or that matches where
    there is nothing, a term too short to mean anything, a suffix under which anybody has hosts.
    """
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        holds_images = banks.kind_of(session, name) == BankKind.IMAGE
        if holds_images != (body.image is not None):
            raise InvalidInput(
                "This bank holds pictures; send the bytes of one as image."
                if holds_images
                else "This bank holds no pictures; send what it should know as value."
            )
        added = banks.add_content(
            session,
            held.vault,
            bank=name,
            content=body.image if body.image is not None else (body.value or "").encode("utf-8", "replace"),
            note=body.note,
            verified=body.verified,
            actor=principal.actor,
            now=now,
            expires_at=body.expires_at,
            form=body.form,
            category=body.category,
        )
        if not added.fresh:
            response.status_code = 200
        response.headers["Location"] = f"/v1/banks/{name}/entries/{added.id}"
        return _entry(bank_lists.entries(session, name, now, only=added.id, vault=held.vault)[0])


@router.get("/{name}/entries", response_model=EntriesOut, response_model_exclude_none=True)
def list_entries(
    name: Name,
    held: Held,
    _: Caller,
    before: Annotated[UUID | None, Query(description="`next` of the page before.")] = None,
) -> dict[str, Any]:
    """The entries of a bank, newest first, 50 at a time."""
    with transaction(held.databases.content) as session:
        found = bank_lists.entries(session, name, datetime.now(UTC), before=before, vault=held.vault)
    page = found[: bank_lists.PAGE]
    return {
        "entries": [_entry(one) for one in page],
        "next": str(page[-1].id) if len(found) > len(page) else None,
    }


@router.delete("/{name}/entries/{entry_id}", status_code=204)
def remove_entry(name: Name, entry_id: UUID, held: Held, principal: Caller) -> None:
    """Take an entry out of a bank. What it decided stays decided."""
    with transaction(held.databases.content) as session:
        banks.remove_entry(session, name, entry_id, actor=principal.actor, now=datetime.now(UTC))


def _bank(bank: BankView) -> dict[str, Any]:
    return {
        "name": bank.name,
        "kind": bank.kind,
        "category": bank.category,
        "action": bank.action,
        "allow": bank.allow,
        "enabled": bank.enabled,
        "created_at": bank.created_at,
        "distance": bank.distance,
        "entries": bank.entries,
        "unverified": bank.unverified,
        "matches": bank.use.matches,
    }


def _entry(entry: EntryView) -> dict[str, Any]:
    return {
        "id": str(entry.id),
        "value": entry.value,
        "form": entry.form,
        "category": entry.category,
        "note": entry.note,
        "verified": entry.verified,
        "live": entry.live,
        "added_by": entry.added_by,
        "added_at": entry.added_at,
        "expires_at": entry.expires_at,
        "matches": entry.use.matches,
        "not_same": entry.not_same,
    }
