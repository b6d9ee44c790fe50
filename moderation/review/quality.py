"""How good judgements are: agreement, overturned decisions, checks drawn at random, and a person's own results.

Numbers of nobody by name. What each of them means, and what it does not, is in docs/quality.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from uuid import UUID

from sqlalchemy import Float, Select, and_, exists, func, literal, or_, select, text
from sqlalchemy.orm import Session, aliased

from moderation.domain.agreement import Agreement
from moderation.domain.agreement import agreement as measure
from moderation.domain.cases import (
    CHOSEN_REASONS,
    DRAWN_REASONS,
    CaseKind,
    CaseReason,
    CaseState,
    Stage,
    Verdict,
)
from moderation.domain.content import ItemState
from moderation.domain.decisions import DecidedBy, blind_draft
from moderation.domain.errors import InvalidInput
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.governance import audit, bank_lists
from moderation.governance.bank_lists import CHECKED, By
from moderation.governance.restriction import set_apart
from moderation.governance.sessions import PersonPrincipal
from moderation.review.force import lock_items
from moderation.review.golden import WITHDRAWN, golden_case, top_category
from moderation.review.opening import open_case
from moderation.storage.ids import lower_bound
from moderation.storage.tables import Case, Decision, GoldenItem, Item, Opinion

__all__ = [
    "Agreement",
    "AgreementReport",
    "Check",
    "GoldenAnswer",
    "Overturns",
    "OwnResults",
    "Rate",
    "Sample",
    "Sampling",
    "agreement",
    "checks",
    "golden_case",
    "overturns",
    "own_results",
    "sample",
]  # fmt: skip

MOST_DAYS = 90
MOST_DRAWN = 200


@dataclass(frozen=True, slots=True)
class AgreementReport:
    """Agreement on the verdict, and per category on whether the item breaks that rule."""

    overall: Agreement
    categories: Mapping[str, Agreement]


def agreement(
    session: Session, since: datetime, until: datetime, *, seed: int = 0, resamples: int = 500
) -> AgreementReport:
    """Krippendorff's alpha over items that two people or more judged in the period without knowing of each other.

    That is: opinions of an item's first review case and of its blind checks, one a person, late ones included.
    Left out is whatever was given knowing somebody else's: adjudications, appeals, cases opened again. Golden
    items, and checks of items that somebody or something chose, are left out too. The same seed gives the same
    interval.
    """
    units = _judged_twice(session, since, until)
    verdicts = [[verdict for verdict, _ in unit] for unit in units]
    # It resamples, and keeps nothing secret.
    overall = measure(verdicts, Random(seed), resamples)  # noqa: S311
    named = sorted({category for unit in units for _, category in unit if category})
    categories = {}
    for name in named:
        broken = [[category == name for _, category in unit] for unit in units]
        categories[name] = measure(broken, Random(seed), resamples)  # noqa: S311
    return AgreementReport(overall, categories)


def _judged_twice(session: Session, since: datetime, until: datetime) -> list[list[tuple[str, str | None]]]:
    """Per item the independent (verdict, category) of each person, a category only where a rule is broken."""
    other = aliased(Case)
    earlier = exists().where(other.item_id == Case.item_id, other.kind == CaseKind.REVIEW, other.id < Case.id)
    # Most items are judged once, and for those the question which case was the first is not worth asking.
    several = (
        select(Opinion.item_id)
        .where(Opinion.id >= lower_bound(since), Opinion.id < lower_bound(until))
        .group_by(Opinion.item_id)
        .having(func.count() > 1)  # by different people or not is seen below; here it would ask for a sort
    )
    rows = session.execute(
        select(Opinion.item_id, Opinion.person_id, Opinion.verdict, Opinion.category)
        .join(Case, Case.id == Opinion.case_id)
        .where(
            Opinion.item_id.in_(several),
            Opinion.id >= lower_bound(since),
            Opinion.id < lower_bound(until),
            Opinion.undone_at.is_(None),
            Opinion.stage != Stage.ADJUDICATION,
            or_(
                and_(Case.kind == CaseKind.QUALITY, Case.reason.not_in(list(CHOSEN_REASONS))),
                and_(Case.kind == CaseKind.REVIEW, ~earlier),
            ),
        )
        .order_by(Opinion.id)
    )
    units: dict[UUID, dict[UUID, tuple[str, str | None]]] = defaultdict(dict)
    for item, person, verdict, category in rows:
        units[item].setdefault(person, (verdict, category if verdict != Verdict.ALLOW else None))
    return [list(unit.values()) for unit in units.values() if len(unit) > 1]


@dataclass(frozen=True, slots=True)
class Rate:
    """What one origin decided: how many, how many people looked at again, how many of them did not stand."""

    name: str
    decisions: int
    checked: int
    overturned: int

    @property
    def share(self) -> float | None:
        """The share of what was looked at again that did not stand. Of the rest nobody knows."""
        return self.overturned / self.checked if self.checked else None


@dataclass(frozen=True, slots=True)
class Overturns:
    """By what led to a decision: a detector's score, a bank's entry; and by the clause that people cited."""

    detectors: tuple[Rate, ...]
    banks: tuple[Rate, ...]
    clauses: tuple[Rate, ...]


# A decision is overturned if the last word on its item is a person's and is another verdict. It was checked if
# it was overturned, or if somebody gave an opinion on it in a blind check or an appeal.
_OVERTURNED = """
    (d.superseded_at IS NOT NULL AND EXISTS (
        SELECT FROM decisions p
        WHERE p.item_id = d.item_id AND p.superseded_at IS NULL AND p.decided_by = 'person' AND p.route <> d.route
    ))
