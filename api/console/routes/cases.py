"""The page of a case, and everything that is done there. Each act is a form that works without a script."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import JSONResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.auth import services
from api.console import forms, templating
from api.console.templating import render, see
from api.people import person
from api.problems import status_of
from api.services import Services
from moderation.domain import cases as rules
from moderation.domain.access import Permission, granted
from moderation.domain.cases import Stage
from moderation.domain.errors import (
    Conflict,
    Forbidden,
    Gone,
    InvalidInput,
    Refusal,
    StepUpRequired,
    TooManyRequests,
)
from moderation.domain.policy import Policy
from moderation.governance import bank_lists, people, sessions
from moderation.governance.sessions import PersonPrincipal
from moderation.review import casefile, cases, clusters, filters, listing, opinions, undoing, wellness
from moderation.review.cases import Filter
from moderation.review.opinions import Answer, Result
from moderation.review.views import CaseFile, CaseRow, ImageView
from moderation.storage.database import transaction
from moderation.storage.tables import Case, Decision

router = APIRouter(prefix="/console", include_in_schema=False)

RAIL = 40
COLLEAGUES_SECONDS = 60.0
Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.CASE_READ))]
Judge = Annotated[PersonPrincipal, Depends(person(Permission.CASE_DECIDE))]
Revealer = Annotated[PersonPrincipal, Depends(person(Permission.MEDIA_REVEAL))]
Number = Annotated[int, Form(ge=0)]
Query = Annotated[str, Form(max_length=1000)]
Text = Annotated[str, Form(max_length=10_000)]

SAID = {
    Result.SECOND: "Kept. Somebody else is asked for a second opinion.",
    Result.ADJUDICATION: "Kept. The opinions differ, so a lead settles it.",
    Result.CONFIRMED: "Kept.",
    Result.LATE: "Somebody else had that case by then; what you said is kept as a second opinion.",
    Result.REPEATED: "That was sent twice and counts once.",
    "escalated": "Escalated; a lead settles it.",
    "skipped": "Skipped.",
    "handed_over": "Handed over.",
    "noted": "The note is kept.",
    "banked": "Added to the bank. Until somebody verifies the entry, a match only asks people.",
    "not_the_same": "Noted: the entry does not mean this. It counts against the entry and its bank.",
    "not_the_same_doubted": "Noted: the entry does not mean this. Until it is verified again it only asks people.",
    "not_the_same_off": "Noted: the entry does not mean this. The entry is off now.",
    "undone": "Undone; nobody outside heard of it. The case is yours again.",
    "too_late": "That can't be undone any more; decide anew, or have it reversed.",
}
VERBS = {"allow": "Allowed", "limit": "Limited", "remove": "Removed"}
# After these the page comes back with the sentence and with what was written.
AGAIN = (InvalidInput, Conflict, Forbidden, Gone)


@router.get("/next")
def next_case(request: Request, held: Held, me: Judge) -> Response:
    """Take the next case in hand and go there."""
    return _onwards(held, me, filters.to_query(forms.filter_of(request.query_params)))


@router.get("/cases/{case_id}")
def case_page(request: Request, held: Held, me: Reader, case_id: UUID) -> Response:
    """The case; whoever may decide it takes it in hand by looking at it."""
    return _page(request, held, me, case_id, forms.filter_of(request.query_params))


@router.post("/cases/{case_id}/decide")
def decide(
    request: Request,
    held: Held,
    me: Judge,
    case_id: UUID,
    given: Annotated[forms.DecisionForm, Depends(forms.decision)],
    query: Query = "",
) -> Response:
    """A decision. Whatever becomes of it, it is stored before the next case is looked for."""
    now = datetime.now(UTC)
    try:
        with transaction(held.databases.content) as session:
            policy = held.policies.current(session)
            judged = given.given(score_shown=_shows_scores(session, case_id))
            answer = opinions.give(
                session, held.vault, policy, me, case_id, given.number, judged, now, _dice()
            )
    except AGAIN as refusal:
        return _again(request, held, me, case_id, query, refusal, given.kept())
    return _onwards(held, me, query, **_told(answer))


@router.post("/cases/{case_id}/escalate")
def escalate(
    request: Request, held: Held, me: Judge, case_id: UUID, number: Number, note: Text = "", query: Query = ""
) -> Response:
    """Leave the case to a lead."""
    try:
        with transaction(held.databases.content) as session:
            cases.escalate(session, held.vault, me, case_id, number, note, datetime.now(UTC))
    except AGAIN as refusal:
        return _again(request, held, me, case_id, query, refusal, {"note": note})
    return _onwards(held, me, query, said="escalated")


@router.post("/cases/{case_id}/skip")
def skip(
    request: Request,
    held: Held,
    me: Judge,
    case_id: UUID,
    number: Number,
    reason: Annotated[str, Form(max_length=64)] = "",
    query: Query = "",
) -> Response:
    """Pass the case on."""
    try:
        with transaction(held.databases.content) as session:
            cases.skip(session, me, case_id, number, reason or None, datetime.now(UTC))
    except AGAIN as refusal:
        return _again(request, held, me, case_id, query, refusal, {})
    return _onwards(held, me, query, said="skipped")


@router.post("/cases/{case_id}/hand-over")
def hand_over(
    request: Request,
    held: Held,
    me: Judge,
    case_id: UUID,
    number: Number,
    to: Annotated[UUID, Form()],
    note: Text = "",
    query: Query = "",
) -> Response:
    """Keep the case for somebody else."""
    try:
        with transaction(held.databases.content) as session:
            cases.hand_over(session, held.vault, me, case_id, number, to, note, datetime.now(UTC))
    except AGAIN as refusal:
        return _again(request, held, me, case_id, query, refusal, {"note": note})
    return _onwards(held, me, query, said="handed_over")


@router.post("/cases/{case_id}/notes")
def add_note(
    request: Request, held: Held, me: Judge, case_id: UUID, note: Text = "", query: Query = ""
) -> Response:
    """Write something down without deciding."""
    try:
        with transaction(held.databases.content) as session:
            cases.add_note(session, held.vault, me, case_id, note, datetime.now(UTC))
    except AGAIN as refusal:
        return _again(request, held, me, case_id, query, refusal, {"note": note})
    return see(f"/console/cases/{case_id}", said="noted", **_parsed(query))


@router.post("/cases/{case_id}/reveal")
def reveal(held: Held, me: Revealer, case_id: UUID, query: Query = "") -> Response:
    """Show the case's content as it is; what is grave asks for the second factor again."""
    now = datetime.now(UTC)
    here = f"/console/cases/{case_id}"
    with transaction(held.databases.content) as session:
        policy = held.policies.current(session)
        row = wellness.visible(session, me, case_id)
        try:
            if wellness.is_grave(policy, row.severity):
                sessions.require_fresh(me, now)
        except StepUpRequired:
            back = here + (f"?{query}" if query else "")
            return see(f"/console/second-factor?next={quote(back, safe='')}")
        wellness.reveal(session, policy, me, case_id, None, now)
    return see(here, **_parsed(query))


