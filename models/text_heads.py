"""Text heads: small linear corrections of a text model, for one community or several, served in its one pass.

Communities differ in what they call an insult, and share a language. So the encoder is asked once for every text,
and a head adds to what the base says: a weighted sum of the base's own log-odds, and of each window's vector the
one that says most. It is fitted on hundreds of labels and held to the base where they say nothing (ridge to the
prior "as the base says"; Chelba and Acero 2006 adapt a model so). A head belongs to one version of one base, by
the SHA-256 of its manifest: the numbers of another mean nothing to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.registry import ArtifactError, Manifest
from models.runtime import Scores, calibrated, scaling

KIND = "text-head"
WEIGHTS = "head.npz"
VECTOR = "/Div_output_0"
"""The tensor between encoder and outputs, the mean of a window's token vectors, as torch's exporter names it."""

Logodds = NDArray[np.float64]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a base found in a text: calibrated log-odds (outputs,), and a vector a window (n, dimensions)."""

    logodds: Logodds
    windows: Vectors


@dataclass(frozen=True, slots=True)
class Base:
    """The text model that a head belongs to."""

    name: str
    version: str
    sha256: str

    @classmethod
    def of(cls, manifest: Manifest) -> Base:
        """The base that a text model is."""
        return cls(manifest.name, manifest.version, manifest.sha256)

    @property
    def maker(self) -> str:
        """One word for it: heads serve where a model with the same word does."""
        return f"{self.name}/{self.version}/{self.sha256[:16]}"


class TextHead:
    """An artifact of kind text-head, loaded: `models.runtime.Classifier` over what its base has seen."""

    def __init__(self, manifest: Manifest, threads: int = 1) -> None:  # noqa: ARG002 - as every kind is opened
        """Load the weights: `vector` (heads, dimensions), `scores` (heads, base outputs), `bias` (heads,).

        Raises:
            ArtifactError: the manifest is not of a text head, or its weights are not what it says.
        """
        called = f"{manifest.name} {manifest.version}"
        if manifest.kind != KIND:
            raise ArtifactError(f"{called} is no text head.")
        self._manifest = manifest
        self.base, self.clients = base_of(manifest), clients_of(manifest)
        self.maker = self.base.maker
        heads, known = list(manifest.input.get("heads", ())), list(manifest.input.get("scores", ()))
        missing = [output.head for output in manifest.outputs if output.head not in heads]
        if missing or not manifest.outputs or not known:
            raise ArtifactError(f"{called} names unknown heads {missing}, or none.")
        try:
            dimensions = int(manifest.input["dimensions"])
            with np.load(manifest.path(WEIGHTS), allow_pickle=False) as file:
                vector, scores, bias = (file[key].astype(np.float64) for key in ("vector", "scores", "bias"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{called}: {WEIGHTS} can't be read.") from error
        shapes = ((len(heads), dimensions), (len(heads), len(known)), (len(heads),))
        if (vector.shape, scores.shape, bias.shape) != shapes:
            raise ArtifactError(f"{called}: {WEIGHTS} is not of the shapes {shapes}.")
        if not all(np.isfinite(array).all() for array in (vector, scores, bias)):
            raise ArtifactError(f"{called}: {WEIGHTS} holds what is no number.")
        columns = [heads.index(output.head) for output in manifest.outputs]
        self.tensor, self.dimensions = str(manifest.input.get("tensor", "")), dimensions
        self.knows = tuple(known)
        self.vector: Vectors = vector[columns].astype(np.float32)
        self._scores, self._bias = scores[columns].T.copy(), bias[columns]
        self._scale, self._shift = scaling(manifest.outputs)

    @property
    def manifest(self) -> Manifest:
        return self._manifest

    def for_client(self, client: str) -> bool:
        """Whether the head judges what this content service posts; one that names nobody judges everybody's."""
        return not self.clients or client in self.clients

    def score(self, batch: Sequence[Seen]) -> Scores:
        """Probabilities of shape (len(batch), len(manifest.outputs)) for what the base has seen."""
        logodds = np.array([one.logodds for one in batch]).reshape(-1, len(self.knows))
        peaks = np.array([(one.windows @ self.vector.T).max(axis=0) for one in batch], dtype=np.float32)
        return self.judged(logodds, peaks.reshape(-1, len(self.vector)))

    def judged(self, logodds: Logodds, peaks: Vectors) -> Scores:
        """Probabilities (n, outputs): of log-odds (n, base outputs) and the most any window says (n, outputs).

        Raises:
            FloatingPointError: the result is no number.
        """
        return calibrated(logodds @ self._scores + peaks + self._bias, self._scale, self._shift)

    def golden_input(self, entry: Mapping[str, Any]) -> Seen:
        """What the base had seen of the sentence that a golden entry speaks of."""
        said = entry["input"]
        return Seen(np.array(said["logodds"], np.float64), np.array([said["vector"]], np.float32))


def base_of(manifest: Manifest) -> Base:
    """The base that a head belongs to.

    Raises:
        ArtifactError: the manifest does not say.
    """
    try:
        named = manifest.input["base"]
        return Base(str(named["name"]), str(named["version"]), str(named["sha256"]))
    except (KeyError, TypeError) as error:
        raise ArtifactError(
            f"{manifest.name} {manifest.version} does not say which text model it belongs to."
        ) from error


def clients_of(manifest: Manifest) -> frozenset[str]:
    """The content services whose items a head judges; empty for all.

    Raises:
        ArtifactError: the manifest does not say. Nobody's items are judged by mistake.
    """
    named = manifest.input.get("clients")
    if not isinstance(named, list) or not all(isinstance(one, str) and one for one in named):
        raise ArtifactError(f"{manifest.name} {manifest.version} does not say for which clients it speaks.")
    return frozenset(named)


def speaking(heads: Sequence[TextHead], client: str) -> list[tuple[TextHead, tuple[str, ...]]]:
    """The heads that judge this client's items, each with the categories it speaks for.

    A head that names the client goes before one for everybody: the latter is silent on categories of the former.
    In all of these categories the base is silent (`silenced`). Heads that are left with nothing are not here.
    """
    mine = [head for head in heads if head.for_client(client)]
    own = {category for head in mine if head.clients for category in head.manifest.categories}
    found = []
    for head in mine:
        said = tuple(c for c in head.manifest.categories if head.clients or c not in own)
        if said:
            found.append((head, said))
    return found


def silenced(heads: Sequence[TextHead], client: str) -> frozenset[str]:
    """The categories in which heads take the base's place for this client's items."""
    return frozenset(category for _, said in speaking(heads, client) for category in said)
