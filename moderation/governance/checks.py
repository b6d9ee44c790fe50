"""Blind checks as evidence: what machines decided first in a period, what was drawn of it, and what people found.

Two things that must not be mixed up are read apart. The *traffic* is every decision with its scores and the
probability that it was drawn with: no label, nor whether it was drawn. The *checks* are the drawn ones with what
people found. Both are read as they stood at a moment, so that what was proved can be proved again later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, select, text
from sqlalchemy.orm import Session

from moderation.domain.cases import Verdict
from moderation.domain.promises import Side
from moderation.domain.signals import Category
from moderation.governance.lineups import Name
from moderation.storage.ids import lower_bound
from moderation.storage.tables import Decision

MOST = 50_000
"""Decisions of traffic that are read; of more an even sample."""
WINDOWS = 1000
"""Pieces of the period that a sample is made of."""
CHUNK = 2_000
_TURN = 0.6180339887498949  # the golden ratio's: each window begins elsewhere in its slot


class State(StrEnum):
    """How far a check has come."""

    SETTLED = "settled"
    OVERDUE = "overdue"  # nobody has answered in time: it counts as a mistake
    WAITING = "waiting"  # there is still time
    WITHDRAWN = "withdrawn"  # the content ended before anybody looked: it counts as nothing


@dataclass(frozen=True, slots=True)
class Seen:
    """A first decision of a machine as it was stored: no label, nor whether it was drawn."""

    decision: UUID
    item: UUID
    client: str
    slice: str
    propensity: float
    policy_version: int
    scores: Mapping[str, float]  # by category, as the decision keeps them
    versions: tuple[Name, ...]  # of its detectors
    judged: bool | None = None  # of what was restated: whether people judged it


@dataclass(frozen=True, slots=True)
class Drawn:
    """A decision that was drawn, and what people found; `verdict` and `category` are None until somebody has."""

    seen: Seen
    state: State
    verdict: str | None
    category: str | None

    def wrong(self, side: Side, category: str) -> bool:
        """Whether it is a mistake of the rule that removes, or lets pass, for `category`."""
        if self.state is State.OVERDUE:
            return True
        if side is Side.REMOVE:
            return self.verdict != Verdict.REMOVE
        return self.verdict != Verdict.ALLOW and self.category == category


@dataclass(frozen=True, slots=True)
class Period:
    """Decisions made in [since, until), and their checks as they stood `at`.

    A check is overdue if it was opened so long before `at` that it should be `settled`.
    """

    since: datetime
    until: datetime
    at: datetime
    settle: timedelta


# Findings as they are: to pick them apart here is several times as fast as in the database.
_SEEN = "d.id, d.item_id, d.client, d.slice, d.propensity, d.policy_version, d.findings, d.detectors"
# What a machine decided first, from scores, and could have been drawn.
_FIRST = """
    d.decided_by = 'machine' AND d.supersedes IS NULL AND d.reverses IS NULL
    AND d.stratum IN ('far', 'near', 'uncertain') AND d.propensity IS NOT NULL AND d.slice IS NOT NULL
"""

_TRAFFIC = text(f"""
    SELECT {_SEEN}
    FROM unnest(CAST(:begins AS uuid[]), CAST(:ends AS uuid[])) AS w(begins, ends)
    JOIN decisions d ON d.id >= w.begins AND d.id < w.ends
    WHERE {_FIRST}
""")  # noqa: S608  our own words

# A check's case is opened with its decision. What settles it is the last opinion that counts of that case, or what
# people decided of the item after it was closed: an answer to an appeal, say. Not what was looked at again because
# a machine sees it otherwise: mistakes that machines and people share would stay, and all others go.
_CHECKS = f"""
    SELECT {_SEEN}, c.opened_at, c.state = 'closed' AND c.closed_at <= :at AS closed,
        CASE WHEN later.id IS NULL THEN o.verdict ELSE later.route END AS verdict,
        CASE WHEN later.id IS NULL THEN o.category ELSE later.category END AS category
    FROM cases c
    JOIN decisions d ON d.id = c.decision_id
    LEFT JOIN LATERAL (
        SELECT o.verdict, o.category FROM opinions o
        WHERE o.case_id = c.id AND NOT o.late AND o.given_at <= :at AND (o.undone_at IS NULL OR o.undone_at > :at)
        ORDER BY o.stage = 'adjudication' DESC, o.stage = 'second' DESC, o.id DESC LIMIT 1
    ) AS o ON true
    LEFT JOIN LATERAL (
        SELECT p.id, p.route, p.category FROM decisions p
        WHERE p.item_id = d.item_id AND (p.superseded_at IS NULL OR p.superseded_at IS NOT NULL)
            AND p.decided_by = 'person' AND p.case_id IS DISTINCT FROM c.id
            AND c.state = 'closed' AND p.decided_at > c.closed_at AND p.decided_at <= :at
            AND (p.undone_at IS NULL OR p.undone_at > :at)
            AND NOT EXISTS (SELECT FROM cases l WHERE l.id = p.case_id AND l.reason = 'look_again')
        ORDER BY p.id DESC LIMIT 1
    ) AS later ON o.verdict IS NOT NULL
    WHERE ((c.kind = 'quality' AND c.reason = 'audit') OR (c.kind = 'review' AND c.blind)) AND {_FIRST}
