"""Policies: read YAML with line numbers, publish as an immutable version, load the one in force."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.resources import files

import yaml
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from moderation.domain.errors import Conflict, Fault, NotFound, PolicyInvalid
from moderation.domain.policy import Policy, parse_policy
from moderation.governance import audit
from moderation.storage.tables import PolicyRow


def default_document() -> str:
    """The YAML document a new installation starts with."""
    return files("moderation").joinpath("default_policy.yaml").read_text(encoding="utf-8")


def read(document: str, version: int) -> Policy:
    """Parse a YAML document into a policy.

    Raises:
        PolicyInvalid: with every fault, each with the line it stands on.
    """
    try:
        _refuse_aliases(document)
        root = yaml.compose(document, Loader=yaml.SafeLoader)
        data = yaml.safe_load(document)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise PolicyInvalid([Fault((), f"not YAML: {error.problem or error.context}", line)]) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        # A ValueError comes from a scalar that looks like a date or number and is none.
        raise PolicyInvalid([Fault((), "not YAML that can be read")]) from error
    lines = _lines(root)
    duplicates = [Fault(path, "stands twice; keep one", line) for path, line in _duplicates(root)]
    try:
        policy = parse_policy(data, version)
    except PolicyInvalid as error:
        raise PolicyInvalid([*duplicates, *(_located(fault, lines) for fault in error.faults)]) from error
    if duplicates:
        raise PolicyInvalid(duplicates)
    return policy


def publish(
    session: Session, document: str, published_by: str, now: datetime, *, base: int | None = None
) -> Policy:
    """Publish `document` as the next version and audit its hash; the same document twice is one version.

    With `base`, the version that was edited, only if that is still the one in force.

    Raises:
        PolicyInvalid: the document has faults; nothing is published.
        Conflict: somebody else published after `base`.
    """
    session.execute(select(func.pg_advisory_xact_lock(7_203_003)))
    sha256 = hashlib.sha256(document.encode()).hexdigest()
    known = session.scalar(select(PolicyRow).where(PolicyRow.sha256 == sha256))
    newest = session.scalar(select(func.max(PolicyRow.version))) or 0
    if base is not None and newest != base:
        raise Conflict(
            f"Version {newest} was published while you edited version {base}; compare the two, and put your "
            "changes into the newer one.",
            code="policy_moved_on",
        )
    if known is not None and known.version == newest:
        return read(known.document, known.version)
    if known is not None:
        # Going back to an older text is a new version too: a version says when it was in force.
        document = f"{document.rstrip()}\n# published again as version {newest + 1}\n"
        sha256 = hashlib.sha256(document.encode()).hexdigest()
    policy = read(document, newest + 1)
    session.add(
        PolicyRow(
            version=policy.version,
            sha256=sha256,
            document=document,
            published_at=now,
            published_by=published_by,
        )
    )
    event = audit.Event(published_by, "policy.published", "policy", str(policy.version), {"sha256": sha256})
    audit.record(session, [event], now)
    return policy


def published(session: Session) -> bool:
    """Whether any policy was published yet."""
    return session.scalar(select(func.max(PolicyRow.version))) is not None


def newest_document(session: Session) -> tuple[int, str]:
    """Version and document of the policy in force.

    Raises:
        NotFound: none was published yet.
    """
    row = session.scalar(select(PolicyRow).order_by(PolicyRow.version.desc()).limit(1))
    if row is None:
        raise NotFound("No policy is published; run `moderation migrate` to publish the default one.")
    return row.version, row.document


@dataclass(frozen=True, slots=True)
class Version:
    """When a version was published, and by whom; without its document."""

    version: int
    sha256: str
    published_at: datetime
    published_by: str


def versions(session: Session) -> list[Version]:
    """Every version that was published, the newest first."""
    rows = session.execute(
        select(PolicyRow.version, PolicyRow.sha256, PolicyRow.published_at, PolicyRow.published_by).order_by(
            PolicyRow.version.desc()
        )
    )
    return [Version(*row) for row in rows]


def document_of(session: Session, version: int) -> str:
    """The document of a version.

    Raises:
        NotFound: there is no such version.
    """
    row = session.get(PolicyRow, version)
    if row is None:
        raise NotFound(
            f"There is no version {version} of the policy; the list of versions says which there are."
        )
    return row.document


class PolicyCache:
    """The policy in force, parsed once per version: documents are immutable, so a version never changes."""

    def __init__(self) -> None:
        self._parsed: dict[int, Policy] = {}

    def current(self, session: Session) -> Policy:
        """The newest published policy.

        Raises:
            NotFound: none was published yet.
        """
        newest = session.scalar(select(func.max(PolicyRow.version)))
        if newest is None:
            raise NotFound("No policy is published; run `moderation migrate` to publish the default one.")
        return self.version(session, newest)

    def version(self, session: Session, version: int) -> Policy:
        """A published version, in force or not: what was decided by it is read by it.

        Raises:
            NotFound: there is no such version.
        """
        if version not in self._parsed:
            self._parsed[version] = read(document_of(session, version), version)
        return self._parsed[version]


def _refuse_aliases(document: str) -> None:
    """An alias may refer to its own parent, or to so many others that the walk below never ends."""
    for event in yaml.parse(document, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            line = event.start_mark.line + 1 if event.start_mark else None
            raise PolicyInvalid([Fault((), "aliases (*name) are not allowed; write it out", line)])


def _located(fault: Fault, lines: Mapping[tuple[str, ...], int]) -> Fault:
    """The fault with the line of its key, or of the nearest key around it."""
    path = fault.path
    while path not in lines and path:
        path = path[:-1]
    return replace(fault, line=lines.get(path, 1))


def _lines(node: yaml.Node | None, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], int]:
    """The line of every key, by its path."""
    lines: dict[tuple[str, ...], int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            lines[inner] = key.start_mark.line + 1
            lines.update(_lines(value, inner))
    return lines


def _duplicates(node: yaml.Node | None, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], int]]:
    """Keys that stand twice in one mapping: YAML readers silently keep the last."""
    found: list[tuple[tuple[str, ...], int]] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            inner = (*path, str(key.value))
            if str(key.value) in seen:
                found.append((inner, key.start_mark.line + 1))
            seen.add(str(key.value))
            found.extend(_duplicates(value, inner))
    return found