@router.post("/cases/{case_id}/heartbeat")
def heartbeat(held: Held, me: Judge, case_id: UUID, number: Number) -> Response:
    """A sign of life from a page that is being looked at."""
    try:
        with transaction(held.databases.content, durable=False) as session:
            policy = held.policies.current(session)
            until = cases.heartbeat(session, me, case_id, number, datetime.now(UTC), policy)
    except Conflict as lost:
        return JSONResponse({"lost": lost.detail}, status_code=409)
    return JSONResponse({"until": until.isoformat()})


@router.post("/cases/{case_id}/release")
def release(held: Held, me: Judge, case_id: UUID, number: Number) -> Response:
    """The page was left without a decision: somebody else may have the case."""
    with transaction(held.databases.content) as session:
        cases.release(session, me, case_id, number, datetime.now(UTC))
    return Response(status_code=204)


@router.post("/undo/{undo_id}")
def undo(held: Held, me: Judge, undo_id: UUID) -> Response:
    """Take a decision back, and go back to its case."""
    try:
        with transaction(held.databases.content) as session:
            policy = held.policies.current(session)
            reopened = undoing.undo(session, policy, me, undo_id, datetime.now(UTC))
    except Conflict:
        return _onwards(held, me, "", said="too_late")
    return see(f"/console/cases/{reopened[0]}" if reopened else "/console/queue", said="undone")


@router.get("/cases/{case_id}/cluster")
def cluster_page(request: Request, held: Held, me: Judge, case_id: UUID) -> Response:
    """A case and its near-duplicates, all of them in view."""
    return _cluster(request, held, me, case_id)


@router.post("/cases/{case_id}/cluster")
def decide_cluster(
    request: Request,
    held: Held,
    me: Judge,
    case_id: UUID,
    given: Annotated[forms.DecisionForm, Depends(forms.decision)],
    member: Annotated[list[UUID] | None, Form(max_length=100)] = None,
) -> Response:
    """One decision for those of them that were left ticked."""
    now = datetime.now(UTC)
    try:
        sessions.require_fresh(me, now)
    except StepUpRequired:
        return see("/console/second-factor", next=f"/console/cases/{case_id}/cluster")
    try:
        with transaction(held.databases.content) as session:
            policy = held.policies.current(session)
            judged = given.given(score_shown=_shows_scores(session, case_id))
            answer = opinions.give_cluster(
                session, held.vault, policy, me, case_id, given.number, member or [], judged, now
            )
    except AGAIN as refusal:
        return _cluster(request, held, me, case_id, given.kept(), refusal, member or [])
    return _onwards(held, me, "", **_told(answer))


