"""Text from elsewhere: what the recipe is worth on sources that it was not trained on.

`python -m training.transfer --data DATA --run RUN`. Four groups of sources (`training/leaving_out.py`) are left out
in turn, and everything is trained again on the rest by a reduced recipe: the encoder, the n-grams beside it, their
mix, and three baselines, all from the same rows. A group that is done is left alone, and one that was broken off
goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as in training/__main__.py, and for its reasons
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
from numpy.typing import NDArray

from models.ngrams import NgramModel, weighted
from models.text import Logits, Windowing, mixed, normalise
from training import dataset
from training.baselines import Baseline, FrozenEncoder, Profanity, Tfidf
from training.calibrate import fit_weights, score_rows
from training.common import Matrix, Run, TrainingError, digest, progress, save_arrays, write_json, write_lines
from training.dataset import HEADS, Row, held_out_labels, labels
from training.evaluate import measured, rounded
from training.leaving_out import GROUPS, Group, Parts, clusters, divided
from training.metrics import auc, average_precision, ece, platt

OURS = ("encoder", "n-grams", "mixed")
PROMISED = "promised"
WINDOWS = Windowing(size=96, overlap=24, limit=4, bucket=32)
"""Of a long mail four windows are enough to rank it, and all of them cost more than everything else."""
FEWEST = 10
"""Positives, and negatives, from which a category of a source makes a row of the table."""
TAUGHT = 30
"""Training positives without which a category was not learned, so that there is nothing to measure."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m training.transfer", description=(__doc__ or "").splitlines()[0]
    )
    result.add_argument("--data", type=Path, required=True, help="folder that holds labelled.parquet")
    result.add_argument("--run", type=Path, required=True, help="folder of this measurement, made if need be")
    result.add_argument(
        "--passes", type=int, default=10_000, help="texts drawn to train the encoder, per group"
    )
    result.add_argument("--train-rows", type=int, default=4_000, help="training rows per source at most")
    result.add_argument(
        "--calibrate-rows", type=int, default=3_000, help="rows to fit mix and calibration on"
    )
    result.add_argument("--test-rows", type=int, default=2_000, help="measured rows per source at most")
    result.add_argument("--thin", type=int, default=400, help="positives of a thin head among those, at most")
    result.add_argument("--groups", default="1,2,3,4", help="which groups, with commas")
    result.add_argument("--resamples", type=int, default=500, help="bootstrap resamples of a metric")
    result.add_argument("--seed", type=int, default=20260)
    result.add_argument("--threads", type=int, default=2)
    return result


def pool(options: Namespace) -> tuple[list[Row], NDArray[np.int64]]:
    """Every row of stage `dataset` and its cluster; made once and kept."""
    run = Run(options.run / "pool")
    run.folder.mkdir(parents=True, exist_ok=True)
    if not run.done("dataset"):
        dataset.main(run, stage_arguments(options, run.folder))
    rows = dataset.read(run, "train", "calibrate", "evaluate", "unseen")
    path = run.path("clusters.npz")
    if not path.exists():
        save_arrays(path, clusters=clusters(rows))
    with np.load(path) as file:
        found: NDArray[np.int64] = file["clusters"]
    return rows, found


def stage_arguments(options: Namespace, folder: Path) -> Namespace:
    """What the stages of `python -m training` take, from our options."""
    from training.__main__ import parser as stages

    found = stages().parse_args(["train", "--data", str(options.data), "--run", str(folder)])
    for name in ("passes", "seed", "threads", "resamples"):
        setattr(found, name, getattr(options, name))
    return found


# --- one group ---


def prepare(run: Run, parts: Parts, group: Group, arguments: Namespace) -> None:
    """A run folder that the stages take for one whose stage `dataset` is done."""
    run.folder.mkdir(parents=True, exist_ok=True)
    named = (("train", parts.train), ("calibrate", parts.calibrate), ("unseen", parts.test))
    rows = [replace(row, part=part) for part, some in named for row in some]
    write_lines(run.path("rows.jsonl"), (asdict(row) for row in rows))
    run.finish(
        "dataset",
        arguments,
        time.monotonic(),
        group=group.name,
        unseen=list(group.sources),
        split={source: list(heads) for source, heads in group.split.items()},
        counts=dataset.counts(rows),
    )