"""
# A verified match with a bank that asks for what was decided has led to it, and not a score.
_BY_DETECTOR = text(f"""
    WITH {CHECKED}, alone AS (
        SELECT
            CASE WHEN d.category IS NULL AND d.route <> 'allow' THEN NULL ELSE coalesce(
                (SELECT f ->> 'detector' FROM jsonb_array_elements(d.findings) AS f
                 WHERE f ->> 'category' = d.category LIMIT 1),
                d.findings -> 0 ->> 'detector'
            ) END AS detector,
            checked.decision_id IS NOT NULL AS looked_at,
            {_OVERTURNED} AS overturned
        FROM decisions d LEFT JOIN checked ON checked.decision_id = d.id
        WHERE d.id >= :first AND d.decided_by = 'machine' AND d.route <> 'review'
            AND (d.matches = '[]' OR NOT EXISTS (
                SELECT FROM jsonb_to_recordset(d.matches) AS m(action text, verified boolean, quarantined boolean)
                WHERE m.action = d.route AND m.verified AND m.quarantined IS NOT TRUE))
    )
    SELECT detector, count(*), count(*) FILTER (WHERE looked_at OR overturned), count(*) FILTER (WHERE overturned)
    FROM alone WHERE detector IS NOT NULL GROUP BY detector ORDER BY detector
""")  # noqa: S608  our own words
_BY_CLAUSE = text(f"""
    WITH {CHECKED}, cited AS (
        SELECT d.clause, checked.decision_id IS NOT NULL AS looked_at, {_OVERTURNED} AS overturned
        FROM decisions d LEFT JOIN checked ON checked.decision_id = d.id
        WHERE d.id >= :first AND d.decided_by = 'person' AND d.undone_at IS NULL AND d.clause IS NOT NULL
    )
    SELECT clause, count(*), count(*) FILTER (WHERE looked_at OR overturned), count(*) FILTER (WHERE overturned)
    FROM cited GROUP BY clause ORDER BY clause
