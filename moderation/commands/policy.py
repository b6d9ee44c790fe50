"""`moderation policy`: show, drafts, differences, validation, simulation, publication with a date, certificates."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from moderation.commands import Part, SettingsOf, certificates
from moderation.commands import say as _say

if TYPE_CHECKING:
    from moderation.administration import Opened
    from moderation.domain.simulation import Promised, Simulated
    from moderation.settings import Settings

SOURCE = "a version's number, a draft's id or a file"


def add(commands: Any, part: Part, settings_of: SettingsOf) -> None:
    """The parser of `moderation policy`."""
    policy = commands.add_parser("policy", help="the rules: show, draft, compare, simulate, publish, certify")
    actions = policy.add_subparsers(title="actions", metavar="ACTION", required=True)
    show = part(actions, "show", "print the policy in force",
                lambda options: _show(options, settings_of(options)))  # fmt: skip
    show.add_argument("source", nargs="?", metavar="WHICH", help=f"another one: {SOURCE}")
    part(actions, "list", "every version: in force, announced, past", lambda o: _list(settings_of(o)))
    diff = part(actions, "diff", "what changes from one document to another",
                lambda options: _diff(options, settings_of(options)))  # fmt: skip
    diff.add_argument("source", metavar="WHICH", help=SOURCE)
    diff.add_argument("against", nargs="?", metavar="AGAINST", help="default: the policy in force")
    validate = actions.add_parser("validate", help="check a policy file; needs no service")
    validate.add_argument("file", type=Path, metavar="FILE", help="YAML; see docs/policy.md")
    validate.set_defaults(run=_validate)
    simulate = part(actions, "simulate", "what a document would have done with what was screened lately",
                    lambda options: _simulate(options, settings_of(options)))  # fmt: skip
    simulate.add_argument("source", nargs="?", metavar="WHICH", help=SOURCE)
    simulate.add_argument("--model", nargs=2, metavar=("NAME", "VERSION"),
                          help="a version in place of the one that serves, as heard in the shadow")  # fmt: skip
    simulate.add_argument("--days", type=float, default=7, metavar="N", help="default: %(default)s")
    simulate.add_argument("--json", action="store_true", help="as a JSON document")
    publish = part(actions, "publish", "make a file or a draft the next version",
                   lambda options: _publish(options, settings_of(options)))  # fmt: skip
    publish.add_argument("source", metavar="WHICH", help=SOURCE)
    publish.add_argument(
        "--effective", type=_moment, metavar="DATE", help="when it takes effect (UTC); default: at once"
    )
    publish.add_argument(
        "--emergency",
        metavar="WHY",
        choices=("imminent_harm", "legal_order", "fault_in_force"),
        help="sooner than the notice in force allows: imminent_harm, legal_order or fault_in_force",
    )
    _add_drafts(actions, part, settings_of)
    certificates.add(actions, part, settings_of)


def _add_drafts(actions: Any, part: Part, settings_of: SettingsOf) -> None:
    draft = actions.add_parser("draft", help="documents that somebody works on: save, list, delete")
    kinds = draft.add_subparsers(title="actions", metavar="ACTION", required=True)
    save = part(kinds, "save", "keep a file as a draft",
                lambda options: _save(options, settings_of(options)))  # fmt: skip
    save.add_argument("file", type=Path, metavar="FILE")
    save.add_argument("--name", metavar="NAME", help="default: the file's")
    save.add_argument("--id", type=UUID, metavar="ID", help="in place of this draft")
    part(kinds, "list", "every draft", lambda options: _drafts(settings_of(options)))
    delete = part(kinds, "delete", "delete a draft",
                  lambda options: _delete(options, settings_of(options)))  # fmt: skip
    delete.add_argument("id", type=UUID, metavar="ID")


def _document(held: Opened, source: str) -> tuple[str, UUID | None]:
    """The document that `source` names, and the draft it is, if any."""
    from moderation.governance import drafts, policies

    if source.isdigit():
        return policies.document_of(held.session, int(source)), None
    try:
        draft = UUID(source)
    except ValueError:
        return _read(Path(source)), None
    return drafts.load(held.session, draft).document, draft


def _read(file: Path) -> str:
    from moderation.domain.errors import InvalidInput

    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} can't be read as UTF-8 text; check its path.") from error


def _show(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import policies

    with administration.opened(settings) as held:
        if options.source:
            document, _ = _document(held, options.source)
        else:
            version, document = policies.document_in_force(held.session, held.now)
            sys.stderr.write(f"Version {version}.\n")
            for one in policies.announced(held.session, held.now):
                sys.stderr.write(
                    f"Version {one.version} takes effect on {one.effective_at:%Y-%m-%d %H:%M} UTC.\n"
                )
    _say(document.rstrip())
    return 0


def _list(settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import policies

    with administration.opened(settings) as held:
        for one in policies.versions(held.session, held.now):
            _say(
                f"{one.version:>4}  {one.state.replace('_', ' '):<10}  from {one.effective_at:%Y-%m-%d %H:%M}  "
                f"published {one.published_at:%Y-%m-%d %H:%M} by {one.published_by}  {one.sha256[:16]}"
            )
    return 0


def _diff(options: argparse.Namespace, settings: Settings) -> int:
    import difflib

    from moderation import administration
    from moderation.governance import policies

    with administration.opened(settings) as held:
        new, _ = _document(held, options.source)
        if options.against:
            old, name = _document(held, options.against)[0], options.against
        else:
            version, old = policies.document_in_force(held.session, held.now)
            name = f"version {version}"
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), name, options.source, lineterm="")
    for line in lines:
        _say(line)
    return 0


def _validate(options: argparse.Namespace) -> int:
    from moderation.domain.errors import PolicyInvalid
    from moderation.governance import policies

    try:
        policies.read(_read(options.file), version=0)
    except PolicyInvalid as invalid:
        _say(f"{options.file} has faults:\n{invalid.detail}")
        return 1
    _say(f"{options.file} is a valid policy.")
    return 0


def _publish(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import drafts, policies

    emergency = policies.Emergency(options.emergency) if options.emergency else None
    with administration.opened(settings) as held:
        document, draft = _document(held, options.source)
        policy = policies.publish(
            held.session,
            document,
            administration.OPERATOR,
            held.now,
            effective_at=options.effective,
            emergency=emergency,
        )
        if draft is not None:
            drafts.end(held.session, draft, administration.OPERATOR, held.now, policy.version)
    if options.effective:
        _say(
            f"Version {policy.version} is announced; it takes effect on {options.effective:%Y-%m-%d %H:%M} UTC."
        )
    else:
        _say(f"Version {policy.version} is in force; workers use it from their next batch on.")
    return 0


def _save(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import drafts, policies

    document = _read(options.file)
    with administration.opened(settings) as held:
        base, _ = policies.newest_document(held.session)
        saved = drafts.save(
            held.session,
            name=options.name or options.file.stem,
            document=document,
            base=base,
            by=administration.OPERATOR,
            now=held.now,
            draft_id=options.id,
        )
    _say(str(saved))
    return 0


def _drafts(settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import drafts

    with administration.opened(settings) as held:
        for one in drafts.listing(held.session):
            state = f"{one.faults} faults" if one.faults else "valid"
            _say(f"{one.id}  {one.saved_at:%Y-%m-%d %H:%M}  from version {one.base}  {state:<10}  {one.name}")
    return 0


def _delete(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.governance import drafts

    with administration.opened(settings) as held:
        drafts.end(held.session, options.id, administration.OPERATOR, held.now)
    _say("The draft is deleted.")
    return 0


def _simulate(options: argparse.Namespace, settings: Settings) -> int:
    from moderation import administration
    from moderation.domain.errors import InvalidInput
    from moderation.governance import certification, policies, simulation

    if not options.source and not options.model:
        raise InvalidInput(f"Name what to simulate: {SOURCE}, or a version of a model with --model.")
    candidate = certification.Candidate(*options.model) if options.model else None
    with administration.opened(settings) as held:
        before = policies.PolicyCache().current(held.session, held.now)
        after = before
        if options.source:
            document, _ = _document(held, options.source)
            after = policies.read(document, before.version + 1)
        result = simulation.run(
            held.session, before, after, options.days, held.now, progress=_progress, candidate=candidate
        )
    if sys.stderr.isatty():
        sys.stderr.write("\n")
    if options.json:
        _say(json.dumps(result.document(), indent=2))
    else:
        _print(result)
    return 0


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done:,} of {total:,} items")
        sys.stderr.flush()


def _print(result: Simulated) -> None:
    from moderation.domain.simulation import UNKNOWN

    sampled = ", an even sample" if result.sampled else ""
    _say(f"{result.items:,} of {result.total:,} items of {result.days:g} days, routed again{sampled}.\n")
    _say(f"{'':<24}{'version ' + str(result.base):>12}{'then':>12}{'change':>12}")
    _table(result.routes)
    for category, routes in result.categories.items():
        _say(f"\n{category.replace('_', ' ')}")
        _table({name: pair for name, pair in routes.items() if any(pair)})
    for flip in result.flips:
        some = " ".join(str(item) for item in flip.named[:3])
        _say(f"\n{flip.before} -> {flip.after}: {flip.items:,} items, such as\n  {some}")
    before, after = result.automated
    _say(f"\nDecided by no person: {before:.1%} -> {after:.1%}")
    for one in result.promises:
        _say(_promised(one))
    _say(f"\nCases a day: {result.before.cases:.1f} -> {result.after.cases:.1f}")
    if result.before.hours is None or result.after.hours is None:
        _say("Hours a day: unknown, for nobody's handling was measured in these days.")
    else:
        _say(
            f"Hours a day: {result.before.hours:.1f} -> {result.after.hours:.1f}, "
            f"at {result.seconds_a_case:.0f} seconds a case"
        )
    _say("\nWhat this can't know:")
    for line in UNKNOWN:
        _say(f"- {line}")
    if result.model and result.unheard:
        _say(f"- {' '.join(result.model)} has said nothing of {result.unheard:,} items; they are left out.")
    if result.unscreened:
        _say(f"- {result.unscreened:,} items were looked at by no machine, and are left out.")
    if result.same_version:
        _say(
            f"Of {result.same_version:,} items decided under version {result.base}, {result.reproduced:,} are "
            "routed again as they were."
        )


def _promised(one: Promised) -> str:
    """A promise before and after, as a line."""
    sign = "from" if one.side == "remove" else "below"
    states = [
        "nothing promised" if allowed is None
        else f"{allowed * 100:.3g} %, " + ("no certificate" if at is None else f"{sign} {at:.4g}")
        for allowed, at in ((one.allowed_before, one.before), (one.allowed, one.after))
    ]  # fmt: skip
    missing = ""
    if one.allowed is not None and one.after is None:
        missing = f" ({one.mistakes:,} mistakes in {one.checks:,} checks; {one.needed:,} more are needed)"
    return (
        f"  {one.category} {one.side}, slice {one.slice}, {one.lineup}: {states[0]} -> {states[1]}{missing}"
    )


def _table(routes: Mapping[str, tuple[int, int]]) -> None:
    for name, (before, after) in routes.items():
        _say(f"  {name:<22}{before:>12,}{after:>12,}{after - before:>+12,}")


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError("must be a date such as 2026-12-01 or 2026-12-01T08:00") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)
