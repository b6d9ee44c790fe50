"""`moderation banks`: banks of what is known, filled from files and lists."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from moderation.commands import Part, SettingsOf, bank_entry, bank_files, say

if TYPE_CHECKING:
    from moderation.settings import Settings

KINDS = ("image", "text", "term", "link", "claim")


def add(commands: Any, part: Part, settings_of: SettingsOf) -> None:
    """The parser of `moderation banks`."""
    banks = commands.add_parser("banks", help="known pictures, texts, terms, links and claims")
    actions = banks.add_subparsers(title="actions", metavar="ACTION", required=True)
    create = part(actions, "create", "make an empty bank",
                  lambda options: _create(options, settings_of(options)))  # fmt: skip
    create.add_argument("name", metavar="NAME")
    create.add_argument("--kind", required=True, choices=KINDS)
    create.add_argument("--category", required=True, metavar="CATEGORY", help="of the policy, such as spam")
    create.add_argument("--action", required=True, choices=("remove", "limit", "review", "label"))
    create.add_argument("--allow", action="store_true", help="what it holds is harmless, and wins")
    create.add_argument(
        "--distance", type=float, metavar="D",
        help="how near is near enough: pictures 0 to 48 bits, texts 0.3 to 1, claims 0.5 to 1, links 1 for "
             "look-alikes; docs/banks.md",
    )  # fmt: skip
    create.add_argument(
        "--sample-share", type=float, default=1.0, metavar="S", help="act on this share of what matches alone"
    )
    create.add_argument("--source", help="whose list it is")
    _add_adding(actions, part, settings_of)
    bank_files.add(actions, part, settings_of)
    bank_entry.add(actions, part, settings_of)
    part(actions, "list", "list all banks", lambda options: _list(settings_of(options)))
    remove = part(actions, "remove", "delete a bank, or one entry of it",
                  lambda options: _remove(options, settings_of(options)))  # fmt: skip
    remove.add_argument("name", metavar="NAME")
    remove.add_argument("--entry", type=UUID, metavar="ID", help="this entry alone")
    for word, on in (("on", True), ("off", False)):
        switch = part(actions, word, f"turn a bank {word}", _switching(settings_of, on=on))
        switch.add_argument("name", metavar="NAME")


def _add_adding(actions: Any, part: Part, settings_of: SettingsOf) -> None:
    adding = part(actions, "add", "add files, each one entry; `import` adds the lines of a list",
                  lambda options: _add(options, settings_of(options)))  # fmt: skip
    adding.add_argument("name", metavar="NAME")
    adding.add_argument("files", type=Path, nargs="+", metavar="FILE", help="a picture or UTF-8 text")
    adding.add_argument("--note", default="", help="why, for whoever looks later")
    adding.add_argument(
        "--verified", action="store_true", help="act on a match alone; otherwise a match goes to people"
    )


def _create(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration

    administration.create_bank(
        settings,
        options.name,
        options.kind,
        options.category,
        options.action,
        allow=options.allow,
        distance=options.distance,
        sample_share=options.sample_share,
        source=options.source,
    )
    say(f"Bank {options.name} is made and empty.")
    return 0


def _add(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration

    contents = [_read(file) for file in options.files]
    fresh = administration.fill_bank(
        settings, options.name, contents, options.note, verified=options.verified
    )
    say(f"{fresh} added, {len(contents) - fresh} known already; workers use them from their next batch on.")
    return 0


def _read(file: Path) -> bytes:
    from moderation.domain.errors import InvalidInput

    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{file} can't be read: {error.strerror}.") from error


def _list(settings: Settings) -> int:
    from rich.console import Console
    from rich.table import Table

    from moderation import administration
    from moderation.governance import bank_lists

    table = Table(box=None, pad_edge=False)
    for heading in (
        "bank",
        "holds",
        "category",
        "a match means",
        "entries",
        "unverified",
        "matches, 7 days",
        "",
    ):
        table.add_column(heading)
    with administration.opened(settings) as held:
        for one in bank_lists.listing(held.session, held.now):
            means = "harmless" if one.allow else one.action
            near = "" if one.distance is None else f" from {one.distance:g}"
            counts = (one.entries, one.unverified, one.use.matches)
            table.add_row(
                one.name, f"{one.kind}s{near}", one.category, means, *(f"{count:,}" for count in counts),
                "" if one.enabled else "off",
            )  # fmt: skip
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(table)
    return 0


def _remove(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import banks

    with administration.opened(settings) as held:
        if options.entry is not None:
            banks.remove_entry(
                held.session, options.name, options.entry, actor=administration.OPERATOR, now=held.now
            )
            say("The entry is gone; what it decided stays decided.")
            return 0
        count = banks.remove(held.session, options.name, actor=administration.OPERATOR, now=held.now)
    say(f"Bank {options.name} is gone, with {count:,} entries; what it decided stays decided.")
    return 0


def _switching(settings_of: SettingsOf, *, on: bool) -> Callable[[argparse.Namespace], int]:
    def switch(options: argparse.Namespace) -> int:
        from moderation import administration
        from moderation.governance import banks

        with administration.opened(settings_of(options)) as held:
            banks.switch(held.session, options.name, on=on, actor=administration.OPERATOR, now=held.now)
        say(f"Bank {options.name} is {'on' if on else 'off'}.")
        return 0

    return switch
