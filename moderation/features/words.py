"""Which words there are: the whole words of the shipped text model's own vocabulary, the commonest first.

Undoing a spelling trick means choosing among readings, and the reading that is a word wins. The vocabulary is at
hand anyway, in the artifact's `tokenizer.json`; without it (another kind of tokenizer) no word is known, and only
such tricks are undone as need none.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from functools import cache

from models.registry import ARTIFACTS

LONGEST = 18
_STRANGER = 14.0
"""The price of a letter of no word, more than that of any word."""
_SHORT = frozenset(["a", "i", "u", "am", "an", "as", "at",
    "be", "by", "do", "go", "he", "hi", "if", "in", "is", "it",
    "me", "my", "no", "of", "oh", "ok", "on", "or", "so", "to", "up", "us", "ur", "we", "ya"])  # fmt: skip
"""The words of one and two letters that people write: the vocabulary has every abbreviation besides."""
_COMMON = 6_000
"""Place up to which a word of three letters counts as one that people write."""
_ENDINGS = ("'s", "s", "es", "ed", "d", "ing", "er", "ers", "ly", "y", "ness", "n't", "nt", "in")


@cache
def ranks() -> Mapping[str, int]:
    """Each known word of two letters or more, in lower case, with its place from the commonest down."""
    for path in sorted(ARTIFACTS.glob("text-minilm/*/tokenizer.json"), reverse=True):
        vocabulary = json.loads(path.read_bytes())["model"].get("vocab")
        if isinstance(vocabulary, dict):
            words = sorted(
                (number, word)
                for word, number in vocabulary.items()
                if len(word) > 1 and word.isascii() and word.isalpha()
            )
            return {word: place for place, (_, word) in enumerate(words)}
    return {}


@cache
def _by_length() -> Mapping[int, str]:
    """The words of each length, a line each, commonest first."""
    found: dict[int, list[str]] = {}
    for word in ranks():
        if stands(word):
            found.setdefault(len(word), []).append(word)
    return {length: "\n".join(alike) for length, alike in found.items()}


@cache
def _by_consonants() -> Mapping[str, str]:
    """The commonest word for each one without the vowels inside it."""
    found: dict[str, str] = {}
    for word in ranks():
        if stands(word):
            found.setdefault(without_vowels(word), word)
    return found


def without_vowels(word: str) -> str:
    """`word` without the vowels between its first and its last letter."""
    return word[0] + re.sub("[aeiou]", "", word[1:-1]) + word[-1] if len(word) > 2 else word


def with_vowels(word: str) -> str | None:
    """The commonest word that `word` is what remains of without the vowels inside it."""
    return _by_consonants().get(word)


def known(word: str) -> bool:
    """Whether `word`, in lower case, is one, or one with an ordinary ending."""
    words = ranks()
    if word in words or word in _SHORT:
        return True
    return any(
        word.endswith(ending) and (word[: -len(ending)] in words or word[: -len(ending)] + "e" in words)
        for ending in _ENDINGS
        if len(word) - len(ending) >= 3
    )


def stands(word: str) -> bool:
    """Whether `word`, in lower case, is one that people write by itself: no syllable and no abbreviation."""
    if len(word) <= 2:
        return word in _SHORT
    return known(word) and (len(word) > 3 or ranks().get(word, math.inf) < _COMMON)


def commonest(candidates: Iterable[str]) -> str | None:
    """The commonest of those that are words, one with an ending after all that are words as they stand."""
    words = ranks()
    found = [word for word in dict.fromkeys(candidates) if known(word)]
    return min(found, key=lambda word: words.get(word, len(words)), default=None)


def shaped(pattern: str, wildcard: str, letters: str) -> list[str]:
    """Words like `pattern`, in lower case, whose every `wildcard` stands for one of `letters`, commonest first."""
    expression = "".join(f"[{letters}]" if letter == wildcard else re.escape(letter) for letter in pattern)
    return re.findall(f"^{expression}$", _by_length().get(len(pattern), ""), re.MULTILINE)


def cut(text: str, *, whole: bool = True) -> list[str] | None:
    """`text`, letters in lower case without blanks, as the likeliest run of words; None if there is none.

    Shortest path over the logarithm of each word's place, which is about that of its frequency (Zipf's law).
    Unless `whole`, single letters that belong to no word may stand between.
    """
    places = ranks()
    best: list[tuple[float, int]] = [(0.0, 0)] + [(math.inf, 0)] * len(text)
    for end in range(1, len(text) + 1):
        for start in range(max(0, end - LONGEST), end):
            word = text[start:end]
            place = 300 if word in _SHORT else places.get(word) if len(word) > 2 else None
            if place is not None and (len(word) > 3 or place < _COMMON):
                cost = best[start][0] + math.log(place + 20) + 3.0
            elif not whole and end - start == 1:
                cost = best[start][0] + _STRANGER
            else:
                continue
            if cost < best[end][0]:
                best[end] = (cost, start)
    if math.isinf(best[-1][0]):
        return None
    found = []
    end = len(text)
    while end:
        start = best[end][1]
        found.append(text[start:end])
        end = start
    return found[::-1]
