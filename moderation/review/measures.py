"""Measures against an account: a warning, a strike, a suspension, a ban, each taken with a decision.

They take effect when the decision's undo window ends, and end with their own time or with the reversal of the
decision. What counts at a moment is `domain.decisions.standing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from moderation.domain.decisions import AccountMeasure, Judgement, Measure, Standing, standing
from moderation.domain.policy import Policy
from moderation.governance import audit, outbox
from moderation.governance.outbox import Notice
from moderation.storage.database import among
from moderation.storage.ids import new_id
from moderation.storage.tables import AccountAction, Decision, Item


def take(
    session: Session,
    item: Item,
    decision_id: UUID,
    judgement: Judgement,
    now: datetime,
    *,
    actor: str,
    effective_at: datetime,
    undo_id: UUID | None = None,
) -> UUID | None:
    """Take the measure that `judgement` names against the author of `item`; None where it names none."""
    if judgement.measure is None:
        return None
    action = AccountAction(
        id=new_id(now),
        author_id=item.author_id,
        client=item.client,
        decision_id=decision_id,
        kind=judgement.measure,
        effective_at=effective_at,
        until=judgement.until,
    )
    session.add(action)
    session.flush()
    notice = _notice(item, "author.measure", _told(action), effective_at, undo_id)
    outbox.enqueue(session, [notice], now)
    details = {"measure": action.kind, "decision": str(decision_id)}
    audit.record(session, [audit.Event(actor, "author.measure", "author", str(item.author_id), details)], now)
    return action.id


def reverse_of(
    session: Session,
    item: Item,
    decision_id: UUID,
    by: UUID,
    now: datetime,
    *,
    actor: str,
    effective_at: datetime,
    undo_id: UUID | None = None,
) -> int:
    """Lift what `decision_id` did to the account, because the decision `by` reverses it; returns how many."""
    lifted = session.scalars(
        update(AccountAction)
        .where(AccountAction.decision_id == decision_id, AccountAction.reversed_at.is_(None))
        .values(reversed_at=effective_at, reversed_by=by)
        .returning(AccountAction)
        .execution_options(synchronize_session=False)
    ).all()
    notices = [
        _notice(item, "author.measure_reversed", _told(action), effective_at, undo_id) for action in lifted
    ]
    outbox.enqueue(session, notices, now)
    events = [
        audit.Event(
            actor,
            "author.measure_reversed",
            "author",
            str(item.author_id),
            {"measure": action.kind, "decision": str(decision_id), "by": str(by)},
        )
        for action in lifted
    ]
    audit.record(session, events, now)
    return len(lifted)


def undo(session: Session, decision_ids: Sequence[UUID]) -> None:
    """Take back, before it took effect, what these decisions did to accounts and what they lifted."""
    session.execute(
        delete(AccountAction)
        .where(among(AccountAction.decision_id, decision_ids))
        .execution_options(synchronize_session=False)
    )
    accounts = select(Decision.author_id).where(among(Decision.id, decision_ids))
    session.execute(
        update(AccountAction)
        .where(AccountAction.author_id.in_(accounts), among(AccountAction.reversed_by, decision_ids))
        .values(reversed_at=None, reversed_by=None)
        .execution_options(synchronize_session=False)
    )


def standing_of(
    session: Session, policy: Policy, author_id: UUID, now: datetime, *, but: UUID | None = None
) -> Standing:
    """How the account stands at `now`: strikes that count, what the policy advises, suspension, ban.

    What was taken for the item `but` is left out, for whoever must not know of it.
    """
    query = select(AccountAction).where(
        AccountAction.author_id == author_id,
        or_(AccountAction.reversed_at.is_(None), AccountAction.reversed_at > now),
    )
    if but is not None:
        query = query.join(Decision, Decision.id == AccountAction.decision_id).where(Decision.item_id != but)
    rows = session.scalars(query)
    taken = [Measure(AccountMeasure(row.kind), row.effective_at, row.until) for row in rows]
    return standing(taken, policy.review.strikes, now)


def of_item(session: Session, item_id: UUID, now: datetime) -> Sequence[AccountAction]:
    """The measures that were taken for an item and still stand, the oldest first."""
    return session.scalars(
        select(AccountAction)
        .join(Decision, Decision.id == AccountAction.decision_id)
        .where(
            Decision.item_id == item_id,
            or_(AccountAction.reversed_at.is_(None), AccountAction.reversed_at > now),
            or_(AccountAction.until.is_(None), AccountAction.until > now),
        )
        .order_by(AccountAction.id)
    ).all()


def of_decision(session: Session, decision_id: UUID) -> Sequence[AccountAction]:
    """What was taken with a decision, reversed or not."""
    return session.scalars(
        select(AccountAction).where(AccountAction.decision_id == decision_id).order_by(AccountAction.id)
    ).all()


def _told(action: AccountAction) -> dict[str, Any]:
    told: dict[str, Any] = {"decision_id": str(action.decision_id), "measure": str(action.kind)}
    if action.until is not None:
        told["until"] = action.until.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return told


def _notice(
    item: Item, event: str, payload: dict[str, Any], effective_at: datetime, undo_id: UUID | None
) -> Notice:
    return Notice(item.client, item.id, event, payload, item.callback_id, effective_at, undo_id)
