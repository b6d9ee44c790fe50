"""The queues as everybody above uses them: what comes next, whose hands it is in, and how it leaves them again.

`open_case` lives in `opening`, which whatever lies below this module uses; claims in `claims`, lists in `listing`.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from moderation.domain.access import Permission, granted
from moderation.domain.cases import CaseKind, Stage
from moderation.domain.errors import Forbidden, InvalidInput, NotFound
from moderation.governance import audit
from moderation.governance.sessions import PersonPrincipal
from moderation.review import claims, notes, wellness
from moderation.review.claims import claim, heartbeat, release
from moderation.review.listing import Filter, listing, missed, oldest_open, queues, view
from moderation.review.next import next_case
from moderation.review.notes import NoteKind
from moderation.review.opening import open_case
from moderation.review.views import CaseRow, Claim, QueueState
from moderation.storage.tables import Case, CaseSkip, Person
from moderation.storage.vault import Vault

__all__ = ["SKIP_REASONS", "CaseRow", "Claim", "Filter", "QueueState", "add_note", "claim", "escalate", "hand_over",
           "heartbeat", "listing", "missed", "next_case", "oldest_open", "open_case", "queues", "release", "skip",
           "view"]  # fmt: skip

DISTRESS = "distress"
SKIP_REASONS = ("unsure", "language", "conflict_of_interest", DISTRESS)


def skip(
    session: Session, person: PersonPrincipal, case_id: UUID, number: int, reason: str | None, now: datetime
) -> None:
    """Pass a case on; the person is not given it again. A skip for distress keeps no reason.

    Raises:
        NotFound: there is no such case.
        InvalidInput: no reason of ours.
    """
    if reason is not None and reason not in SKIP_REASONS:
        raise InvalidInput(f"A reason to skip is one of {', '.join(SKIP_REASONS)}, or none.")
    case = claims.lock(session, case_id)
    values = {
        "case_id": case_id,
        "person_id": person.person_id,
        "reason": None if reason == DISTRESS else reason,
        "at": now,
    }
    session.execute(upsert(CaseSkip).values(values).on_conflict_do_nothing())
    if claims.holds(case, person, number):
        _leave(session, case, now)
    audit.record(session, [audit.Event(person.actor, "case.skipped", "case", str(case_id))], now)


def _leave(session: Session, case: Case, now: datetime) -> None:
    case.claim_until = None
    # It was for this person alone.
    if case.kind == CaseKind.GOLDEN:
        claims.close(session, case, now)
    elif case.reserved_for == case.claimed_by:
        case.reserved_for = None
    session.flush()


def escalate(
    session: Session,
    vault: Vault,
    person: PersonPrincipal,
    case_id: UUID,
    number: int,
    note: str,
    now: datetime,
) -> None:
    """Put a case before somebody who settles it.

    Raises:
        NotFound: there is no such case.
        Conflict: it is not in the person's hands any more (`claim_lost`).
        InvalidInput: the note can't be stored.
        Gone: the item has ended.
    """
    case = claims.held(session, person, case_id, number)
    notes.add(session, vault, person, case, NoteKind.ESCALATION, note, now)
    claims.let_go(case)
    if case.kind == CaseKind.GOLDEN:
        claims.close(session, case, now)
    else:
        case.stage, case.reserved_for = Stage.ADJUDICATION, None
    session.flush()
    audit.record(session, [audit.Event(person.actor, "case.escalated", "case", str(case_id))], now)


def hand_over(
    session: Session,
    vault: Vault,
    person: PersonPrincipal,
    case_id: UUID,
    number: int | None,
    to: UUID,
    note: str | None,
    now: datetime,
) -> None:
    """Keep a case for somebody else. Without a number it is taken out of whosever hands it is in, by a lead.

    Raises:
        NotFound: there is no such case, or no such person.
        Forbidden: only a lead takes a case from others.
        Conflict: it is closed, or not in the person's hands any more (`claim_lost`).
        InvalidInput: whom it is for can't judge it, or the note can't be stored.
        Gone: the item has ended.
    """
    if number is not None:
        case = claims.held(session, person, case_id, number)
    elif Permission.CASE_ASSIGN in person.permissions:
        case = claims.lock_open(session, case_id)
    else:
        raise Forbidden("Only a lead hands over what somebody else has; claim the case first.")
    _check_receiver(session, case, to)
    notes.add(session, vault, person, case, NoteKind.HAND_OVER, note, now)
    claims.let_go(case)
    # A golden case ends here: a refusal would tell what it is.
    if case.kind == CaseKind.GOLDEN:
        claims.close(session, case, now)
    else:
        case.reserved_for = to
    session.flush()
    event = audit.Event(person.actor, "case.handed_over", "case", str(case_id), {"to": str(to)})
    audit.record(session, [event], now)


def _check_receiver(session: Session, case: Case, to: UUID) -> None:
    receiver = session.get(Person, to)
    if receiver is None or receiver.disabled_at is not None:
        raise NotFound("There is nobody with this id who could take the case.")
    settles = case.stage != Stage.ADJUDICATION or Permission.CASE_ADJUDICATE in granted(receiver.roles)
    if Permission.CASE_DECIDE not in granted(receiver.roles) or not settles:
        raise InvalidInput("Their roles don't judge this case; hand it to somebody else.")
    if claims.has_judged(session, to, case):
        raise InvalidInput("They have judged this case already; hand it to somebody else.")
    if claims.had_part(session, to, case):
        raise InvalidInput("They had a part in what this case checks; hand it to somebody else.")


def add_note(
    session: Session, vault: Vault, person: PersonPrincipal, case_id: UUID, text: str, now: datetime
) -> None:
    """Write something down of a case.

    Raises:
        NotFound: there is no such case.
        InvalidInput: there is no text, or it can't be stored.
        Gone: the item has ended.
    """
    case = wellness.visible(session, person, case_id)
    if notes.add(session, vault, person, case, NoteKind.NOTE, text, now) is None:
        raise InvalidInput("The note is empty; write something, or leave it out.")
    audit.record(session, [audit.Event(person.actor, "case.noted", "case", str(case_id))], now)
