"""Reducing exposure: how much of what is grave one person is shown, counted and capped.

Blur and greyscale alone were found not to reduce harm, so what is grave stays hidden until somebody asks for it,
each asking is on the record, a day has a cap, and after a run of grave cases another queue comes first. Why
somebody skips a case or wants no more of a category is asked of nobody and kept nowhere.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, time, timedelta
from uuid import UUID

from sqlalchemy import Select, delete, select
from sqlalchemy.orm import Session

from moderation.domain.cases import CaseKind
from moderation.domain.errors import InvalidInput, NotFound, TooManyRequests
from moderation.domain.policy import Policy
from moderation.governance import audit
from moderation.governance.sessions import PersonPrincipal
from moderation.review.views import CaseRow
from moderation.storage.ids import new_id
from moderation.storage.tables import Case, Exposure, Person

OPENED, REVEALED = "case", "reveal"
# A run of grave cases ends with the shift: whoever comes back tomorrow starts anew.
RUN_ENDS = timedelta(hours=4)
KEPT = timedelta(days=2)


def is_grave(policy: Policy, severity: int) -> bool:
    """Whether content of this severity stays hidden until it is asked for."""
    return severity >= policy.review.exposure.from_severity


def opened(session: Session, person: PersonPrincipal, case: Case | CaseRow, now: datetime) -> None:
    """Count that a person opened a case. Looking at the same case again counts once."""
    last = session.scalars(_openings(person.person_id, now).limit(1)).first()
    if last is not None and last.case_id == case.id:
        return
    session.add(_exposure(OPENED, person, case, now))
    session.flush()
    if last is None:
        # A shift begins. What no cap and no rotation counts any more is nobody's business.
        session.execute(
            delete(Exposure).where(Exposure.person_id == person.person_id, Exposure.at < now - KEPT)
        )


def rotation(session: Session, policy: Policy, person: PersonPrincipal, now: datetime) -> bool:
    """Whether the person has seen so many grave cases in a row that something else comes first."""
    most = int(policy.review.exposure.in_a_row)
    run = session.scalars(_openings(person.person_id, now).limit(most)).all()
    return len(run) == most and all(is_grave(policy, one.severity) for one in run)


def visible(session: Session, person: PersonPrincipal, case_id: UUID) -> Case:
    """A case that the person may look at.

    Raises:
        NotFound: there is none, or it is a golden one meant for somebody else.
    """
    case = session.get(Case, case_id)
    if case is None or (case.kind == CaseKind.GOLDEN and case.reserved_for != person.person_id):
        raise NotFound("There is no such case.")
    return case


def reveal(
    session: Session, policy: Policy, person: PersonPrincipal, case_id: UUID, part: str | None, now: datetime
) -> None:
    """Record that a person asks to see a case's content as it is. Asking again on the same day counts once.

    Raises:
        NotFound: there is no such case.
        TooManyRequests: the person has revealed as much today as the policy allows.
    """
    case = visible(session, person, case_id)
    if is_revealed(session, person, case_id, now):
        return
    # One at a time: two requests at once must not both find room under the cap.
    session.execute(select(Person.id).where(Person.id == person.person_id).with_for_update())
    most = int(policy.review.exposure.reveals_a_day)
    if len(revealed(session, person, now)) >= most:
        raise TooManyRequests(
            f"You have revealed {most} cases today, which is the most; decide on what you see, or skip this one.",
            retry_after=(_midnight(now) + timedelta(days=1) - now).total_seconds(),
            code="reveals_used_up",
        )
    session.add(_exposure(REVEALED, person, case, now))
    session.flush()
    details = {"item": str(case.item_id), "part": part}
    audit.record(session, [audit.Event(person.actor, "media.revealed", "case", str(case_id), details)], now)


def is_revealed(session: Session, person: PersonPrincipal, case_id: UUID, now: datetime) -> bool:
    """Whether the person has asked today to see this case's content as it is."""
    return case_id in revealed(session, person, now)


def revealed(session: Session, person: PersonPrincipal, now: datetime) -> set[UUID]:
    """The cases that the person has revealed since midnight, UTC."""
    rows = session.scalars(
        select(Exposure.case_id).where(
            Exposure.person_id == person.person_id, Exposure.kind == REVEALED, Exposure.at >= _midnight(now)
        )
    )
    return set(rows)


def opt_out(
    session: Session, policy: Policy, person: PersonPrincipal, categories: Collection[str], now: datetime
) -> None:
    """Set which categories a person is not dealt. No reason is asked, and the audit log names none of them.

    Raises:
        InvalidInput: a category the policy doesn't have.
    """
    if not set(categories) <= set(policy.categories):
        raise InvalidInput("One of these is no category of the policy; load the page again.")
    row = session.get_one(Person, person.person_id)
    wanted = sorted(set(categories))
    if row.opt_outs != wanted:
        row.opt_outs = wanted
        event = audit.Event(person.actor, "person.opt_outs_changed", "person", str(person.person_id))
        audit.record(session, [event], now)


def _openings(person_id: UUID, now: datetime) -> Select[Exposure]:
    return (
        select(Exposure)
        .where(Exposure.person_id == person_id, Exposure.kind == OPENED, Exposure.at > now - RUN_ENDS)
        .order_by(Exposure.at.desc(), Exposure.id.desc())
    )


def _midnight(now: datetime) -> datetime:
    return datetime.combine(now.astimezone(UTC).date(), time(), UTC)


def _exposure(kind: str, person: PersonPrincipal, case: Case | CaseRow, now: datetime) -> Exposure:
    return Exposure(
        id=new_id(now),
        person_id=person.person_id,
        case_id=case.id,
        kind=kind,
        severity=case.severity,
        category=case.category,
        at=now,
    )
