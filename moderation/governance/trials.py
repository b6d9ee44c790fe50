"""What is tried beside a champion: a shadow, which decides nothing, and a canary, which decides for a share.

One of each under a name, each an alias as `champion` is. Whoever may propose begins a shadow and ends either;
that a canary begins takes two people (`promotions`), for it decides.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.registry import SILENT, ArtifactError, Manifest
from models.serving import verified
from moderation.domain.errors import Conflict, NotFound
from moderation.governance import audit, models
from moderation.governance.models import CANARY, CHAMPION, OPERATOR, SHADOW
from moderation.storage.tables import ModelAlias, ModelRow

TRIALS = (CANARY, SHADOW)


def begin_shadow(
    session: Session, root: Path, name: str, version: str, actor: str, now: datetime, **details: object
) -> str | None:
    """Have a version score whatever comes in, deciding nothing; which one did before it.

    A name needs no champion for it. Gates are not asked: nobody is judged by it.

    Raises:
        NotFound: there is no such version.
        Conflict: it serves or is the shadow already, was retired, gives no scores, or is a head whose base serves
            neither as champion nor as shadow.
        models.registry.ArtifactError: its files are not what was added.
    """
    row = models.find(session, name, version, hold=True)
    models.require_not_retired(row)
    manifest = verified(models.wanted_of(row, root))
    require_scores(manifest)
    models.require_base(session, manifest, SHADOW)
    lock(session, name)
    if models.alias_of(session, name, CHAMPION) == version:
        raise Conflict(
            f"{name} {version} serves; there is nothing to compare it with.", code="serves_already"
        )
    before = models.alias_of(session, name, SHADOW)
    if before == version:
        raise Conflict(f"{name} {version} is the shadow already.", code="shadow_already")
    models.point(session, name, SHADOW, version, now)
    _record(session, actor, "model.shadowed", name, now, version=version, before=before, **details)
    return before


def end(session: Session, name: str, alias: str, actor: str, now: datetime, **details: object) -> str:
    """End a shadow or a canary; which version it was. What it scored stays with its items.

    Raises:
        NotFound: there is none under this name.
    """
    lock(session, name)
    version = models.alias_of(session, name, alias)
    if version is None:
        raise NotFound(f"{name} has no {alias}; `moderation models list` shows what has one.")
    models.point(session, name, alias, None, now)
    _record(session, actor, "model.trial_ended", name, now, alias=alias, version=version, **details)
    return version


def end_with(
    session: Session, name: str, actor: str, now: datetime, *serving: str, **details: object
) -> list[str]:
    """End the canary of a name with its champion, and a shadow that is it, or one of `serving`; which canaries.

    A canary stands beside a champion, and that one serves no more. A shadow of what serves has nothing to show.
    """
    canary, shadow = (models.alias_of(session, name, alias) for alias in TRIALS)
    if shadow is not None and shadow in {canary, *serving}:
        end(session, name, SHADOW, actor, now, **details)
    return [end(session, name, CANARY, actor, now, **details)] if canary is not None else []


def settle(session: Session, root: Path, now: datetime) -> None:
    """End what can't be tried any more: its files are lost, the release took it away, or it is the champion now.

    For after `models.settle`, which says what serves. A canary whose champion the release replaced ends too.
    """
    rows = session.scalars(
        select(ModelAlias).where(ModelAlias.alias.in_(TRIALS)).order_by(ModelAlias.name)
    ).all()
    for name, alias, version in [(row.name, row.alias, row.version) for row in rows]:
        row = session.get(ModelRow, (name, version))
        champion = session.get(ModelAlias, (name, CHAMPION), populate_existing=True)
        if champion is not None and champion.version == version:
            end(session, name, alias, OPERATOR, now, because="serves")
        elif row is None or not _loads(row, root):
            end(session, name, alias, OPERATOR, now, because="files_lost")
        elif alias == CANARY and champion is not None and champion.set_at == now:
            end(session, name, alias, OPERATOR, now, because="champion_replaced")


def _loads(row: ModelRow, root: Path) -> bool:
    try:
        verified(models.wanted_of(row, root))
    except ArtifactError:
        return False
    return True


def require_scores(manifest: Manifest) -> None:
    """Refuse a model that says nothing of any category: there is nothing to compare.

    Raises:
        Conflict: it is of such a kind.
    """
    if manifest.kind in SILENT:
        raise Conflict(
            f"{manifest.name} {manifest.version} gives no scores that could be compared; propose it as champion.",
            code="no_scores",
        )


def lock(session: Session, name: str) -> None:
    """Whoever changes what serves under a name waits for whoever does already."""
    session.execute(select(ModelAlias.version).where(ModelAlias.name == name).with_for_update()).all()


def _record(session: Session, actor: str, action: str, name: str, now: datetime, **details: object) -> None:
    audit.record(session, [audit.Event(actor, action, "model", name, details)], now)
