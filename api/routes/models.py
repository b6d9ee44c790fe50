"""Models for programs of people: which versions there are, what each has shown, which serves."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel

from api.auth import services
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.governance import model_lists
from moderation.governance.model_lists import Version
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.database import transaction

router = APIRouter(prefix="/v1/models", tags=["models"])

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.MODEL_READ))]
Word = Annotated[str, Path(max_length=64)]


class GateOut(BaseModel):
    """One thing a version has to show."""

    name: str
    value: float | None
    limit: float | None
    passed: bool
    sentence: str
    waived: str | None = None


class MeasuredOut(BaseModel):
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float


class CategoryOut(BaseModel):
    """What was measured of one category on held-out rows."""

    name: str
    positives: int
    labelled: int
    auc: MeasuredOut | None
    ap: MeasuredOut | None
    ece: MeasuredOut | None


class VersionOut(BaseModel):
    """One version.

    `aliases` holds `champion` if it serves, `previous` if it did before, `canary` if it judges a `share` of the
    items, `shadow` if it scores and decides nothing.
    """

    name: str
    version: str
    kind: str
    origin: str
    added_at: datetime
    sha256: str
    aliases: list[str]
    share: float | None = None
    proposed: bool
    proposed_as: str | None = None
    trouble: str
    gates: list[GateOut]
    categories: list[CategoryOut]


@router.get("", response_model=list[VersionOut])
def list_versions(held: Held, me: Reader) -> list[VersionOut]:  # noqa: ARG001
    """Every version, those that serve first."""
    with transaction(held.databases.content) as session:
        return [_out(one) for one in model_lists.listing(session, held.settings.models)]


@router.get("/{name}/{version}", response_model=VersionOut)
def show_version(held: Held, me: Reader, name: Word, version: Word) -> VersionOut:  # noqa: ARG001
    """One version."""
    with transaction(held.databases.content) as session:
        return _out(model_lists.one(session, held.settings.models, name, version))


def _out(one: Version) -> VersionOut:
    return VersionOut.model_validate(
        {
            **{
                name: getattr(one, name)
                for name in ("name", "version", "kind", "origin", "added_at", "sha256")
            },
            "aliases": list(one.aliases),
            "share": one.share,
            "proposed": one.proposal is not None,
            "proposed_as": one.proposal.alias if one.proposal else None,
            "trouble": one.trouble or one.damage,
            "gates": [asdict(gate) for gate in one.gates],
            "categories": [asdict(row) for row in one.categories],
        }
    )
