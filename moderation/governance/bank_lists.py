"""What is told of banks: what they hold, how often it matched, and how often that was wrong."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import case, func, select, text, true
from sqlalchemy.orm import Session

from moderation.governance import bank_entries, bank_search
from moderation.governance.banks import NOT_THE_SAME, live, named
from moderation.storage.database import among
from moderation.storage.ids import lower_bound
from moderation.storage.tables import AuditEvent, Bank, BankEntry
from moderation.storage.vault import Vault

PAGE = 50
MATCH_DAYS = 7


class By(StrEnum):
    """What matches are counted by."""

    BANK = "bank"
    ENTRY = "entry"


@dataclass(frozen=True, slots=True)
class Use:
    """What matches came to: items matched, those that people looked at, those of them that were wrong."""

    matches: int = 0
    judged: int = 0
    wrong: int = 0

    @property
    def overturned(self) -> float | None:
        """The share of judged matches that were wrong; None where people judged none."""
        return self.wrong / self.judged if self.judged else None


@dataclass(frozen=True, slots=True)
class BankView:
    """A bank with how many entries it has, how many of them nobody verified, how many are off, and its use.

    `quarantined` of them matched far more than ever, and wait for somebody to look.
    """

    name: str
    kind: str
    category: str
    action: str
    allow: bool
    enabled: bool
    created_at: datetime
    entries: int
    unverified: int
    off: int
    quarantined: int
    use: Use
    distance: float | None = None
    sample_share: float = 1.0
    source: str | None = None


class Show(StrEnum):
    """Which entries of a bank somebody wants to see."""

    UNVERIFIED = "unverified"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class EntryView:
    """One entry; `digest` is the beginning of it in hexadecimal, and `not_same` how often that was said of it.

    `value` is what it says, of a term, link or claim; of a picture or text nobody knows it here. `near` says
    whether near copies of it are found too, as far as its bank looks for any.
    """

    id: UUID
    digest: str
    verified: bool
    note: str
    added_by: str
    added_at: datetime
    expires_at: datetime | None
    live: bool
    not_same: int
    use: Use
    value: str | None = None
    form: str | None = None
    category: str | None = None
    source: str | None = None
    quarantined_at: datetime | None = None
    released_at: datetime | None = None
    near: bool = False


def listing(session: Session, now: datetime, only: str | None = None) -> list[BankView]:
    """Every bank by name, with its use of the last 7 days; with `only` that one alone."""
    used = uses(session, By.BANK, now - timedelta(days=MATCH_DAYS), bank=only)
    rows = session.execute(
        select(
            Bank,
            func.count(BankEntry.id),
            func.count(case((~BankEntry.verified & live(now), 1))),
            func.count(case((BankEntry.expires_at <= now, 1))),
            func.count(case((BankEntry.quarantined_at.is_not(None) & live(now), 1))),
        )
        .outerjoin(BankEntry, BankEntry.bank_id == Bank.id)
        .where(true() if only is None else Bank.name == only)
        .group_by(Bank.id)
        .order_by(Bank.name)
    )
    return [
        BankView(
            name=bank.name,
            kind=bank.kind,
            category=bank.category,
            action=bank.action,
            allow=bank.allow,
            enabled=bank.enabled,
            created_at=bank.created_at,
            entries=entries,
            unverified=unverified,
            off=off,
            quarantined=quarantined,
            use=used.get(bank.name, Use()),
            distance=bank.distance,
            sample_share=bank.sample_share,
            source=bank.source,
        )
        for bank, entries, unverified, off, quarantined in rows
    ]


def one(session: Session, name: str, now: datetime) -> BankView:
    """The bank of that name.

    Raises:
        NotFound: there is no such bank.
    """
    return listing(session, now, named(session, name).name)[0]


def names(session: Session) -> list[tuple[str, str]]:
    """Every bank that is on, with its kind, by name."""
    rows = session.execute(select(Bank.name, Bank.kind).where(Bank.enabled).order_by(Bank.name))
    return [(name, kind) for name, kind in rows]


def entries(
    session: Session,
    name: str,
    now: datetime,
    *,
    before: UUID | None = None,
    show: Show | None = None,
    search: str = "",
    near: Collection[UUID] = (),
    only: UUID | None = None,
    vault: Vault | None = None,
) -> list[EntryView]:
    """A page of a bank's entries and one more, newest first; with `show` those that nobody verified, or that wait.

    With `vault` they come with what they say, with `only` it is one entry or none; with `search` those that
    `bank_search.found` tells of, and those that are `near`.

    Raises:
        NotFound: there is no such bank.
    """
    bank = named(session, name)
    wanted = select(BankEntry).where(BankEntry.bank_id == bank.id)
    if search.strip():
        meant = bank_search.found(session, vault, bank, search)
        wanted = wanted.where(meant | among(BankEntry.id, near) if near else meant)
    if before is not None:
        wanted = wanted.where(BankEntry.id < before)
    if only is not None:
        wanted = wanted.where(BankEntry.id == only)
    if show is Show.UNVERIFIED:
        wanted = wanted.where(~BankEntry.verified, live(now))
    elif show is Show.QUARANTINED:
        wanted = wanted.where(BankEntry.quarantined_at.is_not(None), live(now))
    rows = session.scalars(wanted.order_by(BankEntry.id.desc()).limit(PAGE + 1)).all()
    used = uses(session, By.ENTRY, now - timedelta(days=MATCH_DAYS), bank=name)
    said = _not_same_counts(session, [str(row.id) for row in rows])
    values = bank_entries.values(vault, [(row.id, row.value) for row in rows]) if vault is not None else {}
    return [
        EntryView(
            id=row.id,
            digest=row.digest.hex()[:16],
            verified=row.verified,
            note=row.note,
            added_by=row.added_by,
            added_at=row.added_at,
            expires_at=row.expires_at,
            live=row.expires_at is None or row.expires_at > now,
            not_same=said.get(str(row.id), 0),
            use=used.get(str(row.id), Use()),
            value=values.get(row.id),
            form=row.form,
            category=row.category,
            source=row.source or bank.source,
            quarantined_at=row.quarantined_at,
            released_at=row.released_at,
            near=row.features is not None,
        )
        for row in rows
    ]


def _not_same_counts(session: Session, ids: Sequence[str]) -> dict[str, int]:
    rows = session.execute(
        select(AuditEvent.subject_id, func.count())
        .where(among(AuditEvent.subject_id, ids), AuditEvent.action == NOT_THE_SAME)
        .group_by(AuditEvent.subject_id)
    )
    return dict(rows.all())


# Decisions that somebody gave an opinion on in a blind check or an appeal.
CHECKED = """
    checked AS MATERIALIZED (
        SELECT DISTINCT c.decision_id FROM opinions o JOIN cases c ON c.id = o.case_id
        WHERE o.id >= :first AND o.undone_at IS NULL AND c.kind IN ('quality', 'appeal')
    )
