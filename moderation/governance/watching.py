"""The watch over certificates: what was decided since the last look is held against what they were proved from.

Every few seconds one relay looks, whichever comes first; the others pass. Decisions are read in the order in
which the audit log numbered their events: each has one number, given after its commit, so that one committed late
is neither missed nor counted twice, by whichever relay and after whatever restart. What was seen is kept as a few
numbers a certificate (`certificates.watch`), and `watched_at` says when. If nobody looks, or the log is not
numbered any more, certificates lapse by themselves (`certification.in_force`).

A look reads `MOST` decisions at most, the newest; a longer pause is passed over. It locks nothing that anybody
waits for. An alarm is stored before it is acted on, and acted on in a transaction of its own: the short one that
batches of the pipeline wait for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from moderation.domain.decisions import DecidedBy
from moderation.domain.drift import MeanWatch, Reference, RiskWatch, ShareWatch, State
from moderation.domain.policy import Policy
from moderation.domain.promises import Side, Stratum, Void
from moderation.governance import audit, certification, checks, ledger, lineups
from moderation.governance.checks import Drawn
from moderation.governance.lineups import Name
from moderation.governance.policies import PolicyCache
from moderation.storage.database import among, transaction
from moderation.storage.ids import lower_bound, moment_of
from moderation.storage.tables import AuditEvent, CertificateRow, Decision

MOST = 5_000  # decisions of one look: in five seconds eight times as many as ten million a day are
SPAN = 50_000  # events of the log of one look
FIRST = 1_000  # events among which the first number since a moment is looked for
BEHIND = timedelta(minutes=1)  # an event that has waited so long for its number: the log is not numbered
CHECKS_EVERY = timedelta(minutes=1)
SETTLED = timedelta(seconds=30)  # longer than an undo is possible, and than a commit takes
_LOCK = 7_203_015
_SCORED = (Stratum.FAR, Stratum.NEAR, Stratum.UNCERTAIN)
_NOTHING = State(())

Place = tuple[str, str, str]
"""Category, slice and lineup."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """A certificate that does not fit what is seen any more."""

    certificate: UUID
    category: str
    side: Side
    slice: str
    reason: Void


@dataclass(frozen=True, slots=True)
class Figures:
    """How many certificates hold, and how long ago somebody looked at the one that was looked at longest ago."""

    in_force: int
    age: timedelta


@dataclass(slots=True)
class _Stream:
    """Scores of one place in the order of their numbers in the log."""

    numbers: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    def since(self, number: int) -> NDArray[np.float64]:
        """The scores from this number on."""
        begin = int(np.searchsorted(self.numbers, number))
        return np.asarray(self.scores[begin:], dtype=np.float64)


@dataclass(slots=True)
class _Watch:
    """What is kept of one certificate: up to where the log was read and checks were, and the games."""

    row: CertificateRow
    number: int
    checked: datetime
    items: int = 0
    scores: State = _NOTHING
    prevalence: State = _NOTHING
    risk: State = _NOTHING
    near: dict[str, float] = field(default_factory=dict)  # how near each is to an alarm: 0 nothing, 1 alarm
    alarm: Void | None = None

    @classmethod
    def of(cls, session: Session, row: CertificateRow, end: int) -> _Watch:
        """As it was left; it begins with what was decided since it was issued."""
        kept = row.watch
        if not kept:
            return cls(row, _number_at(session, row.issued_at, end), row.issued_at)
        states = {name: State.of(kept[name]) for name in ("scores", "prevalence", "risk")}
        alarm = Void(kept["alarm"]) if kept["alarm"] else None
        checked = datetime.fromtimestamp(kept["checked"], UTC)
        return cls(row, kept["number"], checked, kept["items"], near=kept["near"], alarm=alarm, **states)

    def document(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "number": self.number,
            "checked": self.checked.timestamp(),
            "items": self.items,
            **{name: getattr(self, name).document() for name in ("scores", "prevalence", "risk")},
            "near": self.near,
            "alarm": str(self.alarm) if self.alarm else None,
        }

    @property
    def place(self) -> Place:
        return self.row.category, self.row.slice, self.row.lineup

    def take_in(self, stream: _Stream, end: int, tolerance: float) -> None:
        """Hold the scores of what was decided since against those of the certified period."""
        found = stream.since(self.number)
        self.number = end
        if not len(found):
            return
        self.items += len(found)
        reference = Reference.of(self.row.document["reference"])
        shares = ShareWatch(reference.shares, tolerance)
        # What may be missed grows with what breaks the rule, and what is removed wrongly with what does not.
        mean = MeanWatch(reference.mean, tolerance, falling=self.row.side == Side.REMOVE)
        self.scores = shares.update(self.scores, reference.counts(found))
        self.prevalence = mean.update(self.prevalence, found)
        self._note(Void.PREVALENCE, mean.height(self.prevalence))
        self._note(Void.SCORES, shares.height(self.scores))

    def weigh(self, found: Iterable[Drawn], until: datetime, least: float, reader: lineups.Reader) -> None:
        """Hold what people found since against the promise."""
        self.checked = until
        counted = [one for one in found if self._counts(one, reader)]
        if not counted:
            return
        side, category = Side(self.row.side), self.row.category
        wrong = np.array([one.wrong(side, category) for one in counted], dtype=np.float64)
        propensity = np.array([one.seen.propensity for one in counted], dtype=np.float64)
        watch = RiskWatch(self.row.allowed, least)
        self.risk = watch.update(self.risk, wrong, propensity)
        self._note(Void.RISK, watch.height(self.risk))

    def _note(self, reason: Void, height: float) -> None:
        """An alarm stays one until somebody has acted on it."""
        self.near[reason] = round(min(height, 1.0), 4)
        if height >= 1 and self.alarm is None:
            self.alarm = reason

    def _counts(self, one: Drawn, reader: lineups.Reader) -> bool:
        """Whether a check is of this rule's own decisions, and not one that it was proved from."""
        row, score = self.row, one.seen.scores.get(self.row.category)
        if one.state is not checks.State.SETTLED or score is None or moment_of(one.seen.decision) < row.until:
            return False
        inside = score >= row.threshold if row.side == Side.REMOVE else score < row.threshold
        return (
            inside
            and one.seen.slice == row.slice
            and reader.of(row.category, one.seen.versions) == row.lineup
        )


