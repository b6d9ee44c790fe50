"""`moderation partners`: processors who may read items that are assigned to them."""

from __future__ import annotations

import argparse
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from moderation.commands import Part, SettingsOf
from moderation.commands import say as _say

if TYPE_CHECKING:
    from moderation.settings import Settings


def add(commands: Any, part: Part, settings_of: SettingsOf) -> None:
    """The parser of `moderation partners`."""
    group = commands.add_parser("partners", help="processors who read items assigned to them")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    create = part(actions, "add", "make a partner and print the key this once",
                  lambda options: _add(options, settings_of(options)))  # fmt: skip
    create.add_argument("name", metavar="NAME", help="lower-case letters, digits, hyphens")
    create.add_argument(
        "--purpose", required=True, metavar="PURPOSE", help="one of the registry: review, legal ..."
    )
    create.add_argument(
        "--field", action="append", required=True, metavar="FIELD",
        help="text, image, category, language, posted_at or thread; may be repeated",
    )  # fmt: skip
    create.add_argument(
        "--days", type=int, default=90, metavar="N", help="the key lasts; default: %(default)s"
    )
    part(actions, "list", "list all partners, without their secrets",
         lambda options: _list(settings_of(options)))  # fmt: skip
    revoke = part(actions, "revoke", "end a partner at once",
                  lambda options: _revoke(options, settings_of(options)))  # fmt: skip
    revoke.add_argument("name", metavar="NAME")
    assign = part(actions, "assign", "let a partner read items, or that of a case",
                  lambda options: _assign(options, settings_of(options)))  # fmt: skip
    assign.add_argument("name", metavar="NAME")
    assign.add_argument("items", nargs="*", metavar="ITEM")
    assign.add_argument("--case", metavar="CASE")


def _add(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import partners

    with administration.opened(settings) as held:
        token = partners.create(
            held.session,
            held.vault,
            name=options.name,
            purpose=options.purpose,
            fields=options.field,
            expires_at=held.now + timedelta(days=max(0, min(options.days, 10_000))),
            actor=administration.OPERATOR,
            now=held.now,
        )
    _say(token)
    sys.stderr.write("This is the only time it is shown.\n")
    return 0


def _list(settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import partners

    with administration.opened(settings) as held:
        for one in partners.listing(held.session, held.now):
            late = f", {one.unacknowledged} deletions not acknowledged" if one.unacknowledged else ""
            _say(
                f"{one.row.name}  {one.state(held.now):<8}  until {one.row.expires_at:%Y-%m-%d}  "
                f"{one.row.purpose}  {' '.join(one.row.fields)}  {one.items} items{late}"
            )
    return 0


def _revoke(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import partners

    with administration.opened(settings) as held:
        partners.revoke(held.session, options.name, administration.OPERATOR, held.now)
    _say("The partner is revoked. Have them delete what they hold, and note it in the console.")
    return 0


def _assign(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import partners

    items, case = [_id(one) for one in options.items], _id(options.case) if options.case else None
    with administration.opened(settings) as held:
        fresh = partners.assign(
            held.session, options.name, administration.OPERATOR, held.now, items=items, case=case
        )
    _say(f"{fresh} {'item' if fresh == 1 else 'items'} assigned.")
    return 0


def _id(text: str) -> UUID:
    from moderation.domain.errors import InvalidInput

    try:
        return UUID(text)
    except ValueError as error:
        raise InvalidInput("An id is 32 hexadecimal digits in five groups; copy the whole of it.") from error
