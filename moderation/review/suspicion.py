"""What makes an author a suspected minor: a signal, a report, a notice of the content service, a person.

Low in this package, so that whatever meets a sign of it can open the check. An item that brought the
suspicion goes before people too, in the lane of deadlines.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation.domain.cases import CaseReason
from moderation.domain.content import ItemState
from moderation.domain.decisions import CaseDraft, Outcome
from moderation.domain.policy import Policy
from moderation.domain.signals import Category
from moderation.domain.subjects import MinorSource
from moderation.governance import audit, minors
from moderation.review.force import in_force
from moderation.review.opening import open_case
from moderation.storage.tables import Author, Case, Item, MinorCheck

CERTAIN = 1.0


def of_signals(
    session: Session, policy: Policy, outcomes: Sequence[tuple[Item, Outcome]], now: datetime
) -> None:
    """Suspect the authors of items that look as if a minor posted them, whatever else is in them."""
    enough = policy.categories[Category.UNDERAGE].bands.allow_below
    for item, outcome in outcomes:
        said = any(
            finding.category == Category.UNDERAGE and finding.probability >= enough
            for finding in outcome.routing.findings
        )
        if said or outcome.routing.category == Category.UNDERAGE:
            of_item(session, policy, item, MinorSource.SIGNAL, audit.MACHINE, now)


def of_item(
    session: Session, policy: Policy, item: Item, source: MinorSource, actor: str, now: datetime
) -> MinorCheck | None:
    """Suspect the author of an item; the check, or None where a person cleared them lately."""
    row, fresh = minors.suspect(
        session, policy, client=item.client, author_id=item.author_id, item_id=item.id, source=source,
        actor=actor, now=now,
    )  # fmt: skip
    if row is not None and fresh:
        _before_people(session, policy, item, now)
    return row


def of_opinion(session: Session, policy: Policy, case: Case, actor: str, now: datetime) -> None:
    """Suspect the author of an item of which somebody just said so; people have it anyway."""
    minors.suspect(
        session, policy, client=case.client, author_id=case.author_id, item_id=case.item_id,
        source=MinorSource.PERSON, actor=actor, now=now,
    )  # fmt: skip


def of_author(
    session: Session, policy: Policy, author: Author, source: MinorSource, actor: str, now: datetime
) -> MinorCheck | None:
    """Suspect an author of whom no item gave the sign; the newest of theirs goes before people."""
    item = newest_item(session, author.id)
    row, fresh = minors.suspect(
        session, policy, client=author.client, author_id=author.id, item_id=item.id if item else None,
        source=source, actor=actor, now=now,
    )  # fmt: skip
    if fresh and item is not None:
        _before_people(session, policy, item, now)
    return row


def newest_item(session: Session, author_id: UUID) -> Item | None:
    """The newest item of an author that is not gone."""
    return session.scalars(
        select(Item)
        .where(Item.author_id == author_id, Item.state != ItemState.DELETED)
        .order_by(Item.id.desc())
        .limit(1)
    ).first()


def _before_people(session: Session, policy: Policy, item: Item, now: datetime) -> None:
    """Open the item's case, or raise the one there is; what is not screened yet is seen in the check itself."""
    decision = in_force(session, [item.id], now).get(item.id)
    rule = policy.categories[Category.UNDERAGE]
    if decision is not None:
        draft = CaseDraft(CaseReason.MINOR, Category.UNDERAGE, rule.severity, CERTAIN)
        open_case(session, policy, item, decision.id, draft, now)
