"""`moderation backup` and `moderation restore`: content and keystore, each in a file of its own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moderation.commands import Part, SettingsOf
from moderation.commands import say as _say

if TYPE_CHECKING:
    from moderation.settings import Settings


def add(commands: Any, part: Part, settings_of: SettingsOf) -> None:
    """The parsers of both."""
    backup = part(commands, "backup", "write the content and its pictures to one file, without any key",
                  lambda options: _backup(options, settings_of))  # fmt: skip
    backup.add_argument("file", type=Path, metavar="FILE")
    backup.add_argument(
        "--keystore", action="store_true", help="the keystore instead: keep it apart, and not for long"
    )
    restore = part(commands, "restore", "fill an empty installation from a backup, keystore first",
                   lambda options: _restore(options, settings_of))  # fmt: skip
    restore.add_argument("file", type=Path, metavar="FILE")


def _backup(options: argparse.Namespace, settings_of: SettingsOf) -> int:
    with _databases(options, settings_of) as settings:
        from moderation import backup

        kind = backup.KEYSTORE if options.keystore else backup.CONTENT
        made = backup.make(settings, options.file, kind, datetime.now(UTC), _progress)
    _say(f"{options.file}: {made.rows} rows, {made.blobs} pictures, {made.size / 1e6:,.1f} MB.")
    if options.keystore:
        _say("Keep it apart from backups of the content, and no longer than you need it: docs/backup.md.")
    return 0


def _restore(options: argparse.Namespace, settings_of: SettingsOf) -> int:
    from moderation.domain.errors import Conflict
    from moderation.embedded.instance import is_running

    if options.data_dir is not None and is_running(options.data_dir):
        raise Conflict(f"{options.data_dir} is running; stop it, so that nothing works on half of a backup.")
    with _databases(options, settings_of) as settings:
        from moderation import backup

        manifest = backup.restore(settings, options.file, datetime.now(UTC), _progress)
    _say(f"Restored: {manifest['kind']} as of {manifest['made_at']}.")
    if manifest["kind"] == backup.KEYSTORE:
        _say("Now restore the content: moderation restore FILE.")
    else:
        _say(
            "Everybody has to log in again. API keys and people are those of then: revoke who should not be back."
        )
    return 0


@contextmanager
def _databases(options: argparse.Namespace, settings_of: SettingsOf) -> Iterator[Settings]:
    """The databases of the environment or of a running instance; those of one that is stopped are started."""
    from moderation.embedded.alone import databases_of
    from moderation.embedded.instance import is_running

    if options.data_dir is None or is_running(options.data_dir):
        yield settings_of(options)
        return
    with databases_of(options.data_dir) as settings:
        yield settings


def _progress(line: str) -> None:
    sys.stderr.write(line + "\n")
