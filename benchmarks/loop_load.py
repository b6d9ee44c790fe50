"""Changes of what serves under load: `python -m benchmarks.loop_load [--workers N] [--batch N]`.

Real PostgreSQL, Valkey, API, relay and workers; posts wait all the time. A shadow begins and ends, a canary begins,
is promoted, another one begins and ends, and the champion goes back. Counted: items without a verdict, with two, or
by two versions. Measured: how long each change takes to be seen in what is decided, and the longest time without a
commit of decisions meanwhile, beside that of a time in which nothing changes. With one worker that is its longest
batch. Ends with status 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.chaos import changing
from tests.chaos.changing import Account
from tests.chaos.harness import Stack


def main() -> int:
    """Run and print as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steady", type=float, default=15.0, help="seconds without a change")
    options = parser.parse_args()
    environment = {"BATCH_ITEMS": str(options.batch)}
    with tempfile.TemporaryDirectory(prefix="loop-") as name:
        directory = Path(name)
        with Stack(directory / "stack", workers=options.workers, environment=environment) as stack:
            account = changing.run(stack, directory / "versions", options.steady)
    print(table(account))
    return 1 if account.faults else 0


def table(account: Account) -> str:
    """The account in Markdown."""
    versions = ", ".join(f"{count} by {version}" for version, count in sorted(account.by_version.items()))
    shadowed = f"{account.shadowed} of them with a shadow's scores, {account.seconds:.0f} s"
    lines = [
        f"{account.items} items ({versions}), {shadowed}; wrong: {account.faults or 'nothing'}",
        "",
        "| what happens | seen after s | median time between two commits, s | longest, s |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {pause.seen:.1f} | {pause.median:.2f} | {pause.longest:.2f} |"
        for name, pause in account.pauses.items()
        if pause.longest
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
