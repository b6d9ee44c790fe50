"""`moderation models`: add a version, propose it, promote what somebody else proposed, go back."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moderation.commands import Part, SettingsOf, say

if TYPE_CHECKING:
    from models.gates import Gate
    from moderation.governance.model_lists import Measured, Version
    from moderation.settings import Settings


Run = Callable[[argparse.Namespace, "Settings"], int]


def add(commands: Any, part: Part, settings_of: SettingsOf) -> None:
    """The parser of `moderation models`."""
    group = commands.add_parser("models", help="versions of classifiers, and which of them serves")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    fresh = part(actions, "add", "check an artifact and copy it here; it serves nobody yet",
                 lambda options: _add(options, settings_of(options)))  # fmt: skip
    fresh.add_argument("folder", type=Path, metavar="DIR", help="as `python -m training register` wrote it")
    part(actions, "list", "every version, which serves, and what it did not pass",
         lambda options: _list(settings_of(options)))  # fmt: skip
    show = part(actions, "show", "one version: gates, numbers, where its card is",
                lambda options: _show(options, settings_of(options)))  # fmt: skip
    show.add_argument("name", metavar="NAME")
    show.add_argument("version", metavar="VERSION", nargs="?", help="default: the one that serves")
    for name, text, run in (
        ("propose", "propose that a version serves", _propose),
        ("promote", "have a version serve that somebody else proposed", _promote),
        ("refuse", "refuse a proposal, or take one's own back", _refuse),
        ("remove", "remove a version that was added and never served", _remove),
    ):
        action = part(actions, name, text, partial(_with_settings, run, settings_of))
        action.add_argument("name", metavar="NAME")
        action.add_argument("version", metavar="VERSION")
        if run is not _remove:
            _add_by(action)
    back = part(actions, "rollback", "have the version serve again that served before, at once",
                lambda options: _rollback(options, settings_of(options)))  # fmt: skip
    back.add_argument("name", metavar="NAME")
    _add_by(back)


def _with_settings(run: Run, settings_of: SettingsOf, options: argparse.Namespace) -> int:
    return run(options, settings_of(options))


def _add_by(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--by", required=True, metavar="EMAIL", help="who does this, of those who work here; one of the two steps"
        " of a promotion is done logged in, in the console",
    )  # fmt: skip


def _add(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import models

    with administration.opened(settings) as held:
        added = models.add(held.session, options.folder, settings.models, administration.OPERATOR, held.now)
    name, version = added.manifest.name, added.manifest.version
    if not added.fresh:
        say(f"{name} {version} is here already.")
        return 0
    say(f"{name} {version} is added; its golden inputs come out as they should. It serves nobody yet.")
    _say_gates(added.gates)
    say(f"Propose it: moderation models propose {name} {version} --by EMAIL")
    return 0


def _list(settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import model_lists

    with administration.opened(settings) as held:
        for one in model_lists.listing(held.session, settings.models):
            proposed = "  proposed" if one.proposal else ""
            state = one.trouble or one.damage
            say(
                f"{one.name} {one.version}".ljust(28)
                + f"  {one.kind:<9}  {one.origin:<7}  {' '.join(one.aliases) or '-':<18}  {_passed(one)}{proposed}"
                + (f"  {state}" if state else "")
            )
    return 0


def _passed(one: Version) -> str:
    if not one.gates or any(gate.name == "results" for gate in one.gates):
        return "no gate results"
    return f"fails {one.failed} of {len(one.gates)} gates" if one.failed else f"passes {len(one.gates)} gates"


def _show(options: argparse.Namespace, settings: Settings) -> int:
    from models.registry import CARD
    from moderation import administration
    from moderation.governance import model_lists

    with administration.opened(settings) as held:
        one = model_lists.one(held.session, settings.models, options.name, options.version)
    say(f"{one.name} {one.version}: {one.kind}, {one.origin}, {' '.join(one.aliases) or 'serves nobody'}")
    say(f"SHA-256 {one.sha256}")
    say(f"Card    {one.folder / CARD}")
    for trouble in (one.trouble, one.damage):
        if trouble:
            say(f"Trouble {trouble}")
    _say_gates(one.gates)
    if one.categories:
        say(f"\n{'category':<14}{'positives':>12}  {'AUC':<22}{'AP':<22}ECE")
    for row in one.categories:
        say(
            f"{row.name:<14}{f'{row.positives}/{row.labelled}':>12}  {_interval(row.auc):<22}"
            f"{_interval(row.ap):<22}{_interval(row.ece)}"
        )
    return 0


def _interval(measured: Measured | None) -> str:
    if measured is None:
        return "-"
    return f"{measured.value:.3f} ({measured.low:.3f}-{measured.high:.3f})"


def _say_gates(found: tuple[Gate, ...]) -> None:
    for gate in found:
        say(f"  {_word(gate)}  {gate.name:<28}  {gate.sentence}")


def _word(gate: Gate) -> str:
    return "passed" if gate.passed else "FAILED" if gate.waived is None else "waived"


def _propose(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import promotions

    with administration.opened(settings) as held:
        by = promotions.named(held.session, held.vault, options.by)
        promotions.propose(held.session, settings.models, by, options.name, options.version, held.now)
    say(
        f"{options.name} {options.version} is proposed. Somebody else promotes it, in the console under Models."
    )
    return 0


def _promote(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import promotions

    with administration.opened(settings) as held:
        by = promotions.named(held.session, held.vault, options.by)
        before = promotions.promote(
            held.session, settings.models, by, options.name, options.version, held.now
        )
    instead = (
        f" instead of {before}; go back with: moderation models rollback {options.name}" if before else ""
    )
    say(f"{options.name} {options.version} serves{instead}. Workers load it within seconds.")
    return 0


def _refuse(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import promotions

    with administration.opened(settings) as held:
        by = promotions.named(held.session, held.vault, options.by)
        promotions.refuse(held.session, by, options.name, options.version, held.now)
    say(f"{options.name} {options.version} is not proposed any more.")
    return 0


def _rollback(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import promotions

    with administration.opened(settings) as held:
        by = promotions.named(held.session, held.vault, options.by)
        left, back = promotions.rollback(held.session, settings.models, by, options.name, held.now)
    say(f"{options.name} {back} serves again instead of {left}, on the word of one person. "
        f"To bring {left} back takes two.")  # fmt: skip
    return 0


def _remove(options: argparse.Namespace, settings: Settings) -> int:
    from models import registry
    from moderation import administration
    from moderation.governance import models

    with administration.opened(settings) as held:
        folder = models.remove(
            held.session, options.name, options.version, settings.models, administration.OPERATOR, held.now
        )
        registry.remove(folder)
    say(f"{options.name} {options.version} is removed.")
    return 0
