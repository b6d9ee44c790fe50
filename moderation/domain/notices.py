"""What an author is told of a decision, in their language: phrases to be filled with dates and the policy's words.

One file a language in `moderation/data/notices`; a phrase that is missing there fails when the file is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from moderation.domain.errors import InvalidInput

LANGUAGES = ("en", "de", "es", "fr", "it", "nl")
DEFAULT = "en"


@dataclass(frozen=True, slots=True)
class Phrases:
    """Everything a notice can say in one language."""

    name: str
    subject_removed: str
    subject_limited: str
    subject_lifted: str
    opening: str
    opening_decided: str
    removed: str
    limited: str
    limits: Mapping[str, str]
    measures: Mapping[str, str]
    until: str
    applies: str
    endless: str
    clause: str
    category: str
    unscreened: str
    law: str
    categories: Mapping[str, str]
    source_own: str
    source_report: str
    detected: str
    fully: str
    partially: str
    not_automated: str
    lifted: str
    appeal: str
    appeal_days: str
    final: str
    replaced: str
    over: str
    settlement: str
    court: str
    reference: str


@cache
def phrases(language: str) -> Phrases:
    """The phrases of a language that there is.

    Raises:
        InvalidInput: we have no phrases in it.
    """
    if language not in LANGUAGES:
        raise InvalidInput(f"Notices are there in {', '.join(LANGUAGES)}; choose one of these.")
    path = files("moderation").joinpath(f"data/notices/{language}.json")
    return Phrases(**json.loads(path.read_text(encoding="utf-8")))


def spoken(tag: str | None) -> str:
    """The language of a BCP 47 tag if notices are there in it, else English."""
    primary = (tag or "").split("-", 1)[0].lower()
    return primary if primary in LANGUAGES else DEFAULT
