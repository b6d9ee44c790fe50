"""Requests of data subjects, passed on by the content service that knows who they are.

What the service can do alone it does alone and at once: an erasure is begun, a restriction stands, a copy is
ready to be fetched. The rest waits for an officer with a deadline: corrections, and whatever came without the
word that the identity was verified. Of somebody unknown the true answer is given: nothing is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from moderation.domain import content, subjects
from moderation.domain.erasing import NOBODY, Cause
from moderation.domain.errors import Conflict, Gone, NotFound
from moderation.domain.policy import Policy
from moderation.domain.subjects import DOINGS, Doing, Refused, RequestState, Result, Right
from moderation.governance import audit, erasure, outbox, restriction
from moderation.governance.outbox import Notice
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.ids import new_id
from moderation.storage.tables import Author, Erasure, SubjectRequest, Tombstone
from moderation.storage.vault import Vault, VaultError

FRESH = timedelta(days=7)  # for so long a copy can be fetched after it was asked for
DETAILS_LENGTH = 4000
PAGE = 50
_CAUSES = {Right.ERASE: Cause.REQUEST, Right.WITHDRAW: Cause.WITHDRAWAL, Right.CANCEL: Cause.CANCELLATION}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a content service passes on."""

    right: Right
    identity_verified: bool = False
    details: str | None = None


def find_author(session: Session, vault: Vault, client: str, reference: str) -> Author | None:
    """The author whom `client` calls so; None if nothing is held of them.

    Raises:
        InvalidInput: that is no reference.
    """
    content.checked_reference(reference, "author")
    return session.scalar(
        select(Author).where(
            Author.client == client, Author.reference_digest == vault.digest("author", client, reference)
        )
    )


def known_author(session: Session, vault: Vault, client: str, reference: str) -> Author:
    """The same, for what makes no sense without one.

    Raises:
        InvalidInput: that is no reference.
        NotFound: nothing is held of them.
    """
    author = find_author(session, vault, client, reference)
    if author is None or author.erasing_at is not None:
        raise NotFound("Nothing is held of this author.")
    return author


def ask(
    session: Session, vault: Vault, policy: Policy, client: str, reference: str, asked: Asked, now: datetime
) -> tuple[SubjectRequest, bool]:
    """Take a request and act on it as far as that needs nobody; the request, and whether it is a new one.

    One that is open is answered with itself, and carried out if this time the identity is verified.

    Raises:
        InvalidInput: the reference or the details can't be.
        Gone: the author is being erased.
    """
    if asked.details is not None:
        content.checked_text(asked.details, "details", DETAILS_LENGTH)
    author = find_author(session, vault, client, reference)
    if author is None:
        return _of_nobody(session, vault, policy, client, reference, asked, now)
    # Two requests at once come one after the other.
    session.refresh(author, with_for_update={"key_share": True})
    if author.erasing_at is not None and DOINGS[asked.right] is not Doing.ERASURE:
        raise Gone(
            "What is held of this author is being erased; there is nothing else to ask for.", code="erased"
        )
    standing = _standing(session, vault, author, asked)
    if standing is not None:
        if asked.identity_verified and not standing.identity_verified:
            standing.identity_verified = True
            _act(session, vault, standing, author, f"client:{client}", now)
        return standing, False
    row = _stored(session, vault, policy, client, author, asked, now)
    if subjects.by_itself(asked.right, identity_verified=asked.identity_verified):
        _act(session, vault, row, author, f"client:{client}", now)
    return row, True


def _standing(session: Session, vault: Vault, author: Author, asked: Asked) -> SubjectRequest | None:
    """The open request that asks for the same. Of corrections, one that says something else is another one."""
    found = session.scalars(
        select(SubjectRequest)
        .where(SubjectRequest.author_id == author.id, SubjectRequest.state == RequestState.OPEN)
        .where(SubjectRequest.kind == asked.right)
        .order_by(SubjectRequest.id)
    ).all()
    if DOINGS[asked.right] is not Doing.CORRECTION or not asked.details:
        return found[0] if found else None
    _, key = vault.keys_of(NOBODY, author.id)
    said = asked.details.encode()
    same = (row for row in found if key and row.details and key.decrypt(row.details, *place(row.id)) == said)
    return next(same, None)


def _of_nobody(
    session: Session, vault: Vault, policy: Policy, client: str, reference: str, asked: Asked, now: datetime
) -> tuple[SubjectRequest, bool]:
    """The answer to somebody of whom nothing is held: who was just erased gets the request that did it again.

    It is recorded of nobody: not even a digest is kept of who asked.
    """
    digest = vault.digest("author", client, reference)
    known = session.scalars(
        select(SubjectRequest)
        .join(Tombstone, Tombstone.erasure_id == SubjectRequest.erasure_id)
        .where(Tombstone.client == client, Tombstone.kind == "author", Tombstone.digest == digest)
        .where(SubjectRequest.client == client, SubjectRequest.kind == asked.right)
        .order_by(SubjectRequest.id.desc())
        .limit(1)
    ).first()
    if known is not None:
        return known, False
    row = _stored(session, vault, policy, client, None, asked, now)
    close(session, row, Result.NOT_FOUND, audit.MACHINE, now)
    return row, True


