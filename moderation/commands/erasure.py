"""`moderation erasure` and `moderation retention`: how content ends, from the command line of the machine."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from moderation.commands import Part, SettingsOf
from moderation.commands import say as _say

if TYPE_CHECKING:
    from moderation.governance.keeping import Line, Report
    from moderation.settings import Settings


def add(commands: Any, part: Part, settings_of: SettingsOf) -> None:
    """The parsers of both."""
    _add_erasure(commands, part, settings_of)
    retention = commands.add_parser("retention", help="what is kept until when")
    actions = retention.add_subparsers(title="actions", metavar="ACTION", required=True)
    report = part(actions, "report", "what is due when, by class; what is held, appealed or restricted",
                  lambda options: _report(options, settings_of(options)))  # fmt: skip
    report.add_argument("--json", action="store_true", help="for programs")


def _add_erasure(commands: Any, part: Part, settings_of: SettingsOf) -> None:
    erasure = commands.add_parser("erasure", help="erase an author, and prove that it happened")
    actions = erasure.add_subparsers(title="actions", metavar="ACTION", required=True)
    run = part(actions, "run", "erase everything of an author, now",
               lambda options: _run(options, settings_of(options)))  # fmt: skip
    run.add_argument("author", metavar="AUTHOR", help="what the content service calls them")
    run.add_argument("--client", required=True, metavar="CLIENT", help="the content service's name")
    run.add_argument(
        "--cause",
        default="request",
        choices=("withdrawal", "cancellation", "request", "operator"),
        help="why (default: request)",
    )
    part(actions, "list", "the ledger, newest first", lambda options: _list(settings_of(options)))
    for name, said, does in (
        ("show", "one erasure: what there was, what is left, what is kept and why", _show),
        ("receipt", "print its signed receipt", _receipt),
    ):
        one = part(actions, name, said, lambda options, does=does: does(options, settings_of(options)))  # type: ignore[misc]
        one.add_argument("id", metavar="ID", help="as `moderation erasure list` shows it")
    verify = part(actions, "verify", "check a receipt: signature, counts, and that nothing opens",
                  lambda options: _verify(options, settings_of(options)))  # fmt: skip
    verify.add_argument("file", type=Path, metavar="RECEIPT", help="a file that `erasure receipt` printed")


def _run(options: argparse.Namespace, settings: Settings) -> int:
    from datetime import UTC, datetime

    from moderation import administration
    from moderation.domain.erasing import Cause
    from moderation.governance import erasure
    from moderation.storage.blobs import FolderBlobs
    from moderation.storage.database import connect, transaction
    from moderation.storage.tables import Erasure
    from moderation.storage.vault import Vault

    with administration.opened(settings) as held:
        author = erasure.author_of(held.session, held.vault, options.client, options.author)
        identifier = erasure.request(
            held.session, held.vault, client=options.client, author_id=author, cause=Cause(options.cause),
            requested_by=administration.OPERATOR, now=held.now,
        )  # fmt: skip
    _say(f"Erasure {identifier}: everything is hidden.")
    databases = connect(settings.database_url, settings.keystore_url, pool_size=2)
    try:
        blobs = FolderBlobs(settings.blob_dir)
        while True:
            vault, now = Vault(databases.keystore, settings.kek), datetime.now(UTC)
            erasure.run(databases, vault, blobs, now, 60.0)
            with transaction(databases.content) as session:
                row = session.get_one(Erasure, identifier)
            if row.state != "hidden":
                break
            time.sleep(0.2)  # the relay is at it: one at a time
    finally:
        databases.dispose()
    kept = f"; {len(row.kept)} kept, `moderation erasure show {identifier}` says why" if row.kept else ""
    _say(f"It is {row.state}{kept}.")
    return 0


def _list(settings: Settings) -> int:
    from moderation import administration
    from moderation.governance.erasing import receipts

    with administration.opened(settings) as held:
        rows = receipts.listing(held.session)[: receipts.PAGE]
    for row in rows:
        ended = f"done {row.completed_at:%Y-%m-%d %H:%M}" if row.completed_at else row.state
        _say(
            f"{row.id}  {row.requested_at:%Y-%m-%d %H:%M}  {row.scope:<6}  {row.cause:<12}  {ended}  {row.client}"
        )
    return 0


def _show(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance.erasing import receipts

    with administration.opened(settings) as held:
        row = receipts.get(held.session, _identifier(options.id))
    _say(
        f"{row.scope} {row.item_id or row.author_id} of {row.client}: {row.cause}, asked for by {row.requested_by}"
    )
    _say(f"asked for  {row.requested_at:%Y-%m-%d %H:%M:%S}, hidden at once")
    _say(f"state      {row.state}" + (f", {row.completed_at:%Y-%m-%d %H:%M:%S}" if row.completed_at else ""))
    for name, number in sorted(row.before.items()):
        after = (row.after or {}).get(name)
        if name != "kek_epoch" and (number or after):
            _say(f"  {name:<14} {number:>8} -> {'?' if after is None else after}")
    for one in row.kept:
        what = f"item {one['item']}" if "item" in one else "everything of the author"
        why = ", ".join(one.get("holds", ())) or one.get("basis", "")
        until = f" until {one['until'][:10]}" if "until" in one else ""
        _say(
            f"  kept: {what} for a{'n' if one['because'] == 'appeal' else ''} {one['because']}{until}: {why}"
        )
    return 0


def _receipt(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import erasure

    with administration.opened(settings) as held:
        _say(erasure.receipt(held.session, _identifier(options.id)))
    return 0


def _verify(options: argparse.Namespace, settings: Settings) -> int:
    from moderation.domain.errors import InvalidInput
    from moderation.governance import erasure
    from moderation.storage.database import connect
    from moderation.storage.vault import Vault

    try:
        text = options.file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{options.file} can't be read as a receipt.") from error
    databases = connect(settings.database_url, settings.keystore_url, pool_size=2)
    try:
        checks = erasure.verify_receipt(databases, Vault(databases.keystore, settings.kek), text)
    finally:
        databases.dispose()
    for check in checks:
        _say(f"{'ok    ' if check.holds else 'FAILED'}  {check.said}")
    return 0 if all(check.holds for check in checks) else 1


def _identifier(text: str) -> UUID:
    from moderation.domain.errors import InvalidInput

    try:
        return UUID(text)
    except ValueError as error:
        raise InvalidInput("An erasure's id is a UUID; `moderation erasure list` shows them.") from error


def _report(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import keeping
    from moderation.governance.erasing import floors

    with administration.opened(settings) as held:
        found = keeping.report(held.session, floors.rules(held.session, held.now), held.now)
    if options.json:
        sys.stdout.write(json.dumps(found.document(), indent=2) + "\n")
    else:
        _print(found)
    return 0


def _print(found: Report) -> None:
    columns = ("overdue", "today", "7 days", "30 days", "later", "held", "appeal", "restricted")
    _say(f"{'class':<14}{'kept':>6}" + "".join(f"{name:>11}" for name in columns))
    for line in (*found.lines, found.total):
        days = "" if line.days is None else str(line.days)
        _say(f"{line.name:<14}{days:>6}" + "".join(f"{number:>11,}" for number in _numbers(line)))
    if found.months:
        _say("")
        for month, number in found.months.items():
            _say(f"{month}  {number:>10,}")
    _say("")
    _say(f"Records older than {found.records_days} days: {found.records_due:,} decisions.")
    open_since = f", the oldest since {found.oldest_open:%Y-%m-%d %H:%M}" if found.oldest_open else ""
    _say(
        f"Erasures under way: {found.erasures_open:,}{open_since}; "
        f"waiting for a hold or floor: {found.erasures_held:,}."
    )


def _numbers(line: Line) -> tuple[int, ...]:
    return (
        line.overdue,
        line.today,
        line.week,
        line.month,
        line.later,
        line.held,
        line.appeal,
        line.restricted,
    )
