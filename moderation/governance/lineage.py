"""What a model learned from: the bundles its manifest names, and how much of them was taken out since.

Whoever has what they posted erased, deleted or set apart has it taken out of every bundle. What a model has
learned from it can't be taken out, so the model is marked, and has a maximum age from then on (`model_ages`). What
merely came to the end of its time marks nothing: nobody asked for that, and it happens to all that is ever learned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Uuid, any_, delete, exists, func, literal, select, tuple_, update
from sqlalchemy.orm import Session

from models.registry import ArtifactError, Manifest
from moderation.domain.errors import Conflict
from moderation.governance import audit
from moderation.storage.database import among
from moderation.storage.ids import lower_bound
from moderation.storage.tables import Bundle, BundleItem, LearningRound, ModelRow


@dataclass(frozen=True, slots=True)
class Read:
    """A bundle as training read it: its id, and the SHA-256 of its manifest where training noted that."""

    id: UUID
    sha256: str | None


def bundles_of(manifest: Manifest) -> tuple[Read, ...]:
    """The bundles that a model learned from, as `training.bundles` of its manifest names them.

    Raises:
        ArtifactError: what stands there are no bundles.
    """
    training = manifest.document.get("training")
    named = training.get("bundles", ()) if isinstance(training, Mapping) else ()
    try:
        return tuple(_read(one) for one in named)
    except (TypeError, ValueError, KeyError) as error:
        raise ArtifactError(
            f"{manifest.name} {manifest.version} does not say properly which bundles it learned from."
        ) from error


def _read(named: str | Mapping[str, str]) -> Read:
    if isinstance(named, Mapping):
        return Read(UUID(named["id"]), named.get("sha256"))
    return Read(UUID(named), None)


def require_known(session: Session, manifest: Manifest, read: tuple[Read, ...]) -> None:
    """Refuse a version if it is forgotten who was in a bundle it learned from: no erasure would ever mark it.

    Raises:
        Conflict: it is.
    """
    for one in read:
        # Whoever ends the bundle at this moment is waited for, or waits and then finds the version.
        bundle = session.get(Bundle, one.id, with_for_update={"read": True}, populate_existing=True)
        held = exists().where(BundleItem.bundle_id == one.id)
        if (
            bundle is not None
            and bundle.ended_at is not None
            and bundle.rows
            and not session.scalar(select(held))
        ):
            raise Conflict(
                f"{manifest.name} {manifest.version} learned from the bundle {one.id}, which ended on "
                f"{bundle.ended_at:%Y-%m-%d}, and who was in it is forgotten: no erasure could mark it any more. "
                "Fit it on a fresh bundle.",
                code="bundle_ended",
            )


def mark_added(session: Session, row: ModelRow, read: tuple[Read, ...], now: datetime) -> None:
    """Mark a version that was just added, if it learned from rows that were taken out before it came.

    A bundle that was written again has another SHA-256. One that training read as it is now holds nothing of it.
    Its age counts from when they were taken out: who adds a version later, or again, gains no time.
    """
    erased, since = 0, now
    for one in read:
        # Held since `require_known`: whoever takes rows out waits, and then finds this version.
        bundle = session.get(Bundle, one.id)
        if bundle is not None and bundle.withdrawn and one.sha256 != bundle.sha256:
            erased += bundle.withdrawn
            since = min(since, bundle.withdrawn_at or now)
    if erased:
        row.erased, row.tainted_at = erased, since
        session.flush()
        _record(session, row.name, row.version, erased, now)


def mark(session: Session, bundle_id: UUID, rows: int, now: datetime) -> None:
    """Mark every version that learned from a bundle of which `rows` were taken out for somebody's sake."""
    marked = session.execute(
        update(ModelRow)
        .where(_learned_from(bundle_id), ModelRow.retired_at.is_(None))
        .values(erased=ModelRow.erased + rows, tainted_at=func.coalesce(ModelRow.tainted_at, now))
        .returning(ModelRow.name, ModelRow.version)
        .execution_options(synchronize_session=False)
    ).all()
    for name, version in marked:
        _record(session, name, version, rows, now, bundle=str(bundle_id))


def still_used(session: Session, bundle_id: UUID) -> bool:
    """Whether a model that is not retired learned from it, so that an erasure must still find its rows."""
    return bool(
        session.scalar(select(exists().where(_learned_from(bundle_id), ModelRow.retired_at.is_(None))))
    )


def learned(
    session: Session, versions: Collection[tuple[str, str]], items: Collection[UUID]
) -> dict[UUID, set[tuple[str, str]]]:
    """By item which of `versions` (name, version) have learned from it: it proves nothing of them."""
    found: dict[UUID, set[tuple[str, str]]] = {}
    rows = session.execute(
        select(BundleItem.item_id, ModelRow.name, ModelRow.version)
        .join(ModelRow, BundleItem.bundle_id == any_(ModelRow.bundles))
        .where(
            tuple_(ModelRow.name, ModelRow.version).in_(sorted(versions)), among(BundleItem.item_id, items)
        )
    )
    for item, name, version in rows if versions and items else ():
        found.setdefault(item, set()).add((name, version))
    return found


def stays_for_proof(item_id: UUID) -> bool:
    """Whether an item is of the half of which no round of learning learns what the audit has drawn."""
    return hashlib.sha256(b"for proof" + item_id.bytes).digest()[0] % 2 == 0


@dataclass(frozen=True, slots=True)
class Taken:
    """Before which decisions (by id) labels were taken to learn from: by rounds of learning, and by anybody else.

    What a bundle leaves behind is no sample of what was drawn: it is what was in doubt, broke another rule, or was
    no text. Only the half that rounds leave alone is one.
    """

    by_rounds: UUID | None
    by_others: UUID | None

    def leaves(self, decision: UUID, item: UUID) -> bool:
        """Whether a decision proves as much as if nobody had learned anything."""
        if self.by_others is not None and decision < self.by_others:
            return False
        return self.by_rounds is None or decision >= self.by_rounds or stays_for_proof(item)


def taken(session: Session, versions: Collection[tuple[str, str]]) -> Taken:
    """Up to when `versions` (name, version) have learned."""
    if not versions:
        return Taken(None, None)
    learners = exists().where(
        tuple_(ModelRow.name, ModelRow.version).in_(sorted(versions)), Bundle.id == any_(ModelRow.bundles)
    )
    rows = session.execute(
        select(
            exists().where(LearningRound.bundle_id == Bundle.id).label("by_round"),
            func.max(Bundle.created_at),
        )
        .where(learners)
        .group_by("by_round")
    )
    last = {by_round: lower_bound(at) for by_round, at in rows}
    return Taken(last.get(True), last.get(False))


def forget(session: Session) -> int:
    """Forget what was in bundles that have ended and of which no model is left; how many rows."""
    used = exists().where(Bundle.id == any_(ModelRow.bundles), ModelRow.retired_at.is_(None))
    over = select(Bundle.id).where(Bundle.ended_at.is_not(None), ~used)
    gone = session.scalars(
        delete(BundleItem)
        .where(BundleItem.bundle_id.in_(over))
        .returning(BundleItem.item_id)
        .execution_options(synchronize_session=False)
    ).all()
    return len(gone)


def _learned_from(bundle_id: UUID) -> ColumnElement[bool]:
    return literal(bundle_id, Uuid) == any_(ModelRow.bundles)


def _record(session: Session, name: str, version: str, rows: int, now: datetime, **details: str) -> None:
    said = {"version": version, "rows": rows, **details}
    audit.record(session, [audit.Event(audit.MACHINE, "model.erased_from", "model", name, said)], now)
