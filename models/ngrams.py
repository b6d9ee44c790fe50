"""A linear model on hashed character n-grams and words, beside the encoder.

Spelling is what an encoder with a fixed vocabulary reads worst, and what short noisy posts are full of. The
features are those of a TF-IDF of n-grams within word boundaries, of words and of word pairs, hashed into a fixed
number of buckets (Weinberger et al. 2009, "Feature hashing for large scale multitask learning"), so that there is
no vocabulary to ship. One pass of numpy serves a whole batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.registry import ArtifactError

SIZES = (2, 3, 4, 5)
"""Lengths of the n-grams, in code points."""
BITS = 19
SEGMENT = 480
"""Code points that are scored together, about as much as a window of the encoder holds."""
AT_ONCE = 200
"""Segments of a batch that are looked at together."""

U64 = NDArray[np.uint64]
Logits = NDArray[np.float32]

_SPACE = np.uint64(ord(" "))
_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Features:
    """Sparse rows: of text i the buckets `bucket[ends[i-1]:ends[i]]`, each with how often it occurs."""

    bucket: NDArray[np.int64]
    count: NDArray[np.int64]
    ends: NDArray[np.int64]


def features(texts: Sequence[str], bits: int = BITS) -> Features:
    """The hashed n-grams, words and word pairs of normalised texts."""
    points, starts = _joined(texts)
    hashes = [_grams(points, size) for size in SIZES]
    hashes += _words(points)
    where = np.concatenate([at for at, _ in hashes])
    bucket = np.concatenate([value for _, value in hashes]) >> np.uint64(64 - bits)
    owner = np.searchsorted(starts, where, side="right") - 1
    distinct, count = np.unique((owner.astype(np.uint64) << np.uint64(bits)) | bucket, return_counts=True)
    ends = np.searchsorted(distinct, np.arange(1, len(texts) + 1, dtype=np.uint64) << np.uint64(bits))
    found = (distinct & np.uint64((1 << bits) - 1)).astype(np.int64)
    return Features(found, count.astype(np.int64), ends.astype(np.int64))


def weighted(found: Features, rarity: NDArray[np.float32]) -> NDArray[np.float32]:
    """The value of each feature: damped frequency times rarity, each text's values of length one."""
    value = np.asarray((1 + np.log(found.count)) * rarity[found.bucket], dtype=np.float32)
    norm = np.sqrt(_summed((value * value)[:, None], found.ends)[:, 0])
    sizes = np.diff(found.ends, prepend=0)
    return np.asarray(value / np.repeat(np.maximum(norm, 1e-12), sizes), dtype=np.float32)


