"""Drafts of the policy: what somebody works on until it is published, faults and all.

Whoever may publish may change any draft. A draft never decides anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation.domain.errors import Conflict, InvalidInput, NotFound, PolicyInvalid, TooLarge
from moderation.governance import audit, policies
from moderation.storage.ids import new_id
from moderation.storage.tables import PolicyDraft

LONGEST = 200_000
LONGEST_NAME = 80
DRAFTS = 100


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft; `faults` is how many things stand in the way of publishing it."""

    id: UUID
    name: str
    document: str
    base: int
    saved_by: str
    saved_at: datetime
    faults: int


def save(
    session: Session,
    *,
    name: str,
    document: str,
    base: int,
    by: str,
    now: datetime,
    draft_id: UUID | None = None,
    seen: datetime | None = None,
) -> UUID:
    """Keep a document, as a new draft or in place of an older state of one; its id.

    `base` is the version it was begun from. With `seen`, only if nobody saved the draft after that moment.

    Raises:
        InvalidInput: it has no name, or there are too many drafts.
        TooLarge: it is no policy any more.
        NotFound: there is no such draft, or no version `base`.
        Conflict: somebody else saved it meanwhile.
    """
    name = " ".join(name.split())
    if not 0 < len(name) <= LONGEST_NAME:
        raise InvalidInput(f"Give the draft a name of at most {LONGEST_NAME} characters.")
    if len(document) > LONGEST:
        raise TooLarge(f"A policy has {LONGEST:,} characters at most; this one has {len(document):,}.")
    policies.document_of(session, base)
    row = None if draft_id is None else _row(session, draft_id)
    if row is None:
        if len(session.scalars(select(PolicyDraft.id).limit(DRAFTS)).all()) >= DRAFTS:
            raise InvalidInput(f"There are {DRAFTS} drafts; delete one that nobody works on any more.")
        row = PolicyDraft(id=new_id(now))
        session.add(row)
    elif seen is not None and row.saved_at > seen:
        raise Conflict(
            "Somebody saved this draft while you wrote; open it in another tab, and put the two together.",
            code="draft_moved_on",
        )
    row.name, row.document, row.base, row.saved_by, row.saved_at = name, document, base, by, now
    session.flush()
    audit.record(session, [audit.Event(by, "policy.draft_saved", "policy_draft", str(row.id))], now)
    return row.id


def listing(session: Session) -> Sequence[Draft]:
    """Every draft, the one saved last first."""
    rows = session.scalars(select(PolicyDraft).order_by(PolicyDraft.saved_at.desc(), PolicyDraft.id))
    return [_draft(row) for row in rows]


def load(session: Session, draft_id: UUID) -> Draft:
    """A draft.

    Raises:
        NotFound: there is no such draft.
    """
    return _draft(_row(session, draft_id, lock=False))


def end(session: Session, draft_id: UUID, by: str, now: datetime, version: int | None = None) -> None:
    """Delete a draft, because nobody wants it or because it became `version`.

    Raises:
        NotFound: there is no such draft.
    """
    session.delete(_row(session, draft_id))
    details = {} if version is None else {"version": version}
    session.flush()
    event = audit.Event(by, "policy.draft_ended", "policy_draft", str(draft_id), details)
    audit.record(session, [event], now)


def _row(session: Session, draft_id: UUID, *, lock: bool = True) -> PolicyDraft:
    found = session.get(PolicyDraft, draft_id, with_for_update=lock)
    if found is None:
        raise NotFound("There is no such draft; it was published or deleted.")
    return found


def _draft(row: PolicyDraft) -> Draft:
    try:
        policies.read(row.document, row.base + 1)
        faults = 0
    except PolicyInvalid as error:
        faults = len(error.faults)
    return Draft(row.id, row.name, row.document, row.base, row.saved_by, row.saved_at, faults)
