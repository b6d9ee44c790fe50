"""What serves in one process: loaded classifiers that can be exchanged between two batches.

A batch takes `Serving.current()` once and keeps it to its end, so no batch mixes versions. A version is loaded and
checked beside the one that serves and takes its place by one assignment; the one before stays loaded, so that to
go back costs nothing. What does not load or computes something else is refused, and the old one serves on.
A head serves only beside the version of the backbone that it was fitted on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.backbone import ImageEmbedder
from models.heads import ImageHead
from models.image import RGB, ImageClassifier
from models.registry import KINDS, ArtifactError, Kind, Manifest, load
from models.runtime import Classifier, Embedder, Encoder, check_golden
from models.text import TextClassifier, TextEmbedder

KEPT = 2  # of each name: the one that serves and the one before


@dataclass(frozen=True, slots=True)
class Wanted:
    """A version that is to serve: where it lies, and the SHA-256 its manifest had when it was added."""

    name: str
    version: str
    kind: Kind
    folder: Path
    sha256: str


Loaded = Classifier[Any] | Encoder[Any]


@dataclass(frozen=True, slots=True)
class Served:
    """What serves at one moment. It never changes: another moment has another one."""

    text: Sequence[TextClassifier] = ()
    image: Sequence[Classifier[RGB]] = ()
    embedding: Sequence[Embedder] = ()
    backbone: Sequence[ImageEmbedder] = ()
    head: Sequence[ImageHead] = ()

    @property
    def manifests(self) -> list[Manifest]:
        """Of everything that serves, by name."""
        serving: list[Loaded] = [*self.text, *self.image, *self.embedding, *self.backbone, *self.head]
        return [loaded.manifest for loaded in serving]


@dataclass(frozen=True, slots=True)
class Change:
    """What came of wanting another version: it serves now, or why it was refused."""

    wanted: Wanted
    before: str | None
    refused: str = ""


def verified(wanted: Wanted) -> Manifest:
    """The manifest in the folder, if it is the one that was added.

    Raises:
        ArtifactError: it is missing, damaged, or another one lies there now.
    """
    manifest = load(wanted.folder)
    if manifest.sha256 != wanted.sha256:
        raise ArtifactError(
            f"{wanted.name} {wanted.version} is not the one that was added here; add a change as a new version."
        )
    return manifest


def opened(manifest: Manifest, threads: int) -> Loaded:
    """The model of an artifact, loaded, and checked by its golden inputs.

    Raises:
        ArtifactError: it does not load, or computes something else here than where it was made.
    """
    if manifest.kind not in _KINDS:
        raise ArtifactError(f"A {manifest.kind} comes with a release and can't be exchanged by itself.")
    try:
        loaded = _KINDS[manifest.kind](manifest, threads)
        check_golden(loaded)
    except ArtifactError:
        raise
    except Exception as error:
        # ONNX Runtime and the tokenizer raise errors of their own for what they can't read or run.
        raise ArtifactError(
            f"{manifest.name} {manifest.version} does not load ({type(error).__name__}); export it again."
        ) from error
    return loaded


_KINDS: Mapping[Kind, Callable[[Manifest, int], Loaded]] = {
    "text": TextClassifier,
    "image": ImageClassifier,
    "embedding": TextEmbedder,
    "backbone": ImageEmbedder,
    "head": ImageHead,
}


@dataclass(slots=True)
class Serving:
    """The versions that serve in this process. `follow` is for one thread, `current` for any."""

    threads: int = 1
    _served: Served = field(default_factory=Served)
    _kept: dict[str, list[tuple[Wanted, Loaded]]] = field(default_factory=dict)  # by name, newest use first
    _refused: dict[str, Wanted] = field(default_factory=dict)
    _beside: dict[str, set[str]] = field(
        default_factory=dict
    )  # by head, the backbones it was last judged beside

    def __post_init__(self) -> None:
        # The tokenizer's own pool: as many threads as a model has, none beside the one where that is a single one.
        # Read when the pool is made, with the first batch that is large enough for it.
        os.environ["RAYON_NUM_THREADS"] = str(self.threads)
        os.environ["TOKENIZERS_PARALLELISM"] = "true" if self.threads > 1 else "false"

    def current(self) -> Served:
        """What serves now; take it once a batch."""
        return self._served

    def follow(self, wanted: Iterable[Wanted]) -> list[Change]:
        """Have exactly `wanted` serve, loading what is not loaded yet; what changed, and what was refused.

        Where a version is refused, the one of this name that serves goes on; it is not tried again before
        something else is wanted. A name that is not wanted any more serves no longer.
        """
        named = {one.name: one for one in wanted}
        # Backbones first: a head is taken or refused by what serves beside it.
        ordered = sorted(named.values(), key=lambda one: one.kind == "head")
        changes = []
        for name in (set(self._kept) | set(self._refused)) - set(named):
            self._kept.pop(name, None)
            self._refused.pop(name, None)
        for one in ordered:
            if one.kind == "head":
                self._let_go(one)
            if (change := self._take(one)) is not None:
                changes.append(change)
        served = self._arranged()
        if served != self._served:
            self._served = served
        return changes

    def _take(self, wanted: Wanted) -> Change | None:
        """Put a version first among those of its name; None if it is, or was refused before."""
        kept = self._kept.get(wanted.name, [])
        before = kept[0][0].version if kept else None
        if kept and kept[0][0] == wanted:
            self._refused.pop(wanted.name, None)
            return None
        if self._refused.get(wanted.name) == wanted:
            return None
        found = next((pair for pair in kept if pair[0] == wanted), None)
        if found is None:
            try:
                found = (wanted, opened(verified(wanted), self.threads))
                self._fitting(found[1])
            except ArtifactError as error:
                self._refused[wanted.name] = wanted
                return Change(wanted, before, str(error))
        self._refused.pop(wanted.name, None)
        self._kept[wanted.name] = [found, *(pair for pair in kept if pair is not found)][:KEPT]
        return Change(wanted, before)

    def _makers(self) -> set[str]:
        """The backbones that serve."""
        return {one.maker for pairs in self._kept.values() if isinstance(one := pairs[0][1], ImageEmbedder)}

    def _fitting(self, loaded: Loaded) -> None:
        """Refuse a head whose backbone does not serve.

        Raises:
            ArtifactError: it does not.
        """
        if isinstance(loaded, ImageHead) and loaded.maker not in self._makers():
            manifest = loaded.manifest
            raise ArtifactError(
                f"{manifest.name} {manifest.version} belongs to {loaded.maker}, which does not serve here; "
                "fit it again on the backbone that does."
            )

    def _let_go(self, wanted: Wanted) -> None:
        """Forget heads of this name whose backbone serves no longer, and refusals that may not hold any more."""
        makers, kept = self._makers(), self._kept.get(wanted.name, [])
        left = [pair for pair in kept if isinstance(pair[1], ImageHead) and pair[1].maker in makers]
        if left != kept:
            self._kept[wanted.name] = left
            self._refused.pop(wanted.name, None)
        if not left:
            self._kept.pop(wanted.name, None)
        if makers != self._beside.get(wanted.name):
            self._refused.pop(wanted.name, None)
        self._beside[wanted.name] = makers

    def _arranged(self) -> Served:
        serving = [self._kept[name][0] for name in sorted(self._kept)]
        by_kind: dict[str, list[Any]] = {kind: [] for kind in KINDS}
        for wanted, loaded in serving:
            by_kind[wanted.kind].append(loaded)
        return Served(**{kind: tuple(loaded) for kind, loaded in by_kind.items()})
