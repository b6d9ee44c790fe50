"""`moderation banks search`, `entry` and `tune`: what a bank knows, what became of an entry, how a bank matches."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from moderation.commands import Part, SettingsOf, say

if TYPE_CHECKING:
    from moderation.administration import Opened
    from moderation.features.fingerprints import Asked
    from moderation.governance.bank_lists import EntryView
    from moderation.settings import Settings

WIDTH = 160


def add(actions: Any, part: Part, settings_of: SettingsOf) -> None:
    """The parsers of all three."""
    searching = part(actions, "search", "find entries by what you have of them",
                     lambda options: _search(options, settings_of(options)))  # fmt: skip
    searching.add_argument("name", metavar="NAME")
    wanted = searching.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--value", help="what an entry says, its note or source, who added it, or its id")
    wanted.add_argument("--hash", help="of a picture, SHA-256 or PDQ; near ones are found by PDQ")
    wanted.add_argument("--picture", type=Path, metavar="FILE", help="entries that it matches, near ones too")
    entry = part(actions, "entry", "what an entry is, what was done to it, and when it matched",
                 lambda options: _entry(options, settings_of(options)))  # fmt: skip
    entry.add_argument("name", metavar="NAME")
    entry.add_argument("id", type=UUID, metavar="ID")
    tune = part(actions, "tune", "change how near is near enough, on which share it acts, or whose list it is",
                lambda options: _tune(options, settings_of(options)))  # fmt: skip
    tune.add_argument("name", metavar="NAME")
    tune.add_argument("--distance", type=_distance, default=..., metavar="D", help="as for create, or none")
    tune.add_argument("--sample-share", type=float, metavar="S", help="of the items that match, above 0 to 1")
    tune.add_argument("--source", help="whose list it is")


def _distance(text: str) -> float | None:
    if text == "none":
        return None
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no distance; write a number, or none") from error


# ---- search -----------------------------------------------------------------------------------------------


def _search(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import bank_lists

    words, asked = options.value or options.hash or "", None
    if options.hash is not None:
        asked = _asked_by_hash(options.hash)
    elif options.picture is not None:
        asked = _asked(options.picture)
        words = asked.sha256.hex()
    with administration.opened(settings) as held:
        near = {} if asked is None else _near(held, settings, options.name, asked)
        found = bank_lists.entries(
            held.session, options.name, held.now, search=words, near=list(near), vault=held.vault
        )
    for one in found[: bank_lists.PAGE]:
        say(f"{one.id}  {_described(one)}{near.get(one.id, '')}")
    more = " or more; the newest are shown" if len(found) > bank_lists.PAGE else ""
    count = min(len(found), bank_lists.PAGE)
    say(f"{count} {'entry' if count == 1 else 'entries'}{more}.")
    return 0


def _described(one: EntryView) -> str:
    said = [
        one.value if one.value is not None else one.digest,
        one.form or "",
        "" if one.verified else "unverified",
        "" if one.live else "off",
        "in quarantine" if one.quarantined_at else "",
        f"from {one.source}" if one.source else "",
        one.note,
    ]
    return "; ".join(part for part in said if part)


def _asked_by_hash(written: str) -> Asked | None:
    """A PDQ hash, asked for as it is; anything else is looked for by its digits alone."""
    import numpy as np

    from moderation.features.fingerprints import Asked
    from moderation.governance.bank_formats import PDQ, Unusable, hexadecimal

    try:
        bits = np.frombuffer(bytes.fromhex(hexadecimal(written, PDQ)), np.uint8).reshape(1, 32)
    except Unusable:
        return None
    return Asked(b"", bits, (), 100)


def _asked(file: Path) -> Asked:
    from moderation.domain.errors import InvalidInput
    from moderation.features import fingerprints
    from moderation.features.decode import Decoder
    from moderation.features.hashes import sha256

    try:
        content = file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{file} can't be read: {error.strerror}.") from error
    with Decoder() as decoder:
        return fingerprints.asked(decoder.decode(content), sha256(content))


def _near(held: Opened, settings: Settings, name: str, asked: Asked) -> dict[UUID, str]:
    """The entries that would match, and how nearly."""
    from moderation.pipeline import pictures

    snapshot = pictures.PictureBanks(settings.index).current(held.session, held.vault, held.now)
    (matches,) = pictures.matches(held.session, snapshot.propose([asked]), held.now, only=name)
    return {
        UUID(one.entry): f"; {one.how}"
        + ("" if one.distance is None else f", {one.distance} of 256 bits differ")
        for one in matches
    }


# ---- one entry --------------------------------------------------------------------------------------------


def _entry(options: argparse.Namespace, settings: Settings) -> int:
    from rich.console import Console
    from rich.table import Table

    from moderation import administration
    from moderation.governance import bank_history, bank_lists, banks

    with administration.opened(settings) as held:
        banks.entry_of(held.session, options.name, options.id)
        (one,) = bank_lists.entries(held.session, options.name, held.now, only=options.id, vault=held.vault)
        history = bank_history.of_entry(held.session, options.id, held.now)
    say(f"{one.id} of bank {options.name}: {_described(one)}")
    if one.expires_at is not None:
        say(f"Its end: {_moment(one.expires_at)}.")
    say(
        f"{one.use.matches:,} matches in 7 days, {one.not_same:,} times somebody said that it is not the same."
    )
    table = Table(box=None, pad_edge=False, show_header=False)
    for happening in history.happenings:
        details = ", ".join(f"{key} {value}" for key, value in happening.details.items() if key != "bank")
        table.add_row(_moment(happening.at), happening.action, happening.actor, details)
    Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH).print(table)
    matched = [f"{on:%d %B} {hits:,}" for on, hits in history.days if hits]
    if matched:
        say(f"Items matched by day: {', '.join(matched)}.")
    return 0


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


# ---- tune -------------------------------------------------------------------------------------------------


def _tune(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.domain.errors import InvalidInput
    from moderation.governance import banks

    wanted = banks.Tuning()
    if options.distance is not ...:
        wanted["distance"] = options.distance
    if options.sample_share is not None:
        wanted["sample_share"] = options.sample_share
    if options.source is not None:
        wanted["source"] = options.source
    if not wanted:
        raise InvalidInput("Say what to change: --distance, --sample-share or --source.")
    with administration.opened(settings) as held:
        banks.tune(held.session, options.name, actor=administration.OPERATOR, now=held.now, **wanted)
    say(f"Bank {options.name} is changed; workers hear of it with their next batch.")
    return 0
