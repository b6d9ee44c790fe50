"""What a reporter weighs, by how often they were right; and how people's verdicts settle reports.

The weight is the posterior mean of a reporter's accuracy under a Beta(1, 3) prior: (1 + upheld) / (4 + settled).
A newcomer weighs 0.25, somebody with 20 upheld reports of 20 weighs 0.88, with none of 20 0.04.

Reporters with a record (at least 5 settled reports, and not worse than a newcomer) count as independent
witnesses: 1 - prod(1 - weight). All others count together, each half as much as the one before, and never more
than 0.5: a brigade of a thousand new accounts weighs twice what one of them does, and less than one reporter
who is usually right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import prod
from uuid import UUID

from sqlalchemy import func, literal, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from moderation.domain.cases import Verdict
from moderation.domain.decisions import DecidedBy
from moderation.review.force import ANY_TIME
from moderation.storage.database import among
from moderation.storage.tables import Decision, Report, Reporter
from moderation.storage.tables.base import Moment

PRIOR_RIGHT, PRIOR_WRONG = 1, 3
RECORD = 5  # settled reports from which on somebody has a record
DAMPING = 0.5
TOGETHER_AT_MOST = 0.5
AT_MOST = 0.95
UPHELD, REJECTED = "upheld", "rejected"


@dataclass(frozen=True, slots=True)
class Witness:
    """What is known of one reporter."""

    upheld: int = 0
    rejected: int = 0

    @property
    def weight(self) -> float:
        """The probability that their next report is right, as their past ones have it."""
        settled = self.upheld + self.rejected
        return (PRIOR_RIGHT + self.upheld) / (PRIOR_RIGHT + PRIOR_WRONG + settled)

    @property
    def has_record(self) -> bool:
        """Whether they count by themselves: often enough settled, and no worse than somebody new."""
        return self.upheld + self.rejected >= RECORD and self.weight >= Witness().weight


def probability(witnesses: Sequence[Witness]) -> float:
    """How probable it is that what these people report breaks a rule."""
    known = [witness.weight for witness in witnesses if witness.has_record]
    others = sorted((witness.weight for witness in witnesses if not witness.has_record), reverse=True)
    together = min(TOGETHER_AT_MOST, sum(w * DAMPING**place for place, w in enumerate(others)))
    return min(AT_MOST, 1 - (1 - together) * prod(1 - weight for weight in known))


def lock(session: Session, item_ids: Sequence[UUID], now: datetime) -> None:
    """Lock whoever reported any of these items, in the order in which everybody does.

    For whoever settles several items in one transaction: one after the other, two of them would wait for each
    other's reporters. Reporters of whom nothing is known yet get their rows, since an insert locks too.
    """
    found = (
        select(Report.client, Report.reporter_digest, literal(0), literal(0), literal(now, Moment))
        .where(among(Report.item_id, item_ids))
        .distinct()
        .order_by(Report.reporter_digest)
    )
    inserted = upsert(Reporter).from_select(["client", "digest", "upheld", "rejected", "last_at"], found)
    session.execute(
        inserted.on_conflict_do_update(
            index_elements=[Reporter.client, Reporter.digest], set_={"last_at": inserted.excluded.last_at}
        ),
        execution_options={"synchronize_session": False},
    )


def resolve(
    session: Session, item_id: UUID, verdict: Verdict, now: datetime, decision_id: UUID | None = None
) -> None:
    """Settle every report of an item by a person's verdict, and learn from it what its reporters weigh.

    Reports settled before are settled anew: a reversal also says who was right.
    """
    outcome = REJECTED if verdict is Verdict.ALLOW else UPHELD
    # In the order of digests, as everybody else locks them.
    rows = session.scalars(
        select(Report)
        .where(Report.item_id == item_id, func.coalesce(Report.outcome, "") != outcome)
        .order_by(Report.reporter_digest)
        .with_for_update()
    ).all()
    for row in rows:
        _count(session, row, outcome, 1, now)
        if row.outcome is not None:
            _count(session, row, row.outcome, -1, now)
        row.outcome, row.settled_by = outcome, decision_id
    session.flush()


def unresolve(session: Session, decision_ids: Sequence[UUID], now: datetime) -> None:
    """Take back what decisions that are undone had settled; what another one settled before holds again."""
    rows = session.scalars(
        select(Report)
        .where(among(Report.settled_by, decision_ids))
        .order_by(Report.reporter_digest)
        .with_for_update()
    ).all()
    for row in rows:
        _count(session, row, str(row.outcome), -1, now)
        row.outcome, row.settled_by = _before(session, row, decision_ids)
        if row.outcome is not None:
            _count(session, row, row.outcome, 1, now)
    session.flush()


def _before(session: Session, row: Report, without: Sequence[UUID]) -> tuple[str | None, UUID | None]:
    """The outcome that a report had by a person's decision before those of `without`."""
    earlier = session.scalar(
        select(Decision)
        .where(Decision.item_id == row.item_id, ANY_TIME, Decision.decided_by == DecidedBy.PERSON)
        .where(Decision.undone_at.is_(None), ~among(Decision.id, without))
        .where(Decision.decided_at >= row.reported_at)
        .order_by(Decision.id.desc())
        .limit(1)
    )
    if earlier is None:
        return None, None
    return (REJECTED if earlier.route == Verdict.ALLOW else UPHELD), earlier.id


def _count(session: Session, row: Report, outcome: str, number: int, now: datetime) -> None:
    column = Reporter.upheld if outcome == UPHELD else Reporter.rejected
    inserted = upsert(Reporter).values(
        client=row.client,
        digest=row.reporter_digest,
        upheld=max(0, number) if outcome == UPHELD else 0,
        rejected=max(0, number) if outcome == REJECTED else 0,
        last_at=now,
    )
    session.execute(
        inserted.on_conflict_do_update(
            index_elements=[Reporter.client, Reporter.digest],
            set_={column.key: func.greatest(column + number, 0), "last_at": now},
        ),
        execution_options={"synchronize_session": False},
    )
