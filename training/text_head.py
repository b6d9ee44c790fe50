"""A head over the text model, from reviewed labels to an artifact, in seconds and without torch.

    python -m training text-head --data own.bundle --client forum --category harassment --version own-1

The bundle holds texts that people judged (`moderation labels export`). The text model reads each once; one small
linear model per category learns by what its people differ from what the model says. Nothing beyond a plain install
is needed. `fit` does the same in process. What it writes goes the way of every other model.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from models.gates import check, failures
from models.registry import (
    ARTIFACTS,
    MANIFEST,
    NAME,
    VERSION,
    ArtifactError,
    Manifest,
    load,
    newest,
    shipped,
    write_manifest,
)
from models.runtime import check_golden
from models.text import TextClassifier
from models.text_heads import KIND, VECTOR, WEIGHTS, Base, Seen, TextHead
from moderation.domain.cases import MINORS
from training.common import TrainingError, progress
from training.judged import lineage
from training.register import commands, line
from training.text_examples import (
    CERTAIN,
    HEAVIEST,
    HELD_OUT,
    Given,
    certainty,
    of_bundles,
    parted,
    stands_for,
)
from training.text_head_card import card
from training.text_head_measured import RESAMPLES, SEED, Made, Table, Wanted, against, fit_one, gates

__all__ = ["SEED", "Wanted", "fit", "main", "named", "shipped_base"]
ENOUGH = 30
"""Distinct texts of each side from which a category is taken where none is named: what the gates ask."""
CATEGORY = re.compile(r"[a-z][a-z0-9_]{0,63}")
LICENCE = """\
This head was fitted by the installation that uses it, on labels of its own people. It is not published: whoever
passes it on sees to it that the labels may be used so. The text model it belongs to has a licence of its own.
"""


def fit(given: Given, base: TextClassifier, wanted: Wanted) -> Manifest:
    """A head from judged texts, as a folder with manifest, card and gates' numbers; `gates.check` judges them.

    Raises:
        TrainingError: nothing can be made of this.
        ArtifactError: the champion can't be loaded.
    """
    if unseen := [c for c in wanted.categories if c in set(MINORS) or not CATEGORY.fullmatch(c)]:
        raise TrainingError(
            f"No model learns {unseen[0]!r}: take a category of the policy that is not of minors."
        )
    texts = [row.text for row in given.rows]
    counts = stands_for(given.rows, wanted.heaviest)
    table = Table(
        given, _seen(base, texts), parted(texts, wanted.seed), counts, counts * certainty(given.rows)
    )
    categories = list(wanted.categories) or _enough(table)
    champion = _champion(wanted.champion, base)
    made = Made()
    for category in categories:
        fit_one(table, category, base.manifest.categories, wanted, made)
    if champion is not None:
        made.metrics["champion"] = against(champion, table, categories, made, wanted)
    return _write(wanted.out, _document(table, base.manifest, wanted, made), made, base)


def _seen(base: TextClassifier, texts: Sequence[str]) -> list[Seen]:
    found: list[Seen] = []
    with progress("read by the text model", len(texts)) as advance:
        for start in range(0, len(texts), 64):
            found += base.seen(texts[start : start + 64])
            advance(len(texts[start : start + 64]))
    return found


def _enough(table: Table) -> list[str]:
    """The categories with enough distinct texts of both sides.

    Raises:
        TrainingError: there is none.
    """
    named = sorted({category for row in table.given.rows for category in row.labels} - set(MINORS))
    found = [c for c in named if min(table.distinct(c).values()) >= ENOUGH]
    if not found:
        raise TrainingError(
            f"No category has {ENOUGH} distinct texts that are a yes and {ENOUGH} that are a no yet."
        )
    return found


def _champion(folder: Path | None, base: TextClassifier) -> TextHead | None:
    """The head that serves; None where there is none, or it belongs to another base and serves no more."""
    head = TextHead(load(folder)) if folder is not None else None
    if head is not None and head.maker != base.maker:
        print(
            f"{head.manifest.name} {head.manifest.version} belongs to another base and is not compared with."
        )
        return None
    return head


def _document(table: Table, base: Manifest, wanted: Wanted, made: Made) -> dict[str, Any]:
    """The manifest without its files and golden sentences."""
    categories, whose = list(made.fitted), Base.of(base)
    used = [row for row in table.given.rows if set(row.labels) & set(categories)]
    calibrations = {category: fitted.calibration for category, fitted in made.fitted.items()}
    return {
        "name": wanted.name or named(wanted.clients),
        "version": wanted.version,
        "kind": KIND,
        "licence": "of the installation's own",
        "outputs": [
            {"category": c, "head": c, "scale": one.scale, "shift": one.shift}
            for c, one in calibrations.items()
        ],
        "input": {
            "base": {"name": whose.name, "version": whose.version, "sha256": whose.sha256},
            "tensor": VECTOR,
            "dimensions": len(next(iter(made.fitted.values())).weights.vector),
            "clients": sorted(wanted.clients),
            "heads": categories,
            "scores": list(base.categories),
        },
        "training": {
            "seed": wanted.seed,
            "heaviest": wanted.heaviest,
            "certainty": dict(CERTAIN),
            "held_out": HELD_OUT,
            "bundles": [dict(one) for one in table.given.bundles],
            "labels": lineage(used, categories),
            "freedom": {
                c: {"vector": one.freedom.vector, "scores": one.freedom.scores}
                | {name: round(value, 4) for name, value in one.surprise.items()}
                for c, one in made.fitted.items()
            },
        },
        "metrics": made.metrics,
        "gates": [gate.document() for gate in gates(categories, made.metrics)],
    }


def _write(folder: Path, document: Mapping[str, Any], made: Made, base: TextClassifier) -> Manifest:
    """Write the artifact's folder, golden sentences and manifest last; check it by itself and beside its base."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = [fitted.weights for fitted in made.fitted.values()]
    np.savez(
        folder / WEIGHTS,
        vector=np.array([one.vector for one in weights], np.float32),
        scores=np.array([one.scores for one in weights]),
        bias=np.array([one.bias for one in weights]),
    )
    (folder / "MODEL_CARD.md").write_text(card(document), encoding="utf-8")
    (folder / "LICENSE.txt").write_text(LICENCE, encoding="utf-8")
    files = (WEIGHTS, "MODEL_CARD.md", "LICENSE.txt")
    head = TextHead(write_manifest(folder, document, files))
    manifest = write_manifest(folder, {**document, "golden": _golden(head, base)}, files)
    head = TextHead(manifest)
    check_golden(head)
    base.bears(head)
    return manifest


