"""The statement of reasons of a decision, derived anew from the database each time it is asked for.

Only what was true when the decision was made counts, so that it says the same years later: measures lifted since,
and opinions given since, change nothing. Once its author is erased, it knows the month of the post at most.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Text, literal_column, or_, select
from sqlalchemy.orm import Session

from moderation.domain import statements
from moderation.domain.cases import Verdict
from moderation.domain.decisions import AccountMeasure, DecidedBy, Restriction
from moderation.domain.errors import Conflict
from moderation.domain.routing import Route
from moderation.domain.statements import Act, Facts, Source
from moderation.governance.policies import PolicyCache
from moderation.storage.database import among
from moderation.storage.tables import AccountAction, Decision, Item, Opinion, Part

RESTRICTIVE = (Route.LIMIT, Route.REMOVE)
_GRAVITY = tuple(AccountMeasure)
# Always true, and what lets PostgreSQL use the two partial indexes on `item_id` together.
_ANY_TIME: ColumnElement[bool] = or_(Decision.superseded_at.is_(None), Decision.superseded_at.is_not(None))


def stated(now: datetime) -> tuple[ColumnElement[bool], ...]:
    """Which decisions have a statement: those that restrict, took effect, and were not taken back before."""
    return (
        # Word for word what the index of these decisions says: a parameter would keep it from being used.
        Decision.route.in_([literal_column(f"'{route}'", Text) for route in RESTRICTIVE]),
        Decision.undone_at.is_(None),
        Decision.effective_at <= now,
        or_(Decision.superseded_at.is_(None), Decision.superseded_at > Decision.effective_at),
    )


def is_stated(row: Decision, now: datetime) -> bool:
    """The same, of a row in hand."""
    replaced = row.superseded_at is not None and row.superseded_at <= row.effective_at
    return row.route in RESTRICTIVE and row.undone_at is None and row.effective_at <= now and not replaced


def of_decision(session: Session, policies: PolicyCache, row: Decision, now: datetime) -> dict[str, Any]:
    """The statement of one decision, as a record of schema v2.

    Raises:
        Conflict: the decision restricts nothing, or never took effect.
    """
    return statements.statement(facts_of(session, policies, row, now))


def facts_of(session: Session, policies: PolicyCache, row: Decision, now: datetime) -> Facts:
    """What there is to say of one decision that restricts.

    Raises:
        Conflict: it restricts nothing, or never took effect.
    """
    if not is_stated(row, now):
        raise Conflict(
            "This decision restricts nothing, so there is no statement of reasons for it.",
            code="no_restriction",
        )
    return facts(session, policies, [row])[row.id]


def facts(session: Session, policies: PolicyCache, rows: Sequence[Decision]) -> dict[UUID, Facts]:
    """What there is to say of decisions that restrict; a few queries for all of them."""
    taken = _measures(session, rows)
    before = _acts(session, rows)
    kinds, posted = _parts(session, rows), _posted(session, rows)
    found = {}
    for row in rows:
        policy = policies.version(session, row.policy_version)
        rule = policy.categories.get(row.category or "")
        measure = taken.get(row.id)
        acts, matched = before[row.id]
        found[row.id] = Facts(
            decision_id=str(row.id),
            verdict=Verdict(row.route),
            category=row.category,
            clause=policy.clause(row.clause) if row.clause else None,
            policy=f"policy '{policy.name}', version {policy.version}",
            eu_category=rule.eu_category if rule else None,
            restrictions=tuple(Restriction(one) for one in row.restrictions),
            measure=AccountMeasure(measure.kind) if measure else None,
            until=measure.until if measure else None,
            person=row.decided_by == DecidedBy.PERSON,
            before=acts,
            matched=matched,
            source=Source(row.source) if row.source else Source.OWN,
            content_types=tuple(row.content_types or kinds.get(row.item_id, ())),
            content_at=row.content_at or posted.get(row.item_id),
            language=row.language,
            decided_at=row.decided_at.astimezone(UTC),
            effective_at=max(row.effective_at, row.decided_at).astimezone(UTC),
        )
    return found


def _measures(session: Session, rows: Sequence[Decision]) -> dict[UUID, AccountAction]:
    """The gravest measure of each decision, lifted since or not."""
    found: dict[UUID, AccountAction] = {}
    actions = session.scalars(
        select(AccountAction).where(among(AccountAction.decision_id, [row.id for row in rows]))
    )
    for action in sorted(actions, key=lambda one: _GRAVITY.index(AccountMeasure(one.kind))):
        found[action.decision_id] = action
    return found


def _acts(session: Session, rows: Sequence[Decision]) -> dict[UUID, tuple[tuple[Act, ...], bool]]:
    """Per decision who judged its item before, taken back or not; and whether it matched an entry of a bank."""
    items = list({row.item_id for row in rows})
    made, given = defaultdict(list), defaultdict(list)
    for one in session.execute(
        select(
            Decision.item_id,
            Decision.decided_at,
            Decision.decided_by,
            Decision.route,
            Decision.category,
            (Decision.matches != []).label("matched"),
        ).where(among(Decision.item_id, items), _ANY_TIME)
    ):
        made[one.item_id].append(one)
    for opinion in session.execute(
        select(Opinion.item_id, Opinion.given_at, Opinion.decision_id, Opinion.verdict).where(
            among(Opinion.item_id, items)
        )
    ):
        given[opinion.item_id].append(opinion)
    found = {}
    for row in rows:
        earlier = [one for one in made[row.item_id] if one.decided_at < row.decided_at]
        acts = {Act(one.decided_by == DecidedBy.PERSON, _found(one)) for one in earlier}
        acts |= {
            Act(person=True, found=one.verdict != Verdict.ALLOW)
            for one in given[row.item_id]
            if one.given_at < row.decided_at or one.decision_id == row.id
        }
        matched = bool(row.matches) or any(one.matched for one in earlier)
        found[row.id] = (tuple(sorted(acts, key=lambda act: (act.person, act.found))), matched)
    return found


def _found(one: Any) -> bool:
    """Whether a decision says that a rule is broken. People are asked also where nothing could be judged."""
    return one.route in RESTRICTIVE or (one.route == Route.REVIEW and one.category is not None)


def _parts(session: Session, rows: Sequence[Decision]) -> Mapping[UUID, list[str]]:
    """The kinds of content of rows that an older release wrote without, for as long as the parts are there."""
    items = [row.item_id for row in rows if not row.content_types]
    found: dict[UUID, list[str]] = defaultdict(list)
    if items:
        for item, kind in session.execute(
            select(Part.item_id, Part.kind)
            .where(among(Part.item_id, items), Part.derived_from.is_(None))
            .distinct()
        ):
            found[item].append(kind)
    return found


def _posted(session: Session, rows: Sequence[Decision]) -> Mapping[UUID, datetime]:
    """When it was posted, of rows that an older release wrote without."""
    items = [row.item_id for row in rows if row.content_at is None]
    if not items:
        return {}
    # Of what has ended the moment may have been coarsened on purpose.
    kept = select(Item.id, Item.posted_at).where(among(Item.id, items), Item.destroyed_at.is_(None))
    return dict(session.execute(kept).all())
