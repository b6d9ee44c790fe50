"""Everyday sentences in ten scripts that no evasion finding and no view may turn into an alarm.

They hold what only looks like a trick: brands inside Cyrillic, units, addresses, hashtags, emoji families,
initials, inclusive spellings, joiners of Persian, full-width Japanese, decomposed accents.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from training.common import TrainingError

PATH = Path(__file__).with_name("clean.jsonl")
SCRIPTS = (
    "Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari", "Han", "Japanese", "Hangul", "Thai",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sentence:
    """`script` is one of `SCRIPTS`, `language` a BCP 47 tag."""

    script: str
    language: str
    text: str


def load(path: Path = PATH) -> tuple[Sentence, ...]:
    """The sentences, in the order of their file.

    Raises:
        TrainingError: a line is no sentence, names another script, or stands there twice.
    """
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        where = f"Line {number} of {path.name}"
        try:
            sentence = Sentence(**json.loads(line))
        except (TypeError, ValueError) as error:
            raise TrainingError(f"{where} is no sentence: give script, language and text.") from error
        if sentence.script not in SCRIPTS:
            raise TrainingError(
                f"{where} names a script that is none of ours: name one of {', '.join(SCRIPTS)}."
            )
        if not sentence.text.strip():
            raise TrainingError(f"{where} has no text: write one.")
        found.append(sentence)
    if len({sentence.text for sentence in found}) != len(found):
        raise TrainingError(f"{path.name} holds a text twice: leave one of them out.")
    return tuple(found)


def sentences() -> tuple[str, ...]:
    """The texts alone."""
    return tuple(sentence.text for sentence in load())
