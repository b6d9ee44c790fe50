"""`moderation policy certify`, `certificates` and `void`: prove what the policy promises, show it, end it."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from moderation.commands import Part, SettingsOf
from moderation.commands import say as _say

if TYPE_CHECKING:
    from moderation.domain.policy import Policy
    from moderation.governance.certificate_lists import CertificateView, PromiseView
    from moderation.governance.certification import Attempt, Certified
    from moderation.settings import Settings

DRY = (
    "This was a dry run: nothing was written, spent or promised. Whoever certifies on the day on which a dry run "
    "looks good picks the luckiest of many days; certify by the calendar."
)


def add(actions: Any, part: Part, settings_of: SettingsOf) -> None:
    """The parsers of what has to do with certificates."""
    certify = part(actions, "certify", "prove what the policy in force promises, from the blind checks there are",
                   lambda options: _certify(options, settings_of(options)))  # fmt: skip
    certify.add_argument(
        "--dry-run", action="store_true", help="say what it would come to, and write nothing"
    )
    certify.add_argument("--model", nargs=2, metavar=("NAME", "VERSION"),
                         help="for a version that does not serve yet, by what it said in the shadow")  # fmt: skip
    certify.add_argument("--json", action="store_true", help="as a JSON document")
    shown = part(actions, "certificates", "what is promised, how it stands, and what is still needed",
                 lambda options: _certificates(options, settings_of(options)))  # fmt: skip
    shown.add_argument(
        "id", nargs="?", type=UUID, metavar="ID", help="one certificate, with its data checked"
    )
    shown.add_argument("--all", action="store_true", help="every certificate there ever was")
    shown.add_argument("--json", action="store_true", help="as a JSON document")
    void = part(actions, "void", "end a certificate at once",
                lambda options: _void(options, settings_of(options)))  # fmt: skip
    void.add_argument("id", type=UUID, metavar="ID")


def _certify(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.domain.promises import Occasion
    from moderation.governance import certification, policies

    candidate = certification.Candidate(*options.model) if options.model else None
    with administration.opened(settings) as held:
        policy = policies.PolicyCache().current(held.session, held.now)
        found = certification.certify(
            held.session,
            policy,
            administration.OPERATOR,
            held.now,
            Occasion.ASKED,
            candidate=candidate,
            dry=options.dry_run,
        )
    if options.json:
        _say(json.dumps(_plain(found), indent=2))
    else:
        _print(found, policy, dry=options.dry_run)
    return 0


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _print(found: Certified, policy: Policy, *, dry: bool) -> None:
    number = (
        f"Certification {found.number} of {found.renewals} in {found.term}"
        if found.tried
        else "Certification"
    )
    about = f" of {found.candidate.name} {found.candidate.version}" if found.candidate else ""
    _say(f"{number}{about}, under version {found.policy_version} of the policy.")
    _say(f"Blind checks of decisions made from {found.since:%Y-%m-%d} to {found.until:%Y-%m-%d}.\n")
    several = len({(one.slice, one.lineup) for one in found.attempts}) > 1
    for one in found.attempts:
        _say(_promise(one, several=several))
        for line in _attempt(one, policy):
            _say(f"  {line}")
    proved = sum(one.proved for one in found.attempts)
    _say("")
    if not found.attempts:
        _say("No model that serves scores a category with a promise.")
    elif not found.tried:
        _say("So few checks can prove nothing, so nothing was tried and nothing of the quarter is spent.")
    else:
        _say(f"{'To be certified' if dry else 'Certified'}: {proved} of {len(found.attempts)} promises.")
    if dry:
        _say(DRY)


def _promise(one: Attempt | PromiseView | CertificateView, *, several: bool) -> str:
    """A promise as a line: what may go wrong, and for which items."""
    category = one.category.replace("_", " ")
    kept = (
        f"at most {_share(one.allowed)} of what is removed by itself is wrong"
        if one.side == "remove"
        else f"at most {_share(one.allowed)} of what is let pass by itself breaks the rule"
    )
    language = "every other language" if one.slice == "*" else f"language {one.slice}"
    return f"{category}: {kept}" + (f" ({language}; {one.lineup or 'no model'})" if several else "")


def _attempt(one: Attempt, policy: Policy) -> Iterable[str]:
    if one.threshold is not None and one.share is not None and one.bound is not None:
        yield (
            f"certified {_region(one.side, one.threshold)}: {one.mistakes:,} of {one.checks:,} checks were "
            f"mistakes, so at most {_share(one.bound)}"
        )
        yield f"the rule decides {_share(one.share)} of {one.decisions:,} decisions by itself"
        if one.certificate is not None:
            yield f"certificate {one.certificate}"
    elif not one.tried:
        yield f"not tried: {one.drawn:,} checks; about {one.needed:,} more are needed if all are right"
    else:
        yield (
            f"not certified: {one.mistakes:,} of {one.checks:,} checks were mistakes; about {one.needed:,} more "
            "are needed if all are right"
        )
    if one.overdue:
        hours = policy.certificates.settle_hours
        yield f"{one.overdue:,} checks were not answered within {hours:g} hours, and count as mistakes"
    if one.withdrawn:
        yield f"{one.withdrawn:,} items ended before anybody looked, and are left out"


def _region(side: str, threshold: float) -> str:
    return f"{'from' if side == 'remove' else 'below'} {threshold:.4g}"


def _share(value: float) -> str:
    return f"{value * 100:.3g} %"


def _certificates(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import certificate_lists, certification, policies

    with administration.opened(settings) as held:
        policy = policies.PolicyCache().current(held.session, held.now)
        if options.id is not None:
            one = certificate_lists.one(held.session, policy, options.id, held.now)
            same = certification.recheck(held.session, one.id)
            if options.json:
                _say(json.dumps(_plain(one) | {"data_as_recorded": same}, indent=2))
            else:
                _one(one, same=same)
            return 0 if same else 1
        if options.all:
            found = certificate_lists.certificates(held.session, policy, held.now, everything=True)
            _said(found, as_json=options.json)
            return 0
        views = certificate_lists.listing(held.session, policy, held.now)
    if options.json:
        _say(json.dumps(_plain(views), indent=2))
        return 0
    if not views:
        _say(certification.NOTHING_PROMISED)
    several = len({(one.slice, one.lineup) for one in views}) > 1
    for view in views:
        _say(_promise(view, several=several))
        for line in _view(view):
            _say(f"  {line}")
    return 0


def _view(one: PromiseView) -> Iterable[str]:
    if one.certificate is None or one.threshold is None or one.expires_at is None:
        yield f"no certificate: no promise. {one.why}"
        return
    yield (
        f"in force {_region(one.side, one.threshold)} until {one.expires_at:%Y-%m-%d}: {one.mistakes:,} of "
        f"{one.checks:,} checks were mistakes, so at most {_share(one.bound or 0)}"
    )
    yield f"the rule decides {_share(one.share or 0)} of {one.decisions:,} decisions by itself"
    yield f"certificate {one.certificate}"


def _one(one: CertificateView, *, same: bool) -> None:
    _say(f"Certificate {one.id}: {_state(one)}")
    _say(f"  {_promise(one, several=True)}")
    _say(
        f"  {_region(one.side, one.threshold)}: {one.mistakes:,} of {one.checks:,} checks were mistakes, so "
        f"at most {_share(one.bound)}, but for a chance of {one.level:.2g} that this proof is wrong"
    )
    period = f"from {one.since:%Y-%m-%d} to {one.until:%Y-%m-%d}"
    _say(f"  from decisions made {period}, for version {one.policy_version} of the policy")
    for model in one.document.get("models", ()):
        _say(f"  model {model['name']} {model['version']}, manifest {model['manifest_sha256']},")
        _say(f"    calibration {model['calibration_sha256']}")
    _say(f"  policy {one.document.get('policy_sha256')}")
    data = one.document.get("data", {})
    found = "as recorded" if same else "not what the records say any more"
    _say(f"  data {data.get('sha256')}: {found}")
    _say(f"  issued {one.issued_at:%Y-%m-%d %H:%M}, expires {one.expires_at:%Y-%m-%d %H:%M} UTC")


def _said(found: list[CertificateView], *, as_json: bool) -> None:
    if as_json:
        _say(json.dumps(_plain(found), indent=2))
        return
    if not found:
        _say("There was never a certificate here; `moderation policy certify` makes them.")
    for one in found:
        _say(
            f"{one.id}  {one.issued_at:%Y-%m-%d %H:%M}  {_state(one):<20}  {one.category} {one.side} "
            f"{_region(one.side, one.threshold)}, at most {_share(one.allowed)}, slice {one.slice}, {one.lineup}, "
            f"version {one.policy_version}"
        )


def _state(one: CertificateView) -> str:
    return one.state.replace("_", " ") + (f" ({one.void_reason})" if one.void_reason else "")


def _void(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.domain.promises import Void
    from moderation.governance import certificate_lists, certification, policies

    with administration.opened(settings) as held:
        policy = policies.PolicyCache().current(held.session, held.now)
        certificate_lists.one(held.session, policy, options.id, held.now)
        done = certification.void(held.session, [options.id], Void.PERSON, administration.OPERATOR, held.now)
    _say(
        "It is void: from now on the policy's until_certified bands hold in its place."
        if done
        else "It was void already."
    )
    return 0
