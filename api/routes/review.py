"""The review API: everything that moderators do, for programs. The console is a client of the same services."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from api import hashed
from api.auth import services
from api.people import person
from api.review_schemas import (
    AnswerOut,
    BankedOut,
    BankIt,
    CasesIn,
    ClusterDecisionIn,
    EscalateIn,
    FilterIn,
    HandOverIn,
    HeldIn,
    NoteIn,
    OpinionIn,
    ReasonIn,
    ReopenedOut,
    ReversalOut,
    SavedFilterIn,
    SavedFilterOut,
    SkipIn,
    UntilOut,
)
from api.services import Services
from moderation.domain import content
from moderation.domain.access import Permission
from moderation.governance import bank_parts
from moderation.governance.sessions import PersonPrincipal, require_fresh
from moderation.review import casefile, cases, clusters, decisions, filters, listing, opinions, wellness
from moderation.review.opinions import Answer, Given
from moderation.review.views import CaseFile, CaseRow, Claim, QueueState
from moderation.storage.database import transaction
from moderation.storage.tables import SavedFilter

router = APIRouter(prefix="/v1/review", tags=["review"])

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.CASE_READ))]
Decider = Annotated[PersonPrincipal, Depends(person(Permission.CASE_DECIDE))]
Banker = Annotated[PersonPrincipal, Depends(person(Permission.BANK_ADD))]
Revealer = Annotated[PersonPrincipal, Depends(person(Permission.MEDIA_REVEAL))]
Reverser = Annotated[PersonPrincipal, Depends(person(Permission.DECISION_REVERSE))]
CaseId = Annotated[UUID, Path(description="A case's id.")]
_dice = random.SystemRandom().random  # nobody must foresee which case is golden


@router.get("/queues", response_model=list[QueueState])
def list_queues(held: Held, me: Reader) -> list[QueueState]:  # noqa: ARG001
    """Every queue in which something waits: how much, how old, how much of it past its deadline."""
    with transaction(held.databases.content) as session:
        return cases.queues(session, datetime.now(UTC))


@router.get("/cases", response_model=list[CaseRow])
def list_cases(held: Held, me: Reader, wanted: Annotated[CasesIn, Query()]) -> list[CaseRow]:
    """Open cases without their content, in the order in which they are taken."""
    with transaction(held.databases.content) as session:
        now = datetime.now(UTC)
        return cases.listing(
            session, wanted.wanted(), now, wanted.after, wanted.limit, person_id=me.person_id
        )


@router.post(
    "/next", response_model=Claim, responses={204: {"description": "Nothing waits that is for you."}}
)
def next_case(held: Held, me: Decider, wanted: FilterIn | None = None) -> Claim | Response:
    """Take the next case in hand: what you hold already, else by deadline, then by expected harm.

    The case is kept for you for some minutes (`claim_minutes` in the policy); send heartbeats while you look.
    """
    wanted = wanted or FilterIn()
    with transaction(held.databases.content) as session:
        policy = held.policies.current(session)
        found = cases.next_case(session, policy, me, wanted.wanted(), _dice(), _dice(), datetime.now(UTC))
    return found or Response(status_code=204)


@router.get("/cases/{case_id}", response_model=CaseFile)
def get_case(case_id: CaseId, held: Held, me: Reader) -> CaseFile:
    """A case with its content and all that is known of it; that you looked is recorded.

    Blind cases hide scores, marks and what others thought. Spans with a `weight` are the words that moved a score;
    they come if they are found within a second. What is grave comes without its texts (`kept_back`) until
    you reveal the case. Pictures are at `/console/media/{case_id}/{position}`, blurred unless you reveal them.
    """
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        file = casefile.load(session, held.vault, held.policies.current(session), me, case_id, now)
        shown = not file.forewarning.grave or wellness.is_revealed(session, me, case_id, now)
    return held.marks.of(file) if shown else casefile.kept_back(file)


@router.post("/cases/{case_id}/claim", response_model=Claim)
def claim_case(case_id: CaseId, held: Held, me: Decider) -> Claim:
    """Take a given case in hand."""
    with transaction(held.databases.content) as session:
        return cases.claim(session, held.policies.current(session), me, case_id, datetime.now(UTC))


@router.post("/cases/{case_id}/heartbeat", response_model=UntilOut)
def heartbeat(case_id: CaseId, body: HeldIn, held: Held, me: Decider) -> dict[str, datetime]:
    """Keep a case in hand; 409 `claim_lost` if somebody else has it by now."""
    with transaction(held.databases.content, durable=False) as session:
        policy = held.policies.current(session)
        until = cases.heartbeat(session, me, case_id, body.number, datetime.now(UTC), policy)
    return {"until": until}


@router.post("/cases/{case_id}/release", status_code=204)
def release_case(case_id: CaseId, body: HeldIn, held: Held, me: Decider) -> None:
    """Give a case back; once is enough, twice does no harm."""
    with transaction(held.databases.content) as session:
        cases.release(session, me, case_id, body.number, datetime.now(UTC))


@router.post("/cases/{case_id}/skip", status_code=204)
def skip_case(case_id: CaseId, body: SkipIn, held: Held, me: Decider) -> None:
    """Pass a case on for good. A reason is welcome and never asked; `distress` is stored nowhere."""
    with transaction(held.databases.content) as session:
        cases.skip(session, me, case_id, body.number, body.reason, datetime.now(UTC))


@router.post("/cases/{case_id}/escalate", status_code=204)
def escalate_case(case_id: CaseId, body: EscalateIn, held: Held, me: Decider) -> None:
    """Put a case before a lead, who settles it."""
    with transaction(held.databases.content) as session:
        cases.escalate(session, held.vault, me, case_id, body.number, body.note, datetime.now(UTC))


@router.post("/cases/{case_id}/hand-over", status_code=204)
def hand_over_case(case_id: CaseId, body: HandOverIn, held: Held, me: Decider) -> None:
    """Keep a case for somebody else; a lead can also take it out of others' hands."""
    with transaction(held.databases.content) as session:
        now = datetime.now(UTC)
        cases.hand_over(session, held.vault, me, case_id, body.number, body.to, body.note, now)