@router.post("/cases/{case_id}/cluster/reveal")
def reveal_cluster(request: Request, held: Held, me: Revealer, case_id: UUID) -> Response:
    """Show a case and its near-duplicates as they are: a reveal of each, or of none."""
    now = datetime.now(UTC)
    try:
        sessions.require_fresh(me, now)
    except StepUpRequired:
        return see("/console/second-factor", next=f"/console/cases/{case_id}/cluster")
    try:
        with transaction(held.databases.content) as session:
            policy = held.policies.current(session)
            row = wellness.visible(session, me, case_id)
            near = listing.of_items(session, clusters.near(session, row.item_id), now)
            shown = opinions.together(session, me, [one.id for one in near], now)
            for one in (case_id, *sorted(shown)):
                wellness.reveal(session, policy, me, one, None, now)
    except TooManyRequests as refusal:
        return _cluster(request, held, me, case_id, refusal=refusal)
    return see(f"/console/cases/{case_id}/cluster")


def _again(
    request: Request,
    held: Services,
    me: PersonPrincipal,
    case_id: UUID,
    query: str,
    refusal: Refusal,
    kept: dict[str, object],
) -> Response:
    """The page of the case with why something was refused, and with what was written."""
    wanted, status = filters.from_query(query), status_of(refusal)
    return _page(request, held, me, case_id, wanted, kept=kept, fault=refusal.detail, status=status)


def _page(
    request: Request,
    held: Services,
    me: PersonPrincipal,
    case_id: UUID,
    wanted: Filter,
    *,
    kept: dict[str, object] | None = None,
    fault: str = "",
    status: int = 200,
) -> Response:
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        policy = held.policies.current(session)
        file, shown = _opened(session, held, policy, me, case_id, now)
        revealed = case_id in shown
        most = int(policy.review.exposure.reveals_a_day)
        rows = cases.listing(session, wanted, now, limit=RAIL, person_id=me.person_id)
        context: dict[str, Any] = {
            "rows": with_current(rows, file.case)[:RAIL],
            "more": len(rows) == RAIL,
            "views": filters.saved(session, me),
            "undo": _undoable(session, me, request.query_params.get("undo"), policy.review.undo_seconds, now),
            "reveals_left": max(0, most - len(shown)),
            "colleagues": _colleagues(request, session, held, me) if file.claim else [],
            "banks": bank_lists.names(session) if Permission.BANK_ADD in me.permissions else [],
        }
    if revealed or not file.forewarning.grave:
        file = held.marks.of(file)  # the transaction is over: the look is on the record, and nothing waits
    said = request.query_params.get("said", "")
    return render(
        request,
        "cases/case.html",
        status,
        file=file,
        query=filters.to_query(wanted),
        hidden=file.forewarning.grave and not revealed,
        revealed=revealed,
        pictures=any(isinstance(part, ImageView) and not part.gone for part in file.parts),
        kept=beforehand(file) | (kept or {}),
        fault=fault,
        note=SAID.get(said, ""),
        form_key=uuid4(),
        held=file.case.claimed_by not in (None, me.person_id),
        **context,
    )


def _opened(
    session: Session, held: Services, policy: Policy, me: PersonPrincipal, case_id: UUID, now: datetime
) -> tuple[CaseFile, set[UUID]]:
    """The case in hand if it can be, and for reading if not; and which cases the person has revealed today.

    The answer leaves after the commit, so that nobody has seen what the audit log doesn't know of.
    """
    try:
        if Permission.CASE_DECIDE in me.permissions:
            cases.claim(session, policy, me, case_id, now)
    except (Conflict, Forbidden):
        pass  # Then it is read; the page says why it can't be decided.
    file = casefile.load(session, held.vault, policy, me, case_id, now)
    wellness.opened(session, me, file.case, now)
    return file, wellness.revealed(session, me, now)


def beforehand(file: CaseFile) -> dict[str, object]:
    """What the form says before anybody touched it: the case's own rule, unless that would sway the judgement."""
    category = file.case.category if not file.blind and file.case.category in file.categories else None
    return {
        "category": category,
        "clause": "",  # the first of its category, unless another is chosen
        "restrictions": ["demote"],
        "measure": "",
        "until": "",
        "note": "",
    }


def with_current(rows: Sequence[CaseRow], case: CaseRow) -> list[CaseRow]:
    """The rows with the open case among them, at its own place: one that no list shows would give itself away."""
    if case.state != "open" or any(row.id == case.id for row in rows):
        return list(rows)

    def place(row: CaseRow) -> tuple[bool, float]:
        return (not row.urgent, row.deadline.timestamp() if row.urgent else -row.priority)

    return sorted([*rows, case], key=place)


