"""Letters of other scripts that look like Latin ones, and words that mix them.

The table is our own and small: of Cyrillic, Greek and Armenian those letters that in common typefaces can't be
told from a Latin one, or hardly, and of Latin those drawn like a plain one. Which characters are alike is a fact
that Unicode Technical Standard 39 collects; nothing of its data file is used.

A word is folded only if it mixes scripts: a Russian word is not an English one in disguise, however many of
its letters look Latin.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise

from moderation.features import words

_CYRILLIC = (
    "аa еe оo рp сc уy хx іi јj ѕs ԁd ԛq ԝw һh ӏl ѵv кk мm нh тt вb пn гr яr ѡw ҝk ґr ёe їi єe бb иu"
    " АA ВB ЕE КK МM НH ОO РP СC ТT УY ХX ІI ЈJ ЅS ԚQ ԜW ҺH ӀI ЁE ЇI ЄE ГR ЯR ИN"
)
_GREEK = (
    "αa οo νv ρp τt υu ιi κk εe ηn χx γy ωw σo ϲc ϳj άa έe ήn ίi όo ύu ώw βb δd μu"
    " ΑA ΒB ΕE ΖZ ΗH ΙI ΚK ΜM ΝN ΟO ΡP ΤT ΥY ΧX"
)
_ARMENIAN = "օo ոn սu հh ցg զq յj ՏS ՕO ՍU ԼL"
_LATIN = (
    "ɑa ɡg ıi ɩi ʏy ɴn ʟl ʀr ɪi ʙb ɢg ʜh ᴀa ᴄc ᴅd ᴇe ᴊj ᴋk ᴍm ᴏo ᴘp ꜱs ᴛt ᴜu ᴠv ᴡw ᴢz ꜰf"
    " ɐa ǝe ɔc øo łl đd ħh ŧt"
)

LETTERS: dict[str, str] = {
    pair[0]: pair[1] for table in (_CYRILLIC, _GREEK, _ARMENIAN) for pair in table.split()
}
"""Letters of another script, each with the Latin one that it looks like."""
STYLED: dict[str, str] = {pair[0]: pair[1] for pair in _LATIN.split() if len(pair) == 2}
"""Latin letters that are no plain ones but drawn like them: small capitals, turned and barred ones."""
SMALL_CAPITALS = frozenset("ʏɴʟʀɪʙɢʜᴀᴄᴅᴇᴊᴋᴍᴏᴘꜱᴛᴜᴠᴡᴢꜰ")
"""Those of `STYLED` that no language of today spells its words with."""

_FOREIGN = "[\u0370-\u03ff\u0400-\u052f\u0530-\u058f]"
BORDER = re.compile(rf"[A-Za-z]{_FOREIGN}|{_FOREIGN}[A-Za-z]")
"""Where a plain Latin letter stands beside a Cyrillic, Greek or Armenian one."""
MIXED = re.compile(rf"(?<![^\W\d_])[^\W\d_]{{0,100}}(?:[A-Za-z]{_FOREIGN}|{_FOREIGN}[A-Za-z])[^\W\d_]*")
"""A run of letters with a `BORDER` in it."""

_DIGITS = str.maketrans("013457$@", "oleast" + "sa")


def fold_word(word: str) -> str:
    """`word` in Latin letters if it mixes them with others that look Latin, else `word`.

    What ends in two or more letters of another script after Latin ones is a borrowed word with a native ending,
    unless it makes an English one, and stays, as does every word with a letter that looks like no Latin one.
    """
    others = [character for character in word if character in LETTERS]
    if not others or len(others) == len(word):
        return word
    scripts = [character in LETTERS for character in word]
    folded = "".join(LETTERS.get(character, character) for character in word)
    borders = sum(one != other for one, other in pairwise(scripts))
    if borders == 1 and not scripts[0] and len(others) > 1 and not words.known(folded.lower()):
        return word
    return folded if all(ord(character) < 0x250 for character in folded) else word


@lru_cache(maxsize=4096)
def skeleton(label: str) -> str:
    """What the label of a host name looks like at a glance: equal for labels easily taken for each other."""
    plain = unicodedata.normalize("NFKD", label.casefold())
    plain = "".join(LETTERS.get(c, STYLED.get(c, c)) for c in plain if not unicodedata.combining(c))
    plain = plain.casefold().translate(_DIGITS)
    return plain.replace("rn", "m").replace("vv", "w").replace("cl", "d").replace("i", "l")
