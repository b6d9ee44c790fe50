"""Search, and one item with everything that happened to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import promised
from api.auth import services
from api.console import inputs
from api.console.templating import render, see
from api.people import person
from api.services import Services
from moderation.domain import content
from moderation.domain.access import Permission
from moderation.domain.cases import CaseKind, CaseReason
from moderation.domain.content import ItemState
from moderation.domain.decisions import blind_draft
from moderation.domain.errors import Conflict, Gone, InvalidInput, NotFound
from moderation.domain.routing import Route
from moderation.domain.signals import Category
from moderation.governance import audit, erasure, sessions
from moderation.governance.sessions import PersonPrincipal
from moderation.review import cases, decisions, golden, history, measures, search, wellness
from moderation.review.history import ItemHistory
from moderation.review.search import Page
from moderation.storage.database import transaction
from moderation.storage.tables import Case, Decision, Item

router = APIRouter(prefix="/console/items", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.ITEM_READ))]
ContentReader = Annotated[PersonPrincipal, Depends(person(Permission.CASE_READ))]
Reverser = Annotated[PersonPrincipal, Depends(person(Permission.DECISION_REVERSE))]
Lead = Annotated[PersonPrincipal, Depends(person(Permission.QUALITY_MANAGE))]

SAID = {
    "reversed": "Reversed. What it restricted is free again, and the content service is being told.",
    "golden": "This item is golden now: the decision in force is the right answer others are asked for.",
    "opened": "A blind check is open; somebody who had no part in the decision will judge it.",
}
BLIND = "You are judging this item blind. Its history opens once you have given your opinion."


@router.get("")
def find(
    request: Request,
    held: Held,
    me: Reader,
    item: str = "",
    external_id: str = "",
    author: str = "",
    client: str = "",
    state: str = "",
    verdict: str = "",
    category: str = "",
    since: Annotated[str, Query(alias="from")] = "",
    until: Annotated[str, Query(alias="to")] = "",
    before: str = "",
) -> HTMLResponse:
    """Items by what is known of them, newest first."""
    given = {
        "item": item, "external_id": external_id, "author": author, "client": client, "state": state,
        "verdict": verdict, "category": category, "from": since, "to": until,
    }  # fmt: skip
    page, fault = Page(), ""
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        known = search.clients(session)
        try:
            page = search.items(session, held.vault, _query(given, before, known), now)
            # Of what somebody judges blind, an outcome must not be found by other ways.
            blind = history.judged_blind(session, me.person_id)
            page = replace(page, items=tuple(one for one in page.items if one.id not in blind))
        except InvalidInput as error:
            fault = error.detail
    return render(
        request,
        "items/search.html",
        422 if fault else 200,
        page=page,
        fault=fault,
        given=given,
        asked=any(given.values()),
        clients=known,
        states=list(ItemState),
        verdicts=list(Route),
        categories=list(Category),
        first=inputs.address("/console/items", given) if before else "",
        more=inputs.address("/console/items", given | {"before": page.next}) if page.next else "",
    )


def _query(given: Mapping[str, str], before: str, clients: list[str]) -> search.Query:
    """The query as services take it.

    Raises:
        InvalidInput: a field can't be read.
    """
    for name, what in (("external_id", "The external id"), ("author", "The author's reference")):
        if given[name]:
            content.checked_reference(given[name], what)
    since, until = inputs.day(given["from"], "From"), inputs.day(given["to"], "To", end=True)
    if since and until and since >= until:
        raise InvalidInput("From must not lie after to; exchange the two dates.")
    return search.Query(
        item=inputs.identifier(given["item"], "An item's id"),
        external_id=given["external_id"] or None,
        author=given["author"] or None,
        client=inputs.one_of(given["client"], "The content service", clients),
        state=inputs.one_of(given["state"], "The state", list(ItemState)),
        verdict=inputs.one_of(given["verdict"], "The verdict", list(Route)),
        category=inputs.one_of(given["category"], "The category", list(Category)),
        since=since,
        until=until,
        before=inputs.identifier(before, "The place to go on from"),
    )


@router.get("/{item_id}")
def show(request: Request, held: Held, principal: Reader, item_id: UUID, said: str = "") -> HTMLResponse:
    """An item's history, without its content."""
    return _page(request, held, principal, item_id, said)


@router.get("/{item_id}/content")
def show_content(request: Request, held: Held, principal: ContentReader, item_id: UUID) -> HTMLResponse:
    """The same page with the item's texts. That somebody looks is on record before they see anything."""
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        _refuse_blind(session, principal, item_id)
        if erasure.hidden(session, _item(session, item_id), now):
            raise Gone("The content of this item has ended. What the law keeps of it, the legal role reads.")
        _reveal_grave(session, held, principal, _item(session, item_id), now)
        audit.record(session, [audit.Event(principal.actor, "item.viewed", "item", str(item_id))], now)
    with transaction(held.databases.content) as session:
        texts = history.texts(session, held.vault, item_id)
    return _page(request, held, principal, item_id, "", texts)


