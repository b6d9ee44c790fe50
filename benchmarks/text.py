"""How fast texts are judged: `python -m benchmarks.text [--threads N] [--rounds N] [--texts N]`.

*The network alone*: 32 windows of 32 tokens, the same for all sides, in one run and in turn, so that what else the
machine does falls on each; the best round counts. Beside the artifact on ONNX Runtime stand, in torch eager, the
same encoder and a BERT-base, which is the size of Detoxify: with random weights, since only the arithmetic is
compared. They need the extra `training` and are left out without it.

*The whole path* is the worker's stage for texts, `classify_text`: views, tokens, n-grams, the encoder in buckets of
like length, signals. *One text alone* is the same with a batch of one.

*Heads* is the same path with heads of so many communities beside the model, two categories each, every text from
another community than the one before: all sides in turn in one run, as ratios to none.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from models.registry import ARTIFACTS, Manifest, load, newest, write_manifest
from models.runtime import open_session
from models.text import TextClassifier
from models.text_heads import VECTOR, WEIGHTS, TextHead
from moderation.features.hashes import text_digest
from moderation.pipeline.batch import Batch, Text
from moderation.pipeline.classify_text import classify_text
from moderation.storage.tables import Item
from tests.chaos.storm import sentence

WINDOWS, TOKENS = 32, 32
BATCH = 64
COMMUNITIES = (0, 1, 10, 100)
DIMENSIONS = 384
SHORT = "Could somebody explain how to prune an apple tree?"

Ids = NDArray[np.int64]
Side = tuple[str, Callable[[], object]]


def main() -> int:
    """Measure all of it and print them as Markdown."""
    options = _options()
    manifest = load(options.artifact) if options.artifact else _newest()
    precision = manifest.document.get("metrics", {}).get("precision", "unknown precision")
    print(
        f"{manifest.name} {manifest.version} ({precision}), {os.cpu_count()} cores, {options.threads} thread(s)\n"
    )
    _network(manifest, options.threads, options.rounds)
    classifier = TextClassifier(manifest, threads=options.threads)
    _path(classifier, options.texts, options.rounds, random.Random(options.seed))
    _heads(classifier, options.texts, options.rounds, random.Random(options.seed))
    _alone(classifier, options.alone)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--artifact", type=Path, help="an artifact's folder (default: the newest that ships)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--rounds", type=int, default=10, help="every side in turn, so often; the best counts"
    )
    parser.add_argument("--texts", type=int, default=1024, help="texts through the whole path, per round")
    parser.add_argument("--alone", type=int, default=1000, help="short texts judged one by one")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def _newest() -> Manifest:
    found = [path.parent.name for path in (ARTIFACTS / "text-minilm").glob("*/manifest.json")]
    return load(ARTIFACTS / "text-minilm" / newest(found))


# --- the network alone ---


def _network(manifest: Manifest, threads: int, rounds: int) -> None:
    ids = np.random.default_rng(0).integers(1000, 30_000, (WINDOWS, TOKENS))
    session = open_session(manifest.path("model.onnx"), threads)
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    sides: list[Side] = [("ONNX Runtime", lambda: session.run(["logits"], feeds))]
    try:
        sides += _torch_sides(ids, threads)
    except ImportError as error:
        print(
            f"Without torch there is nothing to compare with ({error}); pip install 'moderation[training]'.\n"
        )
    rates = dict.fromkeys((name for name, _ in sides), 0.0)
    for _, run in sides:
        run()
    for _ in range(rounds):
        for name, run in sides:
            started = time.perf_counter()
            run()
            rates[name] = max(rates[name], WINDOWS / (time.perf_counter() - started))
    print(
        f"| the network alone, batch {WINDOWS}, {TOKENS} tokens | texts/s | ONNX Runtime is |\n|---|---|---|"
    )
    for name, rate in rates.items():
        print(f"| {name} | {rate:.0f} | {rates['ONNX Runtime'] / rate:.1f} times |")
    print()


def _torch_sides(ids: Ids, threads: int) -> list[Side]:
    """BERT-base and the encoder that ships, with random weights, as a library's user would call them."""
    import torch
    from transformers import BertConfig, BertModel

    torch.set_num_threads(threads)
    tokens = torch.from_numpy(ids)
    mask = torch.ones_like(tokens)
    small = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    sides: list[Side] = []
    for name, sizes in (("the same encoder, torch eager", small), ("BERT-base, torch eager", {})):
        model = BertModel(BertConfig(attn_implementation="eager", **sizes)).eval()

        def run(model: Callable[..., object] = model) -> object:
            with torch.inference_mode():
                return model(input_ids=tokens, attention_mask=mask)

        sides.append((name, run))
    return sides


# --- the worker's stage ---


