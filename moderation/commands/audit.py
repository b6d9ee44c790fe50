"""`moderation audit`: read the log, prove what is in it, check that it is what was signed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from moderation.commands import Part, SettingsOf, say

if TYPE_CHECKING:
    from moderation.governance.audit import Page
    from moderation.governance.checkpoint_files import Pin
    from moderation.governance.checkpoints import VerifierKey
    from moderation.governance.verification import Verified
    from moderation.settings import Settings

FAULTY = 1
BATCH = 5000
OPERATOR = "operator"


def add(commands: Any, part: Part, settings_of: SettingsOf) -> None:
    """The parser of `moderation audit`."""
    audit = commands.add_parser("audit", help="the audit log: show it, prove an event, verify all of it")
    actions = audit.add_subparsers(title="actions", metavar="ACTION", required=True)
    verify = part(actions, "verify", "check that the log is what was recorded and signed; exit 1 if it is not",
                  lambda options: _verify(options, settings_of))  # fmt: skip
    verify.add_argument(
        "file",
        type=Path,
        nargs="?",
        metavar="FILE",
        help="an exported log or a backup, with no database at all",
    )
    verify.add_argument("--checkpoints", type=Path, nargs="+", default=[], metavar="FILE",
                        help="checkpoints that were kept elsewhere")  # fmt: skip
    verify.add_argument(
        "--key", metavar="KEY", help="the public key you trust, as `moderation audit key` prints it"
    )
    show = part(
        actions, "show", "list events, the newest first", lambda options: _show(options, settings_of(options))
    )
    show.add_argument(
        "--actor", metavar="A", help="person, client, machine, operator, or one of them: person:ID"
    )
    show.add_argument(
        "--action", metavar="A", help="such as item.viewed, or item. for all that concern items"
    )
    show.add_argument("--subject", metavar="ID", help="what it happened to")
    show.add_argument("--since", type=_moment, metavar="DAY", help="from this day on, as in 2026-11-22 (UTC)")
    show.add_argument("--until", type=_moment, metavar="DAY", help="before this day")
    show.add_argument("--before", type=UUID, metavar="EVENT", help="go on from here, as the last line says")
    show.add_argument("--json", action="store_true", help="as JSON lines, with everything that is recorded")
    proof = part(actions, "proof", "write what proves to anybody that a decision or an event is in the log",
                 lambda options: _proof(options, settings_of(options)))  # fmt: skip
    proof.add_argument("id", type=UUID, metavar="ID", help="of a decision, or of an event")
    proof.add_argument("--out", type=Path, metavar="FILE", help="default: standard output")
    consistency = part(actions, "consistency", "write what proves that the log only grew since a checkpoint",
                       lambda options: _consistency(options, settings_of(options)))  # fmt: skip
    consistency.add_argument("file", type=Path, metavar="FILE", help="the older checkpoint")
    part(actions, "checkpoint", "number and sign what is in the log now, and print the checkpoint",
         lambda options: _checkpoint(settings_of(options)))  # fmt: skip
    part(
        actions,
        "key",
        "print the public key that checks all of this",
        lambda options: _key(settings_of(options)),
    )
    export = part(actions, "export", "write the whole log to a file that can be checked anywhere",
                  lambda options: _export(options, settings_of(options)))  # fmt: skip
    export.add_argument("file", type=Path, metavar="FILE")


def _verify(options: argparse.Namespace, settings_of: SettingsOf) -> int:
    from moderation.governance.checkpoints import NoteInvalid
    from moderation.governance.verification import Fault

    try:
        if options.file is not None:
            return _verified(_verify_file(options))
        with _settings(options, settings_of) as settings:
            return _verified(_verify_database(options, settings))
    except (Fault, NoteInvalid) as fault:
        say(f"The log is NOT intact. {fault}")
        return FAULTY


@contextmanager
def _settings(options: argparse.Namespace, settings_of: SettingsOf) -> Iterator[Settings]:
    """The settings, with the database of a stopped instance started meanwhile."""
    if options.data_dir is None:
        yield settings_of(options)
        return
    import os

    from moderation import settings
    from moderation.embedded import offline

    with offline.environment(options.data_dir) as variables:
        yield settings.from_environment({**os.environ, **variables})


def _verify_database(options: argparse.Namespace, settings: Settings) -> Verified:
    from moderation.governance import checkpoint_files, checkpoints, ledger, verification
    from moderation.storage.database import connect, transaction
    from moderation.storage.vault import Vault

    databases = connect(settings.database_url, settings.keystore_url, pool_size=1)
    try:
        key = (
            checkpoints.read_key(options.key)
            if options.key
            else ledger.key(Vault(databases.keystore, settings.kek))
        )
        kept = checkpoint_files.files(settings.checkpoint_dir) if settings.checkpoint_dir else []
        pins = _pins([*kept, *options.checkpoints], key)
        with transaction(databases.content) as session:
            total = ledger.size(session)
        with transaction(databases.content) as session, _progress(total) as progress:
            return verification.verify_database(session, key, pins, progress)
    finally:
        databases.dispose()


def _verify_file(options: argparse.Namespace) -> Verified:
    from moderation.governance import audit_backup

    if audit_backup.is_one(options.file):
        return _verify_backup(options)

    from moderation.governance import audit_export, checkpoints
    from moderation.governance.verification import Fault

    with _reading(options.file) as file, _progress(options.file.stat().st_size) as progress:
        lines = iter(file)
        key = audit_export.key_in(lines)
        if options.key and checkpoints.read_key(options.key) != key:
            raise Fault("The file was signed with another key than the one you gave.")
        pins = _pins(options.checkpoints, key)
        verified = audit_export.verify(_counted(lines, progress), key, pins, lambda _: None)
    if not options.key:
        say(f"The key is the file's own: compare {key.fingerprint} with `moderation audit key`.")
    return verified


def _verify_backup(options: argparse.Namespace) -> Verified:
    from moderation.domain.errors import InvalidInput
    from moderation.governance import audit_backup, audit_export, checkpoints

    if not options.key:
        raise InvalidInput("A backup holds no key: give the one of `moderation audit key` by --key.")
    key = checkpoints.read_key(options.key)
    pins = _pins(options.checkpoints, key)
    lines = audit_backup.lines(options.file, key)
    audit_export.key_in(lines)
    return audit_export.verify(lines, key, pins, lambda _: None)


def _pins(files: Sequence[Path], key: VerifierKey) -> list[Pin]:
    from moderation.domain.errors import InvalidInput
    from moderation.governance import checkpoint_files

    try:
        return list(checkpoint_files.pins(files, key))
    except OSError as error:
        raise InvalidInput(f"{error.filename} can't be read: {error.strerror}.") from error


def _counted(lines: Iterator[str], progress: Callable[[int], None]) -> Iterator[str]:
    for line in lines:
        progress(len(line.encode()))
        yield line


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    from moderation.domain.errors import InvalidInput

    try:
        with path.open(encoding="utf-8") as file:
            yield file
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} can't be read; check its path.") from error


def _verified(found: Verified) -> int:
    open_end = found.events - found.signed
    say(f"The log is intact: {found.events} events, {found.checkpoints} checkpoints"
        + (f", {found.exported} more that were kept elsewhere." if found.exported else "."))  # fmt: skip
    if open_end:
        say(f"{open_end} of them came after the last checkpoint: no signature covers them yet.")
    if found.waiting:
        say(f"{found.waiting} more events wait for their number; the relay gives it within seconds.")
    if found.bare:
        say(f"Of {found.bare} the details were erased, as they may be; that they happened is unchanged.")
    if not found.exported:
        say("No checkpoint kept elsewhere was compared: an older copy of the whole database would pass too.")
    say(f"Key {found.key.fingerprint}")
    return 0


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, for what takes longer than a moment."""
    if not sys.stderr.isatty() or total < BATCH:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Verifying", total=total)
        pending = 0

        def advance(count: int) -> None:
            nonlocal pending
            pending += count
            if pending >= BATCH:
                bar.advance(task, pending)
                pending = 0

        yield advance