""")  # noqa: S608  our own words


def overturns(session: Session, since: datetime) -> Overturns:
    """How decisions made since then fared.

    Detectors: decisions of machines that asked nobody, by the detector whose score decided, of what was allowed
    the one with the highest score; without those that a bank's entry led to. Banks: items that an entry matched,
    by `bank_lists.uses`. Clauses: decisions of people that cite one, and that nobody took back within the undo
    window.
    """
    values = {"first": lower_bound(since)}
    banks = bank_lists.uses(session, By.BANK, since)
    return Overturns(
        detectors=tuple(Rate(*row) for row in session.execute(_BY_DETECTOR, values)),
        banks=tuple(Rate(name, use.matches, use.judged, use.wrong) for name, use in banks.items()),
        clauses=tuple(Rate(*row) for row in session.execute(_BY_CLAUSE, values)),
    )


@dataclass(frozen=True, slots=True)
class Check:
    """Blind checks of one reason: how many were opened, are judged and closed, and found the decision wrong.

    `estimate` is the share of wrong decisions in what was drawn from, each check counting for the decisions it
    stands for (1 / propensity); None without any.
    """

    reason: str
    opened: int
    judged: int
    wrong: int
    estimate: float | None


def checks(session: Session, since: datetime) -> list[Check]:
    """What the blind checks opened since then came to: audit draws, second opinions, samples.

    Checks that a lead asked for of an item of their choice are in no estimate: nobody drew them.
    """
    last = aliased(Decision)
    overturned = exists().where(
        last.item_id == Case.item_id,
        last.superseded_at.is_(None),
        last.decided_by == DecidedBy.PERSON,
        last.route != Decision.route,
    )
    judged = and_(
        Case.state == CaseState.CLOSED,
        exists().where(Opinion.case_id == Case.id, Opinion.undone_at.is_(None)),
    )
    rows = session.execute(
        select(
            Case.reason,
            func.count(),
            func.count().filter(judged),
            func.count().filter(judged, overturned),
            func.sum(literal(1.0, Float) / Case.propensity).filter(judged),
            func.sum(literal(1.0, Float) / Case.propensity).filter(judged, overturned),
        )
        .join(Decision, Decision.id == Case.decision_id)
        .where(
            Case.id >= lower_bound(since),
            Case.kind == CaseKind.QUALITY,
            Case.reason.in_(list(DRAWN_REASONS)),
            Case.propensity > 0,
        )
        .group_by(Case.reason)
        .order_by(Case.reason)
    )
    return [
        Check(reason, opened, done, wrong, float(bad or 0) / float(weight) if weight else None)
        for reason, opened, done, wrong, weight, bad in rows
    ]


@dataclass(frozen=True, slots=True)
class Sampling:
    """What a lead wants checked: decisions in force of the last `days`; None means any."""

    days: int = 7
    route: str | None = None
    category: str | None = None
    clause: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """The checks that were opened, and of how many decisions they were drawn."""

    population: int
    propensity: float
    cases: tuple[UUID, ...]


def sample(
    session: Session,
    policy: Policy,
    person: PersonPrincipal,
    wanted: Sampling,
    count: int,
    seed: str,
    now: datetime,
) -> Sample:
    """Draw `count` decided items, each with the same chance, and open a blind check of each.

    `seed` decides who is drawn. Items that are being checked already, or whose content has ended, are left out.

    Raises:
        InvalidInput: too many or too few, too long ago, or no such route.
    """
    _checked_sampling(wanted, count)
    rows = session.execute(_drawn(wanted, count, seed, now)).all()
    population = rows[0][2] if rows else 0
    propensity = len(rows) / population if population else 0.0
    items = lock_items(session, [item for item, _, _ in rows])
    opened = tuple(
        open_case(
            session,
            policy,
            items[item],
            decision,
            blind_draft(CaseReason.SAMPLE, policy, top_category(session, item), propensity),
            now,
        )
        for item, decision, _ in rows
        # It may have been deleted since it was drawn.
        if item in items and items[item].state != ItemState.DELETED
    )
    details = {"population": population, "drawn": len(opened), "days": wanted.days}
    audit.record(
        session, [audit.Event(person.actor, "quality.sampled", "policy", str(policy.version), details)], now
    )
    return Sample(population, propensity, opened)


def _drawn(wanted: Sampling, count: int, seed: str, now: datetime) -> Select[UUID, UUID, int]:
    """Item and decision of each that is drawn, with the number of all that it was drawn from."""
    waiting = exists().where(
        Case.item_id == Item.id, Case.kind == CaseKind.QUALITY, Case.state == CaseState.OPEN
    )
    query = (
        select(Item.id, Decision.id, func.count().over())
        .join(Decision, Decision.item_id == Item.id)
        .where(
            Decision.id >= lower_bound(now - timedelta(days=wanted.days)),
            Decision.superseded_at.is_(None),
            Decision.effective_at <= now,
            Decision.route != Route.REVIEW,
            Item.state.in_([ItemState.DONE, ItemState.DEAD]),
            ~waiting,
            ~set_apart(Item.author_id),
        )
        .order_by(func.md5(func.concat(Decision.id, seed)))
        .limit(count)
    )
    for column, value in (
        (Decision.route, wanted.route),
        (Decision.category, wanted.category),
        (Decision.clause, wanted.clause),
    ):
        query = query if value is None else query.where(column == value)
    return query


def _checked_sampling(wanted: Sampling, count: int) -> None:
    if not 1 <= count <= MOST_DRAWN:
        raise InvalidInput(f"Draw between 1 and {MOST_DRAWN} items at a time.")
    if not 1 <= wanted.days <= MOST_DAYS:
        raise InvalidInput(f"Draw from the last 1 to {MOST_DAYS} days.")
    if wanted.route is not None and wanted.route not in set(Verdict):
        raise InvalidInput("The route to draw from is allow, limit or remove.")


@dataclass(frozen=True, slots=True)
class GoldenAnswer:
    """A person's answer to a golden item, beside the right one; None of it once the item has ended."""

    opinion_id: UUID
    case_id: UUID
    item_id: UUID
    verdict: str
    category: str | None
    right_verdict: str | None
    right_category: str | None
    given_at: datetime
    contested: str | None

    @property
    def right(self) -> bool:
        """Whether the verdict was the right one; the category is for learning only."""
        return self.verdict == self.right_verdict


