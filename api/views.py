"""Rows as the API shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from api import promised
from moderation.domain.content import ItemState
from moderation.domain.decisions import DecidedBy
from moderation.domain.routing import Route
from moderation.governance import erasure
from moderation.review import decisions
from moderation.storage.tables import CertificateRow, Decision, Item


def accepted(identifier: UUID) -> dict[str, Any]:
    """An item that was just stored."""
    return {"id": str(identifier), "status": "received", "status_url": f"/v1/items/{identifier}"}


def items(session: Session, rows: Sequence[Item], now: datetime) -> list[dict[str, Any]]:
    """Items with their outcomes, in the order given; a deleted one shows that it is.

    A decision that can still be undone shows nowhere: neither its verdict nor the retention it sets.
    """
    outcomes = decisions.in_force(session, [row.id for row in rows], now)
    replaced = [item for item, outcome in outcomes.items() if outcome.superseded_at is not None]
    pending = decisions.pending(session, replaced, now) if replaced else {}
    appealed = erasure.under_appeal(session, [row.id for row in rows if row.expires_at <= now])
    certificates = promised.cited(session, outcomes.values())
    return [
        _item(
            row,
            outcomes.get(row.id),
            pending.get(row.id),
            certificates,
            over=row.expires_at <= now and row.id not in appealed,
        )
        for row in rows
    ]


def promise(decision: Decision, certificates: Mapping[UUID, CertificateRow]) -> dict[str, Any]:
    """What a decision stands on and what it promises; neither of a person's, nor while nobody has decided."""
    by_machine = decision.decided_by == DecidedBy.MACHINE and decision.route != Route.REVIEW
    return {
        "certificates": list(map(str, decision.certificates)) if by_machine else None,
        "promise": promised.sentence(decision, certificates),
    }


def _item(
    row: Item,
    decision: Decision | None,
    pending: Decision | None,
    certificates: Mapping[UUID, CertificateRow],
    *,
    over: bool,
) -> dict[str, Any]:
    gone = over or row.state == ItemState.DELETED
    clock = pending.clock_before if pending and not gone else None
    shown = accepted(row.id) | {
        "status": "deleted" if gone else status(row, decision),
        "received_at": row.received_at,
        "expires_at": datetime.fromisoformat(clock["expires_at"]) if clock else row.expires_at,
    }
    if decision is None or gone:
        return shown
    return shown | {
        "decision_id": str(decision.id),
        "verdict": decision.route,
        "restrictions": decision.restrictions or None,
        "categories": decision.findings,
        "reasons": decision.reasons,
        "policy_version": decision.policy_version,
        "detectors": decision.detectors,
        "decided_by": decision.decided_by,
        "decided_at": decision.decided_at,
        **promise(decision, certificates),
    }


def status(row: Item, decision: Decision | None) -> str:
    """The status a caller sees; a dead item is in review, since people have it."""
    if row.state in (ItemState.DONE, ItemState.DEAD):
        decided = decision is not None and decision.route != Route.REVIEW
        return "decided" if decided else "in_review"
    return {ItemState.RECEIVED: "received", ItemState.LEASED: "processing"}.get(
        ItemState(row.state), "deleted"
    )
