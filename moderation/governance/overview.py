"""What governance owes at the moment: of every duty how much is open, what is overdue, what is due next.

Numbers without content, each from one small query; a count stops at `MOST`, so that none reads a whole table.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from moderation.domain.access import Permission
from moderation.domain.reporting import Schedule
from moderation.governance import policies, reports
from moderation.storage.ids import lower_bound
from moderation.storage.tables import (
    AuditCheckpoint,
    AuditEvent,
    Decision,
    Disclosure,
    Erasure,
    Hold,
    Incident,
    Item,
    MinorCheck,
    Partner,
    PartnerItem,
    Preservation,
    SignedReport,
    StatementDelivery,
    SubjectRequest,
)

MOST = 100_000
SWEPT_WITHIN = timedelta(hours=1)  # of the end of their time


@dataclass(frozen=True, slots=True)
class Duty:
    """One duty: the number that matters and what it counts; `overdue` of them should have been done by now."""

    count: int
    counts: str
    overdue: int = 0
    next_due: datetime | None = None
    note: str = ""


def duties(
    session: Session, now: datetime, allowed: Collection[Permission], schedule: Schedule
) -> dict[str, Duty]:
    """Every duty that somebody with these permissions may see, by its name, in the order of the page."""
    found = {
        name: count(session, now) for name, (permission, count) in DUTIES.items() if permission in allowed
    }
    if Permission.GOVERNANCE_READ in allowed:
        found["reports"] = _reports(session, schedule, now)
    return found


def _reports(session: Session, schedule: Schedule, now: datetime) -> Duty:
    owed = reports.outstanding(session, schedule, now)
    late = sum(one.overdue for one in owed)
    made = _many(session, SignedReport.id.is_not(None))
    note = "none is scheduled" if schedule is Schedule.OFF else f"{len(owed):,} to be made" if owed else ""
    return Duty(made, "signed", late, note=note)


def _policy(session: Session, now: datetime) -> Duty:
    coming = policies.announced(session, now)
    version, _ = policies.document_in_force(session, now)
    next_due = coming[0].effective_at if coming else None
    note = f"version {coming[0].version} is announced" if coming else ""
    return Duty(version, "is the version in force", next_due=next_due, note=note)


def _many(session: Session, *conditions: ColumnElement[bool]) -> int:
    """How many rows fit, up to `MOST`."""
    few = select(1).where(*conditions).limit(MOST).subquery()
    return session.scalar(select(func.count()).select_from(few)) or 0


def _deadlines(
    session: Session, counts: str, due: InstrumentedAttribute[Any], now: datetime, *open_: ColumnElement[bool]
) -> Duty:
    """What is open, by one deadline."""
    count = func.count()
    row = session.execute(
        select(
            count,
            count.filter(due < now),
            func.min(due).filter(due >= now),
        ).where(*open_)
    ).one()
    return Duty(row[0], counts, row[1], row[2])


def _retention(session: Session, now: datetime) -> Duty:
    kept = Item.destroyed_at.is_(None)
    # What a hold keeps is not late.
    ended = _many(session, kept, Item.expires_at <= now, Item.holds == 0)
    late = _many(session, kept, Item.expires_at <= now - SWEPT_WITHIN, Item.holds == 0)
    next_due = session.scalar(select(func.min(Item.expires_at)).where(kept, Item.expires_at > now))
    return Duty(ended, "past their time, hidden, not destroyed yet", late, next_due)


def _erasures(session: Session, _: datetime) -> Duty:
    row = session.execute(
        select(func.count(), func.count().filter(Erasure.state == "held")).where(
            Erasure.completed_at.is_(None)
        )
    ).one()
    held = f"{row[1]:,} kept back by a hold" if row[1] else ""
    return Duty(row[0], "under way", note=held)


def _requests(session: Session, now: datetime) -> Duty:
    return _deadlines(session, "open", SubjectRequest.due_at, now, SubjectRequest.state == "open")


def _minors(session: Session, now: datetime) -> Duty:
    return _deadlines(session, "to be looked at", MinorCheck.deadline, now, MinorCheck.state == "suspected")


def _holds(session: Session, now: datetime) -> Duty:
    active = _deadlines(session, "active", Hold.review_at, now, Hold.state == "active")
    asked = _many(session, Hold.state == "requested")
    note = f"{asked:,} to be approved by a second person" if asked else ""
    return Duty(active.count, active.counts, active.overdue, active.next_due, note)


def _preservations(session: Session, now: datetime) -> Duty:
    kept = _deadlines(
        session, "under seal", Preservation.keep_until, now, Preservation.destroyed_at.is_(None)
    )
    return Duty(kept.count, kept.counts, kept.overdue, kept.next_due)


def _disclosures(session: Session, _: datetime) -> Duty:
    row = session.execute(
        select(
            func.count().filter(Disclosure.state == "requested"),
            func.count().filter(Disclosure.state == "approved"),
        )
    ).one()
    note = f"{row[1]:,} approved and not handed over" if row[1] else ""
    return Duty(row[0], "to be approved by a second person", note=note)


def _incidents(session: Session, now: datetime) -> Duty:
    untold = and_(Incident.closed_at.is_(None), Incident.authority_told_at.is_(None))
    clock = _deadlines(session, "", Incident.notify_by, now, untold)
    opened = _many(session, Incident.closed_at.is_(None))
    return Duty(opened, "open", clock.overdue, clock.next_due)


def _partners(session: Session, now: datetime) -> Duty:
    working = _deadlines(
        session, "", Partner.expires_at, now, Partner.revoked_at.is_(None), Partner.expires_at >= now
    )
    owed = _many(session, PartnerItem.deleted_at.is_not(None), PartnerItem.acknowledged_at.is_(None))
    note = f"{owed:,} deletions they have not acknowledged" if owed else ""
    return Duty(working.count, "with access", 0, working.next_due, note)


def _statements(session: Session, _: datetime) -> Duty:
    open_ = or_(StatementDelivery.state == "pending", StatementDelivery.state == "refused")
    row = session.execute(
        select(func.count(), func.count().filter(StatementDelivery.state == "refused")).where(open_)
    ).one()
    note = f"{row[1]:,} refused by the database" if row[1] else ""
    return Duty(row[0] - row[1], "waiting to be sent", row[1], note=note)


def _transparency(session: Session, now: datetime) -> Duty:
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return Duty(_many(session, Decision.id >= lower_bound(month)), "decided this month")


def _audit(session: Session, _: datetime) -> Duty:
    size = session.scalar(select(func.max(AuditEvent.leaf_index)))
    waiting = _many(session, AuditEvent.leaf_index.is_(None))
    signed = session.scalar(select(func.max(AuditCheckpoint.size))) or 0
    total = 0 if size is None else size + 1
    note = f"{signed:,} under a signed checkpoint" if signed else "no checkpoint is signed yet"
    return Duty(total + waiting, "in the log", note=note)


DUTIES: Mapping[str, tuple[Permission, Callable[[Session, datetime], Duty]]] = {
    "retention": (Permission.GOVERNANCE_READ, _retention),
    "erasures": (Permission.GOVERNANCE_READ, _erasures),
    "requests": (Permission.SUBJECT_READ, _requests),
    "minors": (Permission.MINOR_READ, _minors),
    "holds": (Permission.HOLD_READ, _holds),
    "preservations": (Permission.HOLD_READ, _preservations),
    "disclosures": (Permission.HOLD_READ, _disclosures),
    "incidents": (Permission.INCIDENT_READ, _incidents),
    "partners": (Permission.PARTNER_READ, _partners),
    "statements": (Permission.TRANSPARENCY_READ, _statements),
    "transparency": (Permission.TRANSPARENCY_READ, _transparency),
    "audit": (Permission.AUDIT_READ, _audit),
    "policy": (Permission.POLICY_READ, _policy),
}