def watch(engine: Engine, policies: PolicyCache, now: datetime) -> list[Alarm]:
    """Look at what was decided since the last look, and void what does not fit any more; the alarms.

    Owns its transactions.
    """
    with transaction(engine, durable=False) as session:
        alarms = look(session, policies.current(session), now)
    voided: set[UUID] = set()
    for reason in sorted({alarm.reason for alarm in alarms}):
        with transaction(engine) as session:
            ids = [alarm.certificate for alarm in alarms if alarm.reason is reason]
            voided.update(certification.void(session, ids, reason, audit.MACHINE, now))
    return [alarm for alarm in alarms if alarm.certificate in voided]


def look(session: Session, policy: Policy, now: datetime) -> list[Alarm]:
    """Take in what was decided since the last look; the alarms, with those that were not acted on yet.

    None while another relay looks.
    """
    if not session.scalar(select(func.pg_try_advisory_xact_lock(_LOCK))):
        return []
    end = ledger.size(session)
    # What nothing can be held against is not watched, and lapses.
    live = [row for row in _live(session, policy, now) if "reference" in row.document]
    watches = [_Watch.of(session, row, end) for row in live]
    if not watches:
        return []
    reader = lineups.Reader(lineups.known(session))
    begin = max(min(one.number for one in watches), end - SPAN)
    streams = _streams(session, reader, {one.row.category for one in watches}, begin, end)
    for one in watches:
        one.take_in(streams[one.place], end, policy.certificates.tolerance)
    _weigh_all(session, policy, reader, watches, now)
    kept = _keep(session, watches, None if _behind(session, now) else now)
    return [
        Alarm(one.row.id, one.row.category, Side(one.row.side), one.row.slice, one.alarm)
        for one in watches
        if one.alarm is not None and one.row.id in kept
    ]


def figures(session: Session, policy: Policy, now: datetime) -> Figures:
    """What the metrics say of certificates; an age of nothing where there is none to look at."""
    oldest = min((row.watched_at for row in _live(session, policy, now)), default=now)
    return Figures(len(certification.in_force(session, policy, now).certificates), now - oldest)


def _live(session: Session, policy: Policy, now: datetime) -> Sequence[CertificateRow]:
    """Every certificate of the policy in force that has not ended, with those that nobody watched for a while."""
    return session.scalars(
        select(CertificateRow)
        .where(
            CertificateRow.policy_version == policy.version,
            CertificateRow.voided_at.is_(None),
            CertificateRow.expires_at > now,
        )
        .order_by(CertificateRow.id)
    ).all()


