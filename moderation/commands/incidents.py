"""`moderation incident`: write a breach down, find whom it touches, tell who has to be told."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from moderation.commands import Part, SettingsOf, say

if TYPE_CHECKING:
    from moderation.settings import Settings

OPERATOR = "operator"


def add(commands: Any, part: Part, settings_of: SettingsOf) -> None:
    """The parser of `moderation incident`."""
    incident = commands.add_parser(
        "incident", help="breaches of personal data: open, affected, notify, close"
    )
    actions = incident.add_subparsers(title="actions", metavar="ACTION", required=True)
    opening = part(actions, "open", "write an incident down; the 72 hours run from its detection",
                   lambda options: _open(options, settings_of(options)))  # fmt: skip
    opening.add_argument("--kind", required=True, metavar="KIND",
                         help="access, disclosure, loss, change, availability, other")  # fmt: skip
    opening.add_argument(
        "--severity", type=int, required=True, metavar="N", help="1 (nuisance) to 5 (gravest)"
    )
    opening.add_argument("--description", type=Path, required=True, metavar="FILE",
                         help="what is known of it; - reads standard input")  # fmt: skip
    opening.add_argument("--detected", type=_moment, metavar="WHEN", help="default: now")
    _add_scope(opening)
    part(actions, "list", "list incidents, the open ones first", lambda options: _list(settings_of(options)))
    for name, text, run in (
        ("show", "show one with its description", _show),
        ("affected", "ask the audit log whom it touches, and keep the answer", _affected),
        ("notify", "tell the content services how many of their authors it touches", _notify),
    ):
        _of_one(part(actions, name, text, _running(run, settings_of)))
    told = part(actions, "authority-told", "write down that the supervisory authority was told",
                _running(_authority_told, settings_of))  # fmt: skip
    _of_one(told)
    told.add_argument("--at", type=_moment, metavar="WHEN", help="default: now")
    close = part(actions, "close", "close an incident", _running(_close, settings_of))
    _of_one(close)
    close.add_argument(
        "--no-risk", action="store_true", help="nobody was told: it is unlikely to put anybody at risk"
    )


def _add_scope(opening: argparse.ArgumentParser) -> None:
    scope = opening.add_argument_group("which events of the audit log are concerned")
    scope.add_argument(
        "--actor", metavar="A", help="person:ID, client:NAME, operator, machine; or person alone"
    )
    scope.add_argument("--action", metavar="A", help="such as item.viewed, or item. for all that begin so")
    scope.add_argument("--since", type=_moment, metavar="WHEN", help="as in 2026-11-22T09:30 (UTC)")
    scope.add_argument("--until", type=_moment, metavar="WHEN", help="before this moment")
    scope.add_argument("--everybody", action="store_true", help="every author, without asking the log")


def _of_one(action: argparse.ArgumentParser) -> None:
    action.add_argument("id", type=UUID, metavar="ID", help="as `moderation incident list` shows it")


def _running(run: Any, settings_of: SettingsOf) -> Any:
    return lambda options: run(options, settings_of(options))


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no moment such as 2026-11-22T09:30") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _open(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.domain.errors import InvalidInput
    from moderation.governance import incidents
    from moderation.governance.incident_scopes import Scope

    try:
        text = sys.stdin.read() if str(options.description) == "-" else options.description.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"The description can't be read from {options.description}; give a text file."
        ) from error
    scope = Scope(options.actor, options.action, options.since, options.until, options.everybody)
    with administration.opened(settings) as held:
        identifier = incidents.open_incident(
            held.session,
            held.vault,
            kind=options.kind,
            severity=options.severity,
            description=text,
            detected_at=options.detected or held.now,
            scope=scope,
            actor=OPERATOR,
            now=held.now,
        )
        row = incidents.get(held.session, identifier)
    say(str(identifier))
    sys.stderr.write(f"Tell the supervisory authority by {row.notify_by:%Y-%m-%d %H:%M} UTC.\n")
    return 0


def _list(settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import incidents

    with administration.opened(settings) as held:
        for row in incidents.listing(held.session):
            authors = "not asked" if row.affected is None else f"{row.affected:,} authors"
            say(f"{row.id}  {row.kind:<12}  severity {row.severity}  {_state(row, held.now):<28}  {authors}")
    return 0


def _state(row: Any, now: datetime) -> str:
    if row.closed_at is not None:
        return f"closed {row.closed_at:%Y-%m-%d}"
    if row.authority_told_at is not None:
        return f"authority told {row.authority_told_at:%Y-%m-%d}"
    hours = (row.notify_by - now).total_seconds() / 3600
    return f"{hours:.0f} h to tell the authority" if hours >= 0 else f"OVERDUE by {-hours:.0f} h"


def _show(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import audit, incident_scopes, incidents

    with administration.opened(settings) as held:
        row = incidents.get(held.session, options.id)
        event = audit.Event(OPERATOR, "incident.viewed", "incident", str(options.id))
        audit.record(held.session, [event], held.now)
        description = incidents.description_of(held.vault, row)
        by_client = incidents.counts(held.session, options.id)
        state = _state(row, held.now)
    scope = incident_scopes.stored(incident_scopes.read(row.scope))
    say(f"{row.id}  {row.kind}, severity {row.severity}, {state}")
    say(f"detected {row.detected_at:%Y-%m-%d %H:%M}, to be told by {row.notify_by:%Y-%m-%d %H:%M} UTC")
    say("events: " + ", ".join(f"{name} {value}" for name, value in scope.items()))
    for client, count in by_client.items():
        say(f"{client}: {count:,} authors")
    say("")
    say(description)
    return 0


def _affected(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import incidents

    with administration.opened(settings) as held:
        found = incidents.find_affected(held.session, options.id, OPERATOR, held.now)
    for client, count in found.by_client.items():
        say(f"{client}: {count:,} authors")
    say(f"{found.authors:,} authors in all, of {found.items:,} items")
    if found.erased or found.lost:
        say(
            f"left out: {found.erased:,} authors erased since, {found.lost:,} items that lead to nobody any more"
        )
    return 0


def _notify(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import incidents

    with administration.opened(settings) as held:
        told = incidents.tell_services(held.session, options.id, OPERATOR, held.now)
    for client in told.clients:
        say(f"{client}: is being told")
    for client in told.unreachable:
        say(f"{client}: has no endpoint for incident.notice; tell them yourself")
    return 1 if told.unreachable else 0


def _authority_told(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import incidents

    with administration.opened(settings) as held:
        incidents.authority_told(held.session, options.id, options.at or held.now, OPERATOR, held.now)
    say("Written down; the clock stands still.")
    return 0


def _close(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import incidents

    with administration.opened(settings) as held:
        incidents.close(held.session, options.id, OPERATOR, held.now, no_risk=options.no_risk)
    say("Closed.")
    return 0
