"""Text to calibrated probabilities: normalise, cut into windows, run the encoder, keep each window's worst.

Beside the encoder stands a linear model on n-grams; a head's logit is a weighted sum of both. `normalise`,
`window_logits` and `mixed` are also what training uses, so that a model is fitted, calibrated and measured on
exactly the input it is served with.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The Rust tokenizer's own thread pool would compete with the caller's threads, and warns after a fork.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Tokenizer

from models.ngrams import NgramModel
from models.registry import ArtifactError, Manifest
from models.runtime import GOLDEN_TOLERANCE, Scores, calibrate, open_session, scaling
from models.text_heads import VECTOR, Base, Logodds, Seen, TextHead, Vectors

NORMALISER = "nfkc-emoji-words-1"
APART = 4
"""Tokens that one character of a normalised text can become: the tokenizer decomposes it (Unicode's NFD) first."""

Logits = NDArray[np.float32]
Forward = Callable[[NDArray[np.int64], NDArray[np.int64]], Logits]
"""Token ids and attention mask, both (n, length), to logits (n, heads)."""

_SKIN_TONES = {
    0x1F3FB: "light skin",
    0x1F3FC: "medium light skin",
    0x1F3FD: "medium skin",
    0x1F3FE: "medium dark skin",
    0x1F3FF: "dark skin",
}
_REGIONAL_A = 0x1F1E6
_PICTOGRAPHS = ((0x2300, 0x23FF), (0x2600, 0x27BF), (0x2B00, 0x2BFF), (0x1F000, 0x1FBFF))
_LONG_WORD = re.compile(r"(\S{60})(?=\S)")


def normalise(text: str) -> str:
    """`text` with compatibility forms folded, emoji in words, invisible characters and long words broken up.

    Deterministic and cheap. The encoder's vocabulary has no emoji (Kirk et al. 2022 show how much of
    hateful language hides there), so each becomes its Unicode name: a grinning face becomes the words
    "grinning face". NFKC turns full-width and mathematical letters into plain ones.
    """
    folded = unicodedata.normalize("NFKC", text)
    if not folded.isascii():
        folded = "".join(_plain(character) for character in folded)
    # WordPiece makes one unknown token of any word over 100 characters; cut so that nothing hides in one.
    return _LONG_WORD.sub(r"\1 ", " ".join(folded.split()))


@lru_cache(maxsize=4096)
def _plain(character: str) -> str:
    """One character as the encoder should see it: itself, words for a pictograph, nothing if invisible."""
    code = ord(character)
    if code < 0x80:
        return character
    if code in _SKIN_TONES:
        return f" {_SKIN_TONES[code]} "
    if _REGIONAL_A <= code < _REGIONAL_A + 26:
        return chr(ord("a") + code - _REGIONAL_A)
    category = unicodedata.category(character)
    if category in ("Cf", "Cs", "Me") or 0xFE00 <= code <= 0xFE0F:
        # A joiner between two emoji separates their names; inside a word it must vanish. Names bring
        # their own spaces, so dropping it serves both. Half a surrogate pair is no character at all.
        return ""
    if category == "So" and any(low <= code <= high for low, high in _PICTOGRAPHS):
        return f" {_words(character, code)} "
    return character


def _words(character: str, code: int) -> str:
    name = unicodedata.name(character, "symbol").lower().replace("-", " ")
    if code < 0x10000 and not any(shape in name for shape in ("circle", "square")):
        # In old character names black and white mean filled and outlined, and heavy is a typeface.
        name = re.sub(r"\b(black|white|heavy) ", "", name)
    return name


@dataclass(frozen=True, slots=True)
class Windowing:
    """How a long text is cut: windows of `size` tokens, ends included, sharing `overlap`; at most `limit`.

    `bucket` is how many windows one call of the encoder may take; 1 makes a score independent of its
    neighbours even where activations are quantised per call.
    """

    size: int
    overlap: int
    limit: int
    bucket: int

    @classmethod
    def of(cls, document: Any) -> Windowing:
        """From a manifest's `input`.

        Raises:
            ArtifactError: a number is missing or makes no sense.
        """
        try:
            found = cls(*(int(document[key]) for key in ("window", "overlap", "windows", "bucket")))
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"The manifest's input is malformed: {error!r}.") from error
        if found.size - 2 <= found.overlap or min(found.overlap, found.limit - 1, found.bucket - 1) < 0:
            raise ArtifactError(f"The manifest's windows make no sense: {found}.")
        return found


