"""Opinions: what somebody thinks of a case, stored once, never lost, and what follows from it.

An opinion that comes when the case is no longer in its giver's hands is late: it is kept, counts beside the others,
and where it differs from what was decided, somebody settles it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from moderation.domain import cases as rules
from moderation.domain import decisions as domain
from moderation.domain.access import Permission
from moderation.domain.cases import CaseKind, CaseReason, CaseState, Judged, Next, Stage, Verdict
from moderation.domain.content import ItemState
from moderation.domain.decisions import AccountMeasure, CaseDraft, Judgement, Undo, blind_draft
from moderation.domain.errors import Conflict, Forbidden, NotFound
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.domain.signals import Category
from moderation.governance import audit
from moderation.governance.restriction import is_set_apart
from moderation.governance.sessions import PersonPrincipal
from moderation.review import (
    appeals,
    claims,
    clusters,
    decisions,
    listing,
    notes,
    reporters,
    suspicion,
    wellness,
)
from moderation.review.golden import top_category
from moderation.review.notes import NoteKind
from moderation.review.opening import open_case
from moderation.storage.database import among
from moderation.storage.ids import new_id
from moderation.storage.tables import Case, Decision, Item, Opinion
from moderation.storage.vault import Vault

EVEN = 0.5  # a score that suggests neither


@dataclass(frozen=True, slots=True)
class Given:
    """A judgement as it was sent. `form_key` is of the form it came by: sent twice, it counts once."""

    form_key: UUID
    judgement: Judgement
    note: str | None = None
    score_shown: bool = True


class Result(StrEnum):
    """What became of an opinion. Checks always answer CONFIRMED, so that nobody can tell one from a golden item."""

    DECIDED = "decided"
    SECOND = "second"
    ADJUDICATION = "adjudication"
    CONFIRMED = "confirmed"
    LATE = "late"
    REPEATED = "repeated"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an opinion, and for how long it can be taken back."""

    result: Result
    opinion_id: UUID
    decision_id: UUID | None
    undo: Undo | None


@dataclass(frozen=True, slots=True)
class _Context:
    """What every step of giving an opinion needs."""

    session: Session
    policy: Policy
    person: PersonPrincipal
    now: datetime


def give(
    session: Session,
    vault: Vault,
    policy: Policy,
    person: PersonPrincipal,
    case_id: UUID,
    number: int,
    given: Given,
    now: datetime,
    dice: float,
) -> Answer:
    """Store an opinion and do what follows from it. `dice`, uniform in [0, 1), draws what is judged again, blind.

    Raises:
        NotFound: there is no such case.
        Forbidden: the person may not judge at this stage, or not take this measure.
        InvalidInput: the judgement does not go together, or the policy has no such rule.
        Conflict: the form was used for something else, or the person could never have had this case.
    """
    context = _Context(session, policy, person, now)
    case, item = _locked(session, case_id)
    wellness.visible(session, person, case_id)
    known = _repeated(context, given.form_key, [case.id])
    if known is not None:
        return known
    judgement = domain.checked(given.judgement, policy, now)
    _check_measure(person, judgement)
    if case.kind == CaseKind.APPEAL:
        appeals.check(session, case, judgement, now)
    held = claims.holds(case, person, number) and item is not None
    if held:
        claims.check_permissions(person, case)
    else:
        _check_late(session, person, case, number)
    opinion = _store(context, case, given, judgement, given.form_key, late=not held)
    _keep_note(context, vault, case, item, given.note)
    if not held or item is None:
        _settle_late(context, case, item, opinion)
        return Answer(Result.LATE, opinion.id, None, None)
    return _follow(context, case, item, opinion, judgement, dice)


