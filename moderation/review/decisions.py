"""Record outcomes: decision, case, retention clock, webhook notice and audit events, all or nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from moderation import metrics
from moderation.domain import retention
from moderation.domain.access import Permission
from moderation.domain.cases import CaseKind, CaseReason, Verdict
from moderation.domain.content import ItemState
from moderation.domain.decisions import AccountMeasure, CaseDraft, DecidedBy, Judgement, Outcome, Restriction
from moderation.domain.errors import Conflict, Forbidden, NotFound
from moderation.domain.policy import Policy
from moderation.domain.routing import Route, Routing
from moderation.domain.signals import How, Match
from moderation.domain.statements import Source
from moderation.governance import audit, erasure, outbox
from moderation.governance.outbox import Notice
from moderation.governance.sessions import PersonPrincipal
from moderation.review import measures, notes, reporters, sources
from moderation.review.force import clock_of, in_force, lock_items, pending, standing
from moderation.review.opening import case_row
from moderation.review.undoing import undo
from moderation.storage import items as queue
from moderation.storage.database import after_commit, insert_many
from moderation.storage.ids import new_id
from moderation.storage.tables import AccountAction, Case, Decision, Item
from moderation.storage.vault import Vault

__all__ = ["Recorded", "by_person", "in_force", "lock_items", "pending", "record", "reverse", "standing", "undo",
           "unscreened"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was recorded for one item, by ids: all that a webhook needs."""

    item: UUID
    client: str
    callback_id: UUID | None
    decision_id: UUID
    route: Route
    category: str | None
    certificates: tuple[UUID, ...] = ()


def record(
    session: Session,
    policy: Policy,
    outcomes: Sequence[tuple[Item, Outcome]],
    now: datetime,
    state: ItemState = ItemState.DONE,
    kinds: Mapping[UUID, Collection[str]] | None = None,
    supersedes: Mapping[UUID, UUID] | None = None,
) -> list[Recorded]:
    """Record machine outcomes for items whose rows the caller has locked, and end their leases.

    `kinds` are those of each item's parts; whoever does not know them has them looked up, all at once. With
    `supersedes` every item has a decision in force, which ends now.
    """
    if not outcomes:
        return []
    drafts = [(item, outcome, new_id(now)) for item, outcome in outcomes]
    _finish_items(session, policy, outcomes, now, state)
    if kinds is None:
        kinds = sources.kinds_of(session, [item.id for item, _ in outcomes])
    rows = [_decision(*draft, policy, kinds.get(draft[0].id, ()), now) for draft in drafts]
    if supersedes is not None:
        for item, _ in outcomes:
            _supersede(session, item.id, now)
        rows = [row | {"supersedes": supersedes[row["item_id"]]} for row in rows]
    insert_many(session, Decision, rows)
    opened = [
        case_row(policy, item, decision, outcome.case, now)
        for item, outcome, decision in drafts
        if outcome.case
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
            item.id,
            item.client,
            item.callback_id,
            decision,
            outcome.routing.route,
            outcome.routing.category,
            outcome.routing.certificates,
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
    item: Item, outcome: Outcome, identifier: UUID, policy: Policy, kinds: Collection[str], now: datetime
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
        "matches": [named(match) for match in routing.matches],
        "detectors": list(outcome.detectors),
        "decided_by": DecidedBy.MACHINE,
        "policy_version": policy.version,
        "decided_at": now,
        "effective_at": now,
        "certificates": list(routing.certificates),
        "slice": outcome.slice,
        "stratum": outcome.stratum,
        "propensity": outcome.propensity,
        **_about(item, sorted(kinds), Source.OWN),
    }


def _about(item: Item, kinds: Sequence[str], source: Source) -> dict[str, Any]:
    """What a statement of reasons says of the content, which ends before the decision does."""
    return {
        "content_types": list(kinds),
        "content_at": item.posted_at,
        "language": item.language,
        "source": source,
    }


def _rounded(finding: Mapping[str, Any]) -> dict[str, Any]:
    return {**finding, "probability": round(finding["probability"], 4)}


def named(match: Match) -> dict[str, Any]:
    """A match as a decision keeps it."""
    return {
        "part": match.part,
        "bank": match.bank,
        "entry": match.entry,
        "action": match.action,
        "verified": match.verified,
        **_found(match),
    }


def _found(match: Match) -> dict[str, Any]:
    """How and where it was found, of what does not simply equal the entry: numbers, never content."""
    found: dict[str, Any] = {}
    if match.source is not None:
        found["source"] = match.source
    if match.quarantined:
        found["quarantined"] = True
    if match.how is How.EQUAL:
        return found
    found |= {"how": match.how, "score": round(match.score, 4)}
    if match.distance is not None:
        found["distance"] = match.distance
    if match.view:
        found["view"] = match.view  # then it stands there in that view
    if match.start is not None and match.end is not None:
        found |= {"start": match.start, "end": match.end}
    return found


