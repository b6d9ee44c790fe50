"""The n-gram model: its features against a plain account of them, and scores that no neighbour changes."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import ngrams
from models.ngrams import SEGMENT, SIZES, Features, NgramModel, features, weighted
from models.registry import ArtifactError
from models.text import normalise

BITS = 19
MASK = (1 << 64) - 1


def mixed(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def plain(text: str) -> Counter[int]:
    """The buckets of one text, spelled out character by character."""
    words = [word for word in text.lower().split(" ") if word]
    found: list[int] = []
    for word in words:
        padded = f" {word} "
        for size in SIZES:
            for start in range(len(padded) - size + 1):
                value = size
                for character in padded[start : start + size]:
                    value = mixed(value ^ ord(character))
                found.append(value)
    hashed = [
        mixed(sum(mixed((ord(c) + (at + 1) * 0x9E3779B97F4A7C15) & MASK) for at, c in enumerate(word)) & MASK)
        for word in words
    ]
    found += hashed
    found += [mixed(((a * 3) & MASK) ^ b) for a, b in itertools.pairwise(hashed)]
    return Counter(value >> (64 - BITS) for value in found)


def rows(found: Features) -> list[dict[int, int]]:
    begins = [0, *found.ends[:-1]]
    return [
        dict(zip(found.bucket[a:b].tolist(), found.count[a:b].tolist(), strict=True))
        for a, b in zip(begins, found.ends, strict=True)
    ]


@given(st.lists(st.text(max_size=60).map(normalise), min_size=1, max_size=6))
def test_features_are_the_ngrams_words_and_pairs_of_each_text(texts: list[str]) -> None:
    assert rows(features(texts, BITS)) == [dict(plain(text)) for text in texts]


def model(heads: int = 3) -> NgramModel:
    generator = np.random.default_rng(7)
    weights = generator.integers(-127, 128, (1 << BITS, heads)).astype(np.int8)
    rarity = generator.uniform(1, 9, 1 << BITS).astype(np.float16).astype(np.float32)
    return NgramModel(weights, np.full(heads, 0.01, np.float32), np.arange(heads, dtype=np.float32), rarity)


@given(st.lists(st.text(max_size=40).map(normalise), min_size=1, max_size=5))
def test_a_score_does_not_depend_on_the_neighbours(texts: list[str]) -> None:
    linear = SHARED
    together = linear.logits(texts)
    alone = np.concatenate([linear.logits([text]) for text in texts])
    assert np.abs(together - alone).max() < 1e-5


SHARED = model()


def test_a_text_without_features_gets_the_bias() -> None:
    assert SHARED.logits(["", "a word"])[0].tolist() == [0.0, 1.0, 2.0]
    assert SHARED.logits([]).shape == (0, 3)


def test_values_of_a_text_have_length_one() -> None:
    found = features(["one two two three", "x"], BITS)
    value = weighted(found, np.ones(1 << BITS, np.float32))
    first = value[: found.ends[0]]
    assert np.isclose((first**2).sum(), 1)
    assert np.isclose((value[found.ends[0] :] ** 2).sum(), 1)
    assert first.max() > first.min()  # what occurs twice weighs more


def test_a_long_text_scores_as_its_worst_segment() -> None:
    calm, other = "all is well here " * 60, "something else altogether " * 19
    text = f"{calm}{other}{calm}".strip()
    parts = list(ngrams._segments(text))
    assert " ".join(parts) == text
    assert len(parts) > 4
    assert max(map(len, parts)) <= SEGMENT
    assert np.abs(SHARED.logits([text, "x"])[0] - SHARED.logits(parts).max(axis=0)).max() < 1e-5


def test_text_without_blanks_is_cut_all_the_same() -> None:
    parts = list(ngrams._segments("x" * (2 * SEGMENT + 1)))
    assert [len(part) for part in parts] == [SEGMENT, SEGMENT, 1]


def test_many_segments_are_taken_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["one two", "", "three " * 200, "four", "five six", ""]
    at_once = SHARED.logits(texts)
    seen: list[int] = []
    monkeypatch.setattr(ngrams, "AT_ONCE", 3)
    monkeypatch.setattr(ngrams, "features", lambda some, bits: seen.append(len(some)) or features(some, bits))
    assert np.abs(SHARED.logits(texts) - at_once).max() < 1e-5
    assert seen == [3, 3, 2]


def test_a_saved_model_is_the_same_model(tmp_path: Path) -> None:
    path = tmp_path / "ngrams.npz"
    SHARED.save(path)
    texts = ["You are welcome here.", "grüße aus köln"]
    assert np.array_equal(NgramModel.load(path).logits(texts), SHARED.logits(texts))


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ngrams.npz"
    path.write_bytes(b"not an archive")
    with pytest.raises(ArtifactError, match="copy the artifact again"):
        NgramModel.load(path)
    with pytest.raises(ArtifactError, match="do not fit"):
        NgramModel(
            np.zeros((8, 2), np.int8), np.ones(3, np.float32), np.zeros(3, np.float32), np.ones(8, np.float32)
        )
