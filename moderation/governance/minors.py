"""Minors: whom somebody takes for one, by when a person has to look, and what came of it.

From the first suspicion on the account counts as suspended for its content service
(`author.suspected_minor`), and nothing of it is in any dataset. That is no measure of ours against the
account: a suspicion is no decision and brings no statement of reasons. Whether it is a minor is decided by a
person (`review.minors`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from moderation.domain.cases import CaseKind, CaseState
from moderation.domain.content import ItemState
from moderation.domain.errors import Conflict, NotFound
from moderation.domain.policy import Policy
from moderation.domain.subjects import MinorSource, MinorState, minor_deadline, suspected_again
from moderation.governance import audit, outbox
from moderation.governance.outbox import Notice
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.ids import new_id
from moderation.storage.tables import Author, Case, Item, MinorCheck
from moderation.storage.vault import Vault, VaultError

PAGE = 50
SHOWN = 20


@dataclass(frozen=True, slots=True)
class CheckView:
    """A check as a page shows it: what the account is called while that is known, its newest items, a case."""

    row: MinorCheck
    reference: str | None
    items: tuple[UUID, ...] = ()
    case: UUID | None = None


def suspect(
    session: Session,
    policy: Policy,
    *,
    client: str,
    author_id: UUID,
    item_id: UUID | None,
    source: MinorSource,
    actor: str,
    now: datetime,
) -> tuple[MinorCheck | None, bool]:
    """Have a person check whether somebody is a minor: the open check of theirs, and whether it is a new one.

    None where a person found lately that they are not, and only a machine or a reporter says otherwise.
    """
    standing = open_check(session, author_id)
    if standing is not None:
        return standing, False
    cleared = session.scalar(
        select(func.max(MinorCheck.decided_at)).where(
            MinorCheck.author_id == author_id, MinorCheck.state == MinorState.CLEARED
        )
    )
    if not suspected_again(source, cleared, now):
        return None, False
    row = session.scalar(
        upsert(MinorCheck)
        .values(
            id=new_id(now),
            author_id=author_id,
            client=client,
            source=source,
            item_id=item_id,
            opened_at=now,
            deadline=minor_deadline(policy.rights, now),
            state=MinorState.SUSPECTED,
        )
        .on_conflict_do_nothing()
        .returning(MinorCheck)
    )
    if row is None:  # somebody else was quicker by a moment
        return open_check(session, author_id), False
    details = {"author": str(author_id), "source": str(source)} | ({"item": str(item_id)} if item_id else {})
    audit.record(session, [audit.Event(actor, "minor.suspected", "minor_check", str(row.id), details)], now)
    tell(session, row, now)
    return row, True


def tell(session: Session, row: MinorCheck, now: datetime, decision: UUID | None = None) -> None:
    """Have the content service told how a check stands; whose account it is stands at `/v1/minor-checks/ID`.

    The message is of no item, so that the end of the item does not take it along.
    """
    said = {"check_id": str(row.id), "state": str(row.state)}
    said |= {"decision_id": str(decision)} if decision else {}
    outbox.enqueue(session, [Notice(row.client, None, "author.suspected_minor", said)], now)


def open_check(session: Session, author_id: UUID) -> MinorCheck | None:
    """The check of an author that nobody has answered yet."""
    return session.scalar(
        select(MinorCheck).where(MinorCheck.author_id == author_id, MinorCheck.state == MinorState.SUSPECTED)
    )


def locked(session: Session, check_id: UUID) -> MinorCheck:
    """A check that waits for its answer, locked until the transaction ends.

    Raises:
        NotFound: there is no such check.
        Conflict: it was answered.
    """
    row = session.get(MinorCheck, check_id, with_for_update=True, populate_existing=True)
    if row is None:
        raise NotFound("There is no such check.")
    if row.state != MinorState.SUSPECTED:
        raise Conflict(f"Somebody answered this check before: {row.state}.", code="answered")
    return row


def one(session: Session, check_id: UUID, client: str | None = None) -> MinorCheck:
    """A check, of `client` if one is named.

    Raises:
        NotFound: there is none.
    """
    row = session.get(MinorCheck, check_id)
    if row is None or (client is not None and row.client != client):
        raise NotFound("There is no such check.")
    return row


def reference_of(session: Session, vault: Vault, author_id: UUID) -> str | None:
    """What the content service calls an author; None once that ended."""
    author = session.get(Author, author_id)
    if author is None:
        return None
    _, key = vault.keys_of(UUID(int=0), author_id)
    try:
        return key.decrypt(author.reference, "authors", "reference", str(author.id)).decode() if key else None
    except VaultError:
        return None


def listing(session: Session, *, answered: bool = False, before: UUID | None = None) -> Sequence[MinorCheck]:
    """Checks that wait, the nearest deadline first; or those that were answered, the newest first."""
    query = select(MinorCheck).limit(PAGE + 1)
    if answered:
        query = query.where(MinorCheck.state != MinorState.SUSPECTED).order_by(MinorCheck.id.desc())
        return session.scalars(query.where(MinorCheck.id < before) if before else query).all()
    return session.scalars(
        query.where(MinorCheck.state == MinorState.SUSPECTED).order_by(MinorCheck.deadline)
    ).all()


def view(session: Session, vault: Vault, person: PersonPrincipal, check_id: UUID, now: datetime) -> CheckView:
    """A check with whose account it is; who looked is recorded first, in the same transaction: commit, then show.

    Raises:
        NotFound: there is none.
    """
    row = one(session, check_id)
    audit.record(session, [audit.Event(person.actor, "minor.viewed", "minor_check", str(check_id))], now)
    items = session.scalars(
        select(Item.id)
        .where(Item.author_id == row.author_id, Item.state != ItemState.DELETED)
        .order_by(Item.id.desc())
        .limit(SHOWN)
    ).all()
    case = session.scalars(
        select(Case.id)
        .where(Case.item_id == row.item_id, Case.state == CaseState.OPEN, Case.kind == CaseKind.REVIEW)
        .limit(1)
    ).first()
    return CheckView(row, reference_of(session, vault, row.author_id), tuple(items), case)


def overdue(session: Session, now: datetime) -> int:
    """How many checks nobody answered in time."""
    return (
        session.scalar(
            select(func.count()).where(MinorCheck.state == MinorState.SUSPECTED, MinorCheck.deadline < now)
        )
        or 0
    )


def of_author(session: Session, author_id: UUID) -> Sequence[MinorCheck]:
    """Every check there was of an author, the newest first."""
    return session.scalars(
        select(MinorCheck).where(MinorCheck.author_id == author_id).order_by(MinorCheck.id.desc())
    ).all()
