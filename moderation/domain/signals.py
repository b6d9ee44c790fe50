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


class BankKind(StrEnum):
    """What a bank holds."""

    IMAGE = "image"
    TEXT = "text"
    TERM = "term"
    LINK = "link"
    CLAIM = "claim"


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


class How(StrEnum):
    """By what a part and an entry of a bank belong together."""

    EQUAL = "equal"  # the same digest
    NEAR = "near"  # a text almost the same
    TERM = "term"
    PATTERN = "pattern"
    HOST = "host"  # a link to the entry's host, or to one under it
    URL = "url"  # a link that begins with the entry
    LOOKALIKE = "lookalike"  # a link to a host that is made to look like the entry's
    CONTACT = "contact"  # the telephone number or mail address
    CLAIM = "claim"  # a sentence that means nearly the same
    PICTURE = "picture"  # a picture whose hash lies within the bank's distance
    ALIKE = "alike"  # a picture that may be the same: people compare the two


@dataclass(frozen=True, slots=True)
class Match:
    """A part matches an entry of a bank.

    `score` is how near it is, in [0, 1], and `distance` the same of pictures, in bits of 256. `source` says whose
    list the entry is from, where it is not our own. One that is `quarantined` only asks people, verified or not.
    Only a `share` of the items is acted on; of one that is not among them the action is a label, and `would` says
    what it would have been.
    `start` and `end` say where in the text, in code points, where the find has a place; with `view` they are of
    that view of the text and not of the text itself.
    """

    part: str
    bank: str
    entry: str
    category: str
    action: BankAction
    verified: bool
    allow: bool = False
    how: How = How.EQUAL
    score: float = 1.0
    start: int | None = None
    end: int | None = None
    view: str = ""
    distance: int | None = None
    source: str | None = None
    quarantined: bool = False
    share: float = 1.0
    would: BankAction | None = None

    def labelled(self) -> dict[str, Any]:
        """What the evidence of a signal says of a match that only labels: numbers, names and ids."""
        said: dict[str, Any] = {
            "bank": self.bank,
            "entry": self.entry,
            "category": self.category,
            "how": str(self.how),
            "score": round(self.score, 4),
            "verified": self.verified,
        }
        if self.distance is not None:
            said["distance"] = self.distance
        if self.would is not None:
            said["would"] = str(self.would)
        return said

    @property
    def clears(self) -> bool:
        """Whether the whole part is harmless by this match: only by being known as a whole."""
        return self.allow and self.verified and not self.quarantined and self.how is How.EQUAL
