"""Where in a text the words stand that one of its views spells otherwise."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

MOST_WORDS = 2_000
"""Words of a text that are compared: the time grows with their square in the worst case."""
_WORD = re.compile(r"\S+")
_AROUND = ".,;:!?\"'()[]…"
_LONGEST_BLOCK = 24  # words that were joined or cut together: beyond, a place says nothing any more


def place(text: str, view: str, start: int, end: int) -> tuple[int, int] | None:
    """The code points of `text` that `view[start:end]` is a reading of; None if they can't be told.

    Words that are the same in both lie where they lie; of those that differ, all that stand between two that don't
    belong together (`h a t e` for `hate`).
    """
    theirs = [(found.start(), found.end()) for found in _WORD.finditer(view)]
    ours = [(found.start(), found.end()) for found in _WORD.finditer(text)]
    if max(len(theirs), len(ours)) > MOST_WORDS:
        return None
    said, read = [text[a:b] for a, b in ours], [view[a:b] for a, b in theirs]
    found: list[tuple[int, int]] = []
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, read, said, autojunk=False).get_opcodes():
        touched = [i for i in range(i1, i2) if theirs[i][0] < end and theirs[i][1] > start]
        if not touched:
            continue
        if tag == "equal":
            for i in touched:
                (low, high), at = theirs[i], ours[j1 + i - i1][0]
                found.append((at + max(start - low, 0), at + min(end, high) - low))
        elif tag == "replace" and i2 - i1 == j2 - j1:
            found += [_bare(text, *ours[j1 + i - i1]) for i in touched]
        elif tag == "replace" and max(i2 - i1, j2 - j1) <= _LONGEST_BLOCK:
            found.append(_bare(text, ours[j1][0], ours[j2 - 1][1]))
        else:
            return None
    return (min(low for low, _ in found), max(high for _, high in found)) if found else None


def _bare(text: str, start: int, end: int) -> tuple[int, int]:
    """The place without the punctuation around it, unless there is nothing else."""
    said = text[start:end]
    if not said.strip(_AROUND):
        return start, end
    return start + len(said) - len(said.lstrip(_AROUND)), end - len(said) + len(said.rstrip(_AROUND))
