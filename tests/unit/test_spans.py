"""Marked words are those that moved the score, by the measures of ERASER (DeYoung et al. 2020)."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from models.registry import Manifest, newest, shipped
from models.spans import MOST_PASSES, Span, spans, words
from models.text import TextClassifier
from moderation.features.alignment import place
from moderation.features.views import views

# Mild insults, written for this test; what any version of the model is to know as harassment.
HARSH = (
    "You are a worthless idiot and nobody wants you here.",
    "Thanks for the recipe, you utter moron.",
    "What a stupid, pathetic loser you are, honestly.",
    "Go away, you disgusting pig, and take your friends with you.",
    "My neighbour said that you are a complete idiot, and I agree with him.",
    "Only a brainless fool like you would paint a kitchen in that colour.",
    "Shut up, you dumb clown, we have been waiting for the bus for an hour.",
    "The train was late again, and you, stupid moron, still missed it.",
    "Nobody asked for your opinion, you pathetic little idiot.",
    "You ugly loser, how did you get a job in a library?",
)
CALM = (
    "The garden by the river was quiet this morning and the baker opened early.",
    "We bought two loaves and walked home along the water.",
    "The library has new hours from March on, and the bus stops in front of it.",
    "My sister plays the violin on Thursdays in the small hall.",
    "There was a letter for you at the corner shop yesterday.",
    "The bridge is closed until the summer, so we took the ferry.",
    "Bring a blanket and some candles if you come to the lake.",
    "The tomatoes are cheaper at the market near the station.",
)
CATEGORY = "harassment"
Finder = Callable[[str], Sequence[Span]]


@pytest.fixture(scope="module")
def classifier() -> TextClassifier:
    found = {one.version: one for one in shipped() if one.kind == "text"}
    return TextClassifier(found[newest(list(found))])


@dataclass
class Counting:
    """A classifier that counts what it is asked."""

    inner: TextClassifier
    asked: int = 0

    @property
    def manifest(self) -> Manifest:
        return self.inner.manifest

    def score(self, batch: Sequence[str]) -> Any:
        self.asked += len(batch)
        return self.inner.score(batch)


def probability(classifier: TextClassifier, text: str) -> float:
    return float(classifier.score([text])[0, classifier.manifest.categories.index(CATEGORY)])


def without(text: str, places: Sequence[tuple[int, int]]) -> str:
    for start, end in sorted(places, reverse=True):
        text = text[:start] + text[end:]
    return text


def only(text: str, places: Sequence[tuple[int, int]]) -> str:
    return " ".join(text[start:end] for start, end in sorted(places))


def measured(classifier: TextClassifier, finder: Finder) -> tuple[float, float, float, float]:
    """Mean comprehensiveness and sufficiency of a finder's spans, and of as many random words that it left out."""
    chance, rows = random.Random(5), []
    for text in HARSH:
        found = [(one.start, one.end) for one in finder(text)]
        all_words = [(one.start, one.end) for one in words(text)]
        inside = [one for one in all_words if any(a <= one[0] and one[1] <= b for a, b in found)]
        rest = [one for one in all_words if one not in inside]
        others = chance.sample(rest, min(len(inside), len(rest)))
        whole = probability(classifier, text)
        rows.append(
            [
                whole - probability(classifier, made)
                for made in (
                    without(text, found),
                    only(text, found),
                    without(text, others),
                    only(text, others),
                )
            ]
        )
    comprehensive, sufficient, at_random, random_alone = np.mean(rows, axis=0)
    return float(comprehensive), float(sufficient), float(at_random), float(random_alone)


def faithful(classifier: TextClassifier, finder: Finder) -> bool:
    comprehensive, sufficient, at_random, random_alone = measured(classifier, finder)
    return (
        comprehensive > at_random + 0.2 and comprehensive > 3 * at_random and sufficient < random_alone - 0.2
    )


@pytest.fixture(scope="module")
def marked(classifier: TextClassifier) -> dict[str, tuple[Span, ...]]:
    return {text: spans(classifier, text, CATEGORY) for text in HARSH}


def test_without_the_marked_words_the_score_falls_and_with_them_alone_it_stays(
    classifier: TextClassifier, marked: dict[str, tuple[Span, ...]]
) -> None:
    assert faithful(classifier, marked.__getitem__), measured(classifier, marked.__getitem__)


def test_the_measure_tells_marks_that_are_elsewhere(
    classifier: TextClassifier, marked: dict[str, tuple[Span, ...]]
) -> None:
    chance = random.Random(3)

    def shuffled(text: str) -> list[Span]:
        """As many words, anywhere."""
        count = sum(len(words(text[one.start : one.end])) for one in marked[text])
        return [Span(one.start, one.end, 1.0) for one in chance.sample(words(text), count)]

    assert not faithful(classifier, shuffled)


