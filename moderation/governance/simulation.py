"""Simulate a policy: read what decisions keep of the screening, and route it again under both policies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, literal_column, select
from sqlalchemy.orm import Session

from moderation.domain import simulation
from moderation.domain.decisions import DecidedBy
from moderation.domain.errors import InvalidInput
from moderation.domain.policy import Policy
from moderation.domain.promises import Certificate, InForce, Occasion
from moderation.domain.routing import NOTHING_CERTIFIED, Thresholds, thresholds
from moderation.domain.simulation import Comparison, Promised, Read, Screened, Simulated
from moderation.governance import certification, lineups, proving, restating
from moderation.governance.certification import Attempt, Candidate
from moderation.governance.checks import Seen
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
    candidate: Candidate | None = None,
) -> Simulated:
    """Compare two policies over what was screened in the last `days`; an even sample of it beyond `most`.

    With a candidate the other side is that version, where it has said something of an item in the shadow. Both
    sides stand on certificates: those in force, and those that could be proved now.

    Raises:
        InvalidInput: the number of days is none that can be looked at.
        NotFound: there is no such candidate.
    """
    if not 0 < days <= LONGEST_DAYS:
        raise InvalidInput(f"Give a number of days from 1 to {LONGEST_DAYS}.")
    since = now - timedelta(days=days)
    certified = Sides.of(session, before, after, now, candidate, most)
    compared = Comparison(before, after, certified.before, certified.after)
    first = _first_decisions(since, now)
    total = session.scalar(select(func.count()).select_from(first.subquery())) or 0
    share = -(-total // most) or 1
    read = unscreened = unheard = 0
    rows = _read(session, first if share == 1 else first.where(_every(share)))
    pairs = _heard(session, rows, candidate, since) if candidate else ((row and row[1], None) for row in rows)
    for one, then in pairs:
        read += 1
        if one is None:
            unscreened += 1
        elif candidate is not None and then is None:
            unheard += 1
        else:
            compared.add(one, then)
        if read % CHUNK == 0:
            progress(read, -(-total // share))
    progress(read, read)
    # What was not screened, or not heard of, is known of the sample only.
    unscreened, unheard = (round(one * total / read) if read else 0 for one in (unscreened, unheard))
    seconds = seconds_a_case(session, since)
    found = simulation.result(compared, Read(days, total, unscreened, unheard, share > 1), seconds)
    model = (candidate.name, candidate.version) if candidate else None
    return replace(found, promises=certified.promises(), model=model)


@dataclass(frozen=True, slots=True)
class Sides:
    """What is certified on both sides: in force now, and what could be proved now of the other."""

    held: InForce
    proved: InForce
    attempts: Sequence[Attempt]
    policies: tuple[Policy, Policy]
    reader: lineups.Reader

    @classmethod
    def of(
        cls,
        session: Session,
        before: Policy,
        after: Policy,
        now: datetime,
        candidate: Candidate | None,
        most: int,
    ) -> Sides:
        """Prove what the other side promises, and write nothing.

        Raises:
            NotFound: there is no such candidate.
        """
        attempts: Sequence[Attempt] = ()
        if proving.promised(after):
            attempts = certification.certify(
                session, after, "machine", now, Occasion.ASKED, candidate=candidate, dry=True, most=most
            ).attempts
        proved = InForce.of(
            Certificate(
                UUID(int=number), one.category, one.side, one.slice, one.lineup, one.threshold, one.allowed
            )
            for number, one in enumerate(attempts)
            if one.threshold is not None
        )
        held = certification.in_force(session, before, now)
        return cls(held, proved, attempts, (before, after), lineups.Reader(lineups.known(session)))

    def before(self, one: Screened) -> Mapping[str, Thresholds]:
        """The thresholds of an item as they are now."""
        return self._thresholds(self.policies[0], self.held, one)

    def after(self, one: Screened) -> Mapping[str, Thresholds]:
        """The thresholds of an item as they could be."""
        return self._thresholds(self.policies[1], self.proved, one)

    def _thresholds(self, policy: Policy, held: InForce, one: Screened) -> Mapping[str, Thresholds]:
        if not held.certificates or one.slice is None:
            return NOTHING_CERTIFIED
        # A slice that the policy does not name belongs to all others.
        slice_ = policy.certificates.slice_of(one.slice)
        categories = {category for category, *_ in held.certificates}
        asked = {category: self.reader.of(category, one.models) for category in categories}
        return thresholds(policy, held, slice_, asked)

    def promises(self) -> list[Promised]:
        """How each promise stands on both sides; the last ones are promised on the first side only."""
        was = {(name, side): allowed for name, side, allowed in proving.promised(self.policies[0])}
        found = []
        seen = set()
        for one in self.attempts:
            key = (one.category, one.side, one.slice, one.lineup)
            seen.add(key)
            now = self.held.find(*key)
            found.append(
                Promised(
                    one.category, str(one.side), one.slice, one.lineup, was.get((one.category, one.side)),
                    one.allowed, now.threshold if now else None, one.threshold, one.share, one.checks,
                    one.mistakes, one.needed,
                )
            )  # fmt: skip
        for key, now in self.held.certificates.items():
            if key not in seen:
                category, side, slice_, lineup = key
                found.append(
                    Promised(category, str(side), slice_, lineup, now.allowed, None, now.threshold, None)
                )
        return found


def _heard(
    session: Session, rows: Iterable[tuple[Seen, Screened] | None], candidate: Candidate, since: datetime
) -> Iterator[tuple[Screened | None, Screened | None]]:
    """What was found in each item, and what would have been with the candidate; None where it said nothing."""
    known = lineups.known(session)
    sets = restating.stand_ins(session, candidate)[-1:]
    version = (candidate.name, candidate.version)
    left = iter(rows)
    while chunk := list(islice(left, CHUNK)):
        there = [one for one in chunk if one is not None]
        views = restating.restated(
            session, known, sets, [seen for seen, _ in there], since, restating.Tally()
        )
        then = {one.decision: one for several in views for one in several if version in one.versions}
        for row in chunk:
            if row is None:
                yield None, None
                continue
            seen, one = row
            told = then.get(seen.decision)
            if not restating.asked(known, version, seen):
                yield one, one  # a head of others says nothing of it, before and after
            else:
                yield one, None if told is None else one.said_by(told.scores, told.versions)


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


def _read(session: Session, first: Select[Any]) -> Iterator[tuple[Seen, Screened] | None]:
    banks: dict[str, str] = dict(session.execute(select(Bank.name, Bank.category)).all())
    rows = first.with_only_columns(
        Decision.id,
        Decision.item_id,
        Decision.client,
        Decision.route,
        Decision.category,
        Decision.policy_version,
        Decision.findings,
        Decision.matches,
        Decision.detectors,
        Decision.slice,
    )
    for (
        decision,
        item,
        client,
        route,
        category,
        version,
        findings,
        matches,
        detectors,
        slice_,
    ) in session.execute(rows.execution_options(yield_per=CHUNK)):
        # A bank that is gone leaves its category with what it decided.
        known = banks if not matches else {one["bank"]: category or "" for one in matches} | banks
        one = simulation.screened(item, route, version, findings, matches, detectors, known, slice_)
        if one is None:
            yield None
            continue
        scores = {finding["category"]: finding["probability"] for finding in findings}
        yield Seen(decision, item, client, slice_ or "", 0.0, version, scores, one.models), one


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
