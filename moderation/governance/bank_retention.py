"""How long banks remember: entries that nothing matched for a long time end by themselves.

What a bank holds can lead to a person: the hash of a picture is made of the picture, a link may be somebody's
address. So an entry ends some time after its last match, or after it was added if nothing ever matched it;
the policy says how long (`retention.bank_entries_days`). Terms are words and stay until somebody takes them
out, and so do the links of allow banks: what they clear is not counted, so nobody knows whether they are
still of use.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, text
from sqlalchemy.orm import Session

from moderation.governance import audit, banks
from moderation.storage.ids import lower_bound
from moderation.storage.tables import BankRemoval

AT_ONCE = 500
REMOVALS_KEPT = timedelta(days=90)

_DUE = text("""
    SELECT b.name, e.id FROM bank_entries e JOIN banks b ON b.id = e.bank_id
    WHERE e.id < :first AND e.added_at < :before AND coalesce(e.last_matched_at, '-infinity') < :before
        AND b.kind <> 'term' AND NOT (b.allow AND b.kind = 'link')
        AND NOT EXISTS (SELECT FROM bank_hits h WHERE h.entry_id = e.id AND h.hour >= :before)
    ORDER BY e.id LIMIT :limit
""")


def sweep(session: Session, now: datetime, days: int) -> int:
    """End entries whose time is over, some at once, and how many; what is told of their end is short-lived too."""
    before = now - timedelta(days=days)
    limits = {"first": lower_bound(before), "before": before, "limit": AT_ONCE}
    due: defaultdict[str, list[UUID]] = defaultdict(list)
    for name, entry in session.execute(_DUE, limits):
        due[name].append(entry)
    for name, entries in sorted(due.items()):
        bank = banks.named(session, name, lock=True)
        banks.take_out(session, bank, entries, now)
        details = {"name": name, "entries": len(entries), "days": days}
        audit.record(
            session, [audit.Event(audit.MACHINE, "bank.entries_expired", "bank", str(bank.id), details)], now
        )
    # Whoever still holds an older copy of a bank finds no row for what it proposes.
    session.execute(delete(BankRemoval).where(BankRemoval.removed_at < now - REMOVALS_KEPT))
    return sum(map(len, due.values()))
