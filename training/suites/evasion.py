"""Tricks by which people hide a text from machines and not from readers, and what they cost a scorer.

Each trick takes every longer word, since only the writer knows which one has to be hidden. Links and addresses
stay as they are: they would no longer work.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Trick = Callable[[str, random.Random], str]
Score = Callable[[Sequence[str]], NDArray[np.float64]]
"""Texts to probabilities (n,), each of the head that its text is judged by; always asked in the caller's order."""

LONG = 3
"""Letters of a word worth hiding; a text that has none loses its shorter words instead."""

_TOKEN = re.compile(r"\S+")
_LETTERS = re.compile(r"[^\W\d_]+")
_LINK = re.compile(r"://|www\.|@\w|\w@|\.example\b|\w\.\w+/")

_LOWER, _UPPER = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_VOWELS = "aeiouAEIOU"
_ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff"
_MARKS = "\u0300\u0301\u0302\u0303\u0307\u0308\u030a\u0316\u0323\u0324\u0330\u0332\u0338"
_EMOJI = "😂🔥💀👏✨😡⭐❤"
_RLO, _PDF = "\u202e", "\u202c"
_LEET = {
    "a": "4@",
    "b": "8",
    "e": "3",
    "g": "9",
    "i": "1!",
    "l": "1|",
    "o": "0",
    "s": "5$",
    "t": "7+",
    "z": "2",
}
# Cyrillic and Greek letters that look like Latin ones.
_HOMOGLYPHS = {
    "a": "а\u03b1", "c": "с", "e": "е", "i": "і\u03b9", "j": "ј", "k": "к\u03ba", "o": "о\u03bf", "p": "р\u03c1",
    "s": "ѕ", "u": "\u03c5", "v": "\u03bd", "x": "х", "y": "у", "A": "А\u0391", "B": "В\u0392", "C": "С",
    "E": "Е\u0395", "H": "Н\u0397", "I": "І\u0399", "K": "К\u039a", "M": "М\u039c", "N": "\u039d", "O": "О\u039f",
    "P": "Р\u03a1", "S": "Ѕ", "T": "Т\u03a4", "X": "Х\u03a7", "Y": "\u03a5", "Z": "\u0396",
}  # fmt: skip
_ACCENTED = {
    "a": "àáâãäåā", "c": "çćč", "e": "èéêëēę", "g": "ğĝ", "i": "ìíîïī", "l": "ĺľ", "n": "ñńň", "o": "òóôõöø",
    "r": "řŕ", "s": "śšş", "t": "ţť", "u": "ùúûüū", "y": "ýÿ", "z": "źżž",
}  # fmt: skip
_SMALL_CAPS = dict(zip(_LOWER, "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘǫʀꜱᴛᴜᴠᴡxʏᴢ", strict=True))
_SUPERSCRIPT = dict(zip(_LOWER, "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖqʳˢᵗᵘᵛʷˣʸᶻ", strict=True))
# First code points of alphabets without holes: bold, bold italic, bold script, bold fraktur, sans, mono.
_MATHEMATICAL = (0x1D400, 0x1D468, 0x1D4D0, 0x1D56C, 0x1D5A0, 0x1D5D4, 0x1D670)
_CIRCLED = (0x24B6, 0x24D0)


def _words(text: str, change: Callable[[str], str]) -> str:
    """`text` with its longer words changed, links left alone; if there is none, with every word changed."""

    def rewritten(shortest: int) -> str:
        def token(found: re.Match[str]) -> str:
            if _LINK.search(found[0]):
                return found[0]
            return _LETTERS.sub(lambda run: change(run[0]) if len(run[0]) >= shortest else run[0], found[0])

        return _TOKEN.sub(token, text)

    result = rewritten(LONG)
    return result if result != text else rewritten(1)


def _between(word: str, filling: Callable[[], str]) -> str:
    return word[0] + "".join(filling() + letter for letter in word[1:])


def _mapped(word: str, table: Mapping[str, str], rng: random.Random) -> str:
    return "".join(rng.choice(table[letter]) if letter in table else letter for letter in word)


