"""Terms and patterns looked for in texts: many literal terms in one pass, each pattern in linear time.

Literal terms: an Aho-Corasick automaton (Aho and Corasick, 1975) over the folded text. A term is a whole word or
words: beside its first and last character stands no other letter, digit or mark. `*` at an end takes that
away, so `*burg` also means the end of a longer word. In scripts that are written without blanks between words
a term matches anywhere.

Patterns: RE2's syntax, without regard to case, over the text as it is written. RE2 runs in time linear in the
text whatever the pattern says (Cox, "Regular Expression Matching Can Be Simple And Fast", 2007).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import re2
from ahocorasick_rs import AhoCorasick

from moderation.features.folding import Folded, folded

LONGEST_TERM = 200
LONGEST_PATTERN = 500
LARGEST_PROGRAM = 10_000
"""Instructions of a compiled pattern; `a{1000}` has about a thousand."""
PATTERN_BYTES = 4 << 20
"""What RE2 may hold for one pattern, its automaton included; past that it is slower, and as linear."""
WINDOW = 8_192
"""Code points scanned at a time: what one call can return at once is bounded by it."""
FINDS = 2_000
"""Finds of one list in one text at which the search ends: such a text is known well enough."""


class Unusable(ValueError):
    """A term or pattern that can't be looked for; the message is a sentence that says why, without content."""


@dataclass(frozen=True, slots=True)
class Find:
    """The `index`-th of a list stands from `start` to `end` of the original text, in code points."""

    index: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Term:
    """A folded term, and whether more letters may stand before and behind it."""

    text: str
    before: bool = False
    behind: bool = False

    @property
    def canonical(self) -> str:
        """The one way to write it."""
        return f"{'*' if self.before else ''}{self.text}{'*' if self.behind else ''}"


def term(value: str) -> Term:
    """A term as somebody wrote it.

    Raises:
        Unusable: it is too short to mean anything, or too long.
    """
    text = value.strip()
    before, behind = text.startswith("*"), len(text) > 1 and text.endswith("*")
    made = folded(text[before : len(text) - behind])
    if len(made) > LONGEST_TERM:
        raise Unusable(f"A term has {LONGEST_TERM} characters at most; write a shorter one.")
    least = 1 if any(_unspaced(one) for one in made) else 3 if before or behind else 2
    if len(made) < least or not any(one.isalnum() or unicodedata.category(one) == "So" for one in made):
        raise Unusable(
            "A term needs two characters, three where it begins or ends with *, and a letter, digit or symbol "
            "among them; a shorter one would match everywhere."
        )
    return Term(made, before, behind)


class Terms:
    """Many terms, looked for at once."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self._terms = tuple(terms)
        self._longest = max((len(one.text) for one in terms), default=1)
        self._automaton: Any = AhoCorasick([one.text for one in terms]) if terms else None

    def find(self, text: Folded) -> list[Find]:
        """Where the terms stand in the text, overlapping ones too, at most `FINDS` of them."""
        finds: list[Find] = []
        if self._automaton is None:
            return finds
        for index, start, end in self._scan(text.text):
            if self._whole(index, text.text, start, end):
                finds.append(Find(index, *text.span(start, end)))
                if len(finds) == FINDS:
                    break
        return finds

    def _scan(self, text: str) -> Iterator[tuple[int, int, int]]:
        if len(text) <= WINDOW:
            yield from self._automaton.find_matches_as_indexes(text, overlapping=True)
            return
        for start in range(0, len(text), WINDOW):
            # A find belongs to the window in which it ends.
            first = max(0, start - self._longest + 1)
            piece = text[first : start + WINDOW]
            for index, low, high in self._automaton.find_matches_as_indexes(piece, overlapping=True):
                if first + high > start:
                    yield index, first + low, first + high

    def _whole(self, index: int, text: str, start: int, end: int) -> bool:
        one = self._terms[index]
        return (one.before or start == 0 or _ends_word(text[start - 1], text[start])) and (
            one.behind or end == len(text) or _ends_word(text[end], text[end - 1])
        )


def _ends_word(beside: str, edge: str) -> bool:
    """Whether a word ends between the edge of a term and the character beside it."""
    return not _wordy(beside) or not _wordy(edge) or _unspaced(beside) or _unspaced(edge)


@lru_cache(maxsize=4096)
def _wordy(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character)[0] == "M"


@lru_cache(maxsize=4096)
def _unspaced(character: str) -> bool:
    """Whether a script is written without blanks between words; Korean has them, and particles before them."""
    if character.isascii():
        return False
    name = unicodedata.name(character, "")
    return name.startswith(_UNSPACED)


_UNSPACED = (
    "CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR",
    "TIBETAN", "YI SYLLABLE", "IDEOGRAPHIC",
)  # fmt: skip


def pattern(value: str) -> Any:
    """A pattern, compiled.

    Raises:
        Unusable: RE2 does not know it, it is too large, or it matches the empty text.
    """
    if len(value) > LONGEST_PATTERN:
        raise Unusable(f"A pattern has {LONGEST_PATTERN} characters at most; write several shorter ones.")
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.max_mem = PATTERN_BYTES
    try:
        made = re2.compile(value, options)
    except re2.error as error:
        raise Unusable(
            f"This pattern is not one of RE2's: {_why(error)}. RE2 has no look-around and no back-references; "
            "its syntax is at github.com/google/re2/wiki/Syntax."
        ) from error
    except UnicodeEncodeError as error:
        raise Unusable("This pattern holds half a surrogate pair, which is no character.") from error
    if made.programsize > LARGEST_PROGRAM:
        raise Unusable("This pattern is too large; repeat less in it, or write several smaller ones.")
    if any(found.start() == found.end() for probe in _PROBES for found in made.finditer(probe)):
        raise Unusable("This pattern matches where there is nothing; make it need at least one character.")
    return made


_PROBES = ("", "a", "a b", "1.2", "\n", "é_-", "例")


def _why(error: Exception) -> str:
    """RE2's own words without what they quote, which is the pattern."""
    said = error.args[0] if error.args else ""
    words = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    return words.partition(":")[0]


class Patterns:
    """Patterns, looked for one after the other."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Compile them.

        Raises:
            Unusable: one of them can't be; none is that `pattern` took.
        """
        self._patterns = [pattern(one) for one in patterns]

    def find(self, text: str) -> list[Find]:
        """Where the patterns fit the text, at most `FINDS` of each; no empty find."""
        finds: list[Find] = []
        for index, one in enumerate(self._patterns):
            for found in islice(one.finditer(text), FINDS):
                start, end = found.span()
                if start < end:
                    finds.append(Find(index, start, end))
        return finds