def _golden(head: TextHead, base: TextClassifier) -> list[dict[str, Any]]:
    """The base's golden sentences: what it sees in each, and what the head says of that."""
    entries = []
    for text in (str(entry["input"]) for entry in base.manifest.golden):
        (seen,) = base.seen([text])
        if len(seen.windows) > 1:
            continue
        kept = {
            "logodds": [round(float(one), 4) for one in seen.logodds],
            "vector": [round(float(one), 4) for one in seen.windows[0]],
        }
        (row,) = head.score([head.golden_input({"input": kept})])
        scores = dict(zip(head.manifest.categories, (round(float(p), 6) for p in row), strict=True))
        entries.append({"text": text, "input": kept, "scores": scores})
    return entries


def named(clients: Sequence[str]) -> str:
    """The name of a head where none is given: by its one client, or that of everybody's.

    Raises:
        TrainingError: it is for several clients, or theirs makes no name.
    """
    if not clients:
        return KIND
    name = f"{KIND}-{re.sub('[^a-z0-9]+', '-', clients[0].lower()).strip('-')}"
    if len(clients) > 1 or not NAME.fullmatch(name) or name == f"{KIND}-":
        raise TrainingError("Give the head a name with --name: lower-case letters, digits and hyphens.")
    return name


def shipped_base(folder: Path | None) -> TextClassifier:
    """The text model in a folder, or the newest that ships.

    Raises:
        ArtifactError: there is none, or it computes something else here.
    """
    if folder is None:
        found = {one.version: one.folder for one in shipped(ARTIFACTS) if one.kind == "text"}
        folder = found[newest(list(found))]
    base = TextClassifier(load(folder), threads=2)
    check_golden(base)
    return base


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m training text-head", description=(__doc__ or "").splitlines()[0]
    )
    result.add_argument(
        "--data",
        type=Path,
        action="append",
        required=True,
        metavar="BUNDLE",
        help="a bundle of labels; repeatable",
    )
    result.add_argument("--key", type=Path, help="the bundle's key file (default: BUNDLE.key)")
    result.add_argument(
        "--client",
        action="append",
        default=[],
        help="whose posts it judges; repeatable (default: everybody's)",
    )
    result.add_argument(
        "--category", action="append", default=[],
        help=f"a category of the policy; repeatable (default: all with {ENOUGH} distinct texts of both sides)",
    )  # fmt: skip
    result.add_argument("--version", required=True, help="the artifact's version")
    result.add_argument("--name", default="", help="the artifact's name (default: text-head-CLIENT)")
    result.add_argument(
        "--base", type=Path, help="the text model's artifact: the one that serves (default: shipped)"
    )
    result.add_argument("--champion", type=Path, help="the head that serves now, to compare with")
    result.add_argument("--out", type=Path, help="the artifact's folder (default: runs/NAME-VERSION)")
    result.add_argument(
        "--policy-from",
        type=int,
        default=0,
        metavar="VERSION",
        help="leave out what was judged under older policies",
    )
    result.add_argument(
        "--heaviest", type=float, default=HEAVIEST, metavar="ITEMS",
        help="how many items one row may stand for, at most (default: %(default)g)",
    )  # fmt: skip
    result.add_argument("--seed", type=int, default=SEED)
    result.add_argument("--resamples", type=int, default=RESAMPLES, help="bootstrap resamples of a metric")
    return result


