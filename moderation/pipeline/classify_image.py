"""Stage 4: image classifiers over all frames of all pictures of the batch at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.runtime import Classifier
from models.serving import Trials
from moderation.pipeline.batch import (
    NO_TRIALS,
    Batch,
    contained,
    each_or_none,
    in_time,
    over_frames,
    shown,
    turns,
)

Rgb = NDArray[np.uint8]


def classify_image(batch: Batch, classifiers: Sequence[Classifier[Rgb]], trials: Trials = NO_TRIALS) -> None:
    """Add one signal per picture and classifier: the highest score over its frames and variants.

    Where a picture could not be decoded there is nothing to classify; the decoder has said so already.
    """
    pictures = shown(batch)
    for turn in turns(batch, classifiers, trials.canary.image, trials.shares):
        manifest = turn.model.manifest
        batch.add_asked(turn.items, manifest)
        mine = [(image, picture) for image, picture in pictures if image.item in turn.items]
        rows = iter(each_or_none(turn.model.score, [frame.rgb for _, one in mine for frame in one.frames]))
        for image, picture in mine:
            scores = [next(rows) for _ in picture.frames]
            batch.add_signal(image.item, over_frames(image.part, manifest, picture, scores))


def shadow_image(batch: Batch, trials: Trials) -> None:
    """Add to the shadow signals what image classifiers say that decide nothing."""
    pictures = shown(batch)
    for classifier in trials.shadow.image:
        with contained(classifier.manifest):
            rows = in_time(classifier.score, [frame.rgb for _, one in pictures for frame in one.frames])
            start = 0
            for image, picture in pictures:
                scores = rows[start : start + len(picture.frames)]
                start += len(picture.frames)
                if len(scores) < len(picture.frames):
                    batch.add_late(classifier.manifest)
                    continue
                batch.add_shadow(image.item, over_frames(image.part, classifier.manifest, picture, scores))
