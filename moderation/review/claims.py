"""Claims: a case in one person's hands, under a lease and a fencing number that rises with every claim.

`claimed_by` stays when a claim runs out or is given back, so that whoever held it last, and was not replaced, may
still answer. `claim_until` says whether it is alive; it is empty once the claim was given back.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, any_, exists, or_, select, update
from sqlalchemy.orm import Session

from moderation.domain.access import GRANTS, Permission
from moderation.domain.cases import CaseKind, CaseState, Stage
from moderation.domain.errors import Conflict, Forbidden, NotFound
from moderation.domain.policy import Policy
from moderation.governance import audit
from moderation.governance.sessions import PersonPrincipal
from moderation.review.force import ANY_TIME
from moderation.review.listing import claim_of
from moderation.review.views import Claim
from moderation.storage.tables import AuditEvent, Case, Decision, Opinion, Person

LOST = "Somebody else has this case by now; nothing you wrote is lost if you still send it."


def lock(session: Session, case_id: UUID) -> Case:
    """A case, locked and read afresh.

    Raises:
        NotFound: there is none.
    """
    case = session.scalar(
        select(Case).where(Case.id == case_id).with_for_update().execution_options(populate_existing=True)
    )
    if case is None:
        raise NotFound("There is no such case.")
    # Held on to, so that whoever asks for it again in this transaction is given this very row.
    session.info[f"case {case_id}"] = case
    return case


def claim(session: Session, policy: Policy, person: PersonPrincipal, case_id: UUID, now: datetime) -> Claim:
    """Take a given case in hand; a claim that the person holds is kept alive.

    Raises:
        NotFound: there is no such case.
        Forbidden: it asks for somebody with other permissions.
        Conflict: it is closed, in somebody else's hands or kept for them, or the person has had their say.
    """
    case = lock(session, case_id)
    if case.kind == CaseKind.GOLDEN and case.reserved_for != person.person_id:
        raise NotFound("There is no such case.")
    _check_open(case)
    if claim_of(case, person.person_id, now) is not None:
        return renew(session, policy, case, now)
    if case.claim_until is not None and case.claim_until > now:
        raise Conflict("Somebody else has this case in hand; take another one.", code="claimed")
    check_permissions(person, case)
    kept = case.reserved_for not in (None, person.person_id)
    if kept and case.deadline > now and Permission.CASE_ASSIGN not in person.permissions:
        raise Conflict("This case is kept for somebody else; take another one.", code="reserved")
    _check_part(session, person, case, now)
    return take(session, policy, person, case, now)


def lock_open(session: Session, case_id: UUID) -> Case:
    """A case that is open, locked.

    Raises:
        NotFound: there is none.
        Conflict: it is closed.
    """
    case = lock(session, case_id)
    _check_open(case)
    return case


def _check_open(case: Case) -> None:
    if case.state != CaseState.OPEN:
        raise Conflict("This case is closed; what was decided can be reversed or appealed.", code="closed")


def check_permissions(person: PersonPrincipal, case: Case) -> None:
    """Refuse who may not judge a case of this kind, or at this stage.

    Raises:
        Forbidden: a sentence that says who may.
    """
    if case.stage == Stage.ADJUDICATION and Permission.CASE_ADJUDICATE not in person.permissions:
        raise Forbidden("This case is to be settled by a lead.")
    if case.kind == CaseKind.APPEAL and Permission.APPEAL_DECIDE not in person.permissions:
        raise Forbidden("Your roles don't decide appeals; take another case.")


def _check_part(session: Session, person: PersonPrincipal, case: Case, now: datetime) -> None:
    """Nobody judges a case twice, and nobody checks what they had a part in.

    But a case must not wait for ever for a lead who doesn't exist: see `may_settle_own`.
    """
    if has_judged(session, person.person_id, case) and not may_settle_own(session, person, case, now):
        raise Conflict(
            "You have judged this case already; somebody else is asked now.", code="judged_already"
        )
    if had_part(session, person.person_id, case):
        raise Conflict("You had a part in what this case checks; take another one.", code="own_decision")


def has_judged(session: Session, person_id: UUID, case: Case) -> bool:
    """Whether somebody gave an opinion on this case that counts."""
    mine = exists().where(
        Opinion.case_id == case.id, Opinion.person_id == person_id, Opinion.undone_at.is_(None)
    )
    return bool(session.scalar(select(mine)))


def once_held(session: Session, person: PersonPrincipal, case: Case) -> bool:
    """Whether somebody ever had this case in hand: the audit log remembers it when the case does not."""
    claimed = exists().where(
        AuditEvent.subject_id == str(case.id),
        AuditEvent.action == "case.claimed",
        AuditEvent.actor == person.actor,
    )
    return bool(session.scalar(select(claimed)))


def had_part(session: Session, person_id: UUID, case: Case) -> bool:
    """Whether a case checks or answers something that this person decided, or judged in another case."""
    if case.kind not in (CaseKind.APPEAL, CaseKind.QUALITY):
        return False
    judged = exists().where(
        Opinion.item_id == case.item_id,
        Opinion.case_id != case.id,
        Opinion.person_id == person_id,
        Opinion.undone_at.is_(None),
    )
    made = exists().where(
        Decision.item_id == case.item_id,
        ANY_TIME,
        Decision.person_id == person_id,
        Decision.undone_at.is_(None),
    )
    return bool(session.scalar(select(or_(judged, made))))


def may_settle_own(session: Session, person: PersonPrincipal, case: Case, now: datetime) -> bool:
    """Whether an adjudicator may settle a case that they judged before: past its deadline, or if nobody else could.

    Their opinion is then on record as `own_conflict`.
    """
    if case.stage != Stage.ADJUDICATION or Permission.CASE_ADJUDICATE not in person.permissions:
        return False
    return case.deadline <= now or adjudicates_alone(session, person)


def adjudicates_alone(session: Session, person: PersonPrincipal) -> bool:
    """Whether nobody but this person settles cases here."""
    roles = [role for role, granted in GRANTS.items() if Permission.CASE_ADJUDICATE in granted]
    others = exists().where(
        Person.id != person.person_id,
        Person.disabled_at.is_(None),
        or_(*(any_(Person.roles) == role for role in roles)),
    )
    return Permission.CASE_ADJUDICATE in person.permissions and not session.scalar(select(others))


def take(session: Session, policy: Policy, person: PersonPrincipal, case: Case, now: datetime) -> Claim:
    """Put a locked case into somebody's hands, under the next number."""
    case.claimed_by, case.claimed_at = person.person_id, now
    case.claim_number += 1
    audit.record(session, [audit.Event(person.actor, "case.claimed", "case", str(case.id))], now)
    return renew(session, policy, case, now)