def test_few_words_are_marked_and_each_mark_weighs(marked: dict[str, tuple[Span, ...]]) -> None:
    for text, found in marked.items():
        assert 1 <= len(found) <= 5
        assert sum(one.end - one.start for one in found) <= 0.6 * len(text)
        assert all(one.weight > 0 for one in found)
        assert all(before.end < after.start for before, after in pairwise(found))


@pytest.mark.parametrize("place_of", [0, 5])
def test_among_calm_sentences_the_marks_lie_in_the_harsh_one(
    classifier: TextClassifier, place_of: int
) -> None:
    for harsh in HARSH[:4]:
        text = " ".join((*CALM[:place_of], harsh, *CALM[place_of:]))
        found = spans(classifier, text, CATEGORY)
        at = text.index(harsh)
        assert found
        assert all(at <= one.start and one.end <= at + len(harsh) for one in found if one.weight > 1), harsh
        strongest = max(found, key=lambda one: one.weight)
        assert at <= strongest.start < strongest.end <= at + len(harsh)


def test_in_a_long_text_it_is_found_with_a_bounded_number_of_passes(classifier: TextClassifier) -> None:
    calm = " ".join(CALM)
    text = " ".join((*[calm] * 5, HARSH[0], *[calm] * 5))
    assert len(text) > 5_000
    counting = Counting(classifier)
    found = spans(counting, text, CATEGORY)
    at = text.index(HARSH[0])
    assert found
    assert all(at <= one.start and one.end <= at + len(HARSH[0]) for one in found if one.weight > 1)
    assert counting.asked <= MOST_PASSES + 48


def test_several_harsh_places_are_all_found(classifier: TextClassifier) -> None:
    text = "You idiot, the ferry left an hour ago and the next one is tomorrow, you moron."
    said = " ".join(text[one.start : one.end] for one in spans(classifier, text, CATEGORY))
    assert "idiot" in said
    assert "moron" in said


@pytest.mark.parametrize("text", ["", " ", "...", "\n\n", "\u200d", "!" * 5_000, "a" * 5_000, "\ud83d" * 3])
def test_what_has_no_words_or_no_end_is_no_error(classifier: TextClassifier, text: str) -> None:
    assert all(0 <= one.start < one.end <= len(text) for one in spans(classifier, text, CATEGORY))


def test_a_category_that_the_model_does_not_know_is_refused(classifier: TextClassifier) -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        spans(classifier, HARSH[0], "weather")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("You, idiot!", ["You", "idiot"]),
        ("don't @ me, b*tch...", ["don't", "@", "me", "b*tch"]),
        ("你是白痴，滚开", ["你是", "白痴", "滚开"]),
        ("ばかな人です。", ["ばか", "な人", "です"]),
        ("너는 바보야", ["너는", "바보야"]),
        ("hey 🖕🏽you 🇩🇪👨‍👩‍👧", ["hey", "🖕🏽", "you", "🇩🇪", "👨‍👩‍👧"]),
        ("x" * 130, ["x" * 60, "x" * 60, "x" * 10]),
    ],
)
def test_words_of_many_scripts(text: str, expected: list[str]) -> None:
    assert [text[one.start : one.end] for one in words(text)] == expected


def test_words_in_thai_keep_their_marks() -> None:
    text = "คุณโง่มากเลย"
    cut = [text[one.start : one.end] for one in words(text)]
    assert "".join(cut) == text
    assert not any(re.match("[\u0e31\u0e34-\u0e3a\u0e47-\u0e4e]", one) for one in cut)


def test_places_are_those_of_the_text_as_it_was_given(classifier: TextClassifier) -> None:
    """Full-width letters, an emoji in words and runs of blanks change lengths when the model reads them."""
    text = "😀😀😀   ﬁne \u200b weather,\n\n  you   ｉｄｉｏｔ !"
    found = spans(classifier, text, CATEGORY)
    assert "ｉｄｉｏｔ" in [text[one.start : one.end].rsplit(maxsplit=1)[-1] for one in found]


def test_a_disguise_is_marked_where_it_stands() -> None:
    text = "Nobody here likes you at all, you i.d.i.o.t, so please go home now."
    (view,) = views(text)
    start = view.text.index("idiot")
    found = place(text, view.text, start, start + 5)
    assert found is not None
    assert text[found[0] : found[1]] == "i.d.i.o.t"
    same = view.text.index("likes")
    assert place(text, view.text, same + 1, same + 4) == (text.index("likes") + 1, text.index("likes") + 4)


def test_what_can_not_be_placed_is_not() -> None:
    assert place("a b c", "a b c d", 6, 7) is None
    assert place("a " * 2_001, "b " * 2_001, 0, 1) is None
    assert place(" ".join("abcdefgh" * 4), " ".join("ijklmnop" * 5), 0, 1) is None
