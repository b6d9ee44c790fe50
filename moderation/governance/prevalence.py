"""How much of what came in breaks which rule: from blind checks and the probabilities with which they were drawn.

Of the items that machines judged first in a period. What people decided without having been drawn is no sample of
anything and counts nowhere, but for what a bank or a failure sent to them: of that they judge all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from moderation.domain import prevalence as domain
from moderation.domain.cases import Verdict
from moderation.domain.estimates import Estimate
from moderation.domain.prevalence import Stratum
from moderation.domain.signals import Category
from moderation.storage.ids import lower_bound

ANY = "any"
"""Whatever rule it breaks."""


@dataclass(frozen=True, slots=True)
class Prevalence:
    """Of one category, or of `any`: the estimated share of items that people restrict for it, with 95 % interval.

    `judged` blind checks, of which so many were `found` to break the rule; no share where nobody judged anything.
    """

    category: str
    judged: int
    found: int
    share: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Prevalences:
    """Of every category. `items` were judged by machines first, and `covered` is the share that could be estimated.

    The rest had no chance of being drawn, or is of a stratum in which nobody has judged anything yet.
    """

    items: int
    covered: float
    rows: tuple[Prevalence, ...]


# What a machine judged first. Decisions from before strata were kept are left out.
_FIRST = """
    d.id >= :first AND d.id < :last AND d.decided_by = 'machine' AND d.supersedes IS NULL AND d.reverses IS NULL
    AND d.stratum IS NOT NULL
"""
_ALL_OF_IT = "d.stratum = 'other' AND d.route = 'review'"
_ITEMS = text(f"""
    SELECT d.stratum, {_ALL_OF_IT} AS whole, d.propensity > 0 AS drawn, count(*) FROM decisions d WHERE {_FIRST}
    GROUP BY 1, 2, 3
""")  # noqa: S608  our own words
# What settles a check is the last opinion that counts of its case, or what people decided of the item after that.
_JUDGED = text(f"""
    SELECT DISTINCT ON (d.id) d.stratum, {_ALL_OF_IT} AS whole, d.propensity,
        CASE WHEN later.id IS NULL THEN o.verdict ELSE later.route END AS verdict,
        CASE WHEN later.id IS NULL THEN o.category ELSE later.category END AS category
    FROM cases c
    JOIN decisions d ON d.id = c.decision_id
    JOIN LATERAL (
        SELECT o.verdict, o.category FROM opinions o
        WHERE o.case_id = c.id AND NOT o.late AND o.undone_at IS NULL
        ORDER BY o.stage = 'adjudication' DESC, o.stage = 'second' DESC, o.id DESC LIMIT 1
    ) AS o ON true
    LEFT JOIN LATERAL (
        SELECT p.id, p.route, p.category FROM decisions p
        WHERE p.item_id = d.item_id AND (p.superseded_at IS NULL OR p.superseded_at IS NOT NULL)
            AND p.decided_by = 'person' AND p.case_id IS DISTINCT FROM c.id
            AND p.decided_at > c.closed_at AND p.undone_at IS NULL
        ORDER BY p.id DESC LIMIT 1
    ) AS later ON true
    WHERE c.id >= :first AND c.id < :last_case AND c.state = 'closed' AND {_FIRST} AND (
        (d.propensity > 0 AND ((c.kind = 'quality' AND c.reason = 'audit') OR (c.kind = 'review' AND c.blind)))
        OR (c.kind = 'review' AND {_ALL_OF_IT})
    )
    ORDER BY d.id, c.id DESC
""")  # noqa: S608  our own words


def prevalence(session: Session, since: datetime, until: datetime) -> Prevalences:
    """What came in from `since` up to `until`, with what people have found of it by now."""
    values = {
        "first": lower_bound(since),
        "last": lower_bound(until),
        # A case is opened with its decision, at the same moment.
        "last_case": lower_bound(until + timedelta(seconds=1)),
    }
    items: dict[tuple[str, bool], int] = defaultdict(int)
    total = 0
    for stratum, whole, drawn, number in session.execute(_ITEMS, values):
        total += number
        if whole or drawn:
            items[stratum, whole] += number
    judged: dict[tuple[str, bool], list[tuple[float, str, str | None]]] = defaultdict(list)
    for stratum, whole, propensity, verdict, category in session.execute(_JUDGED, values):
        judged[stratum, whole].append((1.0 if whole else propensity, verdict, category))

    def strata(breaks: Callable[[str, str | None], bool]) -> list[Stratum]:
        return [
            Stratum(
                number,
                [(chance, breaks(verdict, category)) for chance, verdict, category in judged[name]],
                everything=name[1],
            )
            for name, number in sorted(items.items())
        ]

    known = strata(lambda verdict, _: verdict != Verdict.ALLOW)
    rows = [_row(ANY, domain.prevalence(known))]
    for one in Category:
        of_one = strata(lambda verdict, category, one=one: verdict != Verdict.ALLOW and category == one)  # type: ignore[misc]
        rows.append(_row(one, domain.prevalence(of_one)))
    share = domain.covered(known) * sum(items.values()) / total if total else 0.0
    return Prevalences(total, share, tuple(rows))


def _row(category: str, found: Estimate) -> Prevalence:
    return Prevalence(str(category), found.checked, found.wrong, found.share, found.low, found.high)