def _stored(
    session: Session,
    vault: Vault,
    policy: Policy,
    client: str,
    author: Author | None,
    asked: Asked,
    now: datetime,
) -> SubjectRequest:
    identifier = new_id(now)
    sealed = None
    if asked.details and author is not None:
        key = vault.author_keys([author.id], now)[author.id]
        sealed = key.encrypt(asked.details.encode(), *place(identifier))
    row = SubjectRequest(
        id=identifier,
        client=client,
        author_id=author.id if author else NOBODY,
        kind=str(asked.right),
        identity_verified=asked.identity_verified,
        details=sealed,
        received_at=now,
        due_at=subjects.due(policy.rights, now),
        state=RequestState.OPEN,
    )
    session.add(row)
    session.flush()
    details = {"kind": str(asked.right), "identity_verified": asked.identity_verified}
    event = audit.Event(
        f"client:{client}", "subject_request.received", "subject_request", str(identifier), details
    )
    audit.record(session, [event], now)
    return row


def place(request_id: UUID) -> tuple[str, str, str]:
    """Where a request's details live, for their encryption under the author's key."""
    return ("subject_requests", "details", str(request_id))


def _act(
    session: Session, vault: Vault, row: SubjectRequest, author: Author, actor: str, now: datetime
) -> None:
    """Do what is asked for, as far as a machine can."""
    right = Right(row.kind)
    match DOINGS[right]:
        case Doing.DOCUMENT:
            close(session, row, Result.READY, actor, now)
        case Doing.RESTRICTION:
            restriction.restrict(session, author, right, actor, now, request_id=row.id)
            close(session, row, Result.RESTRICTED, actor, now)
        case Doing.ERASURE:
            # Hidden with this transaction; the request is closed once everything is destroyed (`settle`).
            row.erasure_id = erasure.request(
                session,
                vault,
                client=row.client,
                author_id=author.id,
                cause=_CAUSES[right],
                requested_by=actor,
                now=now,
            )
            session.flush()
        case Doing.CORRECTION:
            return


def close(
    session: Session, row: SubjectRequest, outcome: Result | Refused, actor: str, now: datetime
) -> None:
    """Close a request and have its content service told.

    Raises:
        Conflict: it was closed before.
    """
    row.state = subjects.closed(RequestState(row.state), outcome)
    row.outcome, row.closed_by, row.closed_at = str(outcome), actor, now
    session.flush()
    said = {"kind": row.kind, "state": str(row.state), "outcome": str(outcome)}
    event = audit.Event(actor, "subject_request.closed", "subject_request", str(row.id), said)
    audit.record(session, [event], now)
    notice = Notice(row.client, None, "subject_request.closed", {"request_id": str(row.id), **said})
    outbox.enqueue(session, [notice], now)


def settle(session: Session, now: datetime) -> int:
    """Close the requests whose erasure is carried out; how many."""
    rows = session.execute(
        select(SubjectRequest, Erasure.state)
        .join(Erasure, Erasure.id == SubjectRequest.erasure_id)
        .where(SubjectRequest.state == RequestState.OPEN, Erasure.state.in_(["done", "held"]))
        .order_by(SubjectRequest.id)
        .limit(500)
        .with_for_update(of=SubjectRequest, skip_locked=True)
    ).all()
    for row, state in rows:
        close(session, row, Result.ERASED if state == "done" else Result.ERASED_BUT_HELD, audit.MACHINE, now)
    return len(rows)


def of_client(
    session: Session, vault: Vault, client: str, reference: str, request_id: UUID
) -> SubjectRequest:
    """One request of an author; of one who is gone it is found by its id alone.

    Raises:
        NotFound: there is none.
    """
    row = session.get(SubjectRequest, request_id)
    author = find_author(session, vault, client, reference)
    if row is None or row.client != client:
        raise NotFound("There is no such request.")
    whose = session.get(Author, row.author_id)
    living = whose is not None and whose.erasing_at is None
    if living and (author is None or author.id != row.author_id):
        raise NotFound("There is no such request.")
    return row


def of_author(session: Session, vault: Vault, client: str, reference: str) -> Sequence[SubjectRequest]:
    """Every request of an author, the newest first; nothing once they are gone."""
    author = find_author(session, vault, client, reference)
    if author is None:
        return ()
    return session.scalars(
        select(SubjectRequest).where(SubjectRequest.author_id == author.id).order_by(SubjectRequest.id.desc())
    ).all()


