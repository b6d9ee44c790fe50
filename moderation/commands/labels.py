"""`moderation labels`: what people found, sealed for training; and labels in doubt, which are looked at again."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moderation.commands import Part, SettingsOf, say

if TYPE_CHECKING:
    from moderation.domain.agreement import Agreement
    from moderation.review.labels import Exported
    from moderation.settings import Settings


def add(commands: Any, part: Part, settings_of: SettingsOf) -> None:
    """The parser of `moderation labels`."""
    group = commands.add_parser("labels", help="what people found, sealed for training")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    export = part(actions, "export", "seal labels into a bundle, with its key beside it",
                  lambda options: _export(options, settings_of(options)))  # fmt: skip
    export.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the bundle; FILE.key is its key"
    )
    export.add_argument(
        "--since", type=_day, metavar="DAY", help="judged from this day on, as in 2026-11-22 (UTC)"
    )
    export.add_argument("--until", type=_day, metavar="DAY", help="judged before this day; default: now")
    export.add_argument("--category", metavar="C", help="only where this category was judged")
    export.add_argument("--client", metavar="C", help="only of what this content service posted")
    export.add_argument(
        "--pictures", action="store_true", help="pictures instead of texts, as vectors; no picture leaves"
    )
    export.add_argument(
        "--days", type=_positive, default=90, metavar="N", help="it lasts; default: %(default)s"
    )
    part(actions, "list", "every bundle that ever left", lambda options: _list(settings_of(options)))
    end = part(actions, "end", "end a bundle before its time: its key is forgotten here",
               lambda options: _end(options, settings_of(options)))  # fmt: skip
    end.add_argument("id", metavar="ID", help="as `moderation labels list` shows it")
    check = part(actions, "check", "have somebody look again at labels that are at odds with their scores",
                 lambda options: _check(options, settings_of(options)))  # fmt: skip
    check.add_argument("--days", type=_positive, default=90, metavar="N",
                       help="labels of so many days; default: %(default)s")  # fmt: skip
    check.add_argument("--most", type=_positive, default=20, metavar="N",
                       help="cases at most, for it is people's work; default: %(default)s")  # fmt: skip
    check.add_argument("--dry-run", action="store_true", help="say what would be asked, and ask nobody")


def _export(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.domain.errors import InvalidInput

    key_file = options.out.with_name(f"{options.out.name}.key")
    try:
        made = administration.export_labels(
            settings,
            options.out,
            key_file,
            options.since,
            options.until,
            options.category,
            options.days,
            pictures=options.pictures,
            client=options.client,
        )
    except OSError as error:
        raise InvalidInput(f"{error.filename or options.out} can't be written: {error.strerror}.") from error
    what = "pictures" if options.pictures else "texts"
    say(f"Bundle {made.id}: {made.rows} labelled {what} in {options.out}, until {made.expires_at:%Y-%m-%d}.")
    say(f"Its key is in {key_file}; send it by another way than the bundle.")
    if made.left_out:
        why = (
            "they are not one picture and nothing else, or have no vector"
            if options.pictures
            else "they have pictures, or no text that can be read"
        )
        say(f"{made.left_out} labelled items stayed: {why}.")
    _tell_doubts(made)
    return 0


def _tell_doubts(made: Exported) -> None:
    """What is held back until people have settled it, and how far people agree."""
    if made.held.look_again:
        say(f"{made.held.look_again} labels are held back: somebody is looking at them again.")
    if made.held.contested:
        say(
            f"{made.held.contested} labels are held back: golden items whose answer is contested or was wrong."
        )
    for name, one in sorted(made.agreement.items()):
        say(f"  {name:<16}  alpha {_alpha(one)}")


def _alpha(one: Agreement) -> str:
    judged = f"of {one.cases} items that two people or more judged"
    if one.alpha is None:
        return f"-     {judged}"
    interval = "" if one.low is None or one.high is None else f" ({one.low:.2f} to {one.high:.2f})"
    return f"{one.alpha:.2f}{interval} {judged}"


def _list(settings: Settings) -> int:
    from moderation import administration

    for bundle in administration.bundles(settings):
        state = (
            f"ended {bundle.ended_at:%Y-%m-%d}" if bundle.ended_at else f"until {bundle.expires_at:%Y-%m-%d}"
        )
        # Whoever has a copy is told: what it still holds of erased people must not be trained on.
        stale = f"  {bundle.erased} rows erased since {bundle.tainted_at:%Y-%m-%d}: delete copies, export again" \
            if bundle.tainted_at and not bundle.ended_at else ""  # fmt: skip
        said = (
            f"{bundle.id}  {bundle.created_at:%Y-%m-%d}  {state:<16}  {bundle.rows:>8}  {bundle.created_by}"
        )
        say(said + stale)
    return 0


def _end(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration

    administration.end_bundle(settings, options.id)
    say("The bundle has ended. Delete its file, its key and every copy of them.")
    return 0


def _check(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance.policies import PolicyCache
    from moderation.review import looking_again

    with administration.opened(settings) as held:
        policy = PolicyCache().current(held.session)
        looked = looking_again.look(
            held.session, policy, administration.OPERATOR, held.now, days=options.days, most=options.most,
            dry=options.dry_run,
        )  # fmt: skip
        waiting = looking_again.waiting(held.session)
    say(
        f"{looked.labels} labels with scores, {len(looked.hits)} of them at odds with what was found of others."
    )
    for category in looked.thin:
        say(f"  {category}: fewer than {looking_again.FEWEST} labels of a class; nothing can be said")
    if options.dry_run:
        say(f"{len(looked.asked)} would be asked about again. Nobody was asked.")
        return 0
    say(
        f"{len(looked.asked)} are asked about again, blind; {waiting} wait. Until then they are in no export."
    )
    return 0


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number above 0")
    return int(text)


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise argparse.ArgumentTypeError("must be a day such as 2026-11-22") from error
