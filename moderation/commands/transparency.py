"""`moderation transparency`: the report of a period, and statements that the EU's database did not take."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moderation.commands import Part, SettingsOf, say

if TYPE_CHECKING:
    from moderation.settings import Settings

DAYS = 183
FORMATS = ("json", "csv")
OPERATOR = "operator"


def add(commands: Any, part: Part, settings_of: SettingsOf) -> None:
    """The parser of `moderation transparency`."""
    group = commands.add_parser("transparency", help="what was restricted and why, in numbers and statements")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    report = part(actions, "report", "the transparency report of a period, as JSON or CSV",
                  lambda options: _report(options, settings_of(options)))  # fmt: skip
    report.add_argument(
        "--since",
        type=_day,
        metavar="DAY",
        help="from this day on (UTC); default: half a year before the end",
    )
    report.add_argument(
        "--until", type=_day, metavar="DAY", help="up to this day, itself left out; default: now"
    )
    report.add_argument("--format", choices=FORMATS, default="json", help="default: %(default)s")
    report.add_argument("--out", type=Path, metavar="FILE", help="write it there, not to standard output")
    part(actions, "refused", "list statements that the EU's database did not take",
         lambda options: _refused(settings_of(options)))  # fmt: skip
    part(actions, "retry", "send them again, once what was wrong is mended",
         lambda options: _retry(settings_of(options)))  # fmt: skip


def _report(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import audit, transparency
    from moderation.governance.policies import PolicyCache

    with administration.opened(settings) as held:
        until = options.until or held.now
        since = options.since or until - timedelta(days=DAYS)
        made = transparency.report(held.session, PolicyCache(), since, until, held.now)
        period = {"since": f"{since:%Y-%m-%d}", "until": f"{until:%Y-%m-%d}", "format": options.format}
        event = audit.Event(OPERATOR, "transparency.exported", "report", "transparency", period)
        audit.record(held.session, [event], held.now)
    written = transparency.as_csv(made) if options.format == "csv" else transparency.as_json(made)
    if options.out is None:
        sys.stdout.write(written)
    else:
        options.out.write_text(written, encoding="utf-8")
        say(f"The report is in {options.out}.")
    return 0


def _refused(settings: Settings) -> int:
    from moderation import administration, statement_sender

    with administration.opened(settings) as held:
        waiting = statement_sender.counts(held.session)["pending"]
        rows = [(row.puid, row.attempts, row.last_error) for row in statement_sender.refused(held.session)]
    for puid, attempts, error in rows:
        say(f"{puid}  {attempts} attempt{'s' * (attempts != 1)}  {error}")
    sys.stderr.write(f"{len(rows)} refused, {waiting} waiting.\n")
    return 0


def _retry(settings: Settings) -> int:
    from moderation import administration, statement_sender

    with administration.opened(settings) as held:
        count = statement_sender.retry(held.session, held.now)
    say(f"{count} statements will be sent again.")
    return 0


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise argparse.ArgumentTypeError("must be a day such as 2026-11-22") from error