def batch_of(texts: Sequence[str], communities: int = 0) -> Batch:
    """What `normalise` hands to `classify_text`; with communities, one text after the other from each in turn."""
    batch = Batch([], datetime.now(UTC))
    batch.texts += [Text(uuid4(), "text", text, text_digest(text)) for text in texts]
    if communities:
        batch.items = [
            Item(id=text.item, client=f"community-{number % communities}")
            for number, text in enumerate(batch.texts)
        ]
    return batch


def _path(classifier: TextClassifier, count: int, rounds: int, chance: random.Random) -> None:
    best: dict[str, float] = {}
    for _ in range(rounds):
        # The same text is scored once a batch, so every one is its own.
        texts = [f"{sentence(chance)} {number}" for number in range(count)]
        for name, ordered in (("short posts", texts), ("posts of 1 to 12 sentences", _longer(texts, chance))):
            batches = [batch_of(ordered[start : start + BATCH]) for start in range(0, len(ordered), BATCH)]
            started = time.perf_counter()
            for batch in batches:
                classify_text(batch, [classifier])
            rate = len(ordered) / (time.perf_counter() - started)
            best[name] = max(best.get(name, 0.0), rate)
    print(f"| the whole path, batches of {BATCH} | texts/s |\n|---|---|")
    for name, rate in best.items():
        print(f"| {name} | {rate:.0f} |")
    print()


# --- heads ---


def made_up(base: Manifest, folder: Path, client: str, numbers: np.random.Generator) -> TextHead:
    """A head with numbers that nobody fitted: only its cost is looked at."""
    categories = ("harassment", "hate")
    folder.mkdir()
    shape = (len(categories), DIMENSIONS)
    np.savez(
        folder / WEIGHTS,
        vector=numbers.normal(0, 0.1, shape),
        scores=numbers.normal(0, 0.1, (len(categories), len(base.outputs))),
        bias=np.zeros(len(categories)),
    )
    document = {
        "name": f"text-head-{client}",
        "version": "1",
        "kind": "text-head",
        "outputs": [{"category": c, "head": c, "scale": 1.0, "shift": 0.0} for c in categories],
        "input": {
            "base": {"name": base.name, "version": base.version, "sha256": base.sha256},
            "tensor": VECTOR,
            "dimensions": DIMENSIONS,
            "clients": [client],
            "heads": list(categories),
            "scores": list(base.categories),
        },
    }
    return TextHead(write_manifest(folder, document, (WEIGHTS,)))


def _heads(classifier: TextClassifier, count: int, rounds: int, chance: random.Random) -> None:
    with tempfile.TemporaryDirectory() as folder:
        numbers = np.random.default_rng(0)
        heads = [
            made_up(classifier.manifest, Path(folder) / f"{number}", f"community-{number}", numbers)
            for number in range(max(COMMUNITIES))
        ]
    spent: dict[int, list[float]] = {
        number: [] for number in COMMUNITIES
    }  # of the processor: others use it too
    for _ in range(rounds):
        texts = [f"{sentence(chance)} {number}" for number in range(count)]
        classify_text(batch_of(texts), [classifier])  # whoever reads a text first pays for what is kept of it
        for number in COMMUNITIES:
            batches = [
                batch_of(texts[start : start + BATCH], communities=number) for start in range(0, count, BATCH)
            ]
            started = time.process_time()
            for batch in batches:
                classify_text(batch, [classifier], heads[:number])
            spent[number].append(time.process_time() - started)
    print(
        f"| the whole path, batches of {BATCH}, heads of | ms a text of a core | against none |\n|---|---|---|"
    )
    for number, took in spent.items():
        ratios = sorted(mine / none for mine, none in zip(took, spent[0], strict=True))
        said = f"{ratios[len(ratios) // 2]:.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
        print(f"| {number} communities | {1000 * min(took) / count:.2f} | {said} |")
    print()


def _longer(texts: Sequence[str], chance: random.Random) -> list[str]:
    """Texts joined to posts of 1 to 12 sentences, most of them short."""
    rest, posts = list(texts), []
    while rest:
        size = min(12, 1 + int(chance.expovariate(0.5)))
        posts.append(" ".join(rest[:size]))
        rest = rest[size:]
    return posts


def _alone(classifier: TextClassifier, count: int) -> None:
    took = []
    for number in range(count + 20):
        batch = batch_of([f"{SHORT} {number}"])
        started = time.perf_counter()
        classify_text(batch, [classifier])
        took.append((time.perf_counter() - started) * 1000)
    p50, p99 = np.quantile(took[20:], (0.5, 0.99))
    print(f"One short text alone in the worker's stage, {count} times: p50 {p50:.1f} ms, p99 {p99:.1f} ms")


if __name__ == "__main__":
    sys.exit(main())