@dataclass(frozen=True, slots=True)
class OwnResults:
    """What a person is told of their own work, and nobody else is.

    `decisions` of theirs, how many somebody looked at again, how many did not stand; and their answers to golden
    items, newest first.
    """

    opinions: int
    decisions: int
    checked: int
    overturned: int
    golden: tuple[GoldenAnswer, ...]


def own_results(session: Session, person: PersonPrincipal, since: datetime) -> OwnResults:
    """The results of whoever asks, and of nobody else: there is no way to name another person."""
    me, first = person.person_id, lower_bound(since)
    opinions = session.scalar(
        select(func.count()).where(
            Opinion.person_id == me, Opinion.given_at >= since, Opinion.undone_at.is_(None)
        )
    )
    decided, checked, overturned = session.execute(_OWN, {"person": me, "first": first}).one()
    return OwnResults(opinions or 0, decided, checked, overturned, tuple(_golden_answers(session, me, since)))


# By the opinions that led to them: those have an index by person.
_OWN = text(f"""
    WITH mine AS (
        SELECT DISTINCT o.decision_id FROM opinions o
        WHERE o.person_id = :person AND o.undone_at IS NULL AND o.decision_id IS NOT NULL AND o.id >= :first
    )
    SELECT count(*), count(*) FILTER (WHERE looked_at OR overturned), count(*) FILTER (WHERE overturned)
    FROM (
        SELECT {_OVERTURNED} AS overturned, EXISTS (
            SELECT FROM cases c JOIN opinions o ON o.case_id = c.id
            WHERE c.item_id = d.item_id AND c.decision_id = d.id AND c.kind IN ('quality', 'appeal')
              AND o.undone_at IS NULL
        ) AS looked_at
        FROM decisions d JOIN mine ON mine.decision_id = d.id
        WHERE d.person_id = :person AND d.undone_at IS NULL
    ) AS each
""")  # noqa: S608  our own words


def _golden_answers(session: Session, person: UUID, since: datetime) -> Sequence[GoldenAnswer]:
    other = aliased(Opinion)
    withdrawn = exists().where(other.item_id == Opinion.item_id, other.contested == WITHDRAWN)
    rows = session.execute(
        select(Opinion, GoldenItem)
        .join(Case, Case.id == Opinion.case_id)
        .outerjoin(GoldenItem, GoldenItem.item_id == Opinion.item_id)
        .where(
            Opinion.person_id == person,
            Opinion.given_at >= since,
            Opinion.undone_at.is_(None),
            Case.kind == CaseKind.GOLDEN,
            # What a lead withdrew counts against nobody; who contested it sees what became of that.
            or_(~withdrawn, Opinion.contested.is_not(None)),
        )
        .order_by(Opinion.given_at.desc())
    )
    return [
        GoldenAnswer(
            opinion_id=opinion.id,
            case_id=opinion.case_id,
            item_id=opinion.item_id,
            verdict=opinion.verdict,
            category=opinion.category,
            right_verdict=golden.verdict if golden else None,
            right_category=golden.category if golden else None,
            given_at=opinion.given_at,
            contested=opinion.contested,
        )
        for opinion, golden in rows
    ]
