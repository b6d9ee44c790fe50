"""Stage 1: labelled texts to rows with policy heads, without duplicates, split so that nothing leaks.

The tables on top are the whole editorial policy of the training set; they are copied into the record of
the run, and from there into the model's manifest and card.
"""

from __future__ import annotations

import csv
import hashlib
import heapq
import math
import time
from argparse import Namespace
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models.registry import file_sha256
from models.text import normalise
from moderation.features.sketch import ALIKE, BANDS, of_text
from training import judged, readers
from training.common import Matrix, Run, TrainingError, digest, matrix, progress, read_lines, write_lines
from training.judged import Judged
from training.readers import CASES, OWN
from training.sentences import rows as contrast_rows

FILE = "labelled.parquet"
ANNOTATIONS = Path(__file__).with_name("annotations.csv")
"""Labels of our own for published texts, by the hash of their key: the texts themselves stay out of here."""

# The dataset's label -> the policy's category, which is also the name of the model's head.
LABELS: Mapping[str, str] = {
    "toxic": "toxicity",
    "insult": "harassment",
    "hate": "hate",
    "threat": "threat",
    "obscene": "profanity",
    "sexual": "sexual",
    "selfharm": "self_harm",
    "spam": "spam",
}
HEADS: tuple[str, ...] = (*LABELS.values(), "fraud")
"""What the model says, in the order of its columns. No published source names fraud: we label and write it."""

# Training rows per source at most. Rows positive for a head in FIRST come first, so a cap never costs one.
CAPS: Mapping[str, int] = {
    "civil": 20_000,
    "context_toxicity": 3_000,
    "davidson": 10_000,
    "edos": 11_000,
    "jigsaw": 20_000,
    "jigsaw_bin": 8_000,
    "paradetox": 8_000,
    "reddit27": 2_500,
    "spamassassin": 2_500,
    "stormfront": 5_000,
    "toxic_spans": 2_500,
}
UNSEEN_CAP = 4_000
HELD_OUT_CAP = 4_000
"""Held-out rows per part of a file that a trainer brings: more cost time and narrow no interval that matters."""
BROUGHT_CAP = 100_000
"""Training rows of a brought file that has no cap above."""
FIRST: tuple[str, ...] = ("threat", "sexual", "self_harm", "fraud", "profanity", "harassment", "hate")
# Toxicity is rare in this source and nearly everything in some others.
FIRST_IN: Mapping[str, tuple[str, ...]] = {
    "jigsaw_bin": (*FIRST, "toxicity"),
    "context_toxicity": ("toxicity",),
}

ONE_SIDED = 0.95

# Share of a source without a dev part of its own that is held out, by hash of the normalised text.
HELD_OUT = 0.24

NEIGHBOURS = 20
"""Rows remembered per band: what is common to more is a turn of phrase, and makes no near duplicate."""

# A missing label is not a no, but in these sources a head's positives can hardly occur; without any
# negatives from elsewhere a head labelled in one source only learns to recognise the source. Such a row
# counts as a no with this weight in training, and never in calibration or evaluation.
_DISCUSSIONS = ("cad", "civil", "davidson", "dynahate", "edos", "hatemoji", "jigsaw", "jigsaw_bin", "jigsaw_ml",
                "paradetox", "sbic", "toxigen")  # fmt: skip
_MESSAGES = ("sms_spam", "smishing", "spamassassin")
ASSUMED_NO: Mapping[str, tuple[float, tuple[str, ...]]] = {
    "spam": (0.1, (*_DISCUSSIONS, "reddit27")),
    "self_harm": (0.1, (*_DISCUSSIONS, *_MESSAGES)),
    "hate": (0.1, (*_MESSAGES, "reddit27")),
    "threat": (0.1, (*_MESSAGES, "reddit27")),
    "toxicity": (0.1, (*_MESSAGES, "reddit27", "toxigen", "hatemoji", "edos")),
    "sexual": (0.1, ("toxigen", "cad", "stormfront", "sms_spam")),
    "harassment": (0.1, _MESSAGES),
    "profanity": (0.1, _MESSAGES),
    "fraud": (0.1, (*_DISCUSSIONS, "reddit27")),
}
# What people called not toxic at all is none of these either.
IMPLIED_BY_NOT_TOXIC = (0.3, ("harassment", "hate", "threat", "profanity", "sexual"))


