"""Model artifacts on disk: what a manifest says, and proof that the files are the ones it names.

An artifact is a folder `NAME/VERSION/` holding ONNX files, whatever they need (a tokenizer), a
`MODEL_CARD.md` and a `manifest.json` that is written last, so that a half-copied folder is never
mistaken for a model. A manifest holds the SHA-256 of every file, so its own SHA-256 is the address of the
whole content. Which version is *champion* is a database row and none of this module's business.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal, get_args

ARTIFACTS = Path(__file__).parent / "artifacts"
MANIFEST = "manifest.json"
CARD = "MODEL_CARD.md"

Kind = Literal["text", "image", "embedding", "backbone", "head", "text-head", "reader"]
KINDS: tuple[Kind, ...] = ("text", "image", "embedding", "backbone", "head", "text-head")
"""Kinds whose champion is chosen and followed. A reader belongs to the release, as does the code around it."""
SILENT: frozenset[Kind] = frozenset({"embedding", "backbone", "reader"})
"""Kinds that say nothing of any category: what is alike, or what stands there."""
# Names of folders and files, and parts of addresses: nothing that leads elsewhere.
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


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
    """What a model is: identity, files by SHA-256, outputs, and how its input is prepared.

    An embedding, a backbone and a reader have no outputs: they say nothing of any category.
    """

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


def read(folder: Path) -> Manifest:
    """The manifest in `folder` as it stands, without a look at the files it names.

    Raises:
        ArtifactError: no manifest, or a malformed one.
    """
    try:
        raw = (folder / MANIFEST).read_bytes()
        return _parse(folder, json.loads(raw), hashlib.sha256(raw).hexdigest())
    except FileNotFoundError as error:
        raise ArtifactError(f"{folder} holds no {MANIFEST}; copy the whole artifact folder.") from error
    except OSError as error:
        raise ArtifactError(f"{folder / MANIFEST} can't be read ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{folder / MANIFEST} is malformed: {error!r}.") from error


def load(folder: Path) -> Manifest:
    """Read and verify the artifact in `folder`.

    Raises:
        ArtifactError: no manifest, a malformed one, or a file whose SHA-256 is not the one it names.
    """
    manifest = read(folder)
    for file, expected in manifest.files.items():
        if file_sha256(folder / file) != expected:
            raise ArtifactError(
                f"{folder / file} does not match its SHA-256 in the manifest; copy the artifact again."
            )
    return manifest


def _parse(folder: Path, document: dict[str, Any], sha256: str) -> Manifest:
    if document["kind"] not in get_args(Kind):
        raise ValueError(f"unknown kind {document['kind']!r}")
    if not NAME.fullmatch(document["name"]) or not VERSION.fullmatch(document["version"]):
        raise ValueError("a name is lower-case letters, digits and hyphens; a version may have dots too")
    odd = [file for file in document["files"] if not FILE.fullmatch(file) or file == MANIFEST]
    if odd:
        raise ValueError(f"{odd[0]!r} is no name of a file beside the manifest")
    outputs = document.get("outputs", ()) if document["kind"] in SILENT else document["outputs"]
    return Manifest(
        name=document["name"],
        version=document["version"],
        kind=document["kind"],
        folder=folder,
        files=dict(document["files"]),
        outputs=tuple(
            Output(o["category"], o["head"], float(o["scale"]), float(o["shift"])) for o in outputs
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


def install(manifest: Manifest, root: Path) -> Manifest:
    """Copy a verified artifact to `root/NAME/VERSION`, whole or not at all, and verify the copy.

    What is there already under this version stays if it is the same, and is replaced if it is no whole artifact.

    Raises:
        ArtifactError: another artifact lies there under this version, or the folder can't be written.
    """
    target = root / manifest.name / manifest.version
    if (target / MANIFEST).exists():
        try:
            there = load(target)
        except ArtifactError:
            there = None
        if there is not None and there.sha256 == manifest.sha256:
            return there
        if there is not None:
            raise ArtifactError(
                f"There is another {manifest.name} {manifest.version} already; give yours a version of its own."
            )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(mkdtemp(prefix=".adding-", dir=target.parent))
        try:
            _copy(manifest, fresh)
            remove(target)
            fresh.rename(target)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise ArtifactError(f"{target} can't be written: {error.strerror}.") from error
    return load(target)


def remove(folder: Path) -> None:
    """Remove an artifact's folder, its manifest first: what is left of it is no model."""
    if folder.exists():
        (folder / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(folder)


def _copy(manifest: Manifest, folder: Path) -> None:
    """Every file and then the manifest, on the disk before the folder gets its name."""
    for file in (*sorted(manifest.files), MANIFEST):
        shutil.copyfile(manifest.folder / file, folder / file)
        with (folder / file).open("rb") as copied:
            os.fsync(copied.fileno())
    # The processes of a service may run as several users; there is no secret in a model.
    folder.chmod(0o755)


def newest(versions: list[str]) -> str:
    """The highest of several versions: numbers in them count as numbers."""
    return max(versions, key=_order)


def _order(version: str) -> tuple[tuple[int, int, str], ...]:
    return tuple(
        (1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"[._-]", version)
    )


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