"""  # noqa: S608  our own words
_OF_PERIOD = text(
    f"{_CHECKS} AND c.id >= :first_case AND c.id < :last_case AND d.id >= :first AND d.id < :last ORDER BY d.id"
)
_CLOSED = text(
    f"{_CHECKS} AND c.state = 'closed' AND c.closed_at > :since AND c.closed_at <= :at ORDER BY c.closed_at, d.id"
)


def traffic(session: Session, period: Period, wanted: Collection[str], most: int = MOST) -> Iterator[Seen]:
    """Every decision of the period, or an even sample of about `most`; whether it was drawn plays no part.

    Scores are read of the categories that are `wanted`.
    """
    if not most:
        return
    first, last = lower_bound(period.since), lower_bound(period.until)
    total = session.scalar(
        select(func.count()).select_from(Decision).where(Decision.id >= first, Decision.id < last)
    )
    windows = [(first, last)] if (total or 0) <= most else _windows(period, most / (total or 1))
    values = {"begins": [begin for begin, _ in windows], "ends": [end for _, end in windows]}
    for row in session.execute(_TRAFFIC, values, execution_options={"yield_per": CHUNK}):
        yield _seen(row, wanted)


def _windows(period: Period, share: float) -> list[tuple[UUID, UUID]]:
    """Pieces of the period that are `share` of it together, at every hour of the day."""
    slot = (period.until - period.since) / WINDOWS
    found = []
    for number in range(WINDOWS):
        begin = period.since + slot * number + slot * (1 - share) * (number * _TURN % 1)
        found.append((lower_bound(begin), lower_bound(begin + slot * share)))
    return found


def drawn(session: Session, period: Period, wanted: Collection[str]) -> list[Drawn]:
    """What was drawn of the period, in the order of the decisions, with what people found until `period.at`."""
    second = timedelta(seconds=1)
    values = {
        "at": period.at,
        "first": lower_bound(period.since),
        "last": lower_bound(period.until),
        "first_case": lower_bound(period.since - second),
        "last_case": lower_bound(period.until + second),
    }
    return [_drawn(row, wanted, period.at - period.settle) for row in session.execute(_OF_PERIOD, values)]


def closed(
    session: Session, since: datetime, until: datetime, wanted: Collection[str] = tuple(Category)
) -> list[Drawn]:
    """Checks whose case was closed in (since, until], in the order in which that happened, as they stood then."""
    rows = session.execute(_CLOSED, {"since": since, "at": until})
    return [_drawn(row, wanted, until) for row in rows]


_ANY_CLOSED = text("""
    SELECT EXISTS (
        SELECT FROM cases c WHERE c.state = 'closed' AND c.closed_at > :since AND c.closed_at <= :at
            AND ((c.kind = 'quality' AND c.reason = 'audit') OR (c.kind = 'review' AND c.blind))
    )
""")


def any_closed(session: Session, since: datetime, until: datetime) -> bool:
    """Whether any check was closed in (since, until]."""
    return bool(session.scalar(_ANY_CLOSED, {"since": since, "at": until}))


def _seen(row: Row[Any], wanted: Collection[str]) -> Seen:
    return Seen(
        decision=row.id,
        item=row.item_id,
        client=row.client,
        slice=row.slice,
        propensity=row.propensity,
        policy_version=row.policy_version,
        scores={one["category"]: one["probability"] for one in row.findings if one["category"] in wanted},
        versions=tuple((one["name"], one["version"]) for one in row.detectors),
    )


def _drawn(row: Row[Any], wanted: Collection[str], overdue_before: datetime) -> Drawn:
    if row.closed:
        state = State.WITHDRAWN if row.verdict is None else State.SETTLED
    else:
        state = State.OVERDUE if row.opened_at <= overdue_before else State.WAITING
    settled = state is State.SETTLED
    return Drawn(
        _seen(row, wanted), state, row.verdict if settled else None, row.category if settled else None
    )


def digest(drawn: Sequence[Drawn], scores: Iterable[float]) -> str:
    """The manifest of the data as one SHA-256: of each check its decision, score, propensity and what was found."""
    made = hashlib.sha256()
    for one, score in zip(drawn, scores, strict=True):
        found = f"{one.state} {one.verdict or '-'} {one.category or '-'}"
        made.update(f"{one.seen.decision} {score:.4f} {one.seen.propensity!r} {found}\n".encode())
    return made.hexdigest()