def scored(run: Run, options: Namespace) -> dict[str, Matrix]:
    """Per model its scores (n, heads) of the measured rows, kept in the run's folder one by one."""
    train, test = dataset.read(run, "train"), dataset.read(run, "unseen")
    texts = [row.text for row in test]
    result = kept(run, (*OURS, PROMISED), lambda: ours(run, options))
    baselines: tuple[Callable[[], Baseline], ...] = (
        Profanity,
        Tfidf,
        lambda: FrozenEncoder(options.run, options.threads),
    )
    for make in baselines:
        model = make()
        result |= kept(run, (model.name,), partial(fit_and_score, model, train, texts))
    return result


def fit_and_score(model: Baseline, train: Sequence[Row], texts: Sequence[str]) -> dict[str, Matrix]:
    model.fit(train)
    return {model.name: model.score(texts)}


def kept(run: Run, names: Sequence[str], make: Callable[[], Mapping[str, Matrix]]) -> dict[str, Matrix]:
    """The matrices of these names from the run's folder, made if they are not there."""
    path = run.path(f"scores-{digest(' '.join(names)) % 2**32:08x}.npz")
    if not path.exists():
        save_arrays(path, **make())
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def ours(run: Run, options: Namespace) -> dict[str, Matrix]:
    """The encoder, the n-grams and their mix, and the mix's probabilities, calibrated on sources that it knows."""
    from training import train

    arguments = stage_arguments(options, run.folder)
    if not run.done("train"):
        train.main(run, arguments)
    model = ngrams_of(run)
    forward = train.torch_forward(train.load_model(run), options.threads)
    encoder, linear = {}, {}
    parts = {part: dataset.read(run, part) for part in ("calibrate", "unseen")}
    for part, rows in parts.items():
        encoder[part] = score_rows(run, "encoder", part, rows, forward, WINDOWS, str(train.TOKENIZER))
        linear[part] = by_chunks(model.logits, [normalise(row.text) for row in rows])
    truth = held_out_labels(parts["calibrate"])
    weights = fit_weights(encoder["calibrate"], linear["calibrate"], truth)
    factors = np.array([weights[head] for head in HEADS], np.float32)
    found = {part: mixed(encoder[part], linear[part], factors) for part in parts}
    return {
        "encoder": encoder["unseen"].astype(np.float64),
        "n-grams": linear["unseen"].astype(np.float64),
        "mixed": found["unseen"].astype(np.float64),
        PROMISED: promised(found, truth),
    }


def promised(logits: Mapping[str, Logits], truth: Matrix) -> Matrix:
    """Probabilities (n, heads) of the measured rows by a Platt fit on `calibrate`; NaN for a head without one."""
    result = np.full(logits["unseen"].shape, np.nan)
    for column in range(len(HEADS)):
        known = ~np.isnan(truth[:, column])
        try:
            fit = platt(logits["calibrate"][known, column].astype(np.float64), truth[known, column])
        except ValueError:
            continue
        result[:, column] = fit(logits["unseen"][:, column].astype(np.float64))
    return result


def ngrams_of(run: Run) -> NgramModel:
    """The n-gram model of a group's training rows; a head that nothing teaches says nothing."""
    from scipy.sparse import csr_matrix

    from training import ngrams

    path = run.path(ngrams.FILE)
    if not path.exists():
        rows = dataset.read(run, "train")
        found = ngrams.gather(rows)
        rarity = ngrams.rarity_of(found)
        begins = np.concatenate([[0], found.ends])
        size = len(rarity)
        table = csr_matrix((weighted(found, rarity), found.bucket, begins), shape=(len(rows), size))
        targets = np.array([dataset.target(row) for row in rows])
        exact, bias = np.zeros((size, len(HEADS))), np.zeros(len(HEADS), np.float32)
        with progress("n-grams", len(HEADS)) as advance:
            for column in range(len(HEADS)):
                if targets[:, column].prod(axis=1).sum():
                    exact[:, column], bias[column] = ngrams.fit_head(table, *targets[:, column].T)
                advance(1)
        scale = np.maximum(np.abs(exact).max(axis=0), 1e-12) / 127
        quantised = np.round(exact / scale).astype(np.int8)
        partial = path.with_name(f"partial-{path.name}")
        NgramModel(quantised, scale.astype(np.float32), bias, rarity).save(partial)
        partial.replace(path)
    return NgramModel.load(path)


