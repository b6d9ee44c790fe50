"""Appeals: an author or a reporter asks that a person who had no part in a decision looks at it again.

Each side may appeal a decision once, within the policy's time from when it was told. A person settles it by judging
the item anew: the same verdict upholds the decision, a milder one (for a reporter, a graver one) reverses it with
everything it did. An author's appeal never ends worse for the author than it began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from moderation.domain import content
from moderation.domain.cases import CaseKind, CaseReason, CaseState, Verdict
from moderation.domain.decisions import AccountMeasure, CaseDraft, Judgement
from moderation.domain.erasing import ERASED
from moderation.domain.errors import Conflict, Forbidden, Gone, InvalidInput, NotFound
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.governance import audit, outbox
from moderation.governance.outbox import Notice
from moderation.governance.sessions import PersonPrincipal
from moderation.review import decisions, measures, opening
from moderation.review.appealed import AppealState, By, statement_place
from moderation.review.force import in_force, lock_items
from moderation.review.reports import reporter_digest
from moderation.storage.ids import new_id
from moderation.storage.tables import AccountAction, Appeal, Author, Case, Decision, Item, Report
from moderation.storage.vault import Vault, VaultError

STATEMENT_LENGTH = 4000
EVIDENCE_DAYS = 30  # how long the content stays after the deadline of an appeal, at least
CLOCKS_DIFFER = timedelta(minutes=5)
_GRAVITY = (Verdict.ALLOW, Verdict.LIMIT, Verdict.REMOVE)
_GRAVER = tuple(AccountMeasure)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a judgement means for an author's appeal: what is decided, and whether account measures are lifted."""

    judgement: Judgement
    lifts: bool
    reversed: bool


def lodge(
    session: Session,
    vault: Vault,
    policy: Policy,
    client: str,
    decision_id: UUID,
    by: By,
    reporter: str | None,
    statement: str | None,
    now: datetime,
) -> Appeal:
    """Take an appeal and put it before people; the same one again answers the first (`lodged_at` is not `now`).

    Raises:
        NotFound: the client has no such decision.
        Gone: the content has ended, so that nobody can look again.
        Conflict: the time has passed, the decision no longer stands or answered this side's appeal, or people
            have the item anyway.
        Forbidden: a reporter who did not report the item.
        InvalidInput: there is nothing that this side could appeal.
    """
    digest = _who(vault, client, by, reporter)
    if statement is not None:
        content.checked_text(statement, "statement", STATEMENT_LENGTH)
    decision = visible(session, client, decision_id, now)
    if (known := _of_side(session, decision.id, by, digest)) is not None:
        return known
    item = _evidence(session, decision)
    if (known := _of_side(session, decision.id, by, digest)) is not None:
        return known
    _check_decision(session, decision, by, now)
    if by is By.REPORTER:
        _check_reporter(session, decision, digest)
    elif decision.route == Route.ALLOW:
        raise InvalidInput("The item is allowed; there is nothing that its author could appeal.")
    _check_time(session, policy, decision, now)
    return _lodged(session, vault, policy, decision, item, by, digest, statement, now)


def _who(vault: Vault, client: str, by: By, reporter: str | None) -> bytes | None:
    if by is By.AUTHOR:
        if reporter is not None:
            raise InvalidInput("reporter is for appeals by a reporter; leave it out, or say by: reporter.")
        return None
    if reporter is None:
        raise InvalidInput("Say which reporter appeals: send reporter, as in the report.")
    return reporter_digest(vault, client, content.checked_reference(reporter, "reporter"))


def visible(session: Session, client: str, decision_id: UUID, now: datetime) -> Decision:
    """A decision as its client may know it: one that took effect. Until then it can still be undone.

    Raises:
        NotFound: there is none.
    """
    row = session.get(Decision, decision_id)
    if row is None or row.client != client or row.undone_at is not None or row.effective_at > now:
        raise NotFound("There is no such decision.")
    return row


def _of_side(session: Session, decision_id: UUID, by: By, digest: bytes | None) -> Appeal | None:
    query = select(Appeal).where(Appeal.decision_id == decision_id, Appeal.by == by)
    same = Appeal.reporter_digest.is_(None) if digest is None else Appeal.reporter_digest == digest
    return session.scalar(query.where(same))


def _evidence(session: Session, decision: Decision) -> Item:
    """The item, locked before anything of its case is, as everybody does."""
    item = lock_items(session, [decision.item_id]).get(decision.item_id)
    erased = item is not None and item.deleted_because == ERASED
    if item is None or item.destroyed_at is not None or item.doomed_at is not None or erased:
        raise Gone("The content has ended, so nobody can look at it again.")
    session.refresh(decision)
    return item


def _check_decision(session: Session, decision: Decision, by: By, now: datetime) -> None:
    if decision.route == Route.REVIEW:
        raise Conflict("People have this item; appeal the decision they come to.", code="undecided")
    standing = in_force(session, [decision.item_id], now).get(decision.item_id)
    if standing is None or standing.id != decision.id:
        newer = f"; appeal {standing.id}, which replaced it" if standing else ""
        raise Conflict(f"This decision no longer stands{newer}.", code="superseded")
    answered = select(Appeal.id).where(
        Appeal.item_id == decision.item_id, Appeal.outcome_id == decision.id, Appeal.by == by
    )
    if session.scalar(answered.limit(1)) is not None:
        raise Conflict("This decision answered an appeal of the same side; it is final here.", code="final")


