"""Prove the promises of a policy from blind checks: certifications, the certificates they issue, and their end.

A certification spends a share of the confidence that the policy promises for a quarter (its term), whether it
proves anything or not; docs/promises.md says how that is divided. What holds, and how it ends, is `holding`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from moderation.domain.errors import Conflict, NotFound
from moderation.domain.policy import Policy
from moderation.domain.promises import Occasion, Void
from moderation.governance import audit, checks, issuing, lineups, policies, proving, restating
from moderation.governance.checks import Period
from moderation.governance.holding import LOCK, WATCHED, in_force, void
from moderation.governance.issuing import Certified, Term
from moderation.governance.proving import Attempt
from moderation.governance.restating import Candidate
from moderation.storage.tables import CertificateRow, Certification, ModelProposal

__all__ = ["CERTIFYING", "LOCK", "WATCHED", "Attempt", "Candidate", "Certified", "Term", "certify", "end_outdated",
           "in_force", "recheck", "tend", "term_of", "void"]  # fmt: skip

CERTIFYING = 7_203_014
"""Advisory lock of a transaction: one certification at a time."""
NOTHING_PROMISED = (
    "The policy promises nothing yet. Give a category an error rate, such as `remove: {wrong_at_most: 0.02}` or "
    "`allow: {missed_at_most: 0.01}`, and publish it; docs/policy.md says more."
)


def term_of(session: Session, now: datetime) -> Term:
    """The quarter of `now` (UTC), and what was spent in it."""
    day = now.astimezone(UTC)
    quarter = (day.month - 1) // 3
    name = f"{day.year}-Q{quarter + 1}"
    ends = datetime(day.year + (quarter == 3), (quarter + 1) % 4 * 3 + 1, 1, tzinfo=UTC)
    made, numbered, spent = session.execute(
        select(
            func.count().filter(Certification.level > 0),
            func.coalesce(func.max(Certification.number), 0),
            func.coalesce(func.sum(Certification.level), 0.0),
        ).where(Certification.term == name)
    ).one()
    return Term(name, ends, made, numbered, float(spent))


def certify(
    session: Session,
    policy: Policy,
    by: str,
    now: datetime,
    occasion: Occasion,
    *,
    candidate: Candidate | None = None,
    dry: bool = False,
    most: int = checks.MOST,
) -> Certified:
    """Try to prove every promise of `policy` from the blind checks of its period, and issue what is proved.

    A newer certificate takes the place of the older one of the same promise; what is not proved now stays as it
    was, until it expires or is voided. `candidate` is certified for when it serves. With `dry` nothing is written,
    and `policy` need not be published. Of the traffic about `most` decisions are read.

    Raises:
        Conflict: the policy promises nothing, or all certifications of this quarter are made.
        NotFound: there is no such candidate.
    """
    if not dry:
        session.execute(select(func.pg_advisory_xact_lock(CERTIFYING)))
    term = _allowed(session, policy, now, dry=dry)
    known, period = lineups.known(session), proving.period_of(policy, now)
    if candidate is not None and (candidate.name, candidate.version) not in known:
        raise NotFound(
            f"There is no version {candidate.version} of a model {candidate.name} here; `moderation models list` "
            "shows which there are."
        )
    sets = restating.stand_ins(session, candidate)
    streams = proving.gather(session, policy, known, period, sets, most=most)
    tried = (
        proving.deciding(session, policy, known, now)
        if candidate is None
        else proving.with_candidate(session, policy, known, streams, candidate)
    )
    level = (1 - policy.certificates.confidence) / policy.certificates.renewals
    found = proving.attempts(policy, streams, tried, level)
    certified = Certified(
        id=None,
        term=term.name,
        number=term.made + 1,
        renewals=policy.certificates.renewals,
        at=now,
        since=period.since,
        until=period.until,
        level=level if any(one.tried for one in found) else 0.0,
        occasion=occasion,
        policy_version=policy.version,
        attempts=tuple(found),
        candidate=candidate,
        stood_in=tuple(sets),
    )
    return certified if dry else issuing.write(session, policy, known, certified, term, by)


def _allowed(session: Session, policy: Policy, now: datetime, *, dry: bool) -> Term:
    """The term, if it has a certification left.

    Raises:
        Conflict: it has none, or nothing is promised.
    """
    if not proving.promised(policy):
        raise Conflict(NOTHING_PROMISED, code="nothing_promised")
    term = term_of(session, now)
    if not dry and not term.left(policy):
        raise Conflict(
            f"All {policy.certificates.renewals} certifications of {term.name} are made, and each spends a part of "
            f"the confidence that is promised for the quarter. The next can be made from {term.ends:%Y-%m-%d} on; "
            "what is certified stays in force until it expires.",
            code="renewals_spent",
        )
    return term


def end_outdated(session: Session, policy: Policy, now: datetime) -> tuple[UUID, ...]:
    """End certificates of policies that are past, and of models that neither serve nor are about to.

    In a transaction of its own: whoever decides waits for it.
    """
    rows = session.execute(
        select(CertificateRow.id, CertificateRow.policy_version, CertificateRow.lineup).where(
            CertificateRow.voided_at.is_(None)
        )
    ).all()
    past = [identifier for identifier, version, _ in rows if version < policy.version]
    kept = lineups.with_alias(session, *lineups.SERVING, *lineups.COMING) if rows else set()
    proposed = select(ModelProposal.name, ModelProposal.version).where(ModelProposal.state == "open")
    kept |= {(name, version) for name, version in session.execute(proposed)} if rows else set()
    gone = [
        identifier
        for identifier, version, lineup in rows
        if version >= policy.version and not lineups.serves(lineup, kept)
    ]
    return (
        *void(session, past, Void.POLICY, audit.MACHINE, now),
        *void(session, gone, Void.MODEL, audit.MACHINE, now),
    )


def tend(session: Session, policy: Policy, now: datetime) -> Certified | None:
    """Certify where it is due: by the schedule, after another model began to serve, under another policy.

    None if nothing was due, somebody else is at it, or no certification is left in this quarter.
    """
    if not proving.promised(policy) or not term_of(session, now).left(policy):
        return None
    if not session.scalar(select(func.pg_try_advisory_xact_lock(CERTIFYING))):
        return None
    occasion = _due(session, policy, now)
    return None if occasion is None else certify(session, policy, audit.MACHINE, now, occasion)


def _due(session: Session, policy: Policy, now: datetime) -> Occasion | None:
    own = Certification.document["candidate"].astext.is_(None)
    newest = select(Certification).where(own).order_by(Certification.id.desc()).limit(1)
    last = session.scalar(newest.where(Certification.policy_version == policy.version))
    if last is None:
        if not checks.any_closed(session, proving.period_of(policy, now).since, now):
            return None
        return Occasion.SCHEDULE if session.scalar(newest) is None else Occasion.POLICY
    if last.document.get("serving") != issuing.serving(session, policy, lineups.known(session)):
        return Occasion.PROMOTION
    if now - last.at < timedelta(days=policy.certificates.every_days):
        return None
    return Occasion.SCHEDULE if checks.any_closed(session, last.at, now) else None


def recheck(session: Session, certificate_id: UUID) -> bool:
    """Whether the data that a certificate names is still what it was proved from, read again from the records.

    False too where something of it has ended since: signals of a shadow end with their item.

    Raises:
        NotFound: there is no such certificate.
    """
    row = session.get(CertificateRow, certificate_id)
    made = session.get(Certification, row.certification_id) if row else None
    if row is None or made is None:
        raise NotFound("There is no such certificate; `moderation policy certificates --all` shows them.")
    policy = policies.read(policies.document_of(session, row.policy_version), row.policy_version)
    settle = timedelta(hours=policy.certificates.settle_hours)
    period = Period(row.since, row.until, made.at, settle)
    sets = [tuple((name, version) for name, version in one) for one in made.document["stood_in"]]
    streams = proving.gather(session, policy, lineups.known(session), period, sets, most=0)
    stream = streams.get((row.category, row.slice, row.lineup))
    found = checks.digest(stream.drawn, stream.drawn_scores) if stream else ""
    return found == str(row.document["data"]["sha256"])
