"""Scores for what is not kept: the stages that an item passes, without a queue, a bank or a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from models.backbone import ImageEmbedder
from models.heads import ImageHead
from models.image import RGB
from models.runtime import Classifier
from models.text import TextClassifier
from models.text_heads import TextHead
from moderation.domain.content import ImagePart, Part, TextPart
from moderation.domain.errors import Unavailable
from moderation.domain.policy import Policy
from moderation.domain.routing import Routing
from moderation.domain.routing import route as decide
from moderation.features.decode import Picture, UndecodableImage
from moderation.features.hashes import sha256, text_digest
from moderation.features.ocr import Reader
from moderation.pipeline.batch import Batch, Image, Text, part_name
from moderation.pipeline.classify_image import classify_image
from moderation.pipeline.classify_text import classify_text
from moderation.pipeline.embed_image import embed_image
from moderation.pipeline.read import read
from moderation.storage.ids import new_id

RETRY_SECONDS = 5.0
Decode = Callable[[Sequence[bytes]], Sequence[Picture | UndecodableImage]]


@dataclass(frozen=True, slots=True)
class Scored:
    """What the classifiers say of one post: per kind of part ("text", "image") its highest score by category.

    `routing` is what the policy makes of it, as of an item that no bank knows, and by its bands until certified:
    of what is not kept nobody can check a draw, so that no certificate speaks of it.
    """

    by_kind: Mapping[str, Mapping[str, float]]
    routing: Routing

    def score(self, category: str) -> float | None:
        """The highest score of a category; None where no model that serves looked for it."""
        return max((scores[category] for scores in self.by_kind.values() if category in scores), default=None)

    def kinds(self, category: str) -> list[str]:
        """The kinds of parts in which a category was looked for."""
        return [kind for kind, scores in self.by_kind.items() if category in scores]


def score(
    posts: Sequence[Sequence[Part]],
    text: Sequence[TextClassifier],
    image: Sequence[Classifier[RGB]],
    decode: Decode,
    policy: Policy,
    now: datetime,
    backbone: Sequence[ImageEmbedder] = (),
    heads: Sequence[ImageHead] = (),
    reader: Reader | None = None,
    text_heads: Sequence[TextHead] = (),
    client: str = "",
) -> list[Scored]:
    """Score each of `posts`, by what scores items that `client` posts; nothing is kept of them.

    Raises:
        UndecodableImage: a picture can't be read.
        Unavailable: no model serves for a kind of part, or it failed.
    """
    ids = [new_id(now) for _ in posts]
    batch = Batch((), now, clients=dict.fromkeys(ids, client))
    pictures: list[tuple[int, ImagePart]] = []
    for index, parts in enumerate(posts):
        for part in parts:
            if isinstance(part, TextPart):
                batch.texts.append(Text(ids[index], part.name, part.text, text_digest(part.text)))
            else:
                pictures.append((index, part))
    decoded = decode([part.data for _, part in pictures]) if pictures else []
    for (index, part), picture in zip(pictures, decoded, strict=True):
        if isinstance(picture, UndecodableImage):
            raise picture
        batch.images.append(Image(ids[index], part.name, sha256(part.data), picture))
    read(batch, reader)
    classify_text(batch, text, text_heads)
    classify_image(batch, image)
    if heads:  # nothing is kept, so nobody else needs the vectors
        embed_image(batch, backbone, heads)
    return [_scored(batch, one, parts, policy) for one, parts in zip(ids, posts, strict=True)]


def _scored(batch: Batch, identifier: UUID, parts: Sequence[Part], policy: Policy) -> Scored:
    kinds = {part.name: "text" if isinstance(part, TextPart) else "image" for part in parts}
    by_kind: dict[str, dict[str, float]] = {}
    signals = batch.signals.get(identifier, [])
    judged = {signal.part for signal in signals if signal.scores}
    # What a picture says is said by the picture.
    kinds |= {part_name(part.name): "image" for part in parts if part_name(part.name) in judged}
    if judged != set(kinds):
        # A score of 0 would say that it was looked at.
        raise Unavailable(
            "No model could judge this just now; send it again later.", retry_after=RETRY_SECONDS
        )
    for signal in signals:
        scores = by_kind.setdefault(kinds[signal.part], {})
        for category, probability in signal.scores.items():
            scores[category] = max(probability, scores.get(category, 0.0))
    return Scored(by_kind, decide(policy, signals, ()))
