"""Views: what a text says to a reader where its letters say something else to a machine.

A text is never replaced. Where somebody has hidden words (letters of another script, invisible characters,
`h.a.t.e`, `id10t`), up to four further texts stand beside it, each a reading of all of it, and whoever scores or
matches takes them into account as well. Text without tricks has no view, whatever its script: what undoes a trick
in one language damages another, so letters are folded only in words that mix scripts, joiners are left where a
script needs them, and words are joined, cut and respelled only where the text is otherwise English.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from moderation.features import respelling, words
from moderation.features.confusables import BORDER, MIXED, SMALL_CAPITALS, STYLED, fold_word

LONGEST = 20_000
"""Code points that are looked at: the rest of a longer text stands in its views as it is."""


@dataclass(frozen=True, slots=True)
class View:
    """A reading of a text. `name` says how far it goes, `trick` which tricks it undoes, by commas.

    `letters`: characters alone. `words`: those and spellings. `reversed`: a whole text written backwards.
    """

    name: str
    text: str
    trick: str


@dataclass(frozen=True, slots=True)
class Reading:
    """The views of a text, and how often each trick was met in it."""

    views: tuple[View, ...]
    findings: Mapping[str, int]


NOTHING = Reading((), {})

_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2060-\u2064\u206a-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0"
)
_TAGS = "\U000e0000-\U000e007f"
# Between what needs no joiner: Arabic, Indic and Thai letters keep theirs, and so do emoji.
_BESIDE = "[!-~\u00a1-\u00ac\u00ae-\u034e\u0350-\u052f\U0001d400-\U0001d7ff\uff21-\uff5a]"
_HIDDEN = re.compile(rf"(?<={_BESIDE})[{_INVISIBLE}{_TAGS}]+(?={_BESIDE})")
_DIRECTED = re.compile("[\u202a-\u202e\u2066-\u2069]")
_OVERRIDE = re.compile("\u202e([^\u202c\u202d\n]*)[\u202c\u202d]?")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufefc]")
_MARK = "[\u0300-\u036f\u0488\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20df\u20e1\u20e4-\u20ff\ufe20-\ufe2f]"
_MARKS = re.compile(_MARK)
# Two on one letter that Unicode has no character for, one that strikes it out or encloses it, or a row of them.
_CLUTTER = re.compile(
    rf"(?<=[^\W\d_])(?:{_MARK}{{2,}}|[\u0332-\u0338\u0305\u20d0-\u20ff]|{_MARK}(?:[^\W\d_]{_MARK}){{2,}})"
)
_ACCENT = re.compile("[\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff]")
_BARRED = str.maketrans("øłđħŧØŁĐ", "oldhtOLD")
_WORD = re.compile("[a-z]+")
_ENGLISH = 0.75
"""The share of a text's words that must be English for its accents to be an ornament."""
_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]")
_FULL_WIDTH = range(0xFF01, 0xFF5F)
_SQUARED = ((0x1F130, 0x1F149), (0x1F150, 0x1F169), (0x1F170, 0x1F189))


def _styles() -> dict[str, str]:
    """Characters that are a plain letter or digit in another dress, with the plain one."""
    found = {letter: STYLED[letter] for letter in (*SMALL_CAPITALS, "ɑ", "ɡ", "ɩ")}
    # Superscripts of footnotes and ordinals (ª, º, ², ™) are what they are.
    blocks = ((0x02B0, 0x02E4), (0x1D2C, 0x1DBF), (0x2070, 0x209C), (0x2100, 0x214F), (0x2460, 0x24EA))
    for low, high in (*blocks, (0xFF21, 0xFF5A), (0x1D400, 0x1D7FF)):
        for code in range(low, high + 1):
            plain = unicodedata.normalize("NFKC", chr(code)).strip("()")
            if len(plain) == 1 and plain.isascii() and plain.isalpha():
                found[chr(code)] = plain
    for low, high in _SQUARED:
        found.update(
            {chr(code): chr(ord("A") + code - low) for code in range(low, high + 1) if code - low < 26}
        )
    return found