def _alphabet(word: str, capital: int, small: int) -> str:
    """Latin letters moved to the alphabets that begin at the given code points."""
    moved = []
    for letter in word:
        if letter in _UPPER:
            letter = chr(capital + _UPPER.index(letter))  # noqa: PLW2901
        elif letter in _LOWER:
            letter = chr(small + _LOWER.index(letter))  # noqa: PLW2901
        moved.append(letter)
    return "".join(moved)


def _spaced(text: str, rng: random.Random) -> str:
    """A gap between letters, and a wider one between words, as a writer leaves who wants to be read."""
    gap = rng.choice(("  ", "   "))
    return gap.join(token if _LINK.search(token) else " ".join(token) for token in text.split())


def _separated(mark: str) -> Trick:
    return lambda text, _: _words(text, mark.join)


def _zero_width(text: str, rng: random.Random) -> str:
    return _words(text, lambda word: _between(word, lambda: rng.choice(_ZERO_WIDTH)))


def _leet(text: str, rng: random.Random) -> str:
    return _words(text, lambda word: _mapped(word.lower(), _LEET, rng))


def _mathematical(text: str, rng: random.Random) -> str:
    start = rng.choice(_MATHEMATICAL)
    return _words(text, lambda word: _alphabet(word, start, start + 26))


def _from_table(table: Mapping[str, str], *, lower: bool = False) -> Trick:
    return lambda text, rng: _words(text, lambda word: _mapped(word.lower() if lower else word, table, rng))