def _cluster(
    request: Request,
    held: Services,
    me: PersonPrincipal,
    case_id: UUID,
    kept: dict[str, object] | None = None,
    refusal: Refusal | None = None,
    ticked: Sequence[UUID] | None = None,
) -> Response:
    now = datetime.now(UTC)
    try:
        sessions.require_fresh(me, now)
    except StepUpRequired:
        return see("/console/second-factor", next=f"/console/cases/{case_id}/cluster")
    with transaction(held.databases.content) as session:
        policy = held.policies.current(session)
        file, shown = _opened(session, held, policy, me, case_id, now)
        free = opinions.together(session, me, [case_id, *(row.id for row in file.cluster)], now)
        alike = [row.id for row in file.cluster if row.id in free] if case_id in free else []
        files = [file, *(casefile.load(session, held.vault, policy, me, one, now) for one in alike)]
        revealed = {one.case.id for one in files if one.case.id in shown}
        most = int(policy.review.exposure.reveals_a_day)
        reveals_left = max(0, most - len(shown))
    return render(
        request,
        "cases/cluster.html",
        status_of(refusal) if refusal else 200,
        file=file,
        files=files,
        revealed=revealed,
        kept_back=sum(_keeps_back(one) for one in files if one.case.id not in revealed),
        reveals_left=reveals_left,
        ticked=set(alike if ticked is None else ticked),
        kept=beforehand(file) | (kept or {}),
        fault=refusal.detail if refusal else "",
        form_key=uuid4(),
        query="",
    )


def _keeps_back(file: CaseFile) -> bool:
    """Whether something of a case is hidden or blurred until it is revealed."""
    pictures = any(isinstance(part, ImageView) and not part.gone for part in file.parts)
    return file.forewarning.grave or pictures


def _onwards(held: Services, me: PersonPrincipal, query: str, **told: object) -> Response:
    """To the next case, or to the queue if nothing is left."""
    wanted = filters.from_query(query)
    given = _parsed(query) | told
    with transaction(held.databases.content) as session:
        policy = held.policies.current(session)
        claim = cases.next_case(session, policy, me, wanted, _dice(), _dice(), datetime.now(UTC))
    return (
        see(f"/console/cases/{claim.case_id}", **given) if claim else see("/console/queue", empty=1, **given)
    )


def _told(answer: Answer) -> dict[str, object]:
    if answer.undo is not None:
        return {"undo": answer.undo.id}
    return {"said": answer.result}


def _undoable(
    session: Session, me: PersonPrincipal, undo_id: str | None, seconds: float, now: datetime
) -> dict[str, object] | None:
    """What the undo bar says, as long as there is something to undo."""
    try:
        identifier = UUID(undo_id or "")
    except ValueError:
        return None
    rows = session.scalars(
        select(Decision).where(
            Decision.undo_id == identifier,
            Decision.person_id == me.person_id,
            Decision.undone_at.is_(None),
            Decision.effective_at > now,
        )
    ).all()
    if not rows:
        return None
    first = rows[0]
    what = f"{len(rows)} posts {VERBS.get(first.route, first.route).lower()}" if len(rows) > 1 else None
    rule = f" as {templating.words(first.category)}" if first.category and first.route != "allow" else ""
    return {
        "id": identifier,
        "said": f"{what or VERBS.get(first.route, first.route)}{rule}.",
        "until": first.effective_at,
        "seconds": seconds,
        "left": max(0.0, (first.effective_at - now).total_seconds()),
    }


def _colleagues(
    request: Request, session: Session, held: Services, me: PersonPrincipal
) -> list[tuple[UUID, str]]:
    """Who could take a case over, by name; read once a minute, because each name has to be decrypted."""
    kept: tuple[float, list[tuple[UUID, str]]] | None = getattr(request.app.state, "colleagues", None)
    if kept is None or kept[0] < monotonic():
        names = [
            (one.id, one.name or one.email)
            for one in people.listing(session, held.vault)
            if one.disabled_at is None and Permission.CASE_DECIDE in granted(one.roles)
        ]
        kept = request.app.state.colleagues = (monotonic() + COLLEAGUES_SECONDS, names)
    return [one for one in kept[1] if one[0] != me.person_id]


def _shows_scores(session: Session, case_id: UUID) -> bool:
    case = session.get(Case, case_id)
    return case is not None and not rules.hides(case.blind, Stage(case.stage))


def _parsed(query: str) -> dict[str, object]:
    """Only what a filter knows: a form's field must not add anything else to an address."""
    return dict(parse_qsl(filters.to_query(filters.from_query(query))))


def _dice() -> float:
    return secrets.randbelow(1_000_000) / 1_000_000
