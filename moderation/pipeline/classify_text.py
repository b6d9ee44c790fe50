"""Stage 3: text classifiers over all texts of the batch at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from models.text import TextClassifier
from moderation.domain.signals import DetectorStatus, Signal
from moderation.pipeline.batch import PARTLY, Batch, each_or_none, failed


def classify_text(batch: Batch, classifiers: Sequence[TextClassifier]) -> None:
    """Add one signal per text and classifier; the same text in two items is scored once.

    A text too long to be read whole has its score and a failed status, so that the policy says what follows.
    """
    for classifier in classifiers:
        manifest = classifier.manifest
        distinct = list(dict.fromkeys(text.text for text in batch.texts))
        scores = dict(zip(distinct, each_or_none(classifier.score, distinct), strict=True))
        for text in batch.texts:
            row = scores[text.text]
            if row is None:
                signal = failed(text.part, manifest.name, manifest.version, "error")
            else:
                named = dict(zip(manifest.categories, map(float, row), strict=True))
                signal = Signal(text.part, manifest.name, manifest.version, DetectorStatus.OK, named)
                if not classifier.reads_whole(text.text):
                    signal = replace(signal, status=DetectorStatus.FAILED, evidence={"cause": PARTLY})
            batch.add_signal(text.item, signal)
