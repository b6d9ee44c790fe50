"""The canary of the design, whole: `python -m benchmarks.canary [--each 5]`.

Authors whose every field is a word of its own go through the whole product; two thirds of them are erased, by
request and with their accounts. Looked for is every word: in raw bytes of everything on disk in six encodings, and
in whatever any key that is left opens, here and in a backup from before that is restored. Ends with status 1 if a
word is where it must not be, or one of the living is not found where it must be.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests import canary_whole
from tests.canary_whole import Outcome


def main() -> int:
    """Run it and print what was found where."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--each", type=int, default=5, help="authors who live, are erased and cancel: each so many"
    )
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="canary-") as folder:
        outcome = canary_whole.run(Path(folder), options.each)
    sys.stdout.write(table(outcome) + f"\n\n{time.monotonic() - began:.0f} s\n")
    for line in outcome.wrong:
        sys.stdout.write(f"WRONG {line}\n")
    return 1 if outcome.wrong else 0


def table(outcome: Outcome) -> str:
    """What was scanned and what was read, in Markdown."""
    lines = [
        f"{outcome.authors} authors, {outcome.items} items, {outcome.words} words of their own.",
        f"{outcome.pages} pages and answers looked at; {len(outcome.wrong)} faults.",
        "",
        "| raw bytes of | MB | words found |",
        "|---|---:|---:|",
        *(
            f"| {where} | {size / 1e6:.1f} | {outcome.hits(where)} |"
            for where, size in outcome.looked_at.items()
        ),
        "",
        "| read with keys | words that must be there, found | words of the erased |",
        "|---|---:|---:|",
        *(f"| {where} | {count} | {outcome.hits(where)} |" for where, count in outcome.read.items()),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
