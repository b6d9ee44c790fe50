"""Texts of our own that hold what published sets lack: pairs that differ in meaning and hardly in their words.

Models of this kind take the name of a group for hate, a quotation for its content, and a game for a threat
(Dixon et al. 2018; Röttger et al. 2021 measure it). Every module holds patterns of one subject with both labels.
Nothing here is taken from a published test; explicit words come from a word list that lies beside the training
data and not in this repository.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeVar

from training.sentences import (
    answers,
    everyday,
    fraud,
    harassment,
    hate,
    identity,
    listed,
    self_harm,
    sexual,
    spam,
    threat,
)
from training.sentences.patterns import Block, fill, key, texts
from training.sentences.slots import SLOTS

T = TypeVar("T")
SOURCE = "contrast"
HEADS = ("toxicity", "harassment", "hate", "threat", "profanity", "sexual", "self_harm", "spam", "fraud")
BLOCKS: tuple[Block, ...] = tuple(
    block
    for module in (hate, answers, identity, threat, self_harm, sexual, harassment, fraud, spam, everyday)
    for block in module.BLOCKS
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """One text with the kind and pattern that it was made of."""

    text: str
    kind: str
    pattern: str
    labels: dict[str, int]


def sentences(data: Path | None = None) -> Iterator[Sentence]:
    """Every text once, the same ones in the same order each time.

    `data` is the folder of the training data; without its word list the texts that need one are left out.
    """
    words = listed.slots(data)
    slots = {**SLOTS, **words}
    others = [fill(line, SLOTS, Random(f"{n} {line}")) for n in range(3) for line in everyday.scenery()]
    seen: set[str] = set()
    for block in (*BLOCKS, *listed.blocks(words)):
        labels = block.labels(HEADS)
        for pattern, text in texts(block, slots, others):
            if (text_key := key(text)) not in seen:
                seen.add(text_key)
                yield Sentence(text, block.name, pattern, dict(labels))


def rows(make: Callable[[str, str, str, dict[str, int]], T], data: Path | None = None) -> list[T]:
    """The texts as training rows of source "contrast"; `make` is the row's type: (text, source, part, labels)."""
    return [make(one.text, SOURCE, "train", one.labels) for one in sentences(data)]
