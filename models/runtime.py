"""ONNX Runtime, set up once the same way for every model."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from models.registry import SILENT, ArtifactError, Manifest, Output

Input_contra = TypeVar("Input_contra", contravariant=True)
Scores = NDArray[np.float64]


class Classifier(Protocol[Input_contra]):
    """What a stage of the pipeline needs of any model: who it is, and calibrated probabilities."""

    @property
    def manifest(self) -> Manifest: ...

    def score(self, batch: Sequence[Input_contra]) -> Scores:
        """Probabilities of shape (len(batch), len(manifest.outputs)), in the order of the outputs."""
        ...


def open_session(
    path: Path, threads: int, *, keep_memory: bool = True, also: str | None = None
) -> ort.InferenceSession:
    """One CPU session over the ONNX file at `path`, using `threads` threads inside an operator.

    Without `keep_memory` what one input took is given back before the next: for inputs of ever other sizes.
    `also` names a tensor inside the network that becomes an output beside the others, if there is one.
    """
    options = ort.SessionOptions()
    options.enable_cpu_mem_arena = options.enable_mem_pattern = keep_memory
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads look fast alone and starve the database and the API on the same cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    if also is not None:
        try:
            model = path.read_bytes() + _output(also)
            return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Fail:
            pass  # no node of the graph makes that tensor
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _output(tensor: str) -> bytes:
    """A serialised ModelProto that says nothing but that a float tensor of the graph is an output.

    Behind the bytes of a model it adds that output and changes nothing else: of a message that comes twice the
    second is merged into the first, repeated fields one after the other (protobuf.dev, "Encoding", Last One Wins).
    Field numbers from onnx.proto: ModelProto.graph 7, GraphProto.output 12, ValueInfoProto.name 1 and type 2,
    TypeProto.tensor_type 1, Tensor.elem_type 1 (a varint), which is FLOAT, 1.
    """
    floats = _field(2, _field(1, b"\x08\x01"))
    return _field(7, _field(12, _field(1, tensor.encode()) + floats))


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of protobuf (wire type 2), shorter than 128 bytes and numbered below 16."""
    if len(content) > 127 or number > 15:
        raise ValueError("The tensor's name is too long.")
    return bytes([number << 3 | 2, len(content)]) + content


def calibrate(logits: NDArray[np.float32], outputs: Sequence[Output]) -> Scores:
    """Platt-scaled probabilities of `logits`, shape (n, len(outputs)), clipped to [1e-6, 1 - 1e-6].

    A sigmoid never reaches 0 or 1 in truth; rounding must not turn "almost surely" into "surely".

    Raises:
        FloatingPointError: the model computed no number. It reaches no limit, and would pass for harmless.
    """
    return calibrated(logits.astype(np.float64), *scaling(outputs))


def scaling(outputs: Sequence[Output]) -> tuple[Scores, Scores]:
    """The scale and the shift of each output, (outputs,) both."""
    return np.array([output.scale for output in outputs]), np.array([output.shift for output in outputs])


def calibrated(logits: Scores, scale: Scores, shift: Scores) -> Scores:
    """What `calibrate` says, for numbers that are read once."""
    z = np.clip(logits * scale + shift, -60.0, 60.0)
    probabilities: Scores = np.clip(1.0 / (1.0 + np.exp(-z)), 1e-6, 1.0 - 1e-6)
    if np.isnan(probabilities).any():
        raise FloatingPointError("The model's output is not a number.")
    return probabilities


class Encoder(Protocol[Input_contra]):
    """What matching by meaning needs of a model: unit vectors, whose dot product is their likeness."""

    @property
    def manifest(self) -> Manifest: ...

    def embed(self, batch: Sequence[Input_contra], /) -> NDArray[np.float32]:
        """Unit vectors of shape (len(batch), dimensions)."""
        ...


Embedder = Encoder[str]


@runtime_checkable
class Combined(Protocol):
    """A classifier of several members, each of which is checked by itself as well."""

    def check_members(self) -> None:
        """Compare each member with what the golden entries say of it, where they do.

        Raises:
            ArtifactError: one computes something else.
        """
        ...


GOLDEN_TOLERANCE = 0.02
GOLDEN_COSINE = 0.99


def check_golden(classifier: Classifier[Any] | Encoder[Any]) -> None:
    """Score the manifest's golden inputs: a model that computes something else here must not serve.

    A classifier's golden entries are `{"input", "scores"}`, an encoder's `{"input", "vector"}`.

    Raises:
        ArtifactError: there are no golden inputs or they are malformed, a probability is off by more than 0.02, or
            a vector's cosine to the expected one is below 0.99.
    """
    manifest = classifier.manifest
    if not manifest.golden:
        raise ArtifactError(f"{manifest.name} {manifest.version} has no golden inputs to check it by.")
    try:
        if manifest.kind in SILENT:
            _check_vectors(cast("Encoder[Any]", classifier))
        else:
            _check_scores(cast("Classifier[Any]", classifier))
            if isinstance(classifier, Combined):
                classifier.check_members()
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{manifest.name} {manifest.version}: a golden input is malformed.") from error


def _check_vectors(encoder: Encoder[Any]) -> None:
    manifest = encoder.manifest
    vectors = encoder.embed(_inputs(encoder)).astype(np.float64)
    expected = np.array([entry["vector"] for entry in manifest.golden], dtype=np.float64)
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    worst = float(((vectors * expected).sum(axis=1) / lengths).min())
    if not worst >= GOLDEN_COSINE:
        raise ArtifactError(
            f"{manifest.name} {manifest.version} puts a golden input at a cosine of {worst:.3f} to its place; "
            "the processor or the runtime computes something else than where it was made."
        )


def _check_scores(classifier: Classifier[Any]) -> None:
    manifest = classifier.manifest
    scores = classifier.score(_inputs(classifier))
    expected = np.array([[entry["scores"][c] for c in manifest.categories] for entry in manifest.golden])
    worst = float(np.abs(scores - expected).max())
    if not worst <= GOLDEN_TOLERANCE:
        raise ArtifactError(
            f"{manifest.name} {manifest.version} is off by {worst:.3f} on its golden inputs; "
            "the processor or the runtime computes something else than where it was made."
        )


def _inputs(model: Classifier[Any] | Encoder[Any]) -> list[Any]:
    """The golden inputs. A text is its own; a picture is described there and made by its model."""
    made = getattr(model, "golden_input", operator.itemgetter("input"))
    return [made(entry) for entry in model.manifest.golden]
