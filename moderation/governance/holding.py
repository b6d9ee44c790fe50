"""What holds at a moment, and how it ends: nothing is decided under a certificate that is void.

Whoever commits decisions holds `LOCK` shared and asks again under it what is in force; whoever voids holds it
alone.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from moderation import metrics
from moderation.domain.policy import Policy
from moderation.domain.promises import Certificate, InForce, Side, Void
from moderation.governance import audit
from moderation.storage.database import after_commit, among
from moderation.storage.tables import CertificateRow

LOCK = 7_203_013
"""Advisory lock of a transaction: shared by whoever commits decisions, alone by whoever ends certificates."""
WATCHED = timedelta(minutes=10)
"""A certificate that nobody has watched for so long does not hold."""


def in_force(session: Session, policy: Policy, now: datetime) -> InForce:
    """What holds at this moment: of this version of the policy, neither void nor expired, and watched lately."""
    rows = session.execute(
        select(
            CertificateRow.id,
            CertificateRow.category,
            CertificateRow.side,
            CertificateRow.slice,
            CertificateRow.lineup,
            CertificateRow.threshold,
            CertificateRow.allowed,
        )
        .where(
            CertificateRow.policy_version == policy.version,
            CertificateRow.voided_at.is_(None),
            CertificateRow.expires_at > now,
            CertificateRow.watched_at > now - WATCHED,
        )
        .order_by(CertificateRow.id)
    )
    return InForce.of(
        Certificate(identifier, category, Side(side), slice_, lineup, threshold, allowed)
        for identifier, category, side, slice_, lineup, threshold, allowed in rows
    )


def void(
    session: Session, ids: Collection[UUID], reason: Void, actor: str, now: datetime
) -> tuple[UUID, ...]:
    """End certificates before their time, at once; those that were still alive.

    Waits for whoever commits decisions at this moment; whoever comes after finds them void.
    """
    if not ids:
        return ()
    session.execute(select(func.pg_advisory_xact_lock(LOCK)))
    voided = tuple(
        sorted(
            session.scalars(
                update(CertificateRow)
                .where(among(CertificateRow.id, sorted(ids)), CertificateRow.voided_at.is_(None))
                .values(voided_at=now, void_reason=str(reason))
                .returning(CertificateRow.id)
                .execution_options(synchronize_session=False)
            )
        )
    )
    events = [
        audit.Event(actor, "certificate.voided", "certificate", str(one), {"reason": str(reason)})
        for one in voided
    ]
    audit.record(session, events, now)
    after_commit(session, lambda: metrics.CERTIFICATES_VOIDED.labels(reason).inc(len(voided)))
    return voided
