"""Which language a text is in, identified offline; `und` (undetermined, ISO 639-2) where it is too short to tell.

By `py3langid` (Lui and Baldwin, "langid.py: An Off-the-shelf Language Identification Tool", 2012): naive Bayes over
byte n-grams. Scripts of one language are told by themselves. The model takes a second to load and 90 MB, so it
is loaded with the first text that needs it, once a process.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

UNDETERMINED = "und"
FEWEST_LETTERS = 16
"""Letters below which an alphabet shared by many languages tells nothing; of a script of one language, 2."""
SURE = 0.5
"""The probability below which nothing is said. The identifier's own, measured in tests/unit/test_language.py."""
LONGEST = 2_000
"""Code points that are looked at: more make no difference but time."""


@dataclass(frozen=True, slots=True)
class Language:
    """An ISO 639-1 code, or `und`, and how probable it is."""

    code: str
    probability: float


_NOTHING = Language(UNDETERMINED, 0.0)
_NOISE = re.compile(r"(?:[A-Za-z]+://|www\.)\S+|[@#]\w+|\S+@\S+\.\w+|[\d_]+")
_LETTER = re.compile(r"[^\W\d_]")
_OWN_SCRIPT = (
    ("ko", re.compile("[\uac00-\ud7a3\u1100-\u11ff]")),
    ("ja", re.compile("[\u3041-\u30ff]")),
    ("th", re.compile("[\u0e01-\u0e3a\u0e40-\u0e4e]")),
    ("el", re.compile("[\u0370-\u03ff\u1f00-\u1fff]")),
    ("he", re.compile("[\u05d0-\u05ea]")),
    ("hy", re.compile("[\u0531-\u0587]")),
    ("ka", re.compile("[\u10a0-\u10ff]")),
    ("km", re.compile("[\u1780-\u17b3]")),
    ("lo", re.compile("[\u0e81-\u0edf]")),
    ("ta", re.compile("[\u0b82-\u0bcd]")),
    ("te", re.compile("[\u0c01-\u0c4d]")),
    ("zh", re.compile("[\u3400-\u9fff]")),
)


def identify(text: str) -> Language:
    """The language that most of `text` is in; links, names and tags in it are not counted."""
    said = _NOISE.sub(" ", text[:LONGEST])
    letters = len(_LETTER.findall(said))
    if letters < 2:
        return _NOTHING
    if not said.isascii():
        for code, script in _OWN_SCRIPT:
            # Japanese is written with Chinese characters too: a fifth of kana is enough, and asked first.
            if len(script.findall(said)) * (5 if code == "ja" else 2) > letters:
                return Language(code, 1.0)
    if letters < FEWEST_LETTERS:
        return _NOTHING
    code, probability = _identifier().classify(said)
    return Language(str(code), float(probability)) if probability >= SURE else _NOTHING


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # brings its model with it

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
