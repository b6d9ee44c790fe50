"""Pictures to vectors: a general encoder, asked once per picture, over whose vectors heads are trained and served.

The vectors say nothing of any category by themselves. Stored with a picture they let a head that is trained
later on learn from what people have decided since, without the picture being opened again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.preparation import RGB, preparer, synthetic
from models.registry import ArtifactError, Manifest
from models.runtime import open_session

__all__ = ["OUTPUT", "ImageEmbedder", "Vectors", "packed", "pooled", "unpacked"]

OUTPUT = "embedding"
Vectors = NDArray[np.float32]
"""Unit vectors, (n, dimensions)."""
STORED = np.dtype("<f2")


class ImageEmbedder:
    """An artifact of kind backbone, loaded. Keeps and logs no picture."""

    def __init__(self, manifest: Manifest, threads: int = 1) -> None:
        """Load the artifact's network.

        Raises:
            ArtifactError: the manifest is not of a backbone, or asks for what this class doesn't do.
        """
        if manifest.kind != "backbone":
            raise ArtifactError(f"{manifest.name} {manifest.version} is no backbone.")
        dimensions = manifest.input.get("dimensions")
        if type(dimensions) is not int or dimensions <= 0:
            raise ArtifactError(f"{manifest.name} {manifest.version} does not say how long its vectors are.")
        self._manifest, self.dimensions = manifest, dimensions
        self._preparation = preparer(manifest.input)
        self._batch = max(1, int(manifest.input.get("batch", 1)))
        self._session = open_session(manifest.path("model.onnx"), threads)

    @property
    def manifest(self) -> Manifest:
        return self._manifest

    @property
    def maker(self) -> str:
        """By whom stored vectors were made: only those of one maker can be compared."""
        return maker(self._manifest.name, self._manifest.version)

    def embed(self, pictures: Sequence[RGB]) -> Vectors:
        """Unit vectors of shape (len(pictures), dimensions) for uint8 arrays (height, width, 3).

        Raises:
            FloatingPointError: the network computed no number.
        """
        found = [np.empty((0, self.dimensions), np.float32)]
        for start in range(0, len(pictures), self._batch):
            given = np.stack([self._preparation(rgb) for rgb in pictures[start : start + self._batch]])
            (raw,) = self._session.run([OUTPUT], {"pictures": given})
            found.append(_unit(np.asarray(raw, dtype=np.float32)))
        return np.concatenate(found)

    def golden_input(self, entry: Mapping[str, Any]) -> RGB:
        """The picture that one of the manifest's golden vectors speaks of."""
        return synthetic(**entry["input"])


def maker(name: str, version: str) -> str:
    """How stored vectors name the backbone that made them."""
    return f"{name}/{version}"


def pooled(vectors: Vectors) -> Vectors:
    """One unit vector for all frames of a picture, (dimensions,): the direction of their mean."""
    one: Vectors = _unit(vectors.mean(axis=0, keepdims=True))[0]
    return one


def packed(vector: Vectors) -> bytes:
    """A vector as it is stored: two bytes a number. A cosine changes by less than 0.0001."""
    return vector.astype(STORED).tobytes()


def unpacked(data: bytes) -> Vectors:
    """A stored vector, (dimensions,)."""
    return np.frombuffer(data, STORED).astype(np.float32)


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        raise FloatingPointError("The encoder's output is not a number.")
    found: Vectors = vectors / np.maximum(lengths, 1e-12)
    return found
