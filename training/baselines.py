"""What a text model is to be measured against: three models that anybody has in an afternoon.

The first three columns of the comparison in docs/benchmarks.md: a published profanity model as it is, TF-IDF with
logistic regression, and the frozen sentence encoder with logistic regression. The two that are fitted learn from
the same rows as ours; a label that is missing is left out of its head, and nothing is assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.registry import ARTIFACTS, load
from models.text import TextEmbedder, normalise
from training.common import Matrix, TrainingError, digest, progress, save_arrays
from training.dataset import HEADS, Row, labels

FEWEST = 10
"""Training positives below which a head is not fitted."""
LONGEST = 5_000
"""Characters of a text that TF-IDF looks at: mails are long, and say early what they are."""
PROFANITY_HEADS = ("toxicity", "harassment", "hate", "profanity")
"""The heads that the published model's one number can stand for; it says nothing of the others."""

ENCODER = ARTIFACTS / "text-embedding" / "1"

Embeddings = NDArray[np.float32]


class Baseline(Protocol):
    """A model with one column for each of `HEADS`; NaN where it has nothing to say."""

    @property
    def name(self) -> str: ...

    def fit(self, rows: Sequence[Row]) -> None:
        """Learn from labelled rows."""

    def score(self, texts: Sequence[str]) -> Matrix:
        """Scores (n, heads) that rank; not calibrated."""
        ...


class Profanity:
    """`alt-profanity-check` as published: a linear model trained on Wikipedia comments and tweets by others."""

    name = "profanity model"

    def fit(self, rows: Sequence[Row]) -> None:
        """Nothing: it comes fitted."""

    def score(self, texts: Sequence[str]) -> Matrix:
        """Its probability under every head it can stand for.

        Raises:
            TrainingError: the package is not installed.
        """
        try:
            from profanity_check import predict_prob
        except ImportError as error:
            raise TrainingError(f"{error}; pip install 'moderation[transfer]'.") from error
        result = np.full((len(texts), len(HEADS)), np.nan)
        found = predict_prob(list(texts))
        for head in PROFANITY_HEADS:
            result[:, HEADS.index(head)] = found
        return result


class Tfidf:
    """Characters in words (2 to 5) and words (1 and 2), damped, with one logistic regression a head."""

    name = "TF-IDF + LR"

    def __init__(self) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import FeatureUnion

        common: dict[str, Any] = {"sublinear_tf": True, "min_df": 2, "dtype": np.float32}
        self._vectors = FeatureUnion(
            [
                (
                    "characters",
                    TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), max_features=200_000, **common),
                ),
                ("words", TfidfVectorizer(ngram_range=(1, 2), max_features=100_000, **common)),
            ]
        )
        self._models: dict[int, Any] = {}

    def fit(self, rows: Sequence[Row]) -> None:
        from sklearn.linear_model import LogisticRegression

        found = self._vectors.fit_transform([_cut(row.text) for row in rows]).tocsr()
        self._models = fitted(
            found, rows, self.name, lambda: LogisticRegression(C=4.0, solver="liblinear", max_iter=200)
        )

    def score(self, texts: Sequence[str]) -> Matrix:
        return decisions(self._models, self._vectors.transform([_cut(text) for text in texts]).tocsr())


class FrozenEncoder:
    """The base encoder as published, mean over its tokens, with one logistic regression a head."""

    name = "frozen MiniLM + LR"

    def __init__(self, kept: Path, threads: int) -> None:
        """`kept` is a folder where embeddings stay from one call to the next."""
        self._kept, self._threads = kept, threads
        self._models: dict[int, Any] = {}

    def fit(self, rows: Sequence[Row]) -> None:
        from sklearn.linear_model import LogisticRegression

        found = self.embed([row.text for row in rows])
        self._models = fitted(found, rows, self.name, lambda: LogisticRegression(C=10.0, max_iter=500))

    def score(self, texts: Sequence[str]) -> Matrix:
        return decisions(self._models, self.embed(texts))

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embeddings (n, 384) of length one; what was embedded before is read from the folder."""
        path = self._kept / "embeddings.npz"
        known: dict[int, Embeddings] = {}
        if path.exists():
            with np.load(path) as file:
                known = dict(zip(file["keys"].tolist(), file["vectors"].astype(np.float32), strict=True))
        keys = [digest(text) >> 1 for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            known |= dict(zip(missing, embedded(list(missing.values()), self._threads), strict=True))
            vectors = np.array(list(known.values()), np.float16)
            save_arrays(path, keys=np.array(list(known), np.int64), vectors=vectors)
        return np.array([known[key] for key in keys], np.float32)


def embedded(texts: Sequence[str], threads: int) -> Embeddings:
    """Embeddings (n, 384) by the artifact that ships for claims: the base encoder as published, in int8."""
    model = TextEmbedder(load(ENCODER), threads)
    found = [np.zeros((0, 384), np.float32)]
    with progress("embeddings", len(texts)) as advance:
        for start in range(0, len(texts), 256):
            found.append(model.embed(texts[start : start + 256]))
            advance(len(found[-1]))
    return np.concatenate(found)


def fitted(found: Any, rows: Sequence[Row], title: str, make: Callable[[], Any]) -> dict[int, Any]:
    """A model per head, by column, over the rows that are labelled for it; thin heads are left out."""
    truth = labels(rows)
    result = {}
    with progress(title, len(HEADS)) as advance:
        for column, head in enumerate(HEADS):
            known = np.flatnonzero(~np.isnan(truth[:, column]))
            y = truth[known, column]
            if min(y.sum(), len(y) - y.sum()) >= FEWEST:
                result[column] = make().fit(found[known], y)
            advance(1, head)
    return result


def decisions(fits: dict[int, Any], found: Any) -> Matrix:
    """Log-odds (n, heads), NaN where no model was fitted."""
    result = np.full((found.shape[0], len(HEADS)), np.nan)
    for column, model in fits.items():
        result[:, column] = model.decision_function(found)
    return result


def _cut(text: str) -> str:
    return normalise(text[:LONGEST])
