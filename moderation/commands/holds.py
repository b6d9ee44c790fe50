"""`moderation holds`: what is held, from the command line. People ask for holds and approve them in the console."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from moderation.commands import Part, SettingsOf, say

if TYPE_CHECKING:
    from moderation.settings import Settings


def add(commands: Any, part: Part, settings_of: SettingsOf) -> None:
    """The parser of `moderation holds`."""
    holds = commands.add_parser("holds", help="content that must not end: list the holds")
    actions = holds.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = part(actions, "list", "list open holds by their next review",
                   lambda options: _list(options, settings_of(options)))  # fmt: skip
    listing.add_argument("--ended", action="store_true", help="those that were released or refused instead")


def _list(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import hold_lists

    with administration.opened(settings) as held:
        for one in hold_lists.listing(held.session, held.now, ended=options.ended):
            hold = one.hold
            due = f"review {hold.review_at:%Y-%m-%d}" + (" OVERDUE" if one.overdue else "")
            if hold.released_at is not None:
                due = f"ended {hold.released_at:%Y-%m-%d}"
            whose = f"author {hold.author_id}" if hold.item_id is None else f"item {hold.item_id}"
            say(f"{hold.id}  {hold.state:<9}  {due:<26}  {one.items:>6} items  {whose}  {hold.authority}")
    return 0
