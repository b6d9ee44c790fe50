"""Texts that are nearly the same are found among many, and others are not."""

from __future__ import annotations

import random

from moderation.features.hashes import normalised
from moderation.features.near_texts import LEAST, NearTexts, features
from tests.seeding import sentence


def shingles(text: str) -> set[str]:
    read = normalised(text)
    return {read[at : at + 5] for at in range(len(read) - 4)}


def similarity(one: str, other: str) -> float:
    mine, theirs = shingles(one), shingles(other)
    return len(mine & theirs) / len(mine | theirs)


def sketched(texts: list[str]) -> list[bytes]:
    return [made for text in texts if (made := features(text)) is not None]


def test_one_word_exchanged_is_found_among_many() -> None:
    chance = random.Random(11)
    texts = [sentence(chance) for _ in range(400)]
    index = NearTexts(sketched(texts))
    for number in range(0, 400, 10):
        words = texts[number].split()
        words[chance.randrange(len(words))] = "something"
        changed = " ".join(words)
        found = index.find(features(changed) or b"", 0.5)
        assert found, similarity(changed, texts[number])
        assert found[0][0] == number
        assert abs(found[0][1] - similarity(changed, texts[number])) < 0.25, "an estimate of the real one"


def test_other_texts_are_not_found() -> None:
    chance = random.Random(12)
    index = NearTexts(sketched([sentence(chance) for _ in range(300)]))
    others = [sentence(chance) for _ in range(100)]
    assert not any(index.find(one, 0.5) for one in sketched(others))


def test_the_same_has_similarity_one_and_spaces_make_no_difference() -> None:
    index = NearTexts(sketched(["Lovely weather in Lisbon today, isn't it?"]))
    assert index.find(features("LOVELY  weather in Lisbon today, isn't it?") or b"", LEAST) == [(0, 1.0)]


def test_short_texts_have_no_sketch_and_an_empty_index_finds_nothing() -> None:
    assert features("Too short.") is None
    assert NearTexts([]).find(features("Long enough to have shingles.") or b"", LEAST) == []
