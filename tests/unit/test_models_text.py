"""The text model as it is served: what it does to a text before scoring, and the artifact that ships."""

from __future__ import annotations

import dataclasses
import logging
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.registry import ARTIFACTS, ArtifactError, Manifest, Output, load
from models.runtime import calibrate, check_golden
from models.text import TextClassifier, Windowing, _buckets, cut, normalise, open_tokenizer, window_logits

ARTIFACT = ARTIFACTS / "text-minilm" / "2"
CALM = "The library opens at nine and the reading room is on the second floor. "
RUDE = "You are a complete idiot and everybody laughs at you."


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return load(ARTIFACT)


@pytest.fixture(scope="module")
def classifier(manifest: Manifest) -> TextClassifier:
    return TextClassifier(manifest)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("I am \N{GRINNING FACE}!", "I am grinning face !"),
        ("\N{HEAVY BLACK HEART}\N{VARIATION SELECTOR-16}", "heart"),
        ("\N{BLACK HEART}", "black heart"),
        ("\N{WAVING HAND SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-6}", "waving hand sign dark skin"),
        ("\N{WOMAN}\N{ZERO WIDTH JOINER}\N{PERSONAL COMPUTER}", "woman personal computer"),
        (
            "\N{REGIONAL INDICATOR SYMBOL LETTER F}\N{REGIONAL INDICATOR SYMBOL LETTER R}",
            "fr",
        ),
        ("\N{FULLWIDTH LATIN SMALL LETTER H}\N{MATHEMATICAL BOLD SMALL I}", "hi"),
        ("he\N{ZERO WIDTH SPACE}ll\N{SOFT HYPHEN}o", "hello"),
        ("  a\n\n\tb ", "a b"),
        ("", ""),
        ("x" * 61, "x" * 60 + " x"),
    ],
)
def test_normalise_turns_into_plain_words(raw: str, expected: str) -> None:
    assert normalise(raw) == expected


@given(st.text(max_size=200))
def test_normalise_leaves_no_word_too_long_for_the_tokenizer(text: str) -> None:
    assert all(len(word) <= 100 for word in normalise(text).split())


@given(st.text(max_size=80))
def test_normalise_leaves_no_invisible_space(text: str) -> None:
    result = normalise(text)
    assert result == " ".join(result.split())


windowings = st.builds(
    lambda room, overlap, limit: Windowing(room + 2, overlap % room, limit, 4),
    st.integers(1, 50),
    st.integers(0, 49),
    st.integers(1, 12),
)


@given(st.integers(0, 600), windowings)
def test_windows_start_with_the_text_and_end_with_it(length: int, windowing: Windowing) -> None:
    spans = cut(length, windowing)
    assert 1 <= len(spans) <= windowing.limit
    assert spans[0][0] == 0
    assert all(0 <= end - start <= windowing.size - 2 and end <= length for start, end in spans)
    if len(spans) > 1:
        assert spans[-1][1] == length


@given(st.integers(0, 600), st.integers(1, 50), st.integers(0, 49))
def test_with_enough_windows_every_token_is_read_and_neighbours_overlap(
    length: int, room: int, overlap: int
) -> None:
    spans = cut(length, Windowing(room + 2, overlap % room, 10_000, 1))
    assert {i for start, end in spans for i in range(start, end)} == set(range(length))
    assert all(a_end - b_start >= overlap % room for (_, a_end), (b_start, _) in pairwise(spans))


@given(st.lists(st.integers(2, 96), max_size=100), st.integers(1, 32))
def test_buckets_hold_each_window_once_and_only_similar_lengths(lengths: list[int], most: int) -> None:
    buckets = list(_buckets(lengths, most))
    assert sorted(i for bucket in buckets for i in bucket) == list(range(len(lengths)))
    assert all(len(bucket) <= most for bucket in buckets)
    assert all(lengths[bucket[-1]] - lengths[bucket[0]] <= 8 for bucket in buckets)


