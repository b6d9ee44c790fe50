"""Record outcomes: decision, case, retention clock, webhook notice and audit events, all or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from moderation import metrics
from moderation.domain import cases, retention
from moderation.domain.cases import CaseReason, CaseState
from moderation.domain.content import ItemState
from moderation.domain.decisions import CaseDraft, DecidedBy, Outcome
from moderation.domain.policy import Policy
from moderation.domain.routing import Route, Routing
from moderation.governance import audit
from moderation.storage.database import after_commit, among, insert_many
from moderation.storage.ids import new_id
from moderation.storage.tables import Case, Decision, Item


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was recorded for one item, by ids: all that a webhook needs."""

    item: UUID
    client: str
    callback_id: UUID | None
    decision_id: UUID
    route: Route
    category: str | None


def record(
    session: Session,
    policy: Policy,
    outcomes: Sequence[tuple[Item, Outcome]],
    now: datetime,
    state: ItemState = ItemState.DONE,
) -> list[Recorded]:
    """Record machine outcomes for items whose rows the caller has locked, and end their leases."""
    if not outcomes:
        return []
    drafts = [(item, outcome, new_id(now)) for item, outcome in outcomes]
    _finish_items(session, policy, outcomes, now, state)
    insert_many(session, Decision, [_decision(*draft, policy, now) for draft in drafts])
    opened = [
        _case(item, outcome.case, decision, policy, now) for item, outcome, decision in drafts if outcome.case
    ]
    insert_many(session, Case, opened)
    events = [
        audit.Event(
            audit.MACHINE,
            "item.decided",
            "item",
            str(item.id),
            {"decision": str(decision), "route": outcome.routing.route, "policy": policy.version},
        )
        for item, outcome, decision in drafts
    ]
    audit.record(session, events, now)
    after_commit(session, lambda: _count([outcome.routing for _, outcome, _ in drafts]))
    return [
        Recorded(
            item.id, item.client, item.callback_id, decision, outcome.routing.route, outcome.routing.category
        )
        for item, outcome, decision in drafts
    ]


def _count(routings: Sequence[Routing]) -> None:
    for routing in routings:
        metrics.DECISIONS.labels(routing.route, routing.category or "none", DecidedBy.MACHINE).inc()


def unscreened(attempts: int) -> Outcome:
    """The outcome of an item that could not be screened at all: people decide, and are told why."""
    reason = f"Screening failed {attempts} times; nothing was judged by a machine."
    routing = Routing(Route.REVIEW, None, 0.0, (reason,), ())
    return Outcome(routing, (), (), CaseDraft(CaseReason.DEAD_LETTER, None, 3, 0.5))


def _finish_items(
    session: Session,
    policy: Policy,
    outcomes: Sequence[tuple[Item, Outcome]],
    now: datetime,
    state: ItemState,
) -> None:
    """One statement for the whole batch: the state, the end of the lease, and the retention clock."""
    ids, classes, decided, expires = [], [], [], []
    for item, outcome in outcomes:
        rule = policy.categories.get(outcome.routing.category or "")
        clock = policy.retention.for_verdict(outcome.routing.route, rule.retention if rule else None)
        at = None if outcome.routing.route is Route.REVIEW else now
        ids.append(item.id)
        classes.append(clock.name)
        decided.append(at)
        expires.append(retention.due(clock, item.received_at, at))
    new = {"ids": ids, "classes": classes, "decided": decided, "expires": expires}
    session.execute(_FINISH, {"state": state, **new})


# Arrays and not VALUES: the statement is the same for a batch of any size, and need not be compiled again.
_FINISH = text("""
    UPDATE items
    SET state = :state, lease_token = NULL, lease_until = NULL, retention_class = new.retention_class,
        decided_at = new.decided_at, expires_at = new.expires_at
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:classes AS text[]),
        CAST(:decided AS timestamptz[]), CAST(:expires AS timestamptz[])
    ) AS new(id, retention_class, decided_at, expires_at)
    WHERE items.id = new.id AND items.id = ANY(CAST(:ids AS uuid[]))
""")


def _decision(
    item: Item, outcome: Outcome, identifier: UUID, policy: Policy, now: datetime
) -> dict[str, Any]:
    routing = outcome.routing
    return {
        "id": identifier,
        "item_id": item.id,
        "author_id": item.author_id,
        "client": item.client,
        "route": routing.route,
        "category": routing.category,
        "reasons": list(routing.reasons),
        "findings": [_rounded(finding) for finding in outcome.findings],
        "detectors": list(outcome.detectors),
        "decided_by": DecidedBy.MACHINE,
        "policy_version": policy.version,
        "decided_at": now,
    }


def _rounded(finding: Mapping[str, Any]) -> dict[str, Any]:
    return {**finding, "probability": round(finding["probability"], 4)}


def _case(item: Item, draft: CaseDraft, decision: UUID, policy: Policy, now: datetime) -> dict[str, Any]:
    return {
        "id": new_id(now),
        "item_id": item.id,
        "author_id": item.author_id,
        "client": item.client,
        "decision_id": decision,
        "reason": draft.reason,
        "category": draft.category,
        "severity": draft.severity,
        "priority": cases.priority(draft.probability, draft.severity, item.reach),
        "deadline": cases.deadline(policy, draft.category, now),
        "state": CaseState.OPEN,
        "opened_at": now,
    }


def effective(session: Session, ids: Sequence[UUID]) -> dict[UUID, Decision]:
    """The decision in force for each of `ids` that has one: the newest that nothing supersedes."""
    rows = session.scalars(
        select(Decision)
        .where(among(Decision.item_id, ids), Decision.superseded_at.is_(None))
        .order_by(Decision.policy_version, Decision.id)
    )
    return {row.item_id: row for row in rows}