@dataclass(slots=True)
class Row:
    """One text; `labels` by head, 0 or 1, a head that nobody labelled is absent."""

    text: str
    source: str
    part: str
    labels: dict[str, int] = field(default_factory=dict)


def key(text: str) -> str:
    """What makes two texts the same: letters, with case, space and punctuation gone and digits alike."""
    return "".join("0" if c.isdigit() else c for c in normalise(text).casefold() if c.isalnum())


def part_of(text_key: str, split: str, has_dev: bool) -> str:
    """train, calibrate or evaluate; from the source's own dev part where it has one."""
    draw = digest(text_key) / 2**64
    if split != "dev" and (has_dev or draw >= HELD_OUT):
        return "train"
    return "calibrate" if digest("half:" + text_key) % 2 else "evaluate"


def merge(rows: Iterable[tuple[str, Row]]) -> list[Row]:
    """One row per key: labels joined, contradictory ones dropped, held out if any copy is."""
    order = {"evaluate": 0, "calibrate": 1, "train": 2, "unseen": 3}
    kept: dict[str, Row] = {}
    disputed: dict[str, set[str]] = defaultdict(set)
    for text_key, row in rows:
        first = kept.setdefault(text_key, row)
        if first is row:
            continue
        first.part = min(first.part, row.part, key=order.__getitem__)
        for head, value in row.labels.items():
            if first.labels.setdefault(head, value) != value:
                disputed[text_key].add(head)
    for text_key, heads in disputed.items():
        for head in heads:
            del kept[text_key].labels[head]
    # A copy in another source means that an "unseen" text was seen: it has left that part above.
    return [row for row in kept.values() if row.labels]


def cap(rows: list[Row]) -> list[Row]:
    """Rows of a capped source beyond its cap dropped: rare positives first, then by hash."""
    result, waiting = [], defaultdict(list)
    for row in rows:
        if row.part == "unseen" or (row.part == "train" and row.source in CAPS):
            waiting[row.source].append(row)
        else:
            result.append(row)
    for source, crowd in waiting.items():
        first = FIRST_IN.get(source, FIRST)
        crowd.sort(key=lambda row: (all(row.labels.get(h) != 1 for h in first), digest(row.text)))
        result += crowd[: CAPS.get(source, UNSEEN_CAP)]
    return result


def target(row: Row) -> list[tuple[float, float]]:
    """Per head the target and its weight in training: 1 if labelled, little if assumed, 0 if unknown."""
    not_toxic, heads = IMPLIED_BY_NOT_TOXIC
    result = []
    for head in HEADS:
        assumed, sources = ASSUMED_NO.get(head, (0.0, ()))
        if head in row.labels:
            result.append((float(row.labels[head]), 1.0))
        elif row.labels.get("toxicity") == 0 and head in heads:
            result.append((0.0, not_toxic))
        else:
            result.append((0.0, assumed if row.source in sources else 0.0))
    return result


def labels(rows: Iterable[Row]) -> Matrix:
    """Labels of shape (n, heads), NaN where nobody labelled."""
    return matrix([[row.labels.get(head) for head in HEADS] for row in rows])


def held_out_labels(rows: Sequence[Row]) -> Matrix:
    """Labels for calibration and evaluation: NaN also where a source's labels for a head are nearly all yes.

    Such sources published only their positives. Ranking them would measure the source, and counting them
    would raise every calibrated probability.
    """
    result = labels(rows)
    sources = [row.source for row in rows]
    for source in set(sources):
        mine = [i for i, other in enumerate(sources) if other == source]
        for column in range(len(HEADS)):
            known = [i for i in mine if not math.isnan(result[i, column])]
            if known and result[known, column].mean() > ONE_SIDED:
                result[known, column] = math.nan
    return result


