"""Sentences with their places, and claims by the nearest of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moderation.features.claims import LONGEST_SENTENCE, SENTENCES, Claims, sentences


def test_sentences_stand_where_they_say() -> None:
    text = 'The moon is made of cheese. "Is it really so?" Yes!\n\n- It is yellow\n这是一个错误的说法。对。'
    found = sentences(text)
    assert [one.text for one in found] == [
        "The moon is made of cheese.", '"Is it really so?"', "- It is yellow", "这是一个错误的说法",
    ]  # fmt: skip
    assert [text[one.start : one.end] for one in found] == [one.text for one in found]


@given(st.text(st.sampled_from('ab .!?\n。"é'), max_size=200))
def test_every_sentence_is_a_piece_of_the_text(text: str) -> None:
    for one in sentences(text):
        assert text[one.start : one.end] == one.text


def test_a_long_text_is_bounded() -> None:
    found = sentences("word " * 5_000 + ". Another sentence stands here. " * 500)
    assert len(found) == SENTENCES
    assert len(found[0].text) <= LONGEST_SENTENCE


def test_each_claim_has_its_nearest_sentence() -> None:
    claims = Claims(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32))
    text = sentences("First sentence stands here. Second sentence stands here.")
    vectors = np.array([[0.6, 0.8, 0], [0.9, 0.1, 0.4]], np.float32)
    found = claims.find(text, vectors, 0.75)
    assert [(one.index, one.start, round(score, 2)) for one, score in found] == [(0, 28, 0.9), (1, 0, 0.8)]
    assert claims.find(text, vectors, 0.95) == []
    assert Claims(np.zeros((0, 3), np.float32)).find(text, vectors, 0.5) == []
