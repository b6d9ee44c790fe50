"""What has to be kept of decisions belongs to nobody once its person is erased; and old records end themselves.

The record of a moderation act is kept for five years. Of an erased author it keeps no id that it shares with
anything else of theirs (`NOBODY` stands there, as for everybody who was erased), no statement, no language, and of
the moment it was posted only the month, where at least ten decisions of the same content service share that.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from moderation.domain.erasing import NOBODY, SHARED_BY
from moderation.storage.ids import lower_bound

AT_ONCE = 1000

# Each takes a piece of what is left, and finds nothing more once it is done. The digest is the author's, as that of
# a reporter.
_PIECES = (
    """
    WITH months AS (
        SELECT DISTINCT date_trunc('month', content_at, 'UTC') AS month FROM decisions
        WHERE author_id = :author AND content_at IS NOT NULL
    ), rare AS (
        SELECT month FROM months WHERE (SELECT count(*) FROM (
            SELECT FROM decisions o WHERE o.client = :client
                AND o.content_at >= month AND o.content_at < month + interval '1 month' LIMIT :shared_by
        ) AS alike) < :shared_by
    )
    UPDATE decisions SET content_at = NULL FROM rare
    WHERE author_id = :author AND date_trunc('month', content_at, 'UTC') = rare.month
    """,
    """
    UPDATE decisions
    SET author_id = :nobody, language = NULL, content_at = date_trunc('month', content_at, 'UTC')
    WHERE id IN (SELECT id FROM decisions WHERE author_id = :author LIMIT :limit)
    """,
    """
    UPDATE opinions SET author_id = :nobody WHERE id IN
        (SELECT id FROM opinions WHERE author_id = :author LIMIT :limit)
    """,
    """
    UPDATE cases SET author_id = :nobody, language = NULL WHERE id IN
        (SELECT id FROM cases WHERE author_id = :author LIMIT :limit)
    """,
    """
    UPDATE appeals SET author_id = :nobody, statement = NULL WHERE id IN
        (SELECT id FROM appeals WHERE author_id = :author LIMIT :limit)
    """,
    """
    UPDATE account_actions SET author_id = :nobody WHERE id IN
        (SELECT id FROM account_actions WHERE author_id = :author LIMIT :limit)
    """,
    """
    UPDATE statement_deliveries SET author_id = :nobody WHERE decision_id IN
        (SELECT decision_id FROM statement_deliveries WHERE author_id = :author LIMIT :limit)
    """,
    # What they said of others, as reporters, and how often they were right.
    """
    DELETE FROM reports WHERE id IN
        (SELECT id FROM reports WHERE client = :client AND reporter_digest = :digest LIMIT :limit)
    """,
    """
    UPDATE appeals SET statement = NULL, reporter_digest = decode(replace(gen_random_uuid()::text, '-', ''), 'hex')
    WHERE id IN (SELECT id FROM appeals WHERE client = :client AND by = 'reporter' AND reporter_digest = :digest
                 LIMIT :limit)
    """,
    "DELETE FROM reporters WHERE client = :client AND digest = :digest",
    "UPDATE subject_requests SET details = NULL WHERE author_id = :author AND details IS NOT NULL",
    # Their keys went with the author's.
    "DELETE FROM suggestions WHERE id IN (SELECT id FROM suggestions WHERE author_id = :author LIMIT :limit)",
    # Of an hour at most, so without an index for this.
    "DELETE FROM bursts WHERE author_id = :author",
    # Found by their item, for which these have no index: once an erasure, not once a batch.
    """
    DELETE FROM idempotency_keys USING items
    WHERE idempotency_keys.item_id = items.id AND items.author_id = :author AND items.destroyed_at IS NOT NULL
    """,
    """
    DELETE FROM outbox USING items
    WHERE outbox.item_id = items.id AND items.author_id = :author AND outbox.event <> 'item.deleted'
        AND items.destroyed_at IS NOT NULL
    """,
)
_ONCE = (
    "WITH months",
    "DELETE FROM reporters",
    "DELETE FROM bursts",
    "UPDATE subject_requests",
    "DELETE FROM idempotency_keys",
    "DELETE FROM outbox",
)


def unlink(session: Session, step: int, author_id: UUID, client: str, digest: bytes) -> bool:
    """Do a piece of step `step`; whether there may be more of it.

    Raises:
        IndexError: there is no such step; all is done.
    """
    statement = _PIECES[step].strip()
    values = {
        "author": author_id,
        "nobody": NOBODY,
        "client": client,
        "digest": digest,
        "limit": AT_ONCE,
        "shared_by": SHARED_BY,
    }
    used = {name: value for name, value in values.items() if f":{name}" in statement}
    rows = session.execute(text(statement), used).rowcount  # type: ignore[attr-defined]
    return not statement.startswith(_ONCE) and rows >= AT_ONCE


def steps() -> Iterator[int]:
    """The steps in their order."""
    return iter(range(len(_PIECES)))


# Of records, those that are older than five years and that nothing alive hangs on. In this order: each table
# before the ones it points to.
_OLD = (
    """
    DELETE FROM statement_deliveries WHERE decision_id IN (
        SELECT decision_id FROM statement_deliveries s WHERE decision_id < :before AND state <> 'pending'
            AND NOT EXISTS (
                SELECT FROM account_actions a WHERE a.decision_id = s.decision_id AND a.kind <> 'warn'
                    AND (a.reversed_at IS NULL OR a.reversed_at > :now) AND (a.until IS NULL OR a.until > :now))
        ORDER BY decision_id LIMIT :limit)
    """,
    """
    DELETE FROM account_actions WHERE id IN (
        SELECT id FROM account_actions a WHERE id < :before
            AND ((reversed_at IS NOT NULL AND reversed_at <= :now) OR until <= :now OR kind = 'warn')
        ORDER BY id LIMIT :limit)
    """,
    """
    DELETE FROM appeals WHERE id IN (
        SELECT id FROM appeals WHERE id < :before AND state <> 'open' ORDER BY id LIMIT :limit)
    """,
    """
    DELETE FROM opinions WHERE id IN (
        SELECT o.id FROM opinions o JOIN cases c ON c.id = o.case_id
        WHERE o.id < :before AND c.id < :before AND c.state = 'closed' ORDER BY o.id LIMIT :limit)
    """,
    """
    DELETE FROM case_skips WHERE case_id IN (
        SELECT id FROM cases WHERE id < :before AND state = 'closed' ORDER BY id LIMIT :limit)
    """,
    """
    DELETE FROM cases WHERE id IN (
        SELECT id FROM cases c WHERE id < :before AND state = 'closed'
            AND NOT EXISTS (SELECT FROM opinions o WHERE o.case_id = c.id)
            AND NOT EXISTS (SELECT FROM case_notes n WHERE n.case_id = c.id)
            AND NOT EXISTS (SELECT FROM case_skips s WHERE s.case_id = c.id)
        ORDER BY id LIMIT :limit)
    """,
    """
    DELETE FROM decisions WHERE id IN (
        SELECT id FROM decisions d WHERE id < :before
            AND NOT EXISTS (SELECT FROM items i WHERE i.id = d.item_id)
            AND NOT EXISTS (SELECT FROM account_actions a WHERE a.decision_id = d.id)
            AND NOT EXISTS (SELECT FROM appeals p WHERE p.decision_id = d.id)
            AND NOT EXISTS (SELECT FROM cases c WHERE c.decision_id = d.id)
            AND NOT EXISTS (SELECT FROM statement_deliveries s WHERE s.decision_id = d.id)
        ORDER BY id LIMIT :limit)
    """,
    """
    DELETE FROM minor_checks WHERE id IN (
        SELECT id FROM minor_checks WHERE id < :before AND state <> 'suspected' ORDER BY id LIMIT :limit)
    """,
    """
    DELETE FROM subject_requests WHERE id IN (
        SELECT id FROM subject_requests WHERE id < :before AND state <> 'open' ORDER BY id LIMIT :limit)
    """,
    """
    DELETE FROM erasures WHERE id IN (SELECT id FROM erasures WHERE completed_at < :day LIMIT :limit)
    """,
    """
    DELETE FROM partner_items WHERE (partner_id, item_id) IN (
        SELECT partner_id, item_id FROM partner_items
        WHERE assigned_at < :day AND acknowledged_at IS NOT NULL LIMIT :limit)
    """,
    """
    DELETE FROM incident_authors WHERE (incident_id, author_id) IN (
        SELECT a.incident_id, a.author_id FROM incident_authors a JOIN incidents i ON i.id = a.incident_id
        WHERE i.closed_at < :day LIMIT :limit)
    """,
    """
    DELETE FROM incidents WHERE id IN (
        SELECT id FROM incidents i WHERE closed_at < :day
            AND NOT EXISTS (SELECT FROM incident_authors a WHERE a.incident_id = i.id) LIMIT :limit)
    """,
    """
    DELETE FROM disclosures WHERE id IN (
        SELECT id FROM disclosures WHERE id < :before AND state IN ('refused', 'exported') ORDER BY id LIMIT :limit)
    """,
    """
    DELETE FROM preservations WHERE id IN (
        SELECT id FROM preservations p WHERE destroyed_at < :day
            AND NOT EXISTS (SELECT FROM disclosures d WHERE d.preservation_id = p.id) LIMIT :limit)
    """,
    """
    DELETE FROM held_items WHERE (hold_id, item_id) IN (
        SELECT h.hold_id, h.item_id FROM held_items h JOIN holds o ON o.id = h.hold_id
        WHERE o.released_at < :day LIMIT :limit)
    """,
    """
    DELETE FROM holds WHERE id IN (
        SELECT id FROM holds h WHERE (released_at < :day OR (state = 'refused' AND decided_at < :day))
            AND NOT EXISTS (SELECT FROM held_items i WHERE i.hold_id = h.id)
            AND NOT EXISTS (SELECT FROM preservations p WHERE p.hold_id = h.id) LIMIT :limit)
    """,
    """
    DELETE FROM signed_reports WHERE id IN (
        SELECT id FROM signed_reports WHERE made_at < :day ORDER BY id LIMIT :limit)
    """,
)


def sweep(session: Session, now: datetime, days: int) -> int:
    """Remove a piece of the records whose time is over, per table; how many rows went.

    Events of the audit log stay: the log is append-only, and an event holds ids and words alone.
    """
    before = now - timedelta(days=days)
    values = {"before": lower_bound(before), "day": before, "now": now, "limit": AT_ONCE}
    gone = 0
    for statement in _OLD:
        used = {name: value for name, value in values.items() if f":{name}" in statement}
        gone += session.execute(text(statement), used).rowcount  # type: ignore[attr-defined]
    return gone
