"""Claims: sentences of a text compared by what they mean with sentences that are known.

The cosine of two sentence embeddings (Reimers and Gurevych, "Sentence-BERT", 2019). It says that two sentences
speak of the same, not that they say the same: a claim and its denial lie close together. So a find here is
something for people to look at and never a verdict.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.features.terms import Find

Vectors = NDArray[np.float32]

USUAL = 0.75
"""The least cosine where a bank names none."""
LONGEST_SENTENCE = 600
SENTENCES = 64
"""Sentences of one text that are looked at: the first of them."""
SHORTEST_WORDS = 3


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence with its place in the text."""

    text: str
    start: int
    end: int


_END = re.compile(r"(?<=[.!?…])\s+|(?<=[.!?…][\"'”’»)\]])\s+|[。！？]+|\n+")


def sentences(text: str) -> list[Sentence]:
    """The sentences of a text, at most `SENTENCES`; what is too short to claim anything is left out."""
    found: list[Sentence] = []
    at = 0
    for stop in (*_END.finditer(text), None):
        end = len(text) if stop is None else stop.start()
        piece = text[at:end]
        start = at + len(piece) - len(piece.lstrip())
        stripped = piece.strip()[:LONGEST_SENTENCE]
        if len(stripped.split()) >= SHORTEST_WORDS or (len(stripped) >= 8 and not stripped.isascii()):
            found.append(Sentence(stripped, start, start + len(stripped)))
            if len(found) == SENTENCES:
                break
        at = len(text) if stop is None else stop.end()
    return found


class Claims:
    """The vectors of many claims."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    def find(self, text: Sequence[Sentence], vectors: Vectors, least: float) -> list[tuple[Find, float]]:
        """The claims that some sentence comes as near as `least`, each with its nearest sentence and cosine."""
        if not len(self._vectors) or not len(vectors):
            return []
        cosines = vectors @ self._vectors.T
        best = cosines.argmax(axis=0)
        nearest = cosines[best, np.arange(cosines.shape[1])]
        return [
            (
                Find(int(claim), text[best[claim]].start, text[best[claim]].end),
                min(1.0, float(nearest[claim])),
            )
            for claim in np.flatnonzero(nearest >= least)
        ]
