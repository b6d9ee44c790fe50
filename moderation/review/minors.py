"""The answer to whether somebody is a minor: confirmed, everything of the account ends; cleared, all goes on.

Confirming is a decision like any other: a person removes the item that brought the suspicion for being posted
by a minor and ends the account, at once and without an undo window. From that decision the statement of
reasons is made; it outlives the author, who is erased in the same transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation.domain.access import Permission
from moderation.domain.cases import Verdict
from moderation.domain.content import ItemState
from moderation.domain.decisions import AccountMeasure, Judgement, checked
from moderation.domain.erasing import Cause
from moderation.domain.errors import Forbidden, InvalidInput
from moderation.domain.policy import Policy
from moderation.domain.signals import Category
from moderation.domain.subjects import MinorState
from moderation.governance import audit, erasure, minors, preservation
from moderation.governance.sessions import PersonPrincipal
from moderation.review import decisions
from moderation.review.suspicion import newest_item
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Author, Item, MinorCheck
from moderation.storage.vault import Vault

LONGEST = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Preserve:
    """That a law asks for a copy to be kept, which one, and until when: without it nothing is kept."""

    basis: str
    keep_until: datetime


def clear(session: Session, person: PersonPrincipal, check_id: UUID, now: datetime) -> MinorCheck:
    """Find that an author is no minor: the suspension ends.

    Raises:
        NotFound: there is no such check.
        Conflict: it was answered before.
        Forbidden: the person may not.
    """
    _may(person)
    row = minors.locked(session, check_id)
    _answer(session, person, row, MinorState.CLEARED, now)
    return row


def confirm(
    databases: Databases,
    vault: Vault,
    blobs: FolderBlobs,
    policy: Policy,
    person: PersonPrincipal,
    check_id: UUID,
    now: datetime,
    preserve: Preserve | None = None,
) -> UUID | None:
    """Find that an author is a minor: all that is held of them ends; the erasure's id. Owns its transactions.

    None where they left meanwhile and nothing was held any more.

    With `preserve` the living items are sealed first; sealing them twice is excluded by the check's own row.

    Raises:
        NotFound: there is no such check.
        Conflict: it was answered before.
        InvalidInput: the end or the legal basis of what is to be preserved is missing.
        Forbidden: the person may not.
    """
    _may(person)
    if preserve is not None:
        _checked(preserve, now)
        _preserve(databases, vault, blobs, person, check_id, preserve, now)
    with transaction(databases.content) as session:
        row = minors.locked(session, check_id)
        item = _item(session, row)
        # Of somebody of whom nothing is left since, the answer is all that there is to write down.
        if session.get(Author, row.author_id) is not None:
            row.erasure_id = erasure.request(
                session,
                vault,
                client=row.client,
                author_id=row.author_id,
                cause=Cause.MINOR,
                requested_by=person.actor,
                now=now,
            )
        decision = _decide(session, policy, person, item, now) if item else None
        _answer(session, person, row, MinorState.CONFIRMED, now, decision)
        return row.erasure_id


def _may(person: PersonPrincipal) -> None:
    if Permission.MINOR_DECIDE not in person.permissions:
        raise Forbidden(
            "Your roles don't decide whether somebody is a minor; ask a lead or the privacy officer."
        )


def _checked(preserve: Preserve, now: datetime) -> None:
    if not preserve.basis.strip():
        raise InvalidInput("Name the law that asks for a copy, or preserve nothing.")
    if not now < preserve.keep_until <= now + LONGEST:
        raise InvalidInput(f"A preserved copy ends within {LONGEST.days} days; choose a date ahead.")


def _preserve(
    databases: Databases,
    vault: Vault,
    blobs: FolderBlobs,
    person: PersonPrincipal,
    check_id: UUID,
    preserve: Preserve,
    now: datetime,
) -> None:
    with transaction(databases.content) as session:
        row = minors.locked(session, check_id)
        if row.preservation_id is not None:  # an attempt before this one got so far
            return
        author_id = row.author_id
        items = session.scalars(
            select(Item.id).where(Item.author_id == author_id, Item.doomed_at.is_(None)).order_by(Item.id)
        ).all()
    if not items:
        return
    package = preservation.seal(
        databases,
        vault,
        blobs,
        author_id=author_id,
        items=items,
        cause=str(Cause.MINOR),
        basis=preserve.basis.strip(),
        keep_until=preserve.keep_until,
        created_by=person.actor,
        hold_id=None,
        now=now,
    )
    with transaction(databases.content) as session:
        minors.locked(session, check_id).preservation_id = package


def _item(session: Session, row: MinorCheck) -> UUID | None:
    """What the decision is about: the item that brought the check or else the newest, if any is there."""
    item = session.get(Item, row.item_id) if row.item_id else None
    if item is None or item.state == ItemState.DELETED:
        item = newest_item(session, row.author_id)
    return item.id if item else None


def _decide(session: Session, policy: Policy, person: PersonPrincipal, item_id: UUID, now: datetime) -> UUID:
    """The decision that ends the account. The item is hidden by now: no clock of it is moved any more."""
    item = decisions.lock_items(session, [item_id])[item_id]
    judgement = Judgement(Verdict.REMOVE, Category.UNDERAGE, measure=AccountMeasure.BAN)
    return decisions.by_person(
        session,
        policy,
        item,
        checked(judgement, policy, now),
        person_id=person.person_id,
        case_id=None,
        undo_id=None,
        now=now,
    )


def _answer(
    session: Session,
    person: PersonPrincipal,
    row: MinorCheck,
    state: MinorState,
    now: datetime,
    decision: UUID | None = None,
) -> None:
    row.state, row.decided_by, row.decided_at = state, person.person_id, now
    session.flush()
    details = {"author": str(row.author_id)}
    details |= {"erasure": str(row.erasure_id)} if row.erasure_id else {}
    details |= {"preservation": str(row.preservation_id)} if row.preservation_id else {}
    details |= {"decision": str(decision)} if decision else {}
    event = audit.Event(person.actor, f"minor.{state}", "minor_check", str(row.id), details)
    audit.record(session, [event], now)
    minors.tell(session, row, now, decision)
