"""The flood guard: an entry that suddenly matches far more than ever only asks people, until a person looks.

Matches are counted by entry and hour, with the batch that they are of. An entry is put in quarantine when
within an hour of the clock it matched more than so many items, more than `TIMES` as many as in the busiest
hour of the 14 days before, and of `AUTHORS` different authors: what one account posts all day says nothing of
the entry. A person who looked lets it go on (`bank_judging.release`) or turns it off. Released, it is left
alone for an hour; after that what it matched in that hour is its history, so the same flood does not bring it
back.

How many authors there were is counted at least, by one bit of 63 for each: no author can be read from it.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from moderation.domain.signals import Match
from moderation.governance import audit
from moderation.governance.banks import live, named, stamp
from moderation.storage.database import among
from moderation.storage.tables import BankEntry, BankHit

LEAST = 50
TIMES = 10
AUTHORS = 5
HISTORY = timedelta(days=14)
LEFT_ALONE = timedelta(hours=1)
KEPT = timedelta(days=15)
SWEPT = 5_000
AUTHOR_BITS = 63


@dataclass(frozen=True, slots=True)
class Flood:
    """An entry that was put in quarantine: how many items it matched this hour, and at most in any hour before."""

    bank: str
    entry: UUID
    hits: int
    usual: int


def count(session: Session, matches: Iterable[tuple[UUID, Sequence[Match]]], now: datetime) -> None:
    """Add the matches of items, each with its author, to the counts of their entries; an item counts once an entry.

    Last in its transaction: until that ends, others wait who count matches of the same entries.
    """
    hits: Counter[UUID] = Counter()
    authors: defaultdict[UUID, int] = defaultdict(int)
    for author, found in matches:
        for entry in {UUID(match.entry) for match in found}:
            hits[entry] += 1
            authors[entry] |= _bit(author, entry)
    if not hits:
        return
    hour = hour_of(now)
    # In one order for everybody, or two batches would wait for each other.
    rows = [
        {"entry_id": entry, "hour": hour, "hits": hits[entry], "authors": authors[entry]}
        for entry in sorted(hits)
    ]
    adding = insert(BankHit).values(rows)
    more = {
        "hits": BankHit.hits + adding.excluded.hits,
        "authors": BankHit.authors.bitwise_or(adding.excluded.authors),
    }
    session.execute(adding.on_conflict_do_update(index_elements=["entry_id", "hour"], set_=more))


def hour_of(moment: datetime) -> datetime:
    """The beginning of the hour of the clock."""
    return moment.replace(minute=0, second=0, microsecond=0)


def _bit(author: UUID, entry: UUID) -> int:
    digest = hashlib.blake2b(author.bytes + entry.bytes, digest_size=8).digest()
    return 1 << int.from_bytes(digest) % AUTHOR_BITS


_FLOODED = text("""
    SELECT b.name, h.entry_id, h.hits, coalesce(before.most, 0) AS usual
    FROM bank_hits h
    JOIN bank_entries e ON e.id = h.entry_id
    JOIN banks b ON b.id = e.bank_id
    LEFT JOIN LATERAL (
        SELECT max(p.hits) AS most FROM bank_hits p
        WHERE p.entry_id = h.entry_id AND p.hour < h.hour AND p.hour >= :since
    ) AS before ON true
    WHERE h.hour = :hour AND h.hits > :least AND bit_count(h.authors::bit(64)) >= :authors
        AND h.hits > :times * coalesce(before.most, 0)
        AND e.verified AND e.quarantined_at IS NULL AND (e.released_at IS NULL OR e.released_at <= :alone)
        AND (b.allow OR b.action <> 'label')
    ORDER BY b.name, h.entry_id
""")


def watch(session: Session, now: datetime, least: int = LEAST) -> list[Flood]:
    """Put entries in quarantine that match far more than ever, and which those are.

    Those that nobody verified, and those of banks that only label, decide nothing and are left alone.
    """
    hour = hour_of(now)
    limits = {
        "hour": hour, "since": hour - HISTORY, "alone": now - LEFT_ALONE,
        "least": least, "times": TIMES, "authors": AUTHORS,
    }  # fmt: skip
    floods = [Flood(*row) for row in session.execute(_FLOODED, limits)]
    of_banks: defaultdict[str, list[Flood]] = defaultdict(list)
    for flood in floods:
        of_banks[flood.bank].append(flood)
    # Banks in one order for everybody; that of the database may be another.
    return [one for name in sorted(of_banks) for one in _quarantined(session, name, of_banks[name], now)]


def _quarantined(session: Session, name: str, floods: Sequence[Flood], now: datetime) -> list[Flood]:
    bank = named(session, name, lock=True)
    # Somebody may have decided about them while we waited for the bank.
    free = session.scalars(
        select(BankEntry.id).where(
            among(BankEntry.id, [one.entry for one in floods]),
            BankEntry.verified,
            BankEntry.quarantined_at.is_(None),
            func.coalesce(BankEntry.released_at <= now - LEFT_ALONE, True),
        )
    ).all()
    held = [one for one in floods if one.entry in set(free)]
    if held:
        session.execute(
            update(BankEntry)
            .where(among(BankEntry.id, free))
            .values(quarantined_at=now, version=stamp(session, bank))
            .execution_options(synchronize_session=False)
        )
        audit.record(
            session,
            [
                audit.Event(
                    audit.MACHINE, "bank.entry_quarantined", "bank_entry", str(one.entry),
                    {"bank": name, "hits": one.hits, "usual": one.usual},
                )
                for one in held
            ],
            now,
        )  # fmt: skip
    return held


def quarantined(session: Session, now: datetime) -> int:
    """How many entries wait for somebody to look; one that was turned off waits no more."""
    return session.scalar(select(func.count()).where(BankEntry.quarantined_at.is_not(None), live(now))) or 0


_MATCHED = text("""
    WITH old AS (
        SELECT entry_id, hour FROM bank_hits WHERE hour < :before ORDER BY hour LIMIT :limit
    ), latest AS (
        SELECT entry_id, max(hour) AS hour FROM old GROUP BY entry_id
    ), free AS (
        SELECT e.id, latest.hour FROM bank_entries e JOIN latest ON latest.entry_id = e.id
        ORDER BY e.id FOR NO KEY UPDATE OF e SKIP LOCKED
    ), noted AS (
        UPDATE bank_entries SET last_matched_at = greatest(last_matched_at, date_trunc('day', free.hour, 'UTC'))
        FROM free WHERE bank_entries.id = free.id
        RETURNING bank_entries.id
    )
    DELETE FROM bank_hits USING old
    WHERE bank_hits.entry_id = old.entry_id AND bank_hits.hour = old.hour
        AND (old.entry_id IN (SELECT id FROM noted)
             OR NOT EXISTS (SELECT FROM bank_entries e WHERE e.id = old.entry_id))
""")


def sweep(session: Session, now: datetime) -> int:
    """End counts that are no history any more; of each entry the day of its last match is noted down first."""
    old = session.execute(_MATCHED, {"before": hour_of(now) - KEPT, "limit": SWEPT})
    return old.rowcount  # type: ignore[attr-defined, no-any-return]
