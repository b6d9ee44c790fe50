"""What people write down of a case: under the item's key, so that it ends with the item."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy.orm import Session

from moderation.domain import content
from moderation.domain.cases import CaseKind, CaseReason, CaseState
from moderation.domain.errors import Gone
from moderation.governance.sessions import PersonPrincipal
from moderation.review.opening import OTHER_QUEUE, primary
from moderation.storage.ids import new_id
from moderation.storage.tables import Case, CaseNote, Decision, Item
from moderation.storage.vault import Vault

LENGTH = 2000


class NoteKind(StrEnum):
    """On what occasion it was written."""

    NOTE = "note"
    ESCALATION = "escalation"
    HAND_OVER = "hand_over"
    CONTEST = "contest"


def place(note_id: UUID) -> tuple[str, str, str]:
    """Where a note lives, for its encryption under the item's key."""
    return ("case_notes", "text", str(note_id))


def add(
    session: Session,
    vault: Vault,
    person: PersonPrincipal,
    case: Case,
    kind: NoteKind,
    text: str | None,
    now: datetime,
) -> UUID | None:
    """Write a note down; nothing if there is no text.

    Raises:
        InvalidInput: it is too long, or can't be stored.
        Gone: the item has ended, and with it whatever was written of it.
    """
    text = (text or "").strip()
    if not text:
        return None
    content.checked_text(text, "The note", LENGTH)
    key = vault.item_keys([case.item_id]).get(case.item_id)
    if key is None:
        raise Gone("The item has ended; no note of it is kept any more.")
    identifier = new_id(now)
    session.add(
        CaseNote(
            id=identifier,
            case_id=case.id,
            item_id=case.item_id,
            author_id=case.author_id,
            person_id=person.person_id,
            kind=kind,
            text=key.encrypt(text.encode(), *place(identifier)),
            at=now,
        )
    )
    session.flush()
    return identifier


def add_to_item(
    session: Session,
    vault: Vault,
    person: PersonPrincipal,
    item: Item,
    decision: Decision,
    text: str,
    now: datetime,
) -> None:
    """Write down why a decision was reversed: in its case, or in one that is closed as it is opened."""
    case = session.get(Case, decision.case_id) if decision.case_id else None
    if case is None:
        case = Case(
            id=new_id(now),
            item_id=item.id,
            author_id=item.author_id,
            client=item.client,
            decision_id=decision.id,
            kind=CaseKind.QUALITY,
            reason=CaseReason.REQUESTED,
            queue=decision.category or OTHER_QUEUE,
            category=decision.category,
            language=primary(item.language),
            severity=1,
            priority=0.0,
            deadline=now,
            state=CaseState.CLOSED,
            opened_at=now,
            closed_at=now,
        )
        session.add(case)
        session.flush()
    add(session, vault, person, case, NoteKind.NOTE, text, now)
