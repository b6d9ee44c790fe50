"""Policies: read YAML with line numbers, publish as an immutable version, load the one in force.

In force is the newest version whose date has come. A version with a date to come is announced: published,
hashed into the audit log and told to every client, and not cited by any decision yet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from importlib.resources import files

import yaml
from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from moderation.domain.errors import Conflict, Fault, InvalidInput, NotFound, PolicyInvalid
from moderation.domain.policy import Policy, parse_policy
from moderation.governance import audit, outbox
from moderation.governance.outbox import Notice
from moderation.storage.tables import PolicyRow, WebhookEndpoint

FURTHEST = timedelta(days=730)
MARK = "# published again as version"
NONE = "No policy is published; run `moderation migrate` to publish the default one."


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


class Emergency(StrEnum):
    """Why a change takes effect before its notice is over. A word, for the audit log holds no prose."""

    IMMINENT_HARM = "imminent_harm"  # waiting would hurt somebody
    LEGAL_ORDER = "legal_order"  # an authority or a court demands it by a date
    FAULT_IN_FORCE = "fault_in_force"  # what is in force does not do what it says


class State(StrEnum):
    """What a version is at a moment."""

    IN_FORCE = "in_force"
    ANNOUNCED = "announced"
    PAST = "past"
    OVERTAKEN = "overtaken"  # announced, and a newer one took effect before it


@dataclass(frozen=True, slots=True)
class Version:
    """When a version was published, by whom, from when it holds; without its document."""

    version: int
    sha256: str
    published_at: datetime
    published_by: str
    effective_at: datetime
    state: State


def publish(
    session: Session,
    document: str,
    published_by: str,
    now: datetime,
    *,
    base: int | None = None,
    effective_at: datetime | None = None,
    emergency: Emergency | None = None,
) -> Policy:
    """Publish `document` as the next version, audit its hash, and tell every client; once for the same document.

    It takes effect at `effective_at`, or at once; until then it is announced. An announced version ends by
    publishing another that takes effect no later. With `base`, only if that is still the newest version.

    Raises:
        PolicyInvalid: the document has faults; nothing is published.
        InvalidInput: the date is no date to come, or too near for the notice that the policy in force promises.
        Conflict: somebody else published after `base`.
    """
    session.execute(select(func.pg_advisory_xact_lock(7_203_003)))
    newest = session.scalar(select(PolicyRow).order_by(PolicyRow.version.desc()).limit(1))
    number = newest.version if newest else 0
    if base is not None and number != base:
        raise Conflict(
            f"Version {number} was published while you edited version {base}; compare the two, and put your "
            "changes into the newer one.",
            code="policy_moved_on",
        )
    if effective_at is not None and not now < effective_at <= now + FURTHEST:
        raise InvalidInput(
            f"A version takes effect at once, or at a time to come within {FURTHEST.days} days; give such a date.",
            code="effective_date",
        )
    sha256 = hashlib.sha256(document.encode()).hexdigest()
    if newest is not None and newest.sha256 == sha256 and _as_asked(newest.effective_at, effective_at, now):
        return read(newest.document, newest.version)
    _keep_notice(session, document, now, effective_at, emergency)
    if session.scalar(select(PolicyRow.version).where(PolicyRow.sha256 == sha256)) is not None:
        # Going back to an older text is a new version too: a version says when it was in force.
        document = f"{_without_marks(document)}\n{MARK} {number + 1}\n"
        sha256 = hashlib.sha256(document.encode()).hexdigest()
    policy = read(document, number + 1)
    row = PolicyRow(
        version=policy.version,
        sha256=sha256,
        document=document,
        published_at=now,
        published_by=published_by,
        effective_at=effective_at,
    )
    session.add(row)
    _tell(session, row, emergency, now)
    return policy


def _as_asked(stands: datetime | None, asked: datetime | None, now: datetime) -> bool:
    """Whether the newest version, whose text was sent again, takes effect when it is asked to."""
    return stands == asked or (asked is None and stands is not None and stands <= now)


def _keep_notice(
    session: Session,
    document: str,
    now: datetime,
    effective_at: datetime | None,
    emergency: Emergency | None,
) -> None:
    """Refuse a change that comes sooner than the policy in force promises.

    To publish again what is in force anyway changes nothing, and is how an announced version is withdrawn.
    """
    found = _in_force(session, now)
    if found is None or emergency is not None or _without_marks(found.document) == _without_marks(document):
        return
    days = read(found.document, found.version).notice_days
    first = now + timedelta(days=days)
    if days and (effective_at or now) < first:
        raise InvalidInput(
            f"The policy in force promises {days:g} days of notice: this can take effect from "
            f"{first:%Y-%m-%d %H:%M} UTC on. Choose a later date; in an emergency, say which.",
            code="notice_too_short",
        )


def _tell(session: Session, row: PolicyRow, emergency: Emergency | None, now: datetime) -> None:
    """Audit what was published, and tell every client of it before it takes effect."""
    session.flush()
    details: dict[str, str] = {"sha256": row.sha256}
    details |= {"effective_at": row.effective_at.isoformat()} if row.effective_at else {}
    details |= {"emergency": emergency} if emergency else {}
    event = audit.Event(row.published_by, "policy.published", "policy", str(row.version), details)
    audit.record(session, [event], now)
    enabled = select(WebhookEndpoint.client).where(WebhookEndpoint.disabled_at.is_(None)).distinct()
    effective = (row.effective_at or now).astimezone(UTC)
    payload = {
        "version": row.version,
        "effective_at": f"{effective:%Y-%m-%dT%H:%M:%SZ}",
        "sha256": row.sha256,
    }
    notices = [Notice(client, None, "policy.announced", payload) for client in session.scalars(enabled)]
    outbox.enqueue(session, notices, now)


def _without_marks(document: str) -> str:
    """The rules alone: a text that was published again carries a line that says so."""
    return "\n".join(line for line in document.rstrip().splitlines() if not line.startswith(MARK)).rstrip()


def published(session: Session) -> bool:
    """Whether any policy was published yet."""
    return session.scalar(select(func.max(PolicyRow.version))) is not None


def newest_document(session: Session) -> tuple[int, str]:
    """Version and document of what was published last, in force or announced: what an editor starts from.

    Raises:
        NotFound: none was published yet.
    """
    row = session.scalar(select(PolicyRow).order_by(PolicyRow.version.desc()).limit(1))
    if row is None:
        raise NotFound(NONE)
    return row.version, row.document


def document_in_force(session: Session, now: datetime) -> tuple[int, str]:
    """Version and document of the policy in force.

    Raises:
        NotFound: none is.
    """
    row = _in_force(session, now)
    if row is None:
        raise NotFound(NONE)
    return row.version, row.document


def _in_force(session: Session, now: datetime) -> PolicyRow | None:
    return session.scalar(
        select(PolicyRow).where(_has_begun(now)).order_by(PolicyRow.version.desc()).limit(1)
    )


def _has_begun(now: datetime | None) -> ColumnElement[bool]:
    """What was published without a date holds for every clock, also for one that is behind the publisher's."""
    return or_(PolicyRow.effective_at.is_(None), PolicyRow.effective_at <= (now or func.now()))


