"""Stage 5: what is told of a text beside what a model says: tricks, language, age, and that many say the same.

Rules and counts. Their signals are evidence for people; only `age` and `burst` give a probability, set by hand and
too low to remove anything by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from moderation.domain.signals import Category, DetectorStatus, Signal
from moderation.features import age, language
from moderation.pipeline.batch import AGE, BURST, Batch, Text

VERSION = "1"
EVASION = "evasion"
LANGUAGE = "language"

IN_A_BURST = 0.6
"""The probability of spam in a burst: between what the default policy allows and what it limits."""
MODEL_LANGUAGE = "en"


def notice(batch: Batch, bursts: Mapping[tuple[UUID, str], int], minutes: float) -> None:
    """Add the signals of the rules; `bursts` are the authors by whom a part was said within `minutes`."""
    for text in batch.texts:
        for signal in (_evasion(batch, text), _language(batch, text), _age(batch, text)):
            if signal is not None:
                batch.add_signal(text.item, signal)
        authors = bursts.get((text.item, text.part), 0)
        if authors:
            evidence = {"authors": authors, "minutes": minutes}
            scores = {str(Category.SPAM): IN_A_BURST}
            batch.add_signal(
                text.item, Signal(text.part, BURST, VERSION, DetectorStatus.OK, scores, evidence)
            )


def _evasion(batch: Batch, text: Text) -> Signal | None:
    found = batch.read(text.text).findings
    return Signal(text.part, EVASION, VERSION, DetectorStatus.OK, {}, dict(found)) if found else None


def _language(batch: Batch, text: Text) -> Signal | None:
    """The language is kept with the part; a signal says that it is one the models were not made for."""
    found = language.identify(text.text)
    batch.languages[text.item, text.part] = found.code
    if found.code in {MODEL_LANGUAGE, language.UNDETERMINED}:
        return None
    evidence = {"language": found.code, "probability": round(found.probability, 3)}
    return Signal(text.part, LANGUAGE, VERSION, DetectorStatus.OK, {}, evidence)


def _age(batch: Batch, text: Text) -> Signal | None:
    """The surest statement of being under 18, with its place in the part."""
    year = batch.now.year
    said = age.statements(text.text, year)
    if said:
        surest = max(said, key=lambda one: one.probability)
        evidence: dict[str, Any] = {"start": surest.start, "end": surest.end, "age": surest.age}
    else:
        readings = ((view, age.statements(view.text, year)) for view in batch.read(text.text).views)
        view, said = next(((view, found) for view, found in readings if found), (None, ()))
        if view is None:
            return None
        surest = max(said, key=lambda one: one.probability)
        # The place is one in the view, which nobody sees.
        evidence = {"view": view.name, "age": surest.age}
    scores = {str(Category.UNDERAGE): surest.probability}
    return Signal(text.part, AGE, VERSION, DetectorStatus.OK, scores, evidence)
