"""Open cases as the people's queues see them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from moderation.domain.cases import CaseState
from moderation.storage.tables import Case


def oldest_open(session: Session) -> dict[str, datetime]:
    """Since when the oldest open case of each queue has waited; a queue is a category, or `other`."""
    queue = func.coalesce(Case.category, "other")
    rows = session.execute(
        select(queue, func.min(Case.opened_at)).where(Case.state == CaseState.OPEN).group_by(queue)
    )
    return dict(rows.all())
