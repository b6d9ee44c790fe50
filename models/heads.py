"""Heads: linear models over a backbone's vectors, a few kilobytes each, fitted on what people decided.

A head belongs to one version of one backbone: the numbers of another mean nothing to it, so it serves only beside
that one. All heads of a backbone are asked over vectors that were made once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.backbone import Vectors, maker
from models.registry import ArtifactError, Manifest
from models.runtime import Scores, calibrate

WEIGHTS = "head.npz"

Vector = NDArray[np.float32]


class ImageHead:
    """An artifact of kind head, loaded: `models.runtime.Classifier` over a backbone's vectors."""

    def __init__(self, manifest: Manifest, threads: int = 1) -> None:  # noqa: ARG002 - as every kind is opened
        """Load the artifact's weights: `weights` (heads, dimensions) and `bias` (heads,).

        Raises:
            ArtifactError: the manifest is not of a head, or its weights are not what it says.
        """
        if manifest.kind != "head":
            raise ArtifactError(f"{manifest.name} {manifest.version} is no head.")
        heads = list(manifest.input.get("heads", ()))
        missing = [output.head for output in manifest.outputs if output.head not in heads]
        if missing or not manifest.outputs:
            raise ArtifactError(f"{manifest.name} {manifest.version} names unknown heads {missing}, or none.")
        self._manifest, self.maker = manifest, backbone_of(manifest)
        try:
            with np.load(manifest.path(WEIGHTS), allow_pickle=False) as file:
                weights, bias = (file[key].astype(np.float32) for key in ("weights", "bias"))
        except (OSError, ValueError, KeyError) as error:
            raise ArtifactError(f"{manifest.name} {manifest.version}: {WEIGHTS} can't be read.") from error
        shape = (len(heads), int(manifest.input.get("dimensions", 0)))
        if (
            weights.shape != shape
            or bias.shape != shape[:1]
            or not np.isfinite([*weights.ravel(), *bias]).all()
        ):
            raise ArtifactError(f"{manifest.name} {manifest.version}: {WEIGHTS} is not of the shape {shape}.")
        columns = [heads.index(output.head) for output in manifest.outputs]
        self._weights, self._bias, self.dimensions = weights[columns], bias[columns], shape[1]

    @property
    def manifest(self) -> Manifest:
        return self._manifest

    def score(self, batch: Sequence[Vector]) -> Scores:
        """Probabilities of shape (len(batch), len(manifest.outputs)) for vectors (dimensions,) of its backbone."""
        vectors = np.asarray(batch, dtype=np.float32).reshape(-1, self.dimensions)
        return calibrate(self.logits(vectors), self._manifest.outputs)

    def logits(self, vectors: Vectors) -> NDArray[np.float32]:
        """What is calibrated, (n, outputs)."""
        found: NDArray[np.float32] = vectors @ self._weights.T + self._bias
        return found

    def golden_input(self, entry: Mapping[str, Any]) -> Vector:
        """The vector that one of the manifest's golden entries speaks of: that of a synthetic picture."""
        return np.array(entry["input"]["vector"], dtype=np.float32)


def backbone_of(manifest: Manifest) -> str:
    """The backbone that a head belongs to, as stored vectors name it.

    Raises:
        ArtifactError: the manifest does not say.
    """
    try:
        named = manifest.input["backbone"]
        return maker(str(named["name"]), str(named["version"]))
    except (KeyError, TypeError) as error:
        raise ArtifactError(
            f"{manifest.name} {manifest.version} does not say which backbone it belongs to."
        ) from error
