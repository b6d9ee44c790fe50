"""What the console, the API and the command line show of promises and certificates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from moderation.domain.certificates import enough
from moderation.domain.errors import NotFound
from moderation.domain.policy import Policy
from moderation.domain.promises import Side, Void
from moderation.governance import certification, lineups, proving
from moderation.storage.tables import CertificateRow, Certification

LOOKED_BACK = 50
"""Certifications in which the last attempt of a promise is looked for."""

ENDED: Mapping[str, str] = {
    Void.SCORES: "the scores of what comes in are not those of the certified period any more",
    Void.PREVALENCE: "more of what comes in breaks the rule than in the certified period",
    Void.RISK: "checks made since say that the rule errs more often than it may",
    Void.REPLACED: "a newer certificate of the same promise took its place",
    Void.POLICY: "the policy that promised it is not in force any more",
    Void.MODEL: "the models it was proved for do not serve any more",
    Void.PERSON: "somebody voided it",
}
"""Why a certificate ended before its time."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One threshold that was looked at: coverage is the share of decisions in its region; bound at the level."""

    threshold: float
    coverage: float
    checks: int
    mistakes: int
    risk: float | None
    bound: float
    proved: bool


@dataclass(frozen=True, slots=True)
class CertificateView:
    """A certificate, whatever became of it.

    `state`: in_force; unwatched (nobody looks at what comes in since, so that it does not hold now); expired;
    voided; other_policy. `share` is what the rule decides by itself, of the decisions of its slice and lineup.
    """

    id: UUID
    certification_id: UUID
    category: str
    side: Side
    slice: str
    lineup: str
    policy_version: int
    allowed: float
    confidence: float
    threshold: float
    bound: float
    level: float
    checks: int
    mistakes: int
    share: float
    since: datetime
    until: datetime
    issued_at: datetime
    expires_at: datetime
    watched_at: datetime
    voided_at: datetime | None
    void_reason: str | None
    state: str
    curve: tuple[CurvePoint, ...]
    document: Mapping[str, Any]
    watch: Mapping[str, Any] = field(default_factory=dict)

    @property
    def in_force(self) -> bool:
        """Whether decisions stand on it at this moment."""
        return self.state == "in_force"


@dataclass(frozen=True, slots=True)
class LastAttempt:
    """The newest certification in which a promise was looked at."""

    certification_id: UUID
    at: datetime
    cause: str
    tried: bool
    proved: bool


@dataclass(frozen=True, slots=True)
class PromiseView:
    """One promise of the policy, for a slice and a lineup that decide today, and how it stands.

    `certificate` is the one in force. Without one `why` says in a sentence why there is none, `needed` how many
    right checks more it takes, and `threshold`, `bound` and `share` (what the rule decides by itself, of the
    decisions) are None. Checks, mistakes and the curve are of the certificate, or else of the last attempt.
    """

    category: str
    side: Side
    allowed: float
    slice: str
    lineup: str
    certificate: UUID | None
    threshold: float | None
    bound: float | None
    share: float | None
    decisions: int
    checks: int
    mistakes: int
    overdue: int
    withdrawn: int
    needed: int
    curve: tuple[CurvePoint, ...]
    why: str
    expires_at: datetime | None
    last: LastAttempt | None


@dataclass(frozen=True, slots=True)
class CertificationView:
    """A certification as a line of its list."""

    id: UUID
    at: datetime
    by: str
    cause: str
    term: str
    number: int
    policy_version: int
    tried: int
    proved: int
    level: float
    candidate: tuple[str, str] | None


_Key = tuple[str, str, str, str]  # category, side, slice, lineup