def versions(session: Session, now: datetime) -> list[Version]:
    """Every version that was published, the newest first."""
    rows = session.execute(
        select(
            PolicyRow.version,
            PolicyRow.sha256,
            PolicyRow.published_at,
            PolicyRow.published_by,
            func.coalesce(PolicyRow.effective_at, PolicyRow.published_at),
            _has_begun(now),
        ).order_by(PolicyRow.version.desc())
    )
    found: list[Version] = []
    in_force, first = False, None  # whether a newer one is in force; from when on newer ones leave no room
    for number, sha256, published_at, published_by, effective_at, begun in rows:
        if first is not None and first <= effective_at:
            state = State.OVERTAKEN
        elif begun:
            state = State.PAST if in_force else State.IN_FORCE
        else:
            state = State.ANNOUNCED
        in_force = in_force or begun
        first = effective_at if first is None else min(first, effective_at)
        found.append(Version(number, sha256, published_at, published_by, effective_at, state))
    return found


def announced(session: Session, now: datetime) -> list[Version]:
    """Versions that take effect at a time to come, the nearest first."""
    found = [one for one in versions(session, now) if one.state is State.ANNOUNCED]
    return sorted(found, key=lambda one: one.effective_at)


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

    def current(self, session: Session, now: datetime | None = None) -> Policy:
        """The newest version that has taken effect by `now`; without it, by the database's clock.

        Raises:
            NotFound: none was published yet.
        """
        newest = session.scalar(select(func.max(PolicyRow.version)).where(_has_begun(now)))
        if newest is None:
            raise NotFound(NONE)
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