def _check_reporter(session: Session, decision: Decision, digest: bytes | None) -> None:
    reported = session.scalar(
        select(Report).where(Report.item_id == decision.item_id, Report.reporter_digest == digest)
    )
    if reported is None:
        raise Forbidden(
            "This reporter did not report the item; a report is made at /v1/items/{id}/reports.",
            code="not_reported",
        )
    if decision.route != Route.ALLOW:
        raise InvalidInput("The item was limited or removed as reported; there is nothing to appeal.")
    waiting = select(Case.id).where(
        Case.item_id == decision.item_id, Case.state == CaseState.OPEN, Case.kind == CaseKind.REVIEW
    )
    if session.scalar(waiting) is not None:
        raise Conflict("People have this report; appeal the decision they come to.", code="undecided")


def appeal_until(session: Session, policy: Policy, decision: Decision) -> datetime | None:
    """Until when a decision may be appealed; None while nobody was told of it, and so without an end."""
    told = decision.informed_at or outbox.told_at(session, decision.item_id, decision.id)
    return None if told is None else told + timedelta(days=policy.review.appeal_days)


def _check_time(session: Session, policy: Policy, decision: Decision, now: datetime) -> None:
    until = appeal_until(session, policy, decision)
    if until is not None and until < now:
        raise Conflict(f"The time to appeal ended on {until.date()}.", code="too_late")


def _lodged(
    session: Session,
    vault: Vault,
    policy: Policy,
    decision: Decision,
    item: Item,
    by: By,
    digest: bytes | None,
    statement: str | None,
    now: datetime,
) -> Appeal:
    identifier = new_id(now)
    sealed = None
    if statement:
        key = vault.author_keys([decision.author_id], now)[decision.author_id]
        sealed = key.encrypt(statement.encode(), *statement_place(identifier))
    deadline = now + timedelta(hours=policy.review.appeal_deadline_hours)
    appeal = Appeal(
        id=identifier,
        decision_id=decision.id,
        item_id=decision.item_id,
        author_id=decision.author_id,
        client=decision.client,
        by=by,
        reporter_digest=digest,
        statement=sealed,
        lodged_at=now,
        deadline=deadline,
        state=AppealState.OPEN,
    )
    session.add(appeal)
    item.expires_at = max(item.expires_at, deadline + timedelta(days=EVIDENCE_DAYS))
    session.flush()
    rule = policy.categories.get(decision.category or "")
    draft = CaseDraft(CaseReason.APPEAL, decision.category, rule.severity if rule else 3, 0.5)
    opening.open_case(session, policy, item, decision.id, draft, now, appeal_id=identifier)
    details = {"decision": str(decision.id), "by": str(by)}
    event = audit.Event(f"client:{decision.client}", "appeal.lodged", "appeal", str(identifier), details)
    audit.record(session, [event], now)
    return appeal


def statement_of(session: Session, vault: Vault, appeal: Appeal) -> str | None:
    """What whoever appealed says; None if they said nothing or it can't be read any more."""
    author = session.get(Author, appeal.author_id)
    _, key = vault.keys_of(appeal.item_id, appeal.author_id)
    if appeal.statement is None or author is None or author.erasing_at is not None or key is None:
        return None
    try:
        return key.decrypt(appeal.statement, *statement_place(appeal.id)).decode()
    except VaultError:
        return None


def of_client(
    session: Session, client: str, appeal_id: UUID, now: datetime
) -> tuple[Appeal, Decision | None]:
    """An appeal of `client` with its outcome, if that took effect: until then it may still be undone.

    Raises:
        NotFound: there is none.
    """
    appeal = session.get(Appeal, appeal_id)
    if appeal is None or appeal.client != client:
        raise NotFound("There is no such appeal.")
    outcome_row = session.get(Decision, appeal.outcome_id) if appeal.outcome_id else None
    taken = outcome_row is not None and outcome_row.effective_at <= now
    return appeal, outcome_row if taken else None


def inform(session: Session, decision: Decision, at: datetime, actor: str, now: datetime) -> None:
    """Note when whoever is affected was told of a decision; the first word counts.

    Raises:
        InvalidInput: before the decision, or in the future.
    """
    content.checked_moment(at, "at")
    if at > now + CLOCKS_DIFFER:
        raise InvalidInput("at lies in the future; say when they were informed, once they are.")
    if at < decision.decided_at - CLOCKS_DIFFER:
        raise InvalidInput("at lies before the decision itself; say when they were informed of it.")
    first = update(Decision).where(Decision.id == decision.id, Decision.informed_at.is_(None))
    if session.scalars(first.values(informed_at=at).returning(Decision.id)).first() is not None:
        audit.record(session, [audit.Event(actor, "decision.informed", "decision", str(decision.id))], now)


