"""Pictures to calibrated probabilities: one convolutional network, or several that are asked together.

Several are combined by the mean of their log-odds (a logarithmic pool, Genest and Zidek 1986), each calibrated by
itself and bounded before: where networks disagree the result lies in the middle, which is where people are asked,
and only agreement reaches the ends of the scale. The bound is what keeps one network that is very sure of
itself from deciding alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.preparation import RGB, Preparer, preparer, synthetic
from models.registry import ArtifactError, Manifest
from models.runtime import Scores, calibrate, open_session

__all__ = ["RGB", "ImageClassifier", "Member", "log_odds"]

Logits = NDArray[np.float32]
WHOLE = "model.onnx"
GOLDEN_LOG_ODDS = 0.1


@dataclass(frozen=True, slots=True)
class Member:
    """One network of a classifier, and what it says of each of the classifier's heads.

    `asked` holds per head the columns whose classes together are a yes, None where it says nothing of it. Its
    log-odds become `clip(scale * x + shift, -bound, bound)` before they are averaged with others'.
    """

    name: str
    session: ort.InferenceSession
    preparation: Preparer
    asked: tuple[tuple[int, ...] | None, ...]
    scale: float = 1.0
    shift: float = 0.0
    bound: float = inf

    def raw(self, batch: Sequence[RGB]) -> Logits:
        """What the softmax would be of, (n, classes)."""
        (found,) = self.session.run(
            ["logits"], {"pictures": np.stack([self.preparation(rgb) for rgb in batch])}
        )
        return np.asarray(found, dtype=np.float32)

    def log_odds(self, batch: Sequence[RGB]) -> Logits:
        """Per head its own log-odds, before any calibration; NaN where it says nothing. (n, heads)."""
        raw = self.raw(batch)
        columns = [
            np.full(len(raw), np.nan, np.float32) if asked is None else odds_of(raw, asked)
            for asked in self.asked
        ]
        return np.stack(columns, axis=1)

    def said(self, batch: Sequence[RGB]) -> Logits:
        """Per head its calibrated and bounded log-odds, (n, heads)."""
        odds = self.log_odds(batch) * np.float32(self.scale) + np.float32(self.shift)
        found: Logits = np.clip(odds, -self.bound, self.bound)
        return found


class ImageClassifier:
    """An image artifact, loaded: `models.runtime.Classifier[RGB]`. Keeps and logs no picture."""

    def __init__(self, manifest: Manifest, threads: int = 1) -> None:
        """Load the artifact's networks.

        Raises:
            ArtifactError: the manifest is not of an image model, or asks for what this class doesn't do.
        """
        if manifest.kind != "image":
            raise ArtifactError(f"{manifest.name} {manifest.version} is no image model.")
        heads = list(manifest.input.get("heads", ()))
        missing = [output.head for output in manifest.outputs if output.head not in heads]
        if missing:
            raise ArtifactError(f"{manifest.name} {manifest.version} names unknown heads {missing}.")
        self._manifest = manifest
        self._columns = [heads.index(output.head) for output in manifest.outputs]
        self._heads = len(heads)
        self._batch = max(1, int(manifest.input.get("batch", 1)))
        self.members = tuple(_members(manifest, heads, threads))

    @property
    def manifest(self) -> Manifest:
        return self._manifest

    def score(self, batch: Sequence[RGB]) -> Scores:
        """Probabilities of shape (len(batch), len(manifest.outputs)) for uint8 arrays (height, width, 3)."""
        return calibrate(self.logits(batch)[:, self._columns], self._manifest.outputs)

    def logits(self, batch: Sequence[RGB]) -> Logits:
        """Per head the mean of the members' log-odds, shape (len(batch), heads), in the manifest's order."""
        found = [np.empty((0, self._heads), np.float32)]
        for start in range(0, len(batch), self._batch):
            part = batch[start : start + self._batch]
            said = np.stack([member.said(part) for member in self.members])
            # One that failed is not one that says nothing: its NaN must not be passed over.
            speaks = np.array([[one is not None for one in member.asked] for member in self.members])
            found.append(np.where(speaks[:, None], said, 0).sum(axis=0) / speaks.sum(axis=0))
        return np.concatenate(found).astype(np.float32)

    def check_members(self) -> None:
        """Compare each network's own log-odds with the golden entries: bounds and means hide what moves them.

        Raises:
            ArtifactError: one is off by more than 0.1.
        """
        entries = [entry for entry in self._manifest.golden if "log_odds" in entry]
        for member in self.members if entries else ():
            expected = np.array([entry["log_odds"][member.name] for entry in entries])
            found = member.log_odds([self.golden_input(entry) for entry in entries])
            worst = float(np.nanmax(np.abs(found - expected)))
            if not worst <= GOLDEN_LOG_ODDS:
                raise ArtifactError(
                    f"{self._manifest.name} {self._manifest.version}: {member.name} is off by {worst:.3f} on its "
                    "golden inputs; the processor or the runtime computes something else than where it was made."
                )

    def golden_input(self, entry: Mapping[str, Any]) -> RGB:
        """The picture that one of the manifest's golden vectors speaks of."""
        return synthetic(**entry["input"])


def _members(manifest: Manifest, heads: Sequence[str], threads: int) -> list[Member]:
    """The networks of a manifest: its `members`, or the one that its `input` itself describes.

    Raises:
        ArtifactError: one is malformed, or no member says anything of a head.
    """
    described = manifest.input.get("members")
    try:
        if described is None:
            alone = tuple((column,) for column in range(len(heads)))
            session = open_session(manifest.path(WHOLE), threads)
            return [Member(manifest.name, session, preparer(manifest.input), alone)]
        found = [_member(manifest, heads, one, threads) for one in described]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"{manifest.name} {manifest.version}: its members are malformed: {error!r}."
        ) from error
    silent = [head for i, head in enumerate(heads) if all(member.asked[i] is None for member in found)]
    if silent or not heads:
        raise ArtifactError(f"{manifest.name} {manifest.version}: no member says anything of {silent}.")
    return found


def _member(manifest: Manifest, heads: Sequence[str], one: Mapping[str, Any], threads: int) -> Member:
    classes = list(one["classes"])
    asked = tuple(
        tuple(classes.index(name) for name in one["asked"][head]) if head in one["asked"] else None
        for head in heads
    )
    session = open_session(manifest.path(one["file"]), threads)
    calibration = (float(one[key]) for key in ("scale", "shift", "bound"))
    return Member(str(one["name"]), session, preparer(one), asked, *calibration)


def log_odds(raw: Logits) -> Logits:
    """log(p / (1 - p)) of each class of a softmax, straight from its inputs; (n, classes) both."""
    return np.stack([odds_of(raw, (column,)) for column in range(raw.shape[1])], axis=1)


def odds_of(raw: Logits, columns: Sequence[int]) -> Logits:
    """The log-odds of some classes of a softmax together against all others, from its inputs; (n,).

    Going through p would lose everything beyond seven digits next to 0 and 1.
    """
    chosen = list(columns)
    others = np.delete(raw, chosen, axis=1)
    found: Logits = np.logaddexp.reduce(raw[:, chosen], axis=1) - np.logaddexp.reduce(others, axis=1)
    return found