def _show(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import audit

    query = audit.Query(
        options.actor, options.action, options.subject, options.since, options.until, options.before
    )
    names = {"actor": options.actor, "action": options.action, "subject_id": options.subject}
    asked = {name: value for name, value in names.items() if value}
    # Committed before anything is shown, as on the console.
    with administration.opened(settings) as held:
        audit.record(held.session, [audit.Event(OPERATOR, "audit.viewed", "audit", "log", asked)], held.now)
    with administration.opened(settings) as held:
        page = audit.page(held.session, query)
    if options.json:
        for event in page.events:
            say(json.dumps(_plain(event), ensure_ascii=False))
    else:
        _table(page)
    if page.next:
        sys.stderr.write(f"More: --before {page.next}\n")
    elif page.looked_until:
        sys.stderr.write(f"Looked back to {page.looked_until:%Y-%m-%d %H:%M} UTC; go on with --until.\n")
    return 0


def _plain(event: Any) -> Mapping[str, Any]:
    from moderation.governance import ledger

    return {"number": event.leaf_index, **ledger.header(event), "details": event.details}


def _table(page: Page) -> None:
    from rich.console import Console
    from rich.table import Table

    if not page.events:
        say("No event fits.")
        return
    table = Table(box=None, pad_edge=False)
    for head in ("number", "event", "when (UTC)", "actor", "action", "subject", "details"):
        table.add_column(head, overflow="fold")
    for event in page.events:
        number = "-" if event.leaf_index is None else str(event.leaf_index)
        details = " ".join(f"{name}={value}" for name, value in event.details.items())
        table.add_row(number, str(event.id), f"{event.at:%Y-%m-%d %H:%M:%S}", event.actor, event.action,
                      f"{event.subject} {event.subject_id}", details)  # fmt: skip
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 220).print(table)


