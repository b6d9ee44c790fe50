"""Stage 4: image classifiers over all frames of all pictures of the batch at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.runtime import Classifier
from moderation.domain.signals import DetectorStatus, Signal
from moderation.pipeline.batch import PARTLY, Batch, each_or_none, failed

Rgb = NDArray[np.uint8]


def classify_image(batch: Batch, classifiers: Sequence[Classifier[Rgb]]) -> None:
    """Add one signal per picture and classifier: the highest score over its frames and variants.

    Where a picture could not be decoded there is nothing to classify; the decoder has said so already.
    """
    pictures = [(image, image.picture) for image in batch.images if image.picture is not None]
    frames = [frame.rgb for _, picture in pictures for frame in picture.frames]
    for classifier in classifiers:
        manifest = classifier.manifest
        rows = iter(each_or_none(classifier.score, frames))
        for image, picture in pictures:
            scores = [next(rows) for _ in picture.frames]
            said = [row for row in scores if row is not None]
            if len(said) < len(scores):
                signal = failed(image.part, manifest.name, manifest.version, "error")
            else:
                top = map(float, np.max(said, axis=0))
                named = dict(zip(manifest.categories, top, strict=True))
                signal = Signal(image.part, manifest.name, manifest.version, DetectorStatus.OK, named)
                if picture.reached < picture.total:
                    signal = replace(signal, status=DetectorStatus.FAILED, evidence={"cause": PARTLY})
            batch.add_signal(image.item, signal)