def listing(session: Session, policy: Policy, now: datetime) -> list[PromiseView]:
    """Every promise of the policy, by category; none if the policy promises nothing."""
    promised = proving.promised(policy)
    if not promised:
        return []
    known = lineups.known(session)
    deciding = proving.deciding(session, policy, known, now)
    newest = _newest(session, policy)
    attempts = _attempts(session, policy)
    wanted = [
        (category, side, allowed, slice_, lineup)
        for category, side, allowed in promised
        for slice_ in policy.certificates.slices
        for lineup in deciding[category] or [""]
    ]
    rules = policy.certificates
    level = (1 - rules.confidence) / rules.renewals / len(wanted)
    term = certification.term_of(session, now)
    spent = (
        f" All {rules.renewals} certifications of {term.name} are made; the next is on {term.ends:%Y-%m-%d}."
    )
    spent = "" if term.left(policy) else spent
    found = []
    for category, side, allowed, slice_, lineup in wanted:
        key = (category, str(side), slice_, lineup)
        first = enough(allowed * (1 - rules.overlooked), level)
        found.append(_promise(key, allowed, first, newest.get(key), attempts.get(key), policy, now, spent))
    return found


def _newest(session: Session, policy: Policy) -> dict[_Key, CertificateRow]:
    """The newest certificate of each promise of this version."""
    rows = session.scalars(
        select(CertificateRow)
        .where(CertificateRow.policy_version == policy.version)
        .ext(
            distinct_on(
                CertificateRow.category, CertificateRow.side, CertificateRow.slice, CertificateRow.lineup
            )
        )
        .order_by(
            CertificateRow.category,
            CertificateRow.side,
            CertificateRow.slice,
            CertificateRow.lineup,
            CertificateRow.id.desc(),
        )
    )
    return {(row.category, row.side, row.slice, row.lineup): row for row in rows}


def _attempts(session: Session, policy: Policy) -> dict[_Key, tuple[Certification, Mapping[str, Any]]]:
    """The newest attempt of each promise of this version, with the certification it was made in."""
    rows = session.scalars(
        select(Certification)
        .where(Certification.policy_version == policy.version)
        .order_by(Certification.id.desc())
        .limit(LOOKED_BACK)
    )
    found: dict[_Key, tuple[Certification, Mapping[str, Any]]] = {}
    for row in rows:
        for one in row.document.get("promises", ()):
            key = (one["category"], one["side"], one["slice"], one["lineup"])
            found.setdefault(key, (row, one))
    return found


def _promise(
    key: _Key,
    allowed: float,
    first: int,
    row: CertificateRow | None,
    attempt: tuple[Certification, Mapping[str, Any]] | None,
    policy: Policy,
    now: datetime,
    spent: str,
) -> PromiseView:
    category, side, slice_, lineup = key
    made, said = attempt or (None, {})
    last = None
    if made is not None:
        last = LastAttempt(made.id, made.at, made.cause, said["tried"], said["certificate"] is not None)
    holds = row is not None and _state(row, policy, now) == "in_force"
    if row is not None and holds:
        numbers: Mapping[str, Any] = {
            **row.document.get("data", {}),
            "checks": row.checks,
            "mistakes": row.mistakes,
            "curve": row.document.get("curve", ()),
        }
    else:
        numbers = said
    return PromiseView(
        category=category,
        side=Side(side),
        allowed=allowed,
        slice=slice_,
        lineup=lineup,
        certificate=row.id if row and holds else None,
        threshold=row.threshold if row and holds else None,
        bound=row.bound if row and holds else None,
        share=row.document.get("share") if row and holds else None,
        decisions=numbers.get("decisions", 0),
        checks=numbers.get("checks", 0),
        mistakes=numbers.get("mistakes", 0),
        overdue=numbers.get("overdue", 0),
        withdrawn=numbers.get("withdrawn", 0),
        needed=0 if holds else (said.get("needed") or first),
        curve=_curve(numbers.get("curve", ())),
        why="" if holds else _why(lineup, first, row, made, said, policy, now) + spent,
        expires_at=row.expires_at if row and holds else None,
        last=last,
    )


def _why(
    lineup: str,
    first: int,
    row: CertificateRow | None,
    made: Certification | None,
    said: Mapping[str, Any],
    policy: Policy,
    now: datetime,
) -> str:
    """Why a promise has no certificate in force, in sentences."""
    if not lineup:
        return "No model scores this category, so nothing can be promised of it."
    ended = _ended(row, policy, now) if row is not None else ""
    if made is None:
        return f"Nothing was tried yet: it takes about {first:,} blind checks first, all of them right."
    if said["certificate"] is not None:
        return ended
    on = f"{made.at:%Y-%m-%d}"
    if not said["tried"]:
        tried = (
            f"Too few blind checks on {on}: {said['drawn']:,} were drawn in the period, and about "
            f"{said['needed']:,} more are needed if all are right."
        )
    else:
        tried = (
            f"Not proved on {on}: {said['mistakes']:,} of {said['checks']:,} checks were mistakes; about "
            f"{said['needed']:,} more are needed if all are right."
        )
    return f"{ended} {tried}".strip()