def exportable(row: SubjectRequest, author: Author, now: datetime) -> None:
    """Refuse a copy that can't be fetched (any more). `author` is whoever is called so today.

    Raises:
        NotFound: somebody else asked, who is gone: a request is found by its id then, a copy is of nobody.
        Conflict: the request asks for no copy, or waits for somebody.
        Gone: it is no longer fresh.
    """
    if row.author_id != author.id:
        raise NotFound("Nothing is held any more of whoever made this request; ask for a new copy.")
    if DOINGS[Right(row.kind)] is not Doing.DOCUMENT:
        raise Conflict("Only a request for access or export has a copy to fetch.", code="no_copy")
    if row.outcome != Result.READY or row.closed_at is None:
        raise Conflict("The copy is not ready; the request has to be answered first.", code="not_ready")
    if now > row.closed_at + FRESH:
        raise Gone(f"A copy can be fetched for {FRESH.days} days; ask for a new one.", code="not_fresh")


# What officers do.


@dataclass(frozen=True, slots=True)
class RequestView:
    """A request as a page shows it. What was written, and the account's reference, only where it is opened."""

    row: SubjectRequest
    reference: str | None = None
    details: str | None = None
    restricted_at: datetime | None = None
    known: bool = True


def listing(
    session: Session, *, answered: bool = False, before: UUID | None = None
) -> Sequence[SubjectRequest]:
    """Requests that wait, the nearest deadline first; or those that were answered, the newest first."""
    query = select(SubjectRequest).limit(PAGE + 1)
    if answered:
        query = query.where(SubjectRequest.state != RequestState.OPEN).order_by(SubjectRequest.id.desc())
        return session.scalars(query.where(SubjectRequest.id < before) if before else query).all()
    return session.scalars(
        query.where(SubjectRequest.state == RequestState.OPEN).order_by(SubjectRequest.due_at)
    ).all()


def view(
    session: Session, vault: Vault, person: PersonPrincipal, request_id: UUID, now: datetime
) -> RequestView:
    """A request with what was written; who looked is recorded first, in the same transaction: commit, then show.

    Raises:
        NotFound: there is none.
    """
    row = session.get(SubjectRequest, request_id)
    if row is None:
        raise NotFound("There is no such request.")
    event = audit.Event(person.actor, "subject_request.viewed", "subject_request", str(request_id))
    audit.record(session, [event], now)
    author = session.get(Author, row.author_id)
    if author is None:
        return RequestView(row, known=False)
    _, key = vault.keys_of(NOBODY, author.id)
    if key is None:
        return RequestView(row, known=False)
    try:
        reference = key.decrypt(author.reference, "authors", "reference", str(author.id)).decode()
        details = key.decrypt(row.details, *place(row.id)).decode() if row.details else None
    except VaultError:
        return RequestView(row, known=False)
    return RequestView(row, reference, details, author.restricted_at)


def carry_out(
    session: Session, vault: Vault, person: PersonPrincipal, request_id: UUID, now: datetime
) -> SubjectRequest:
    """Do what is asked for, on the word of an officer who knows whose request it is; of corrections: they are made.

    Raises:
        NotFound: there is no such request.
        Conflict: it is closed, or its erasure runs already.
    """
    whose = session.scalar(select(SubjectRequest.author_id).where(SubjectRequest.id == request_id))
    # The author first, as whoever asks or erases does.
    author = session.get(
        Author, whose, with_for_update={"key_share": True}, populate_existing=True
    ) if whose else None  # fmt: skip
    row = _locked(session, request_id)
    if row.erasure_id is not None:
        raise Conflict("The erasure runs; the request is closed by itself once it is done.", code="running")
    erased = author is not None and author.erasing_at is not None
    if author is None or (erased and DOINGS[Right(row.kind)] is not Doing.ERASURE):
        close(session, row, Result.NOT_FOUND, person.actor, now)
    elif DOINGS[Right(row.kind)] is Doing.CORRECTION:
        close(session, row, Result.CORRECTED, person.actor, now)
    else:
        row.identity_verified = True
        _act(session, vault, row, author, person.actor, now)
    return row


def refuse(
    session: Session, person: PersonPrincipal, request_id: UUID, ground: Refused, now: datetime
) -> SubjectRequest:
    """Refuse a request on a ground that the law knows.

    Raises:
        NotFound: there is no such request.
        Conflict: it is closed, or its erasure runs already.
    """
    row = _locked(session, request_id)
    if row.erasure_id is not None:
        raise Conflict("The erasure runs; it can't be refused any more.", code="running")
    close(session, row, ground, person.actor, now)
    return row


def _locked(session: Session, request_id: UUID) -> SubjectRequest:
    row = session.get(SubjectRequest, request_id, with_for_update=True, populate_existing=True)
    if row is None:
        raise NotFound("There is no such request.")
    subjects.closed(RequestState(row.state), Result.READY)  # refuses what is closed
    return row


def overdue(session: Session, now: datetime) -> int:
    """How many requests nobody answered in time."""
    query = select(func.count()).where(SubjectRequest.state == RequestState.OPEN, SubjectRequest.due_at < now)
    return session.scalar(query) or 0