def by_chunks(score: Callable[[Sequence[str]], Logits], texts: Sequence[str]) -> Logits:
    """`score` of a few hundred texts at a time."""
    return np.concatenate([score(texts[start : start + 512]) for start in range(0, len(texts), 512)])


def table_rows(run: Run, group: Group, options: Namespace) -> list[dict[str, Any]]:
    """A row per category and measured source: counts, and AUC and AP of each model with intervals."""
    train, test = dataset.read(run, "train"), dataset.read(run, "unseen")
    scores = scored(run, options)
    promise = scores.pop(PROMISED)
    truth, sources = held_out_labels(test), np.array([row.source for row in test])
    taught = np.nansum(labels(train), axis=0)
    result = []
    for column, head in enumerate(HEADS):
        for source in np.unique(sources):
            known = (sources == source) & ~np.isnan(truth[:, column])
            y = truth[known, column]
            if min(y.sum(), len(y) - y.sum()) < FEWEST:
                continue
            row: dict[str, Any] = {
                "category": head,
                "source": str(source),
                "group": group.name,
                "by_cluster": str(source) in group.split,
                "labelled": len(y),
                "positives": int(y.sum()),
                "taught": int(taught[column]),
            }
            if taught[column] >= TAUGHT:
                row["models"] = {
                    name: by_model(y, found[known, column], options)
                    for name, found in scores.items()
                    if not np.isnan(found[known, column]).any()
                }
                if not np.isnan(promise[known, column]).any():
                    row["ece_mixed"] = rounded(ece(y, promise[known, column]))
            result.append(row)
    return result


def by_model(truth: NDArray[np.float64], score: NDArray[np.float64], options: Namespace) -> dict[str, Any]:
    """AUC and AP with their 95 % intervals."""
    return {
        "auc": measured(auc, truth, score, options.resamples, options.seed),
        "ap": measured(average_precision, truth, score, options.resamples, options.seed),
    }


def group_result(number: int, options: Namespace) -> list[dict[str, Any]]:
    """The rows of one group, measured, or read where they were before."""
    group, run = GROUPS[number - 1], Run(options.run / f"group-{number}")
    if run.done("transfer"):
        print(f"group {number}, {group.name}: done before, left alone")
        return list(run.record("transfer")["rows"])
    print(f"group {number}, {group.name}: without {', '.join(group.sources)}", flush=True)
    started, arguments = time.monotonic(), stage_arguments(options, run.folder)
    if not run.done("dataset"):
        rows, cluster = pool(options)
        prepare(run, divided(rows, cluster, group, options), group, arguments)
    found = table_rows(run, group, options)
    run.finish("transfer", arguments, started, rows=found)
    return found


