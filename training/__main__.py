"""`python -m training STAGE --data DIR --run DIR`: the stages, one after the other or one at a time.

`python -m training image-head --data BUNDLE --category C --version V` makes a head for pictures, and
`python -m training text-head --data BUNDLE --client C --version V` one for a community's texts.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

# On a shared machine a thread that spins for its neighbour costs more than it saves: with other work on the
# same two cores training ran three times as fast with these. They must be set before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
# A head's matrices are small: threads that wait for each other cost it ten times what they save.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from models.registry import ARTIFACTS, MANIFEST, NAME, VERSION
from training.common import STAGES, Run, TrainingError

HEADS = {"image-head": "training.image_head", "text-head": "training.text_head"}


def _waiver(text: str) -> tuple[str, str]:
    gate, _, reason = text.partition("=")
    if not gate.strip() or not reason.strip():
        raise argparse.ArgumentTypeError("takes GATE=REASON, both of them")
    return gate.strip(), reason.strip()


def parser() -> argparse.ArgumentParser:
    """The command line, with every default that a run records."""
    result = argparse.ArgumentParser(prog="python -m training", description=(__doc__ or "").splitlines()[0])
    result.add_argument("stage", choices=(*STAGES, "all"))
    result.add_argument(
        "--data",
        type=Path,
        help="folder with labelled.parquet, templates and word lists, as far as there are any",
    )
    result.add_argument("--run", type=Path, required=True, help="folder of this run, made if need be")
    for name, text in (
        ("jigsaw", "toxic comments as Jigsaw published them, CSV"),
        ("civil", "Civil Comments or Unintended Bias, CSV"),
        ("lines", "rows as bundles hold them, JSON lines in the clear"),
        ("hatecheck", "HateCheck's cases, CSV: measured on, never trained on"),
    ):
        result.add_argument(f"--{name}", type=Path, action="append", default=[], metavar="FILE", help=text)
    result.add_argument(
        "--bundle", type=Path, action="append", default=[], metavar="FILE",
        help="labels of your own, from `moderation labels export`",
    )  # fmt: skip
    result.add_argument("--key", type=Path, help="the bundle's key file (default: BUNDLE.key)")
    result.add_argument("--out", type=Path, help="artifact folder for export (default: RUN/artifact)")
    result.add_argument("--name", default="text-minilm", help="the artifact's name")
    result.add_argument("--version", default="own-1", help="the artifact's version")
    result.add_argument(
        "--champion", type=Path, help="artifact folder that the new one is compared with: the one that serves"
    )
    result.add_argument(
        "--waive", type=_waiver, action="append", default=[], metavar="GATE=REASON",
        help="let be what a gate asks; the reason stands in the card and wherever the gates are",
    )  # fmt: skip
    result.add_argument(
        "--unseen", default="", help="sources never trained on, with commas: to measure transfer"
    )
    result.add_argument("--start", type=Path, help="run whose model to begin with instead of the base model")
    result.add_argument("--seed", type=int, default=20260)
    result.add_argument("--threads", type=int, default=2)
    result.add_argument("--epochs", type=int, default=1)
    result.add_argument("--passes", type=int, default=70_000, help="texts drawn at most, over all epochs")
    result.add_argument("--batch", type=int, default=32, help="texts per step")
    result.add_argument("--rate", type=float, default=1.5e-4, help="peak learning rate of the encoder")
    result.add_argument("--tokens", type=int, default=96, help="longest window, ends included")
    result.add_argument("--resamples", type=int, default=500, help="bootstrap resamples of a metric")
    result.add_argument("--again", action="store_true", help="run a finished stage once more")
    return result


def check(arguments: argparse.Namespace, stages: tuple[str, ...]) -> None:
    """What would otherwise be known only after an hour.

    Raises:
        TrainingError: the artifact can't have this name or version, or would replace another one.
    """
    if not NAME.fullmatch(arguments.name) or not VERSION.fullmatch(arguments.version):
        raise TrainingError(
            "--name takes lower-case letters, digits and hyphens; --version takes letters, digits and .-_ as well."
        )
    run = Run(arguments.run)
    if "export" not in stages or arguments.again or run.done("export"):
        return
    out = arguments.out
    if out is not None and (out / MANIFEST).exists():
        raise TrainingError(
            f"{out} holds an artifact already: give --out another folder, or --again to replace it."
        )
    shipped = ARTIFACTS / arguments.name / arguments.version
    if shipped.exists() and (out is None or out.resolve() != shipped.resolve()):
        raise TrainingError(
            f"{arguments.name} {arguments.version} is shipped with this release: give --version one of your own."
        )


def check_heads(run: Run) -> None:
    """Refuse before the long stage what stage `calibrate` could only refuse after it.

    Raises:
        TrainingError: a head has nothing to learn from or to be calibrated on.
    """
    from training import dataset

    if missing := dataset.lacking(dataset.read(run, "train", "calibrate")):
        raise TrainingError(
            f"There are too few labels: {'; '.join(missing)}. Bring more (--jigsaw, --civil, --lines, --bundle, or "
            "--data with labelled.parquet) and run dataset with --again."
        )


def main(argv: list[str] | None = None) -> int:
    """Run the stages asked for; a finished one is left alone unless --again. Returns the exit status."""
    given = sys.argv[1:] if argv is None else argv
    if given and given[0] in HEADS:
        return _head(given[0], given[1:])
    arguments = parser().parse_args(argv)
    stages = STAGES if arguments.stage == "all" else (arguments.stage,)
    run = Run(arguments.run)
    try:
        check(arguments, stages)
        run.folder.mkdir(parents=True, exist_ok=True)
    except (TrainingError, OSError) as error:
        print(f"{arguments.stage}: {error}", file=sys.stderr)
        return 1
    # A folder without any of its files: nothing published is asked for.
    arguments.data = arguments.data or arguments.run
    for stage in stages:
        if run.done(stage) and not arguments.again:
            print(f"{stage}: done before, left alone (--again runs it once more)")
            continue
        print(f"{stage}:")
        try:
            if stage == "train" and len(stages) > 1:
                check_heads(run)
            importlib.import_module(f"training.{stage}").main(run, arguments)
        except TrainingError as error:
            print(f"{stage}: {error}", file=sys.stderr)
            return 1
        except ImportError as error:
            print(f"{stage}: {error}; pip install 'moderation[training]'", file=sys.stderr)
            return 1
    return 0


def _head(stage: str, given: list[str]) -> int:
    try:
        return int(importlib.import_module(HEADS[stage]).main(given))
    except ImportError as error:
        print(f"{stage}: {error}; pip install 'moderation[training]'", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