def _number_at(session: Session, moment: datetime, end: int) -> int:
    """The first number of the log that an event since a moment has."""
    # Some of the first may have been committed late, and have later numbers than others.
    first = (
        select(AuditEvent.leaf_index)
        .where(AuditEvent.id >= lower_bound(moment), AuditEvent.leaf_index.is_not(None))
        .order_by(AuditEvent.id)
        .limit(FIRST)
        .subquery()
    )
    found = session.scalar(select(func.min(first.c.leaf_index)))
    return end if found is None else found


def _behind(session: Session, now: datetime) -> bool:
    """Whether events wait for their number for so long that what is read is not what happens now."""
    waiting = session.scalar(
        select(AuditEvent.at).where(AuditEvent.leaf_index.is_(None)).order_by(AuditEvent.id).limit(1)
    )
    return waiting is not None and waiting < now - BEHIND


def _streams(
    session: Session, reader: lineups.Reader, categories: Collection[str], begin: int, end: int
) -> Mapping[Place, _Stream]:
    """The scores of what machines decided first, between two numbers of the log."""
    streams: dict[Place, _Stream] = defaultdict(_Stream)
    for number, slice_, findings, versions in _decided(session, begin, end):
        for finding in findings:
            if (category := finding["category"]) in categories:
                stream = streams[category, slice_, reader.of(category, versions)]
                stream.numbers.append(number)
                stream.scores.append(finding["probability"])
    return streams


def _decided(
    session: Session, begin: int, end: int
) -> Iterator[tuple[int, str, list[dict[str, Any]], tuple[Name, ...]]]:
    """First decisions that scores had a say in: number, slice, findings, versions; the newest `MOST`, in order."""
    events = session.execute(
        select(AuditEvent.leaf_index, AuditEvent.details["decision"].astext)
        .where(
            AuditEvent.leaf_index >= begin,
            AuditEvent.leaf_index < end,
            AuditEvent.action == "item.decided",
        )
        .order_by(AuditEvent.leaf_index.desc())
        .limit(MOST)
    ).all()
    numbers = {UUID(decision): number for number, decision in reversed(events) if decision}
    # A statement of its own: joined, it might read every decision where the planner's statistics are old.
    rows = session.execute(
        select(Decision.id, Decision.slice, Decision.findings, Decision.detectors).where(
            among(Decision.id, list(numbers)),
            Decision.decided_by == DecidedBy.MACHINE,
            Decision.supersedes.is_(None),
            Decision.reverses.is_(None),
            Decision.stratum.in_(_SCORED),
        )
    )
    found = {row.id: row for row in rows}
    for identifier, number in numbers.items():
        if (row := found.get(identifier)) is not None:
            versions = tuple((one["name"], one["version"]) for one in row.detectors)
            yield number, row.slice, row.findings, versions


def _weigh_all(
    session: Session, policy: Policy, reader: lineups.Reader, watches: Sequence[_Watch], now: datetime
) -> None:
    """Take in what people found, once a minute."""
    until = now - SETTLED - timedelta(seconds=policy.review.undo_seconds)
    due: dict[datetime, list[_Watch]] = defaultdict(list)
    for one in watches:
        if one.checked <= until - CHECKS_EVERY:
            due[one.checked].append(one)
    audited = policy.review.audit
    for since, those in due.items():
        found = checks.closed(session, since, until) if checks.any_closed(session, since, until) else []
        for one in those:
            least = one.row.document["reference"].get("least") or audited.share
            one.weigh(found, until, least, reader)


def _keep(session: Session, watches: Sequence[_Watch], watched_at: datetime | None) -> set[UUID]:
    """Store what was seen; of which certificates. What somebody ends at this moment is left to them."""
    free = set(
        session.scalars(
            select(CertificateRow.id)
            .where(
                among(CertificateRow.id, [one.row.id for one in watches]), CertificateRow.voided_at.is_(None)
            )
            .order_by(CertificateRow.id)
            .with_for_update(key_share=True, skip_locked=True)
        )
    )
    at = {} if watched_at is None else {"watched_at": watched_at}
    rows = [{"id": one.row.id, "watch": one.document(), **at} for one in watches if one.row.id in free]
    if rows:
        session.execute(update(CertificateRow), rows)
    return free
