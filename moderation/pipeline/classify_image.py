"""Stage 4: image classifiers over all frames of all pictures of the batch at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.runtime import Classifier
from moderation.pipeline.batch import Batch, each_or_none, over_frames

Rgb = NDArray[np.uint8]


def classify_image(batch: Batch, classifiers: Sequence[Classifier[Rgb]]) -> None:
    """Add one signal per picture and classifier: the highest score over its frames and variants.

    Where a picture could not be decoded there is nothing to classify; the decoder has said so already.
    """
    pictures = [(image, image.picture) for image in batch.images if image.picture is not None]
    frames = [frame.rgb for _, picture in pictures for frame in picture.frames]
    for classifier in classifiers:
        rows = iter(each_or_none(classifier.score, frames))
        for image, picture in pictures:
            scores = [next(rows) for _ in picture.frames]
            batch.add_signal(image.item, over_frames(image.part, classifier.manifest, picture, scores))
