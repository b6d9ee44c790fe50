"""`moderation reports`: signed reports on audit, retention and access."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from moderation.commands import Part, SettingsOf
from moderation.commands import say as _say

if TYPE_CHECKING:
    from moderation.domain.reporting import Period
    from moderation.settings import Settings

KINDS = ("audit", "retention", "access")


def add(commands: Any, part: Part, settings_of: SettingsOf) -> None:
    """The parser of `moderation reports`."""
    reports = commands.add_parser("reports", help="signed reports on audit, retention and access")
    actions = reports.add_subparsers(title="actions", metavar="ACTION", required=True)
    part(actions, "list", "what there is, and what is owed", lambda options: _list(settings_of(options)))
    make = part(actions, "make", "make what is owed now, without waiting for the relay",
                lambda options: _make(options, settings_of(options)))  # fmt: skip
    make.add_argument("kind", nargs="?", choices=KINDS, metavar="KIND", help="only this one")
    make.add_argument("--since", type=_day, metavar="DAY", help="with KIND: the period that begins there")
    make.add_argument("--until", type=_day, metavar="DAY", help="and ends there")
    show = part(actions, "show", "print a report with its signature",
                lambda options: _show(options, settings_of(options)))  # fmt: skip
    show.add_argument("id", type=UUID, metavar="ID")
    show.add_argument("--out", type=Path, metavar="FILE", help="write it there")
    verify = part(actions, "verify", "check a report's signature, and count it again",
                  lambda options: _verify(options, settings_of(options)))  # fmt: skip
    verify.add_argument("source", metavar="ID|FILE", help="a report's id, or a file that `show` wrote")


def _list(settings: Settings) -> int:
    from moderation import administration
    from moderation.domain.reporting import Schedule
    from moderation.governance import reports

    with administration.opened(settings) as held:
        found = reports.listing(held.session)
        owed = reports.outstanding(held.session, Schedule(settings.reports), held.now)
    for report in found:
        _say(f"{report.id}  {report.kind:<9}  {_span(report.period)}  {report.made_by}  {report.sha256[:16]}")
    for one in owed:
        _say(f"{'-' * 36}  {one.kind:<9}  {_span(one.period)}  {'overdue' if one.overdue else 'owed'}")
    if not found and not owed:
        _say("No period is over yet; the first reports are made after it.")
    return 0


def _make(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.domain.errors import InvalidInput
    from moderation.domain.reporting import Period, ReportKind, Schedule
    from moderation.governance import reports

    if bool(options.since) != bool(options.until) or (options.since and not options.kind):
        raise InvalidInput("Give KIND, --since and --until together, or none of the two dates.")
    with administration.opened(settings) as held:
        if options.since:
            wanted = [(ReportKind(options.kind), Period(options.since, options.until))]
        else:
            owed = reports.outstanding(held.session, Schedule(settings.reports), held.now)
            wanted = [(one.kind, one.period) for one in owed if options.kind in (None, one.kind)]
        made = [
            reports.make(held.session, held.vault, kind, period, administration.OPERATOR, held.now)
            for kind, period in wanted
        ]
    for report in made:
        _say(f"{report.id}  {report.kind:<9}  {_span(report.period)}")
    if not made:
        _say("Nothing is owed.")
    return 0


def _show(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import reports, signing

    with administration.opened(settings) as held:
        report = reports.load(held.session, options.id)
        text = reports.envelope(report, signing.public_key(held.vault))
    if options.out is None:
        _say(text.rstrip())
        return 0
    options.out.write_text(text, encoding="utf-8")
    sys.stderr.write(f"Written to {options.out}.\n")
    return 0


def _verify(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import reports

    with administration.opened(settings) as held:
        try:
            report = reports.load(held.session, UUID(options.source))
        except ValueError:
            report = reports.opened(_file(Path(options.source)))
        checked = reports.check(held.session, held.vault, report)
    _say(f"Signature: {'ours' if checked.signed else 'NOT OURS, or the document was changed'}.")
    said = {True: "the same, byte for byte", False: "SOMETHING ELSE", None: "can't be counted"}[checked.again]
    _say(f"Counted again from the log: {said}.")
    return 0 if checked.signed and checked.again else 1


def _file(path: Path) -> Any:
    from moderation.domain.errors import InvalidInput

    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"{path} can't be read as a report; `moderation reports show` writes one."
        ) from error


def _span(period: Period) -> str:
    return f"{period.since:%Y-%m-%d} to {period.until:%Y-%m-%d}"


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise argparse.ArgumentTypeError("must be a day such as 2026-11-01") from error
