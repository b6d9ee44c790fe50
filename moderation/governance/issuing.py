"""Write down what a certification came to: its row, the certificates it issues, the end of what they replace."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation.domain.policy import Policy
from moderation.domain.promises import Occasion, Void
from moderation.governance import audit, holding, lineups, proving
from moderation.governance.lineups import Known, Name
from moderation.governance.proving import Attempt
from moderation.governance.restating import Candidate
from moderation.storage.ids import new_id
from moderation.storage.tables import CertificateRow, Certification, PolicyRow


@dataclass(frozen=True, slots=True)
class Certified:
    """What a certification came to. Without an `id` nothing was written: it was a dry run.

    `number` counts the certifications of the `term` that tried anything, of which there may be `renewals`.
    """

    id: UUID | None
    term: str
    number: int
    renewals: int
    at: datetime
    since: datetime
    until: datetime
    level: float
    occasion: Occasion
    policy_version: int
    attempts: tuple[Attempt, ...] = ()
    candidate: Candidate | None = None
    replaced: tuple[UUID, ...] = ()
    # Sets of versions that stood in for what decided: with them the data can be read again as it was.
    stood_in: tuple[tuple[Name, ...], ...] = ()

    @property
    def issued(self) -> tuple[UUID, ...]:
        """The certificates that were issued."""
        return tuple(one.certificate for one in self.attempts if one.certificate is not None)

    @property
    def tried(self) -> int:
        """How many promises part of the level was spent on."""
        return sum(one.tried for one in self.attempts)


@dataclass(frozen=True, slots=True)
class Term:
    """A quarter, for which the confidence is promised, and what of it is spent."""

    name: str
    ends: datetime
    made: int  # certifications that tried anything
    numbered: int  # all of them
    spent: float

    def left(self, policy: Policy) -> int:
        """How many certifications the policy still allows."""
        rules = policy.certificates
        by_level = (1 - rules.confidence - self.spent) / ((1 - rules.confidence) / rules.renewals)
        return max(0, min(rules.renewals - self.made, int(by_level + 1e-6)))


def write(
    session: Session, policy: Policy, known: Known, certified: Certified, term: Term, by: str
) -> Certified:
    """The certification and its certificates as rows, and the end of what they replace."""
    now, identifier = certified.at, new_id(certified.at)
    attempts = tuple(
        replace(one, certificate=new_id(now)) if one.proved else one for one in certified.attempts
    )
    certified = replace(certified, id=identifier, attempts=attempts)
    session.add(
        Certification(
            id=identifier,
            term=term.name,
            number=term.numbered + 1,
            at=now,
            by=by,
            cause=str(certified.occasion),
            policy_version=policy.version,
            level=certified.level,
            since=certified.since,
            until=certified.until,
            document=_document(session, policy, known, certified),
        )
    )
    session.flush()
    details = {
        "cause": str(certified.occasion),
        "term": term.name,
        "policy": policy.version,
        "tried": certified.tried,
        "proved": len(certified.issued),
    }
    event = audit.Event(by, "certification.made", "certification", str(identifier), details)
    audit.record(session, [event], now)
    replaced = holding.void(session, _older(session, policy, certified), Void.REPLACED, by, now)
    for one in attempts:
        if one.certificate is not None:
            _issue(session, policy, known, certified, one, by)
    session.flush()
    return replace(certified, replaced=replaced)


def _older(session: Session, policy: Policy, certified: Certified) -> list[UUID]:
    """Living certificates of promises that are proved anew."""
    anew = {(one.category, one.side, one.slice, one.lineup) for one in certified.attempts if one.proved}
    rows = session.execute(
        select(
            CertificateRow.id,
            CertificateRow.category,
            CertificateRow.side,
            CertificateRow.slice,
            CertificateRow.lineup,
        ).where(CertificateRow.policy_version == policy.version, CertificateRow.voided_at.is_(None))
    )
    return [
        identifier
        for identifier, category, side, slice_, lineup in rows
        if (category, side, slice_, lineup) in anew
    ]


def _issue(
    session: Session, policy: Policy, known: Known, certified: Certified, attempt: Attempt, by: str
) -> None:
    rules, now = policy.certificates, certified.at
    expires = now + timedelta(days=rules.valid_days)
    session.add(
        CertificateRow(
            id=attempt.certificate,
            certification_id=certified.id,
            policy_version=policy.version,
            category=attempt.category,
            side=str(attempt.side),
            slice=attempt.slice,
            lineup=attempt.lineup,
            threshold=attempt.threshold,
            allowed=attempt.allowed,
            bound=attempt.bound,
            level=attempt.level,
            checks=attempt.checks,
            mistakes=attempt.mistakes,
            since=certified.since,
            until=certified.until,
            issued_at=now,
            expires_at=expires,
            document={
                "models": _models(known, attempt),
                "policy_sha256": session.scalar(
                    select(PolicyRow.sha256).where(PolicyRow.version == policy.version)
                ),
                "data": {
                    "sha256": attempt.data,
                    "decisions": attempt.decisions,
                    "drawn": attempt.drawn,
                    "overdue": attempt.overdue,
                    "withdrawn": attempt.withdrawn,
                },
                "confidence": rules.confidence,
                "overlooked": rules.overlooked,
                "share": attempt.share,
                "reference": dict(attempt.reference),
                "curve": list(attempt.curve),
            },
            watched_at=now,
        )
    )
    details = {
        "certification": str(certified.id),
        "category": attempt.category,
        "side": str(attempt.side),
        "slice": attempt.slice,
        "lineup": attempt.lineup,
        "threshold": attempt.threshold,
        "allowed": attempt.allowed,
        "bound": attempt.bound,
        "policy": policy.version,
        "data": attempt.data,
        "expires": expires.isoformat(),
    }
    event = audit.Event(by, "certificate.issued", "certificate", str(attempt.certificate), details)
    audit.record(session, [event], now)


def _models(known: Known, attempt: Attempt) -> list[dict[str, str | None]]:
    """The models of a lineup with the digests of their manifests and calibrations; a plug-in has neither here."""
    found: list[dict[str, str | None]] = []
    for name, version in lineups.members(attempt.lineup):
        about = known.get((name, version))
        found.append(
            {
                "name": name,
                "version": version,
                "manifest_sha256": about.manifest_sha256 if about else None,
                "calibration_sha256": about.categories.get(attempt.category) if about else None,
            }
        )
    return found


def _document(session: Session, policy: Policy, known: Known, certified: Certified) -> dict[str, Any]:
    """What a certification keeps: every promise, what was found, and which models served."""
    candidate = certified.candidate
    return {
        "confidence": policy.certificates.confidence,
        "overlooked": policy.certificates.overlooked,
        "renewals": certified.renewals,
        "candidate": [candidate.name, candidate.version] if candidate else None,
        "serving": serving(session, policy, known),
        "stood_in": [[list(version) for version in one] for one in certified.stood_in],
        "promises": [
            {
                "category": one.category,
                "side": str(one.side),
                "slice": one.slice,
                "lineup": one.lineup,
                "allowed": one.allowed,
                "level": one.level,
                "tried": one.tried,
                "threshold": one.threshold,
                "bound": one.bound,
                "share": one.share,
                "decisions": one.decisions,
                "drawn": one.drawn,
                "overdue": one.overdue,
                "withdrawn": one.withdrawn,
                "checks": one.checks,
                "mistakes": one.mistakes,
                "needed": one.needed,
                "curve": list(one.curve),
                "data": one.data,
                "certificate": str(one.certificate) if one.certificate else None,
            }
            for one in certified.attempts
        ],
    }


def serving(session: Session, policy: Policy, known: Known) -> list[list[str]]:
    """The versions that decide and that score a promised category."""
    wanted = {category for category, _, _ in proving.promised(policy)}
    there = lineups.with_alias(session, *lineups.SERVING)
    return [list(one) for one in sorted(there) if one in known and wanted & known[one].categories.keys()]
