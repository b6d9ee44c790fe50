"""What banks of terms, links, near texts and claims cost: `python -m benchmarks.banks`.

Made-up words and hosts, seeded; no database. Prints what it takes to compile 10,000 entries, to look for them, and
what a worker holds for them. Times are the best of several runs, of one thread.
"""

from __future__ import annotations

import random
import resource
import string
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from models import registry
from models.text import TextEmbedder
from moderation.features import near_texts
from moderation.features.addresses import Addresses, address
from moderation.features.claims import Claims, sentences
from moderation.features.folding import fold
from moderation.features.links import links
from moderation.features.near_texts import NearTexts
from moderation.features.terms import Patterns, Terms, term
from moderation.features.views import views

ENTRIES = 10_000
TEXTS = 2_000
RUNS = 5
T = TypeVar("T")


def main() -> None:
    """Measure and print."""
    chance = random.Random(20261123)
    words = [_word(chance) for _ in range(30_000)]
    texts = [
        " ".join(chance.choices(words, k=chance.randint(8, 60))).capitalize() + "." for _ in range(TEXTS)
    ]
    size = sum(len(text.encode()) for text in texts)
    print(f"{TEXTS:,} texts, {size / TEXTS:.0f} bytes each, {ENTRIES:,} entries a bank")
    _terms(chance, words, texts, size)
    _links(chance, texts)
    _near(chance, words, texts)
    _claims(texts)
    print(f"most memory held: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def _word(chance: random.Random) -> str:
    return "".join(chance.choices(string.ascii_lowercase, k=chance.randint(4, 10)))


def _terms(chance: random.Random, words: Sequence[str], texts: Sequence[str], size: int) -> None:
    written = {" ".join(chance.choices(words, k=chance.choice((1, 1, 2)))) + "x" for _ in range(ENTRIES)}
    made = [term(one) for one in written]
    build, held = _built(lambda: Terms(made))
    folded = [fold(text) for text in texts]
    finds = sum(len(held.find(text)) for text in folded)
    scan = _best(lambda: [held.find(text) for text in folded])
    folding = _best(lambda: [fold(text) for text in texts])
    marked = [f"{text} é" for text in texts]
    slow = _best(lambda: [fold(f"{text}e\u0301") for text in marked])
    print(f"terms      build {build * 1e3:.0f} ms, scan {size / scan / 1e6:.0f} MB/s, {_each(scan)} a text")
    print(
        f"           fold {size / folding / 1e6:.0f} MB/s, with combining marks {size / slow / 1e6:.1f} MB/s"
    )
    print(f"           {finds} finds")
    long = fold(" ".join(chance.choices(words, k=100_000)))
    whole = _best(lambda: held.find(long))
    print(f"           one text of {len(long.text):,} letters: {len(long.text) / whole / 1e6:.0f} MB/s")
    readings = _best(lambda: [views(text) for text in texts])
    print(f"views      {_each(readings)} a text, for whatever looks at them")
    patterns = Patterns([rf"{word}\d{{4,}}[a-f]+" for word in words[:100]])
    fitting = _best(lambda: [patterns.find(text) for text in texts])
    print(f"patterns   100 of them: {_each(fitting)} a text, {size * 100 / fitting / 1e6:.0f} MB/s each")


def _links(chance: random.Random, texts: Sequence[str]) -> None:
    hosts = [address(f"{_word(chance)}{number}.com") for number in range(ENTRIES)]
    build, held = _built(lambda: Addresses(hosts, likeness=True))
    linked = [f"{text} See https://www.{chance.choice(hosts).value}/x now" for text in texts]
    found = [links(text, None) for text in linked]
    finding = _best(lambda: [links(text, None) for text in linked])
    scan = _best(lambda: [held.find(text, one) for text, one in zip(linked, found, strict=True)])
    plain = _best(lambda: [links(text, None) for text in texts])
    print(f"links      build {build * 1e3:.0f} ms with look-alikes, {_each(scan)} a text with a link;")
    print(f"           to find a text's links {_each(finding)}, where there is none {_each(plain)}")


def _near(chance: random.Random, words: Sequence[str], texts: Sequence[str]) -> None:
    known = [" ".join(chance.choices(words, k=20)) for _ in range(ENTRIES)]
    sketches = [one for one in map(near_texts.features, known) if one is not None]
    tracemalloc.start()
    build, held = _built(lambda: NearTexts(sketches))
    memory = tracemalloc.get_traced_memory()[0] / len(sketches)
    tracemalloc.stop()
    sketching = _best(lambda: [near_texts.features(text) for text in texts])
    own = [one for one in map(near_texts.features, texts) if one is not None]
    looking = _best(lambda: [held.find(one, 0.5) for one in own])
    print(f"near texts build {build * 1e3:.0f} ms, {memory:.0f} bytes an entry, {_each(looking)} a text;")
    print(f"           to sketch a text {_each(sketching)}")


def _claims(texts: Sequence[str]) -> None:
    manifest = next(one for one in registry.shipped() if one.kind == "embedding")
    embedder = TextEmbedder(manifest)
    said = [sentences(text)[0].text for text in texts[:128] if sentences(text)]
    embedding = _best(lambda: embedder.embed(said), runs=2) / len(said)
    vectors = embedder.embed(said)
    known = np.random.default_rng(1).normal(size=(ENTRIES, vectors.shape[1])).astype(np.float32)
    held = Claims(known / np.linalg.norm(known, axis=1, keepdims=True))
    pieces = [sentences(text)[:1] for text in texts[:128] if sentences(text)]
    looking = _best(
        lambda: [held.find(one, row[None, :], 0.75) for one, row in zip(pieces, vectors, strict=True)]
    )
    print(
        f"claims     {embedding * 1e3:.1f} ms to embed a sentence, {looking / len(said) * 1e6:.0f} us to compare it"
    )


def _built(make: Callable[[], T]) -> tuple[float, T]:
    return _best(make), make()


def _best(run: Callable[[], object], runs: int = RUNS) -> float:
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def _each(seconds: float) -> str:
    return f"{seconds / TEXTS * 1e6:.0f} us"


if __name__ == "__main__":
    main()
