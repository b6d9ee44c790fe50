"""A list in a table that only its transaction sees: compared there with a bank, and put into it.

Three statements look at all of a list, however long it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from moderation.domain.errors import Conflict
from moderation.governance import audit, banks
from moderation.storage.tables import Bank
from moderation.storage.vault import Vault

TOLD = 20
"""Bad lines that are told one by one."""
MANY = 1_000
"""Lines from which a list is compared by reading the bank once."""


@dataclass(slots=True)
class Filled:
    """What came of a list: how many are new, were in the bank, stood twice in the list, or can't be matched.

    Of the known ones those are `completed` that were known by a digest alone, and find near copies now. `foreign`
    counts by kind what can't be looked for here at all. `removed` is what its source takes back and was
    here, `absent` what it takes back and was not.
    """

    added: int = 0
    known: int = 0
    repeated: int = 0
    bad: int = 0
    removed: int = 0
    absent: int = 0
    completed: int = 0
    foreign: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str]] = field(default_factory=list)  # line and why, the first `TOLD`

    def fault(self, line: int, why: str) -> None:
        """Tell of a bad line."""
        self.bad += 1
        if len(self.faults) < TOLD:
            self.faults.append((line, why))


COLUMNS = (
    "id", "digest", "form", "category", "note", "source", "reference", "verified", "expires_at", "value",
    "features", "features_by", "gone",
)  # fmt: skip
_MAKE = """
    CREATE TEMPORARY TABLE incoming (
        n bigserial, id uuid, digest bytea, form text, category text, note text, source text, reference text,
        verified boolean, expires_at timestamptz, value bytea, features bytea, features_by text, gone boolean
    ) ON COMMIT DROP
"""


@contextmanager
def staged(session: Session) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
    """What copies rows into a table that only this transaction sees.

    Raises:
        Conflict: the application may make no temporary tables.
    """
    try:
        session.execute(text(_MAKE))
    except ProgrammingError as error:
        if isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
            raise Conflict(
                "The application's role may make no temporary tables, which lists are compared in. As the owner of "
                "the database run: GRANT TEMPORARY ON DATABASE … TO …; then import the list again."
            ) from error
        raise
    driver: Any = session.connection().connection.driver_connection
    statement = f"COPY incoming ({', '.join(COLUMNS)}) FROM STDIN"

    def copy(rows: list[dict[str, Any]]) -> None:
        with driver.cursor() as cursor, cursor.copy(statement) as copying:
            for row in rows:
                copying.write_row([row[name] for name in COLUMNS])

    yield copy
    session.execute(text("DROP TABLE incoming"))
    session.execute(text("SET LOCAL enable_nestloop TO DEFAULT"))


_SETTLE = (
    # What is taken back after it was listed is not added, and what is listed again after that is not taken back.
    """
    DELETE FROM incoming one USING incoming other
    WHERE one.gone <> other.gone AND other.n > one.n AND other.source IS NOT DISTINCT FROM one.source
        AND one.digest <> '' AND other.digest = one.digest
    """,
    """
    DELETE FROM incoming one USING incoming other
    WHERE one.gone <> other.gone AND other.n > one.n AND other.source IS NOT DISTINCT FROM one.source
        AND one.reference <> '' AND other.reference = one.reference
        AND (one.digest = '' OR other.digest = '')
    """,
)


def settle(session: Session, filled: Filled) -> None:
    """Leave of each entry what the list says of it last."""
    session.execute(text("ANALYZE incoming"))
    if (session.scalar(text("SELECT count(*) FROM incoming")) or 0) > MANY:
        # A bank that was filled a minute ago has no statistics yet, and would be read anew for every line.
        session.execute(text("SET LOCAL enable_nestloop TO off"))
    if session.scalar(text("SELECT EXISTS (SELECT FROM incoming WHERE gone)")):
        for statement in _SETTLE:
            filled.repeated += _rows_of(session, statement)


_COUNTED = """
    SELECT count(*), count(DISTINCT incoming.digest),
        count(DISTINCT incoming.digest) FILTER (WHERE bank_entries.id IS NOT NULL)
    FROM incoming LEFT JOIN bank_entries
        ON bank_entries.bank_id = :bank AND bank_entries.digest = incoming.digest
    WHERE NOT incoming.gone
