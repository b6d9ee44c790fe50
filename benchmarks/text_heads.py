"""What a head is worth by labels: `python -m benchmarks.text_heads --data FILE [--base DIR] [--draws N]`.

A community that is strict on insults and lax on profanity: a comment breaks its rule if annotators called it an
insult, whatever words it has. Its people judge so many comments, drawn at random, and are wrong about one in
twenty; a head is fitted by `training.text_head.fit` as anybody would. Head and base are then measured on other
comments with the annotators' labels. `FILE` is the training data's `labelled.parquet`; comments that the base was
trained on flatter it, so give `--base` one that was not.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.registry import load
from models.text import TextClassifier
from models.text_heads import Seen, TextHead
from training import weighted
from training.judged import Judged
from training.text_examples import Given
from training.text_head import Wanted, fit, shipped_base

RULE = "harassment"
SOURCE = "jigsaw_ml"
SIZES = (200, 500, 1000, 2000)
POOL, TEST = 3000, 2000
LONGEST = 1500
ERRS = 0.05

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Comment:
    text: str
    insult: bool
    profane: bool


class Remembered(TextClassifier):
    """A text model that reads each text once: the draws share most of them."""

    def seen(self, batch: Sequence[str]) -> list[Seen]:
        kept: dict[str, Seen] = self.__dict__.setdefault("kept", {})
        fresh = [text for text in dict.fromkeys(batch) if text not in kept]
        kept |= dict(zip(fresh, super().seen(fresh), strict=True)) if fresh else {}
        return [kept[text] for text in batch]


def main() -> int:
    """Fit and measure, and print a table."""
    options = _options()
    base = Remembered(load(options.base) if options.base else shipped_base(None).manifest, threads=2)
    comments = read(options.data, random.Random(options.seed))
    test, pool = comments[:TEST], comments[TEST : TEST + POOL]
    seen = [
        one
        for start in range(0, len(test), 64)
        for one in base.seen([c.text for c in test[start : start + 64]])
    ]
    column = base.manifest.categories.index(RULE)
    print(f"{base.manifest.name} {base.manifest.version}, {len(test)} comments measured on\n")
    print("| labels | AUC | AUC among profane comments | ECE | Brier |")
    print("|---|---|---|---|---|")
    own = 1 / (1 + np.exp(-np.array([one.logodds[column] for one in seen])))
    print(_row("none: the base", [_numbers(test, own)]))
    for size in SIZES:
        found = [_drawn(base, pool, size, seed, options.errs, seen, test) for seed in range(options.draws)]
        print(_row(f"{size:,}", found))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="labelled.parquet")
    parser.add_argument("--base", type=Path, help="a text model's artifact (default: the shipped one)")
    parser.add_argument(
        "--draws", type=int, default=5, help="heads of each size; their mean and range are said"
    )
    parser.add_argument("--errs", type=float, default=ERRS, help="how often people are wrong")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def read(path: Path, chance: random.Random) -> list[Comment]:
    """The comments in a random order, each text once."""
    from pyarrow import parquet  # of the training extra

    table = parquet.read_table(path, columns=["text", "source", "insult", "obscene"]).to_pylist()
    found = {
        row["text"]: Comment(row["text"], row["insult"] == 1, row["obscene"] == 1)
        for row in table
        if row["source"] == SOURCE
        and {row["insult"], row["obscene"]} <= {0, 1}
        and len(row["text"]) <= LONGEST
    }
    comments = list(found.values())
    chance.shuffle(comments)
    return comments


def _drawn(
    base: Remembered,
    pool: Sequence[Comment],
    size: int,
    seed: int,
    errs: float,
    seen: Sequence[Seen],
    test: Sequence[Comment],
) -> list[float]:
    """What a head from so many labels comes to."""
    chance = random.Random(seed)
    rows = []
    for comment in chance.sample(list(pool), size):
        insult = comment.insult != (chance.random() < errs)
        rows.append(Judged(comment.text, {RULE: int(insult)}))
    with tempfile.TemporaryDirectory() as folder:
        wanted = Wanted("1", Path(folder) / "head", ("forum",), (RULE,), resamples=20)
        head = TextHead(fit(Given(rows), base, wanted))
    return _numbers(test, head.score(seen)[:, 0])


def _numbers(test: Sequence[Comment], score: Vector) -> list[float]:
    truth, ones = np.array([float(one.insult) for one in test]), np.ones(len(test))
    profane = np.array([one.profane for one in test])
    found = [measure(truth, score, ones) for measure in (weighted.auc, weighted.ece, weighted.brier)]
    return [found[0], weighted.auc(truth[profane], score[profane], ones[profane]), *found[1:]]


def _row(name: str, found: Sequence[Sequence[float]]) -> str:
    cells = []
    for values in zip(*found, strict=True):
        spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
        cells.append(f"{np.mean(values):.3f}{spread}")
    return f"| {name} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