def _homoglyphs(text: str, rng: random.Random) -> str:
    """About half the letters that have a double, one at least, so that words mix two alphabets."""

    def change(word: str) -> str:
        places = [i for i, letter in enumerate(word) if letter in _HOMOGLYPHS]
        chosen = set(rng.sample(places, (len(places) + 1) // 2))
        return "".join(rng.choice(_HOMOGLYPHS[c]) if i in chosen else c for i, c in enumerate(word))

    return _words(text, change)


def _repeated(text: str, rng: random.Random) -> str:
    def change(word: str) -> str:
        at = rng.randrange(len(word))
        return word[:at] + word[at] * rng.randint(3, 5) + word[at + 1 :]

    return _words(text, change)


def _masked(text: str, rng: random.Random) -> str:
    mark = rng.choice("*#")
    return _words(text, lambda word: "".join(mark if letter in _VOWELS else letter for letter in word))


def _vowels_dropped(text: str, _: random.Random) -> str:
    """Vowels inside a word left out; the first and the last letter stay."""
    return _words(text, lambda word: re.sub(r"(?<=.)[aeiouAEIOU](?=.)", "", word))


def _swapped(text: str, rng: random.Random) -> str:
    """Two neighbours inside the word change places, which readers hardly notice."""

    def change(word: str) -> str:
        places = [i for i in range(1, len(word) - 2) if word[i] != word[i + 1]]
        if not places:
            return word
        at = rng.choice(places)
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]

    return _words(text, change)


def _marks(text: str, rng: random.Random) -> str:
    def change(word: str) -> str:
        return "".join(letter + "".join(rng.choices(_MARKS, k=rng.randint(1, 2))) for letter in word)

    return _words(text, change)


def _mixed_case(text: str, rng: random.Random) -> str:
    first = rng.randrange(2)
    return _words(
        text, lambda word: "".join(c.upper() if (i + first) % 2 else c.lower() for i, c in enumerate(word))
    )


def _rtl(text: str, _: random.Random) -> str:
    """Words stored backwards and shown forwards by an override."""
    return _words(text, lambda word: f"{_RLO}{word[::-1]}{_PDF}")


def _inside(marks: Sequence[str]) -> Trick:
    """One of `marks` somewhere inside each word."""

    def trick(text: str, rng: random.Random) -> str:
        def change(word: str) -> str:
            at = rng.randint(1, max(1, len(word) - 1))
            return word[:at] + rng.choice(marks) + word[at:]

        return _words(text, change)

    return trick


def _joined(text: str, _: random.Random) -> str:
    return "".join(text.split())


TRICKS: Mapping[str, Trick] = MappingProxyType(
    {
        "spaced_letters": _spaced,
        "dots": _separated("."),
        "hyphens": _separated("-"),
        "underscores": _separated("_"),
        "zero_width": _zero_width,
        "soft_hyphens": _separated("\u00ad"),
        "variation_selectors": _separated("\ufe0f"),
        "leet": _leet,
        "full_width": lambda text, _: _words(text, lambda word: _alphabet(word, 0xFF21, 0xFF41)),
        "mathematical": _mathematical,
        "homoglyphs": _homoglyphs,
        "accents": _from_table(_ACCENTED, lower=True),
        "repeated_letters": _repeated,
        "masked_vowels": _masked,
        "dropped_vowels": _vowels_dropped,
        "swapped_letters": _swapped,
        "combining_marks": _marks,
        "mixed_case": _mixed_case,
        "right_to_left": _rtl,
        "emoji_inside": _inside(_EMOJI),
        "split_words": _inside(("\n", "/", " / ", "|")),
        "enclosed": lambda text, _: _words(text, lambda word: _alphabet(word, *_CIRCLED)),
        "small_capitals": _from_table(_SMALL_CAPS, lower=True),
        "superscript": _from_table(_SUPERSCRIPT, lower=True),
        "no_spaces": _joined,
    }
)


def apply(name: str, text: str, seed: int) -> str:
    """`text` under trick `name`; the same for the same three arguments, on every machine.

    Raises:
        KeyError: there is no such trick.
    """
    return TRICKS[name](text, random.Random(f"{seed}\0{name}\0{text}"))


def evasion_report(
    without_views: Score,
    with_views: Score,
    texts: Sequence[str],
    labels: Sequence[int],
    *,
    threshold: float = 0.5,
    seed: int = 0,
    tricks: Sequence[str] = tuple(TRICKS),
) -> dict[str, Any]:
    """What tricks cost: recall on the texts labelled 1 and false alarms on those labelled 0, plain and tricked.

    `lost` is plain recall less the mean recall over tricks, `share_lost` the part of plain recall that this is,
    and `ratio` what is lost with views over what is lost without (None where nothing is lost without).

    Raises:
        ValueError: texts and labels differ in number, or no text is labelled 1.
    """
    truth = np.asarray(labels, dtype=np.int64)
    if len(texts) != len(truth):
        raise ValueError("each text needs one label")
    if not (truth == 1).any():
        raise ValueError("recall needs at least one text labelled 1")
    tricked = {name: [apply(name, text, seed) for text in texts] for name in tricks}
    result: dict[str, Any] = {
        "threshold": threshold,
        "seed": seed,
        "positives": int((truth == 1).sum()),
        "negatives": int((truth == 0).sum()),
    }
    for side, score in (("without_views", without_views), ("with_views", with_views)):
        result[side] = _side(score, texts, tricked, truth, threshold)
    loss = result["without_views"]["lost"]
    result["ratio"] = result["with_views"]["lost"] / loss if loss > 0 else None
    return result


def _side(
    score: Score,
    texts: Sequence[str],
    tricked: Mapping[str, Sequence[str]],
    truth: NDArray[np.int64],
    threshold: float,
) -> dict[str, Any]:
    """One scorer's rates, plain and per trick."""
    plain = _rates(score(texts), truth, threshold)
    by_trick = {name: _rates(score(changed), truth, threshold) for name, changed in tricked.items()}
    for rates in by_trick.values():
        rates["lost"] = plain["recall"] - rates["recall"]
    lost = float(np.mean([rates["lost"] for rates in by_trick.values()])) if by_trick else 0.0
    share = lost / plain["recall"] if plain["recall"] else None
    return {"plain": plain, "tricks": by_trick, "lost": lost, "share_lost": share}


def _rates(probability: NDArray[np.float64], truth: NDArray[np.int64], threshold: float) -> dict[str, float]:
    flagged = np.asarray(probability) >= threshold
    rates = {"recall": float(flagged[truth == 1].mean())}
    if (truth == 0).any():
        rates["false_alarms"] = float(flagged[truth == 0].mean())
    return rates