def lacking(rows: Sequence[Row]) -> list[str]:
    """Heads that can't be trained or calibrated from `rows`, each with what is missing."""
    held = [row for row in rows if row.part == "calibrate"]
    known = held_out_labels(held).reshape(-1, len(HEADS))
    result = []
    for column, head in enumerate(HEADS):
        if not any(row.labels.get(head) == 1 for row in rows if row.part == "train"):
            result.append(f"{head} has no yes to train on")
        elif missing := [
            word for value, word in ((1, "yes"), (0, "no")) if not (known[:, column] == value).any()
        ]:
            result.append(f"{head} has no {' and no '.join(missing)} to calibrate on")
    return result


def apart(rows: Sequence[Row]) -> list[Row]:
    """`rows` without training rows that nearly equal a held-out row.

    What differs in a name or an amount is one text to a reader and two to `key`: among mails and text messages
    every tenth would be in training and in the part that measures it. Our own sentences stay: they are made
    from patterns, and no part holds them out.
    """
    measured = [row for row in rows if row.part != "train"]
    owners: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    with progress("near duplicates", len(rows)) as advance:
        for index, row in enumerate(measured):
            for band in enumerate(of_text(row.text).bands):
                if len(owners[band]) < NEIGHBOURS:
                    owners[band].append(index)
            advance(1)
        kept = measured
        for row in rows:
            if row.part == "train":
                near = Counter(
                    owner for band in enumerate(of_text(row.text).bands) for owner in owners.get(band, ())
                )
                if row.source == "contrast" or max(near.values(), default=0) < ALIKE * BANDS:
                    kept.append(row)
                advance(1)
    return kept


def read_source(path: Path, unseen: Collection[str] = ()) -> list[tuple[str, Row]]:
    """The published rows with their keys, empty texts left out; those of `unseen` sources are never trained on.

    Raises:
        TrainingError: the file is not there or lacks a column.
    """
    if not path.exists():
        raise TrainingError(f"There is no {path}: give --data the folder that holds {FILE}.")
    from pyarrow import parquet  # only this stage needs it

    try:
        table = parquet.read_table(path, columns=["text", "source", "split", *LABELS]).to_pylist()
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path} can't be read as labelled text ({error}).") from error
    if missing := set(unseen) - {record["source"] for record in table}:
        raise TrainingError(f"--unseen names {', '.join(sorted(missing))}, which {path} does not hold.")
    return list(parse(table, unseen))


def parse(table: list[dict[str, Any]], unseen: Collection[str] = ()) -> Iterator[tuple[str, Row]]:
    """Rows of the published table as (key, Row)."""
    with_dev = {record["source"] for record in table if record["split"] == "dev"}
    for record in table:
        text_key = key(record["text"])
        if not text_key:
            continue
        source = record["source"]
        part = part_of(text_key, record["split"], source in with_dev)
        if source in unseen:
            part = "unseen"
        found = {LABELS[label]: record[label] for label in LABELS}
        known = {h: int(v) for h, v in found.items() if v is not None and not math.isnan(v)}
        yield text_key, Row(record["text"], source, part, known)


def annotated(rows: Iterable[tuple[str, Row]], path: Path = ANNOTATIONS) -> list[tuple[str, Row]]:
    """`rows` with the labels of `annotations.csv` for the heads that no copy of a text is labelled for.

    Raises:
        TrainingError: the file is not there, or a line is not a key's hash, a head and 0 or 1.
    """
    given: dict[str, dict[str, int]] = defaultdict(dict)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for line, record in enumerate(csv.DictReader(file), 2):
                if record.get("head") not in HEADS or record.get("value") not in {"0", "1"}:
                    raise TrainingError(
                        f"{path}, line {line}: head must be one of {', '.join(HEADS)}, value 0 or 1."
                    )
                given[record["key"]][record["head"]] = int(record["value"])
    except (OSError, UnicodeDecodeError, KeyError) as error:
        raise TrainingError(f"{path} can't be read as annotations ({error!r}).") from error
    copies = list(rows)
    known: dict[str, set[str]] = defaultdict(set)
    for text_key, row in copies:
        known[text_key].update(row.labels)
    for text_key, row in copies:
        found = given.get(hashlib.sha256(text_key.encode()).hexdigest()[:16], {})
        row.labels.update({head: value for head, value in found.items() if head not in known[text_key]})
    return copies