def by_person(
    session: Session,
    policy: Policy,
    item: Item,
    judgement: Judgement,
    *,
    person_id: UUID,
    case_id: UUID | None,
    undo_id: UUID | None,
    now: datetime,
    reverses: UUID | None = None,
) -> UUID:
    """Record a person's decision, in force once the undo window is over, at once where there is none; its id.

    Until then whatever was in force stays so for everybody outside. `judgement` has passed
    `domain.decisions.checked`, and the caller holds the item (`lock_items`).
    """
    case = session.get(Case, case_id) if case_id else None
    found_by = case.kind if case else CaseKind.REVIEW
    source = sources.source_of(session, case, standing(session, item.id))
    author = Authorship(f"person:{person_id}", person_id, case_id, undo_id, reverses, found_by, source)
    window = timedelta(seconds=policy.review.undo_seconds if undo_id else 0)
    return _decide(session, policy, item, judgement, author, now, now + window)


def reverse(
    session: Session,
    vault: Vault,
    policy: Policy,
    person: PersonPrincipal | None,
    decision_id: UUID,
    now: datetime,
    note: str | None = None,
) -> UUID:
    """Reverse a decision in force at once, and lift every restriction and measure it brought; the new one's id.

    A reversal that is itself reversed restores what it had reversed, but for measures against the account.

    Raises:
        NotFound: there is no such decision.
        Forbidden: the person may not reverse decisions.
        Conflict: it is not in force, or there is nothing in it to reverse; or it is appealed, and no person asks.
    """
    if person is not None and Permission.DECISION_REVERSE not in person.permissions:
        raise Forbidden("Your roles don't reverse decisions; ask a lead.")
    row = session.get(Decision, decision_id)
    item = lock_items(session, [row.item_id]).get(row.item_id) if row else None
    if row is None or item is None:
        raise NotFound("There is no such decision.")
    session.refresh(row)
    if row.superseded_at is not None:
        raise Conflict("This decision is not in force any more; reverse the one that is.", code="superseded")
    if row.effective_at > now:
        raise Conflict(
            "This decision can still be undone; wait until it is in force.", code="not_in_force_yet"
        )
    if person is None and sources.is_appealed(session, item.id):
        raise Conflict("Somebody has appealed this; only a person may answer, in the appeal's own case.")
    author = Authorship(
        person.actor if person else audit.MACHINE,
        person.person_id if person else None,
        row.case_id,
        None,
        row.id,
        "reversal",
        sources.source_of(session, None, _restoring(session, row) or row),
    )
    identifier = _decide(session, policy, item, _restored(session, row), author, now, now)
    if person is not None and note:
        notes.add_to_item(session, vault, person, item, row, note, now)
    queue.notify_decided(session, [item.id])
    return identifier


def _restored(session: Session, row: Decision) -> Judgement:
    """What holds once `row` is reversed: nothing is restricted, or what `row` itself had reversed."""
    former = _restoring(session, row)
    if former is not None:
        restrictions = tuple(Restriction(name) for name in former.restrictions)
        return Judgement(Verdict(former.route), former.category, former.clause, restrictions)
    if row.route not in (Verdict.LIMIT, Verdict.REMOVE):
        raise Conflict(
            "This decision restricts nothing; open its case and decide anew.", code="no_restriction"
        )
    return Judgement(Verdict.ALLOW)


def _restoring(session: Session, row: Decision) -> Decision | None:
    """What `row` itself had reversed, and what so comes back if it is reversed."""
    former = session.get(Decision, row.reverses) if row.reverses else None
    return former if former is not None and former.route in set(Verdict) else None


@dataclass(frozen=True, slots=True)
class Authorship:
    """Who decides, on what occasion, by what it can be taken back, and how what it is about was found."""

    actor: str
    person_id: UUID | None
    case_id: UUID | None
    undo_id: UUID | None
    reverses: UUID | None
    found_by: str
    source: Source


