"""Stage 3: text classifiers over all texts of the batch, and over their views, at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

import numpy as np

from models.registry import Manifest
from models.serving import Trials
from models.text import Headed, TextClassifier, columns, normalise
from models.text_heads import TextHead, speaking
from moderation.domain.signals import DetectorStatus, Signal
from moderation.features.views import View
from moderation.governance.shadows import INSTEAD_OF
from moderation.pipeline.batch import (
    NO_TRIALS,
    PARTLY,
    Batch,
    Row,
    Text,
    Turn,
    contained,
    each_or_none,
    failed,
    in_time,
    turns,
)

TOLD = 0.05
"""By how much a view must raise a probability for it to be said."""
Rows = Mapping[str, Row | None]
"""What one model says of each text and view."""
Speaking = Mapping[UUID, Sequence[tuple[TextHead, tuple[str, ...]]]]
"""The heads that speak of each item, with the categories of each."""
Views = Mapping[str, Sequence[View]]


def classify_text(
    batch: Batch,
    classifiers: Sequence[TextClassifier],
    heads: Sequence[TextHead] = (),
    trials: Trials = NO_TRIALS,
) -> None:
    """Add one signal per text and classifier, and one per head that speaks for whoever posted it.

    The same text in two items is scored once, with all heads in the same pass. Each category has the highest score
    over the text and its views: a view only ever raises. Where a head speaks the classifier itself is silent. A
    text too long to be read whole has its score and a failed status, so that the policy says what follows.
    """
    clients = batch.posted_by()
    corrections = turns(batch, heads, trials.canary.text_head, trials.shares)
    for turn in turns(batch, classifiers, trials.canary.text, trials.shares):
        base, who = turn.model, _speaking(turn, corrections, clients)
        batch.add_asked(turn.items, base.manifest)
        for item, those in who.items():
            for head, _ in those:
                batch.add_asked([item], head.manifest)
        texts = [text for text in batch.texts if text.item in turn.items]
        views = {text.text: _differing(batch, text.text) for text in texts}
        shadows = [head for head in trials.shadow.text_head if head.maker == base.maker]
        asked = list({id(head): head for those in who.values() for head, _ in those}.values())
        said = _said(base, [*asked, *shadows], _inputs(views))
        for text in texts:
            _judge(batch, base, who.get(text.item, ()), _Seen(text, views[text.text], base, said))
        for head in shadows:
            with contained(head.manifest):
                _shadowed(batch, head, [_Seen(text, views[text.text], base, said) for text in texts], clients)


def shadow_text(batch: Batch, trials: Trials) -> None:
    """Add to the shadow signals what text models say that decide nothing, and heads that are tried with them."""
    views = {text.text: _differing(batch, text.text) for text in batch.texts} if trials.shadow.text else {}
    inputs = _inputs(views)
    for base in trials.shadow.text:
        heads = [head for head in trials.shadow.text_head if head.maker == base.maker]
        with contained(base.manifest):
            read = in_time(partial(base.read, heads=heads), inputs)
            said = _split(base, heads, dict(zip(inputs, read, strict=False)))
            late = len(inputs) - len(read)
            seen = [_Seen(text, views[text.text], base, said) for text in batch.texts]
            there = [one for one in seen if not late or one.inputs <= said[_key(base.manifest)].keys()]
            batch.add_late(base.manifest, len(seen) - len(there))
            models: list[TextClassifier | TextHead] = [base, *heads]
            for model in models:
                _shadowed(batch, model, there, batch.posted_by())


@dataclass(frozen=True, slots=True)
class _Seen:
    """One text with everything that was found in it: by model, what it says of the text and of its views."""

    text: Text
    views: Sequence[View]
    base: TextClassifier
    said: Mapping[tuple[str, str], Rows]

    @property
    def inputs(self) -> set[str]:
        return {self.text.text, *(view.text for view in self.views)}

    def signal(self, manifest: Manifest, categories: Collection[str]) -> Signal:
        """What a model says of it, in these categories."""
        name, version, rows = manifest.name, manifest.version, self.said[_key(manifest)]
        row = rows[self.text.text]
        if row is None:
            return failed(self.text.part, name, version, "error")
        kept = [index for index, category in enumerate(manifest.categories) if category in categories]
        top, evidence = row[kept], {}
        raised = TOLD
        for view in self.views:
            seen = rows[view.text]
            # A view that breaks a classifier says nothing: the text itself was read.
            if seen is None or not kept:
                continue
            by = float(np.max(seen[kept] - row[kept]))
            if by >= raised:
                raised, evidence = by, {"view": view.name}
            top = np.maximum(top, seen[kept])
        named = {manifest.categories[index]: float(score) for index, score in zip(kept, top, strict=True)}
        signal = Signal(self.text.part, name, version, DetectorStatus.OK, named, evidence)
        if not self.base.reads_whole(self.text.text):
            signal = replace(signal, status=DetectorStatus.FAILED, evidence={**evidence, "cause": PARTLY})
        return signal


def _speaking(
    turn: Turn[TextClassifier], corrections: Sequence[Turn[TextHead]], clients: Mapping[UUID, str]
) -> Speaking:
    """The heads of this text model that speak of each item that it judges."""
    found = {}
    for item in turn.items if corrections else ():
        mine = [one.model for one in corrections if item in one.items and one.model.maker == turn.model.maker]
        if those := speaking(mine, clients.get(item, "")):
            found[item] = those
    return found


def _judge(
    batch: Batch, base: TextClassifier, heads: Sequence[tuple[TextHead, tuple[str, ...]]], seen: _Seen
) -> None:
    """Add the signals of one text: those of its heads, and that of the classifier in all other categories."""
    silent: set[str] = set()
    corrected = [seen.signal(head.manifest, categories) for head, categories in heads]
    for signal in corrected:
        silent |= set(signal.scores)
    batch.add_signal(seen.text.item, seen.signal(base.manifest, set(base.manifest.categories) - silent))
    for signal in corrected:
        batch.add_signal(seen.text.item, signal)


def _shadowed(
    batch: Batch, model: TextClassifier | TextHead, seen: Sequence[_Seen], clients: Mapping[UUID, str]
) -> None:
    for one in seen:
        if isinstance(model, TextHead) and not model.for_client(clients.get(one.text.item, "")):
            continue
        signal = one.signal(model.manifest, model.manifest.categories)
        if isinstance(model, TextHead):
            # It would speak in the place of its base.
            signal = replace(signal, evidence={**signal.evidence, INSTEAD_OF: model.base.name})
        batch.add_shadow(one.text.item, signal)


def _inputs(views: Views) -> list[str]:
    """Every text once, and every view: a view that equals another text is scored with it."""
    return list(dict.fromkeys([*views, *(view.text for its in views.values() for view in its)]))


def _said(
    base: TextClassifier, heads: Sequence[TextHead], inputs: Sequence[str]
) -> Mapping[tuple[str, str], Rows]:
    """What a model and its heads say of each input, from one pass of the network."""
    if not heads:
        return {_key(base.manifest): dict(zip(inputs, each_or_none(base.score, inputs), strict=True))}
    try:
        return _split(base, heads, dict(zip(inputs, base.read(inputs, heads), strict=True)))
    except Exception:  # noqa: BLE001 - one head that breaks must not silence the model, nor the other heads
        alone = {_key(head.manifest): Headed(base, head).score for head in heads}
        asked = {_key(base.manifest): base.score, **alone}
        return {
            key: dict(zip(inputs, each_or_none(score, inputs), strict=True)) for key, score in asked.items()
        }


def _split(
    base: TextClassifier, heads: Sequence[TextHead], read: Mapping[str, Row | None]
) -> Mapping[tuple[str, str], Rows]:
    """What was read at once, by model."""
    manifests = [base.manifest, *(head.manifest for head in heads)]
    return {
        _key(manifest): {text: None if row is None else row[mine] for text, row in read.items()}
        for manifest, mine in zip(manifests, columns(base, heads), strict=True)
    }


def _key(manifest: Manifest) -> tuple[str, str]:
    return manifest.name, manifest.version


def _differing(batch: Batch, text: str) -> list[View]:
    """The views of a text that a classifier reads differently from it: it undoes some tricks by itself."""
    views = batch.read(text).views
    if not views:
        return []
    said = normalise(text)
    return [view for view in views if normalise(view.text) != said]
