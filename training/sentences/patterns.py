"""From patterns to texts: choices and slots filled, and the result put into the dress of a forum, chat or mail.

A pattern is one line: `{slot}` takes a value of that name, the same one each time within a text; `{slot2}` takes
another; `[this|that]` takes either. All draws come from a generator seeded with the pattern itself, so a pattern
that is added or reworded changes no text of the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

Dress = Callable[[str, Random], str]
CHOICE = re.compile(r"\[([^\[\]]*)\]")
SLOT = re.compile(r"\{([a-z_]+)(\d?)\}")
# "a" before a vowel that sounds like one.
ARTICLE = re.compile(r"\b([Aa]) (?=[aeioAEIO]|u(?!ni|k|se|su))(?!one\b|[Ee]uro)")
EMBEDDED_BELOW = 260
"""Characters up to which a text is put among others: the whole must stay within one window of the encoder."""
# In how many of a hundred texts of a kind each dress is worn.
SHARES: Mapping[str, Mapping[str, int]] = {
    "chat": {"plain": 42, "small": 12, "bare": 8, "mistyped": 8, "among": 14, "opened": 9, "closed": 7},
    "serious": {"plain": 58, "small": 12, "bare": 8, "mistyped": 8, "among": 14},
    "mail": {"plain": 72, "small": 20, "mistyped": 8},
}
FEW = 4
"""Texts that any pattern gives at least, most of them among other sentences if it has no slots."""

OPENERS = (
    "tbh", "ngl", "honestly,", "ok so", "lol", "Right,", "Listen,", "So", "Look,", "yeah but", "well,",
    "hmm,", "Unpopular opinion:", "Just saying:", "idk,", "omg", "Sorry but", "Question:", "fwiw", "imo",
    "Again:", "@{handle}", "@{handle} @{handle2}", "RT @{handle}:", "@{handle} yep,",
    "Re: your last post.", "Edit:",
)  # fmt: skip
CLOSERS = (
    " lol", " tbh", " smh", "!!", "!!!", " just saying.", " imo", " 🙂", " 😂", " 😭", " 🙄", " ...", " ok?",
    " haha", " 💯", " #mondaythoughts", " #unpopularopinion", " Change my mind.", " End of story.",
    " That's it, that's the post.", " Anyway.", " /rant", " 🤷", " thx", " #justsaying", " Thoughts?",
)  # fmt: skip
HANDLES = (
    "marlow_88", "tinker", "jo_inthecity", "rustybikes", "sunnyside_up", "k4rl", "the_real_pam",
    "northbound", "bookwormbee", "oldmanriver", "nightowl_nz", "pixelpete", "Dana", "lee", "mrs_h",
    "coffeefirst",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Block:
    """Patterns of one kind with the same labels: `yes` are 1, `unknown` unlabelled, all other heads 0."""

    name: str
    yes: str
    lines: str
    unknown: str = ""
    most: int = 14
    dress: str = "chat"

    def patterns(self) -> list[str]:
        return [line.strip() for line in self.lines.splitlines() if line.strip()]

    def labels(self, heads: Sequence[str]) -> dict[str, int]:
        """Head to 0 or 1, in the order of `heads`."""
        yes, unknown = self.yes.split(), self.unknown.split()
        return {head: int(head in yes) for head in heads if head not in unknown}


def fill(pattern: str, slots: Mapping[str, Sequence[str]], random: Random) -> str:
    """One text of the pattern."""
    text = CHOICE.sub(lambda found: random.choice(found[1].split("|")), pattern)
    taken: dict[str, list[str]] = {}
    known: dict[str, str] = {}

    def value(found: re.Match[str]) -> str:
        if found[0] not in known:
            used = taken.setdefault(found[1], [])
            known[found[0]] = random.choice([one for one in slots[found[1]] if one not in used])
            used.append(known[found[0]])
        return known[found[0]]

    text = " ".join(SLOT.sub(value, text).split()).replace(" ,", ",").replace(" .", ".")
    text = ARTICLE.sub(r"\1n ", text)
    return text[:1].upper() + text[1:] if pattern[0] in "{[" else text


def _mistyped(text: str, random: Random) -> str:
    """One or two slips of the fingers in longer words."""
    words = text.split(" ")
    long = [i for i, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    for index in random.sample(long, min(len(long), random.choice((1, 1, 2)))):
        word = words[index]
        at = random.randrange(1, len(word) - 2)
        slips = (
            word[:at] + word[at + 1 :],
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + word[at] + word[at:],
        )
        words[index] = random.choice(slips)
    return " ".join(words)


def _bare(text: str) -> str:
    return re.sub(r"[.,;:!?\"“”]+(?=\s|$)|(?<=\s)[\"“”(]|^[\"“”(]", "", text).lower()


def _opened(text: str, random: Random) -> str:
    opener = fill(random.choice(OPENERS), {"handle": HANDLES}, random)
    small = text if re.match(r"I\b|[A-Z]{2}", text) else text[:1].lower() + text[1:]
    return f"{opener} {small}"


def _among(text: str, others: Sequence[str], random: Random) -> str:
    """The text before, behind or between sentences that say nothing."""
    before, behind = random.choice(((1, 0), (0, 1), (1, 1), (2, 0), (2, 1), (0, 2)))
    picked = random.sample(others, before + behind)  # each filled in one way: they are scenery
    ended = text if text[-1:] in '.!?"”' else text + "."
    return " ".join((*picked[:before], ended, *picked[before:]))


def _closed(text: str, random: Random) -> str:
    closer = random.choice(CLOSERS)
    # A closer that is a sentence follows one.
    return (text if closer[1:2].isupper() else text.rstrip(".")) + closer


def dressed(text: str, kind: str, others: Sequence[str], random: Random) -> str:
    """The text as some user might have typed it; `kind` is one of SHARES."""
    ways: Mapping[str, Dress] = {
        "plain": lambda text, _: text,
        "small": lambda text, _: text.lower(),
        "bare": lambda text, _: _bare(text),
        "mistyped": _mistyped,
        "among": lambda text, random: _among(text, others, random) if len(text) <= EMBEDDED_BELOW else text,
        "opened": _opened,
        "closed": _closed,
    }
    shares = SHARES[kind]
    [way] = random.choices(tuple(shares), tuple(shares.values()))
    return ways[way](text, random)


def key(text: str) -> str:
    """What makes two texts of ours the same: letters and digits, digits alike."""
    return "".join("0" if c.isdigit() else c for c in text.casefold() if c.isalnum())


def texts(
    block: Block, slots: Mapping[str, Sequence[str]], others: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """(pattern, text) for each text of the block; one that gives few is put among other sentences too."""
    for pattern in block.patterns():
        random = Random(pattern)
        plain: set[str] = set()
        for _ in range(block.most * 2):
            text = fill(pattern, slots, random)
            if text not in plain and len(plain) < block.most:
                plain.add(text)
                yield pattern, dressed(text, block.dress, others, random)
        if block.dress == "mail":
            continue
        short = sorted(text for text in plain if len(text) <= EMBEDDED_BELOW)
        for text in (short * FEW)[: FEW - len(plain)] if len(plain) < FEW else ():
            yield pattern, _among(text, others, random)
