"""Tricks of spelling, undone: `h.a.t.e`, `h4te`, `haaate`, `h*te`, `ha/te`, `hateyou`, `etah`.

Each step is a reading, so each needs a reason to prefer it: that it makes a word of what is none, or that what
stands there is nothing that people write for another reason (a unit, a product, an abbreviation, a link). What is
joined or cut without any sign in the text is so only where most other words are English.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product

from moderation.features import words

LONGEST_WORD = 60
LONGEST_RUN = 250
"""Characters without a blank from which on they are left as they are."""
MOST_WORDS = 400
"""Words of a text that are asked about, the first: enough to tell its language and to mend what is short."""
MOST_RUNS = 5
TRIED = 96
"""Readings of one word that are tried: each sign that may stand for two letters doubles them."""
MASKED = 4
"""Words that a masked one is replaced by, when several fit: whoever scores it sees them side by side."""

_LETTER = "[A-Za-z\u00c0-\u024f\u0370-\u03ff\u0400-\u052f]"
_SIGNS = {
    "0": ("o",), "1": ("i", "l"), "2": ("z",), "3": ("e",), "4": ("a",), "5": ("s",), "6": ("g", "b"),
    "7": ("t",),
    "8": ("b", "ate"), "9": ("g",), "@": ("a",), "$": ("s",), "!": ("i", "l"), "|": ("i", "l"), "+": ("t",),
    "(": ("c",), "<": ("c",), "€": ("e",), "£": ("l",), "¢": ("c",), "¥": ("y",), "¡": ("i",), "%": ("o",),
}  # fmt: skip
_VOWELS = "aeiou"
_ALPHABET = "abcdefghijklmnopqrstuvwxyz"
_EMOJI = "[\u2190-\u2bff\u3030\U0001f000-\U0001fbff\ufe0f\u200d\u20e3]"

# One search decides whether a text has any of it; most have not.
_SIGN = re.compile(
    r"[A-Za-z][0-9@$!|+(<€£¢¥¡%*#_?~^·•]+[A-Za-z]|[0-9@$!|+(<€£¢*#][a-z]{2}|[a-z]{2}[0-9@$!|+€£¢*#]"
    r"|([A-Za-z])\1\1|"
    rf"\b{_LETTER}[^\w]{{1,3}}{_LETTER}[^\w]{{1,3}}{_LETTER}\b|{_LETTER}_{_LETTER}|"
    rf"{_LETTER}(?:[./\\\n|,;:'’+=~^·•-]| [/|] ){_LETTER}|[A-Za-z]{_EMOJI}+[A-Za-z]"
)
_WORD = re.compile(r"(?<![^\W\d_])[A-Za-z]+(?![^\W\d_])")
_LEFT_ALONE = re.compile(
    # First what is no text that anybody reads: every search below takes the square of the length of such a run.
    rf"(?<!\S)\S{{{LONGEST_RUN},}}|(?:[A-Za-z]{{1,12}}://|www\.)\S+|(?<!\w)[#@]\w+(?![#*@$\w])|"
    r"[^\s@]{1,64}@[^\s@]{1,200}\.\w+|"
    r"\b[\w-]{1,63}(?:\.[\w-]{1,63}){0,5}\.(?:com|net|org|io|de|uk|fr|ru|info|edu|gov|example)\b\S*",
    re.IGNORECASE,
)
_SEPARATED = re.compile(
    rf"(?<![^\W_])(?P<first>{_LETTER}|[0-9@$!])(?P<by>[^\w\n]{{1,3}}|_{{1,3}}|\n)"
    rf"(?P<rest>(?:{_LETTER}|[0-9@$!])(?:(?P=by)(?:{_LETTER}|[0-9@$!]))+)(?![^\W_])"
)
_EMOJI_INSIDE = re.compile(rf"(?<=[A-Za-z]){_EMOJI}+(?=[A-Za-z])")
_BREAK = r"(?:[./\\\n|,;:+=~^_·•-]{1,2}| [/|] )"
_SPLIT = re.compile(rf"(?<![^\W\d_])[A-Za-z]+(?:{_BREAK}[A-Za-z]+)+(?![^\W\d_])")
_TOKEN = re.compile(r"[A-Za-z0-9@$!|+(<€£¢¥¡%*#?]*[A-Za-z][A-Za-z0-9@$!|+(<€£¢¥¡%*#?]*")
_UNIT = re.compile(
    r"\$?\d+(?:[kmbgdpshxvwl]|[ap]m|st|nd|rd|th|px|[mgtk]b|kg|[kcm]m|min|hrs?|yrs?|yo|ft|lbs?|oz|mph"
    r"|[mg]?hz|fps|bn|ml|"
    r"hp|in|er|ish|pcs|[mgk]bps|mah)s?|[A-Z]+\d+[A-Z]*|\d+[A-Z]+|[A-Z]\d+\w*|[a-z]{1,4}\d+",
)
_MASK = re.compile(r"(?<![\w*#%?])(?:[A-Za-z]+[*#%]+)+[A-Za-z]+(?![\w*#%])")
_MASK_AT_ENDS = re.compile(r"(?<![\w*#%?])(?=[*#]*[A-Za-z])(?:[A-Za-z]*[*#]+)+[A-Za-z]*(?![\w*#%])")
_PREFIXES = frozenset(
    ["a", "anti", "bi", "co", "de", "dis", "e", "en", "ex", "extra", "in", "inter", "mid", "mini", "mis", "multi",
    "non", "out", "over", "post", "pre", "pro", "re", "self", "semi", "sub", "super", "t", "tri", "u",
    "ultra", "un", "under", "up", "x"]
)  # fmt: skip
_CAMEL = re.compile("[a-z][A-Z]")
_RUN = re.compile(r"([A-Za-z])\1{2,}")
# Words that everybody stretches and that hide nothing.
_EMPHASIS = frozenset({
    "ah", "aw", "haha", "hello", "hey", "hi", "hm", "love", "mm", "no", "nope", "oh", "ok", "okay", "please",
    "really", "so", "sorry", "such", "thanks", "too", "very", "way", "well", "what", "why", "wow", "yay", "yeah",
    "yes", "you",
})  # fmt: skip
_STRETCHED = re.compile(r"[A-Za-z]*([A-Za-z])\1\1[A-Za-z]*")


def respell(text: str, counts: Counter[str]) -> str:
    """`text` with the tricks of its spelling undone, itself if it has none; what was found is added to `counts`."""
    if _SIGN.search(text):
        text = _outside_links(text, lambda piece: _signs_undone(piece, counts))
    strange = _strange(text)
    if not strange:
        return text
    mostly = len(strange) * 2 > len(set(map(str.lower, _WORD.findall(text))))
    met: Counter[str] = Counter()
    read = _outside_links(text, lambda piece: _words_mended(piece, met, strange, mostly=mostly))
    # A text of which most words are none is of another language, unless mending has made it English.
    if mostly and not _english(read):
        return text
    counts.update(met)
    return read


def backwards(text: str, counts: Counter[str]) -> str | None:
    """`text` read backwards, where that is how it is written: its words make none, and do from the end."""
    said = [word.lower() for word in islice(_WORD.findall(text), MOST_WORDS) if len(word) >= 3]
    if len(said) < 2 or sum(map(words.known, said)) * 3 > len(said):
        return None
    turned = [word[::-1] for word in said]
    if sum(map(words.known, turned)) * 3 < len(said) * 2 or not _english(text[::-1]):
        return None
    counts["reversed"] += 1
    return text[::-1]


def _strange(text: str) -> frozenset[str]:
    """The words of a text that are none in English, in lower case."""
    return frozenset(
        word for word in set(map(str.lower, _WORD.findall(text)[:MOST_WORDS])) if not words.known(word)
    )


def _english(text: str) -> bool:
    """Whether what stands there is English: three of four letters are in words of it."""
    said = _WORD.findall(text.lower())
    total = sum(map(str.isalpha, text))
    return sum(len(word) for word in said if words.stands(word)) * 4 >= 3 * total > 0


def _outside_links(text: str, change: Callable[[str], str]) -> str:
    """`text` changed, but for links, addresses, names and tags: they would be others."""
    out, end = [], 0
    for found in _LEFT_ALONE.finditer(text):
        out += [change(text[end : found.start()]), found[0]]
        end = found.end()
    out.append(change(text[end:]))
    return "".join(out)


def _signs_undone(text: str, counts: Counter[str]) -> str:
    """`text` without the tricks that leave a sign."""
    if not text.isascii():
        text = _EMOJI_INSIDE.sub(lambda found: _joined_over_emoji(text, found, counts), text)
    text = _unspaced(text, counts)
    text = _SEPARATED.sub(lambda found: _unseparated(found, counts), text)
    masks = len(_MASK.findall(text))
    if masks:
        # Where a word is masked inside, others may be at their ends; alone that is emphasis, or a footnote.
        several = MASKED if masks < 3 else 2
        text = _MASK_AT_ENDS.sub(lambda found: _unmasked(found[0], several, counts), text)
    text = _TOKEN.sub(lambda found: _decoded(found[0], counts), text)
    text = _STRETCHED.sub(lambda found: _collapsed(found[0], counts), text)
    return _SPLIT.sub(lambda found: _unsplit(found[0], counts), text)


def _words_mended(text: str, counts: Counter[str], strange: frozenset[str], *, mostly: bool) -> str:
    """`text` with words made of what is none; `mostly` if hardly a word of it is one."""
    text = _rejoined(text, counts)
    return _WORD.sub(lambda found: _mended(found, counts, strange, mostly=mostly), text)


def _joined_over_emoji(text: str, found: re.Match[str], counts: Counter[str]) -> str:
    before = _last_word(text[max(0, found.start() - LONGEST_WORD) : found.start()])
    after = re.compile("[A-Za-z]+").match(text, found.end())
    assert after is not None
    whole = (before + after[0]).lower()
    if words.known(whole) or not (words.known(before.lower()) and words.known(after[0].lower())):
        counts["emoji"] += 1
        return ""
    return found[0]


def _last_word(text: str) -> str:
    found = re.search("[A-Za-z]+$", text)
    return found[0] if found else ""


def _unspaced(text: str, counts: Counter[str]) -> str:
    """`y o u  t h e r e` as `you there`: all of it in single letters, with wider gaps between words."""
    said = text.split()
    if len(said) < 6 or "  " not in text.strip() or sum(len(one) == 1 for one in said) * 5 < len(said) * 4:
        return text
    counts["separated"] += 1
    return " ".join(word.replace(" ", "") for word in re.split(r"\s{2,}", text))


def _unseparated(found: re.Match[str], counts: Counter[str]) -> str:
    """`h.a.t.e` as `hate`, and `i h a t e y o u` as `i hate you`, if that is what it can be cut into."""
    by, run = found["by"], found[0]
    letters = run[:: len(by) + 1]
    lower = letters.lower()
    if any(character in "0123456789@$!" for character in letters):
        lower = words.commonest(_readings(lower)) or lower
        if not lower.isalpha():
            return run
    if len(letters) < 4 and (not words.stands(lower) or letters.isupper() or by in {", ", "/", " / "}):
        return run  # U.S.A., a, b, c and A/B/C
    if letters.isupper() and by.strip() == "." and not words.known(lower):
        return run
    counts["separated"] += 1
    pieces = words.cut(lower) if letters.isascii() and not words.known(lower) else None
    return " ".join(pieces) if pieces else (letters if lower == letters.lower() else lower)


def _readings(token: str) -> Iterator[str]:
    """What `token`, in lower case, says if its signs are letters: the likeliest first."""
    choices = [_SIGNS.get(character, (character,)) for character in token]
    return ("".join(letters) for letters in islice(product(*choices), TRIED))


def _unmasked(token: str, several: int, counts: Counter[str]) -> str:
    """The words that a masked one may be, side by side; the mask as it is where none fits."""
    if len(token) > words.LONGEST:
        return token
    pattern = re.sub("[*#%]", "*", token.lower())
    fitting = words.shaped(pattern, "*", _VOWELS)
    if not fitting and token[0].isalpha() and token[-1].isalpha():
        fitting = words.shaped(pattern, "*", _ALPHABET)
    if not fitting:
        return token
    counts["masked"] += 1
    return " ".join(fitting[:several])


def _decoded(token: str, counts: Counter[str]) -> str:
    """`h4te` as `hate`; a token that is a unit, a product or a price stays."""
    body = token.rstrip("!?")
    if len(body) < 3 or body.isalpha() or len(body) > LONGEST_WORD or _UNIT.fullmatch(body):
        return token
    lower = body.lower()
    signs = [place for place, character in enumerate(lower) if character in _SIGNS]
    if not signs or any(character in "*#?" for character in lower):
        return token
    read = words.commonest(_readings(lower))
    inside = all(0 < place < len(lower) - 1 for place in signs)
    if read is not None and len(read) < 4 and not inside and not set(lower) & set("$@"):
        return token
    read = read or _plainly(lower, signs)
    if read is None:
        return token
    counts["leet"] += 1
    return read + token[len(body) :]


def _plainly(lower: str, signs: Sequence[int]) -> str | None:
    """The likeliest reading of what makes no known word: of signs between letters, and not many of them."""
    letters = len(lower) - len(signs)
    inside = all(0 < place < len(lower) - 1 for place in signs)
    if (
        not inside
        or len(lower) < 4
        or letters <= len(signs)
        or set(lower) & set("!|+(<%")
        or re.search(r"\d\d", lower)
    ):
        return None
    return next(_readings(lower))


def _collapsed(token: str, counts: Counter[str]) -> str:
    """`haaate` as `hate` and `coooool` as `cool`."""
    lower = token.lower()
    if words.known(lower) or (token.isupper() and set(token) <= set("IVXLCDM")):
        return token
    pieces: list[tuple[str, ...]] = []
    end = 0
    for run in islice(_RUN.finditer(lower), MOST_RUNS):
        pieces += [(lower[end : run.start()],), (run[1], run[1] * 2)]
        end = run.end()
    pieces.append((lower[end:],))
    found = words.commonest("".join(choice) for choice in product(*pieces)) or _RUN.sub(r"\1", lower)
    if found in _EMPHASIS:
        return token
    counts["repeated"] += 1
    return found


def _unsplit(token: str, counts: Counter[str]) -> str:
    """`ha/te` as `hate`: neighbouring pieces that make a word, where not each is one by itself."""
    pieces = re.split(f"({_BREAK})", token)
    if len(pieces) > 2 * MOST_WORDS:
        return token
    out: list[str] = []
    place = 0
    while place < len(pieces):
        width = _width(pieces, place)
        if width > 1:
            counts["split"] += 1
        out.append("".join(pieces[place : place + 2 * width : 2]) if width > 1 else pieces[place])
        place += 2 * width
        out += pieces[place - 1 : place]
    return "".join(out)


def _width(pieces: Sequence[str], place: int) -> int:
    """How many of the pieces from `place` on make one word: 1 where the first stands for itself."""
    for width in (4, 3, 2):
        some = pieces[place : place + 2 * width : 2]
        whole = "".join(some).lower()
        if len(some) < width or not 4 <= len(whole) <= LONGEST_WORD or not words.known(whole):
            continue
        by = {each.strip(" ") for each in pieces[place + 1 : place + 2 * width - 1 : 2]}
        if "·" in by and whole not in words.ranks():
            continue  # So French writes both genders.
        if "-" in by and width == 2 and some[0].lower() in _PREFIXES:
            continue
        if by <= {"/", "|", "\\", "_"} or not all(words.stands(piece.lower()) for piece in some):
            return width
    return 1


def _rejoined(text: str, counts: Counter[str]) -> str:
    """`stu pid` as `stupid`: two neighbours that make a word together, of which one is none."""
    found = list(_WORD.finditer(text))
    out: list[str] = []
    end = place = 0
    while place + 1 < len(found):
        one, other = found[place], found[place + 1]
        a, b = one[0].lower(), other[0].lower()
        whole = a + b
        if (
            text[one.end() : other.start()] == " "
            and len(whole) >= 4
            and whole in words.ranks()
            and not (words.stands(a) and words.stands(b))
            and not _named(text, one, other)
        ):
            out += [text[end : one.start()], whole]
            end = other.end()
            counts["split"] += 1
            place += 1
        place += 1
    out.append(text[end:])
    return "".join(out)


def _named(text: str, one: re.Match[str], other: re.Match[str]) -> bool:
    """Whether two neighbours are names or belong to what stands beside them: R&B and, Du Bois."""
    capital = other[0][0].isupper() or (len(one[0]) == 1 and one[0].isupper())
    beside = text[max(0, one.start() - 1) : one.start()] + text[other.end() : other.end() + 1]
    return (capital and not (one[0].isupper() and other[0].isupper())) or not set(beside).isdisjoint("&'’.-")


def _mended(found: re.Match[str], counts: Counter[str], strange: frozenset[str], *, mostly: bool) -> str:
    """A word that is none, turned, with its letters in order, its vowels back or its blanks: if that makes one."""
    word, lower = found[0], found[0].lower()
    if lower not in strange or len(lower) < 3 or len(lower) > LONGEST_RUN:
        return word
    name = word[0].isupper() and word[1:].islower() and found.start() > 0 and len(word) < 12
    if (name and not mostly) or (len(word) < 20 and _CAMEL.search(word)):
        return word
    for trick, mend in _MENDS:
        if (read := mend(lower, mostly=mostly)) is not None:
            counts[trick] += 1
            return read
    return word


def _turned(word: str, *, mostly: bool) -> str | None:
    turned = word[::-1]
    return turned if len(word) >= (4 if mostly else 5) and turned in words.ranks() else None


def _ordered(word: str, *, mostly: bool) -> str | None:
    """Two neighbours inside the word swapped back."""
    if len(word) < (4 if mostly else 5) or len(word) > words.LONGEST:
        return None
    return words.commonest(
        word[:at] + word[at + 1] + word[at] + word[at + 2 :] for at in range(1, len(word) - 2)
    )


def _voiced(word: str, *, mostly: bool) -> str | None:
    if len(word) < (3 if mostly else 4) or words.without_vowels(word) != word:
        return None
    return words.with_vowels(word)


def _cut(word: str, *, mostly: bool) -> str | None:
    """The words that stand there without blanks; of a short one only if they are common and not tiny."""
    if len(word) < 7:
        return None
    pieces = words.cut(word, whole=len(word) < 20)
    if pieces is None:
        return None
    rare = any(words.ranks().get(piece, 0) > 6000 for piece in pieces)
    if not mostly and len(word) < 20 and ((rare and len(word) < 12) or len(word) < 3 * len(pieces)):
        return None
    if sum(len(piece) == 1 and piece not in "aiu" for piece in pieces) * 4 > len(pieces):
        return None
    return " ".join(pieces)


_MENDS = (("reversed", _turned), ("swapped", _ordered), ("vowels", _voiced), ("joined", _cut))
