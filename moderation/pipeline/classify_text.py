"""Stage 3: text classifiers over all texts of the batch, and over their views, at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from models.text import TextClassifier, normalise
from moderation.domain.signals import DetectorStatus, Signal
from moderation.features.views import View
from moderation.pipeline.batch import PARTLY, Batch, Row, Text, each_or_none, failed

TOLD = 0.05
"""By how much a view must raise a probability for it to be said."""


def classify_text(batch: Batch, classifiers: Sequence[TextClassifier]) -> None:
    """Add one signal per text and classifier; the same text in two items is scored once.

    Each category has the highest score over the text and its views: a view only ever raises. A text too long to
    be read whole has its score and a failed status, so that the policy says what follows.
    """
    views = {text.text: _differing(batch, text.text) for text in batch.texts}
    # Originals first: a view that equals another text is scored with it.
    inputs = list(dict.fromkeys([*views, *(view.text for its in views.values() for view in its)]))
    for classifier in classifiers:
        scores = dict(zip(inputs, each_or_none(classifier.score, inputs), strict=True))
        for text in batch.texts:
            batch.add_signal(text.item, _signal(classifier, text, views[text.text], scores))


def _differing(batch: Batch, text: str) -> list[View]:
    """The views of a text that a classifier reads differently from it: it undoes some tricks by itself."""
    views = batch.read(text).views
    if not views:
        return []
    said = normalise(text)
    return [view for view in views if normalise(view.text) != said]


def _signal(
    classifier: TextClassifier, text: Text, views: Sequence[View], scores: Mapping[str, Row | None]
) -> Signal:
    manifest = classifier.manifest
    row = scores[text.text]
    if row is None:
        return failed(text.part, manifest.name, manifest.version, "error")
    top, evidence = row, {}
    raised = TOLD
    for view in views:
        seen = scores[view.text]
        # A view that breaks a classifier says nothing: the text itself was read.
        if seen is None:
            continue
        by = float(np.max(seen - row))
        if by >= raised:
            raised, evidence = by, {"view": view.name}
        top = np.maximum(top, seen)
    named = dict(zip(manifest.categories, map(float, top), strict=True))
    signal = Signal(text.part, manifest.name, manifest.version, DetectorStatus.OK, named, evidence)
    if not classifier.reads_whole(text.text):
        signal = replace(signal, status=DetectorStatus.FAILED, evidence={**evidence, "cause": PARTLY})
    return signal
