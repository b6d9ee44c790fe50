"""Marks on a case's texts: the words that moved a score, found when somebody reads the case and kept nowhere.

A blind case has no scores in its file, and so it has no marks. What is found is places in a text, no content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from models.runtime import Classifier
from models.spans import spans
from moderation.features import views
from moderation.features.alignment import place
from moderation.review.views import CaseFile, ImageView, Seen, Span, TextView

MOST_CATEGORIES = 2
BACKWARDS = "reversed"  # the view in which no word stands where it stands in the text
RAISED = 0.05
"""By how much a view must raise a probability to be what is marked: as much as screening needs to say so."""


@dataclass(frozen=True, slots=True)
class Sought:
    """A score of a text, whose words are to be marked. `disguised` if a view of the text raised it."""

    part: str
    text: str
    category: str
    detector: str
    disguised: bool


@dataclass(frozen=True, slots=True)
class Found:
    """Places in a text, or, with `view`, in that view of it; `by` is the model that was asked."""

    by: str
    places: tuple[tuple[int, int, float], ...] = ()
    view: str = ""


def sought(file: CaseFile) -> tuple[Sought, ...]:
    """The scores of a case's texts from the policy's threshold up, highest first; `MOST_CATEGORIES` are marked."""
    if file.blind:
        return ()
    texts = {part.name: part for part in file.parts if isinstance(part, TextView)}
    found = []
    for bar in sorted(file.scores, key=lambda bar: -bar.probability):
        part = texts.get(bar.part)
        # Without a version there is no signal any more that says how it was scored.
        if part is None or not part.text or not bar.version or bar.probability < bar.allow_below:
            continue
        found.append(Sought(part.name, part.text, bar.category, bar.detector, bool(bar.view)))
    return tuple(found)


def find(classifiers: Sequence[Classifier[str]], wanted: Sought) -> Found | None:
    """The words that moved a score; None if no classifier that serves gives it."""
    classifier = next((one for one in classifiers if one.manifest.name == wanted.detector), None)
    if classifier is None or wanted.category not in classifier.manifest.categories:
        return None
    view, text = _read(classifier, wanted) if wanted.disguised else ("", wanted.text)
    found = spans(classifier, text, wanted.category)
    by = f"{classifier.manifest.name} {classifier.manifest.version}"
    return Found(by, tuple((one.start, one.end, one.weight) for one in found), view)


def _read(classifier: Classifier[str], wanted: Sought) -> tuple[str, str]:
    """The name and the text of the view with the highest score; no name and the text where none raises it."""
    readings = [("", wanted.text), *((view.name, view.text) for view in views.views(wanted.text))]
    column = classifier.manifest.categories.index(wanted.category)
    scores = [float(row[column]) for row in classifier.score([text for _, text in readings])]
    highest = max(range(len(scores)), key=scores.__getitem__)
    return readings[highest if scores[highest] >= scores[0] + RAISED else 0]


def shown(file: CaseFile, found: Mapping[Sought, Found]) -> CaseFile:
    """The file with what was found marked in its texts."""
    if file.blind or not found:
        return file
    return replace(file, parts=tuple(_marked(part, found) for part in file.parts))


def _marked(part: TextView | ImageView, found: Mapping[Sought, Found]) -> TextView | ImageView:
    if isinstance(part, ImageView) or part.kept_back:
        return part
    for wanted, one in found.items():
        if wanted.part != part.name or not one.places:
            continue
        marks = [Span(start, end, wanted.category, weight) for start, end, weight in one.places]
        seen = part.seen
        if one.view:
            said = {view.name: view.text for view in views.views(part.text)}[one.view]
            before = seen.spans if seen is not None and seen.view == one.view else ()
            seen = Seen(one.view, said, (*before, *marks))
            marks = in_original(part.text, one.view, said, marks)
        part = replace(part, spans=(*part.spans, *marks), seen=seen, marked_by=one.by)
    return part


def in_original(text: str, view: str, said: str, marks: Sequence[Span]) -> list[Span]:
    """Marks on a view, which says `said`, as marks on the text; those whose place can't be told are left out."""
    if view == BACKWARDS:
        return []
    moved = []
    for mark in marks:
        where = place(text, said, mark.start, mark.end)
        if where is not None:
            moved.append(replace(mark, start=where[0], end=where[1]))
    return moved
