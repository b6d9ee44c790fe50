"""The console in full counts: `python -m benchmarks.console [pages keys storm] [--decisions 200] [--cases 500]`.

pages: every page of an installation with a day of review in it, wide and narrow, light and dark, under axe.
keys: decisions by keyboard at machine speed, compared with the database one by one.
storm: two people in two browsers on one queue, with windows closed, pages crashed, answers lost and leases expired.

Real `moderation up` and Chromium in a temporary directory. Ends with status 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests import browser, keyboard, moderators, pages, seeding
from tests.moderators import Plan
from tests.service import Service, running


def main() -> int:
    """Run what was asked for and print a row for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["pages", "keys", "storm"])
    parser.add_argument("--decisions", type=int, default=200)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if not browser.executable():
        parser.error(f"There is no browser here: apt-get install {browser.PACKAGE} (or set CHROMIUM to one).")
    wrong = 0
    for part in options.parts:
        with (
            tempfile.TemporaryDirectory(prefix="console-") as directory,
            running(Path(directory) / "var") as service,
        ):
            if part == "pages":
                wrong += _pages(service)
            elif part == "keys":
                wrong += _keys(service, options.decisions, options.seed)
            else:
                wrong += _storm(service, options.cases, options.seed)
    return 1 if wrong else 0


def _pages(service: Service) -> int:
    command = [sys.executable, "-m", "moderation", "demo", "--review", "--data-dir", str(service.directory)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with browser.launched() as window, browser.visiting(window, service) as visitor:
        browser.log_in(visitor, browser.first_admin(service))
        began = time.monotonic()
        addresses = pages.addresses(service)
        found = pages.examine_all(visitor, addresses, looks=len(pages.LOOKS))
        counts = {"pages": len(addresses), "looks": len(pages.LOOKS) * len(addresses)}
        _row("pages", counts | {"seconds": _since(began)})
        return _say(found) + _say(visitor.watch.faults)


def _keys(service: Service, count: int, seed: int) -> int:
    seeding.publish(service)
    seeding.cases(service, count + count // 3, seed, pictures=count // 20)
    account = browser.first_admin(service)
    with browser.launched() as window, browser.visiting(window, service) as visitor:
        browser.log_in(visitor, account)
        pressed = keyboard.work(visitor, count, seed)
        wrong = keyboard.differences(service, pressed, account.email)
        counts = {"decisions": len(pressed.decisions), **pressed.kinds, "wrong": len(wrong)}
        _row("keys", counts | {"seconds": round(pressed.seconds, 1)})
        return _say({"stored otherwise": wrong} if wrong else {}) + _say(visitor.watch.faults)


def _storm(service: Service, cases: int, seed: int) -> int:
    each = max(2, cases // 25)
    plan = Plan(seed=seed, cases=cases, closed=each, crashed=each, unanswered=each, away=each)
    outcome = moderators.storm(service, plan)
    counts = {name: getattr(outcome, name) for name in outcome.__slots__ if name not in ("notes", "strikes")}
    _row("storm", counts | {f"strikes: {name}": count for name, count in outcome.strikes.items()})
    return _say(dict.fromkeys(outcome.wrong, outcome.notes))


def _row(name: str, counts: Mapping[str, object]) -> None:
    print(f"{name}: {', '.join(f'{what} {count}' for what, count in counts.items())}", flush=True)


def _say(wrong: Mapping[str, list[str]]) -> int:
    for what, lines in wrong.items():
        print(f"  wrong: {what}: {lines}", flush=True)
    return len(wrong)


def _since(began: float) -> float:
    return round(time.monotonic() - began, 1)


if __name__ == "__main__":
    sys.exit(main())
