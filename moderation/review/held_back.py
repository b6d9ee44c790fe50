"""Labels that are in doubt: they leave for no trainer before somebody has settled what it is.

Those that somebody is asked to look at again, and those of golden items whose answer is contested or was found
wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, distinct, exists, func, select
from sqlalchemy.orm import Session

from moderation.domain.cases import CaseReason, CaseState
from moderation.review.golden import OPEN, WITHDRAWN
from moderation.storage.ids import lower_bound
from moderation.storage.tables import Case, Decision, GoldenItem, Item, Opinion


@dataclass(frozen=True, slots=True)
class HeldBack:
    """How many judged items are held back: asked about again, and golden with a contested answer."""

    look_again: int
    contested: int


def look_again() -> ColumnElement[bool]:
    """Somebody is asked to look at the item again."""
    return exists().where(
        Case.item_id == Item.id, Case.state == CaseState.OPEN, Case.reason == CaseReason.LOOK_AGAIN
    )


def contested() -> ColumnElement[bool]:
    """The item is golden and its answer is contested, or was found wrong and still stands."""
    return exists().where(
        Opinion.item_id == Item.id,
        Opinion.contested.in_([OPEN, WITHDRAWN]),
        GoldenItem.item_id == Item.id,
        Decision.item_id == Item.id,
        Decision.superseded_at.is_(None),
        Decision.route == GoldenItem.verdict,
    )


def counted(session: Session, since: datetime, until: datetime) -> HeldBack:
    """How many of the items that were judged in the period are held back."""
    judged = and_(
        Opinion.item_id == Item.id, Opinion.id >= lower_bound(since), Opinion.id < lower_bound(until)
    )
    counts: Mapping[str, int] = {
        name: session.scalar(select(func.count(distinct(Item.id))).where(exists().where(judged), condition))
        or 0
        for name, condition in (("look_again", look_again()), ("contested", contested()))
    }
    return HeldBack(**counts)