def cut(length: int, windowing: Windowing) -> list[tuple[int, int]]:
    """Start and end, in tokens, of the windows over a text of `length` tokens, special tokens not counted.

    The last window ends with the text. A text that needs more than `windowing.limit` windows gets that
    many, evenly spaced, first and last included: the gaps are the price of a bounded cost.
    """
    room = windowing.size - 2
    if length <= room:
        return [(0, length)]
    stride = room - windowing.overlap
    wanted = 1 + -(-(length - room) // stride)
    count = min(wanted, windowing.limit)
    if count == 1:
        return [(0, room)]
    starts = [round(i * (length - room) / (count - 1)) for i in range(count)]
    return [(start, start + room) for start in starts]


def window_logits(
    texts: Sequence[str], tokenizer: Tokenizer, windowing: Windowing, forward: Forward, heads: int
) -> Logits:
    """Logits of shape (len(texts), heads) for normalised texts: each head's maximum over a text's windows."""
    rows, starts = window_rows(texts, tokenizer, windowing, forward, heads)
    if not len(starts):
        return rows
    return np.maximum.reduceat(rows, starts, axis=0)


def window_rows(
    texts: Sequence[str], tokenizer: Tokenizer, windowing: Windowing, forward: Forward, columns: int
) -> tuple[Logits, NDArray[np.intp]]:
    """What `forward` says of every window (windows, columns), text by text, and where each text's windows begin."""
    windows: list[list[int]] = []
    starts: list[int] = []
    first, last = ends(tokenizer)
    encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    for encoding in encodings:
        ids = encoding.ids
        starts.append(len(windows))
        windows += [[first, *ids[start:end], last] for start, end in cut(len(ids), windowing)]
    rows = np.empty((len(windows), columns), dtype=np.float32)
    for bucket in _buckets([len(window) for window in windows], windowing.bucket):
        rows[bucket] = forward(*_padded([windows[i] for i in bucket]))
    return rows, np.array(starts, dtype=np.intp)


def mixed(encoder: Logits, ngrams: Logits, weights: NDArray[np.float32]) -> Logits:
    """The encoder's logits (n, heads) plus those of the n-gram model, times a weight per head."""
    return np.asarray(encoder + ngrams * weights, dtype=np.float32)


def _buckets(lengths: Sequence[int], most: int, slack: int = 8) -> Iterator[list[int]]:
    """Indices grouped by similar length: the encoder's cost is linear in tokens, padding included."""
    bucket: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if bucket and (len(bucket) == most or lengths[index] > lengths[bucket[0]] + slack):
            yield bucket
            bucket = []
        bucket.append(index)
    if bucket:
        yield bucket


def _padded(windows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids padded with 0, which is BERT's [PAD], and the mask; both (len(windows), longest)."""
    ids = np.zeros((len(windows), max(map(len, windows))), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, window in enumerate(windows):
        ids[row, : len(window)] = window
        mask[row, : len(window)] = 1
    return ids, mask


def ends(tokenizer: Tokenizer) -> tuple[int, int]:
    """The ids of the tokens that open and close a window.

    Raises:
        ArtifactError: the tokenizer is not one of BERT's.
    """
    first, last = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    if first is None or last is None:
        raise ArtifactError("The tokenizer has no [CLS] or no [SEP]; it is not the one of a BERT encoder.")
    return first, last


def open_tokenizer(path: str) -> Tokenizer:
    """The tokenizer in a `tokenizer.json`, without the padding and truncation it may have been saved with."""
    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    # A text that says "[SEP]" means those five characters.
    tokenizer.encode_special_tokens = True
    return tokenizer


class TextClassifier:
    """A text artifact, loaded: `models.runtime.Classifier[str]`. Keeps, logs and prints no text."""

    def __init__(self, manifest: Manifest, threads: int = 1) -> None:
        """Load the artifact's model and tokenizer.

        Raises:
            ArtifactError: the manifest is not of a text model, or asks for what this class doesn't do.
        """
        if manifest.kind != "text" or manifest.input.get("normaliser") != NORMALISER:
            raise ArtifactError(f"{manifest.name} {manifest.version} is not for normaliser {NORMALISER}.")
        heads = list(manifest.input.get("heads", ()))
        missing = [output.head for output in manifest.outputs if output.head not in heads]
        if missing:
            raise ArtifactError(f"{manifest.name} {manifest.version} names unknown heads {missing}.")
        self._manifest = manifest
        self._heads = len(heads)
        self._columns = [heads.index(output.head) for output in manifest.outputs]
        self._scale, self._shift = scaling(manifest.outputs)
        # By which heads know the model that they belong to.
        self.maker = Base.of(manifest).maker
        self._windowing = Windowing.of(manifest.input)
        self._tokenizer = open_tokenizer(str(manifest.path("tokenizer.json")))
        self._session = open_session(manifest.path("model.onnx"), threads, also=VECTOR)
        shapes = {output.name: output.shape for output in self._session.get_outputs()}
        # None of an encoder that was exported otherwise: no head serves beside it.
        self.dimensions = int(shapes[VECTOR][-1]) if VECTOR in shapes else 0
        # Without a weight for any head there is no n-gram model in the artifact.
        weights = manifest.input.get("ngram_weights", {})
        self._weights = np.array([weights.get(head, 0.0) for head in heads], dtype=np.float32)
        self._ngrams = NgramModel.load(manifest.path("ngrams.npz")) if weights else None
        if self._ngrams is not None and self._ngrams.heads != len(heads):
            raise ArtifactError(f"{manifest.name} {manifest.version} has an n-gram model of other heads.")

    @property
    def manifest(self) -> Manifest:
        return self._manifest

    def score(self, batch: Sequence[str]) -> Scores:
        """Probabilities of shape (len(batch), len(manifest.outputs)); an empty text is scored like any."""
        return calibrate(self.logits(batch)[:, self._columns], self._manifest.outputs)

    def read(self, batch: Sequence[str], heads: Sequence[TextHead]) -> Scores:
        """What `score` says, and behind it in turn the columns of each of `heads`, from one pass of the encoder.

        `columns` says which are whose.
        """
        if not heads:
            return self.score(batch)
        texts = [normalise(text) for text in batch]
        vectors = np.concatenate([head.vector for head in heads])

        def forward(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Logits:
            logits, pooled = self._run(ids, mask)
            return np.concatenate([logits, pooled @ vectors.T], axis=1)

        width = self._heads + len(vectors)
        raw = window_logits(texts, self._tokenizer, self._windowing, forward, width)
        own, peaks = self._mixed(raw[:, : self._heads], texts)[:, self._columns], raw[:, self._heads :]
        logodds, found = self._logodds(own), [calibrate(own, self._manifest.outputs)]
        for head, place in zip(heads, columns(self, heads)[1:], strict=True):
            behind = slice(place.start - own.shape[1], place.stop - own.shape[1])
            found.append(head.judged(logodds, peaks[:, behind]))
        return np.concatenate(found, axis=1)

    def seen(self, batch: Sequence[str]) -> list[Seen]:
        """What heads are fitted on: of each text its calibrated log-odds and the vectors of its windows.

        Raises:
            ArtifactError: the network has no tensor of that name.
        """
        if not self.dimensions:
            raise ArtifactError(f"{self._manifest.name} {self._manifest.version} has no tensor {VECTOR}.")
        texts = [normalise(text) for text in batch]

        def forward(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Logits:
            return np.concatenate(self._run(ids, mask), axis=1)

        width = self._heads + self.dimensions
        rows, starts = window_rows(texts, self._tokenizer, self._windowing, forward, width)
        parts = np.split(rows, starts[1:])
        raw = np.array([part[:, : self._heads].max(axis=0) for part in parts], np.float32)
        logodds = self._logodds(self._mixed(raw.reshape(-1, self._heads), texts)[:, self._columns])
        return [Seen(odds, part[:, self._heads :]) for odds, part in zip(logodds, parts, strict=True)]

    def bears(self, head: TextHead) -> None:
        """Refuse a head that belongs to another version, or computes something else beside this one.

        Raises:
            ArtifactError: it is not to serve beside this model.
        """
        manifest = head.manifest
        called, base = f"{manifest.name} {manifest.version}", Base.of(self._manifest)
        fits = (head.tensor, head.dimensions, head.knows) == (
            VECTOR,
            self.dimensions,
            self._manifest.categories,
        )
        if head.base != base or not fits:
            raise ArtifactError(
                f"{called} belongs to {head.base.name} {head.base.version}, which does not serve here; "
                "fit it again on the version that does."
            )
        try:
            texts = [str(entry["text"]) for entry in manifest.golden]
            expected = [[entry["scores"][c] for c in manifest.categories] for entry in manifest.golden]
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"{called}: a golden sentence is malformed.") from error
        worst = float(np.abs(Headed(self, head).score(texts) - np.array(expected)).max())
        if not worst <= GOLDEN_TOLERANCE:
            raise ArtifactError(f"{called} is off by {worst:.3f} on its golden sentences beside its base.")

    def reads_whole(self, text: str) -> bool:
        """Whether `score` looks at every token of `text`, and not at evenly spaced windows of it."""
        windowing = self._windowing
        room = windowing.size - 2
        readable = room + (windowing.limit - 1) * (room - windowing.overlap)
        # What is read is longer than what was written: an emoji becomes words, and the tokenizer takes syllables of
        # Korean apart. No letter becomes more than `APART` tokens, so most texts need no second tokenisation.
        plain = normalise(text)
        if len(plain) * APART <= readable:
            return True
        return len(self._tokenizer.encode(plain, add_special_tokens=False).ids) <= readable

    def logits(self, batch: Sequence[str]) -> Logits:
        """Raw logits of shape (len(batch), heads), in the order of the manifest's `input.heads`."""
        texts = [normalise(text) for text in batch]
        encoder = window_logits(texts, self._tokenizer, self._windowing, self._forward, self._heads)
        return self._mixed(encoder, texts)

    def _mixed(self, encoder: Logits, texts: Sequence[str]) -> Logits:
        if self._ngrams is None:
            return encoder
        return mixed(encoder, self._ngrams.logits(texts), self._weights)

    def _logodds(self, logits: Logits) -> Logodds:
        """Calibrated log-odds (n, outputs) of logits in the order of the outputs."""
        odds: Logodds = logits.astype(np.float64) * self._scale + self._shift
        return odds

    def _forward(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Logits:
        (logits,) = self._session.run(["logits"], {"input_ids": ids, "attention_mask": mask})
        return np.asarray(logits, dtype=np.float32)

    def _run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> tuple[Logits, Vectors]:
        logits, pooled = self._session.run(["logits", VECTOR], {"input_ids": ids, "attention_mask": mask})
        return np.asarray(logits, dtype=np.float32), np.asarray(pooled, dtype=np.float32)


def columns(classifier: TextClassifier, heads: Sequence[TextHead]) -> list[slice]:
    """The columns of `TextClassifier.read`: first the model's own, then those of each head."""
    widths = [len(one.outputs) for one in (classifier.manifest, *(head.manifest for head in heads))]
    ends = np.cumsum([0, *widths])
    return [slice(int(start), int(end)) for start, end in pairwise(ends)]


@dataclass(frozen=True, slots=True)
class Headed:
    """A head beside its base: `models.runtime.Classifier[str]`, where one head alone is asked about texts."""

    base: TextClassifier
    head: TextHead

    @property
    def manifest(self) -> Manifest:
        return self.head.manifest

    def score(self, batch: Sequence[str]) -> Scores:
        """Probabilities of shape (len(batch), len(manifest.outputs))."""
        return self.base.read(batch, [self.head])[:, columns(self.base, [self.head])[1]]


class TextEmbedder:
    """A sentence encoder, loaded: `models.runtime.Embedder`. Sentences that mean the same lie close together."""

    def __init__(self, manifest: Manifest, threads: int = 1) -> None:
        """Load the artifact's model and tokenizer.

        Raises:
            ArtifactError: the manifest is not of an embedder of texts.
        """
        if manifest.kind != "embedding" or manifest.input.get("normaliser") != NORMALISER:
            raise ArtifactError(f"{manifest.name} {manifest.version} is not for normaliser {NORMALISER}.")
        self._manifest = manifest
        self._windowing = Windowing.of(manifest.input)
        self._dimensions = int(manifest.input["dimensions"])
        self._tokenizer = open_tokenizer(str(manifest.path("tokenizer.json")))
        self._session = open_session(manifest.path("model.onnx"), threads)

    @property
    def manifest(self) -> Manifest:
        return self._manifest

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of shape (len(texts), dimensions). Of a text beyond one window only that window counts."""
        result = np.zeros((len(texts), self._dimensions), dtype=np.float32)
        first, last = ends(self._tokenizer)
        encodings = self._tokenizer.encode_batch_fast([normalise(t) for t in texts], add_special_tokens=False)
        room = self._windowing.size - 2
        windows = [[first, *encoding.ids[:room], last] for encoding in encodings]
        for bucket in _buckets([len(window) for window in windows], self._windowing.bucket):
            ids, mask = _padded([windows[i] for i in bucket])
            (vectors,) = self._session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})
            result[bucket] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return result