def _ended(row: CertificateRow, policy: Policy, now: datetime) -> str:
    state = _state(row, policy, now)
    if state == "voided" and row.voided_at is not None:
        return f"Its certificate ended on {row.voided_at:%Y-%m-%d %H:%M} UTC: {ENDED[row.void_reason or '']}."
    if state == "expired":
        return f"Its certificate expired on {row.expires_at:%Y-%m-%d %H:%M} UTC."
    return (
        f"Nobody has watched what comes in since {row.watched_at:%Y-%m-%d %H:%M} UTC, so that its certificate does "
        "not hold; see that the relay runs."
    )


def _state(row: CertificateRow, policy: Policy, now: datetime) -> str:
    if row.voided_at is not None:
        return "voided"
    if row.expires_at <= now:
        return "expired"
    if row.policy_version != policy.version:
        return "other_policy"
    return "in_force" if row.watched_at > now - certification.WATCHED else "unwatched"


def one(session: Session, policy: Policy, certificate_id: UUID, now: datetime) -> CertificateView:
    """One certificate. `policy` is the one in force.

    Raises:
        NotFound: there is no such certificate.
    """
    row = session.get(CertificateRow, certificate_id)
    if row is None:
        raise NotFound("There is no such certificate; `moderation policy certificates --all` shows them.")
    return _view(row, policy, now)


def certificates(
    session: Session, policy: Policy, now: datetime, *, everything: bool = False, limit: int = 500
) -> list[CertificateView]:
    """Certificates, the newest first: those in force, or with `everything` also what ended."""
    rows = select(CertificateRow).order_by(CertificateRow.id.desc()).limit(limit)
    if not everything:
        rows = rows.where(
            CertificateRow.policy_version == policy.version,
            CertificateRow.voided_at.is_(None),
            CertificateRow.expires_at > now,
        )
    found = [_view(row, policy, now) for row in session.scalars(rows)]
    return found if everything else [each for each in found if each.in_force]


def _view(row: CertificateRow, policy: Policy, now: datetime) -> CertificateView:
    return CertificateView(
        id=row.id,
        certification_id=row.certification_id,
        category=row.category,
        side=Side(row.side),
        slice=row.slice,
        lineup=row.lineup,
        policy_version=row.policy_version,
        allowed=row.allowed,
        confidence=row.document.get("confidence", policy.certificates.confidence),
        threshold=row.threshold,
        bound=row.bound,
        level=row.level,
        checks=row.checks,
        mistakes=row.mistakes,
        share=row.document.get("share", 0.0),
        since=row.since,
        until=row.until,
        issued_at=row.issued_at,
        expires_at=row.expires_at,
        watched_at=row.watched_at,
        voided_at=row.voided_at,
        void_reason=row.void_reason,
        state=_state(row, policy, now),
        curve=_curve(row.document.get("curve", ())),
        document=row.document,
        watch=row.watch,
    )


def _curve(points: Iterable[Mapping[str, Any]]) -> tuple[CurvePoint, ...]:
    return tuple(CurvePoint(**point) for point in points)


def certifications(session: Session, limit: int = 50) -> Sequence[CertificationView]:
    """The newest certifications first."""
    rows = session.scalars(select(Certification).order_by(Certification.id.desc()).limit(limit))
    return [
        CertificationView(
            id=row.id,
            at=row.at,
            by=row.by,
            cause=row.cause,
            term=row.term,
            number=row.number,
            policy_version=row.policy_version,
            tried=sum(each["tried"] for each in row.document.get("promises", ())),
            proved=sum(each["certificate"] is not None for each in row.document.get("promises", ())),
            level=row.level,
            candidate=tuple(row.document["candidate"]) if row.document.get("candidate") else None,
        )
        for row in rows
    ]