# --- the whole ---


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean AUC and AP per model over the rows it speaks to, with those of `mixed` over the same; per category too.

    `margin` is what `mixed` has over the best baseline so compared, `not_beaten` where a baseline is as good.
    """
    spoken = [row for row in rows if "models" in row]
    names = list(dict.fromkeys(name for row in spoken for name in row["models"]))

    def mean(some: Sequence[Mapping[str, Any]], name: str, metric: str) -> float | None:
        values = [row["models"][name][metric][0] for row in some if name in row["models"]]
        return rounded(float(np.mean(values))) if values else None

    result: dict[str, Any] = {"rows": len(spoken), "categories": {}, "models": {}}
    for name in names:
        theirs = [row for row in spoken if name in row["models"]]
        result["models"][name] = {
            "rows": len(theirs),
            "auc": mean(theirs, name, "auc"),
            "ap": mean(theirs, name, "ap"),
            "mixed_auc": mean(theirs, "mixed", "auc"),
            "mixed_ap": mean(theirs, "mixed", "ap"),
        }
    for head in HEADS:
        mine = [row for row in spoken if row["category"] == head]
        if mine:
            result["categories"][head] = {name: mean(mine, name, "auc") for name in names}
    others = {name: found for name, found in result["models"].items() if name not in OURS}
    result["margin"] = {name: rounded(found["mixed_auc"] - found["auc"]) for name, found in others.items()}
    result["not_beaten"] = {
        head: ahead
        for head, means in result["categories"].items()
        if (ahead := [name for name in others if (means[name] or 0.0) >= (means["mixed"] or 0.0)])
    }
    return result


def markdown(rows: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> str:
    """The table for docs/benchmarks.md: AUC of all models, our interval, and AP of ours and of the best other."""
    names = list(found["models"])
    lines = [
        "| category | source | positives / rows | "
        + " | ".join(f"{name} AUC" for name in names)
        + " | AP, mixed | "
        "AP, best other | ECE, mixed |",
        "|" + "---|" * (len(names) + 6),
    ]
    for row in rows:
        title = f"{row['source']}{' (clusters)' if row['by_cluster'] else ''}"
        start = f"| {row['category']} | {title} | {row['positives']} / {row['labelled']} | "
        if "models" not in row:
            lines.append(start + f"not learned: {row['taught']} positives left |" + " - |" * (len(names) + 2))
            continue
        cells = [_cell(row["models"].get(name), "auc", full=name == "mixed") for name in names]
        others = [model["ap"][0] for name, model in row["models"].items() if name not in OURS]
        cells += [_cell(row["models"].get("mixed"), "ap", full=True), f"{max(others):.3f}" if others else "-"]
        cells.append(f"{row['ece_mixed']:.3f}" if "ece_mixed" in row else "-")
        lines.append(start + " | ".join(cells) + " |")
    for head, means in found["categories"].items():
        cells = ["-" if means[name] is None else f"{means[name]:.3f}" for name in names]
        lines.append(f"| **{head}** | mean | | " + " | ".join(cells) + " | | | |")
    cells = [
        f"**{found['models'][name]['auc']:.3f}** ({found['models'][name]['rows']} rows)" for name in names
    ]
    lines.append("| **all** | mean | | " + " | ".join(cells) + " | | | |")
    margins = [f"{value:+.3f} over the {name}" for name, value in found["margin"].items()]
    lines += ["", f"Mean AUC of the mix, on the rows that the other speaks to: {', '.join(margins)}."]
    for head, ahead in found["not_beaten"].items():
        lines.append(f"In {head} the mix is not ahead of {' and '.join(ahead)}.")
    return "\n".join(lines) + "\n"


def _cell(model: Mapping[str, Any] | None, metric: str, *, full: bool) -> str:
    if model is None:
        return "-"
    value, low, high = model[metric]
    return f"{value:.3f} ({low:.3f}-{high:.3f})" if full and low is not None else f"{value:.3f}"


def main(argv: list[str] | None = None) -> int:
    """Measure the groups asked for; write `transfer.json` and `transfer.md`. Returns the exit status."""
    options = parser().parse_args(argv)
    try:
        numbers = sorted({int(number) for number in options.groups.split(",")})
        if not set(numbers) <= set(range(1, len(GROUPS) + 1)):
            raise TrainingError(f"--groups takes numbers from 1 to {len(GROUPS)}.")
        rows = [row for number in numbers for row in group_result(number, options)]
    except (TrainingError, ImportError) as error:
        print(f"transfer: {error}", file=sys.stderr)
        return 1
    order = {head: index for index, head in enumerate(HEADS)}
    rows.sort(key=lambda row: (order[row["category"]], row["source"]))
    found = summary(rows)
    settings = {name: value for name, value in vars(options).items() if name not in ("data", "run")}
    write_json(options.run / "transfer.json", {"arguments": settings, "summary": found, "rows": rows})
    (options.run / "transfer.md").write_text(markdown(rows, found), encoding="utf-8")
    print(markdown(rows, found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
