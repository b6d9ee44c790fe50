"""Bursts: the same text, or nearly, of many authors within minutes. A raid, a chain letter, a network of accounts.

What was said lately is kept as keyed digests beside the author's id, for an hour: one of the normalised text and,
of longer ones, two bands of its sketch, so that copies which differ in a word are found as well. Each digest is of
one content service: nobody learns from a burst what is said elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from moderation.features import sketch
from moderation.storage.vault import Vault

KEPT = timedelta(hours=1)
"""How long it is known who said what: the longest window there can be, and time for a queue that is behind."""
MOST_COUNTED = 200
"""Authors of one text that are counted; a greater burst is said to be of so many."""
BANDS = 2
NEAR_FROM = 40
"""Code points from which a nearly equal text counts: shorter ones that differ in a word say something else."""
KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class BurstRule:
    """From how many authors on, within how many minutes, texts of how many code points are a burst."""

    authors: int = 5
    minutes: float = 10.0
    shortest: int = 20


@dataclass(frozen=True, slots=True)
class Said:
    """A text that was said: by whom, when it came, and the digest of what reads the same."""

    client: str
    author: UUID
    at: datetime
    text: str
    digest: bytes


def keys(vault: Vault, said: Said) -> tuple[bytes, ...]:
    """The keyed digests under which `said` is found again."""
    found = [vault.digest("burst", said.client, "text", said.digest)]
    if len(said.text) >= NEAR_FROM:
        bands = sketch.first_bands(said.text, BANDS)
        found += [vault.digest("burst", said.client, f"band {n}", band) for n, band in enumerate(bands)]
    return tuple(key[:KEY_BYTES] for key in found)


def count(session: Session, vault: Vault, said: Sequence[Said], rule: BurstRule) -> list[int]:
    """Of how many authors each of `said` came within the window around it; 0 where it is too short to tell.

    One statement for all of them, which also remembers them. Saying it again counts once an author.
    """
    made = [keys(vault, one) if len(one.text) >= rule.shortest else () for one in said]
    latest: dict[tuple[bytes, UUID], datetime] = {}
    for one, its in zip(said, made, strict=True):
        for key in its:
            latest[key, one.author] = max(one.at, latest.get((key, one.author), one.at))
    if not latest:
        return [0] * len(said)
    # One order for everybody, so that two batches never wait for each other.
    rows = sorted(latest.items())
    values = {
        "keys": [key for (key, _), _ in rows],
        "authors": [author for (_, author), _ in rows],
        "moments": [at for _, at in rows],
        "window": timedelta(minutes=rule.minutes),
        "most": MOST_COUNTED,
    }
    numbers: Mapping[bytes, int] = {bytes(key): number for key, number in session.execute(_COUNT, values)}
    return [max((numbers.get(key, 0) for key in its), default=0) for its in made]


def sweep(session: Session, now: datetime) -> int:
    """Forget what was said longer ago than `KEPT`; how many digests."""
    return session.execute(_SWEEP, {"before": now - KEPT}).rowcount  # type: ignore[attr-defined,no-any-return]


# What is put is not yet seen by the same statement, hence the union. The window is around the moment of each text
# and not before now: a backlog that is worked off in a minute is no burst.
_COUNT = text("""
    WITH given AS MATERIALIZED (
        SELECT key, author_id, seen_at FROM unnest(
            CAST(:keys AS bytea[]), CAST(:authors AS uuid[]), CAST(:moments AS timestamptz[])
        ) AS given(key, author_id, seen_at)
    ), put AS (
        INSERT INTO bursts (key, author_id, seen_at) SELECT key, author_id, seen_at FROM given
        ON CONFLICT (key, author_id) DO UPDATE SET seen_at = excluded.seen_at
        WHERE bursts.seen_at < excluded.seen_at
    )
    SELECT moments.key, (
        SELECT count(*) FROM (
            SELECT b.author_id FROM bursts b
            WHERE b.key = moments.key AND b.seen_at BETWEEN moments.since AND moments.until
            UNION
            SELECT g.author_id FROM given g
            WHERE g.key = moments.key AND g.seen_at BETWEEN moments.since AND moments.until
            LIMIT :most
        ) AS authors
    )
    FROM (
        SELECT key, max(seen_at) - CAST(:window AS interval) AS since,
            max(seen_at) + CAST(:window AS interval) AS until
        FROM given GROUP BY key
    ) AS moments
""")
_SWEEP = text("DELETE FROM bursts WHERE seen_at < :before")
