"""Readers for labelled texts that a trainer brings: what each format calls a label, and which head that is.

The tables on top are all there is to the mapping; a label that stands in none of them is not used. Nothing is
guessed: a file that is not what its format says is refused with its line and column, and without its content.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any

from moderation import bundles
from moderation.domain.cases import MINORS
from moderation.domain.signals import Category
from training.common import TrainingError, progress
from training.sentences import HEADS

# Toxic Comment Classification Challenge (Jigsaw 2018). `severe_toxic` is left out: all of it is `toxic` too.
JIGSAW: Mapping[str, str] = {
    "toxic": "toxicity",
    "obscene": "profanity",
    "threat": "threat",
    "insult": "harassment",
    "identity_hate": "hate",
}
# Civil Comments / Unintended Bias (Borkan et al. 2019): shares of raters. `severe_toxicity` is left out likewise.
CIVIL: Mapping[str, str] = {
    "target": "toxicity",
    "toxicity": "toxicity",
    "obscene": "profanity",
    "identity_attack": "hate",
    "insult": "harassment",
    "threat": "threat",
    "sexual_explicit": "sexual",
}
# HateCheck (Röttger et al. 2021): for measuring, never trained on.
HATECHECK: Mapping[str, int] = {"hateful": 1, "non-hateful": 0}

YES, NO = 0.5, 0.1
"""A share of raters from which a label is a yes, and up to which it is a no; between them nobody knows."""

CASES = "hatecheck"
"""The part under which the cases of HateCheck stand."""
OWN = "own"
"""The source under which the labels of a bundle stand."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """One text and what was said of it, by head. `text` is None where a row holds an embedding alone."""

    text: str | None
    source: str
    labels: dict[str, int]


def jigsaw(path: Path) -> Iterator[Labelled]:
    """Jigsaw's toxic comments: a column per label with 0 or 1, and -1 for what was never labelled.

    Raises:
        TrainingError: a column is missing, or a cell holds something else.
    """
    for line, record in _csv(path, ("comment_text", *JIGSAW)):
        found = {}
        for column, head in JIGSAW.items():
            value = _number(path, line, column, record[column])
            if value not in (-1, 0, 1):
                raise _refusal(path, line, column, "must be 0, 1, or -1 for not labelled")
            if value >= 0:
                found[head] = int(value)
        yield Labelled(record["comment_text"], "jigsaw", found)


def civil(path: Path) -> Iterator[Labelled]:
    """Civil Comments: a column per label with the share of raters who said so; an empty cell is not labelled.

    The toxicity stands in `target` or in `toxicity`, by edition; other columns may be missing.

    Raises:
        TrainingError: text or toxicity is missing, or a share is not from 0 to 1.
    """
    for line, record in _csv(path, ("comment_text",), either=("target", "toxicity")):
        found = {}
        for column, head in CIVIL.items():
            cell = record.get(column, "").strip()
            if not cell:
                continue
            share = _number(path, line, column, cell)
            if not 0 <= share <= 1:
                raise _refusal(path, line, column, "must be a share from 0 to 1")
            if share >= YES or share <= NO:
                found[head] = int(share >= YES)
        yield Labelled(record["comment_text"], "civil", found)


def hatecheck(path: Path) -> Iterator[Labelled]:
    """HateCheck's cases; `source` is the functionality that a case tests.

    Raises:
        TrainingError: a column is missing, or a gold label is not one of the two.
    """
    for line, record in _csv(path, ("functionality", "test_case", "label_gold")):
        if record["label_gold"] not in HATECHECK:
            raise _refusal(path, line, "label_gold", f"must be one of {', '.join(HATECHECK)}")
        yield Labelled(
            record["test_case"], record["functionality"], {"hate": HATECHECK[record["label_gold"]]}
        )


def lines(path: Path) -> Iterator[Labelled]:
    """JSON lines in the clear, each a row as bundles hold them; text and labels are enough.

    Raises:
        TrainingError: a line is no such row, or names a label that is neither a head nor a category.
    """
    with _reading(path) as (file, read):
        for line, raw in enumerate(file, 1):
            read()
            if not raw.strip():
                continue
            try:
                row = json.loads(raw)
            except ValueError as error:
                raise TrainingError(f"{path}, line {line}: is no JSON object of one line.") from error
            if wrong := bundles.flaw(row, needed=("labels",)):
                raise _refusal(path, line, wrong.field, f"must be {wrong.wanted}")
            if young := sorted(set(row["labels"]) & {*MINORS}):
                raise _refusal(path, line, f"labels.{young[0]}", "is never trained on; take the row out")
            if strange := sorted(set(row["labels"]) - {*HEADS, *Category}):
                raise _refusal(path, line, f"labels.{strange[0]}", f"must be one of {', '.join(HEADS)}")
            yield of_row(row, "lines")


def of_bundle(path: Path, rows: Sequence[Mapping[str, Any]]) -> Iterator[Labelled]:
    """The rows of an opened bundle.

    Raises:
        TrainingError: a row is not of the shape that bundles hold.
    """
    for number, row in enumerate(rows, 1):
        if wrong := bundles.flaw(row):
            raise _refusal(path, number, wrong.field, f"must be {wrong.wanted}")
        yield of_row(row, OWN)


def of_row(row: Mapping[str, Any], source: str) -> Labelled:
    """A row whose shape is known to be right: of its labels those that are heads of the model."""
    known = {head: int(value) for head, value in row["labels"].items() if head in HEADS}
    return Labelled(row.get("text"), source, known)


READERS: Mapping[str, Callable[[Path], Iterator[Labelled]]] = {
    "jigsaw": jigsaw,
    "civil": civil,
    "lines": lines,
}
"""Formats that are trained on, by the option that names their files, which is their source as well."""


def _csv(
    path: Path, columns: Sequence[str], either: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Line and record of each row; all of `columns` must be there, and one of `either`.

    Raises:
        TrainingError: the file can't be read, or a column or a cell is missing.
    """
    with _reading(path) as (file, read):
        table = csv.DictReader(file, strict=True)
        try:
            header = table.fieldnames or ()
            if missing := [column for column in columns if column not in header]:
                raise _refusal(path, 1, missing[0], f"is missing; the columns are {_named(header)}")
            if either and not set(either) & set(header):
                raise _refusal(path, 1, " or ".join(either), f"is missing; the columns are {_named(header)}")
            for record in table:
                read()
                if None in record:
                    raise TrainingError(
                        f"{path}, line {table.line_num}: has more cells than the header has columns."
                    )
                if short := [column for column, cell in record.items() if cell is None]:
                    raise _refusal(path, table.line_num, short[0], "is missing")
                yield table.line_num, record
        # The line that can't be read is not counted yet.
        except csv.Error as error:
            raise TrainingError(f"{path}, line {table.line_num + 1}: is no CSV ({error}).") from error


@contextmanager
def _reading(path: Path) -> Iterator[tuple[IO[str], Callable[[], None]]]:
    """A text file and what to call after each of its rows, for the progress bar.

    Raises:
        TrainingError: the file can't be read, or is not UTF-8.
    """
    try:
        size = path.stat().st_size
        with (
            path.open("rb") as raw,
            TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file,
            progress(f"{path.name}, bytes", size) as advance,
        ):
            seen = 0

            def read() -> None:
                nonlocal seen
                if (now := raw.tell()) > seen:
                    advance(now - seen)
                    seen = now

            yield file, read
    except UnicodeDecodeError as error:
        raise TrainingError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8.") from error
    except OSError as error:
        raise TrainingError(f"{path} can't be read: {error.strerror}.") from error


def _number(path: Path, line: int, column: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _refusal(path, line, column, "must be a number")
    return value


def _named(header: Sequence[str]) -> str:
    return ", ".join(header) or "none"


def _refusal(path: Path, line: int, column: str, what: str) -> TrainingError:
    return TrainingError(f"{path}, line {line}, column {column!r}: {what}.")
