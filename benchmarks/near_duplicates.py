"""How well sketches find near duplicates: `python -m benchmarks.near_duplicates`.

Texts are paragraphs of the prose that Python carries with itself (`pydoc_data.topics`), edited as senders edit
them; pictures are generated, saved again, scaled, recoloured, framed and cut. Recall is the share of edited copies
that are found beside their original. False is the share of pairs of different originals taken for near duplicates.
"""

from __future__ import annotations

import io
import random
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pydoc_data.topics import topics

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

from moderation.features import sketch
from moderation.features.hashes import normalised, perceptual_hash
from moderation.features.sketch import BANDS, SHINGLE, Sketch

LEVELS = (1, 2, 3, 4, 5)
GREETINGS = ("Hi Anna, ", "Good evening everybody! ", "Dear Mr. Smith, ", "hey ", "Hello friends, ")
TextEdit = Callable[[random.Random, str], str]


def main() -> int:
    """Print both tables as Markdown."""
    chance = random.Random(1)
    texts = paragraphs(chance, 1500)
    for low, high in ((40, 120), (120, 400)):
        some = [one for one in texts if low <= len(one) < high]
        originals = [sketch.of_text(one) for one in some]
        rows = {
            name: [
                sketch.share(old, sketch.of_text(edit(chance, one)))
                for one, old in zip(some, originals, strict=True)
            ]
            for name, edit in EDITS.items()
        }
        _print(f"{len(some)} texts of {low} to {high} characters", rows, _unlike(some, originals))
    pictures = [_picture(random.Random(number)) for number in range(200)]
    made = [_of(one) for one in pictures]
    rows = {
        name: [sketch.share(old, _of(edit(one))) for one, old in zip(pictures, made, strict=True)]
        for name, edit in PICTURE_EDITS.items()
    }
    others = [sketch.share(a, b) for a, b in combinations(made, 2)]
    _print(f"{len(pictures)} pictures", rows, others)
    return 0


def paragraphs(chance: random.Random, count: int) -> list[str]:
    """Different paragraphs of English prose."""
    found = {
        " ".join(block.split()): None
        for text in topics.values()
        for block in re.split(r"\n\s*\n", text)
        if block.strip()[:1].isalpha()
    }
    fitting = [one for one in found if 40 <= len(one) < 400]
    return chance.sample(fitting, min(count, len(fitting)))


def _typos(chance: random.Random, text: str) -> str:
    letters = list(text)
    for place in chance.sample(range(len(letters)), max(1, len(letters) // 60)):
        letters[place] = chance.choice("abcdefghijklmnopqrstuvwxyz")
    return "".join(letters)


def _one_word(chance: random.Random, text: str) -> str:
    words = text.split()
    words[chance.randrange(len(words))] = "something"
    return " ".join(words)


_REST: Sequence[str] = paragraphs(random.Random(2), 500)
EDITS: Mapping[str, TextEdit] = {
    "capitals and spaces": lambda _, text: text.upper().replace(" ", "  "),
    "a typing error every 60 characters": _typos,
    "one word changed": _one_word,
    "another greeting in front": lambda chance, text: chance.choice(GREETINGS) + text,
    "an address appended": lambda chance, text: f"{text} https://example.org/{chance.randrange(10**6)}",
    "greeting and address": lambda chance, text: (
        f"{chance.choice(GREETINGS)}{text} https://example.org/{chance.randrange(10**6)}"
    ),
    "the second half replaced": lambda chance, text: (
        text[: len(text) // 2] + chance.choice(_REST)[: len(text) // 2]
    ),
}


def _unlike(texts: Sequence[str], sketches: Sequence[Sketch]) -> list[float]:
    """The shares of pairs of originals that have less than half of their shingles in common."""
    shingles = [
        {read[at : at + SHINGLE] for at in range(len(read))} for read in (normalised(one) for one in texts)
    ]
    return [
        sketch.share(sketches[a], sketches[b])
        for a, b in combinations(range(len(texts)), 2)
        if 2 * len(shingles[a] & shingles[b]) < len(shingles[a] | shingles[b])
    ]


def _picture(chance: random.Random) -> Image.Image:
    y, x = np.mgrid[0:240, 0:320]
    waves = [np.sin(x / chance.uniform(20, 90) + y / chance.uniform(20, 90) + k) for k in range(3)]
    noise = np.random.default_rng(chance.randrange(2**32)).normal(0, 8, (240, 320, 3))
    made = Image.fromarray((np.stack(waves, axis=-1) * 70 + 120 + noise).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(made)
    for _ in range(10):
        left, top, size = chance.randrange(300), chance.randrange(220), chance.randrange(20, 120)
        draw.ellipse(
            (left, top, left + size, top + size), fill=tuple(chance.randrange(256) for _ in range(3))
        )
    return made


def _saved(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def _marked(picture: Image.Image) -> Image.Image:
    marked = picture.copy()
    ImageDraw.Draw(marked).text((200, 220), "example.org", fill="white")
    return marked


PICTURE_EDITS: Mapping[str, Callable[[Image.Image], Image.Image]] = {
    "saved as JPEG, quality 50": lambda one: _saved(one, 50),
    "half the size, quality 70": lambda one: _saved(one.resize((160, 120)), 70),
    "brighter by a fifth": lambda one: ImageEnhance.Brightness(one).enhance(1.2),
    "a line of text in a corner": _marked,
    "2 % cut from each side": lambda one: one.crop((6, 5, 314, 235)),
    "10 % cut from each side": lambda one: one.crop((32, 24, 288, 216)),
}


def _of(picture: Image.Image) -> Sketch:
    return sketch.of_hash(perceptual_hash(np.asarray(picture)))


def _print(title: str, rows: Mapping[str, Sequence[float]], others: Sequence[float]) -> None:
    heads = " | ".join(f"{level}/{BANDS}" for level in LEVELS)
    print(f"\n| {title} | {heads} |\n|---{'|---' * len(LEVELS)}|")
    for name, shares in rows.items():
        found = [sum(one >= level / BANDS for one in shares) / len(shares) for level in LEVELS]
        print(f"| {name} | " + " | ".join(f"{one:.3f}" for one in found) + " |")
    wrong = [sum(one >= level / BANDS for one in others) for level in LEVELS]
    print(f"| *false, of {len(others)} pairs* | " + " | ".join(map(str, wrong)) + " |")


if __name__ == "__main__":
    sys.exit(main())
