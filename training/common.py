"""What every stage shares: the run folder, its record of what was done, and plain files between stages."""

from __future__ import annotations

import hashlib
import json
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

STAGES = ("dataset", "train", "ngrams", "calibrate", "evaluate", "export", "register")

# Arguments that say where something lies on somebody's machine, or what is to be done, and so change no result.
PLACES = (
    "data", "run", "out", "stage", "bundle", "key", "start", "jigsaw", "civil", "lines", "hatecheck", "champion",
    "waive",
)  # fmt: skip

Matrix = NDArray[np.float64]


class TrainingError(Exception):
    """A stage can't run: something it needs is missing or not what it should be. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run's folder. A stage is done when its record `STAGE.json` is there, and that is written last."""

    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / name

    def done(self, stage: str) -> bool:
        return self.path(f"{stage}.json").exists()

    def record(self, stage: str) -> dict[str, Any]:
        """What `stage` wrote about itself.

        Raises:
            TrainingError: the stage has not finished in this run.
        """
        if not self.done(stage):
            raise TrainingError(f"{self.folder} has no finished stage {stage!r}: run it first.")
        found: dict[str, Any] = json.loads(self.path(f"{stage}.json").read_text(encoding="utf-8"))
        return found

    def learned_from(self) -> str | None:
        """The SHA-256 of the run's rows, which the stages that learn from them write down.

        Raises:
            TrainingError: stage `dataset` has not finished.
        """
        found: str | None = self.record("dataset").get("rows_sha256")
        return found

    def same_rows(self, *stages: str) -> None:
        """Refuse what was learned from other rows than the run holds now.

        Raises:
            TrainingError: `dataset` was run once more after one of `stages`, or one has not finished.
        """
        now = self.learned_from()
        for stage in stages:
            if self.record(stage).get("rows_sha256", now) != now:
                raise TrainingError(
                    f"{self.folder} has other rows than stage {stage!r} learned from: run {stage} with --again."
                )

    def finish(self, stage: str, arguments: Namespace, started: float, **facts: Any) -> None:
        """Write the record that makes `stage` done: its exact arguments, when, how long, and `facts`."""
        document = {
            "stage": stage,
            # Folders say nothing about the result and differ between machines.
            "arguments": {k: v for k, v in vars(arguments).items() if k not in PLACES},
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - started, 1),
            **facts,
        }
        write_json(self.path(f"{stage}.json"), document)


def write_json(path: Path, document: Any) -> None:
    """Write JSON by way of a neighbour, so that a crash never leaves half a file."""
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(path)


def save_arrays(path: Path, **arrays: Any) -> None:
    """Write an `.npz` by way of a neighbour, as `write_json` does."""
    partial = path.with_name(f"partial-{path.name}")
    np.savez(partial, **arrays)
    partial.replace(path)


def write_lines(path: Path, documents: Iterable[Any]) -> None:
    """One JSON document a line."""
    partial = path.with_suffix(path.suffix + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        for document in documents:
            file.write(json.dumps(document, ensure_ascii=False) + "\n")
    partial.replace(path)


def read_lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def digest(text: str) -> int:
    """A number from 0 to 2**64 - 1, the same on every machine and in every version."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def matrix(rows: Sequence[Sequence[float | None]]) -> Matrix:
    """Rows of labels as floats, a missing label as NaN."""
    return np.array([[np.nan if value is None else value for value in row] for row in rows], dtype=np.float64)


@contextmanager
def progress(title: str, total: int) -> Iterator[Any]:
    """A progress bar; yields `advance(steps, note)`."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns) as bar:
        task = bar.add_task(title, total=total, note="")

        def advance(steps: int, note: str = "") -> None:
            bar.update(task, advance=steps, note=note)

        yield advance
