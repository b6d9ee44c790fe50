"""`moderation suggestions`: what content services say that texts should have scored, counted, and for training."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moderation.commands import Part, SettingsOf, say

if TYPE_CHECKING:
    from moderation.settings import Settings


def add(commands: Any, part: Part, settings_of: SettingsOf) -> None:
    """The parser of `moderation suggestions`."""
    group = commands.add_parser("suggestions", help="suggested labels: count them, seal them for training")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    part(actions, "count", "how many are kept, by category", lambda options: _count(settings_of(options)))
    export = part(actions, "export", "seal all that are kept into a bundle, with its key beside it",
                  lambda options: _export(options, settings_of(options)))  # fmt: skip
    export.add_argument("out", type=Path, metavar="OUT", help="the bundle to write; its key goes to OUT.key")


def _count(settings: Settings) -> int:
    from moderation import administration
    from moderation.review import suggestions

    with administration.opened(settings) as held:
        for category, count in suggestions.counts(held.session, held.now).items():
            say(f"{category:<14}  {count:>6}")
    return 0


def _export(options: argparse.Namespace, settings: Settings) -> int:
    from sqlalchemy.exc import DBAPIError

    from moderation import administration
    from moderation.review import suggestion_bundles

    path, key_path = options.out, options.out.with_name(f"{options.out.name}.key")
    written = False
    try:
        with administration.opened(settings) as held:
            made = suggestion_bundles.export(
                held.session, held.vault, path, key_path, administration.OPERATOR, held.now
            )
            written = True
    except DBAPIError:
        # Without a registered bundle there is no file. What lay there before is left alone.
        if written:
            path.unlink(missing_ok=True)
            key_path.unlink(missing_ok=True)
        raise
    say(f"Bundle {made.id}: {made.rows} suggested labels in {path}, until {made.expires_at:%Y-%m-%d}.")
    say(f"Its key is in {key_path}; send it by another way than the bundle.")
    return 0