def checked(arguments: argparse.Namespace) -> Wanted:
    """What is asked for, if it can be made.

    Raises:
        TrainingError: name or version can't be, or an artifact lies there.
    """
    name = arguments.name or named(arguments.client)
    if not NAME.fullmatch(name) or not VERSION.fullmatch(arguments.version):
        raise TrainingError(
            "--name takes lower-case letters, digits and hyphens; --version takes letters, digits and .-_ as well."
        )
    if not arguments.heaviest >= 1:
        raise TrainingError("--heaviest takes a number from 1: a row stands for itself at least.")
    out: Path = arguments.out or Path("runs") / f"{name}-{arguments.version}"
    if (out / MANIFEST).exists():
        raise TrainingError(f"{out} holds an artifact already: give another --version or --out.")
    return Wanted(
        arguments.version, out, tuple(dict.fromkeys(arguments.client)), tuple(dict.fromkeys(arguments.category)),
        name, arguments.champion, arguments.heaviest, arguments.seed, arguments.resamples,
    )  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Make a head and judge it; 1 if it fails a gate or can't be made."""
    arguments = parser().parse_args(argv)
    try:
        wanted = checked(arguments)
        given = of_bundles(
            arguments.data, arguments.key, wanted.clients, arguments.policy_from, datetime.now(UTC)
        )
        manifest = fit(given, shipped_base(arguments.base), wanted)
    except (TrainingError, ArtifactError) as error:
        print(f"text-head: {error}", file=sys.stderr)
        return 1
    found = check(manifest)
    for gate in found:
        print(line(gate))
    if failed := failures(found):
        names = ", ".join(gate.name for gate in failed)
        print(f"text-head: {manifest.name} {manifest.version} fails {names}.", file=sys.stderr)
        return 1
    print(f"\n{manifest.name} {manifest.version} passes its {len(found)} gates. On the installation:")
    for step in commands(manifest):
        print(f"  {step}")
    print("Then somebody else promotes it, logged in, in the console under Models.")
    return 0
