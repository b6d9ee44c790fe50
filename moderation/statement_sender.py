"""Statements of reasons on their way to the EU's database, by its bulk endpoint: 1 to 100 at once, all or nothing.

Off unless `MODERATION_STATEMENTS_URL` is set. What is due is claimed by putting its next attempt off, sent outside
of any transaction, and written down after. A sender that dies in between sends again: a `puid` that the database
knows is a success. A record that it refuses is marked, the others of its batch are sent without it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Engine, func, literal, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from moderation import metrics, outbound
from moderation.domain import dsa, statements
from moderation.governance import audit
from moderation.governance import statements as derived
from moderation.governance.policies import PolicyCache
from moderation.storage.database import among, transaction
from moderation.storage.ids import lower_bound, moment_of
from moderation.storage.tables import Decision, StatementDelivery
from moderation.storage.tables.base import Moment

# How far back the first run looks; a later one goes on a day before the newest it knows, which is longer than
# any decision waits for its undo window.
FIRST_DAYS = 30
AGAIN = timedelta(days=1)
TAKEN_AT_ONCE = 1000
CLAIMED = timedelta(minutes=5)  # a sender that is not back by then has died
RETRY_SECONDS = (60, 300, 1_800, 7_200, 21_600)
CREATED, UNPROCESSABLE = 201, 422
PAGE = 50
# Literal, because a prepared statement can't use a partial index whose condition it gets as a parameter.
_PENDING = text("statement_deliveries.state = 'pending'")
_UNSENT = text("statement_deliveries.state <> 'sent'")
FIELDS = 8  # that a refusal names, at most
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """Where statements go, and as whom."""

    url: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Record:
    """A claimed delivery with the record that is to be sent."""

    decision_id: UUID
    attempts: int
    body: Mapping[str, Any]


@dataclass(slots=True)
class Outcome:
    """What became of a batch: `sent` with the status that said so, `refused` with the reason, or `failed`."""

    sent: dict[UUID, int] = field(default_factory=dict)
    refused: dict[UUID, str] = field(default_factory=dict)
    failed: str | None = None
    status: int | None = None


def run(
    engine: Engine,
    policies: PolicyCache,
    target: Target,
    now_fn: Callable[[], datetime],
    seconds: float,
) -> int:
    """Take up what is new and send what is due, for so many seconds at most; how many statements were taken.

    Owns its transactions. Stops at the first batch that nobody answers, and puts everything off.
    """
    end = time.monotonic() + seconds
    with transaction(engine) as session:
        take_up(session, now_fn())
    total = 0
    while time.monotonic() < end:
        with transaction(engine) as session:
            records = _claim(session, policies, now_fn())
        if not records:
            break
        outcome = send(target, records)
        with transaction(engine) as session:
            _settle(session, records, outcome, now_fn())
        total += len(outcome.sent)
        if outcome.failed:
            break
    with transaction(engine) as session:
        for state, count in counts(session).items():
            metrics.STATEMENTS_WAITING.labels(state).set(count)
    return total


def take_up(session: Session, now: datetime) -> int:
    """Write down every decision that has a statement and is not written down yet; how many."""
    newest = session.scalar(
        select(StatementDelivery.decision_id).order_by(StatementDelivery.decision_id.desc()).limit(1)
    )
    since = moment_of(newest) - AGAIN if newest else now - timedelta(days=FIRST_DAYS)
    known = select(StatementDelivery.decision_id).where(StatementDelivery.decision_id == Decision.id)
    fresh = (
        select(
            Decision.id, Decision.author_id, func.cast(Decision.id, StatementDelivery.puid.type),
            literal("pending"), literal(0), literal(now, Moment),
        )
        .where(Decision.id >= lower_bound(since), *derived.stated(now), ~known.exists())
        .order_by(Decision.id)
        .limit(TAKEN_AT_ONCE)
    )  # fmt: skip
    columns = ["decision_id", "author_id", "puid", "state", "attempts", "not_before"]
    inserted = upsert(StatementDelivery).from_select(columns, fresh).on_conflict_do_nothing()
    return len(session.execute(inserted.returning(StatementDelivery.decision_id)).all())


def _claim(session: Session, policies: PolicyCache, now: datetime) -> list[_Record]:
    """At most a bulk of what is due, its attempt counted; what can't be valid is refused here and not sent."""
    due = (
        select(StatementDelivery.decision_id)
        .where(_PENDING, StatementDelivery.not_before <= now)
        .order_by(StatementDelivery.not_before, StatementDelivery.decision_id)
        .limit(dsa.MOST_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    claimed = dict(
        session.execute(
            update(StatementDelivery)
            .where(among(StatementDelivery.decision_id, session.scalars(due).all()))
            .values(attempts=StatementDelivery.attempts + 1, not_before=now + CLAIMED)
            .returning(StatementDelivery.decision_id, StatementDelivery.attempts)
            .execution_options(synchronize_session=False)
        ).all()
    )
    rows = session.scalars(
        select(Decision).where(among(Decision.id, list(claimed))).order_by(Decision.id)
    ).all()
    records, wrong = [], Outcome()
    for decision_id, facts in derived.facts(session, policies, rows).items():
        body = statements.statement(facts)
        if faults := dsa.faults(body):
            wrong.refused[decision_id] = _named("invalid", [fault.field for fault in faults])
        else:
            records.append(_Record(decision_id, claimed[decision_id], body))
    _settle(session, [], wrong, now)
    return records


def send(target: Target, records: Sequence[_Record]) -> Outcome:
    """Post `records`; those that the database names are taken out, and the rest is posted again."""
    outcome = Outcome()
    waiting = [list(records)]
    while waiting:
        batch = waiting.pop()
        status, answer = _post(target, batch, outcome)
        if outcome.failed:
            return outcome
        if status == CREATED:
            outcome.sent |= {record.decision_id: CREATED for record in batch}
            continue
        known, refused = _read(batch, answer)
        outcome.sent |= dict.fromkeys(known, UNPROCESSABLE)
        outcome.refused |= refused
        rest = [one for one in batch if one.decision_id not in outcome.sent.keys() | outcome.refused.keys()]
        if len(rest) < len(batch):
            waiting += [rest] if rest else []
        elif len(batch) == 1:
            outcome.refused[batch[0].decision_id] = "refused without a reason"
        else:  # it does not say which: halves tell
            waiting += [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
    return outcome


def _post(target: Target, batch: Sequence[_Record], outcome: Outcome) -> tuple[int, bytes]:
    """Status and body of the answer; anything that is neither "created" nor "can't be processed" is a failure."""
    headers = {"Authorization": f"Bearer {target.token}", "Content-Type": "application/json"}
    document = json.dumps({"statements": [record.body for record in batch]}).encode()
    try:
        status, answer = outbound.fetch(target.url, None, headers, document)
    except outbound.SendFailed as failure:
        outcome.failed = str(failure.cause)
        return 0, b""
    outcome.status = status
    if status not in (CREATED, UNPROCESSABLE):
        outcome.failed = "token refused" if status in (401, 403) else "not taken"
    return status, answer


def _read(batch: Sequence[_Record], answer: bytes) -> tuple[set[UUID], dict[UUID, str]]:
    """Which records of a refused batch the database knows already, and which it refuses, by the fields it names."""
    try:
        errors = json.loads(answer)["errors"]
    except (ValueError, KeyError, TypeError):
        return set(), {}
    if not isinstance(errors, Mapping):
        return set(), {}
    listed = errors.get("existing_puids") or ()
    puids = {str(one) for one in (listed.values() if isinstance(listed, Mapping) else listed)}
    known = {one.decision_id for one in batch if one.body["puid"] in puids}
    if len(batch) == 1 and "puid" in errors:  # it can only be this one, named or not
        known = {batch[0].decision_id}
    refused = {
        one.decision_id: _named("refused", list(said) if isinstance(said, Mapping) else [])
        for place, one in enumerate(batch)
        if (said := errors.get(f"statement_{place}")) is not None and one.decision_id not in known
    }
    return known, refused


def _named(word: str, fields: Sequence[str]) -> str:
    """Why a record is not taken, in names of fields that we know: an answer's own text is not kept."""
    known = sorted(dsa.FIELDS & set(fields))[:FIELDS]
    return f"{word}: {', '.join(known)}" if known else word


def _settle(session: Session, records: Sequence[_Record], outcome: Outcome, now: datetime) -> None:
    """Write down what became of a batch, and put everything off where nobody answered."""
    for decision_id, status in outcome.sent.items():
        _write(session, decision_id, state="sent", sent_at=now, last_status=status, last_error=None)
    for decision_id, error in outcome.refused.items():
        answered = UNPROCESSABLE if outcome.status else None  # None: it was not even sent
        _write(session, decision_id, state="refused", last_status=answered, last_error=error)
        log.warning("statement_refused", decision=str(decision_id), error=error)
    events = [
        audit.Event(audit.MACHINE, f"statement.{word}", "decision", str(decision_id))
        for word, those in (("sent", outcome.sent), ("refused", outcome.refused))
        for decision_id in those
    ]
    audit.record(session, events, now)
    if outcome.failed:
        left = [one for one in records if one.decision_id not in outcome.sent.keys() | outcome.refused.keys()]
        attempts = max((one.attempts for one in left), default=1)
        wait = timedelta(seconds=RETRY_SECONDS[min(attempts, len(RETRY_SECONDS)) - 1])
        for one in left:
            _write(session, one.decision_id, last_status=outcome.status, last_error=outcome.failed)
        session.execute(
            update(StatementDelivery)
            .where(_PENDING)
            .values(not_before=now + wait)
            .execution_options(synchronize_session=False)
        )
        log.warning("statements_not_sent", statements=len(left), cause=outcome.failed, status=outcome.status)
    for word, number in (("sent", len(outcome.sent)), ("refused", len(outcome.refused))):
        metrics.STATEMENTS.labels(word).inc(number)
    metrics.STATEMENTS.labels("retry").inc(bool(outcome.failed))


def _write(session: Session, decision_id: UUID, **values: Any) -> None:
    session.execute(
        update(StatementDelivery)
        .where(StatementDelivery.decision_id == decision_id, StatementDelivery.state == "pending")
        .values(**values)
        .execution_options(synchronize_session=False)
    )


def counts(session: Session) -> dict[str, int]:
    """How many statements wait, and how many were refused."""
    rows = session.execute(
        select(StatementDelivery.state, func.count()).where(_UNSENT).group_by(StatementDelivery.state)
    )
    return {"pending": 0, "refused": 0} | dict(rows.all())


@dataclass(frozen=True, slots=True)
class Row:
    """A decision that has a statement, and what became of it; without a state nobody sent it."""

    decision_id: UUID
    item_id: UUID
    verdict: str
    category: str | None
    decided_by: str
    effective_at: datetime
    state: str | None
    error: str | None


def page(session: Session, now: datetime, state: str | None, before: UUID | None) -> list[Row]:
    """A page of decisions with statements and one more, the newest first; of one state or of all."""
    query = (
        select(
            Decision.id,
            Decision.item_id,
            Decision.route,
            Decision.category,
            Decision.decided_by,
            Decision.effective_at,
            StatementDelivery.state,
            StatementDelivery.last_error,
        )
        .outerjoin(StatementDelivery, StatementDelivery.decision_id == Decision.id)
        .where(*derived.stated(now))
        .order_by(Decision.id.desc())
        .limit(PAGE + 1)
    )
    if state is not None:
        query = query.where(StatementDelivery.state == state)
    if before is not None:
        query = query.where(Decision.id < before)
    return [Row(*row) for row in session.execute(query)]


def refused(session: Session, limit: int = 100) -> Sequence[StatementDelivery]:
    """Statements that the database did not take, the newest first."""
    return session.scalars(
        select(StatementDelivery)
        .where(_UNSENT, StatementDelivery.state == "refused")
        .order_by(StatementDelivery.decision_id.desc())
        .limit(limit)
    ).all()


def retry(session: Session, now: datetime) -> int:
    """Send every refused statement again, once what was wrong is mended; how many."""
    again = session.scalars(
        update(StatementDelivery)
        .where(StatementDelivery.state == "refused")
        .values(state="pending", not_before=now)
        .returning(StatementDelivery.decision_id)
        .execution_options(synchronize_session=False)
    ).all()
    return len(again)