def give_cluster(
    session: Session,
    vault: Vault,
    policy: Policy,
    person: PersonPrincipal,
    case_id: UUID,
    number: int,
    members: Sequence[UUID],
    given: Given,
    now: datetime,
) -> Answer:
    """Decide a case and the near duplicates among `members` (case ids) alike: all of them, or none.

    Each has an opinion, a decision and audit events of its own; one undo takes all back. An account gets the
    measure once, however many of its posts there are.

    Raises:
        NotFound: one of the cases doesn't exist.
        Forbidden: the person may not take this measure, or not judge at this stage.
        InvalidInput: the judgement does not go together, or a member is no near duplicate.
        Conflict: the case isn't in the person's hands any more, or somebody else has one of the others.
    """
    context = _Context(session, policy, person, now)
    found = _locked_all(session, [case_id, *members])
    case, _ = found[case_id]
    known = _repeated(context, given.form_key, [case_id])
    if known is not None:
        return known
    judgement = domain.checked(given.judgement, policy, now)
    _check_measure(person, judgement)
    if not claims.holds(case, person, number):
        raise Conflict(claims.LOST, code="claim_lost")
    claims.check_permissions(person, case)
    if rules.opinions_wanted(policy, judgement.category, CaseKind.REVIEW) > 1:
        raise _not_alone()
    _check_members(context, case, found)
    undo_id = given.form_key
    reporters.lock(session, [row.item_id for row, _ in found.values()], now)
    measured: set[UUID] = set()
    opinions: dict[UUID, Opinion] = {}
    for member, (row, item) in found.items():
        if item is None:
            raise Conflict("One of the posts has ended; open the case again.", code="ended")
        mine = judgement if row.author_id not in measured else replace(judgement, measure=None, until=None)
        measured.add(row.author_id)
        key = given.form_key if member == case_id else uuid5(given.form_key, str(member))
        opinions[member] = _store(context, row, given, mine, key, late=False)
        if row.claimed_by != person.person_id:
            claims.take(session, policy, person, row, now)
        _decide(context, row, item, opinions[member], mine, undo_id)
    _keep_note(context, vault, case, found[case_id][1], given.note)
    session.flush()
    decision_id = opinions[case_id].decision_id
    return Answer(
        Result.DECIDED, opinions[case_id].id, decision_id, undo_of(session, person, decision_id, now)
    )


def together(session: Session, person: PersonPrincipal, ids: Sequence[UUID], now: datetime) -> set[UUID]:
    """Which of these cases one person alone may decide, and `person` has in hand or could take."""
    judged = _judged_of(session, ids)
    rows = session.scalars(select(Case).where(among(Case.id, ids)))
    return {row.id for row in rows if _is_for_one(row, judged) and _is_free(row, person, now)}


def undo_of(
    session: Session, person: PersonPrincipal, decision_id: UUID | None, now: datetime
) -> Undo | None:
    """By what, and until when, the person may take a decision of theirs back; None if they may not any more."""
    row = session.get(Decision, decision_id, populate_existing=True) if decision_id else None
    if row is None or row.undo_id is None or row.person_id != person.person_id:
        return None
    if row.undone_at is not None or row.effective_at <= now:
        return None
    together = session.scalars(
        select(Decision.case_id).where(Decision.undo_id == row.undo_id).order_by(Decision.id)
    )
    return Undo(str(row.undo_id), row.effective_at, tuple(str(case) for case in together if case))


def _locked(session: Session, case_id: UUID) -> tuple[Case, Item | None]:
    return _locked_all(session, [case_id])[case_id]


