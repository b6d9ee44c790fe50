"""Which words moved a score: those without which the text would have been scored lower.

Occlusion (Zeiler and Fergus 2014; Li et al. 2016, "erasure"): words are left out and the text is scored again. The
word that costs most is marked and stays out while the others are tried once more, so that of several harsh words
each is found, though the text is scored high without any one of them. A long text is first cut into pieces, each
scored alone, and words are tried within the best of them: the score of a long text is that of its worst window.

For people who look at one text: it costs up to `MOST_PASSES` short texts, and once more the text if it is long.
Screening never does it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.runtime import Classifier

MOST_PASSES = 96
WHOLE = 32
"""Words of a text that is looked at in one piece."""
_PIECE = 24
_WIDE = 400  # code points; a piece ends there whatever its words
_LONGEST_WORD = 60
_NEAR = 1.0  # log-odds below the best piece, at which another one is looked at too
_LEAST = 0.25  # log-odds; what moves a score by less is noise of rounding
_SHARE = 0.3  # of the strongest word's drop, that a word needs to be marked
_CALM = 0.1  # share of what words raise a piece's log-odds by, below which nothing is left to be found
_MARKED = 0.5  # share of a piece's words that may be marked: a mark on everything says nothing

_NO_SPACES = "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_SOUTH_EAST = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_ABOVE_BELOW = (
    "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ecd\u102b-\u103e\u17b6-\u17d3\u0300-\u036f"
)
_FLAGS = "\U0001f1e6-\U0001f1ff"
_EMOJI = "\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001f1e5\U0001f200-\U0001fbff"
# Where no space divides words, two characters of Chinese or Japanese are about one, four of Thai or Khmer.
_UNIT = re.compile(
    rf"[{_FLAGS}]{{1,2}}|[{_EMOJI}](?:[\ufe0f\U0001f3fb-\U0001f3ff]|\u200d[{_EMOJI}])*"
    rf"|[{_NO_SPACES}]{{1,2}}|[{_SOUTH_EAST}]{{1,4}}[{_ABOVE_BELOW}]*"
    rf"|[^\s{_FLAGS}{_EMOJI}{_NO_SPACES}{_SOUTH_EAST}]{{1,{_LONGEST_WORD}}}"
)
_STOPS = re.compile("[.!?…。！？\n]")
_AROUND = ".,;:!?…\"'“”„‘’«»()[]{}<>-–—/\\|~_=+·•。！？、，；：「」『』（）¡¿`\ufe0f\u200d"

Logodds = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Span:
    """Code points [start, end) of the text as it was given.

    `weight` is by how much the log-odds of the category fall when these words are left out: the mean of the fall in
    the whole piece and of that in what the other marked words leave of it.
    """

    start: int
    end: int
    weight: float


@dataclass(frozen=True, slots=True)
class _Unit:
    start: int
    end: int


class _Occluded:
    """Scores parts of one text in one category; `left` says how many occlusions may still be tried."""

    def __init__(self, classifier: Classifier[str], text: str, category: str) -> None:
        self._classifier, self._text = classifier, text
        self._column = classifier.manifest.categories.index(category)
        self.units = words(text)
        self.left = MOST_PASSES

    def of_pieces(self, pieces: Sequence[range]) -> Logodds:
        """The log-odds of each piece alone."""
        return self._logodds([self._less(piece, ()) for piece in pieces])

    def without(self, piece: range, outs: Sequence[Collection[int]]) -> Logodds:
        """The log-odds of `piece` once per member of `outs`, each time with those units left out."""
        self.left -= len(outs)
        return self._logodds([self._less(piece, out) for out in outs])

    def _logodds(self, texts: Sequence[str]) -> Logodds:
        p = self._classifier.score(texts)[:, self._column]
        odds: Logodds = np.log(p) - np.log1p(-p)
        return odds

    def _less(self, piece: range, out: Collection[int]) -> str:
        # What stands before the first word and behind the last belongs to the text's first and last piece.
        at = self.units[piece.start].start if piece.start else 0
        end = self.units[piece.stop].start if piece.stop < len(self.units) else len(self._text)
        kept = []
        for index in sorted(out):
            kept.append(self._text[at : self.units[index].start])
            at = self.units[index].end
        return "".join((*kept, self._text[at:end]))

    def width(self, piece: range) -> int:
        """The code points of a piece."""
        return self.units[piece[-1]].end - self.units[piece[0]].start

    def stops(self, index: int) -> bool:
        """Whether a sentence ends behind a unit."""
        after = self.units[index + 1].start if index + 1 < len(self.units) else len(self._text)
        return _STOPS.search(self._text, self.units[index].end, after) is not None


def words(text: str) -> list[_Unit]:
    """The words of `text` with their places, without the punctuation around them; an emoji is one."""
    found = []
    for match in _UNIT.finditer(text):
        said = match[0]
        start = match.start() + len(said) - len(said.lstrip(_AROUND))
        end = match.end() - len(said) + len(said.rstrip(_AROUND))
        if start < end:
            found.append(_Unit(start, end))
    return found


def spans(classifier: Classifier[str], text: str, category: str, most: int = 5) -> tuple[Span, ...]:
    """The places of `text` that moved its score of `category` up, at most `most`, as they stand in it.

    Neighbouring words of a sentence are one place. Empty if no words move the score.

    Raises:
        ValueError: the classifier doesn't know the category.
    """
    looked = _Occluded(classifier, text, category)
    found: list[Span] = []
    weighing = 2 * most + 2
    pieces = _pieces(looked)
    for index, piece in enumerate(pieces):
        # The next piece's words are tried once each, whatever a further look at this one's would find.
        kept = sum(len(other) + 1 + weighing for other in pieces[index + 1 :])
        moving = _moving(looked, piece, looked.left - weighing - kept)
        found += _weighed(looked, piece, _places(looked, moving)[:most])
    strongest = sorted(found, key=lambda span: -span.weight)[:most]
    return tuple(sorted(strongest, key=lambda span: span.start))


def _pieces(looked: _Occluded) -> list[range]:
    """Where to look for words, the best piece first: all of a short text, up to two pieces of a long one."""
    whole = range(len(looked.units))
    if len(whole) <= WHOLE and (not whole or looked.width(whole) <= 2 * _WIDE):
        return [whole] if whole else []
    cut = list(_cut(looked))
    odds = looked.of_pieces(cut)
    ranked = sorted(range(len(cut)), key=lambda index: -odds[index])
    return [cut[index] for index in ranked[:2] if odds[index] >= odds[ranked[0]] - _NEAR]


def _cut(looked: _Occluded) -> Iterator[range]:
    """The text in pieces of at most `_PIECE` words, behind the last sentence that ends in their second half."""
    start = 0
    while start < len(looked.units):
        stop = min(start + _PIECE, len(looked.units))
        while stop > start + 1 and looked.width(range(start, stop)) > _WIDE:
            stop -= 1
        if stop < len(looked.units):
            half = (start + stop) // 2
            stop = next((at + 1 for at in range(stop - 1, half, -1) if looked.stops(at)), stop)
        yield range(start, stop)
        start = stop


def _moving(looked: _Occluded, piece: range, passes: int) -> list[int]:
    """The units of a piece that move its score, the strongest first, by at most `passes` occlusions."""
    out: list[int] = []
    room = max(1, int(len(piece) * _MARKED))
    whole, nothing = looked.without(piece, [(), piece])
    before, least = whole, _LEAST
    while len(out) < room and passes > len(piece) - len(out):
        rest = [index for index in piece if index not in out]
        odds = looked.without(piece, [[*out, index] for index in rest])
        drops = dict(zip(rest, before - odds, strict=True))
        most = max(drops.values())
        if most < least:
            break
        least = max(least, _SHARE * most)
        # Those that cost about as much as the most expensive one come out with it, to need fewer rounds.
        ranked = sorted(rest, key=lambda index: -drops[index])
        out += [index for index in ranked if drops[index] >= max(least, most / 2)][: min(3, room - len(out))]
        (before,) = looked.without(piece, [out])
        passes -= len(rest) + 1
        if before <= nothing + _CALM * (whole - nothing):
            break
    return out


def _places(looked: _Occluded, moving: Sequence[int]) -> list[list[int]]:
    """Neighbouring units together, in the order of the strongest of each."""
    runs: list[list[int]] = []
    for index in sorted(moving):
        if runs and runs[-1][-1] == index - 1 and not looked.stops(index - 1):
            runs[-1].append(index)
        else:
            runs.append([index])
    rank = {index: place for place, index in enumerate(moving)}
    return sorted(runs, key=lambda run: min(rank[index] for index in run))


def _weighed(looked: _Occluded, piece: range, places: Sequence[Sequence[int]]) -> list[Span]:
    """The places with their weights; what weighs nothing beside the others is left out."""
    if not places:
        return []
    everything = [index for place in places for index in place]
    others = [[index for index in everything if index not in place] for place in places]
    whole, none, *odds = looked.without(piece, [(), everything, *places, *others])
    alone, last = odds[: len(places)], odds[len(places) :]
    found = []
    for place, without, only in zip(places, alone, last, strict=True):
        weight = float((whole - without) + (only - none)) / 2
        if weight >= _LEAST:
            start, end = looked.units[place[0]].start, looked.units[place[-1]].end
            found.append(Span(start, end, weight))
    return found
