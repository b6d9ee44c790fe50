"""`python -m training STAGE --data DIR --run DIR`: the stages, one after the other or one at a time."""

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
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from training.common import STAGES, Run, TrainingError


def parser() -> argparse.ArgumentParser:
    """The command line, with every default that a run records."""
    result = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    result.add_argument("stage", choices=(*STAGES, "all"))
    result.add_argument("--data", type=Path, required=True, help="folder that holds labelled.parquet")
    result.add_argument("--run", type=Path, required=True, help="folder of this run, made if need be")
    result.add_argument("--bundle", type=Path, help="labels of your own, from `moderation labels export`")
    result.add_argument("--key", type=Path, help="the bundle's key file (default: BUNDLE.key)")
    result.add_argument("--out", type=Path, help="artifact folder for export (default: RUN/artifact)")
    result.add_argument("--name", default="text-minilm", help="the artifact's name")
    result.add_argument("--version", default="1", help="the artifact's version")
    result.add_argument("--unseen", default="", help="sources never trained on, with commas: to measure transfer")
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


def main(argv: list[str] | None = None) -> int:
    """Run the stages asked for; a finished one is left alone unless --again. Returns the exit status."""
    arguments = parser().parse_args(argv)
    run = Run(arguments.run)
    run.folder.mkdir(parents=True, exist_ok=True)
    for stage in STAGES if arguments.stage == "all" else (arguments.stage,):
        if run.done(stage) and not arguments.again:
            print(f"{stage}: done before, left alone (--again runs it once more)")
            continue
        print(f"{stage}:")
        try:
            importlib.import_module(f"training.{stage}").main(run, arguments)
        except TrainingError as error:
            print(f"{stage}: {error}", file=sys.stderr)
            return 1
        except ImportError as error:
            print(f"{stage}: {error}; pip install 'moderation[training]'", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
