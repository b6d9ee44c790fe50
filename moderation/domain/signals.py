"""What detectors say: calibrated scores per category, and whether the detector could speak at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Category(StrEnum):
    """The taxonomy of violations. A detector may give further signals (toxicity, profanity)."""

    HARASSMENT = "harassment"
    HATE = "hate"
    THREAT = "threat"
    SEXUAL = "sexual"
    SEXUAL_MINORS = "sexual_minors"
    SELF_HARM = "self_harm"
    VIOLENCE = "violence"
    FRAUD = "fraud"
    SPAM = "spam"
    MISINFORMATION = "misinformation"
    ILLEGAL_GOODS = "illegal_goods"
    UNDERAGE = "underage"


class DetectorStatus(StrEnum):
    """ok: it spoke. failed: it should have and could not. skipped: there was nothing for it to look at."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


class BankAction(StrEnum):
    """What a match with a bank asks for; `label` only adds a signal."""

    REMOVE = "remove"
    LIMIT = "limit"
    REVIEW = "review"
    LABEL = "label"


@dataclass(frozen=True, slots=True)
class Signal:
    """What one detector found in one part.

    `scores` maps category to calibrated probability; `evidence` holds numbers, names and ids, never content.
    """

    part: str
    detector: str
    version: str
    status: DetectorStatus
    scores: Mapping[str, float] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Match:
    """A part equals an entry of a bank."""

    part: str
    bank: str
    entry: str
    category: str
    action: BankAction
    verified: bool
    allow: bool = False