class NgramModel:
    """Weights as int8 with a scale per head: `logits(texts)` of shape (n, heads)."""

    def __init__(
        self,
        weights: NDArray[np.int8],
        scale: NDArray[np.float32],
        bias: NDArray[np.float32],
        rarity: NDArray[np.float32],
    ) -> None:
        """`weights` (buckets, heads), `scale` and `bias` (heads,), `rarity` (buckets,).

        Raises:
            ArtifactError: the shapes do not fit each other.
        """
        buckets, heads = weights.shape
        self._bits = buckets.bit_length() - 1
        fits = (
            scale.shape == bias.shape == (heads,)
            and rarity.shape == (buckets,)
            and 1 << self._bits == buckets
        )
        if not fits:
            raise ArtifactError("The n-gram model's arrays do not fit each other; copy the artifact again.")
        self._weights, self._scale, self._bias, self._rarity = weights, scale, bias, rarity

    @classmethod
    def load(cls, path: Path) -> NgramModel:
        """From an `ngrams.npz`.

        Raises:
            ArtifactError: it is not what `save` writes.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                rarity = file["rarity"].astype(np.float32)
                return cls(file["weights"], file["scale"], file["bias"], rarity)
        except (OSError, ValueError, KeyError) as error:
            raise ArtifactError(f"{path} is no n-gram model ({error!r}); copy the artifact again.") from error

    def save(self, path: Path) -> None:
        """Write the arrays; rarity in half precision, which is more than it was measured to."""
        rarity = self._rarity.astype(np.float16)
        with path.open("wb") as file:
            np.savez_compressed(
                file, weights=self._weights, scale=self._scale, bias=self._bias, rarity=rarity
            )

    @property
    def heads(self) -> int:
        return int(self._scale.shape[0])

    def logits(self, texts: Sequence[str]) -> Logits:
        """Logits of shape (len(texts), heads) for texts as `models.text.normalise` returns them.

        Of a long text each head's maximum over its segments: a harsh sentence does not fade among calm ones.
        """
        segments = [(owner, part) for owner, text in enumerate(texts) for part in _segments(text)]
        result = np.full((len(texts), self.heads), -np.inf, np.float32)
        # A code point takes about 300 bytes on the way: of long texts a few segments at a time.
        for start in range(0, len(segments), AT_ONCE):
            owners, parts = zip(*segments[start : start + AT_ONCE], strict=True)
            np.maximum.at(result, list(owners), self._logits(parts))
        return result

    def _logits(self, texts: Sequence[str]) -> Logits:
        found = features(texts, self._bits)
        value = weighted(found, self._rarity)
        products = self._weights[found.bucket].astype(np.float32) * value[:, None]
        return np.asarray(_summed(products, found.ends) * self._scale + self._bias, dtype=np.float32)


def _segments(text: str) -> Iterator[str]:
    """`text` in runs of at most `SEGMENT` code points, cut at blanks where there are any."""
    start = 0
    while len(text) - start > SEGMENT:
        blank = text.rfind(" ", start + SEGMENT // 2, start + SEGMENT)
        end = blank if blank > 0 else start + SEGMENT
        yield text[start:end]
        start = end + (blank > 0)
    yield text[start:]


def _joined(texts: Sequence[str]) -> tuple[U64, NDArray[np.int64]]:
    """The code points of all texts in small letters, each in blanks, and where each text begins."""
    padded = [f" {text.lower()} " for text in texts]
    starts = np.cumsum([0, *(len(text) for text in padded)])[:-1]
    raw = "".join(padded).encode("utf-32-le", "surrogatepass")
    return np.frombuffer(raw, np.uint32).astype(np.uint64), starts.astype(np.int64)


def _grams(points: U64, size: int) -> tuple[NDArray[np.int64], U64]:
    """Positions and hashes of the n-grams without a blank inside; one at either end marks a word's."""
    count = len(points) - size + 1
    if count < 1:
        return np.empty(0, np.int64), np.empty(0, np.uint64)
    value = np.full(count, size, np.uint64)
    for offset in range(size):
        value = _mixed(value ^ points[offset : offset + count])
    blank = np.concatenate([[0], np.cumsum(points == _SPACE)])
    inside = blank[size - 1 : size - 1 + count] - blank[1 : 1 + count] if size > 2 else 0
    whole = blank[size:] - blank[:count]
    kept = np.flatnonzero((inside == 0) & (whole < size))
    return kept.astype(np.int64), value[kept]


def _words(points: U64) -> list[tuple[NDArray[np.int64], U64]]:
    """Positions and hashes of the words, and of pairs of neighbours within a text."""
    letter = points != _SPACE
    begins = np.flatnonzero(letter & np.concatenate([[True], ~letter[:-1]]))
    if not len(begins):
        return []
    at = np.arange(len(points)) - np.repeat(
        np.concatenate([[0], begins]), np.diff(np.concatenate([[0], begins, [len(points)]]))
    )
    spelled = np.where(letter, _mixed(points + (at.astype(np.uint64) + np.uint64(1)) * _ODD), np.uint64(0))
    word = _mixed(np.add.reduceat(spelled, begins))
    length = np.add.reduceat(letter, begins)
    # Two blanks lie between two texts and one between two words of one text.
    joined = np.flatnonzero(begins[1:] - begins[:-1] - length[:-1] == 1)
    pair = _mixed(word[joined] * np.uint64(3) ^ word[joined + 1])
    return [(begins.astype(np.int64), word), (begins[joined].astype(np.int64), pair)]


def _summed(values: NDArray[np.float32], ends: NDArray[np.int64]) -> NDArray[np.float32]:
    """Rows of `values` (m, k) summed up to each of `ends`: (n, k); a text without features sums to nothing."""
    result = np.zeros((len(ends), values.shape[1]), np.float32)
    begins = np.concatenate([[0], ends[:-1]])
    filled = np.flatnonzero(ends > begins)
    if len(filled):
        result[filled] = np.add.reduceat(values, begins[filled], axis=0)
    return result


def _mixed(values: U64) -> U64:
    """A fixed permutation of the 64-bit numbers that scatters them well: the finaliser of SplitMix64."""
    values = values + _ODD
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
