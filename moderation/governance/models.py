"""Which model versions this installation knows, and which of them serves (the alias `champion`).

A version is shipped with the release or was added here; it never changes. Who may change what serves is
`promotions`; what the pages show of it is `model_lists`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import cast

from sqlalchemy import delete, exists, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models import gates, registry, serving
from models.backbone import maker
from models.heads import backbone_of
from models.registry import ARTIFACTS, KINDS, ArtifactError, Kind, Manifest
from models.serving import Wanted, opened, verified
from models.text_heads import base_of
from moderation.domain.errors import Conflict, NotFound
from moderation.governance import audit, lineage, lineups
from moderation.storage.tables import ModelAlias, ModelProposal, ModelRow

CHAMPION, SHADOW, CANARY = serving.CHAMPION, serving.SHADOW, serving.CANARY
PREVIOUS = "previous"
OPERATOR = "operator"
NAMED = 5  # gates in one sentence


class Origin(StrEnum):
    """Where a version comes from: with the release, which may take it back, or from somebody here."""

    SHIPPED = "shipped"
    OWN = "own"


@dataclass(frozen=True, slots=True)
class Added:
    """A version that is known now; `fresh` if it was not before."""

    manifest: Manifest
    gates: tuple[gates.Gate, ...]
    fresh: bool


def add(session: Session, folder: Path, root: Path, actor: str, now: datetime) -> Added:
    """Make a version known: check it, run its golden inputs, copy it below `root`. It serves nobody yet.

    One without gate results is taken, for whoever wants to look at it; `promotions.propose` refuses it.

    Raises:
        models.registry.ArtifactError: it is damaged, or computes something else here than where it was made.
        Conflict: it fails a gate, there is another one under its version, or a bundle that it learned from is
            forgotten.
    """
    manifest = registry.load(folder)
    row = session.get(ModelRow, (manifest.name, manifest.version))
    found = tuple(gates.check(manifest))
    if row is not None and row.manifest_sha256 == manifest.sha256:
        require_not_retired(row)
        return Added(_there_again(row, manifest, root), found, fresh=False)
    if row is not None:
        raise _taken(manifest)
    others = select(ModelRow.kind).where(ModelRow.name == manifest.name, ModelRow.kind != manifest.kind)
    if (other := session.scalar(others.limit(1))) is not None:
        raise Conflict(
            f"{manifest.name} is the name of models of kind {other} here, and this one is of kind {manifest.kind}; "
            "give it a name of its own.",
            code="name_taken",
        )
    refusal = failing(manifest.name, manifest.version, found)
    if refusal is not None and gates.measured(manifest):
        raise Conflict(refusal, code="gates_failed")
    opened(manifest, threads=1)
    learned_from = lineage.bundles_of(manifest)
    lineage.require_known(session, manifest, learned_from)
    # The row before the files: whoever adds another content under this version at this moment waits here.
    stored = session.scalar(
        insert(ModelRow)
        .values(
            name=manifest.name,
            version=manifest.version,
            kind=manifest.kind,
            manifest_sha256=manifest.sha256,
            folder=f"{manifest.name}/{manifest.version}",
            added_at=now,
            origin=Origin.OWN,
            bundles=[one.id for one in learned_from],
            outputs=lineups.described(manifest),
        )
        .on_conflict_do_nothing()
        .returning(ModelRow.name)
    )
    if stored is None:
        raise _taken(manifest)
    # A folder without a row is what a command that broke off has left.
    installed = _installed(manifest, root)
    _record(session, actor, "model.added", manifest.name, now, version=manifest.version,
            manifest_sha256=manifest.sha256, origin=str(Origin.OWN))  # fmt: skip
    lineage.mark_added(session, find(session, manifest.name, manifest.version), learned_from, now)
    return Added(installed, found, fresh=True)


def _taken(manifest: Manifest) -> Conflict:
    return Conflict(
        f"There is another {manifest.name} {manifest.version} already; a version never changes, so give yours "
        "one of its own.",
        code="version_taken",
    )


def _there_again(row: ModelRow, manifest: Manifest, root: Path) -> Manifest:
    """The files of a version that is known; what was added here and is lost or damaged is copied once more."""
    try:
        return verified(wanted_of(row, root))
    except ArtifactError:
        if row.origin != Origin.OWN:
            raise
        return _installed(manifest, root)


def _installed(manifest: Manifest, root: Path) -> Manifest:
    target = root / manifest.name / manifest.version
    if (target / registry.MANIFEST).exists() and target.resolve() != manifest.folder.resolve():
        try:
            return registry.install(manifest, root)
        except ArtifactError:
            registry.remove(target)
    return registry.install(manifest, root)


def remove(session: Session, name: str, version: str, root: Path, actor: str, now: datetime) -> Path:
    """Forget a version that never served; its folder, for the caller to remove before this is committed.

    Until then nobody else can add another content under this version, whose files would go with it.

    Raises:
        NotFound: there is no such version.
        Conflict: it is shipped, served once, or is proposed at the moment.
    """
    row = find(session, name, version, hold=True)
    if row.origin != Origin.OWN:
        raise Conflict(
            f"{name} {version} is shipped with this release; only what was added here can be removed."
        )
    proposed = select(ModelProposal.id).where(
        ModelProposal.name == name, ModelProposal.version == version, ModelProposal.state != "refused"
    )
    aliased = select(ModelAlias.name).where(ModelAlias.name == name, ModelAlias.version == version)
    if session.scalar(select(exists(proposed) | exists(aliased))):
        raise Conflict(
            f"{name} {version} is proposed, or has served, and decisions name it: it stays. Refuse an open "
            "proposal first."
        )
    folder = wanted_of(row, root).folder
    session.delete(row)
    session.flush()
    _record(session, actor, "model.removed", name, now, version=version, manifest_sha256=row.manifest_sha256)
    return folder


def find(session: Session, name: str, version: str, *, hold: bool = False) -> ModelRow:
    """A version; with `hold` nobody else proposes, promotes or removes it before this transaction ends.

    Raises:
        NotFound: there is no such version.
    """
    row = session.get(
        ModelRow, (name, version), with_for_update=True if hold else None, populate_existing=hold
    )
    if row is None:
        raise NotFound(
            f"There is no version {version} of a model {name} here; `moderation models list` shows which there are."
        )
    return row


def require_not_retired(row: ModelRow) -> None:
    """Refuse a version that was retired: it learned from what was erased since, and its time is over.

    Raises:
        Conflict: it was.
    """
    if row.retired_at is not None:
        raise Conflict(
            f"{row.name} {row.version} was retired on {row.retired_at:%Y-%m-%d}: it learned from posts that were "
            "erased since. Fit a new version on a fresh bundle.",
            code="model_retired",
        )


def alias_of(session: Session, name: str, alias: str) -> str | None:
    """The version that an alias of `name` points to."""
    return session.scalar(
        select(ModelAlias.version).where(ModelAlias.name == name, ModelAlias.alias == alias)
    )


def require_base(session: Session, manifest: Manifest, *beside: str) -> None:
    """Refuse a head whose base does not serve: it would be refused by every worker. `beside`: also under these.

    Raises:
        Conflict: it does not.
        models.registry.ArtifactError: the manifest does not name it.
    """
    if manifest.kind not in serving.HEADS:
        return
    if manifest.kind == "head":
        belongs, digest = backbone_of(manifest), None
    else:
        base = base_of(manifest)
        belongs, digest = maker(base.name, base.version), base.sha256
    rows = session.execute(
        select(ModelRow.name, ModelRow.version, ModelRow.manifest_sha256)
        .join(ModelAlias, (ModelRow.name == ModelAlias.name) & (ModelRow.version == ModelAlias.version))
        .where(ModelAlias.alias.in_([CHAMPION, *beside]))
    )
    if not any(
        belongs == maker(name, version) and digest in (None, sha256) for name, version, sha256 in rows
    ):
        raise Conflict(
            f"{manifest.name} {manifest.version} belongs to {belongs}, which does not serve here; fit it again "
            "on the one that does (`moderation models list` shows it).",
            code="backbone_missing",
        )


def point(
    session: Session, name: str, alias: str, version: str | None, now: datetime, share: float | None = None
) -> None:
    """Point an alias to a version, or to none; a canary with the share of the items that it judges."""
    if version is None:
        session.execute(delete(ModelAlias).where(ModelAlias.name == name, ModelAlias.alias == alias))
        return
    values = {"version": version, "set_at": now, "trouble": None, "share": share}
    session.execute(
        insert(ModelAlias)
        .values(name=name, alias=alias, **values)
        .on_conflict_do_update(index_elements=["name", "alias"], set_=values)
    )


def settle(session: Session, shipped: Sequence[Manifest], root: Path, now: datetime) -> None:
    """Bring what is known to what this release ships, so that every name has a champion that can be loaded.

    A name without a champion gets the shipped version. A champion that shipped with an earlier release gives way
    to the one that ships now; one that was added and promoted here stays, unless its files are gone or damaged:
    then the shipped one serves, and `previous` leads back.
    """
    known = {(row.name, row.version): row for row in session.scalars(select(ModelRow))}
    for manifest in shipped:
        _know(session, known.get((manifest.name, manifest.version)), manifest, root, now)
    _describe(session, root)
    by_name: dict[str, list[str]] = {}
    for manifest in shipped:
        by_name.setdefault(manifest.name, []).append(manifest.version)
    aliases = session.scalars(select(ModelAlias).where(ModelAlias.alias == CHAMPION).with_for_update())
    champions = {one.name: one.version for one in aliases}
    session.execute(update(ModelAlias).values(trouble=None).where(ModelAlias.trouble.is_not(None)))
    for name in sorted({*by_name, *champions}):
        newest = registry.newest(by_name[name]) if name in by_name else None
        _settle(session, name, champions.get(name), newest, by_name.get(name, ()), root, now)


def _describe(session: Session, root: Path) -> None:
    """Keep what a version scores beside it, where an earlier release did not and its files are still there."""
    for row in session.scalars(select(ModelRow).where(ModelRow.outputs == {})):
        with suppress(ArtifactError):
            manifest = registry.read(wanted_of(row, root).folder)
            if manifest.sha256 == row.manifest_sha256:
                row.outputs = lineups.described(manifest)
    session.flush()


def _know(session: Session, row: ModelRow | None, manifest: Manifest, root: Path, now: datetime) -> None:
    """A row for a shipped version; of one that a release ships anew under its old number, the new content."""
    if row is not None and row.manifest_sha256 == manifest.sha256:
        return
    if row is not None and row.origin == Origin.OWN:
        # Somebody's own has taken this number. If it serves it stays; otherwise the number is the release's. So it
        # is where the files are lost: under one number nothing leads back to them.
        if alias_of(session, manifest.name, CHAMPION) == manifest.version and _there(row, (), root):
            return
        _record(session, OPERATOR, "model.removed", row.name, now, version=row.version,
                manifest_sha256=row.manifest_sha256, because="shipped_instead")  # fmt: skip
    folder = str(manifest.folder.relative_to(ARTIFACTS) if manifest.folder.is_relative_to(ARTIFACTS)
                 else manifest.folder.resolve())  # fmt: skip
    values = {"kind": manifest.kind, "manifest_sha256": manifest.sha256, "folder": folder, "added_at": now,
              "origin": Origin.SHIPPED, "outputs": lineups.described(manifest)}  # fmt: skip
    session.execute(
        insert(ModelRow)
        .values(name=manifest.name, version=manifest.version, **values)
        .on_conflict_do_update(index_elements=["name", "version"], set_=values)
    )
    details = {"version": manifest.version, "manifest_sha256": manifest.sha256}
    if row is not None:
        details["instead_of"] = row.manifest_sha256
    session.expire_all()
    _record(session, OPERATOR, "model.added", manifest.name, now, **details)


def _settle(
    session: Session,
    name: str,
    champion: str | None,
    newest: str | None,
    shipped: Collection[str],
    root: Path,
    now: datetime,
) -> None:
    row = session.get(ModelRow, (name, champion)) if champion else None
    previous = alias_of(session, name, PREVIOUS)
    before = session.get(ModelRow, (name, previous)) if previous else None
    # Lost files may come back; what a release took away does not.
    if previous and (before is None or (before.origin == Origin.SHIPPED and previous not in shipped)):
        point(session, name, PREVIOUS, None, now)
    if _there(row, shipped, root):
        return
    point(session, name, CHAMPION, newest, now)
    if champion is None:
        return
    own = row is not None and row.origin == Origin.OWN
    if own:
        point(session, name, PREVIOUS, champion, now)
    # Nobody promoted this: the release took one version away and brought another, or files are lost.
    details = {"from": champion, "to": newest, "because": "files_lost" if own else "shipped_instead"}
    _record(session, OPERATOR, "model.replaced", name, now, **details)


def _there(row: ModelRow | None, shipped: Collection[str], root: Path) -> bool:
    """Whether a version can be loaded here."""
    if row is None:
        return False
    if row.origin == Origin.SHIPPED:
        return row.version in shipped
    try:
        verified(wanted_of(row, root))
    except ArtifactError:
        return False
    return True


def wanted(
    session: Session, root: Path, kinds: Collection[Kind] = KINDS, alias: str = CHAMPION
) -> list[Wanted]:
    """The versions that are to serve, of these kinds, by name. Nothing is read from the disk."""
    rows = session.scalars(
        select(ModelRow)
        .join(ModelAlias, (ModelAlias.name == ModelRow.name) & (ModelAlias.version == ModelRow.version))
        .where(ModelAlias.alias == alias, ModelRow.kind.in_(sorted(kinds)))
        .order_by(ModelRow.name)
    )
    return [wanted_of(row, root) for row in rows]


def shares(session: Session) -> dict[str, float]:
    """Which share of the items each canary judges, by name."""
    rows = select(ModelAlias.name, ModelAlias.share).where(ModelAlias.alias == CANARY)
    return {name: share or 0.0 for name, share in session.execute(rows)}


def troubles(session: Session) -> dict[str, str]:
    """Names whose champion a process could not load, and why."""
    rows = select(ModelAlias.name, ModelAlias.trouble).where(
        ModelAlias.alias == CHAMPION, ModelAlias.trouble.is_not(None)
    )
    return {name: trouble or "" for name, trouble in session.execute(rows)}


def wanted_of(row: ModelRow, root: Path) -> Wanted:
    """A row as what can be loaded; versions that were added here lie below `root`."""
    base = ARTIFACTS if row.origin == Origin.SHIPPED else root
    return Wanted(row.name, row.version, cast("Kind", row.kind), base / row.folder, row.manifest_sha256)


def note_trouble(
    session: Session, wanted: Wanted, sentence: str, now: datetime, alias: str = CHAMPION
) -> None:
    """Write down, once, that a process could not serve a champion, or try what is tried beside it."""
    noted = session.execute(
        update(ModelAlias)
        .where(
            ModelAlias.name == wanted.name,
            ModelAlias.alias == alias,
            ModelAlias.version == wanted.version,
            ModelAlias.trouble.is_(None),
        )
        .values(trouble=sentence)
        .returning(ModelAlias.name)
    ).first()
    if noted is not None:
        _record(
            session, audit.MACHINE, "model.not_served", wanted.name, now, version=wanted.version, alias=alias
        )


def failing(name: str, version: str, found: Iterable[gates.Gate]) -> str | None:
    """The sentence for a version that may not serve; None if it passes every gate."""
    failed = gates.failures(found)
    if not failed:
        return None
    said = " ".join(gate.sentence for gate in failed[:NAMED])
    more = f" And {len(failed) - NAMED} more." if len(failed) > NAMED else ""
    return f"{name} {version} may not serve. {said}{more}"


def _record(session: Session, actor: str, action: str, name: str, now: datetime, **details: object) -> None:
    audit.record(session, [audit.Event(actor, action, "model", name, details)], now)
