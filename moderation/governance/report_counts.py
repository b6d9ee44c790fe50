"""What signed reports count, out of the audit log alone; and what is measured into it once a day."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from moderation.domain.errors import Unavailable
from moderation.domain.purposes import READS, purpose_of
from moderation.domain.reporting import Period
from moderation.governance import audit
from moderation.storage.ids import lower_bound
from moderation.storage.tables import AuditCheckpoint, AuditEvent, Item

MEASURED = "retention.measured"
# From the end of its time on, how long an item may wait for the sweeper.
SWEPT_WITHIN = timedelta(hours=1)
_ROLES = ("person.created", "person.joined", "person.roles_changed")
_LOCK = 7_203_008


def _within(period: Period) -> tuple[ColumnElement[bool], ...]:
    return (AuditEvent.id >= lower_bound(period.since), AuditEvent.id < lower_bound(period.until))


def audited(session: Session, period: Period) -> Mapping[str, Any]:
    """Events by action and by kind of actor, and the tree they stand in.

    Raises:
        Unavailable: an event has no number yet, or no signed checkpoint covers it.
    """
    kind = func.split_part(AuditEvent.actor, ":", 1)
    rows = session.execute(
        select(AuditEvent.action, kind, func.count())
        .where(*_within(period))
        .group_by(AuditEvent.action, kind)
    ).all()
    actions: Counter[str] = Counter()
    actors: Counter[str] = Counter()
    families: Counter[str] = Counter()
    for action, actor, count in rows:
        actions[action] += count
        actors[actor] += count
        families[action.partition(".")[0]] += count
    return {
        "events": sum(actions.values()),
        "by_family": dict(families),
        "by_action": dict(actions),
        "by_actor": dict(actors),
        "log": _log(session, period),
    }


def _log(session: Session, period: Period) -> Mapping[str, Any]:
    first, last, count, numbered = session.execute(
        select(
            func.min(AuditEvent.leaf_index),
            func.max(AuditEvent.leaf_index),
            func.count(),
            func.count(AuditEvent.leaf_index),
        ).where(*_within(period))
    ).one()
    if not count:
        return {"first": None, "last": None, "checkpoint": None}
    signed = None
    if numbered == count:
        # The first that covers the period stays the first, however many follow.
        covering = select(AuditCheckpoint).where(AuditCheckpoint.size > last)
        signed = session.scalars(covering.order_by(AuditCheckpoint.size).limit(1)).first()
    if signed is None:
        raise Unavailable(
            "The log of this period is not under a signed checkpoint yet; the relay sees to that within minutes.",
            retry_after=60,
        )
    return {
        "first": first,
        "last": last,
        "checkpoint": {"size": signed.size, "root": signed.root.hex(), "note": signed.note},
    }


def accessed(session: Session, period: Period) -> Mapping[str, Any]:
    """Who saw content or what identifies people: how often, what kind, what for, and as what they worked."""
    purpose = func.coalesce(AuditEvent.details["purpose"].astext, "")
    rows = session.execute(
        select(
            AuditEvent.actor,
            AuditEvent.action,
            purpose,
            func.count(),
            func.count(AuditEvent.subject_id.distinct()),
        )
        .where(*_within(period), AuditEvent.action.in_(sorted(READS)))
        .group_by(AuditEvent.actor, AuditEvent.action, purpose)
    ).all()
    roles = _roles(session, {actor for actor, *_ in rows}, period.until)
    by_role: dict[str, Counter[str]] = defaultdict(Counter)
    by_purpose: Counter[str] = Counter()
    reads = []
    for actor, action, said, count, subjects in sorted(rows):
        # Events from before purposes were written down serve what they are registered for.
        serves = said or str(purpose_of(action))
        by_purpose[serves] += count
        for role in roles.get(actor, ("none",)):
            by_role[role][action] += count
        reads.append(
            {"actor": actor, "action": action, "purpose": serves, "count": count, "subjects": subjects}
        )
    return {
        "reads": sum(by_purpose.values()),
        "by_purpose": dict(by_purpose),
        "by_role": {role: dict(counts) for role, counts in by_role.items()},
        "by_actor": reads,
    }


def _roles(session: Session, actors: Iterable[str], until: datetime) -> dict[str, tuple[str, ...]]:
    """As what each person worked at the end of the period, as the log has it; others by their kind."""
    people = {actor.removeprefix("person:"): actor for actor in actors if actor.startswith("person:")}
    found: dict[str, tuple[str, ...]] = {actor: (actor.partition(":")[0],) for actor in actors}
    rows = session.execute(
        select(AuditEvent.subject_id, AuditEvent.details)
        .where(
            AuditEvent.subject_id.in_(sorted(people)),
            AuditEvent.action.in_(_ROLES),
            AuditEvent.id < lower_bound(until),
        )
        .order_by(AuditEvent.id)
    )
    for person, details in rows:
        found[people[person]] = tuple(details.get("to") or details.get("roles") or ("none",))
    return found


def retained(session: Session, period: Period) -> Mapping[str, Any]:
    """By retention class: what was kept, due, overdue and held when it was measured, and what was swept."""
    measured = session.execute(
        select(AuditEvent.subject_id, AuditEvent.details)
        .where(*_within(period), AuditEvent.action == MEASURED)
        .order_by(AuditEvent.id)
    ).all()
    classes: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(_KEPT, 0))
    for _, details in measured:
        for name, numbers in details.items():
            kept = classes[name]
            kept["held_at_most"] = max(kept["held_at_most"], numbers["held"])
            kept["overdue_at_most"] = max(kept["overdue_at_most"], numbers["overdue"])
            kept["kept"], kept["overdue"], kept["held"] = (
                numbers["kept"], numbers["overdue"], numbers["held"],
            )  # fmt: skip
    for name, action, count in _swept(session, period):
        classes[name]["swept" if action == "item.destroyed" else "came_due"] += count
    ended = session.execute(
        select(AuditEvent.action, func.count())
        .where(
            *_within(period),
            func.split_part(AuditEvent.action, ".", 1).in_(
                ("erasure", "retention", "hold", "key", "preservation")
            ),
        )
        .group_by(AuditEvent.action)
    )
    return {
        "measured_on": [day for day, _ in measured],
        "by_class": dict(classes),
        "events": dict(ended.all()),
    }


_KEPT = ("kept", "held", "held_at_most", "overdue", "overdue_at_most", "came_due", "swept")


def _swept(session: Session, period: Period) -> list[tuple[str, str, int]]:
    name = func.coalesce(AuditEvent.details["class"].astext, "unnamed")
    rows = session.execute(
        select(name, AuditEvent.action, func.count())
        .where(*_within(period), AuditEvent.action.in_(("item.destroyed", "item.expired")))
        .group_by(name, AuditEvent.action)
    )
    return [(of, action, count) for of, action, count in rows]


def measure(session: Session, now: datetime) -> bool:
    """Write into the log, once a day, what is kept, overdue and held by class; whether this was the time."""
    day = f"{now:%Y-%m-%d}"
    session.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    known = select(AuditEvent.id).where(AuditEvent.subject_id == day, AuditEvent.action == MEASURED)
    if session.scalar(known.limit(1)) is not None:
        return False
    late = Item.expires_at <= now - SWEPT_WITHIN
    rows = session.execute(
        select(
            Item.retention_class,
            func.count(),
            func.count().filter(late, Item.holds == 0),
            func.count().filter(Item.holds > 0),
        )
        .where(Item.destroyed_at.is_(None))
        .group_by(Item.retention_class)
    )
    details = {name: {"kept": kept, "overdue": overdue, "held": held} for name, kept, overdue, held in rows}
    audit.record(session, [audit.Event(audit.MACHINE, MEASURED, "retention", day, details)], now)
    return True
