"""Views: tricks are undone beside the text, and clean text of any script has none."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.features import views, words
from moderation.features.confusables import LETTERS, STYLED, fold_word
from moderation.features.views import LONGEST, findings, read

CLEAN = Path(__file__).parents[2] / "training" / "suites" / "clean.jsonl"

# A trick, a text with it, and what one of the views must say.
TRICKS = [
    ("separated", "I r.e.a.l.l.y dislike you", "really dislike"),
    ("separated", "I  r e a l l y  d i s l i k e  y o u !", "I really dislike you!"),
    ("separated", "y o u a r e t h e f o o l", "you are the fool"),
    ("separated", "h_o_r_r_i_b_l_e", "horrible"),
    ("separated", "h-o-r-r-i-b-l-e person", "horrible person"),
    ("masked", "you are st*p*d", "you are stupid"),
    ("masked", "what an id#ot", "what an idiot"),
    ("leet", "what a l0s3r you are", "what a loser you are"),
    ("leet", "you 1d10t", "you idiot"),
    ("leet", "$tup1d people", "stupid people"),
    ("leet", "such a m0r0n", "such a moron"),
    ("repeated", "stuuuuupid", "stupid"),
    ("repeated", "so goooood", "so good"),
    ("split", "stu/pid people", "stupid people"),
    ("split", "stu\npid people", "stupid people"),
    ("split", "stu pid people everywhere", "stupid people everywhere"),
    ("joined", "youarestupid", "you are stupid"),
    ("reversed", "what an toidi", "what an idiot"),
    ("reversed", "diputs era uoy", "you are stupid"),
    ("reversed", "you are \u202ediputs\u202c", "you are stupid"),
    ("swapped", "you are a horirble person", "you are a horrible person"),
    ("vowels", "you are stpd", "you are stupid"),
    ("emoji", "stu🔥pid people", "stupid people"),
    ("confusable", "you stupіd реrson", "you stupid person"),
    ("confusable", "уou sτupid", "you stupid"),
    ("invisible", "stu\u200bpid per\u00adson", "stupid person"),
    ("invisible", "s\ufe0ft\ufe0fupid", "stupid"),
    ("marks", "s̷t̷u̷p̷i̷d̷ person", "stupid person"),
    ("marks", "s̸̝͘t̶̙̀u̵̘̔p̴̱̌i̶̜͝d̸̖̈ person", "stupid person"),
    ("accents", "yöü årê stüpïd", "you are stupid"),
    ("styled", "𝓼𝓽𝓾𝓹𝓲𝓭 person", "stupid person"),
    ("styled", "ⓢⓣⓤⓟⓘⓓ", "stupid"),
    ("styled", "🆂🆃🆄🅿🅸🅳", "STUPID"),
    ("styled", "ꜱᴛᴜᴘɪᴅ person", "stupid person"),
    ("styled", "ˢᵗᵘᵖⁱᵈ", "stupid"),
]
# What looks like a trick to a machine, and is how people write.
PLAIN = [
    "I live in the U.S.A., e.g. in Washington, D.C., at 10 a.m. or so.",
    "MP3 players on the 3rd at 10am, COVID-19, B2B, 4K, H2O, iPhone15Pro, 100mb and 5kg for $5.",
    "See https://ex4mple.com/l0ser#a or www.h4x.example, mail user1@ex4mple.com, #m4gic @us3r.",
    "Cunningham ate cocktails in Scunthorpe with W. E. B. Du Bois and J. R. R. Tolkien.",
    "and/or, his/her, either/or; e-mail, re-read, co-op, R&B and M&M's",
    "The MacBook's getUserName() returns x, y, z and A/B/C in v1.2.3.",
    "*bold* and **bolder** text, 5 * 4 = 20, a note*",
    "Der Fußgängerüberweg ist schön; Kolleg*innen und Schüler:innen gehen darüber.",
    "Déjà vu à l'été: l'élève préféré a étudié les hétérogénéités.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Привет, как дела? VIPка и T-shirtов нет.",
    "این یک متن می\u200cخواهم و شما هم می\u200cآیید.",
    "\u200fשלום 123 abc עולם\u200e",
    "क्\u200dया आप आ रहे हैं? र्\u200d",
    "我买了一台新的ＭａｃＢｏｏｋ，２０２６年。",
    "👨‍👩‍👧 family ❤️ 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f 1️⃣ 🇩🇪",
    "Tiếng Việt có nhiều dấu: được, nghiễm, phở.",
    "5 μm, α-helix, Δt and kΩ are units and names.",
]


@pytest.mark.parametrize(("trick", "text", "seen"), TRICKS)
def test_a_trick_is_undone_beside_the_text(trick: str, text: str, seen: str) -> None:
    said = read(text)
    assert any(seen in view.text for view in said.views), [view.text for view in said.views]
    assert trick in said.findings
    assert all(view.text != text for view in said.views)


@pytest.mark.parametrize("text", PLAIN)
def test_plain_text_has_no_view(text: str) -> None:
    assert read(text) == views.NOTHING


def test_clean_sentences_of_ten_scripts_have_next_to_no_view() -> None:
    rows = [json.loads(line) for line in CLEAN.read_text().splitlines()]
    assert len(rows) >= 1_000
    assert len({row["script"] for row in rows}) >= 10
    seen = Counter(row["script"] for row in rows if views.views(row["text"]))
    # "Sooo good" is one: lengthened for joy, and read as "so good".
    assert sum(seen.values()) <= 20
    assert not set(seen) - {"Latin"}


def test_the_spelling_that_is_a_word_is_preferred() -> None:
    assert [view.text for view in views.views("coooool")] == ["cool"]
    assert [view.text for view in views.views("loooser")] == ["loser"]
    assert [view.text for view in views.views("f1lm")] == ["film"]


def test_words_of_one_script_stay() -> None:
    assert fold_word("сосо") == "сосо"
    assert fold_word("hello") == "hello"
    assert fold_word("VIPка") == "VIPка"
    assert fold_word("hеllо") == "hello"


def test_the_table_of_letters_is_what_it_says() -> None:
    for letter, plain in {**LETTERS, **STYLED}.items():
        assert len(letter) == len(plain) == 1
        assert plain.isascii()
        assert not letter.isascii()
    for letter in LETTERS:
        assert unicodedata.name(letter).split()[0] in {"CYRILLIC", "GREEK", "ARMENIAN"}


def test_findings_are_names_and_numbers() -> None:
    said = findings("you st*pid l0ser, stu\u200bpid")
    assert said == {"invisible": 1, "leet": 1, "masked": 1}


def test_without_a_vocabulary_characters_are_still_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "ranks", dict)
    assert [view.text for view in views.views("hеllо")] == ["hello"]


TRICKY = st.text(
    alphabet=st.one_of(
        st.characters(),
        st.sampled_from("aeiohtsl014@$*._-/ \n\u200b\u202e\u202c\u0301\u0338аеоᴀ𝓪ⓐ🔥\u202a\u00ad"),
    ),
    max_size=300,
)


@given(TRICKY)
@settings(max_examples=300, deadline=None)
def test_views_are_few_bounded_and_others(text: str) -> None:
    said = read(text)
    assert len(said.views) <= 4
    assert len({view.text for view in said.views}) == len(said.views)
    for view in said.views:
        assert view.text != text
        assert len(view.text) <= 3 * len(text)
        assert view.trick
    assert all(isinstance(number, int) and number > 0 for number in said.findings.values())
    assert read(text) == said


def test_the_end_of_a_long_text_is_kept() -> None:
    tail = "z" * 10 + " the end"
    text = "l0ser " * (LONGEST // 6) + "x" * (LONGEST % 6) + tail
    (view,) = views.views(text)
    assert view.text.endswith(tail)
    assert view.text.startswith("loser loser")


@pytest.mark.parametrize(
    "unit", ["ab", "a.", "a*", "a@", "1a", "aа", "a\u0301", "a\n", "\u00ad", "\u202ea", "1"]
)
def test_what_is_made_to_be_slow_is_read_to_its_end(unit: str) -> None:
    """Without a bound on runs without blanks these take minutes: every search is square in their length."""
    said = read((unit * LONGEST)[:LONGEST])
    assert len(said.views) <= 4