"""
# The references that the list takes back, of entries of this bank, each with the line that does.
_BACK = """
    back AS (
        SELECT one.entry_id, one.source, one.reference, incoming.n
        FROM incoming JOIN bank_entries
                ON bank_entries.bank_id = :bank AND bank_entries.digest = incoming.digest
            JOIN bank_references one ON one.entry_id = bank_entries.id AND one.source = incoming.source
        WHERE incoming.gone AND incoming.digest <> ''
        UNION
        SELECT one.entry_id, one.source, one.reference, incoming.n
        FROM incoming JOIN bank_references one
                ON one.source = incoming.source AND one.reference = incoming.reference
            JOIN bank_entries ON bank_entries.id = one.entry_id AND bank_entries.bank_id = :bank
        WHERE incoming.gone AND incoming.digest = ''
    )
"""
_LOST = f"""
    WITH {_BACK}, mine AS (
        SELECT entry_id, count(DISTINCT (source, reference)) AS taken FROM back GROUP BY entry_id
    )
    SELECT mine.entry_id FROM mine JOIN bank_references one ON one.entry_id = mine.entry_id
    GROUP BY mine.entry_id, mine.taken HAVING count(*) = mine.taken ORDER BY mine.entry_id
"""  # noqa: S608  our own words
_ABSENT = f"""
    WITH {_BACK}
    SELECT (SELECT count(*) FROM incoming WHERE gone) - (SELECT count(DISTINCT n) FROM back)
"""  # noqa: S608  our own words
_FORGET = f"""
    WITH {_BACK} DELETE FROM bank_references USING back
    WHERE (bank_references.entry_id, bank_references.source, bank_references.reference)
        = (back.entry_id, back.source, back.reference)
"""  # noqa: S608  our own words
# An entry that another list still holds is from that list now.
_HAND_OVER = """
    UPDATE bank_entries SET source = other.source, version = :version
    FROM (
        SELECT one.entry_id, min(one.source) AS source FROM bank_references one
            JOIN bank_entries held ON held.id = one.entry_id
        WHERE held.bank_id = :bank AND held.source IN (SELECT source FROM incoming WHERE gone)
        GROUP BY one.entry_id HAVING bool_and(one.source <> held.source)
    ) other
    WHERE bank_entries.id = other.entry_id
"""


def compare(session: Session, bank: Bank, filled: Filled) -> list[UUID]:
    """Count what a list brings, and name the entries that it takes away."""
    of_bank = {"bank": bank.id}
    found, distinct, known = session.execute(text(_COUNTED), of_bank).one()
    filled.repeated += found - distinct
    filled.known, filled.added = known, distinct - known
    filled.completed = session.scalar(text(f"SELECT count(*) FROM ({_COMPLETED}) one"), of_bank) or 0  # noqa: S608
    if not session.scalar(text("SELECT EXISTS (SELECT FROM incoming WHERE gone)")):
        return []
    filled.absent = session.scalar(text(_ABSENT), of_bank) or 0
    return list(session.scalars(text(_LOST), of_bank))


_FRESH_PATTERNS = """
    SELECT count(DISTINCT incoming.digest) FROM incoming
    WHERE NOT incoming.gone AND incoming.form = 'pattern' AND NOT EXISTS (
        SELECT FROM bank_entries
        WHERE bank_entries.bank_id = :bank AND bank_entries.digest = incoming.digest
    )
