"""Signed reports: what the audit log says of a period, counted, in canonical JSON, under our signature.

Every number is made from events of the period and from nothing that changes afterwards, so that a report made
again is the same byte for byte. What the log does not say by itself, how much is kept and how much is overdue,
is measured once a day and written into it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from moderation.domain.errors import InvalidInput, NotFound, Unavailable
from moderation.domain.reporting import Owed, Period, ReportKind, Schedule, owed
from moderation.governance import audit, report_counts, signing
from moderation.storage.ids import new_id
from moderation.storage.tables import PolicyRow, SignedReport
from moderation.storage.vault import Vault

PURPOSE = "moderation signed report"
LISTED = 200
_LOCK = 7_203_007
_COUNT = {
    ReportKind.AUDIT: report_counts.audited,
    ReportKind.RETENTION: report_counts.retained,
    ReportKind.ACCESS: report_counts.accessed,
}


@dataclass(frozen=True, slots=True)
class Report:
    """A report as it was made. `document` is what the signature is over."""

    id: UUID
    kind: ReportKind
    period: Period
    made_at: datetime
    made_by: str
    document: str
    signature: str

    @property
    def counts(self) -> Mapping[str, Any]:
        """The document, read."""
        read: dict[str, Any] = json.loads(self.document)
        return read

    @property
    def sha256(self) -> str:
        """The hash of the document."""
        return hashlib.sha256(self.document.encode()).hexdigest()


def counted(session: Session, kind: ReportKind, period: Period) -> bytes:
    """The document of a report: the same bytes whenever it is made.

    Raises:
        Unavailable: the log of the period is not yet under a signed checkpoint.
    """
    return signing.canonical(
        {
            "report": kind,
            "since": period.since.isoformat(),
            "until": period.until.isoformat(),
            **_COUNT[kind](session, period),
        }
    )


def make(session: Session, vault: Vault, kind: ReportKind, period: Period, by: str, now: datetime) -> Report:
    """Make, sign and keep a report; the one there is, if it was made before.

    Raises:
        InvalidInput: the period is not over.
        Unavailable: the log of the period is not yet under a signed checkpoint.
    """
    session.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    if period.until > now:
        raise InvalidInput("This period is not over; a report is made afterwards.")
    known = session.scalar(
        select(SignedReport).where(SignedReport.kind == kind, SignedReport.since == period.since)
    )
    if known is not None:
        return _report(known)
    document = counted(session, kind, period)
    row = SignedReport(
        id=new_id(now),
        kind=str(kind),
        since=period.since,
        until=period.until,
        made_at=now,
        made_by=by,
        document=document.decode(),
        signature=signing.sign(vault, PURPOSE, document),
    )
    session.add(row)
    session.flush()
    made = _report(row)
    details = {"kind": str(kind), "since": period.since.isoformat(), "sha256": made.sha256}
    audit.record(session, [audit.Event(by, "report.signed", "report", str(row.id), details)], now)
    return made


def make_next(session: Session, vault: Vault, schedule: Schedule, by: str, now: datetime) -> Report | None:
    """Make the oldest report that is owed; None if none is, or if the log is not ready for any of them."""
    for one in outstanding(session, schedule, now):
        try:
            return make(session, vault, one.kind, one.period, by, now)
        except Unavailable:
            continue
    return None


def outstanding(session: Session, schedule: Schedule, now: datetime) -> Sequence[Owed]:
    """The reports that are owed and not made, the oldest first."""
    begun = session.scalar(select(func.min(PolicyRow.published_at)))
    if begun is None:
        return []
    made = [
        (ReportKind(kind), Period(since, until))
        for kind, since, until in session.execute(
            select(SignedReport.kind, SignedReport.since, SignedReport.until)
        )
    ]
    return owed(schedule, begun, made, now)


def listing(session: Session) -> Sequence[Report]:
    """The reports there are, the newest period first."""
    rows = session.scalars(
        select(SignedReport).order_by(SignedReport.since.desc(), SignedReport.kind).limit(LISTED)
    )
    return [_report(row) for row in rows]


def load(session: Session, report_id: UUID) -> Report:
    """A report.

    Raises:
        NotFound: there is no such report.
    """
    row = session.get(SignedReport, report_id)
    if row is None:
        raise NotFound("There is no such report; `moderation reports list` shows which there are.")
    return _report(row)


def envelope(report: Report, public_key: str) -> str:
    """A report as a file: the document, its signature, and the key that checks it."""
    held = {"document": report.document, "signature": report.signature, "public_key": public_key}
    return json.dumps({"purpose": PURPOSE, **held}, indent=2) + "\n"


def opened(held: object) -> Report:
    """The report in what `envelope` wrote, with the id it never had.

    Raises:
        InvalidInput: that is none.
    """
    try:
        if not isinstance(held, dict):
            raise TypeError
        document = json.loads(held["document"])
        period = Period(datetime.fromisoformat(document["since"]), datetime.fromisoformat(document["until"]))
        kind = ReportKind(document["report"])
        return Report(UUID(int=0), kind, period, period.until, "", held["document"], held["signature"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput("That is no signed report; `moderation reports show` writes one.") from error


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of checking a report: `again` is None where there is nothing to count anew."""

    signed: bool
    again: bool | None


def check(session: Session, vault: Vault, report: Report) -> Checked:
    """Whether the signature is ours, and whether the log still says the same."""
    signed = signing.verify(signing.public_key(vault), PURPOSE, report.document.encode(), report.signature)
    try:
        again = counted(session, report.kind, report.period) == report.document.encode()
    except Unavailable:
        again = None
    return Checked(signed, again)


def _report(row: SignedReport) -> Report:
    return Report(
        id=row.id,
        kind=ReportKind(row.kind),
        period=Period(row.since, row.until),
        made_at=row.made_at,
        made_by=row.made_by,
        document=row.document,
        signature=row.signature,
    )