def _proof(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import audit, ledger

    with administration.opened(settings) as held:
        found = ledger.proof(held.session, held.vault, ledger.event_of(held.session, options.id))
        event = audit.Event(OPERATOR, "audit.proof_made", "event", found.document["event"]["id"])
        audit.record(held.session, [event], held.now)
    if options.out is None:
        sys.stdout.write(found.text)
    else:
        _write(options.out, found.text)
        say(f"The proof is in {options.out}; docs/verify_proof.py checks it with nothing else of ours.")
    return 0


def _consistency(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.domain.errors import InvalidInput
    from moderation.governance import checkpoints, ledger

    with _reading(options.file) as file:
        try:
            notes = list(checkpoints.split(file.read()))
        except checkpoints.NoteInvalid as error:
            raise InvalidInput(f"{options.file} holds no checkpoint. {error}") from error
    with administration.opened(settings) as held:
        found = ledger.consistency(held.session, held.vault, notes[-1] if notes else "")
    sys.stdout.write(found.text)
    return 0


def _checkpoint(settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import checkpoint_files, ledger

    numbered = BATCH
    while numbered == BATCH:
        with administration.opened(settings) as held:
            numbered = ledger.sequence(held.session, BATCH)
    with administration.opened(settings) as held:
        ledger.checkpoint(held.session, held.vault, held.now)
    with administration.opened(settings) as held:
        last = ledger.last_checkpoint(held.session)
        if settings.checkpoint_dir is not None:
            checkpoint_files.export(held.session, settings.checkpoint_dir, ledger.key(held.vault))
    sys.stdout.write(last.note if last else "The log is empty.\n")
    return 0


def _key(settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import ledger

    with administration.opened(settings) as held:
        key: VerifierKey = ledger.key(held.vault)
    say(str(key))
    sys.stderr.write(f"Fingerprint {key.fingerprint}. Keep it where the database is not.\n")
    return 0


def _export(options: argparse.Namespace, settings: Settings) -> int:
    import os

    from moderation import administration
    from moderation.governance import audit, audit_export, ledger

    with administration.opened(settings) as held:
        audit.record(held.session, [audit.Event(OPERATOR, "audit.exported", "audit", "log")], held.now)
    descriptor = os.open(options.file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file, administration.opened(settings) as held:
        count = audit_export.write(held.session, ledger.key(held.vault), file, held.now, lambda _: None)
    say(
        f"{count} events are in {options.file}; check it anywhere with: moderation audit verify {options.file}"
    )
    return 0


def _write(path: Path, text: str) -> None:
    from moderation.domain.errors import InvalidInput

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{path} can't be written: {error.strerror}.") from error


def _moment(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise argparse.ArgumentTypeError("must be a day such as 2026-11-22") from error
