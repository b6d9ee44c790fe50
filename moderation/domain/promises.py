"""Promises in the vocabulary of everybody: sides, slices, strata, what is in force, and why it ends.

A promise is of one rule: "of the items this rule acted on by itself, at most so many are wrong". It is kept by a
certificate, which holds for one slice of languages and for exactly the models that were certified.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

EVERYTHING = "*"
"""The slice of all languages that the policy does not name."""


class Side(StrEnum):
    """What a rule does by itself: remove from a threshold on, or let pass below one."""

    REMOVE = "remove"
    ALLOW = "allow"


class Stratum(StrEnum):
    """From where a check is drawn: how near a threshold the scores lie, or that scores had no say."""

    FAR = "far"
    NEAR = "near"
    UNCERTAIN = "uncertain"  # people decide anyway; those drawn are shown no score
    OTHER = "other"  # a bank's entry or a failed detector decided


class Occasion(StrEnum):
    """What a certification was made for."""

    ASKED = "asked"  # somebody asked for it
    SCHEDULE = "schedule"
    PROMOTION = "promotion"  # another model serves
    POLICY = "policy"  # another policy is in force
    LEARNING = "learning"  # a candidate is certified before anybody proposes it


class Void(StrEnum):
    """Why a certificate ended before its time."""

    SCORES = "scores"  # the scores of what comes in are not those of the certified period
    PREVALENCE = "prevalence"  # what breaks the rule is rarer, or more frequent, than it was
    RISK = "risk"  # checks made since say that it errs more often than it may
    REPLACED = "replaced"  # a newer one of the same promise is in force
    POLICY = "policy"  # the policy that promised it is not in force any more
    MODEL = "model"  # what it was proved for does not serve any more
    PERSON = "person"  # somebody voided it


@dataclass(frozen=True, slots=True)
class CertificateRules:
    """What the policy says of how promises are proved.

    `confidence` is that none of the promises proved within a quarter is broken. It is divided evenly over
    `renewals` certifications, and each share over every promise, slice and lineup. `overlooked` is the share of
    what breaks a rule that a single blind check is taken to miss: the proof is made against that much less.
    `tolerance` is by how much, in proportion, traffic may differ from the certified period before that is drift.
    """

    confidence: float = 0.95
    renewals: int = 16
    every_days: float = 7
    valid_days: float = 35
    period_days: float = 60
    settle_hours: float = 72
    overlooked: float = 0.05
    tolerance: float = 0.5
    languages: tuple[str, ...] = ()

    def slice_of(self, language: str | None) -> str:
        """The slice of an item of this language (BCP 47, or None)."""
        primary = (language or "").split("-")[0].lower()
        return primary if primary in self.languages else EVERYTHING

    @property
    def slices(self) -> tuple[str, ...]:
        """Every slice, the rest last."""
        return (*self.languages, EVERYTHING)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate as routing needs it. `threshold`: remove from it on (>=), or let pass below it (<)."""

    id: UUID
    category: str
    side: Side
    slice: str
    lineup: str
    threshold: float
    allowed: float


def lineup(versions: Iterable[tuple[str, str]]) -> str:
    """The name of a set of models: those that score a category, as (name, version), in one canonical sentence."""
    return ", ".join(f"{name} {version}" for name, version in sorted(set(versions)))


@dataclass(frozen=True, slots=True)
class InForce:
    """The certificates that hold at one moment, one a promise."""

    certificates: Mapping[tuple[str, Side, str, str], Certificate] = field(default_factory=dict)

    @classmethod
    def of(cls, certificates: Iterable[Certificate]) -> InForce:
        """By promise; of two of the same promise the one that comes last holds."""
        return cls({(one.category, one.side, one.slice, one.lineup): one for one in certificates})

    def find(self, category: str, side: Side, slice_: str, lineup_: str) -> Certificate | None:
        """The certificate of a promise, if it has one."""
        return self.certificates.get((category, side, slice_, lineup_))
