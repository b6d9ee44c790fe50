"""Stage 2: exact matches with banks of known content."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy.orm import Session

from moderation.governance import banks
from moderation.pipeline.batch import Batch


def match(session: Session, batch: Batch) -> None:
    """Add a match for every part that equals a live entry of an enabled bank."""
    parts = [("text", text.digest, text.item, text.part) for text in batch.texts]
    parts += [("image", image.digest, image.item, image.part) for image in batch.images]
    found = banks.lookup(session, {(kind, digest) for kind, digest, _, _ in parts}, batch.now)
    for kind, digest, item, part in parts:
        for entry in found.get((kind, digest), ()):
            batch.add_match(item, replace(entry, part=part))
