"""`moderation models`: add a version, try it, propose it, promote what somebody else proposed, go back."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moderation.commands import Part, SettingsOf, backtest, say

if TYPE_CHECKING:
    from models.gates import Gate
    from moderation.governance.model_lists import Measured, Proposal, Version
    from moderation.governance.shadows import Agreement
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
    _add_trials(actions, part, settings_of)
    backtest.add(actions, part, settings_of)
    back = part(actions, "rollback", "have the version serve again that served before, at once",
                lambda options: _rollback(options, settings_of(options)))  # fmt: skip
    back.add_argument("name", metavar="NAME")
    _add_by(back)


def _add_trials(actions: Any, part: Part, settings_of: SettingsOf) -> None:
    """The parsers of what is tried beside a champion."""
    shadow = part(actions, "shadow", "have a version score and decide nothing; without one, how it agrees",
                  partial(_with_settings, _shadow, settings_of))  # fmt: skip
    canary = part(actions, "canary", "propose that a version decides for a share of the items, or end that",
                  partial(_with_settings, _canary, settings_of))  # fmt: skip
    for action, word in ((shadow, "shadow"), (canary, "canary")):
        action.add_argument("name", metavar="NAME")
        action.add_argument("version", metavar="VERSION", nargs="?", help="left out with --off")
        action.add_argument("--off", action="store_true", help=f"end the {word} of this name, at once")
    canary.add_argument("--share", type=float, metavar="SHARE", help="of the items, such as 0.05")
    _add_by(canary)
    _add_by(shadow, required=False)


def _with_settings(run: Run, settings_of: SettingsOf, options: argparse.Namespace) -> int:
    return run(options, settings_of(options))


def _add_by(action: argparse.ArgumentParser, *, required: bool = True) -> None:
    action.add_argument(
        "--by", required=required, metavar="EMAIL", help="who does this, of those who work here; one of the two"
        " steps of a promotion is done logged in, in the console",
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
    from moderation.governance import model_ages, model_lists
    from moderation.governance.policies import PolicyCache

    with administration.opened(settings) as held:
        ages = model_ages.sentences(held.session, PolicyCache().current(held.session))
        for one in model_lists.listing(held.session, settings.models):
            proposed = f"  proposed as {_place(one.proposal)}" if one.proposal else ""
            state = one.trouble or ages.get((one.name, one.version)) or one.damage
            say(
                f"{one.name} {one.version}".ljust(28)
                + f"  {one.kind:<9}  {one.origin:<7}  {_aliases(one) or '-':<18}  {_passed(one)}{proposed}"
                + (f"  {state}" if state else "")
            )
    return 0


def _aliases(one: Version) -> str:
    """What a version serves as; a canary with its share."""
    said = {"canary": f"canary({one.share:g})"} if one.share is not None else {}
    return " ".join(said.get(alias, alias) for alias in one.aliases)


def _place(proposal: Proposal) -> str:
    return "champion" if proposal.share is None else f"canary for a share of {proposal.share:g}"


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
    say(f"{one.name} {one.version}: {one.kind}, {one.origin}, {_aliases(one) or 'serves nobody'}")
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
    from moderation.governance import model_lists, promotions

    with administration.opened(settings) as held:
        one = model_lists.one(held.session, settings.models, options.name, options.version)
        by = promotions.named(held.session, held.vault, options.by)
        before = promotions.promote(
            held.session, settings.models, by, options.name, options.version, held.now
        )
    if one.proposal is not None and one.proposal.share is not None:
        say(f"{options.name} {options.version} now decides for a share of {one.proposal.share:g} of the items. "
            f"End it with: moderation models canary {options.name} --off --by EMAIL")  # fmt: skip
        return 0
    instead = (
        f" instead of {before}; go back with: moderation models rollback {options.name}" if before else ""
    )
    say(f"{options.name} {options.version} serves{instead}. Workers load it within seconds.")
    return 0


def _canary(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.domain.errors import InvalidInput
    from moderation.governance import promotions
    from moderation.governance.models import CANARY

    name, version = options.name, options.version
    if options.off == (version is not None):
        raise InvalidInput(
            "Say which VERSION is to be the canary, with --share, or --off to end the one there is."
        )
    with administration.opened(settings) as held:
        by = promotions.named(held.session, held.vault, options.by)
        if options.off:
            ended = promotions.end_trial(held.session, by, name, CANARY, held.now)
        else:
            promotions.propose(
                held.session, settings.models, by, name, version, held.now, alias=CANARY, share=options.share
            )
    if options.off:
        say(f"{name} {ended} is no canary any more: the champion decides everything again, within seconds.")
    else:
        say(f"{name} {version} is proposed as canary for a share of {options.share:g} of the items. Somebody else "
            "promotes it, in the console under Models.")  # fmt: skip
    return 0


def _shadow(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.domain.errors import InvalidInput
    from moderation.governance import promotions
    from moderation.governance.models import SHADOW

    name, version = options.name, options.version
    if version is None and not options.off:
        return _agreement(name, settings)
    if version is not None and options.off:
        raise InvalidInput(
            "Say which VERSION is to be the shadow, or --off to end the one there is; not both."
        )
    if options.by is None:
        raise InvalidInput("Say with --by EMAIL who does this, of those who work here.")
    with administration.opened(settings) as held:
        by = promotions.named(held.session, held.vault, options.by)
        if options.off:
            ended = promotions.end_trial(held.session, by, name, SHADOW, held.now)
        else:
            promotions.shadow(held.session, settings.models, by, name, version, held.now)
    if options.off:
        say(f"{name} {ended} is no shadow any more. What it scored stays with its items.")
    else:
        say(f"{name} {version} now scores everything that comes in, beside what decides, and decides nothing. It "
            "costs each worker the time and the memory of one model more.")  # fmt: skip
        say(f"See how it agrees: moderation models shadow {name}")
        say(f"End it:            moderation models shadow {name} --off --by EMAIL")
    return 0


def _agreement(name: str, settings: Settings) -> int:
    """How the shadow of a name agrees with what decides."""
    from moderation import administration
    from moderation.domain.errors import NotFound
    from moderation.governance import policies, shadows
    from moderation.governance.models import SHADOW
    from moderation.storage.tables import ModelAlias

    with administration.opened(settings) as held:
        alias = held.session.get(ModelAlias, (name, SHADOW))
        if alias is None:
            raise NotFound(
                f"{name} has no shadow; begin one with: moderation models shadow {name} VERSION --by EMAIL"
            )
        since = alias.set_at
        number, document = policies.document_in_force(held.session, held.now)
        policy = policies.read(document, number)
        found = shadows.agreement(held.session, policy, name, alias.version, since)
    say(
        f"{name} {found.version} is a shadow since {since:%Y-%m-%d %H:%M} UTC: it scores and decides nothing."
    )
    if not found.items:
        say("No item was scored by both yet; look again when some have come in.")
        return 0
    _say_agreement(found)
    return 0


def _say_agreement(found: Agreement) -> None:
    failed = f" {found.failed} it could not judge." if found.failed else ""
    say(
        f"Of the newest {found.items} items that both scored, {found.changed} would be decided otherwise.{failed}\n"
    )
    say(f"{'category':<16}{'items':>8}{'otherwise':>11}{'agreement':>11}  would become")
    for one in found.categories:
        moved = ", ".join(
            f"{was} to {then}: {count}"
            for (was, then), count in sorted(one.changed.items(), key=lambda pair: -pair[1])
        )
        rank = "-" if one.correlation is None else f"{one.correlation:.3f}"
        say(f"{one.category:<16}{one.items:>8}{one.changes:>11}{rank:>11}  {moved or '-'}")
    say("\nAgreement is the rank correlation of the scores: 1 where both put the items in the same order.")


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
