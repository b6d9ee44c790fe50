"""Banks of what is known: pictures, texts, terms, links and claims, kept up by services."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy.orm import Session

from api.auth import caller, services
from api.bank_schemas import (
    BankChangeIn,
    BankIn,
    BankOut,
    BanksOut,
    EntriesOut,
    EntryIn,
    EntryOut,
    EntryWithHistoryOut,
)
from api.hashed import kept, near_hash
from api.schemas import Name
from api.services import Services
from moderation.domain.errors import InvalidInput, NotFound
from moderation.domain.signals import BankKind
from moderation.governance import bank_history, bank_lists, banks
from moderation.governance.accounts import Principal, Scope
from moderation.governance.bank_history import History
from moderation.governance.bank_lists import BankView, EntryView
from moderation.governance.banks import Tuning
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


@router.patch("/{name}", response_model=BankOut, response_model_exclude_none=True)
def change_bank(name: Name, body: BankChangeIn, held: Held, principal: Caller) -> dict[str, Any]:
    """Change how near is near enough, on which share of the items a match acts, or whether the bank is on.

    What is named and null is put back: the distance to the usual one, the source to none.
    """
    now = datetime.now(UTC)
    wanted: Tuning = {}
    if "distance" in body.model_fields_set:
        wanted["distance"] = body.distance
    if "source" in body.model_fields_set:
        wanted["source"] = body.source
    if body.sample_share is not None:
        wanted["sample_share"] = body.sample_share
    with transaction(held.databases.content) as session:
        banks.tune(session, name, actor=principal.actor, now=now, **wanted)
        if body.enabled is not None:
            banks.switch(session, name, on=body.enabled, actor=principal.actor, now=now)
        return _bank(bank_lists.one(session, name, now))


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
def add_entry(
    request: Request, name: Name, body: EntryIn, response: Response, held: Held, principal: Caller
) -> dict[str, Any]:
    """Add what the bank should know. Sent again it is there once, as it was.

    What can't be looked for is refused with a sentence: a pattern that RE2 does not know or that matches where
    there is nothing, a term too short to mean anything, a suffix under which anybody has hosts, a picture that
    can't be decoded. A picture with too little in it to be hashed is known by its bytes alone (`matches_near`).
    """
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        _check_kind(banks.kind_of(session, name), body)
    # Decoded before anything is locked: a picture may take two seconds.
    hashes = kept(request, body.image) if body.image is not None else None
    with transaction(held.databases.content) as session:
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
            source=body.source,
            kept=hashes,
        )
        if not added.fresh:
            response.status_code = 200
        response.headers["Location"] = f"/v1/banks/{name}/entries/{added.id}"
        return _entry(*_one(session, held, name, added.id, now))


def _check_kind(kind: str, body: EntryIn) -> None:
    hashed = body.form in ("pdq", "sha256")
    if kind == BankKind.IMAGE and body.image is None and not hashed:
        raise InvalidInput(
            "This bank holds pictures; send the bytes of one as image, or its hash as value with the form pdq or "
            "sha256."
        )
    if kind != BankKind.IMAGE and body.image is not None:
        raise InvalidInput("This bank holds no pictures; send what it should know as value.")
    if body.image is not None and body.form is not None:
        raise InvalidInput("A picture has no form; leave it out.")


@router.get("/{name}/entries", response_model=EntriesOut, response_model_exclude_none=True)
def list_entries(
    name: Name,
    held: Held,
    _: Caller,
    before: Annotated[UUID | None, Query(description="`next` of the page before.")] = None,
    search: Annotated[
        str,
        Query(
            max_length=500,
            description="Words of a value, note or source, or whoever added it; an id; the beginning of a digest; "
            "a picture's PDQ hash, with what is near it.",
        ),
    ] = "",
) -> dict[str, Any]:
    """The entries of a bank, newest first, 50 at a time."""
    now = datetime.now(UTC)
    near: Collection[UUID] = near_hash(held, name, search, now) if search else ()
    with transaction(held.databases.content) as session:
        kind = banks.kind_of(session, name)
        found = bank_lists.entries(
            session, name, now, before=before, search=search, near=near, vault=held.vault
        )
    page = found[: bank_lists.PAGE]
    return {
        "entries": [_entry(kind, one) for one in page],
        "next": str(page[-1].id) if len(found) > len(page) else None,
    }


@router.get(
    "/{name}/entries/{entry_id}", response_model=EntryWithHistoryOut, response_model_exclude_none=True
)
def get_entry(name: Name, entry_id: UUID, held: Held, _: Caller) -> dict[str, Any]:
    """One entry, with who did what to it and how many items it matched on which day."""
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        kind, entry = _one(session, held, name, entry_id, now)
        return _entry(kind, entry) | _history(bank_history.of_entry(session, entry_id, now))


@router.delete("/{name}/entries/{entry_id}", status_code=204)
def remove_entry(name: Name, entry_id: UUID, held: Held, principal: Caller) -> None:
    """Take an entry out of a bank. What it decided stays decided."""
    with transaction(held.databases.content) as session:
        banks.remove_entry(session, name, entry_id, actor=principal.actor, now=datetime.now(UTC))


def _one(session: Session, held: Services, name: str, entry_id: UUID, now: datetime) -> tuple[str, EntryView]:
    """The kind of a bank, and an entry of it."""
    kind = banks.kind_of(session, name)
    found = bank_lists.entries(session, name, now, only=entry_id, vault=held.vault)
    if not found:
        raise NotFound(f"Bank {name} has no such entry; GET /v1/banks/{name}/entries lists those it has.")
    return kind, found[0]


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
        "sample_share": bank.sample_share,
        "source": bank.source,
        "entries": bank.entries,
        "unverified": bank.unverified,
        "quarantined": bank.quarantined,
        "matches": bank.use.matches,
    }


def _entry(kind: str, entry: EntryView) -> dict[str, Any]:
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
        "source": entry.source,
        "quarantined": entry.quarantined_at is not None,
        "matches_near": entry.near if kind == BankKind.IMAGE else None,
    }


def _history(history: History) -> dict[str, Any]:
    return {
        "history": [
            {"at": one.at, "actor": one.actor, "action": one.action, "details": dict(one.details)}
            for one in history.happenings
        ],
        "days": [{"day": day, "matches": hits} for day, hits in history.days],
        "last_matched": history.last_matched,
    }
