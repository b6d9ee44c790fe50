"""What a decision keeps of what it is about, as the content ends first: its kinds, and how it was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation.domain.cases import CaseKind, CaseReason
from moderation.domain.statements import Source
from moderation.review.appealed import AppealState, By
from moderation.storage.database import among
from moderation.storage.tables import Appeal, Case, Decision, Part, Report


def kinds_of(session: Session, ids: Sequence[UUID]) -> Mapping[UUID, set[str]]:
    """Which kinds of parts were posted with each of these items; one query for all."""
    found: dict[UUID, set[str]] = {item: set() for item in ids}
    posted = select(Part.item_id, Part.kind).where(among(Part.item_id, ids), Part.derived_from.is_(None))
    rows = session.execute(posted.distinct())
    for item, kind in rows:
        found[item].add(kind)
    return found


def kept_kinds(session: Session, former: Decision | None, item_id: UUID) -> list[str]:
    """The kinds of an item's parts: as the decision before kept them, or as the parts still say."""
    if former is not None and former.content_types:
        return list(former.content_types)
    return sorted(kinds_of(session, [item_id])[item_id])


def source_of(session: Session, case: Case | None, former: Decision | None) -> Source:
    """How what a person decides now was found: by a user's report, or by ourselves.

    A review counts as reported if a report opened its case. An appeal or a check takes over what was true of the
    decision it looks at, but that a reporter who appeals is the one who found it.
    """
    inherited = Source(former.source) if former is not None and former.source else Source.OWN
    if case is None:
        return inherited
    if case.kind == CaseKind.APPEAL:
        appealed = session.scalars(select(Appeal.by).where(Appeal.id == case.appeal_id)).first()
        return Source.REPORT if appealed == By.REPORTER else inherited
    if case.kind != CaseKind.REVIEW:
        return inherited
    reported = select(Report.id).where(
        Report.item_id == case.item_id, Report.case_id == case.id, Report.reported_at <= case.opened_at
    )
    if case.reason == CaseReason.REPORT or session.scalars(reported.limit(1)).first() is not None:
        return Source.REPORT
    return Source.OWN


def is_appealed(session: Session, item_id: UUID) -> bool:
    """Whether somebody waits for a person to look again."""
    waiting = select(Appeal.id).where(Appeal.item_id == item_id, Appeal.state == AppealState.OPEN)
    return session.scalars(waiting.limit(1)).first() is not None
