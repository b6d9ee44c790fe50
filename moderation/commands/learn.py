"""`moderation learn`: one round of the loop, from reviewed labels to a proposal that a second person confirms."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moderation.commands import Part, SettingsOf, say

if TYPE_CHECKING:
    from moderation.settings import Settings
    from moderation.storage.tables import LearningRound

NICE = 10  # whoever posts now comes first


def add(commands: Any, part: Part, settings_of: SettingsOf) -> None:
    """The parser of `moderation learn`."""
    learn = part(commands, "learn", "learn from what people found: fit a head, check it, and propose it",
                 lambda options: _learn(options, settings_of(options)))  # fmt: skip
    learn.add_argument(
        "--client", metavar="C", help="a head for what this content service posts; default: one for all"
    )
    learn.add_argument("--category", action="append", default=[], metavar="C",
                       help="only of this category; can be given several times")  # fmt: skip
    learn.add_argument("--days", type=float, metavar="N", help="from labels of so many days; default: of all")
    learn.add_argument(
        "--by", metavar="EMAIL", help="who proposes it, of those who work here; somebody else promotes it"
    )
    learn.add_argument(
        "--elsewhere", action="store_true", help="stop once the bundle is written, to fit on another machine"
    )
    learn.add_argument("--artifact", type=Path, metavar="DIR", help="go on with what was fitted elsewhere")
    learn.add_argument(
        "--anew", action="store_true", help="give up the round that is not over, and begin another"
    )
    learn.add_argument("--status", action="store_true", help="the rounds so far; nothing is done")
    learn.add_argument("--scheduled", action="store_true",
                       help="what MODERATION_LEARN_DAYS asks for; the relay gives this command")  # fmt: skip


def _learn(options: argparse.Namespace, settings: Settings) -> int:
    if options.status:
        return _status(settings)
    from moderation import administration, learning
    from moderation.governance import audit

    os.nice(NICE)
    if options.scheduled:
        rounds = learning.scheduled(settings, audit.MACHINE, say)
        return int(any(one.trouble for one in rounds))
    wanted = learning.Wanted(
        client=options.client,
        categories=tuple(options.category),
        days=options.days,
        by=options.by,
        artifact=options.artifact,
        elsewhere=options.elsewhere,
        anew=options.anew,
    )
    done = learning.run(settings, wanted, administration.OPERATOR, say)
    return int(done.trouble is not None)


def _status(settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import learning

    with administration.opened(settings) as held:
        rounds = learning.listing(held.session)
        for one in rounds:
            say(_line(one))
    if not rounds:
        say("No round of learning was begun yet.")
    return 0


def _line(one: LearningRound) -> str:
    model = f"{one.name} {one.version}" if one.name else "-"
    rows = one.document.get("rows")
    said = (
        f"{one.started_at:%Y-%m-%d %H:%M}  {one.client or 'all':<12}  {one.state:<10}  {model:<32}  "
        f"{'' if rows is None else f'{rows} labels'}"
    )
    certified = one.document.get("certified", {})
    if certified.get("promises"):
        said += f"  {certified['proved']} of {certified['promises']} promises"
    return said.rstrip() + (f"\n    {one.trouble}" if one.trouble else "")
