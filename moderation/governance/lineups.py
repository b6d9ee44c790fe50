"""Which models score a category: what a certificate is for, read back from what a decision keeps of its detectors.

A version's manifest says which categories it scores and how its output becomes a probability. That is kept beside
the version (`models.outputs`), so that nobody needs the files for it, and what was decided by a version that is
long gone can still be read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.plugins import PREFIX
from models.registry import Manifest
from moderation.domain import promises
from moderation.governance import signing
from moderation.storage.tables import ModelAlias, ModelRow

SERVING = ("champion", "canary")
"""Aliases whose versions decide."""
COMING = ("previous", "shadow")
"""Aliases whose versions may decide again, or soon: what is certified of them is kept."""

Name = tuple[str, str]
"""A version: (name, version)."""


@dataclass(frozen=True, slots=True)
class Described:
    """What is kept of a version: its manifest's digest, and of each category it scores that of the calibration.

    A head over a text model names that as its `base`: for items of its `clients` (of all, if it names none) its
    scores take the place of the base's.
    """

    manifest_sha256: str
    categories: Mapping[str, str]
    base: str | None = None
    clients: tuple[str, ...] = ()


Known = Mapping[Name, Described]
"""Every version this installation knows."""


def described(manifest: Manifest) -> dict[str, Any]:
    """What is kept of a manifest beside its version (`models.outputs`)."""
    categories = {
        output.category: hashlib.sha256(
            signing.canonical({"head": output.head, "scale": output.scale, "shift": output.shift})
        ).hexdigest()
        for output in manifest.outputs
    }
    found: dict[str, Any] = {"categories": categories}
    base = manifest.input.get("base")
    if isinstance(base, Mapping):
        found["base"] = str(base.get("name"))
        found["clients"] = sorted(map(str, manifest.input.get("clients", ())))
    return found


def known(session: Session) -> Known:
    """Every version with what it scores."""
    rows = session.execute(
        select(ModelRow.name, ModelRow.version, ModelRow.manifest_sha256, ModelRow.outputs)
    )
    return {
        (name, version): Described(
            sha256, outputs.get("categories", {}), outputs.get("base"), tuple(outputs.get("clients", ()))
        )
        for name, version, sha256, outputs in rows
    }


def scoring(known: Known, category: str, versions: Iterable[Name]) -> tuple[Name, ...]:
    """Those of `versions` that score a category. A plug-in has no manifest here, and counts for every one."""
    return tuple(
        one
        for one in versions
        if one[0].startswith(PREFIX) or (one in known and category in known[one].categories)
    )


def of(known: Known, category: str, detectors: Sequence[Mapping[str, str]]) -> str:
    """The lineup of a category, from the detectors that a decision keeps; empty if no model scores it."""
    versions = ((one["name"], one["version"]) for one in detectors)
    return promises.lineup(scoring(known, category, versions))


def of_models(category: str, asked: Iterable[Manifest]) -> str:
    """The lineup of a category, from the models that an item is put before: the same sentence as `of`."""
    return promises.lineup(
        (one.name, one.version) for one in asked if one.name.startswith(PREFIX) or category in one.categories
    )


@dataclass(slots=True)
class Reader:
    """`of`, remembering what it found: a period holds few combinations of detectors, and many decisions."""

    known: Known
    _found: dict[tuple[str, tuple[Name, ...]], str] = field(default_factory=dict)

    def of(self, category: str, versions: tuple[Name, ...]) -> str:
        """The lineup of a category, from (name, version) of a decision's detectors."""
        key = (category, versions)
        if key not in self._found:
            self._found[key] = promises.lineup(scoring(self.known, category, versions))
        return self._found[key]


def with_alias(session: Session, *aliases: str) -> set[Name]:
    """The versions that one of these aliases points to."""
    rows = session.execute(select(ModelAlias.name, ModelAlias.version).where(ModelAlias.alias.in_(aliases)))
    return {(name, version) for name, version in rows}


def serves(lineup: str, versions: Iterable[Name]) -> bool:
    """Whether each model of a lineup is one of `versions`. Plug-ins are always taken to be there."""
    there = {f"{name} {version}" for name, version in versions}
    return all(one in there or one.startswith(PREFIX) for one in lineup.split(", "))


def members(lineup: str) -> list[Name]:
    """The versions of a lineup, as (name, version)."""
    return [(name, version) for name, _, version in (one.partition(" ") for one in lineup.split(", "))]
