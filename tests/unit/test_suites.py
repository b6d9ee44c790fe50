"""The suites that judge the text model: as many cases as promised, tricks that are tricks, reports by hand."""

from __future__ import annotations

import json
import random
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from training.common import TrainingError
from training.suites import clean, evasion, functional
from training.suites.evasion import TRICKS, apply, evasion_report
from training.suites.functional import FUNCTIONS, Case, functional_report

CASES = functional.load()
PLAIN = "Nobody wanted those worthless people near the old town square."
# How the names of a script's letters begin.
LETTERS = {
    "Latin": ("LATIN",),
    "Cyrillic": ("CYRILLIC",),
    "Greek": ("GREEK",),
    "Arabic": ("ARABIC",),
    "Hebrew": ("HEBREW",),
    "Devanagari": ("DEVANAGARI",),
    "Han": ("CJK",),
    "Japanese": ("CJK", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA"),
    "Hangul": ("HANGUL",),
    "Thai": ("THAI",),
}


def test_every_function_has_twenty_cases_and_one_label() -> None:
    counts = Counter(case.function for case in CASES)
    assert set(counts) == set(FUNCTIONS)
    assert len(counts) >= 30
    assert min(counts.values()) >= 20
    assert Counter(case.label for case in CASES) == {1: 480, 0: 400}


def test_the_non_hateful_functions_are_the_seven_that_have_a_goal_of_their_own() -> None:
    counted = {name for name, function in FUNCTIONS.items() if function.non_hateful}
    assert counted == {
        "negated_hate",
        "counter_quote",
        "counter_reference",
        "quotation",
        "reclaimed",
        "neutral_identity",
        "positive_identity",
    }
    assert not any(FUNCTIONS[name].harmful for name in counted)


def test_each_head_but_spam_has_harmful_and_harmless_functions() -> None:
    seen: dict[str, set[int]] = {}
    for case in CASES:
        seen.setdefault(case.head, set()).add(case.label)
    assert set(seen) == {"hate", "harassment", "threat", "self_harm", "sexual", "spam", "fraud"}
    assert {head for head, labels in seen.items() if labels == {0, 1}} == set(seen) - {"spam"}


def words(text: str) -> frozenset[str]:
    return frozenset("".join(c if c.isalnum() else " " for c in text.casefold()).split())


def test_no_two_cases_of_a_function_are_one_sentence_with_another_name() -> None:
    for name in FUNCTIONS:
        mine = [words(case.text) for case in CASES if case.function == name]
        for i, one in enumerate(mine):
            for other in mine[i + 1 :]:
                assert len(one & other) / len(one | other) < 0.6, (name, one, other)


def test_functions_on_hate_speak_of_many_groups() -> None:
    for name in ("dehumanisation", "exclusion", "negated_hate", "neutral_identity", "positive_identity"):
        assert len({case.group for case in CASES if case.function == name} - {None}) >= 10


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"function": "unheard"}, "function"),
        ({"head": "unheard"}, "head"),
        ({"label": 0}, "label"),
        ({"label": True}, "label"),
        ({"text": " "}, "text"),
        ({"more": 1}, "case"),
        ({"group": 3}, "group"),
    ],
)
def test_a_line_that_is_no_case_is_refused_without_its_text(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    path = tmp_path / "own.jsonl"
    line = {**asdict(CASES[0]), **change}
    path.write_text(json.dumps(line) + "\n", encoding="utf-8")
    with pytest.raises(TrainingError, match=says) as refused:
        functional.load(path)
    assert CASES[0].text not in str(refused.value)


def test_a_text_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text((json.dumps(asdict(CASES[0])) + "\n") * 2, encoding="utf-8")
    with pytest.raises(TrainingError, match="twice"):
        functional.load(path)


def test_the_functional_report_by_hand() -> None:
    cases = [
        Case("dehumanisation", "hate", 1, "a"),
        Case("dehumanisation", "hate", 1, "b"),
        Case("negated_hate", "hate", 0, "c"),
        Case("banter", "harassment", 0, "d"),
        Case("banter", "harassment", 0, "e"),
    ]
    answers = {
        "hate": np.array([0.9, 0.4, 0.6, 1.0, 1.0]),
        "harassment": np.array([0.0, 0.0, 0.0, 0.2, 0.5]),
    }
    found = functional_report(cases, answers)
    assert found["overall"] == {"cases": 5, "right": 2, "accuracy": 0.4}
    assert found["harmful"] == {"cases": 2, "right": 1, "accuracy": 0.5}
    assert found["harmless"] == {"cases": 3, "right": 1, "accuracy": pytest.approx(1 / 3)}
    assert found["non_hateful"] == {"cases": 1, "right": 0, "accuracy": 0.0}
    assert {name: share["right"] for name, share in found["functions"].items()} == {
        "dehumanisation": 1,
        "negated_hate": 0,
        "banter": 1,
    }
    stricter = functional_report(cases, answers, {"hate": 0.7, "harassment": 0.6})
    assert stricter["overall"]["right"] == 4
    assert functional_report(cases[:2], {"hate": np.array([1.0, 1.0])})["harmless"]["accuracy"] is None


def test_a_report_needs_one_probability_per_case() -> None:
    with pytest.raises(ValueError, match="hate needs"):
        functional_report([Case("dehumanisation", "hate", 1, "a")], {"hate": np.array([0.1, 0.2])})
    with pytest.raises(ValueError, match="hate needs"):
        functional_report([Case("dehumanisation", "hate", 1, "a")], {})


def test_there_are_tricks_enough() -> None:
    assert len(TRICKS) >= 16


@pytest.mark.parametrize("name", TRICKS)
def test_a_trick_changes_nearly_every_harmful_case_and_does_so_twice_alike(name: str) -> None:
    plain = [
        case.text for case in CASES if case.label and case.function not in ("hate_spelling", "hate_emoji")
    ]
    changed = [apply(name, text, 7) for text in plain]
    assert changed == [apply(name, text, 7) for text in plain]
    assert sum(a != b for a, b in zip(plain, changed, strict=True)) >= 0.99 * len(plain)
    assert changed[0] == TRICKS[name](plain[0], random.Random(f"7\0{name}\0{plain[0]}"))


def test_the_seed_matters_where_a_trick_chooses() -> None:
    for name in ("leet", "zero_width", "homoglyphs", "repeated_letters", "combining_marks", "emoji_inside"):
        assert len({apply(name, PLAIN, seed) for seed in range(5)}) > 1, name


def test_tricks_do_to_a_word_what_they_say() -> None:
    said = {name: apply(name, "vermin", 0) for name in TRICKS}
    assert said["spaced_letters"] == "v e r m i n"
    assert said["dots"] == "v.e.r.m.i.n"
    assert said["underscores"] == "v_e_r_m_i_n"
    assert said["soft_hyphens"] == "v\xade\xadr\xadm\xadi\xadn"
    assert said["full_width"] == "ｖｅｒｍｉｎ"
    assert said["enclosed"] == "ⓥⓔⓡⓜⓘⓝ"
    assert said["small_capitals"] == "ᴠᴇʀᴍɪɴ"
    assert said["dropped_vowels"] == "vrmn"
    assert said["right_to_left"] == "\u202enimrev\u202c"
    assert said["masked_vowels"] in {"v*rm*n", "v#rm#n"}
    assert unicodedata.normalize("NFKC", said["mathematical"]) == "vermin"
    letters = [
        c for c in unicodedata.normalize("NFD", said["combining_marks"]) if not unicodedata.combining(c)
    ]
    assert "".join(letters) == "vermin"
    assert sorted(said["swapped_letters"]) == sorted("vermin") != said["swapped_letters"]
    scripts = {unicodedata.name(letter).split()[0] for letter in said["homoglyphs"]}
    assert "LATIN" in scripts
    assert scripts & {"CYRILLIC", "GREEK"}
    assert apply("no_spaces", "they are vermin", 0) == "theyarevermin"


def test_links_and_addresses_stay_as_they_are() -> None:
    text = "answer to jo@example.com or www.example.com/now quickly"
    for name in set(TRICKS) - {"no_spaces"}:
        changed = apply(name, text, 3)
        assert "jo@example.com" in changed, name
        assert "www.example.com/now" in changed, name


def seen(*needles: str) -> evasion.Score:
    def score(texts: Sequence[str]) -> NDArray[np.float64]:
        return np.array([float(any(needle in text for needle in needles)) for text in texts])

    return score


def test_the_evasion_report_by_hand() -> None:
    texts = ["they are vermin", "such vermin", "good morning", "a plague"]
    found = evasion_report(
        seen("vermin", "plague", "p.l.a.g.u.e"),
        seen("vermin", "plague", "p.l.a.g.u.e", "v.e.r.m.i.n"),
        texts,
        [1, 1, 0, 1],
        tricks=("dots", "underscores"),
    )
    without, viewing = found["without_views"], found["with_views"]
    assert (found["positives"], found["negatives"]) == (3, 1)
    assert without["plain"] == viewing["plain"] == {"recall": 1.0, "false_alarms": 0.0}
    assert without["tricks"]["dots"]["recall"] == pytest.approx(1 / 3)
    assert without["tricks"]["dots"]["lost"] == pytest.approx(2 / 3)
    assert without["tricks"]["underscores"] == {"recall": 0.0, "false_alarms": 0.0, "lost": 1.0}
    assert viewing["tricks"]["dots"] == {"recall": 1.0, "false_alarms": 0.0, "lost": 0.0}
    assert without["lost"] == without["share_lost"] == pytest.approx(5 / 6)
    assert viewing["lost"] == pytest.approx(1 / 2)
    assert found["ratio"] == pytest.approx(3 / 5)


def test_a_scorer_that_loses_nothing_has_no_ratio() -> None:
    always = seen("")
    found = evasion_report(always, always, ["a plague", "a rose"], [1, 0], tricks=("dots",))
    assert found["ratio"] is None
    assert found["with_views"]["plain"]["false_alarms"] == 1.0


def test_recall_needs_a_positive_and_a_label_for_each_text() -> None:
    with pytest.raises(ValueError, match="at least one"):
        evasion_report(seen("a"), seen("a"), ["a"], [0])
    with pytest.raises(ValueError, match="one label"):
        evasion_report(seen("a"), seen("a"), ["a"], [1, 0])


def test_a_thousand_clean_sentences_in_ten_scripts() -> None:
    found = clean.load()
    counts = Counter(sentence.script for sentence in found)
    assert set(counts) == set(clean.SCRIPTS) == set(LETTERS)
    assert len(found) >= 1_000
    assert min(counts.values()) >= 100
    assert clean.sentences() == tuple(sentence.text for sentence in found)
    for sentence in found:
        names = [unicodedata.name(letter, "") for letter in sentence.text if letter.isalpha()]
        assert any(name.startswith(LETTERS[sentence.script]) for name in names), sentence


def test_clean_text_is_hard_on_purpose() -> None:
    every = "\n".join(clean.sentences())
    for hard in (
        "\u200c",
        "\u200d",
        "\u0301",
        "\uff11",
        "@example",
        "https://",
        "#",
        "½",
        "J. R. R.",
        "B2B",
        "*innen",
    ):
        assert hard in every, hard
    mixed = [s for s in clean.load() if s.script == "Cyrillic" and any("A" <= c <= "z" for c in s.text)]
    assert len(mixed) >= 30


@pytest.mark.parametrize("change", [{"script": "Runic"}, {"text": ""}, {"more": 1}])
def test_a_line_that_is_no_clean_sentence_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({**asdict(clean.load()[0]), **change}) + "\n", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"Line 1 of own\.jsonl"):
        clean.load(path)


def test_the_suites_are_packaged() -> None:
    pyproject = Path(functional.__file__).parents[2] / "pyproject.toml"
    tools = tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert "suites/*.jsonl" in tools["package-data"]["training"]