@router.post("/cases/{case_id}/notes", status_code=204)
def add_note(case_id: CaseId, body: NoteIn, held: Held, me: Decider) -> None:
    """Write something down of a case; it ends with the item."""
    with transaction(held.databases.content) as session:
        cases.add_note(session, held.vault, me, case_id, body.text, datetime.now(UTC))


@router.post("/cases/{case_id}/bank", status_code=201, response_model=BankedOut)
def bank_part(request: Request, case_id: CaseId, body: BankIt, held: Held, me: Banker) -> dict[str, Any]:
    """Add a part of a case's item to a bank, as an entry that nobody has verified yet.

    Of a picture hashes are kept, by which near copies are found as well. What matches only asks people until a lead
    has verified the entry.
    """
    with transaction(held.databases.content) as session:
        row = wellness.visible(session, me, case_id)
        added = bank_parts.add_part(
            session,
            held.vault,
            held.blobs,
            bank=body.bank,
            item_id=row.item_id,
            position=bank_parts.position_of(session, row.item_id, body.part),
            note=body.note,
            actor=me.actor,
            now=datetime.now(UTC),
            hashed=lambda data: hashed.kept(request, data),
        )
    return {"entry": str(added.id), "fresh": added.fresh}


@router.post("/cases/{case_id}/reveal", status_code=204)
def reveal_case(case_id: CaseId, held: Held, me: Revealer) -> None:
    """Say that you want to see a case's content as it is; it is recorded, and there is a cap a day.

    What is grave asks for a second factor given a short while ago.
    """
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        policy = held.policies.current(session)
        if wellness.is_grave(policy, wellness.visible(session, me, case_id).severity):
            require_fresh(me, now)
        wellness.reveal(session, policy, me, case_id, None, now)


