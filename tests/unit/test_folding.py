"""Folded text leads back to where things stood."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.features.folding import fold, folded
from moderation.features.hashes import normalised

TEXTS = st.text(
    st.one_of(
        st.characters(max_codepoint=0x24F),
        st.sampled_from(
            list(" \t\n\u00a0ßẞﬁǅİıſ½ﷺ가각ᄀ\u1161\u11a8e\u0301\u0323か\u3099ｶﾞ\u200d\U0001f642\ud800")
        ),
    ),
    max_size=40,
)


@given(TEXTS)
def test_it_reads_as_what_banks_compare(text: str) -> None:
    # Where clusters join across what was folded alone, only the order of marks may differ.
    assert unicodedata.normalize("NFKC", folded(text)) == normalised(text)


@given(TEXTS)
def test_every_character_has_a_place(text: str) -> None:
    made = fold(text)
    before = 0
    for at in range(len(made.text)):
        start, end = made.span(at, at + 1)
        assert 0 <= before <= start < end <= len(text)
        before = start
    assert fold(made.text).text == made.text or not text.isascii()


@pytest.mark.parametrize(
    ("text", "term", "original"),
    [
        ("Gratis  GELD\n\njetzt", "geld jetzt", "GELD\n\njetzt"),
        ("die STRASSE und die Straße", "strasse", "STRASSE"),
        ("e\u0301te\u0301", "\u00e9t\u00e9", "e\u0301te\u0301"),
        ("ｆｒｅｅ ｍｏｎｅｙ", "free money", "ｆｒｅｅ ｍｏｎｅｙ"),
        ("Oﬃce", "off", "Oﬃ"),
        ("\u1112\u1161\u11ab글", "한글", "\u1112\u1161\u11ab글"),
    ],
)
def test_a_find_leads_back(text: str, term: str, original: str) -> None:
    made = fold(text)
    at = made.text.index(term)
    start, end = made.span(at, at + len(term))
    assert text[start:end] == original