def _decide(
    session: Session,
    policy: Policy,
    item: Item,
    judgement: Judgement,
    author: Authorship,
    now: datetime,
    effective_at: datetime,
) -> UUID:
    former = standing(session, item.id)
    if former is not None:
        # One decision after the other: a shorter window in a newer policy must not overtake one that still runs.
        effective_at = max(effective_at, former.effective_at)
        _supersede(session, item.id, effective_at)
    overturned = former is not None and former.route not in (Route.REVIEW, judgement.verdict)
    reverses = author.reverses or (former.id if former and overturned else None)
    identifier = new_id(now)
    row = _person_row(item, judgement, author, policy, now)
    row |= {"id": identifier, "effective_at": effective_at, "reverses": reverses}
    row |= {"supersedes": former.id if former else None, "clock_before": clock_of(item)}
    row |= _about(item, sources.kept_kinds(session, former, item.id), author.source)
    insert_many(session, Decision, [row])
    # What is over was not brought back by whoever came too late.
    if not erasure.hidden(session, item, now):
        _set_clock(item, judgement, policy, now, effective_at)
    session.flush()
    _measure(session, item, identifier, judgement, author, now, effective_at)
    reporters.resolve(session, item.id, judgement.verdict, now, identifier)
    outbox.enqueue(session, [_notice(item, identifier, judgement, effective_at, author.undo_id)], now)
    details = {"decision": str(identifier), "verdict": judgement.verdict, "policy": policy.version}
    details |= {"case": str(author.case_id)} if author.case_id else {}
    details |= {"reverses": str(reverses)} if reverses else {}
    audit.record(session, [audit.Event(author.actor, "decision.made", "item", str(item.id), details)], now)
    by = DecidedBy.PERSON if author.person_id else DecidedBy.MACHINE
    after_commit(session, lambda: metrics.DECISIONS.labels(row["route"], row["category"] or "none", by).inc())
    if overturned:
        after_commit(session, metrics.OVERTURNS.labels(author.found_by).inc)
    return identifier


def _supersede(session: Session, item_id: UUID, at: datetime) -> None:
    session.execute(
        update(Decision)
        .where(Decision.item_id == item_id, Decision.superseded_at.is_(None))
        .values(superseded_at=at)
        .execution_options(synchronize_session="fetch")
    )


def _person_row(
    item: Item, judgement: Judgement, author: Authorship, policy: Policy, now: datetime
) -> dict[str, Any]:
    clause = policy.clause(judgement.clause) if judgement.clause else None
    said = f"Clause {clause.id}: {clause.reason or clause.rule}" if clause else "It breaks no rule."
    return {
        "item_id": item.id,
        "author_id": item.author_id,
        "client": item.client,
        "route": str(judgement.verdict),
        "category": judgement.category,
        "reasons": [said],
        "findings": [],
        "detectors": [],
        "decided_by": DecidedBy.PERSON if author.person_id else DecidedBy.MACHINE,
        "policy_version": policy.version,
        "decided_at": now,
        "undo_id": author.undo_id,
        "person_id": author.person_id,
        "case_id": author.case_id,
        "clause": judgement.clause,
        "restrictions": [str(restriction) for restriction in judgement.restrictions],
    }


def _set_clock(
    item: Item, judgement: Judgement, policy: Policy, now: datetime, effective_at: datetime
) -> None:
    # What is deleted already ends when it was going to: an answer to an appeal must not bring it back.
    if item.state == ItemState.DELETED:
        return
    rule = policy.categories.get(judgement.category or "")
    clock = policy.retention.for_verdict(judgement.verdict, rule.retention if rule else None)
    item.retention_class, item.decided_at = clock.name, now
    # What is due already, because people came to it late, still waits until nobody can undo the decision.
    item.expires_at = max(retention.due(clock, item.received_at, now), effective_at)


def _measure(
    session: Session,
    item: Item,
    identifier: UUID,
    judgement: Judgement,
    author: Authorship,
    now: datetime,
    effective_at: datetime,
) -> None:
    """Take the account measure that was decided, and lift those of earlier decisions that it replaces.

    Whoever confirms a restriction and says nothing of the account leaves the account as it is.
    """
    undo_id, actor = author.undo_id, author.actor
    live = session.execute(
        select(AccountAction.decision_id, AccountAction.kind)
        .join(Decision, Decision.id == AccountAction.decision_id)
        .where(AccountAction.author_id == item.author_id, AccountAction.reversed_at.is_(None))
        .where(Decision.item_id == item.id)
    ).all()
    # A suspension has an end of its own, so that another one is never the same.
    if judgement.measure is not AccountMeasure.SUSPEND and judgement.measure in {kind for _, kind in live}:
        return
    if judgement.verdict is Verdict.ALLOW or judgement.measure is not None:
        for decision_id in sorted({decision for decision, _ in live}):
            measures.reverse_of(
                session, item, decision_id, identifier, now,
                actor=actor, effective_at=effective_at, undo_id=undo_id,
            )  # fmt: skip
    measures.take(
        session, item, identifier, judgement, now, actor=actor, effective_at=effective_at, undo_id=undo_id
    )


def _notice(
    item: Item, identifier: UUID, judgement: Judgement, effective_at: datetime, undo_id: UUID | None
) -> Notice:
    return Notice(
        client=item.client,
        item_id=item.id,
        event="item.decided",
        payload={
            "item_id": str(item.id),
            "decision_id": str(identifier),
            "verdict": str(judgement.verdict),
            "restrictions": [str(restriction) for restriction in judgement.restrictions],
        },
        callback_id=item.callback_id,
        not_before=effective_at,
        undo_id=undo_id,
    )
