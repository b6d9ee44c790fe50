"""Text as terms are compared in it, and the way back to where a find stands in the original.

Each character is folded by compatibility and case (NFKC, casefold) together with the marks that follow it, and
every run of white space becomes one blank. Unlike `hashes.normalised` this keeps count of where things were.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Offsets = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Folded:
    """A folded text. `starts` and `ends` give, per folded character, where its original begins and ends.

    None where every character stands where it stood.
    """

    text: str
    starts: Offsets | None = None
    ends: Offsets | None = None

    def span(self, start: int, end: int) -> tuple[int, int]:
        """A span of the folded text as one of the original; neither is empty."""
        if self.starts is None or self.ends is None:
            return start, end
        return int(self.starts[start]), int(self.ends[end - 1])


def fold(text: str) -> Folded:
    """`text` folded; of most texts a single pass at the speed of `str.translate`."""
    singles = text.isascii() or _SINGLES.known(text)
    return _one_blank(Folded(text.translate(_SINGLES)) if singles else _by_clusters(text))


def folded(text: str) -> str:
    """`text` folded, without blanks at its ends: how a term is kept."""
    return fold(text).text.strip(" ")


class _Singles(dict[int, str]):
    """What each character becomes that stands for itself alone and becomes one character again."""

    def __init__(self) -> None:
        super().__init__()
        self._odd: set[str] = set()

    def __missing__(self, point: int) -> str:
        character = chr(point)
        made = " " if character.isspace() else _normal(character)
        if len(made) != 1 or _joins(character) or _joins(made):
            self._odd.add(character)
            return character
        self[point] = made
        return made

    def known(self, text: str) -> bool:
        """Whether every character of `text` is such a one."""
        for character in set(text):
            if ord(character) not in self:
                self.__missing__(ord(character))
                if character in self._odd:
                    return False
        return True


_SINGLES = _Singles()


@lru_cache(maxsize=8192)
def _normal(text: str) -> str:
    # Twice, as in `hashes.normalised`: folding can undo normalising.
    for _ in range(2):
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKD", text).casefold())
    return text


@lru_cache(maxsize=8192)
def _joins(character: str) -> bool:
    """Whether a character may become one with what stands before it: a mark, or a Korean vowel or final."""
    return (
        unicodedata.combining(character) != 0
        or unicodedata.category(character)[0] == "M"
        or "\u1160" <= character <= "\u11ff"
    )


def _by_clusters(text: str) -> Folded:
    """The slow way: each character with those that join it."""
    made: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    at = 0
    while at < len(text):
        end = at + 1
        while end < len(text) and _joins(text[end]):
            end += 1
        cluster = text[at:end]
        piece = " " if cluster.isspace() else _normal(cluster)
        made.append(piece)
        starts += [at] * len(piece)
        ends += [end] * len(piece)
        at = end
    return Folded("".join(made), np.array(starts, np.int64), np.array(ends, np.int64))


def _one_blank(text: Folded) -> Folded:
    """Each run of blanks as its first one."""
    if "  " not in text.text:
        return text
    points = np.frombuffer(text.text.encode("utf-32-le", "surrogatepass"), np.uint32)
    blank = points == 0x20
    kept = np.ones(len(points), np.bool_)
    kept[1:] = ~(blank[1:] & blank[:-1])
    places = np.flatnonzero(kept)
    short = points[kept].tobytes().decode("utf-32-le", "surrogatepass")
    if text.starts is None or text.ends is None:
        return Folded(short, places, places + 1)
    return Folded(short, text.starts[kept], text.ends[kept])
