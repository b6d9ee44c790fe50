"""Score with any known version what was decided long ago: what it would have said, stored as a shadow's scores.

Asked are retained items that people have judged, and beside them a draw of what nobody judged, so that a version
can be compared and certified before it serves. Left out is what labels leave out as well: of authors who restricted
what is done with what they posted, of minors, and whatever was ever connected with them. No decision is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Text, cast, exists, func, or_, select
from sqlalchemy.orm import Session

from models.backbone import ImageEmbedder
from models.heads import ImageHead
from models.image import ImageClassifier
from models.serving import Served, Trials
from models.text import TextClassifier
from models.text_heads import TextHead
from moderation.domain.content import ItemState
from moderation.domain.signals import Signal
from moderation.features.decode import Decoder
from moderation.governance import shadows
from moderation.governance.restriction import restricted, set_apart
from moderation.pipeline.batch import Batch
from moderation.pipeline.classify_image import classify_image
from moderation.pipeline.classify_text import classify_text
from moderation.pipeline.embed_image import embed_image
from moderation.pipeline.normalise import normalise
from moderation.review.settled import far_from_minors
from moderation.storage import items as queue
from moderation.storage.blobs import BlobMissing, FolderBlobs
from moderation.storage.database import Databases, among, transaction
from moderation.storage.ids import lower_bound
from moderation.storage.tables import Case, Decision, Item, Opinion, SignalRow
from moderation.storage.vault import Vault, VaultError

Said = Mapping[UUID, Sequence[Signal]]
Model = TextClassifier | TextHead | ImageClassifier | ImageHead
Base = TextClassifier | ImageEmbedder
AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Asked:
    """A version that is asked, loaded: with the model that it belongs to, if it is a head."""

    model: Model
    base: Base | None = None

    @property
    def kind(self) -> str:
        """Of which parts it speaks."""
        return "text" if isinstance(self.model, (TextClassifier, TextHead)) else "image"

    @property
    def clients(self) -> frozenset[str]:
        """Of whose items; empty for everybody's."""
        return self.model.clients if isinstance(self.model, TextHead) else frozenset()

    def say(self, batch: Batch) -> Said:
        """What it says of each item, by the stages that say it when it serves."""
        model, base = self.model, self.base
        if isinstance(model, TextHead) and isinstance(base, TextClassifier):
            classify_text(batch, [base], (), Trials(shadow=Served(text_head=(model,))))
            return batch.shadow_signals
        if isinstance(model, ImageHead) and isinstance(base, ImageEmbedder):
            embed_image(batch, [base], [model])
        elif isinstance(model, TextClassifier):
            classify_text(batch, [model])
        elif isinstance(model, ImageClassifier):
            classify_image(batch, [model])
        name = model.manifest.name
        return {
            item: [one for one in signals if one.detector == name] for item, signals in batch.signals.items()
        }


@dataclass(frozen=True, slots=True)
class Tools:
    """What a back-test holds as long as it runs."""

    databases: Databases
    vault: Vault
    blobs: FolderBlobs
    decoder: Decoder
    now: Callable[[], datetime]


def waiting(session: Session, asked: Asked, since: datetime, now: datetime, others: int) -> list[UUID]:
    """Items received since then of which it has said nothing yet.

    Those that people judged, and `others` that were drawn from the rest, always the same ones.
    """
    detector = shadows.detector_of(asked.model.manifest.name, asked.model.manifest.version)
    # What was drawn and nobody has answered counts as a mistake: it must not be left out.
    judged = or_(
        exists().where(Opinion.item_id == Item.id, Opinion.undone_at.is_(None)),
        exists().where(Case.item_id == Item.id, Case.blind),
    )
    drawn = _retained(asked, since, now).where(~judged).order_by(func.md5(cast(Item.id, Text))).limit(others)
    every = list(
        dict.fromkeys(
            [
                *session.scalars(_retained(asked, since, now).where(judged).order_by(Item.id)),
                *session.scalars(drawn),
            ]
        )
    )
    done = set[UUID]()
    for start in range(0, len(every), AT_ONCE):
        page = every[start : start + AT_ONCE]
        said = select(SignalRow.item_id).where(among(SignalRow.item_id, page), SignalRow.detector == detector)
        done |= set(session.scalars(said))
    return [item for item in every if item not in done]


def _retained(asked: Asked, since: datetime, now: datetime) -> Select[UUID]:
    clients = [Item.client.in_(sorted(asked.clients))] if asked.clients else []
    return (
        select(Item.id)
        .join(Decision, Decision.item_id == Item.id)
        .where(
            Item.id >= lower_bound(since),
            *_alive(now),
            Decision.superseded_at.is_(None),
            *far_from_minors(),
            ~set_apart(Item.author_id),
            *clients,
        )
    )


def _alive(now: datetime) -> list[ColumnElement[bool]]:
    return [
        Item.state.in_([ItemState.DONE, ItemState.DEAD]),
        Item.destroyed_at.is_(None),
        Item.doomed_at.is_(None),
        Item.expires_at > now,
    ]


def score(tools: Tools, asked: Asked, ids: Sequence[UUID]) -> int:
    """Ask about `ids` and store what is said; of how many items something was said. Owns its transactions.

    One whose content ended meanwhile, or does not open any more, costs the others a second pass and nothing else.
    """
    try:
        return _score(tools, asked, ids)
    except (VaultError, BlobMissing):
        return sum(score(tools, asked, [one]) for one in ids) if len(ids) > 1 else 0


def _score(tools: Tools, asked: Asked, ids: Sequence[UUID]) -> int:
    now = tools.now()
    with transaction(tools.databases.content, durable=False) as session:
        items = session.scalars(select(Item).where(among(Item.id, ids), *_alive(now))).all()
        parts = [part for part in queue.parts_of(session, ids) if part.kind == asked.kind]
    keys = tools.vault.item_keys(sorted({part.item_id for part in parts}))
    batch = Batch([item for item in items if item.id in keys], now)
    held = {item.id for item in batch.items}
    normalise(batch, [part for part in parts if part.item_id in held], keys, tools.blobs, tools.decoder)
    said = {item: signals for item, signals in asked.say(batch).items() if signals and item in held}
    with transaction(tools.databases.content) as session:
        # Authors before items, as everywhere: whoever restricted or erased something meanwhile is heard here.
        authors = {item.author_id for item in batch.items if item.id in said}
        apart = restricted(session, authors, lock=True)
        alive = session.scalars(
            select(Item.id)
            .where(among(Item.id, list(said)), among(Item.author_id, authors - apart), *_alive(tools.now()))
            .order_by(Item.id)
            .with_for_update(read=True)
        ).all()
        shadows.store(session, {item: said[item] for item in alive})
    return len(alive)
