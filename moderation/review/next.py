"""The next case for somebody: by deadline, by expected harm, now and then the oldest; never one for others."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, select, text
from sqlalchemy.orm import Session

from moderation.domain import cases
from moderation.domain.access import Permission
from moderation.domain.cases import CaseState, Turn
from moderation.domain.errors import NotFound
from moderation.domain.policy import Policy
from moderation.governance.sessions import PersonPrincipal
from moderation.review import claims, wellness
from moderation.review.golden import golden_case
from moderation.review.listing import Filter
from moderation.review.views import Claim
from moderation.storage.tables import Case, Person

NAMED = ("queue", "language", "reason", "client", "stage")

# The words of the partial indexes ix_cases_urgent, ix_cases_harm, ix_cases_oldest and ix_cases_reserved: literal,
# because a prepared statement can't use a partial index whose condition it gets as a parameter.
_TURNS = {
    Turn.URGENT: ("c.state = 'open' AND c.urgent", "c.deadline"),
    Turn.HARM: ("c.state = 'open' AND NOT c.urgent", "c.priority DESC, c.id"),
    Turn.OLDEST: ("c.state = 'open' AND NOT c.urgent", "c.opened_at"),
}
_RESERVED = ("c.state = 'open' AND c.reserved_for IS NOT NULL AND c.reserved_for = :me", "c.deadline")

# A golden case passes for an audit draw in a filter too.
_SHOWN_REASON = "CASE c.kind WHEN 'golden' THEN 'audit' ELSE c.reason END"

# What is for this person. The subqueries look at the few rows of one case, each by an index. Two are scalar: of
# NOT EXISTS PostgreSQL may make a hash of all that the person ever judged, and behind IS NULL it expects so few
# rows that it sorts them all. A case that was kept for somebody who let its deadline pass is for everybody.
_FOR_ME = """
    AND (c.claim_until IS NULL OR c.claim_until <= :now)
    AND (c.reserved_for IS NULL OR c.reserved_for = :me OR (c.deadline <= :now AND c.kind <> 'golden'))
    AND (c.stage <> 'adjudication' OR :adjudicates)
    AND (c.kind <> 'appeal' OR :appeals)
    AND (c.category IS NULL OR c.category <> ALL(CAST(:opt_outs AS text[])))
    AND (SELECT true FROM case_skips s WHERE s.case_id = c.id AND s.person_id = :me) IS NOT TRUE
    AND (
        (c.stage = 'adjudication' AND (:alone OR c.deadline <= :now)) OR (
            SELECT true FROM opinions o WHERE o.case_id = c.id AND o.person_id = :me AND o.undone_at IS NULL LIMIT 1
        ) IS NOT TRUE
    )
    AND (c.kind NOT IN ('appeal', 'quality') OR NOT EXISTS (
        SELECT FROM opinions o
        WHERE o.item_id = c.item_id AND o.case_id <> c.id AND o.person_id = :me AND o.undone_at IS NULL
        UNION ALL
        SELECT FROM decisions d WHERE d.item_id = c.item_id AND d.superseded_at IS NULL AND d.person_id = :me
        UNION ALL
        SELECT FROM decisions d
        WHERE d.item_id = c.item_id AND d.superseded_at IS NOT NULL AND d.person_id = :me AND d.undone_at IS NULL
    ))
"""


def next_case(
    session: Session,
    policy: Policy,
    person: PersonPrincipal,
    wanted: Filter,
    golden_dice: float,
    turn_dice: float,
    now: datetime,
) -> Claim | None:
    """Claim the next case for somebody; the one they have in hand comes first. None if nothing is for them.

    `golden_dice` and `turn_dice` are uniform in [0, 1).
    """
    # Two tabs of one person ask one after the other.
    somebody = session.scalar(
        select(Person).where(Person.id == person.person_id).with_for_update(key_share=True)
    )
    if somebody is None:
        raise NotFound("There is no such person any more.")
    mine = _in_hand(session, policy, person, now)
    if mine is not None:
        return mine
    if golden_dice < policy.review.golden_share and not wanted.mine:
        golden = golden_case(session, policy, person, now, wanted)
        if golden is not None:
            return claims.renew(session, policy, claims.lock(session, golden), now)
    found = _found(session, policy, somebody, person, wanted, turn_dice, now)
    if found is None:
        return None
    return claims.take(session, policy, person, claims.lock(session, found), now)


def _in_hand(session: Session, policy: Policy, person: PersonPrincipal, now: datetime) -> Claim | None:
    case = session.scalar(
        select(Case)
        .where(Case.state == CaseState.OPEN, Case.claimed_by == person.person_id, Case.claim_until > now)
        .order_by(Case.claimed_at)
        .limit(1)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return None if case is None else claims.renew(session, policy, case, now)


def _found(
    session: Session,
    policy: Policy,
    somebody: Person,
    person: PersonPrincipal,
    wanted: Filter,
    turn_dice: float,
    now: datetime,
) -> UUID | None:
    """The id of a case, whose row is then locked."""
    values: dict[str, Any] = {name: getattr(wanted, name) for name in NAMED if getattr(wanted, name)}
    values |= {
        "me": person.person_id,
        "now": now,
        "adjudicates": Permission.CASE_ADJUDICATE in person.permissions,
        "alone": claims.adjudicates_alone(session, person),
        "appeals": Permission.APPEAL_DECIDE in person.permissions,
        "opt_outs": somebody.opt_outs,
    }
    named = tuple(name for name in NAMED if getattr(wanted, name))
    found: UUID | None = session.scalar(_statement(_RESERVED, named), values)
    if found is not None or wanted.mine:
        return found
    # Skills say what is brought to somebody; what they ask for by name, they get.
    skills = []
    if somebody.queues and wanted.queue is None:
        values["queues"] = somebody.queues
        skills.append("c.queue = ANY(CAST(:queues AS text[]))")
    if somebody.languages and wanted.language is None:
        values["languages"] = somebody.languages
        skills.append("(c.language IS NULL OR c.language = ANY(CAST(:languages AS text[])))")
    # After many grave cases in a row others come first, as long as there are any.
    for rested in (True, False) if wellness.rotation(session, policy, person, now) else (False,):
        values["grave"] = policy.review.exposure.from_severity
        extra = (*skills, "c.severity < :grave") if rested else tuple(skills)
        for turn in cases.turns(policy.review.oldest_share, turn_dice):
            found = session.scalar(_statement(_TURNS[turn], named, extra), values)
            if found is not None:
                return found
    return None


@lru_cache(maxsize=512)
def _statement(turn: tuple[str, str], named: tuple[str, ...], extra: tuple[str, ...] = ()) -> TextClause:
    condition, order = turn
    asked = (f"{_SHOWN_REASON if name == 'reason' else f'c.{name}'} = :{name}" for name in named)
    conditions = "".join(f" AND {one}" for one in (*asked, *extra))
    return text(
        f"SELECT c.id FROM cases c WHERE {condition}{conditions}{_FOR_ME}"  # noqa: S608  our own words
        f" ORDER BY {order} LIMIT 1 FOR UPDATE OF c SKIP LOCKED"
    )
