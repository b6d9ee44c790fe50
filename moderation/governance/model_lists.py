"""What the console, the API and the command line show of models: versions, aliases, gates, what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from models import gates, registry
from models.gates import Gate
from models.registry import ArtifactError, Manifest
from moderation.governance import models
from moderation.storage.tables import ModelAlias, ModelProposal, ModelRow

HISTORY = 50  # of the newest proposals that were decided


@dataclass(frozen=True, slots=True)
class Measured:
    """A measured number and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Category:
    """What was measured of one category on held-out rows; None where too few were positive to say."""

    name: str
    positives: int
    labelled: int
    auc: Measured | None
    ap: Measured | None
    ece: Measured | None


@dataclass(frozen=True, slots=True)
class Proposal:
    """That a version should serve, as `alias`, a canary for its `share`: who proposed it, and who decided."""

    id: UUID
    name: str
    version: str
    state: str
    proposed_by: UUID
    proposed_at: datetime
    by_operator: bool
    decided_by: UUID | None
    decided_at: datetime | None
    alias: str = models.CHAMPION
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """One version. Without readable files it has no gates, numbers or card, and `damage` says what is wrong.

    `aliases` are what it serves as: `champion`, `previous`, `canary` for a `share` of the items, `shadow`; `since`
    says of each since when. `trouble` is why a process could not load it for one of them.
    """

    name: str
    version: str
    kind: str
    origin: str
    added_at: datetime
    sha256: str
    folder: Path
    aliases: tuple[str, ...]
    trouble: str
    damage: str
    gates: tuple[Gate, ...]
    categories: tuple[Category, ...]
    proposal: Proposal | None
    share: float | None = None
    since: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """How many gates it does not pass."""
        return len(gates.failures(self.gates))

    @property
    def serves(self) -> bool:
        """Whether it is the champion of its name."""
        return models.CHAMPION in self.aliases

    @property
    def tried(self) -> bool:
        """Whether it is a canary or a shadow."""
        return not {models.CANARY, models.SHADOW}.isdisjoint(self.aliases)


def listing(session: Session, root: Path) -> list[Version]:
    """Every version: what serves first, then what is tried, then the newest."""
    aliases: dict[tuple[str, str], list[ModelAlias]] = {}
    for row in session.scalars(select(ModelAlias).order_by(ModelAlias.alias)):
        aliases.setdefault((row.name, row.version), []).append(row)
    proposals = {
        (row.name, row.version): _proposal(row)
        for row in session.scalars(select(ModelProposal).where(ModelProposal.state == "open"))
    }
    rows = session.scalars(select(ModelRow).order_by(ModelRow.name, ModelRow.added_at.desc())).all()
    found = [
        _version(row, root, aliases.get((row.name, row.version), ()), proposals.get((row.name, row.version)))
        for row in rows
    ]
    return sorted(found, key=lambda one: (one.name, not one.serves, not one.tried))


def one(session: Session, root: Path, name: str, version: str | None = None) -> Version:
    """One version; without a number the one that serves.

    Raises:
        NotFound: there is no such version, or none serves.
    """
    wanted = version or models.alias_of(session, name, models.CHAMPION) or "?"
    models.find(session, name, wanted)
    return next(each for each in listing(session, root) if (each.name, each.version) == (name, wanted))


def scoring_beside(session: Session) -> list[tuple[str, str]]:
    """Versions that score a category and do not serve: what a simulation can put in the place of what does."""
    serving = exists().where(
        ModelAlias.name == ModelRow.name,
        ModelAlias.version == ModelRow.version,
        ModelAlias.alias == models.CHAMPION,
    )
    rows = session.execute(
        select(ModelRow.name, ModelRow.version)
        .where(ModelRow.kind.not_in(sorted(registry.SILENT)), ~serving, ModelRow.retired_at.is_(None))
        .order_by(ModelRow.name, ModelRow.added_at.desc())
    )
    return [(name, version) for name, version in rows]


def previous(session: Session, name: str) -> str | None:
    """The version that a rollback would have serve."""
    return models.alias_of(session, name, models.PREVIOUS)


def history(session: Session) -> list[Proposal]:
    """What was decided on proposals, the newest first."""
    rows = session.scalars(
        select(ModelProposal)
        .where(ModelProposal.state != "open")
        .order_by(ModelProposal.decided_at.desc())
        .limit(HISTORY)
    )
    return [_proposal(row) for row in rows]


def card(version: Version) -> str:
    """The model card, as it was written; a sentence where there is none."""
    try:
        return (version.folder / registry.CARD).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return "This version came without a readable model card."


def _version(row: ModelRow, root: Path, aliases: Sequence[ModelAlias], proposal: Proposal | None) -> Version:
    wanted = models.wanted_of(row, root)
    manifest, checked, damage = _read(wanted.folder, row.manifest_sha256)
    return Version(
        name=row.name,
        version=row.version,
        kind=row.kind,
        origin=row.origin,
        added_at=row.added_at,
        sha256=row.manifest_sha256,
        folder=wanted.folder,
        aliases=tuple(one.alias for one in aliases),
        trouble=next((one.trouble for one in aliases if one.trouble), ""),
        damage=damage,
        gates=checked,
        categories=tuple(_categories(manifest.document)) if manifest else (),
        proposal=proposal,
        share=next((one.share for one in aliases if one.share is not None), None),
        since={one.alias: one.set_at for one in aliases},
    )


def _read(folder: Path, sha256: str) -> tuple[Manifest | None, tuple[Gate, ...], str]:
    """A manifest without its files, which are too large to be read for a page; its gates; what is wrong with it."""
    try:
        manifest = registry.read(folder)
    except ArtifactError:
        return None, (), "Its files are not here any more."
    if manifest.sha256 != sha256:
        return None, (), "Its manifest is not the one that was added."
    try:
        return manifest, tuple(gates.check(manifest)), ""
    except ArtifactError as error:
        return manifest, (), str(error)


def _categories(document: Mapping[str, Any]) -> list[Category]:
    """The held-out report as training writes it; whatever has another shape is left out."""
    metrics = document.get("metrics")
    held_out = metrics.get("held_out") if isinstance(metrics, Mapping) else None
    if not isinstance(held_out, Mapping):
        return []
    return [
        Category(
            name=str(name),
            positives=_counted(entry.get("positives")),
            labelled=_counted(entry.get("labelled")),
            auc=_measured(entry.get("auc")),
            ap=_measured(entry.get("ap")),
            ece=_measured(entry.get("ece")),
        )
        for name, entry in held_out.items()
        if isinstance(entry, Mapping)
    ]


def _counted(value: object) -> int:
    return value if isinstance(value, int) else 0


def _measured(value: object) -> Measured | None:
    numbers = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if len(numbers) != 3 or not all(isinstance(number, (int, float)) for number in numbers):
        return None
    return Measured(*map(float, numbers))


def _proposal(row: ModelProposal) -> Proposal:
    return Proposal(
        id=row.id,
        name=row.name,
        version=row.version,
        state=row.state,
        proposed_by=row.proposed_by,
        proposed_at=row.proposed_at,
        by_operator=row.by_operator,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        alias=row.alias,
        share=row.share,
    )