def read_bundle(path: Path, key_path: Path | None, now: datetime) -> list[readers.Labelled]:
    """The rows of a bundle, with those of the policy's categories that are heads of the model.

    A category that nobody judged stays missing. People say that a text breaks no rule, or which one it breaks;
    they say nothing of heads that are no rule, such as profanity.

    Raises:
        TrainingError: the bundle does not open, has ended, or holds something else than labels.
    """
    return list(readers.of_bundle(path, judged.read(path, key_path, now)[1]))


def brought(
    rows: Iterable[readers.Labelled], unseen: Collection[str] = ()
) -> tuple[list[tuple[str, Row]], int]:
    """Rows of a reader with their keys, parted by hash, and how many hold an embedding and no text.

    Of a long file as much as a run can use, in memory at no time more: training rows with rare positives first,
    then by hash; held-out rows by hash alone, so that they stay what the file is.
    """
    kept: dict[tuple[str, bool], list[tuple[int, int, str, Row]]] = defaultdict(list)
    aside = 0
    for number, one in enumerate(rows):
        if one.text is None:
            aside += 1
            continue
        text_key = key(one.text)
        if not text_key or not one.labels:
            continue
        part = "unseen" if one.source in unseen else part_of(text_key, "train", has_dev=False)
        row = Row(one.text, one.source, part, one.labels)
        rare = part == "train" and any(row.labels.get(head) == 1 for head in FIRST)
        most = CAPS.get(row.source, BROUGHT_CAP) if part == "train" else HELD_OUT_CAP
        entry = (-digest(text_key), number, text_key, row)
        (heapq.heappush if len(kept[part, rare]) < most else heapq.heappushpop)(kept[part, rare], entry)
    found = sorted((number, text_key, row) for heap in kept.values() for _, number, text_key, row in heap)
    return [(text_key, row) for _, text_key, row in found], aside


def cases(paths: Iterable[Path]) -> list[tuple[str, Row]]:
    """HateCheck's cases with their keys, each under the functionality it tests."""
    found = (one for path in paths for one in readers.hatecheck(path))
    return [(key(one.text), Row(one.text, one.source, CASES, one.labels)) for one in found if one.text]


def read(run: Run, *parts: str) -> list[Row]:
    """The run's rows of the given parts.

    Raises:
        TrainingError: stage `dataset` has not finished.
    """
    run.record("dataset")
    return [row for row in (Row(**line) for line in read_lines(run.path("rows.jsonl"))) if row.part in parts]


def counts(rows: Iterable[Row]) -> dict[str, dict[str, dict[str, str]]]:
    """Part, source and head to "positives/labelled", and how many rows."""
    seen: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    sizes: Counter[tuple[str, str]] = Counter()
    for row in rows:
        sizes[row.part, row.source] += 1
        for head, value in row.labels.items():
            seen[row.part, row.source, head][0] += value
            seen[row.part, row.source, head][1] += 1
    result: dict[str, dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    for (part, source), size in sorted(sizes.items()):
        result[part][source]["rows"] = str(size)
    for (part, source, head), (positives, labelled) in sorted(seen.items()):
        result[part][source][head] = f"{positives}/{labelled}"
    return result


@dataclass(slots=True)
class Gathered:
    """Everything a run is given: rows with their keys, hashes of what they came from, and what can't be used."""

    rows: list[tuple[str, Row]] = field(default_factory=list)
    cases: list[tuple[str, Row]] = field(default_factory=list)
    data: dict[str, str] = field(default_factory=dict)
    aside: int = 0
    bundles: list[dict[str, str]] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)

    def take(self, rows: Iterable[readers.Labelled], unseen: Collection[str]) -> None:
        found, aside = brought(rows, unseen)
        self.rows += found
        self.aside += aside


