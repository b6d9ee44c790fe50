"""Decisions: the outcome of an item as a record, by a machine or a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from moderation.domain.cases import CaseReason
from moderation.domain.routing import Routing


class DecidedBy(StrEnum):
    MACHINE = "machine"
    PERSON = "person"


@dataclass(frozen=True, slots=True)
class CaseDraft:
    """A case to be opened with a decision."""

    reason: CaseReason
    category: str | None
    severity: int
    probability: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What screening made of one item: the route, every signal behind it, and whether people are asked."""

    routing: Routing
    findings: tuple[Mapping[str, Any], ...]
    detectors: tuple[Mapping[str, str], ...]
    case: CaseDraft | None
