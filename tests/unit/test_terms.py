"""Terms by their boundaries, patterns by their limits; both against what a reader with patience would find."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.features import terms
from moderation.features.folding import fold
from moderation.features.terms import FINDS, WINDOW, Patterns, Terms, Unusable, pattern, term


def found(text: str, *written: str) -> list[tuple[str, str]]:
    """Which of `written` stand in the text, each with the words it stands as."""
    finds = Terms([term(one) for one in written]).find(fold(text))
    return sorted((written[find.index], text[find.start : find.end]) for find in finds)


@pytest.mark.parametrize(
    ("text", "written", "hits"),
    [
        ("a class of its own", "ass", []),
        ("What an ASS.", "ass", ["ASS"]),
        ("ass-backwards", "ass", ["ass"]),
        ("Hamburg, Freiburg", "*burg", ["burg", "burg"]),
        ("burgers in Hamburg", "*burg", ["burg"]),
        ("burgers in Hamburg", "burg*", ["burg"]),
        ("Hamburger", "*burg*", ["burg"]),
        ("free   money\nhere", "Free Money", ["free   money"]),
        ("free-money", "free money", []),
        ("c++ and c+", "c++", ["c++"]),
        ("cost: $$$", "$$$a", []),
        ("今天免费领取礼品", "免费", ["免费"]),
        ("买iphone免费", "iphone", ["iphone"]),
        ("myiphone", "iphone", []),
        ("사기꾼이 왔다", "사기꾼", ["사기꾼"]),
        ("STRASSE", "straße", ["STRASSE"]),
        ("naive naïve", "naïve", ["naïve"]),
        ("café cafe\u0301s", "café", ["café"]),
        ("spam_spam", "spam", ["spam", "spam"]),
        ("spam2 spam", "spam", ["spam"]),
        ("ａ ｓｃａｍ", "scam", ["ｓｃａｍ"]),
        ("", "scam", []),
    ],
)
def test_where_a_term_stands(text: str, written: str, hits: list[str]) -> None:
    if written == "$$$a":
        assert found(text, written) == []
        return
    assert [words for _, words in found(text, written)] == hits


def test_overlapping_terms_are_all_found() -> None:
    hits = found("free money now", "free money", "money now", "money", "free")
    assert [written for written, _ in hits] == ["free", "free money", "money", "money now"]


@pytest.mark.parametrize("written", ["", "a", "*", "**", "*a", "*ab", "ab*", "..", "$$$", "x" * 201])
def test_what_says_too_little_or_too_much_is_refused(written: str) -> None:
    with pytest.raises(Unusable):
        term(written)


def test_a_sign_may_be_a_term() -> None:
    assert found("so 🎰 now", "🎰🎰") == []
    assert found("🎰🎰🎰", "🎰🎰") == [("🎰🎰", "🎰🎰"), ("🎰🎰", "🎰🎰")]
    assert term("骗").text == "骗"


def naive(text: str, wanted: terms.Term) -> set[tuple[int, int]]:
    """Every place of a term in a lower-case text of letters and blanks, looked at one by one."""
    places = set()
    for start in range(len(text) - len(wanted.text) + 1):
        end = start + len(wanted.text)
        if text[start:end] != wanted.text:
            continue
        if not wanted.before and start and text[start - 1].isalpha() and text[start].isalpha():
            continue
        if not wanted.behind and end < len(text) and text[end].isalpha() and text[end - 1].isalpha():
            continue
        places.add((start, end))
    return places


WORDS = st.text("abc", min_size=2, max_size=4)


@given(
    st.lists(st.one_of(WORDS, WORDS.map("*{}b*".format), WORDS.map("{}a*".format)), min_size=1, max_size=6),
    st.lists(st.text("abc", min_size=1, max_size=6), max_size=12),
)
def test_it_finds_what_one_would_find_by_hand(written: list[str], words: list[str]) -> None:
    text, wanted = " ".join(words), [term(one) for one in dict.fromkeys(written)]
    finds = {(find.index, find.start, find.end) for find in Terms(wanted).find(fold(text))}
    assert finds == {(index, *place) for index, one in enumerate(wanted) for place in naive(text, one)}


def test_a_long_text_is_searched_in_windows_without_a_gap() -> None:
    chance = random.Random(7)
    wanted = [term("edge case"), term("seam")]
    for _ in range(30):
        at = WINDOW + chance.randint(-12, 12)
        text = "x" * (at - 1) + " edge case " + "y" * WINDOW + " seam"
        finds = Terms(wanted).find(fold(text))
        assert [(find.index, text[find.start : find.end]) for find in finds] == [
            (0, "edge case"),
            (1, "seam"),
        ]


def test_a_text_that_is_one_find_after_another_ends_the_search() -> None:
    assert len(Terms([term("*aaa*")]).find(fold("a" * 50_000))) == FINDS


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("(a", "RE2"), ("a(?=b)", "RE2"), (r"(a)\1", "RE2"), ("a*", "nothing"), (r"\b", "nothing"),
        ("^", "nothing"), ("a|", "nothing"), ("(?:(?:a{1,100}){1,100}){1,100}", "RE2"), ("x" * 501, "500"),
        (r"[a-z]{1000}\pL{900}", "large"),
    ],
)  # fmt: skip
def test_a_pattern_that_can_not_be_used_is_refused(written: str, said: str) -> None:
    with pytest.raises(Unusable, match=said) as refused:
        pattern(written)
    assert written not in str(refused.value), "a refusal holds no content"


def test_patterns_say_where() -> None:
    text = "Größe: call 0900-123456 or 0900 654321"
    finds = Patterns([r"0900[- ]\d{6}", "größe"]).find(text)
    assert [(find.index, text[find.start : find.end]) for find in finds] == [
        (0, "0900-123456"), (0, "0900 654321"), (1, "Größe"),
    ]  # fmt: skip


def test_a_pattern_that_ruins_other_engines_only_takes_its_time_once() -> None:
    # Backtracking would take 2^5000 steps: that this comes back at all is the test.
    assert Patterns([r"(a+)+$b", r"(?:a|a|aa)*c"]).find("a" * 5_000) == []


@given(st.text(string.printable, max_size=30))
def test_whatever_is_written_is_a_pattern_or_refused(written: str) -> None:
    try:
        made = Patterns([written])
    except Unusable:
        return
    for find in made.find("any text 123\n" + written):
        assert find.start < find.end
