"""`moderation kek`: rotate the key-encryption key, see where a rotation stands, end an old key."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from moderation.commands import Part, SettingsOf
from moderation.commands import say as _say

if TYPE_CHECKING:
    from moderation.settings import Settings
    from moderation.storage.database import Databases
    from moderation.storage.vault import Vault

TURN_SECONDS = 5.0


def add(commands: Any, part: Part, settings_of: SettingsOf) -> None:
    """The parser of `moderation kek`."""
    kek = commands.add_parser("kek", help="the key-encryption key: status, rotate, retire")
    actions = kek.add_subparsers(title="actions", metavar="ACTION", required=True)
    part(actions, "status", "every epoch of the key, and how far a rotation has come",
         lambda options: _status(settings_of(options)))  # fmt: skip
    rotate = part(actions, "rotate", "begin a new epoch and re-wrap every key under it; the service runs on",
                  lambda options: _rotate(options, settings_of(options)))  # fmt: skip
    rotate.add_argument(
        "--grace-hours", type=_hours, metavar="N", help="how long the old key stays afterwards; default: 24"
    )
    rotate.add_argument(
        "--no-new-key", action="store_true", help="only re-wrap under the newest key there is already"
    )
    part(actions, "retire", "end every epoch but the newest, now: old copies of the keystore open no more",
         lambda options: _retire(settings_of(options)))  # fmt: skip


@contextmanager
def _opened(settings: Settings) -> Iterator[tuple[Databases, Vault]]:
    from moderation.storage.database import connect
    from moderation.storage.vault import Vault

    databases = connect(settings.database_url, settings.keystore_url, pool_size=2)
    try:
        yield databases, Vault(databases.keystore, settings.kek)
    finally:
        databases.dispose()


def _status(settings: Settings) -> int:
    from moderation.governance import rotation

    with _opened(settings) as (databases, vault):
        found = rotation.status(databases, vault, settings.kek_grace_hours)
    for epoch in found.epochs:
        state = (
            f"retired {epoch.retired_at:%Y-%m-%d %H:%M}"
            if epoch.retired_at
            else f"since {epoch.since:%Y-%m-%d %H:%M}"
        )
        here = "its key is here" if epoch.here else "its key is not here"
        _say(f"epoch {epoch.number}  {state}  {here}")
    if found.behind:
        _say(f"{found.behind} keys wait to be re-wrapped.")
    if found.retire_at:
        _say(
            f"The older key is retired from {found.retire_at:%Y-%m-%d %H:%M} UTC on, or by `moderation kek retire`."
        )
    return 0


def _rotate(options: argparse.Namespace, settings: Settings) -> int:
    from moderation.administration import OPERATOR
    from moderation.governance import rotation

    with _opened(settings) as (databases, vault):
        now = datetime.now(UTC)
        if options.no_new_key:
            rotation.note(databases, vault, now, OPERATOR)
        else:
            epoch = rotation.begin(databases, vault, now, OPERATOR, options.grace_hours)
            _say(f"Epoch {epoch} wraps from now on.")
        total = 0
        while done := rotation.run(databases, vault, datetime.now(UTC), TURN_SECONDS):
            total += done
            _say(f"{total} keys re-wrapped.")
        found = rotation.status(databases, vault, settings.kek_grace_hours)
    if found.behind:
        _say(f"{found.behind} keys were in use; the relay re-wraps them.")
    if found.retire_at:
        _say(
            f"The older key is retired from {found.retire_at:%Y-%m-%d %H:%M} UTC on, or by `moderation kek retire`."
        )
    return 0


def _retire(settings: Settings) -> int:
    from moderation.administration import OPERATOR
    from moderation.governance import rotation

    with _opened(settings) as (databases, vault):
        ended = rotation.retire(databases, vault, datetime.now(UTC), OPERATOR)
        left = sorted(set(ended) & set(vault.wrapper.keks.keys))
    words = ", ".join(map(str, ended))
    _say(f"Retired: epoch {words}. Copies of the keystore from before open no more.")
    if left:
        _say(f"Now remove the key of epoch {', '.join(map(str, left))} from where your keys come from.")
    return 0


def _hours(text: str) -> float:
    value = float(text)
    if not 0 <= value < 10_000:
        raise argparse.ArgumentTypeError("it must be 0 or more hours")
    return value