def test_a_text_gets_the_maximum_over_its_windows_and_keeps_its_place() -> None:
    tokenizer = open_tokenizer(str(ARTIFACT / "tokenizer.json"))
    marker = tokenizer.token_to_id("apple")

    def forward(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        assert ids.shape[1] <= 12
        return np.stack([(ids == marker).sum(1), mask.sum(1)], axis=1).astype(np.float32)

    texts = ["tea " * 40 + "apple", "apple apple", "", "tea"]
    logits = window_logits(texts, tokenizer, Windowing(12, 3, 50, 2), forward, 2)
    assert logits.tolist() == [[1, 12], [2, 4], [0, 2], [0, 3]]


def test_the_shipped_artifact_scores_its_golden_inputs_as_recorded(classifier: TextClassifier) -> None:
    check_golden(classifier)
    assert len(classifier.manifest.golden) >= 3


def test_a_model_that_computes_something_else_is_refused(manifest: Manifest) -> None:
    first, *rest = manifest.golden
    category = manifest.categories[0]
    moved = {**first, "scores": {**first["scores"], category: abs(first["scores"][category] - 0.5)}}
    tampered = dataclasses.replace(manifest, golden=(moved, *rest))
    with pytest.raises(ArtifactError, match="off by"):
        check_golden(TextClassifier(tampered))
    with pytest.raises(ArtifactError, match="no golden inputs"):
        check_golden(TextClassifier(dataclasses.replace(manifest, golden=())))


def test_a_score_does_not_depend_on_its_neighbours(classifier: TextClassifier) -> None:
    texts = [
        CALM,
        RUDE,
        "",
        "ok",
        CALM * 20,
        "\N{PILE OF POO}" * 30,
        RUDE + " " + CALM,
        "WIN a FREE prize now!!!",
    ]
    alone = np.concatenate([classifier.score([text]) for text in texts])
    assert np.abs(classifier.score(texts) - alone).max() < 1e-4
    assert np.abs(classifier.score(texts[::-1])[::-1] - alone).max() < 1e-4


def test_scores_are_probabilities_for_empty_blank_and_hostile_input(classifier: TextClassifier) -> None:
    texts = [
        "",
        "   \n",
        "\x00\x01",
        "\ud800",
        "a" * 5000,
        "\N{ZERO WIDTH JOINER}",
        "[CLS] [SEP] [PAD] [MASK]",
    ]
    scores = classifier.score(texts)
    assert scores.shape == (len(texts), len(classifier.manifest.outputs))
    assert scores.dtype == np.float64
    assert ((scores > 0) & (scores < 1)).all()
    assert classifier.score([]).shape == (0, len(classifier.manifest.outputs))


@pytest.mark.parametrize("character", ["\N{FACE WITH TEARS OF JOY}", "\uac01 ", "a "], ids=ascii)
def test_whether_a_text_is_read_whole_goes_by_its_tokens(classifier: TextClassifier, character: str) -> None:
    windows = cut(10**6, Windowing.of(classifier.manifest.input))
    room = windows[0][1]
    readable = room + (len(windows) - 1) * (room - classifier.manifest.input["overlap"])
    tokens = 1 if character == "a " else 2
    assert classifier.reads_whole(character * (readable // 20))
    assert not classifier.reads_whole(character * (readable // tokens + 1))


def test_what_is_no_number_is_no_probability() -> None:
    with pytest.raises(FloatingPointError):
        calibrate(np.array([[0.5], [np.nan]], np.float32), [Output("spam", "spam", 1.0, 0.0)])


def test_the_end_of_a_long_text_is_read(classifier: TextClassifier) -> None:
    column = classifier.manifest.categories.index("harassment")
    calm, ends_badly, rude = classifier.score([CALM * 60, CALM * 60 + RUDE, RUDE])[:, column]
    assert rude > 0.5 > calm
    assert ends_badly > 5 * calm


def test_rude_outranks_calm_and_a_prize_message_outranks_both_for_spam(classifier: TextClassifier) -> None:
    prize = "Congratulations, you won a free phone! Call this number now to claim your prize."
    scores = dict(zip(classifier.manifest.categories, classifier.score([CALM, RUDE, prize]).T, strict=True))
    assert scores["toxicity"].argmax() == 1
    assert scores["spam"].argmax() == 2


def test_scoring_says_nothing(
    classifier: TextClassifier, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        classifier.score([RUDE, CALM * 50])
    assert (caplog.records, *capfd.readouterr()) == ([], "", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normaliser": "another"}, "normaliser"),
        ({"heads": ["toxicity"]}, "unknown heads"),
        ({"window": None}, "malformed"),
        ({"overlap": 200}, "no sense"),
        ({"windows": 0}, "no sense"),
    ],
)
def test_a_manifest_that_asks_for_something_else_is_refused(
    manifest: Manifest, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ArtifactError, match=message):
        TextClassifier(dataclasses.replace(manifest, input={**manifest.input, **change}))
    with pytest.raises(ArtifactError):
        TextClassifier(dataclasses.replace(manifest, kind="image"))
