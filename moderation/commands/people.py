"""`moderation people` and `moderation keys`: who may come in, from the command line of the machine itself."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from moderation.commands import Part, SettingsOf
from moderation.commands import say as _say

if TYPE_CHECKING:
    from moderation.settings import Settings

DEFAULT_URL = "http://127.0.0.1:8000"


def add_people(commands: Any, part: Part, settings_of: SettingsOf) -> None:
    """The parser of `moderation people`."""
    people = commands.add_parser("people", help="who works here: invite, list, disable, reset")
    actions = people.add_subparsers(title="actions", metavar="ACTION", required=True)
    invite = part(actions, "add", "invite somebody: prints a link, good once and for 48 hours",
                  lambda options: _invite(options, settings_of(options)))  # fmt: skip
    invite.add_argument("email", metavar="EMAIL")
    invite.add_argument(
        "--role",
        action="append",
        required=True,
        metavar="ROLE",
        help="may be repeated; docs/people.md has all",
    )
    part(actions, "list", "list everybody", lambda options: _list(settings_of(options)))
    _of_one(part(actions, "disable", "let somebody in no more, from this moment on",
                 lambda options: _disable(options, settings_of(options))))  # fmt: skip
    _of_one(part(actions, "enable", "let somebody in again",
                 lambda options: _enable(options, settings_of(options))))  # fmt: skip
    _of_one(part(actions, "reset", "take a log-in away and print a link that sets up another",
                 lambda options: _reset(options, settings_of(options))))  # fmt: skip


def add_keys(commands: Any, part: Part, settings_of: SettingsOf) -> None:
    """The parser of `moderation keys`."""
    keys = commands.add_parser("keys", help="API keys of content services")
    actions = keys.add_subparsers(title="actions", metavar="ACTION", required=True)
    create = part(actions, "create", "make a key and print it this once",
                  lambda options: _create_key(options, settings_of(options)))  # fmt: skip
    create.add_argument("client", metavar="CLIENT", help="whose key: lower-case letters, digits, hyphens")
    create.add_argument(
        "--scope", action="append", default=[], metavar="SCOPE", help="may be repeated; default: all"
    )
    part(
        actions,
        "list",
        "list all keys, without their secrets",
        lambda options: _list_keys(settings_of(options)),
    )
    revoke = part(actions, "revoke", "end a key at once",
                  lambda options: _revoke_key(options, settings_of(options)))  # fmt: skip
    revoke.add_argument("id", metavar="ID", help="as `moderation keys list` shows it")


def _of_one(action: argparse.ArgumentParser) -> None:
    action.add_argument("email", metavar="EMAIL")


def _invite(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration

    return _hand_over(options, settings, administration.invite_person(settings, options.email, options.role))


def _reset(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration

    return _hand_over(options, settings, administration.reset_person(settings, options.email))


def _hand_over(options: argparse.Namespace, settings: Settings, token: str) -> int:
    from moderation.embedded.instance import read_first_run

    written = read_first_run(options.data_dir) if options.data_dir else None
    base = settings.console_url or (str(written["url"]) if written else DEFAULT_URL)
    _say(f"{base}/console/join/{token}")
    sys.stderr.write("Hand this link over; it works once, for 48 hours, and is shown only now.\n")
    return 0


def _list(settings: Settings) -> int:
    from moderation import administration

    for one in administration.people_here(settings):
        state = f"disabled {one.disabled_at:%Y-%m-%d}" if one.disabled_at else "active"
        seen = f"seen {one.seen_at:%Y-%m-%d}" if one.seen_at else "never seen"
        _say(f"{one.email}  {state}  {seen}  {' '.join(one.roles)}")
    return 0


def _disable(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration

    administration.disable_person(settings, options.email)
    _say("They are disabled; every session has ended.")
    return 0


def _enable(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration

    administration.enable_person(settings, options.email)
    _say("They may log in again.")
    return 0


def _create_key(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration

    _say(administration.create_key(settings, options.client, options.scope))
    sys.stderr.write("This is the only time it is shown.\n")
    return 0


def _list_keys(settings: Settings) -> int:
    from moderation import administration

    for key in administration.keys(settings):
        state = f"revoked {key.revoked_at:%Y-%m-%d}" if key.revoked_at else "in use"
        _say(f"{key.id}  {key.created_at:%Y-%m-%d}  {state:<18}  {key.client}  {' '.join(key.scopes)}")
    return 0


def _revoke_key(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration

    administration.revoke_key(settings, options.id)
    _say("The key is revoked.")
    return 0
