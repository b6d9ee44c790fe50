"""Rounds of learning: labels out, a model fitted, judged, registered, watched in the shadow, certified, proposed.

A round moves forward one step at a time, and each step is committed with what it did: whoever is killed goes on
where it was. One that comes to nothing ends with a sentence that says why, and is kept. Who takes the steps is
`moderation.learning`.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import registry
from moderation.domain.errors import Conflict
from moderation.governance import audit
from moderation.storage.tables import Bundle, LearningRound, ModelProposal

BUNDLE, ARTIFACT = "labels.bundle", "artifact"
AGAIN = timedelta(hours=1)
"""After so long the schedule goes on with a round that broke off."""


class State(StrEnum):
    """What a round has done so far, in this order; `ended` is the end of one that came to nothing."""

    EXPORTED = "exported"
    FITTED = "fitted"
    REGISTERED = "registered"
    SHADOWED = "shadowed"
    CERTIFIED = "certified"
    PROPOSED = "proposed"
    ENDED = "ended"


ORDER = tuple(state for state in State if state is not State.ENDED)
OVER = (State.PROPOSED, State.ENDED)


def begin(
    session: Session,
    identifier: UUID,
    client: str | None,
    bundle_id: UUID,
    actor: str,
    now: datetime,
    document: dict[str, Any],
) -> LearningRound:
    """A round whose labels have just been exported, in the same transaction."""
    made = LearningRound(
        id=identifier,
        started_at=now,
        started_by=actor,
        client=client,
        state=State.EXPORTED,
        moved_at=now,
        bundle_id=bundle_id,
        document=document,
    )
    session.add(made)
    session.flush()
    _record(session, made, actor, "learning.started", now, bundle=str(bundle_id))
    return made


def without_labels(
    session: Session, identifier: UUID, client: str | None, actor: str, trouble: str, now: datetime
) -> LearningRound:
    """A round that found nothing to learn from: kept, with the reason."""
    made = LearningRound(
        id=identifier, started_at=now, started_by=actor, client=client, state=State.ENDED, moved_at=now,
        document={}, trouble=trouble,
    )  # fmt: skip
    session.add(made)
    session.flush()
    _record(session, made, actor, "learning.ended", now, trouble=trouble)
    return made


def unfinished(session: Session, client: str | None) -> LearningRound | None:
    """The round for this client, or for all, that is not over."""
    return session.scalars(
        select(LearningRound)
        .where(LearningRound.state.not_in(OVER), LearningRound.client.is_not_distinct_from(client))
        .order_by(LearningRound.id.desc())
        .limit(1)
    ).first()


def move(
    session: Session, identifier: UUID, to: State, actor: str, now: datetime, **found: Any
) -> LearningRound:
    """Note that a step was taken, with what it `found`: `name` and `version` once there is a model, and numbers.

    Raises:
        Conflict: somebody else took it, or the round is over.
    """
    row = session.get_one(LearningRound, identifier, with_for_update=True, populate_existing=True)
    if row.state not in ORDER or ORDER.index(State(row.state)) + 1 != ORDER.index(to):
        raise Conflict(f"This round is {row.state} by now; `moderation learn --status` shows it.")
    row.name = found.pop("name", row.name)
    row.version = found.pop("version", row.version)
    row.state, row.moved_at = to, now
    row.document = {**row.document, **found}
    session.flush()
    _record(session, row, actor, f"learning.{to}", now)
    return row


def waits(session: Session, identifier: UUID, now: datetime) -> None:
    """Note that a round was looked at and waits for somebody; the schedule leaves it alone for a while."""
    row = session.get_one(LearningRound, identifier, with_for_update=True, populate_existing=True)
    row.moved_at = now
    session.flush()


def end(session: Session, identifier: UUID, trouble: str, actor: str, now: datetime) -> LearningRound:
    """End a round that came to nothing; `trouble` says why, without any content."""
    row = session.get_one(LearningRound, identifier, with_for_update=True, populate_existing=True)
    if row.state not in OVER:
        row.state, row.moved_at, row.trouble = State.ENDED, now, trouble
        session.flush()
        _record(session, row, actor, "learning.ended", now, trouble=trouble)
    return row


def listing(session: Session, most: int = 50) -> Sequence[LearningRound]:
    """The newest rounds first."""
    return session.scalars(select(LearningRound).order_by(LearningRound.id.desc()).limit(most)).all()


def is_due(session: Session, client: str | None, days: float, now: datetime, *, proposes: bool) -> bool:
    """Whether the schedule asks for a round: the last one was begun so long ago, and nobody waits for anybody.

    One that broke off is gone on with. One whose artifact is made elsewhere, a model that nobody `proposes`, and a
    proposal that nobody has answered are waited for.
    """
    last = session.scalars(
        select(LearningRound)
        .where(LearningRound.client.is_not_distinct_from(client))
        .order_by(LearningRound.id.desc())
        .limit(1)
    ).first()
    if last is None:
        return True
    if last.state not in OVER:
        somebody = last.document.get("elsewhere") if last.state == State.EXPORTED else False
        somebody = somebody or (last.state == State.CERTIFIED and not proposes)
        return not somebody and last.moved_at + AGAIN <= now
    if last.state == State.PROPOSED and _unanswered(session, last):
        return False
    return last.started_at + timedelta(days=days) <= now


def _unanswered(session: Session, row: LearningRound) -> bool:
    asked = select(ModelProposal.id).where(
        ModelProposal.name == row.name, ModelProposal.version == row.version, ModelProposal.state == "open"
    )
    return session.scalars(asked.limit(1)).first() is not None


def folder_of(root: Path, identifier: UUID) -> Path:
    """Where a round keeps its bundle and what is made of it."""
    return root / str(identifier)


def drop_artifact(root: Path, identifier: UUID) -> None:
    """Remove what a round fitted, once it is registered or refused: what has learned from people has one place."""
    registry.remove(folder_of(root, identifier) / ARTIFACT)


def tidy(session: Session, root: Path, now: datetime) -> int:
    """Remove the files of rounds whose bundle has ended, and what was left of none; how many folders."""
    folders = {folder.name: folder for folder in root.iterdir()} if root.is_dir() else {}
    rows = session.execute(
        select(LearningRound.id, Bundle.id, Bundle.ended_at).outerjoin(
            Bundle, Bundle.id == LearningRound.bundle_id
        )
    )
    # A round that found no label has no bundle.
    over = {str(identifier): bundle is None or ended is not None for identifier, bundle, ended in rows}
    # One that nobody knows may be of a round that is just being begun.
    old = (now - timedelta(days=1)).timestamp()
    gone = [one for name, one in folders.items() if over.get(name, one.stat().st_mtime < old)]
    for folder in gone:
        shutil.rmtree(folder, ignore_errors=True)
    return len(gone)


def _record(
    session: Session, row: LearningRound, actor: str, action: str, now: datetime, **details: Any
) -> None:
    said = {"client": row.client, "name": row.name, "version": row.version, **details}
    event = audit.Event(
        actor, action, "learning", str(row.id), {k: v for k, v in said.items() if v is not None}
    )
    audit.record(session, [event], now)