"""
# `matches <> '[]'` is the condition of the index of decisions with a match, word for word.
_USES = f"""
    WITH {CHECKED}, matched AS (
        SELECT d.item_id, m.bank, m.entry,
               CASE WHEN m.verified AND m.quarantined IS NOT TRUE AND m.how IS DISTINCT FROM 'alike'
                   THEN m.action ELSE 'review' END AS asked,
               checked.decision_id IS NOT NULL AS looked_at
        FROM decisions d
        CROSS JOIN LATERAL jsonb_to_recordset(d.matches)
            AS m(bank text, entry text, action text, verified boolean, how text, quarantined boolean)
        LEFT JOIN checked ON checked.decision_id = d.id
        WHERE d.id >= :first AND d.matches <> '[]' AND d.decided_by = 'machine'
            AND (CAST(:bank AS text) IS NULL OR m.bank = :bank)
    ), said AS MATERIALIZED (
        SELECT DISTINCT subject_id AS entry, details ->> 'item' AS item FROM audit_events
        WHERE action = '{NOT_THE_SAME}' AND subject_id IN (SELECT DISTINCT entry FROM matched)
    ), judged AS (
        SELECT matched.*, said.item IS NOT NULL AS other, (
            SELECT p.route FROM decisions p WHERE p.item_id = matched.item_id
                AND p.decided_by = 'person' AND p.superseded_at IS NULL AND p.undone_at IS NULL
            ORDER BY p.id DESC LIMIT 1
        ) AS verdict
        FROM matched LEFT JOIN said ON said.entry = matched.entry AND said.item = matched.item_id::text
    ), found AS (
        SELECT *, other OR coalesce(
            verdict = 'allow' OR (verdict = 'limit' AND asked = 'remove'), false) AS wrong
        FROM judged
    )
"""  # noqa: S608  our own words


def uses(session: Session, by: By, since: datetime, *, bank: str | None = None) -> dict[str, Use]:
    """What the matches of decisions made since then came to, per bank or per entry; of one bank if it is named.

    This is the only definition of it; every page that speaks of banks has its numbers from here. An item
    counts once, however many of its parts matched. A match asks for what its bank does, and only for people
    to look as long as nobody has verified the entry. It was *wrong* if the last word on the item is a
    person's and milder than what the match asked for, or if somebody said that the item is not what the entry
    means. It was *judged* if it was wrong, or if the last word is a person's, or if somebody looked again: in
    a blind check or an appeal.
    """
    statement = text(
        f"{_USES} SELECT {by}, count(DISTINCT item_id), "  # noqa: S608  our own words
        "count(DISTINCT item_id) FILTER (WHERE wrong OR looked_at OR verdict IS NOT NULL), "
        f"count(DISTINCT item_id) FILTER (WHERE wrong) FROM found GROUP BY {by} ORDER BY {by}"
    )
    values = {"first": lower_bound(since), "bank": bank}
    return {str(key): Use(*counts) for key, *counts in session.execute(statement, values)}