def _locked_all(session: Session, ids: Sequence[UUID]) -> Mapping[UUID, tuple[Case, Item | None]]:
    """Cases with their items, all locked: first the items, as whoever deletes or screens them does."""
    of_items = session.scalars(select(Case.item_id).where(among(Case.id, ids))).all()
    items = decisions.lock_items(session, of_items)
    cases = session.scalars(
        select(Case)
        .where(among(Case.id, ids))
        .order_by(Case.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    if len(cases) < len(set(ids)):
        raise NotFound("There is no such case.")
    return {case.id: (case, items.get(case.item_id)) for case in cases}


def _repeated(context: _Context, form_key: UUID, case_ids: Sequence[UUID]) -> Answer | None:
    known = context.session.scalar(
        select(Opinion).where(Opinion.form_key == form_key).execution_options(populate_existing=True)
    )
    if known is None:
        return None
    if known.person_id != context.person.person_id or known.case_id not in case_ids:
        raise _used()
    undo = undo_of(context.session, context.person, known.decision_id, context.now)
    return Answer(Result.REPEATED, known.id, known.decision_id, undo)


def _used() -> Conflict:
    return Conflict("This form was sent before, for another case; load the page again.", code="form_used")


def _check_late(session: Session, person: PersonPrincipal, case: Case, number: int) -> None:
    """An opinion is late only from somebody who had the case once: they could have it then, and are heard now."""
    if not 1 <= number <= case.claim_number:
        raise Conflict("This case was never claimed under this number; claim it first.", code="not_claimed")
    if not claims.once_held(session, person, case):
        raise Conflict("You never had this case in hand; claim it first.", code="not_claimed")


def _check_measure(person: PersonPrincipal, judgement: Judgement) -> None:
    if judgement.measure is None:
        return
    ban = judgement.measure is AccountMeasure.BAN
    if (Permission.AUTHOR_BAN if ban else Permission.AUTHOR_ACT) not in person.permissions:
        raise Forbidden(
            f"Your roles don't allow to {judgement.measure} an account; escalate the case instead."
        )


def _store(
    context: _Context, case: Case, given: Given, judgement: Judgement, form_key: UUID, *, late: bool
) -> Opinion:
    values = {
        "id": new_id(context.now),
        "case_id": case.id,
        "item_id": case.item_id,
        "author_id": case.author_id,
        "person_id": context.person.person_id,
        "form_key": form_key,
        "stage": case.stage,
        "verdict": judgement.verdict,
        "category": judgement.category,
        "clause": judgement.clause,
        "restrictions": list(judgement.restrictions),
        "account_action": judgement.measure,
        "account_until": judgement.until,
        "score_shown": given.score_shown and not rules.hides(case.blind, Stage(case.stage)),
        "late": late,
        "propensity": case.propensity,
        "policy_version": context.policy.version,
        "given_at": context.now,
    }
    settles = not late and case.stage == Stage.ADJUDICATION
    own = settles and claims.has_judged(context.session, context.person.person_id, case)
    opinion: Opinion | None = context.session.scalar(
        upsert(Opinion).values(values).on_conflict_do_nothing(index_elements=["form_key"]).returning(Opinion)
    )
    if opinion is None:
        raise _used()
    details: dict[str, Any] = {"opinion": str(opinion.id), "item": str(case.item_id)}
    details |= {"late": True} if late else {}
    details |= {"own_conflict": True} if own else {}
    event = audit.Event(context.person.actor, "opinion.given", "case", str(case.id), details)
    audit.record(context.session, [event], context.now)
    if judgement.category == Category.UNDERAGE and case.kind != CaseKind.GOLDEN:
        suspicion.of_opinion(context.session, context.policy, case, context.person.actor, context.now)
    return opinion


def _keep_note(context: _Context, vault: Vault, case: Case, item: Item | None, note: str | None) -> None:
    # Of what has ended nothing is written down any more; the opinion itself holds no content and stays.
    if item is not None and item.destroyed_at is None:
        notes.add(context.session, vault, context.person, case, NoteKind.NOTE, note, context.now)


def _counted(session: Session, case: Case, newest: Opinion) -> list[Opinion]:
    """The opinions that count: the last one of each person, `newest` at the end."""
    rows = session.scalars(
        select(Opinion)
        .where(Opinion.case_id == case.id, Opinion.undone_at.is_(None), Opinion.id != newest.id)
        .order_by(Opinion.given_at, Opinion.id)
    )
    last = {row.person_id: row for row in rows}
    last.pop(newest.person_id, None)
    return [*last.values(), newest]


def _judged(opinions: Sequence[Opinion]) -> list[Judged]:
    return [Judged(one.verdict, one.category, str(one.person_id)) for one in opinions]


def _follow(
    context: _Context, case: Case, item: Item, opinion: Opinion, judgement: Judgement, dice: float
) -> Answer:
    session, now = context.session, context.now
    kind, stage = CaseKind(case.kind), Stage(case.stage)
    counted = _counted(session, case, opinion)
    wanted = max(case.opinions_wanted, rules.opinions_wanted(context.policy, judgement.category, kind))
    following = rules.after_opinion(
        kind, stage, wanted, _judged(counted), _stands(session, case, judgement),
        surprising=_surprises(session, case, judgement),
    )  # fmt: skip
    # A case that people decide anyway says what became of it, whether its scores were shown or not.
    secret = case.blind and kind is not CaseKind.REVIEW and stage is not Stage.ADJUDICATION
    if following is Next.DECIDE:
        return _decided(context, case, item, opinion, counted, judgement, dice)
    if following is Next.CONFIRM:
        claims.close(session, case, now)
        return Answer(Result.CONFIRMED, opinion.id, None, None)
    if following is Next.SECOND:
        case.stage = Stage.SECOND
        result = Result.SECOND
    else:
        _to_adjudication(case)
        result = Result.ADJUDICATION
    case.reserved_for = None
    claims.let_go(case)
    session.flush()
    return Answer(Result.CONFIRMED if secret else result, opinion.id, None, None)


def _surprises(session: Session, case: Case, judgement: Judgement) -> bool:
    """Whether an opinion on what was drawn to be judged without a score is the other one than scores suggest.

    Such a find tells of thresholds further on, in proofs of promises, and one slip must not.
    """
    if not case.blind or case.kind != CaseKind.REVIEW:
        return False
    row = session.get_one(Decision, case.decision_id)
    scores = {finding["category"]: finding["probability"] for finding in row.findings}
    if judgement.verdict is Verdict.ALLOW:
        return any(score >= EVEN for score in scores.values())
    return judgement.category is not None and scores.get(judgement.category, 0.0) < EVEN


def _stands(session: Session, case: Case, judgement: Judgement) -> str | None:
    """The verdict that an opinion is held against: of a check, what it checks; of a case opened again, its own."""
    row = decisions.standing(session, case.item_id)
    if row is None or row.route == Route.REVIEW:
        return None
    if case.kind == CaseKind.QUALITY:
        return row.route
    same = (
        row.case_id == case.id
        and judgement.measure is None
        and row.category == judgement.category
        and set(row.restrictions) == set(judgement.restrictions)
    )
    return row.route if same and case.kind == CaseKind.REVIEW else None


def _decided(
    context: _Context,
    case: Case,
    item: Item,
    opinion: Opinion,
    counted: Sequence[Opinion],
    judgement: Judgement,
    dice: float,
) -> Answer:
    session, policy, now = context.session, context.policy, context.now
    decision_id = _decide(context, case, item, opinion, judgement, opinion.form_key)
    for other in counted:
        if other.verdict == opinion.verdict:
            other.decision_id = decision_id
    alone = case.kind == CaseKind.REVIEW and len(counted) == 1 and case.stage == Stage.REVIEW
    if alone and dice < policy.review.second_opinion_share and not is_set_apart(session, item.author_id):
        draft = blind_draft(
            CaseReason.SECOND_OPINION,
            policy,
            top_category(session, item.id),
            policy.review.second_opinion_share,
        )
        open_case(session, policy, item, decision_id, draft, now)
    session.flush()
    return Answer(Result.DECIDED, opinion.id, decision_id, undo_of(session, context.person, decision_id, now))


def _decide(
    context: _Context, case: Case, item: Item, opinion: Opinion, judgement: Judgement, undo_id: UUID
) -> UUID:
    session, policy, person, now = context.session, context.policy, context.person, context.now
    if case.kind == CaseKind.APPEAL:
        decision_id = appeals.outcome(session, policy, person, case, judgement, undo_id, now)
    else:
        decision_id = decisions.by_person(
            session,
            policy,
            item,
            judgement,
            person_id=person.person_id,
            case_id=case.id,
            undo_id=undo_id,
            now=now,
        )
    opinion.decision_id = decision_id
    claims.close(session, case, now)
    return decision_id


def _to_adjudication(case: Case) -> None:
    case.stage = Stage.ADJUDICATION
    if case.kind == CaseKind.REVIEW:
        case.reason = CaseReason.CONFLICT


def _settle_late(context: _Context, case: Case, item: Item | None, opinion: Opinion) -> None:
    """A late opinion that differs goes to somebody who settles it; one that agrees is kept, and that is all."""
    session, now = context.session, context.now
    if case.kind == CaseKind.GOLDEN or item is None or item.state == ItemState.DELETED:
        return
    if case.state == CaseState.OPEN:
        in_hand = case.claim_until is not None and case.claim_until > now
        # Whoever has the case now is asked without knowing of it, and then both are compared.
        if not in_hand and len({one.verdict for one in _counted(session, case, opinion)}) > 1:
            _to_adjudication(case)
            claims.let_go(case)
            session.flush()
        return
    standing = decisions.standing(session, case.item_id)
    if standing is None or standing.route in (Route.REVIEW, opinion.verdict):
        return
    _open_again(context, case, item, standing)


def _open_again(context: _Context, case: Case, item: Item, standing: Decision) -> None:
    session, policy, now = context.session, context.policy, context.now
    other = session.scalar(
        select(Case.id).where(
            Case.item_id == case.item_id, Case.kind == CaseKind.REVIEW, Case.state == CaseState.OPEN
        )
    )
    if case.kind == CaseKind.REVIEW and other is None:
        case.state, case.closed_at = CaseState.OPEN, None
        _to_adjudication(case)
        claims.let_go(case)
        session.flush()
        identifier = case.id
    else:
        draft = CaseDraft(CaseReason.CONFLICT, case.category, case.severity, 0.5)
        identifier = open_case(session, policy, item, standing.id, draft, now, stage=Stage.ADJUDICATION)
        session.execute(
            update(Case)
            .where(Case.id == identifier, Case.stage == Stage.ADJUDICATION)
            .values(claimed_by=None, claim_until=None)
        )
    event = audit.Event(audit.MACHINE, "case.reopened", "case", str(identifier), {"item": str(item.id)})
    audit.record(session, [event], now)


def _check_members(context: _Context, case: Case, found: Mapping[UUID, tuple[Case, Item | None]]) -> None:
    """Only near duplicates of a case may be decided with it, and only those that wait for a first opinion."""
    session, now = context.session, context.now
    near = {row.id for row in listing.of_items(session, clusters.near(session, case.item_id), now)}
    judged = _judged_of(session, list(found))
    for row, _ in found.values():
        if not _is_for_one(row, judged):
            raise _not_alone()
        if row.id == case.id:
            continue
        if not _is_free(row, context.person, now):
            raise Conflict("Somebody else has one of these by now; open the case again.", code="claimed")
        if row.id not in near:
            raise Conflict("One of these is no near duplicate of the case; leave it out.", code="not_near")


def _judged_of(session: Session, ids: Sequence[UUID]) -> set[UUID]:
    given = select(Opinion.case_id).where(among(Opinion.case_id, ids), Opinion.undone_at.is_(None))
    return set(session.scalars(given))


def _is_for_one(case: Case, judged: Collection[UUID]) -> bool:
    # What was drawn to be judged without a score is judged for itself, and not by its company.
    first = case.kind == CaseKind.REVIEW and case.stage == Stage.REVIEW and not case.blind
    return first and case.opinions_wanted <= 1 and case.id not in judged


def _is_free(case: Case, person: PersonPrincipal, now: datetime) -> bool:
    taken = case.claim_until is not None and case.claim_until > now and case.claimed_by != person.person_id
    return case.state == CaseState.OPEN and not taken and case.reserved_for in (None, person.person_id)


def _not_alone() -> Conflict:
    return Conflict("One of these is not to be decided by one person alone; leave it out.", code="not_alone")
