"""Texts that are nearly the same, looked for among many: MinHash in bands narrow enough to miss few.

A sketch keeps 64 minima (`sketch.of_text`). Two texts agree in each with a probability of their Jaccard
similarity s, so the share of equal minima estimates it, with a standard error of sqrt(s(1 - s) / 64), 0.06 at
most. Whoever shares one of 32 pairs of minima is compared: 1 - (1 - s^2)^32, which is 0.95 at s = 0.3, 0.9999 at
0.5 and more above.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moderation.features import sketch
from moderation.features.sketch import SketchKind

MAKER = "minhash/1"
MINIMA = sketch.BANDS * sketch.ROWS
LEAST = 0.3
"""The least similarity that can be asked for; below it too much of what is alike would be missed."""

_PAIRS = MINIMA // 2


def features(text: str) -> bytes | None:
    """The minima of a text, 512 bytes; None of one too short, which only an equal one is near."""
    made = sketch.of_text(text)
    return b"".join(made.bands) if made.kind is SketchKind.TEXT else None


class NearTexts:
    """The sketches of many texts, in about 900 bytes each."""

    def __init__(self, sketches: Sequence[bytes]) -> None:
        """`sketches` are `features`, in an order that `find` answers in."""
        self._minima = np.frombuffer(b"".join(sketches), "<u8").reshape(len(sketches), MINIMA)
        keys = _keys(self._minima).ravel()
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._owners = (order // _PAIRS).astype(np.int32)

    def find(self, features: bytes, least: float) -> list[tuple[int, float]]:
        """Those whose similarity is `least` or more, and how much it is, the most similar first."""
        minima = np.frombuffer(features, "<u8")
        wanted = _keys(minima[None, :])[0]
        low = np.searchsorted(self._keys, wanted, "left")
        high = np.searchsorted(self._keys, wanted, "right")
        places = [self._owners[a:b] for a, b in zip(low, high, strict=True) if a < b]
        if not places:
            return []
        near = np.unique(np.concatenate(places))
        shares = (self._minima[near] == minima).mean(axis=1)
        kept = shares >= least
        ranked = sorted(zip(near[kept].tolist(), shares[kept].tolist(), strict=True), key=lambda one: -one[1])
        return [(int(index), float(share)) for index, share in ranked]


def _keys(minima: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One number for each pair of neighbouring minima, another one at another place: (n, 32)."""
    first, second = minima[:, 0::2], minima[:, 1::2]
    places = np.arange(_PAIRS, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (first ^ places) * np.uint64(0xBF58476D1CE4E5B9) + second
    return mixed ^ (mixed >> np.uint64(31))