def check(session: Session, case: Case, judgement: Judgement, now: datetime) -> None:
    """Refuse, before it is stored, an opinion that no appeal may end with.

    Raises:
        InvalidInput: it would leave an author worse off than before the appeal.
    """
    taken = measures.of_item(session, case.item_id, now)
    for row in _open(session, case.item_id):
        _answer(session, row, taken, judgement)


def _open(session: Session, item_id: UUID) -> Sequence[Appeal]:
    """The open appeals of an item, an author's first."""
    return session.scalars(
        select(Appeal)
        .where(Appeal.item_id == item_id, Appeal.state == AppealState.OPEN)
        .order_by(Appeal.by, Appeal.id)
    ).all()


def answer(
    verdict: Verdict, restrictions: Sequence[str], taken: Sequence[AccountAction], judgement: Judgement
) -> Answer:
    """What `judgement` means for an author who appeals `verdict`, its restrictions and the measures `taken`.

    Raises:
        InvalidInput: it would leave the author worse off than before the appeal.
    """
    worse = _GRAVITY.index(judgement.verdict) > _GRAVITY.index(verdict)
    if worse or (verdict is judgement.verdict and set(judgement.restrictions) - set(restrictions)):
        raise InvalidInput(
            "An appeal can't make it worse for the author; uphold the decision, or choose a milder one."
        )
    milder = verdict is not judgement.verdict or set(judgement.restrictions) < set(restrictions)
    kinds = [AccountMeasure(one.kind) for one in taken]
    if judgement.measure in kinds or (judgement.measure is None and not milder):
        # The measure stands as it was taken, with its own end.
        return Answer(replace(judgement, measure=None, until=None), lifts=False, reversed=milder)
    if judgement.measure and _GRAVER.index(judgement.measure) > max(map(_GRAVER.index, kinds), default=-1):
        raise InvalidInput(
            "An appeal can't add a measure against the account, nor a graver one; leave it out."
        )
    return Answer(judgement, lifts=bool(taken), reversed=milder or bool(taken))


def outcome(
    session: Session,
    policy: Policy,
    person: PersonPrincipal,
    case: Case,
    judgement: Judgement,
    undo_id: UUID,
    now: datetime,
) -> UUID:
    """Settle every open appeal of the case's item by a person's judgement; returns the decision that answers them.

    It replaces the one in force also where it says the same: what changes then is who decided. Settled appeals,
    lifted measures and webhooks take effect with it, and can be undone as long as it can.

    Raises:
        InvalidInput: it would leave an author worse off than before the appeal.
        Conflict: nothing is open any more.
    """
    item = lock_items(session, [case.item_id])[case.item_id]
    pending = _open(session, item.id)
    if not pending:
        raise Conflict("This appeal is settled or withdrawn already; there is nothing left to decide.")
    taken = measures.of_item(session, item.id, now)
    answers = [_answer(session, row, taken, judgement) for row in pending]
    outcome_id = decisions.by_person(
        session,
        policy,
        item,
        answers[0].judgement,  # an author's, if there is one
        person_id=person.person_id,
        case_id=case.id,
        undo_id=undo_id,
        now=now,
        reverses=next(
            (row.decision_id for row, one in zip(pending, answers, strict=True) if one.reversed), None
        ),
    )
    effective_at = session.get_one(Decision, outcome_id).effective_at
    if any(one.lifts for one in answers):
        for decision_id in dict.fromkeys(action.decision_id for action in taken):
            measures.reverse_of(
                session, item, decision_id, outcome_id, now,
                actor=person.actor, effective_at=effective_at, undo_id=undo_id,
            )  # fmt: skip
    for row, one in zip(pending, answers, strict=True):
        row.state = AppealState.REVERSED if one.reversed else AppealState.UPHELD
        row.outcome_id, row.closed_at = outcome_id, now
    session.flush()
    outbox.enqueue(
        session, [_notice(item, row, judgement.verdict, effective_at, undo_id) for row in pending], now
    )
    audit.record(session, [_event(person.actor, row) for row in pending], now)
    return outcome_id


def _answer(session: Session, row: Appeal, taken: Sequence[AccountAction], judgement: Judgement) -> Answer:
    if row.by == By.REPORTER:
        return Answer(judgement, lifts=False, reversed=judgement.verdict is not Verdict.ALLOW)
    appealed = session.get_one(Decision, row.decision_id)
    return answer(Verdict(appealed.route), appealed.restrictions, taken, judgement)


def _notice(item: Item, row: Appeal, verdict: Verdict, effective_at: datetime, undo_id: UUID) -> Notice:
    payload = {
        "appeal_id": str(row.id),
        "by": row.by,
        "outcome": str(row.state),
        "appealed_id": str(row.decision_id),
        "decision_id": str(row.outcome_id),
        "verdict": str(verdict),
    }
    return Notice(row.client, item.id, "appeal.decided", payload, item.callback_id, effective_at, undo_id)


def _event(actor: str, row: Appeal) -> audit.Event:
    details = {"decision": str(row.outcome_id), "state": str(row.state)}
    return audit.Event(actor, "appeal.decided", "appeal", str(row.id), details)