"""


def fresh_patterns(session: Session, bank: Bank) -> int:
    """How many patterns a list brings that the bank has not yet."""
    return session.scalar(text(_FRESH_PATTERNS), {"bank": bank.id}) or 0


_ADD = """
    INSERT INTO bank_entries (id, bank_id, digest, form, category, note, source, verified, expires_at, value,
        features, features_by, added_by, added_at, version)
    SELECT DISTINCT ON (digest) id, :bank, digest, form, category, note, source, verified, expires_at, value,
        features, features_by, :actor, CAST(:now AS timestamptz), :version
    FROM incoming WHERE NOT gone ORDER BY digest, n
    ON CONFLICT (bank_id, digest) DO NOTHING
"""
# An entry that somebody added by hand is nobody else's to take back: it has no reference and gets none.
_REFER = """
    INSERT INTO bank_references (entry_id, source, reference)
    SELECT DISTINCT bank_entries.id, incoming.source, incoming.reference
    FROM incoming JOIN bank_entries ON bank_entries.bank_id = :bank AND bank_entries.digest = incoming.digest
    WHERE NOT incoming.gone AND incoming.source IS NOT NULL AND (
        bank_entries.version = :version
        OR EXISTS (SELECT FROM bank_references one WHERE one.entry_id = bank_entries.id)
    )
    ON CONFLICT DO NOTHING
"""


# Entries that are known by a digest alone, of which the list has what near copies are found by.
_COMPLETED = """
    SELECT DISTINCT ON (bank_entries.id) bank_entries.id, incoming.id AS made_for, incoming.features,
        incoming.features_by, incoming.form
    FROM incoming JOIN bank_entries ON bank_entries.bank_id = :bank AND bank_entries.digest = incoming.digest
    WHERE NOT incoming.gone AND incoming.features IS NOT NULL AND bank_entries.features IS NULL
    ORDER BY bank_entries.id, incoming.n
"""
_COMPLETE = """
    UPDATE bank_entries SET features = :features, features_by = :features_by, form = :form, version = :version
    WHERE id = :id
"""


def apply(
    session: Session,
    vault: Vault,
    bank: Bank,
    gone: list[UUID],
    filled: Filled,
    said: dict[str, object],
    actor: str,
    now: datetime,
) -> None:
    """Write it; the bank is locked. `said` goes into the audit log with what was done."""
    taken_back = _rows_of(session, _FORGET, bank=bank.id)
    if gone:
        banks.take_out(session, bank, gone, now)
        filled.removed = len(gone)
    completed = session.execute(text(_COMPLETED), {"bank": bank.id}).all()
    version = banks.stamp(session, bank) if filled.added or taken_back or completed else -1
    filled.completed = len(completed)
    if filled.added:
        filled.added = _rows_of(session, _ADD, bank=bank.id, actor=actor, now=now, version=version)
    if taken_back:
        _rows_of(session, _HAND_OVER, bank=bank.id, version=version)
    _rows_of(session, _REFER, bank=bank.id, version=version)
    # After that: one that somebody added by hand stays theirs, though a list completes it.
    _complete(session, vault, completed, version)
    done = {"added": filled.added, "removed": filled.removed, "completed": filled.completed}
    for what, entries in done.items():
        if entries:
            details = {**said, "entries": entries}
            audit.record(
                session, [audit.Event(actor, f"bank.entries_{what}", "bank", str(bank.id), details)], now
            )


def _complete(session: Session, vault: Vault, rows: Sequence[Any], version: int) -> None:
    """Encrypted anew: what is encrypted is bound to its row."""
    key = vault.account_key()
    values = [
        {
            "id": row.id,
            "features": key.encrypt(
                key.decrypt(row.features, "bank_entries", "features", str(row.made_for)),
                "bank_entries", "features", str(row.id),
            ),
            "features_by": row.features_by,
            "form": row.form,
            "version": version,
        }
        for row in rows
    ]  # fmt: skip
    if values:
        session.execute(text(_COMPLETE), values)


def _rows_of(session: Session, statement: str, **values: object) -> int:
    """Run a statement; how many rows it wrote."""
    result: Any = session.execute(text(statement), values)
    return int(result.rowcount)
