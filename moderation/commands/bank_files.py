"""`moderation banks import` and `export`: lists of what banks hold, and folders of pictures."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moderation.commands import Part, SettingsOf, say

if TYPE_CHECKING:
    from moderation.administration import Opened
    from moderation.governance.bank_staging import Filled
    from moderation.settings import Settings

FORMATS = ("list", "csv", "jsonl", "threatexchange", "ncmec", "stopncii")
FORMS = ("literal", "pattern", "host", "url", "email", "phone", "sha256", "pdq")
EXCHANGES = ("threatexchange", "ncmec", "stopncii")
_READ_AHEAD = 65_536


def add(actions: Any, part: Part, settings_of: SettingsOf) -> None:
    """The parsers of both."""
    importing = part(actions, "import", "add what a list says, or the pictures of a folder, all or nothing",
                     lambda options: _import(options, settings_of(options)))  # fmt: skip
    importing.add_argument("name", metavar="NAME")
    importing.add_argument(
        "--file",
        type=Path,
        required=True,
        metavar="LIST",
        help="UTF-8; a folder of pictures; - reads the input",
    )
    importing.add_argument("--format", choices=FORMATS, help="else told by how the list begins")
    importing.add_argument(
        "--form",
        choices=FORMS,
        help="of lines that name none; else terms are literal and links told by their looks",
    )
    importing.add_argument("--source", help="whose list it is; the name of the exchange, of an exchange's")
    importing.add_argument("--note", default="", help="why, for whoever looks later, of lines without a note")
    importing.add_argument(
        "--expires", type=day, metavar="DAY", help="of lines that name no end, as in 2027-01-31 (UTC)"
    )
    importing.add_argument(
        "--verified", action="store_true", help="act on a match alone; otherwise a match goes to people"
    )
    importing.add_argument(
        "--dry-run", action="store_true", help="say what would come of it, and change nothing"
    )
    exporting = part(actions, "export", "write a list of what a bank holds, which goes on record",
                     lambda options: _export(options, settings_of(options)))  # fmt: skip
    exporting.add_argument("name", metavar="NAME")
    exporting.add_argument("--format", choices=("csv", "jsonl"), default="jsonl")
    exporting.add_argument("--file", type=Path, metavar="LIST", help="a new file; else the output")


def day(text: str) -> datetime:
    """The end of a day in UTC, as an argument."""
    try:
        found = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no day; write it as in 2027-01-31") from error
    return found.replace(hour=23, minute=59, second=59)


@contextmanager
def bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error; what it yields is told how far we are."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


# ---- import -----------------------------------------------------------------------------------------------


def _import(options: argparse.Namespace, settings: Settings) -> int:
    if options.file.is_dir():
        return _import_folder(options, settings)
    from moderation.domain.signals import BankKind
    from moderation.governance import bank_feeds, banks
    from moderation.governance.bank_formats import Format

    with _opened(options.file) as source:
        guessed = bank_feeds.looks_like(source.peek(_READ_AHEAD))
        shape = Format(options.format) if options.format else guessed
        if options.format is None and shape is not Format.LIST:
            say(f"Read as {shape}; --format says otherwise.")

        def read(held: Opened) -> Iterable[Any]:
            kind = BankKind(banks.kind_of(held.session, options.name))
            return bank_feeds.read(source, shape, kind)

        size = options.file.stat().st_size if str(options.file) != "-" else None
        source_name = options.source or (str(shape) if shape in EXCHANGES else None)
        with bar("Reading", size) as told:
            filled = _fill(options, settings, read, source_name, lambda _: told(_place(source)))
    _tell(filled, dry=options.dry_run, place=lambda number: f"line {number:,}")
    return 0


def _place(source: Any) -> int:
    return source.tell() if source.seekable() else 0


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """A buffered stream of bytes, into which one can peek."""
    from moderation.domain.errors import InvalidInput

    if str(file) == "-":
        yield sys.stdin.buffer
        return
    try:
        source = file.open("rb", buffering=_READ_AHEAD)
    except OSError as error:
        raise InvalidInput(f"{file} can't be read: {error.strerror}.") from error
    with source:
        yield source


def _import_folder(options: argparse.Namespace, settings: Settings) -> int:
    from moderation.domain.errors import InvalidInput
    from moderation.domain.signals import BankKind
    from moderation.governance import bank_loading, banks

    if options.format or options.form:
        raise InvalidInput("A folder holds pictures; leave --format and --form out.")
    files = sorted(file for file in options.file.rglob("*") if file.is_file() and not file.is_symlink())
    done = 0
    with bar("Decoding", len(files)) as told:

        def read(held: Opened) -> Iterable[Any]:
            if banks.kind_of(held.session, options.name) != BankKind.IMAGE:
                raise InvalidInput("A folder of pictures is for a bank of pictures; name a list by --file.")
            return bank_loading.pictures(held.vault, files)

        def further(count: int) -> None:
            nonlocal done
            done += count
            told(done)

        filled = _fill(options, settings, read, options.source, further)
    _tell(filled, dry=options.dry_run, place=lambda number: str(files[number - 1]))
    return 0


def _fill(
    options: argparse.Namespace,
    settings: Settings,
    read: Callable[[Opened], Iterable[Any]],
    source: str | None,
    progress: Callable[[int], None],
) -> Filled:
    from moderation import administration
    from moderation.governance import bank_loading

    about = bank_loading.About(options.note, options.verified, options.expires, options.form, source)
    with administration.opened(settings) as held:
        return bank_loading.fill(
            held.session,
            held.vault,
            options.name,
            read(held),
            about,
            actor=administration.OPERATOR,
            now=held.now,
            dry=options.dry_run,
            progress=progress,
        )


def _tell(filled: Filled, *, dry: bool, place: Callable[[int], str]) -> None:
    for number, why in filled.faults:
        say(f"{place(number)}: {why}")
    if filled.bad > len(filled.faults):
        say(f"... and {filled.bad - len(filled.faults):,} more that can't be used.")
    if filled.foreign:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in filled.foreign.most_common())
        say(f"{filled.foreign.total():,} can't be looked for here, by kind: {kinds}.")
    would = "would be " if dry else ""
    say(
        f"{filled.added:,} {would}added, {filled.known:,} known already, {filled.repeated:,} twice in the list, "
        f"{filled.bad:,} bad."
    )
    if filled.completed:
        say(f"Of those known, {filled.completed:,} {would}find near copies too from now on.")
    if filled.removed or filled.absent:
        gone = f"{filled.removed:,} {would}removed, as their source takes them back"
        say(f"{gone}; {filled.absent:,} such were not here.")
    if (filled.added or filled.removed) and not dry:
        say("Workers hear of it with their next batch.")


# ---- export -----------------------------------------------------------------------------------------------


def _export(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import bank_export
    from moderation.governance.bank_formats import Format

    shape = Format(options.format)
    # On record before the first line leaves, and committed, whatever becomes of the rest.
    with administration.opened(settings) as held:
        entries = bank_export.note(
            held.session, options.name, shape, actor=administration.OPERATOR, now=held.now
        )
    with (
        _written(options.file) as sink,
        bar("Writing", entries) as told,
        administration.opened(settings) as held,
    ):
        lines = bank_export.lines(held.session, held.vault, options.name, shape, held.now)
        for number, line in enumerate(lines):
            sink.write(line)
            if number % 1_000 == 0:
                told(number)
    if options.file is not None:
        say(
            f"{entries:,} entries are in {options.file}. They may lead to people: keep it as you keep the bank."
        )
    return 0


@contextmanager
def _written(file: Path | None) -> Iterator[Any]:
    """A new file that only its owner reads, complete or not there; or the output."""
    from moderation.domain.errors import InvalidInput

    if file is None:
        yield sys.stdout
        return
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise InvalidInput(f"{file} is there already; choose another name.") from error
    except OSError as error:
        raise InvalidInput(f"{file} can't be written: {error.strerror}.") from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as sink:
            yield sink
    except BaseException:
        file.unlink(missing_ok=True)
        raise