def gather(run: Run, arguments: Namespace) -> Gathered:
    """The published table, what the trainer brings, and the bundle, as far as they are given.

    Raises:
        TrainingError: there is nothing, a file is not what it should be, or `--unseen` names no source of it.
    """
    path, found = arguments.data / FILE, Gathered()
    unseen = set(filter(None, arguments.unseen.split(",")))
    files = {name: tuple(getattr(arguments, name)) for name in (*readers.READERS, CASES)}
    own = {name for name in readers.READERS if files[name]} | ({OWN} if arguments.bundle else set())
    if path.exists() or not own:
        found.rows += read_source(path, unseen - own)
        found.data[FILE] = file_sha256(path)
    elif unseen - own:
        raise TrainingError(f"--unseen names {', '.join(sorted(unseen - own))}, and there is no {path}.")
    for name, reader in readers.READERS.items():
        for file in files[name]:
            found.take(reader(file), unseen)
    if arguments.key is not None and len(arguments.bundle) > 1:
        raise TrainingError("--key is for one bundle; lay each other's key beside it, as BUNDLE.key.")
    for bundle in arguments.bundle:
        named, rows = judged.read(bundle, arguments.key, datetime.now(UTC))
        found.take(readers.of_bundle(bundle, rows), unseen)
        found.data[f"bundle {named['id']}"] = named["sha256"]
        found.bundles.append(named)
        found.judged += [judged.of_row(row) for row in rows]
    found.cases = cases(files[CASES])
    for name, given in files.items():
        found.data |= {f"{name} {file.name}": file_sha256(file) for file in given}
    if own:
        # What people posted lies in the clear in the run's folder from here on.
        run.folder.chmod(0o700)
    found.rows = annotated(found.rows)
    if found.aside:
        print(
            f"{found.aside} rows hold an embedding and no text: a text model can't use them, they are left out."
        )
    return found


def main(run: Run, arguments: Namespace) -> None:
    """Write `rows.jsonl` and the record with every table, count and hash."""
    started = time.monotonic()
    found = gather(run, arguments)
    contrast = [(key(row.text), row) for row in contrast_rows(Row, arguments.data)]
    measured = {text_key for text_key, _ in found.cases}
    joined = merge((text_key, row) for text_key, row in [*found.rows, *contrast] if text_key not in measured)
    rows = apart([*cap(joined), *(row for _, row in found.cases)])
    write_lines(run.path("rows.jsonl"), (asdict(row) for row in rows))
    run.finish(
        "dataset",
        arguments,
        started,
        data=found.data | {ANNOTATIONS.name: file_sha256(ANNOTATIONS)},
        rows_sha256=file_sha256(run.path("rows.jsonl")),
        published=len(found.rows),
        embeddings_left_out=found.aside,
        bundles=found.bundles,
        labels=judged.lineage(found.judged, HEADS),
        kept=len(rows),
        mapping=dict(LABELS),
        readers={
            "jigsaw": dict(readers.JIGSAW),
            "civil": dict(readers.CIVIL),
            "yes": readers.YES,
            "no": readers.NO,
        },
        unseen=sorted(filter(None, arguments.unseen.split(","))),
        caps=dict(CAPS),
        held_out=HELD_OUT,
        assumed_no={head: {"weight": w, "sources": list(s)} for head, (w, s) in ASSUMED_NO.items()},
        implied_by_not_toxic={"weight": IMPLIED_BY_NOT_TOXIC[0], "heads": list(IMPLIED_BY_NOT_TOXIC[1])},
        counts=counts(rows),
    )