def _page(
    request: Request,
    held: Services,
    principal: PersonPrincipal,
    item_id: UUID,
    said: str,
    texts: Mapping[int, str] | None = None,
) -> HTMLResponse:
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        _refuse_blind(session, principal, item_id)
        item = history.of_item(session, held.vault, item_id, now)
        event = audit.Event(principal.actor, "item.history_viewed", "item", str(item_id))
        audit.record(session, [event], now)
        made = item.decision
        promise = promised.sentence(made, promised.cited(session, [made])) if made else None
    return render(
        request,
        "items/show.html",
        item=item,
        promise=promise,
        texts=texts,
        reversible=_reversible(item, now),
        flash=SAID.get(said, ""),
    )


def _refuse_blind(session: Session, principal: PersonPrincipal, item_id: UUID) -> None:
    if history.judging_blind(session, item_id, principal.person_id):
        raise Conflict(BLIND, code="judging_blind")


def _reveal_grave(
    session: Session, held: Services, principal: PersonPrincipal, item: Item, now: datetime
) -> None:
    """What is grave is revealed here as on a case's page: after a second factor, on the record, under the cap."""
    policy = held.policies.current(session)
    gravest = session.scalars(
        select(Case)
        .where(Case.item_id == item.id, Case.kind != CaseKind.GOLDEN)
        .order_by(Case.severity.desc(), Case.id)
    ).first()
    decision = history.of_item(session, held.vault, item.id, now).decision
    rule = policy.categories.get(decision.category) if decision and decision.category else None
    severities = [gravest.severity if gravest else 0, rule.severity if rule else 0]
    if not wellness.is_grave(policy, max(severities)):
        return
    sessions.require_fresh(principal, now)
    if gravest is not None:
        wellness.reveal(session, policy, principal, gravest.id, None, now)


def _reversible(item: ItemHistory, now: datetime) -> Decision | None:
    """The decision in force, if there is something in it to reverse."""
    row = item.decision
    if row is None or row.superseded_at is not None or row.effective_at > now:
        return None
    return row if row.route in (Route.LIMIT, Route.REMOVE) or row.reverses else None


@router.get("/{item_id}/reverse")
def confirm_reversal(request: Request, held: Held, principal: Reverser, item_id: UUID) -> HTMLResponse:
    """What a reversal would do, before anything is done."""
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        item = history.of_item(session, held.vault, item_id, now)
        event = audit.Event(principal.actor, "item.history_viewed", "item", str(item_id))
        audit.record(session, [event], now)
        row = _reversible(item, now)
        if row is None:
            raise Conflict("There is nothing to reverse: no decision in force restricts this item.")
        taken = [one.kind for one in measures.of_decision(session, row.id) if one.reversed_at is None]
    return render(request, "items/reverse.html", item=item, decision=row, taken=taken)


@router.post("/{item_id}/reverse")
def reverse(
    held: Held,
    principal: Reverser,
    item_id: UUID,
    decision: Annotated[UUID, Form()],
    note: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    """Reverse a decision in force."""
    with transaction(held.databases.content) as session:
        row = session.get(Decision, decision)
        if row is None or row.item_id != item_id:
            raise NotFound("This item has no such decision; load its page again.")
        policy = held.policies.current(session)
        decisions.reverse(
            session, held.vault, policy, principal, decision, datetime.now(UTC), note.strip() or None
        )
    return see(f"/console/items/{item_id}", said="reversed")


@router.post("/{item_id}/golden")
def make_golden(held: Held, principal: Lead, item_id: UUID) -> Response:
    """Make the decision in force a right answer that others are asked for."""
    with transaction(held.databases.content) as session:
        golden.add(session, principal, item_id, datetime.now(UTC))
    return see(f"/console/items/{item_id}", said="golden")


@router.post("/{item_id}/case")
def open_case(held: Held, principal: Lead, item_id: UUID) -> Response:
    """Have somebody judge the item again, blind."""
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        item = _item(session, item_id)
        policy = held.policies.current(session)
        row = history.of_item(session, held.vault, item_id, now).decision
        if row is None or row.route == Route.REVIEW or item.state == ItemState.DELETED:
            raise Conflict("A blind check needs a decision in force and content that is still there.")
        draft = blind_draft(CaseReason.REQUESTED, policy, golden.top_category(session, item_id))
        case_id = cases.open_case(session, policy, item, row.id, draft, now)
        event = audit.Event(principal.actor, "case.asked_for", "case", str(case_id), {"item": str(item_id)})
        audit.record(session, [event], now)
    return see(f"/console/items/{item_id}", said="opened")


def _item(session: Session, item_id: UUID) -> Item:
    item = session.scalar(select(Item).where(Item.id == item_id))
    if item is None:
        raise NotFound("There is no item with this id.")
    return item
