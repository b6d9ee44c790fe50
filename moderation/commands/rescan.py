"""`moderation rescan`: look for what a bank knows in everything that is still retained."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any
from uuid import UUID

from moderation.commands import Part, SettingsOf, say

if TYPE_CHECKING:
    from moderation.rescanning import Came
    from moderation.settings import Settings

NICE = 10  # whoever posts now comes first


def add(commands: Any, part: Part, settings_of: SettingsOf) -> None:
    """The parser of `moderation rescan`."""
    rescan = part(commands, "rescan", "look for what a bank knows in everything that is still retained",
                  lambda options: _rescan(options, settings_of(options)))  # fmt: skip
    rescan.add_argument("--bank", required=True, metavar="NAME")
    rescan.add_argument(
        "--since-entry", type=UUID, metavar="ID",
        help="only this entry and those that were added or changed after it",
    )  # fmt: skip
    rescan.add_argument(
        "--dry-run", action="store_true", help="say what would come of it, and change nothing"
    )
    rescan.add_argument("--yes", action="store_true", help="without a dry run before it")
    rescan.add_argument(
        "--anew", action="store_true", help="give up the search that was not finished, and begin again"
    )


def _rescan(options: argparse.Namespace, settings: Settings) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from moderation import administration, rescanning
    from moderation.rescanning import Wanted

    os.nice(NICE)
    wanted = Wanted(options.bank, options.dry_run, options.since_entry, options.yes, options.anew)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Items", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        came = rescanning.run(settings, wanted, administration.OPERATOR, progress)
    _tell(came, dry=options.dry_run)
    return 0


def _tell(came: Came, *, dry: bool) -> None:
    from moderation.review.reconsidering import Became

    if came.resumed:
        say("Gone on with the search that was not finished; the numbers of items are of both together.")
    row, would = came.row, "would be " if dry else ""
    say(f"{row.seen:,} items looked at, {row.matched:,} match.")
    said = {
        Became.DECIDED: f"{would}decided anew",
        Became.BEFORE_PEOPLE: f"{would}brought before people",
        Became.LABELLED: f"{would}labelled",
        Became.LEFT: "left as they are: known already, allowed by a bank, or decided as gravely",
        Became.OUT_OF_REACH: "gone meanwhile, or restricted by their author",
    }
    for became, words in said.items():
        if came.became[became]:
            say(f"  {came.became[became]:,} {words}")
    if dry and row.matched:
        say("Nothing was changed. Without --dry-run it is done.")