_STYLES = _styles()
_DRESSED = re.compile(
    "[\u0250-\u02e4\u1d00-\u1dbf\u2070-\u209c\u2100-\u214f\u2460-\u24ea\ua730\ua731\uff21-\uff5a\U0001d400-\U0001f189]"
)
"""What `_STYLED` has, and a little more: a few ranges are searched for a hundred times faster."""
_STYLED = re.compile(f"[{''.join(_STYLES)}]\ufe0f?")
_STYLED_RUN = re.compile(f"(?:[{''.join(_STYLES)}]\ufe0f?)(?:\\s?[{''.join(_STYLES)}A-Za-z]\ufe0f?)+")


def views(text: str) -> tuple[View, ...]:
    """The views of `text`, at most four, none equal to it or to another: none for most texts.

    Each is at most three times as long as `text`.
    """
    return read(text).views


def findings(text: str) -> Mapping[str, int]:
    """How often each trick was met in `text`, by its name: `{"leet": 2}`. Numbers only, nothing of the text."""
    return read(text).findings


def read(text: str) -> Reading:
    """Views and findings of `text`, found together."""
    head, tail = text[:LONGEST], text[LONGEST:]
    counts: Counter[str] = Counter()
    plain = head if head.isascii() else _letters(head, counts)
    made: list[View] = []
    if plain != head:
        made.append(View("letters", plain + tail, _names(counts)))
    respelled = respelling.respell(plain, counts)
    if respelled != plain:
        made.append(View("words", respelled + tail, _names(counts)))
    backwards = respelling.backwards(plain, counts)
    if backwards is not None:
        made.append(View("reversed", backwards + tail, "reversed"))
    if not made and not counts:
        return NOTHING
    kept: dict[str, View] = {}
    for view in made:
        if view.text != text:
            kept.setdefault(view.text, view)
    return Reading(tuple(kept.values()), dict(sorted(counts.items())))


def _names(counts: Mapping[str, int]) -> str:
    return ",".join(sorted(counts))


def _letters(text: str, counts: Counter[str]) -> str:
    """`text` with its characters as a reader takes them."""
    text = _counted(_OVERRIDE, _shown, text, "reversed", counts)
    text = _counted(_HIDDEN, "", text, "invisible", counts)
    if _DIRECTED.search(text) and not _RIGHT_TO_LEFT.search(text):
        text = _counted(_DIRECTED, "", text, "direction", counts)
    if _MARKS.search(text):
        text = _without_clutter(text, counts)
    if _ACCENT.search(text):
        text = _without_accents(text, counts)
    if _DRESSED.search(text):
        text = _plain_style(text, counts)
    return MIXED.sub(lambda found: _folded(found[0], counts), text) if BORDER.search(text) else text


def _counted(
    pattern: re.Pattern[str],
    new: str | Callable[[re.Match[str]], str],
    text: str,
    trick: str,
    counts: Counter[str],
) -> str:
    text, number = pattern.subn(new, text)
    if number:
        counts[trick] += number
    return text


def _without_clutter(text: str, counts: Counter[str]) -> str:
    composed = unicodedata.normalize("NFC", text)
    found = len(_CLUTTER.findall(composed))
    if not found:
        return text
    counts["marks"] += found
    return unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFD", text)))


def _without_accents(text: str, counts: Counter[str]) -> str:
    """`text` without accents, if they stand on words that are otherwise plain English, and two or more do."""
    bare = unicodedata.normalize("NFD", text).translate(_BARRED)
    bare = unicodedata.normalize("NFC", _MARKS.sub("", bare))
    accents = len(_ACCENT.findall(text))
    said = _WORD.findall(bare.lower())
    if accents < 2 or sum(map(words.stands, said)) < _ENGLISH * len(said):
        return text
    counts["accents"] += accents
    return bare


def _plain_style(text: str, counts: Counter[str]) -> str:
    """`text` with styled letters plain where two or more stand together; full-width ones belong to CJK text."""
    wide = _CJK.search(text) is not None

    def plain(found: re.Match[str]) -> str:
        run = found[0]
        if wide and all(ord(character) in _FULL_WIDTH for character in run if not character.isspace()):
            return run
        counts["styled"] += 1
        return "".join(_STYLES.get(character, character) for character in run if character != "\ufe0f")

    return _STYLED_RUN.sub(plain, text) if len(_STYLED.findall(text)) > 1 else text


def _folded(word: str, counts: Counter[str]) -> str:
    folded = fold_word(word) if len(word) > 2 else word
    if folded != word:
        counts["confusable"] += 1
    return folded


def _shown(found: re.Match[str]) -> str:
    """What is forced to run from right to left, as it is seen."""
    return found[1][::-1]