def renew(session: Session, policy: Policy, case: Case, now: datetime) -> Claim:
    """Keep the claim on a locked case for another while, under its number."""
    case.claim_until = now + timedelta(minutes=policy.review.claim_minutes)
    session.flush()
    return Claim(case.id, case.claim_number, case.claim_until)


def heartbeat(
    session: Session, person: PersonPrincipal, case_id: UUID, number: int, now: datetime, policy: Policy
) -> datetime:
    """A sign of life: until when the case is now kept.

    Raises:
        Conflict: the claim was given back, or somebody else has the case by now (`claim_lost`).
    """
    until = now + timedelta(minutes=policy.review.claim_minutes)
    kept = session.scalars(
        update(Case)
        .where(*_not_let_go(person, case_id, number))
        .values(claim_until=until)
        .returning(Case.id)
        .execution_options(synchronize_session=False)
    ).all()
    if not kept:
        raise Conflict(LOST, code="claim_lost")
    return until


def _not_let_go(person: PersonPrincipal, case_id: UUID, number: int) -> list[ColumnElement[bool]]:
    """The case, if nobody has taken it since and it was not given back."""
    return [
        Case.id == case_id,
        Case.state == CaseState.OPEN,
        Case.claimed_by == person.person_id,
        Case.claim_number == number,
        Case.claim_until.is_not(None),
    ]


def release(session: Session, person: PersonPrincipal, case_id: UUID, number: int, now: datetime) -> None:
    """Give a case back; nothing happens if it is not in the person's hands any more."""
    given_back = session.scalars(
        update(Case)
        .where(*_not_let_go(person, case_id, number))
        .values(claim_until=None)
        .returning(Case.id)
        .execution_options(synchronize_session="fetch")
    ).all()
    if given_back:
        audit.record(session, [audit.Event(person.actor, "case.released", "case", str(case_id))], now)


def held(session: Session, person: PersonPrincipal, case_id: UUID, number: int) -> Case:
    """A case that is still in the person's hands under this number, locked.

    Raises:
        NotFound: there is none.
        Conflict: it is closed, or somebody else has it by now (`claim_lost`).
    """
    case = lock(session, case_id)
    if not holds(case, person, number):
        raise Conflict(LOST, code="claim_lost")
    return case


def holds(case: Case, person: PersonPrincipal, number: int) -> bool:
    """Whether the person held the case last, under this number, and nobody has taken it since."""
    return (
        case.state == CaseState.OPEN and case.claimed_by == person.person_id and case.claim_number == number
    )


def let_go(case: Case) -> None:
    """Take a locked case out of everybody's hands: whoever held it is too late from now on."""
    case.claimed_by = case.claimed_at = case.claim_until = None


def close(session: Session, case: Case, now: datetime) -> None:
    """Close a locked case."""
    case.state, case.closed_at, case.claim_until = CaseState.CLOSED, now, None
    session.flush()