@router.post("/cases/{case_id}/opinions", response_model=AnswerOut, response_model_exclude_none=True)
def give_opinion(case_id: CaseId, body: OpinionIn, held: Held, me: Decider) -> dict[str, Any]:
    """Judge a case you hold. It is never lost: one that comes too late is kept as a second opinion (`late`).

    `result` says what became of it. A decision is not in force, and nobody outside is told of it, before
    `undo.until`.
    """
    now = datetime.now(UTC)
    given = _given(body)
    with transaction(held.databases.content) as session:
        policy = held.policies.current(session)
        answer = opinions.give(session, held.vault, policy, me, case_id, body.number, given, now, _dice())
    return _answer(answer)


@router.get("/cases/{case_id}/near-duplicates", response_model=list[CaseRow])
def near_duplicates(case_id: CaseId, held: Held, me: Reader) -> list[CaseRow]:
    """Open cases whose items nearly equal this one's."""
    with transaction(held.databases.content) as session:
        row = wellness.visible(session, me, case_id)
        # What is judged blind must not be known by its company.
        near = [] if row.blind else clusters.near(session, row.item_id)
        return listing.of_items(session, near, datetime.now(UTC))


@router.post("/cases/{case_id}/cluster-decision", response_model=AnswerOut, response_model_exclude_none=True)
def decide_cluster(case_id: CaseId, body: ClusterDecisionIn, held: Held, me: Decider) -> dict[str, Any]:
    """Decide a case you hold and near duplicates of it alike, all or none, with one undo for all.

    Asks for a second factor given a short while ago.
    """
    now = datetime.now(UTC)
    require_fresh(me, now)
    given = _given(body)
    with transaction(held.databases.content) as session:
        policy = held.policies.current(session)
        answer = opinions.give_cluster(
            session, held.vault, policy, me, case_id, body.number, body.members, given, now
        )
    return _answer(answer)


@router.post("/undo/{undo_id}", response_model=ReopenedOut)
def undo(undo_id: UUID, held: Held, me: Decider) -> dict[str, list[UUID]]:
    """Take back what you just decided, without a trace outside; the cases are in your hands again."""
    with transaction(held.databases.content) as session:
        policy = held.policies.current(session)
        return {"cases": decisions.undo(session, policy, me, undo_id, datetime.now(UTC))}


@router.post("/decisions/{decision_id}/reverse", response_model=ReversalOut)
def reverse_decision(decision_id: UUID, body: ReasonIn, held: Held, me: Reverser) -> dict[str, str]:
    """Reverse a decision in force, with every restriction and measure it brought; at once."""
    with transaction(held.databases.content) as session:
        policy = held.policies.current(session)
        made = decisions.reverse(session, held.vault, policy, me, decision_id, datetime.now(UTC), body.note)
    return {"decision_id": str(made)}


@router.get("/filters", response_model=list[SavedFilterOut])
def list_filters(held: Held, me: Reader) -> list[dict[str, Any]]:
    """Your saved filters, and everybody's."""
    with transaction(held.databases.content) as session:
        return [_filter(row) for row in filters.saved(session, me)]


@router.post("/filters", status_code=201, response_model=SavedFilterOut)
def save_filter(body: SavedFilterIn, held: Held, me: Decider) -> dict[str, Any]:
    """Save a filter of the queue under a name."""
    with transaction(held.databases.content) as session:
        now = datetime.now(UTC)
        return _filter(filters.save(session, me, body.name, body.filter.wanted(), now, shared=body.shared))


@router.delete("/filters/{filter_id}", status_code=204)
def remove_filter(filter_id: UUID, held: Held, me: Decider) -> None:
    """Remove a saved filter."""
    with transaction(held.databases.content) as session:
        filters.remove(session, me, filter_id, datetime.now(UTC))


def _given(body: OpinionIn) -> Given:
    if body.until is not None:
        content.checked_moment(body.until, "until")
    return Given(body.form_key, body.judgement(), body.note, body.score_shown)


def _answer(answer: Answer) -> dict[str, Any]:
    undo = answer.undo
    return {
        "result": answer.result,
        "opinion_id": str(answer.opinion_id),
        "decision_id": str(answer.decision_id) if answer.decision_id else None,
        "undo": {"id": undo.id, "until": undo.until, "cases": list(undo.cases)} if undo else None,
    }


def _filter(row: SavedFilter) -> dict[str, Any]:
    return {"id": str(row.id), "name": row.name, "query": row.query, "shared": row.person_id is None}
