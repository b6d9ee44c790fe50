"""`moderation models backtest`: what a version would have said of what is retained."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from moderation.commands import Part, SettingsOf, say

if TYPE_CHECKING:
    from moderation.backtesting import Came
    from moderation.settings import Settings

NICE = 10  # whoever posts now comes first


def add(actions: Any, part: Part, settings_of: SettingsOf) -> None:
    """The parser of the action."""
    action = part(actions, "backtest", "score with a version what is retained, beside what people found",
                  lambda options: _backtest(options, settings_of(options)))  # fmt: skip
    action.add_argument("name", metavar="NAME")
    action.add_argument("version", metavar="VERSION")
    action.add_argument("--days", type=float, default=60.0, metavar="N", help="default: %(default)g")
    action.add_argument("--others", type=int, default=20_000, metavar="N",
                        help="items at most that nobody judged; default: %(default)s")  # fmt: skip


def _backtest(options: argparse.Namespace, settings: Settings) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from moderation import administration, backtesting

    os.nice(NICE)
    wanted = backtesting.Wanted(options.name, options.version, options.days, options.others)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Items", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        came = backtesting.run(settings, wanted, administration.OPERATOR, progress)
    _tell(came)
    return 0


def _tell(came: Came) -> None:
    say(f"{came.looked_at:,} items looked at, {came.scored:,} scored. No decision was touched.")
    if came.learned:
        say(f"{came.learned:,} labelled items are left out of the comparison: it has learned from them.")
    if came.categories:
        say(f"\n{'category':<16}{'yes':>8}{'no':>8}  {'AUC':<8}{'before':<8}")
    for name, one in came.categories.items():
        say(f"{name:<16}{one.yes:>8}{one.no:>8}  {_number(one.auc):<8}{_number(one.was):<8}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
