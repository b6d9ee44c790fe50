"""Three storms of 2,000 items: `python -m benchmarks.chaos [--seeds 1 2 3] [--items 2000]`.

Real PostgreSQL, Valkey, API, relay and two workers in a temporary directory; traffic on loopback and Unix
sockets only. Ends by itself, with status 1 if anything was lost, duplicated or unexpected.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

from tests.chaos import storm
from tests.chaos.harness import Stack
from tests.chaos.storm import Account, Plan


def main() -> int:
    """Run every seed and print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--items", type=int, default=2000)
    options = parser.parse_args()
    accounts = {}
    for seed in options.seeds:
        with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
            plan = Plan(seed=seed, items=options.items)
            with Stack(Path(directory), environment=storm.ENVIRONMENT) as stack:
                accounts[seed] = storm.run(stack, plan)
        sys.stderr.write(f"seed {seed}: {accounts[seed].faults or 'nothing wrong'}\n")
    print(table(accounts))
    return 1 if any(account.faults for account in accounts.values()) else 0


def table(accounts: dict[int, Account]) -> str:
    """The accounts side by side, in Markdown."""
    seeds = list(accounts)
    rows: dict[str, list[str]] = {}
    for seed in seeds:
        strikes = accounts[seed].strikes
        for name in (field.name for field in fields(Account) if field.name != "strikes"):
            value = getattr(accounts[seed], name)
            shown = f"{value:.0f}" if isinstance(value, float) else str(value)
            rows.setdefault(name.replace("_", " "), []).append(shown)
        for name in sorted({strike for account in accounts.values() for strike in account.strikes}):
            rows.setdefault(f"strikes: {name}", []).append(str(strikes[name]))
    lines = [f"| | {' | '.join(f'seed {seed}' for seed in seeds)} |", "|---" * (len(seeds) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(values)} |" for name, values in rows.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
