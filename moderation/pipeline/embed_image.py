"""Stage 4b: one vector for each picture, kept for heads to come, and what the heads that serve say of it now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

import numpy as np
import structlog
from numpy.typing import NDArray

from models.backbone import ImageEmbedder, Vectors, packed, pooled
from models.heads import ImageHead
from models.serving import Trials
from moderation.domain.signals import Signal
from moderation.features.decode import Picture
from moderation.pipeline.batch import (
    NO_TRIALS,
    Batch,
    Image,
    contained,
    each_or_none,
    over_frames,
    shown,
    turns,
)

FEATURE = "embedding"
Rows = Sequence[NDArray[np.float32] | None]
log = structlog.get_logger()


def embed_image(
    batch: Batch,
    backbones: Sequence[ImageEmbedder],
    heads: Sequence[ImageHead],
    trials: Trials = NO_TRIALS,
) -> None:
    """Add the vector of each picture as its feature `embedding`, and one signal per picture and head.

    Every frame has a vector and every head judges all of them: the highest score counts. What is kept of a picture
    with several frames is the direction of their mean. The first backbone by name makes what is kept. Without
    one there are no vectors, and nobody's verdict waits for them. What shadows say is added to the shadow signals:
    the vectors are there, and a linear model over them costs next to nothing.
    """
    pictures = shown(batch)
    vectors = {one.maker: _vectors(one, pictures) for one in backbones}
    for one in backbones[:1]:
        for (image, _), rows in zip(pictures, vectors[one.maker], strict=True):
            if rows is not None:
                batch.add_feature(image.item, image.part, FEATURE, one.maker, packed(pooled(rows)))
    for turn in turns(batch, heads, trials.canary.head, trials.shares):
        batch.add_asked(turn.items, turn.model.manifest)
        for item, signal in _judged(turn.model, pictures, vectors):
            if item in turn.items:
                batch.add_signal(item, signal)
    for head in trials.shadow.head:
        with contained(head.manifest):
            for item, signal in _judged(head, pictures, vectors):
                batch.add_shadow(item, signal)


def _vectors(embedder: ImageEmbedder, pictures: Sequence[tuple[Image, Picture]]) -> list[Vectors | None]:
    """The vectors of each picture's frames; None where the backbone failed on one of them."""
    frames = [frame.rgb for _, picture in pictures for frame in picture.frames]
    rows = iter(_each(embedder, frames))
    found: list[Vectors | None] = []
    for _, picture in pictures:
        mine = [next(rows) for _ in picture.frames]
        kept = [row for row in mine if row is not None]
        found.append(np.stack(kept) if len(kept) == len(mine) else None)
    if missing := sum(one is None for one in found):
        log.error("picture_not_embedded", backbone=embedder.maker, pictures=missing)
    return found


def _each(embedder: ImageEmbedder, frames: Sequence[NDArray[np.uint8]]) -> Rows:
    """The vector of every frame, None where the backbone fails on it alone."""
    found = each_or_none(lambda some: embedder.embed(some).astype(np.float64), frames)
    return [None if row is None else row.astype(np.float32) for row in found]


def _judged(
    head: ImageHead,
    pictures: Sequence[tuple[Image, Picture]],
    vectors: Mapping[str, Sequence[Vectors | None]],
) -> Iterator[tuple[UUID, Signal]]:
    """What a head says of each picture."""
    rows = vectors.get(head.maker, [None] * len(pictures))
    for (image, picture), mine in zip(pictures, rows, strict=True):
        scores = each_or_none(head.score, list(mine)) if mine is not None else [None]
        yield image.item, over_frames(image.part, head.manifest, picture, scores)
