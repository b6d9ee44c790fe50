"""Which events of the audit log an incident is about, and whom these lead to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from moderation.domain.erasing import NOBODY
from moderation.domain.errors import InvalidInput
from moderation.governance.outbox import WORD
from moderation.storage.ids import lower_bound


@dataclass(frozen=True, slots=True)
class Scope:
    """Which events are concerned; everything that is given must hold. `everybody` asks no log."""

    actor: str | None = None  # person:ID, client:NAME, operator, machine; or the kind alone: person
    action: str | None = None  # a whole action, or its beginning up to a dot: item.
    since: datetime | None = None
    until: datetime | None = None
    everybody: bool = False


def stored(scope: Scope) -> dict[str, Any]:
    """A scope as it is stored.

    Raises:
        InvalidInput: it says nothing, or something that no event of the log can have.
    """
    if scope.everybody:
        return {"everybody": True}
    for name, value in (("actor", scope.actor), ("action", scope.action)):
        if value and not WORD.fullmatch(value):
            raise InvalidInput(
                f"The {name} is one word as the audit log has it, such as person:ID or item.viewed."
            )
    if scope.since and scope.until and scope.since >= scope.until:
        raise InvalidInput("The first moment must lie before the last; exchange the two.")
    found = {
        "actor": scope.actor,
        "action": scope.action,
        "since": scope.since and scope.since.isoformat(),
        "until": scope.until and scope.until.isoformat(),
    }
    said = {name: value for name, value in found.items() if value}
    if not said:
        raise InvalidInput(
            "Say which events are concerned: whose, which actions, from when to when; or everybody."
        )
    return said


def read(written: Mapping[str, Any]) -> Scope:
    """A scope as it was stored."""
    return Scope(
        actor=written.get("actor"),
        action=written.get("action"),
        since=_moment(written.get("since")),
        until=_moment(written.get("until")),
        everybody=bool(written.get("everybody")),
    )


def find(session: Session, incident_id: UUID, scope: Scope) -> tuple[int, int, int]:
    """Write down whom the events of `scope` lead to.

    Returns how many items are concerned, how many of their authors were erased since, and how many of the
    items lead to nobody any more.
    """
    if scope.everybody:
        session.execute(_EVERYBODY, {"incident": incident_id})
        return 0, 0, 0
    items, erased, lost = session.execute(
        _FIND, {"incident": incident_id, "nobody": NOBODY, **_bounds(scope)}
    ).one()
    return items, erased, lost


def _moment(written: str | None) -> datetime | None:
    return datetime.fromisoformat(written) if written else None


def _bounds(scope: Scope) -> dict[str, Any]:
    """The parameters of the query. A kind of actor or the beginning of an action matches by its letters alone."""
    alone = scope.actor in ("person", "client", "partner")
    begins = (scope.action or "").endswith(".")
    return {
        "low": lower_bound(scope.since) if scope.since else UUID(int=0),
        "high": lower_bound(scope.until) if scope.until else UUID(int=(1 << 128) - 1),
        "actor": None if alone else scope.actor,
        "actor_begins": f"{scope.actor}:" if alone else None,
        "action": None if begins else scope.action,
        "action_begins": scope.action if begins else None,
    }


# An event names an item, or something that leads to items, or to an author. An author who was erased since has no
# row any more, or one that says so: whoever is told of them would be told of somebody whom we must not know.
_FIND = text("""
    WITH concerned AS MATERIALIZED (
        SELECT DISTINCT subject, CAST(subject_id AS uuid) AS id FROM audit_events
        WHERE id >= :low AND id < :high
          AND (CAST(:actor AS text) IS NULL OR actor = :actor)
          AND (CAST(:actor_begins AS text) IS NULL OR starts_with(actor, :actor_begins))
          AND (CAST(:action AS text) IS NULL OR action = :action)
          AND (CAST(:action_begins AS text) IS NULL OR starts_with(action, :action_begins))
          AND subject_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
    ), touched AS MATERIALIZED (
        SELECT id AS item_id FROM concerned WHERE subject = 'item'
        UNION SELECT item_id FROM concerned JOIN cases USING (id) WHERE subject = 'case'
        UNION SELECT item_id FROM concerned JOIN decisions USING (id) WHERE subject = 'decision'
        UNION SELECT item_id FROM concerned JOIN appeals USING (id) WHERE subject = 'appeal'
        UNION SELECT item_id FROM concerned JOIN bundle_items ON bundle_id = id WHERE subject = 'bundle'
        UNION SELECT item_id FROM concerned JOIN held_items ON hold_id = id WHERE subject = 'hold'
    ), led AS MATERIALIZED (
        SELECT item_id, author_id FROM touched JOIN items ON items.id = item_id
        UNION SELECT item_id, author_id FROM touched JOIN decisions USING (item_id) WHERE author_id <> :nobody
        UNION SELECT item_id, author_id FROM touched JOIN bundle_items USING (item_id)
        UNION SELECT item_id, author_id FROM touched JOIN held_items USING (item_id)
    ), theirs AS MATERIALIZED (
        SELECT author_id FROM led
        UNION SELECT id FROM concerned WHERE subject = 'author'
        UNION SELECT author_id FROM concerned JOIN holds USING (id) WHERE subject = 'hold'
        UNION SELECT author_id FROM concerned JOIN preservations USING (id) WHERE subject = 'preservation'
        UNION SELECT author_id FROM concerned JOIN disclosures USING (id) WHERE subject = 'disclosure'
        UNION SELECT author_id FROM concerned JOIN subject_requests USING (id) WHERE subject = 'subject_request'
        UNION SELECT author_id FROM concerned JOIN minor_checks USING (id) WHERE subject = 'minor_check'
    ), live AS MATERIALIZED (
        SELECT authors.id, client FROM theirs JOIN authors ON authors.id = author_id WHERE erasing_at IS NULL
    ), written AS (
        INSERT INTO incident_authors (incident_id, author_id, client)
        SELECT :incident, id, client FROM live ON CONFLICT DO NOTHING
    )
    SELECT (SELECT count(*) FROM touched),
           (SELECT count(*) FROM theirs WHERE author_id NOT IN (SELECT id FROM live)),
           (SELECT count(*) FROM touched WHERE item_id NOT IN (SELECT item_id FROM led))
""")

_EVERYBODY = text("""
    INSERT INTO incident_authors (incident_id, author_id, client)
    SELECT :incident, id, client FROM authors WHERE erasing_at IS NULL ON CONFLICT DO NOTHING
""")
