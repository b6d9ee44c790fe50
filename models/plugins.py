"""Image classifiers of others, installed beside the service and asked only where a setting names them.

A package offers one under the entry point group `moderation.image_classifiers`: a callable without arguments that
gives an object with `version` (text), `categories` (names of categories) and `score(pictures)`, which answers
calibrated probabilities (n, categories) for uint8 arrays (height, width, 3). Its signals stand under the detector
`plugin-NAME`. What fails, in loading or in scoring, is a failed detector, and the policy says what follows:
whoever asked for it must not believe that it looked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from models.preparation import RGB
from models.registry import NAME, Manifest, Output
from models.runtime import Scores

GROUP = "moderation.image_classifiers"
PREFIX = "plugin-"
CATEGORY = re.compile(r"[a-z][a-z0-9_]{0,63}")


class PluginError(Exception):
    """A plug-in is not installed, or answers what can't be probabilities."""


class Offered(Protocol):
    """What a plug-in gives."""

    version: str
    categories: Sequence[str]

    def score(self, pictures: Sequence[RGB]) -> object: ...


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plug-in as a `models.runtime.Classifier[RGB]`. One that could not be loaded raises when it is asked."""

    manifest: Manifest
    offered: Offered | None
    trouble: str = ""

    def score(self, batch: Sequence[RGB]) -> Scores:
        """Probabilities of shape (len(batch), categories).

        Raises:
            PluginError: it could not be loaded, or answers something else.
        """
        if self.offered is None:
            raise PluginError(self.trouble)
        found = np.asarray(self.offered.score(batch), dtype=np.float64)
        if found.shape != (len(batch), len(self.manifest.outputs)):
            raise PluginError(f"{self.manifest.name} answered the shape {found.shape}.")
        if not ((found >= 0) & (found <= 1)).all():  # also where it is no number
            raise PluginError(f"{self.manifest.name} answered what is no probability.")
        return np.clip(found, 1e-6, 1 - 1e-6)


def load(names: Sequence[str]) -> tuple[Plugin, ...]:
    """The plug-ins of these names, in this order. One that can't be loaded is there too, and fails when asked."""
    offered = {found.name: found for found in entry_points(group=GROUP)}
    return tuple(_load(name, offered.get(name)) for name in dict.fromkeys(names))


def _load(name: str, found: EntryPoint | None) -> Plugin:
    try:
        if not NAME.fullmatch(name):
            raise PluginError(f"{name!r} is no name of a plug-in: lower-case letters, digits and hyphens.")
        if found is None:
            raise PluginError(f"No installed package offers {name!r} under {GROUP}.")
        made = cast("Callable[[], Offered]", found.load())()
        categories = tuple(map(str, made.categories))
        if not categories or not all(map(CATEGORY.fullmatch, categories)):
            raise PluginError(f"{name} names no categories, or malformed ones.")
        return Plugin(_manifest(name, str(made.version), categories), made)
    except Exception as error:  # noqa: BLE001 - whatever a stranger's package raises, it can't be asked
        said = (
            str(error)
            if isinstance(error, PluginError)
            else f"{type(error).__name__} while loading {name!r}."
        )
        return Plugin(_manifest(name, "none", ()), None, said)


def _manifest(name: str, version: str, categories: Sequence[str]) -> Manifest:
    """A manifest without files: it says who speaks, and of what."""
    return Manifest(
        name=f"{PREFIX}{name}",
        version=version,
        kind="image",
        folder=Path(),
        files={},
        outputs=tuple(Output(category, category, 1.0, 0.0) for category in categories),
        input={},
        golden=(),
        document={},
        sha256="",
    )
