"""Model artifacts on disk: what a manifest says, and proof that the files are the ones it names.

An artifact is a folder `NAME/VERSION/` holding ONNX files, whatever they need (a tokenizer), a
`MODEL_CARD.md` and a `manifest.json` that is written last, so that a half-copied folder is never
mistaken for a model. Which version is *champion* is a database row and none of this module's business.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

ARTIFACTS = Path(__file__).parent / "artifacts"
MANIFEST = "manifest.json"

Kind = Literal["text", "image"]


class ArtifactError(Exception):
    """An artifact is missing, incomplete or not what its manifest says."""


@dataclass(frozen=True, slots=True)
class Output:
    """One policy category a model speaks about, and how its raw output becomes a probability.

    `head` names the model's own output; `scale` and `shift` are Platt's (1999) two numbers, applied to
    its logit: probability = sigmoid(scale * logit + shift).
    """

    category: str
    head: str
    scale: float
    shift: float


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a model is: identity, files by SHA-256, outputs, and how its input is prepared."""

    name: str
    version: str
    kind: Kind
    folder: Path
    files: Mapping[str, str]
    outputs: tuple[Output, ...]
    input: Mapping[str, Any]
    golden: tuple[Mapping[str, Any], ...]
    document: Mapping[str, Any]
    sha256: str

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(output.category for output in self.outputs)

    def path(self, file: str) -> Path:
        """The path of one of the manifest's files.

        Raises:
            ArtifactError: the manifest does not name the file.
        """
        if file not in self.files:
            raise ArtifactError(f"{self.name} {self.version} has no file {file!r}.")
        return self.folder / file


def load(folder: Path) -> Manifest:
    """Read and verify the artifact in `folder`.

    Raises:
        ArtifactError: no manifest, a malformed one, or a file whose SHA-256 is not the one it names.
    """
    try:
        raw = (folder / MANIFEST).read_bytes()
        manifest = _parse(folder, json.loads(raw), hashlib.sha256(raw).hexdigest())
    except FileNotFoundError as error:
        raise ArtifactError(f"{folder} holds no {MANIFEST}; copy the whole artifact folder.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{folder / MANIFEST} is malformed: {error!r}.") from error
    for file, expected in manifest.files.items():
        if file_sha256(folder / file) != expected:
            raise ArtifactError(
                f"{folder / file} does not match its SHA-256 in the manifest; copy the artifact again."
            )
    return manifest


def _parse(folder: Path, document: dict[str, Any], sha256: str) -> Manifest:
    if document["kind"] not in ("text", "image"):
        raise ValueError(f"unknown kind {document['kind']!r}")
    return Manifest(
        name=document["name"],
        version=document["version"],
        kind=document["kind"],
        folder=folder,
        files=dict(document["files"]),
        outputs=tuple(
            Output(o["category"], o["head"], float(o["scale"]), float(o["shift"]))
            for o in document["outputs"]
        ),
        input=dict(document["input"]),
        golden=tuple(document.get("golden", ())),
        document=document,
        sha256=sha256,
    )


def shipped(root: Path = ARTIFACTS) -> list[Manifest]:
    """Every artifact under `root`, verified, ordered by name and version.

    Raises:
        ArtifactError: one of them fails `load`.
    """
    return [load(manifest.parent) for manifest in sorted(root.glob(f"*/*/{MANIFEST}"))]


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file.

    Raises:
        ArtifactError: the file can't be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactError(f"{path} can't be read ({error.strerror}); copy the artifact again.") from error


def write_manifest(folder: Path, document: Mapping[str, Any], files: tuple[str, ...]) -> Manifest:
    """Write `manifest.json` into `folder`, last of all, with the SHA-256 of `files`, and load it back."""
    full = {**document, "files": {name: file_sha256(folder / name) for name in files}}
    (folder / MANIFEST).write_text(json.dumps(full, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return load(folder)
