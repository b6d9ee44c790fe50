"""What serves in one process: loaded classifiers that can be exchanged between two batches.

A batch takes `Serving.current()` once and keeps it to its end, so no batch mixes versions. A version is loaded and
checked beside the one that serves and takes its place by one assignment; the one before stays loaded, so that to
go back costs nothing. What does not load or computes something else is refused, and the old one serves on.
A head serves only beside the version of the backbone or of the text model that it was fitted on.

Beside the champions two more may stand under a name: a shadow, which scores and decides nothing, and a canary,
which judges its share of the items in the champion's place. Each costs the memory of one model until it ends.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from models.backbone import ImageEmbedder
from models.heads import ImageHead
from models.image import RGB, ImageClassifier
from models.registry import KINDS, ArtifactError, Kind, Manifest, load
from models.runtime import Classifier, Embedder, Encoder, check_golden
from models.text import Headed, TextClassifier, TextEmbedder
from models.text_heads import TextHead

CHAMPION, SHADOW, CANARY = "champion", "shadow", "canary"
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
Pair = tuple[Wanted, Loaded]
Place = tuple[str, str]
"""An alias and a name."""
HEADS: frozenset[Kind] = frozenset({"head", "text-head"})
"""Kinds that are asked over what another model made of the input, and belong to one version of it."""
HEAD_TYPES = (ImageHead, TextHead)
BASE_TYPES = (ImageEmbedder, TextClassifier)


@dataclass(frozen=True, slots=True)
class Served:
    """What serves at one moment. It never changes: another moment has another one."""

    text: Sequence[TextClassifier] = ()
    image: Sequence[Classifier[RGB]] = ()
    embedding: Sequence[Embedder] = ()
    backbone: Sequence[ImageEmbedder] = ()
    head: Sequence[ImageHead] = ()
    text_head: Sequence[TextHead] = ()

    @property
    def manifests(self) -> list[Manifest]:
        """Of everything that serves, by kind and name."""
        first: list[Loaded] = [*self.text, *self.image, *self.embedding, *self.backbone]
        return [loaded.manifest for loaded in (*first, *self.head, *self.text_head)]

    @property
    def of_texts(self) -> list[Classifier[str]]:
        """Whatever gives scores of texts, each to be asked alone: text models, and heads beside their base."""
        headed = [
            Headed(base, head) for head in self.text_head for base in self.text if base.maker == head.maker
        ]
        return [*self.text, *headed]


@dataclass(frozen=True, slots=True)
class Trials:
    """What is tried beside the champions: a shadow decides nothing, a canary judges its share of the items."""

    shadow: Served = field(default_factory=Served)
    canary: Served = field(default_factory=Served)
    shares: Mapping[str, float] = field(default_factory=dict)  # of canaries, by name


@dataclass(frozen=True, slots=True)
class Line:
    """Everything that is asked at one moment."""

    champions: Served = field(default_factory=Served)
    trials: Trials = field(default_factory=Trials)


@dataclass(frozen=True, slots=True)
class Change:
    """What came of wanting another version: it serves now, or why it was refused."""

    wanted: Wanted
    before: str | None
    refused: str = ""
    alias: str = CHAMPION


def in_share(item: UUID, share: float) -> bool:
    """Whether a canary with this share judges an item: by a hash of its id, the same for everybody and for ever.

    A larger share judges all that a smaller one does, and more.
    """
    return int.from_bytes(hashlib.sha256(item.bytes).digest()[:8], "big") < share * 2**64


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
    "text-head": TextHead,
}


@dataclass(slots=True)
class Serving:
    """The versions that serve in this process. `follow` is for one thread, `current` and `line` for any."""

    threads: int = 1
    _line: Line = field(default_factory=Line)
    _kept: dict[str, list[Pair]] = field(default_factory=dict)  # by name, newest use first
    _tried: dict[str, dict[str, Pair]] = field(default_factory=lambda: {SHADOW: {}, CANARY: {}})
    _refused: dict[Place, Wanted] = field(default_factory=dict)
    _beside: dict[Place, frozenset[str]] = field(
        default_factory=dict
    )  # by head: beside what it was last judged

    def __post_init__(self) -> None:
        # The tokenizer's own pool: as many threads as a model has, none beside the one where that is a single one.
        # Read when the pool is made, with the first batch that is large enough for it.
        os.environ["RAYON_NUM_THREADS"] = str(self.threads)
        os.environ["TOKENIZERS_PARALLELISM"] = "true" if self.threads > 1 else "false"

    def current(self) -> Served:
        """What serves now; take it once a batch."""
        return self._line.champions

    def line(self) -> Line:
        """What serves now and what is tried beside it; take it once a batch."""
        return self._line

    def follow(
        self,
        wanted: Iterable[Wanted],
        shadow: Iterable[Wanted] = (),
        canary: Iterable[Wanted] = (),
        shares: Mapping[str, float] | None = None,
    ) -> list[Change]:
        """Have exactly `wanted` serve, loading what is not loaded yet; what changed, and what was refused.

        Where a version is refused, the one of this name that serves goes on; it is not tried again before
        something else is wanted. A name that is not wanted any more serves no longer. `shadow` and `canary` are
        tried beside them, canaries on their `shares`; one of these that is refused is simply not tried.
        """
        named = {one.name: one for one in wanted}
        changes = []
        for name in {*self._kept, *self._names_refused(CHAMPION)} - set(named):
            self._kept.pop(name, None)
            self._refused.pop((CHAMPION, name), None)
        for one in _bases_first(named.values()):
            if one.kind in HEADS:
                self._let_go(one)
            if (change := self._take(one)) is not None:
                changes.append(change)
        for alias, those in ((SHADOW, shadow), (CANARY, canary)):
            changes += self._try_all(alias, those)
        shadows, canaries = (
            _arranged(pair for _, pair in sorted(self._tried[alias].items())) for alias in (SHADOW, CANARY)
        )
        champions = _arranged(pairs[0] for _, pairs in sorted(self._kept.items()))
        line = Line(champions, Trials(shadows, canaries, dict(shares or {})))
        if line != self._line:
            self._line = line
        return changes

    def _take(self, wanted: Wanted) -> Change | None:
        """Put a version first among those of its name; None if it is, or was refused before."""
        kept, place = self._kept.get(wanted.name, []), (CHAMPION, wanted.name)
        before = kept[0][0].version if kept else None
        if kept and kept[0][0] == wanted:
            self._refused.pop(place, None)
            return None
        if self._refused.get(place) == wanted:
            return None
        try:
            found = self._loaded(CHAMPION, wanted)
        except ArtifactError as error:
            self._refused[place] = wanted
            return Change(wanted, before, str(error))
        self._refused.pop(place, None)
        self._kept[wanted.name] = [found, *(pair for pair in kept if pair[0] != wanted)][:KEPT]
        return Change(wanted, before)

    def _try_all(self, alias: str, wanted: Iterable[Wanted]) -> list[Change]:
        """Have exactly `wanted` tried under this alias."""
        tried, named = self._tried[alias], {one.name: one for one in wanted}
        for name in {*tried, *self._names_refused(alias)} - set(named):
            tried.pop(name, None)
            self._refused.pop((alias, name), None)
        changes = []
        for one in _bases_first(named.values()):
            place, before = (alias, one.name), tried.get(one.name)
            if one.kind in HEADS:
                self._judged_anew(place, before)
            if one.name in tried and tried[one.name][0] == one:
                continue
            tried.pop(one.name, None)
            if self._refused.get(place) == one:
                continue
            try:
                tried[one.name] = self._loaded(alias, one)
                self._refused.pop(place, None)
                changes.append(Change(one, before[0].version if before else None, alias=alias))
            except ArtifactError as error:
                self._refused[place] = one
                changes.append(Change(one, None, str(error), alias))
        return changes

    def _loaded(self, alias: str, wanted: Wanted) -> Pair:
        """A version, loaded now unless it is already, whatever it was loaded for.

        Raises:
            ArtifactError: it can't be loaded, or is a head whose base is not there.
        """
        there = [pair for pairs in self._kept.values() for pair in pairs]
        there += [pair for tried in self._tried.values() for pair in tried.values()]
        pair = next((pair for pair in there if pair[0] == wanted), None)
        pair = pair or (wanted, opened(verified(wanted), self.threads))
        if isinstance(pair[1], HEAD_TYPES):
            self._fitting(pair[1], alias)
        return pair

    def _fitting(self, head: ImageHead | TextHead, alias: str) -> None:
        """Refuse a head whose base does not serve.

        Raises:
            ArtifactError: it does not, or the head computes something else beside it.
        """
        base = next((one for one in self._bases(alias) if one.maker == head.maker), None)
        if base is None:
            belongs = "/".join(head.maker.split("/")[:2])
            raise ArtifactError(
                f"{head.manifest.name} {head.manifest.version} belongs to {belongs}, which does not serve here; "
                "fit it again on the one that does."
            )
        if isinstance(head, TextHead) and isinstance(base, TextClassifier):
            base.bears(head)

    def _bases(self, alias: str) -> list[ImageEmbedder | TextClassifier]:
        """The bases beside which a head may stand: champions, and what is tried under the same alias."""
        serving = [pairs[0][1] for pairs in self._kept.values()]
        if alias != CHAMPION:
            serving += [pair[1] for pair in self._tried[alias].values()]
        return [one for one in serving if isinstance(one, BASE_TYPES)]

    def _makers(self, alias: str) -> frozenset[str]:
        return frozenset(one.maker for one in self._bases(alias))

    def _let_go(self, wanted: Wanted) -> None:
        """Forget heads of this name whose base serves no longer, and refusals that may not hold any more."""
        makers, kept, place = self._makers(CHAMPION), self._kept.get(wanted.name, []), (CHAMPION, wanted.name)
        left = [pair for pair in kept if isinstance(pair[1], HEAD_TYPES) and pair[1].maker in makers]
        if left != kept:
            self._kept[wanted.name] = left
            self._refused.pop(place, None)
        if not left:
            self._kept.pop(wanted.name, None)
        if makers != self._beside.get(place):
            self._refused.pop(place, None)
        self._beside[place] = makers

    def _judged_anew(self, place: Place, tried: Pair | None) -> None:
        """The same of a head that is tried."""
        alias, name = place
        makers = self._makers(alias)
        if tried is not None and isinstance(tried[1], HEAD_TYPES) and tried[1].maker not in makers:
            self._tried[alias].pop(name)
        if makers != self._beside.get(place):
            self._refused.pop(place, None)
        self._beside[place] = makers

    def _names_refused(self, alias: str) -> set[str]:
        return {name for of, name in self._refused if of == alias}


def _bases_first(wanted: Iterable[Wanted]) -> list[Wanted]:
    """A head is taken or refused by what serves beside it."""
    return sorted(wanted, key=lambda one: one.kind in HEADS)


def _arranged(serving: Iterable[Pair]) -> Served:
    by_kind: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for wanted, loaded in serving:
        by_kind[wanted.kind].append(loaded)
    return Served(**{kind.replace("-", "_"): tuple(loaded) for kind, loaded in by_kind.items()})
