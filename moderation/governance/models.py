"""Which model versions this installation knows, and which of them serves (the alias `champion`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.registry import ARTIFACTS, ArtifactError, Manifest, load
from moderation.governance import audit
from moderation.storage.tables import ModelAlias, ModelRow

CHAMPION = "champion"


def register(session: Session, manifests: Sequence[Manifest], now: datetime) -> list[Manifest]:
    """Record `manifests`; the first version of a name becomes its champion. Returns those that are new."""
    fresh = []
    for manifest in manifests:
        row = session.scalar(
            insert(ModelRow)
            .values(
                name=manifest.name,
                version=manifest.version,
                kind=manifest.kind,
                manifest_sha256=manifest.sha256,
                folder=_relative(manifest.folder),
                added_at=now,
            )
            .on_conflict_do_nothing()
            .returning(ModelRow.name)
        )
        if row is None:
            continue
        fresh.append(manifest)
        session.execute(
            insert(ModelAlias)
            .values(name=manifest.name, alias=CHAMPION, version=manifest.version, set_at=now)
            .on_conflict_do_nothing()
        )
        details = {"version": manifest.version, "manifest_sha256": manifest.sha256}
        audit.record(session, [audit.Event("operator", "model.added", "model", manifest.name, details)], now)
    return fresh


def champions(session: Session) -> list[Manifest]:
    """The manifests that serve now, verified against their files.

    Raises:
        models.registry.ArtifactError: a folder is missing or not what its manifest says.
    """
    return [verified(folder, sha256) for folder, sha256 in champion_folders(session)]


def verified(folder: Path, manifest_sha256: str) -> Manifest:
    """The manifest in `folder`, if it is the one that was added.

    Raises:
        models.registry.ArtifactError: it is missing, damaged, or another one lies there now.
    """
    manifest = load(folder)
    if manifest.sha256 != manifest_sha256:
        raise ArtifactError(
            f"{manifest.name} {manifest.version} is not the one that was added here; add a change as a new version."
        )
    return manifest


def champion_folders(session: Session) -> list[tuple[Path, str]]:
    """The folders of the versions that serve now, each with the SHA-256 its manifest had when it was added."""
    rows = session.execute(
        select(ModelRow.folder, ModelRow.manifest_sha256)
        .join(ModelAlias, (ModelAlias.name == ModelRow.name) & (ModelAlias.version == ModelRow.version))
        .where(ModelAlias.alias == CHAMPION)
        .order_by(ModelRow.name)
    )
    return [(ARTIFACTS / folder, sha256) for folder, sha256 in rows]


def _relative(folder: Path) -> str:
    """Shipped artifacts are named from their root, so that a moved checkout still finds them."""
    return str(folder.relative_to(ARTIFACTS) if folder.is_relative_to(ARTIFACTS) else folder.resolve())
