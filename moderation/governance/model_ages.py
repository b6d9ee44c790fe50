"""How long a model may serve on once somebody whose posts it learned from has had them erased.

What a model has learned can't be taken out of it again. So a version that is marked (`lineage`) is retired
`models_days` of the policy's retention later: whatever served before it serves again, or else what ships with the
release; where there is neither, the name stops serving. Its files are removed, and it never serves again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import registry
from moderation.domain.policy import Policy
from moderation.governance import audit, lineage, models, trials
from moderation.governance.models import CHAMPION, PREVIOUS, Origin
from moderation.governance.policies import PolicyCache
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import ModelAlias, ModelRow


@dataclass(frozen=True, slots=True)
class Age:
    """A version that learned from `erased` rows that are gone since: marked when, and when it is retired."""

    name: str
    version: str
    erased: int
    tainted_at: datetime
    due_at: datetime
    aliases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Retired:
    """A version whose time was over, what it served as, and which version is champion in its place, if any."""

    name: str
    version: str
    aliases: tuple[str, ...]
    champion: str | None


def due_at(policy: Policy, row: ModelRow) -> datetime | None:
    """When a version is retired; None where nothing it learned from was erased."""
    if row.tainted_at is None:
        return None
    return row.tainted_at + timedelta(days=policy.retention.models_days)


def ageing(session: Session, policy: Policy) -> list[Age]:
    """The versions that are marked and not retired yet, the next to go first."""
    found = []
    for row in _marked(session):
        due = due_at(policy, row)
        if due is not None and row.tainted_at is not None:
            aliases = tuple(sorted(_aliases(session, row)))
            found.append(Age(row.name, row.version, row.erased, row.tainted_at, due, aliases))
    return sorted(found, key=lambda one: (one.due_at, one.name, one.version))


def sentences(session: Session, policy: Policy) -> dict[tuple[str, str], str]:
    """Of each version that is marked or retired, by name and version, what to say of it in a list."""
    retired = session.scalars(select(ModelRow).where(ModelRow.retired_at.is_not(None)))
    found = {(row.name, row.version): f"retired on {row.retired_at:%Y-%m-%d}" for row in retired}
    return found | {
        (
            one.name,
            one.version,
        ): f"is retired on {one.due_at:%Y-%m-%d}: {one.erased} of its posts erased since"
        for one in ageing(session, policy)
    }


def tend(databases: Databases, policies: PolicyCache, root: Path, now: datetime) -> list[Retired]:
    """Retire what is due, then remove its files. Owns its transactions; repeatable."""
    with transaction(databases.content) as session:
        retired = retire_due(session, policies.current(session), now)
    # After the commit: from then on no process asks for them.
    with transaction(databases.content) as session:
        remove_files(session, root)
    return retired


def retire_due(session: Session, policy: Policy, now: datetime) -> list[Retired]:
    """Retire every version whose time is over; which."""
    due = [
        row for row in _marked(session, hold=True) if (at := due_at(policy, row)) is not None and at <= now
    ]
    # All of them first: none may fall back to another one that goes at the same moment.
    for row in due:
        row.retired_at = now
    session.flush()
    retired = [_retire(session, row, now) for row in due]
    lineage.forget(session)
    return retired


def remove_files(session: Session, root: Path) -> list[Path]:
    """Remove the files of versions that were added here and are retired; which folders. Repeatable."""
    rows = session.scalars(
        select(ModelRow).where(ModelRow.retired_at.is_not(None), ModelRow.origin == Origin.OWN)
    )
    folders = [folder for row in rows if (folder := models.wanted_of(row, root).folder).exists()]
    for folder in folders:
        registry.remove(folder)
    return folders


def _retire(session: Session, row: ModelRow, now: datetime) -> Retired:
    # Whoever changes what serves under a name waits for whoever does already.
    session.execute(select(ModelAlias.version).where(ModelAlias.name == row.name).with_for_update()).all()
    held = _aliases(session, row)
    champion = models.alias_of(session, row.name, CHAMPION)
    for alias in held:
        models.point(session, row.name, alias, None, now)
    if CHAMPION in held:
        champion = _instead(session, row.name)
        models.point(session, row.name, CHAMPION, champion, now)
        if champion is not None and champion == models.alias_of(session, row.name, PREVIOUS):
            models.point(session, row.name, PREVIOUS, None, now)
        trials.end_with(session, row.name, audit.MACHINE, now, *([champion] if champion else []))
    session.flush()
    details = {"version": row.version, "erased": row.erased, "served_as": sorted(held), "champion": champion}
    audit.record(session, [audit.Event(audit.MACHINE, "model.retired", "model", row.name, details)], now)
    return Retired(row.name, row.version, tuple(sorted(held)), champion)


def _instead(session: Session, name: str) -> str | None:
    """The version that served before, or the newest that ships; none that is retired."""
    previous = models.alias_of(session, name, PREVIOUS)
    if previous is not None:
        before = session.get(ModelRow, (name, previous))
        if before is not None and before.retired_at is None:
            return previous
    shipped: Sequence[str] = session.scalars(
        select(ModelRow.version).where(
            ModelRow.name == name, ModelRow.origin == Origin.SHIPPED, ModelRow.retired_at.is_(None)
        )
    ).all()
    return registry.newest(list(shipped)) if shipped else None


def _aliases(session: Session, row: ModelRow) -> list[str]:
    return list(
        session.scalars(
            select(ModelAlias.alias).where(ModelAlias.name == row.name, ModelAlias.version == row.version)
        )
    )


def _marked(session: Session, *, hold: bool = False) -> Sequence[ModelRow]:
    query = (
        select(ModelRow)
        .where(ModelRow.tainted_at.is_not(None), ModelRow.retired_at.is_(None))
        .order_by(ModelRow.name, ModelRow.version)
    )
    return session.scalars(query.with_for_update() if hold else query).all()
