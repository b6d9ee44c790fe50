"""What the law has kept: content of the gravest categories, in a restricted state until its floor has passed.

Restricted content is hidden from everybody but the legal role. Nobody has to remember to end it: its floor is its
expiry, and the next sweep after it destroys it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import exists, func, or_, select, update
from sqlalchemy.orm import Session

from moderation.domain import retention
from moderation.domain.cases import CaseState
from moderation.domain.erasing import Cause
from moderation.domain.retention import Retention
from moderation.governance import policies
from moderation.governance.erasing.ending import Of
from moderation.storage.database import among
from moderation.storage.tables import Case, Decision, Item, Preservation


@dataclass(frozen=True, slots=True)
class Restricted:
    """An item that the law has kept: as which class, on which ground, until when."""

    item_id: UUID
    kept_as: str
    basis: str
    until: datetime


def rules(session: Session, now: datetime) -> Retention:
    """The retention of the policy in force."""
    version, document = policies.document_in_force(session, now)[:2]
    return policies.read(document, version).retention


def of(session: Session, which: Of, classes: Retention, now: datetime) -> Iterator[Restricted]:
    """Those items that a floor of the law keeps beyond `now`: decided so, or still before people for it.

    Of a minor whose account was sealed into a preservation package, that is the evidence, and nothing else is kept.
    """
    if not classes.grave:
        return
    graves = list(classes.grave)
    outcome = exists().where(
        Decision.item_id == Item.id,
        Decision.superseded_at.is_(None),
        Decision.route != "allow",
        Decision.category.in_(graves),
    )
    asked = exists().where(Case.item_id == Item.id, Case.state == CaseState.OPEN, Case.category.in_(graves))
    sealed = exists().where(
        Preservation.author_id == Item.author_id,
        Preservation.cause == Cause.MINOR,
        Preservation.destroyed_at.is_(None),
    )
    rows = session.execute(
        select(Item.id, Item.retention_class, Item.received_at, Item.decided_at)
        .where(
            which.among(Item.id, Item.author_id),
            Item.destroyed_at.is_(None),
            Item.doomed_at.is_(None),
            or_(Item.retention_class.in_(list(classes.statutory)), outcome, asked),
            ~sealed,
        )
        .order_by(Item.id)
    ).all()
    named = _categories(session, [row.id for row in rows], graves)
    for row in rows:
        kept_as = classes.statutory.get(row.retention_class) or classes.grave[named[row.id]]
        until = retention.deletable_at(kept_as, row.received_at, row.decided_at, now)
        if until > now:
            yield Restricted(row.id, kept_as.name, kept_as.basis, until)


def _categories(session: Session, ids: list[UUID], graves: list[str]) -> dict[UUID, str]:
    decided = select(Decision.item_id, func.min(Decision.category)).where(
        among(Decision.item_id, ids), Decision.superseded_at.is_(None), Decision.category.in_(graves)
    )
    asked = select(Case.item_id, func.min(Case.category)).where(
        among(Case.item_id, ids), Case.category.in_(graves)
    )
    found: dict[UUID, str] = {}
    for query in (asked.group_by(Case.item_id), decided.group_by(Decision.item_id)):
        found.update({item: category for item, category in session.execute(query) if category})
    return found


def keep(session: Session, restricted: Restricted) -> None:
    """Set the floor of a hidden item: what it is kept as, and until when."""
    session.execute(
        update(Item)
        .where(Item.id == restricted.item_id)
        .values(retention_class=restricted.kept_as, expires_at=restricted.until)
        .execution_options(synchronize_session=False)
    )
