"""Simulate a policy: read what decisions keep of the screening, and route it again under both policies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal_column, select
from sqlalchemy.orm import Session

from moderation.domain import simulation
from moderation.domain.decisions import DecidedBy
from moderation.domain.errors import InvalidInput
from moderation.domain.policy import Policy
from moderation.domain.simulation import Comparison, Screened, Simulated
from moderation.storage.ids import lower_bound
from moderation.storage.tables import Bank, Case, Decision, Opinion

MOST = 100_000
LONGEST_DAYS = 90
CHUNK = 2_000
# A case left open over lunch was not handled for that long.
LONGEST_HANDLING = timedelta(hours=1)

Progress = Callable[[int, int], None]
"""Told how many items are done, and of how many."""


def silent(done: int, total: int) -> None:
    """Tell nobody how far it is."""


def run(
    session: Session,
    before: Policy,
    after: Policy,
    days: float,
    now: datetime,
    *,
    most: int = MOST,
    progress: Progress = silent,
) -> Simulated:
    """Compare two policies over what was screened in the last `days`; an even sample of it beyond `most`.

    Raises:
        InvalidInput: the number of days is none that can be looked at.
    """
    if not 0 < days <= LONGEST_DAYS:
        raise InvalidInput(f"Give a number of days from 1 to {LONGEST_DAYS}.")
    first = _first_decisions(now - timedelta(days=days), now)
    total = session.scalar(select(func.count()).select_from(first.subquery())) or 0
    share = -(-total // most) or 1
    compared, read, unscreened = Comparison(before, after), 0, 0
    for one in _read(session, first if share == 1 else first.where(_every(share))):
        read += 1
        if one is None:
            unscreened += 1
        else:
            compared.add(one)
        if read % CHUNK == 0:
            progress(read, -(-total // share))
    progress(read, read)
    seconds = seconds_a_case(session, now - timedelta(days=days))
    # What was not screened is known of the sample only.
    scaled = round(unscreened * total / read) if read else 0
    return simulation.result(compared, days, total, scaled, seconds)


def _first_decisions(since: datetime, until: datetime) -> Select[Any]:
    """What the screening itself decided: nothing came before it."""
    return select(Decision).where(
        Decision.id >= lower_bound(since),
        Decision.id < lower_bound(until),
        Decision.decided_by == DecidedBy.MACHINE,
        Decision.supersedes.is_(None),
        Decision.reverses.is_(None),
    )


def _every(share: int) -> ColumnElement[bool]:
    """One of `share` items, whatever their order: the same ones each time."""
    digest: ColumnElement[int] = literal_column(
        "('x' || substr(md5(decisions.item_id::text), 1, 8))::bit(32)::bigint"
    )
    return digest % share == 0


def _read(session: Session, first: Select[Any]) -> Iterator[Screened | None]:
    banks: dict[str, str] = dict(session.execute(select(Bank.name, Bank.category)).all())
    rows = first.with_only_columns(
        Decision.item_id,
        Decision.route,
        Decision.category,
        Decision.policy_version,
        Decision.findings,
        Decision.matches,
        Decision.detectors,
    )
    for item, route, category, version, findings, matches, detectors in session.execute(
        rows.execution_options(yield_per=CHUNK)
    ):
        # A bank that is gone leaves its category with what it decided.
        known = banks if not matches else {one["bank"]: category or "" for one in matches} | banks
        yield simulation.screened(item, route, version, findings, matches, detectors, known)


def seconds_a_case(session: Session, since: datetime) -> float | None:
    """The median time from claim to opinion; None if nobody gave one."""
    took = Opinion.given_at - Case.claimed_at
    median = func.percentile_cont(0.5).within_group(func.extract("epoch", took))
    found = session.scalar(
        select(median)
        .join(Case, Case.id == Opinion.case_id)
        .where(
            Opinion.id >= lower_bound(since),
            Opinion.undone_at.is_(None),
            took > timedelta(),
            took < LONGEST_HANDLING,
        )
    )
    return None if found is None else float(found)
