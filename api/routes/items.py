"""Items: submit one or many, ask for the verdict, list, delete."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from sqlalchemy.orm import Session

from api import bodies, problems, views
from api.auth import caller, services
from api.schemas import BatchOut, ItemIn, ItemOut, ItemsOut, Status
from api.services import Services
from moderation import metrics
from moderation.domain import content
from moderation.domain.content import ItemState, Lane
from moderation.domain.errors import InvalidInput, NotFound, Refusal
from moderation.governance import erasure, outbox
from moderation.governance.accounts import Principal, Scope
from moderation.governance.outbox import Notice
from moderation.pipeline import intake
from moderation.pipeline.intake import Accepted
from moderation.storage import items
from moderation.storage.database import transaction
from moderation.storage.tables import Item

router = APIRouter(prefix="/v1/items", tags=["items"])

Held = Annotated[Services, Depends(services)]
Writer = Annotated[Principal, Depends(caller(Scope.ITEMS_WRITE))]
Reader = Annotated[Principal, Depends(caller(Scope.ITEMS_READ))]
PAGE = 50


@router.post(
    "",
    status_code=202,
    response_model=ItemOut,
    response_model_exclude_none=True,
    responses={200: {"model": ItemOut, "description": "Accepted, and `wait` brought the outcome."}},
)
async def submit_item(
    request: Request,
    response: Response,
    held: Held,
    principal: Writer,
    idempotency_key: Annotated[str | None, Header(max_length=256)] = None,
    wait: Annotated[float, Query(ge=0, le=30, description="Seconds to hold the answer.")] = 0,
    lane: Annotated[Lane, Query(description="`bulk` for backfill.")] = Lane.LIVE,
) -> dict[str, Any]:
    """Submit a post.

    The same Idempotency-Key (or, without one, the same external_id) and body get the same answer; another
    body under the same key is refused with 409. To submit a new revision of a post, send a new
    Idempotency-Key with its external_id.
    """
    deadline = time.monotonic() + wait
    body, files = await bodies.item(request, held.settings.limits)
    accepted = await run_in_threadpool(_accept_one, held, principal, body, files, lane, idempotency_key)
    # The services are synchronous; only this wait is not, so that many callers need few threads.
    if wait:
        shown = await _await_outcome(held, principal, accepted.id, deadline)
    else:
        shown = await run_in_threadpool(_show, held, principal, accepted.id)
    if wait and _settled(shown):
        response.status_code = 200
    response.headers["Location"] = str(shown["status_url"])
    return shown


@router.post("/batch", status_code=202, response_model=BatchOut, response_model_exclude_none=True)
async def submit_batch(
    request: Request,
    held: Held,
    principal: Writer,
    lane: Annotated[Lane, Query(description="`bulk` for backfill.")] = Lane.LIVE,
) -> dict[str, Any]:
    """Submit up to 100 posts; each is accepted or refused on its own, and answered in order.

    The external_id of each is its idempotency key.
    """
    raw = await bodies.batch(request, held.settings.limits)
    return await run_in_threadpool(_accept_batch, held, principal, raw, lane)


@router.get("", response_model=ItemsOut, response_model_exclude_none=True)
def list_items(
    held: Held,
    principal: Reader,
    external_id: Annotated[str | None, Query(max_length=256)] = None,
    state: Annotated[Status | None, Query(description="Only items of this status.")] = None,
    cursor: Annotated[UUID | None, Query(description="`next` of the page before.")] = None,
) -> dict[str, Any]:
    """List items, newest first; with `external_id` every revision of one post."""
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        if external_id is None:
            rows = items.page(session, principal.client, state, cursor, PAGE + 1, now)
            shown = views.items(session, rows, now)
        else:
            content.checked_reference(external_id, "external_id")
            digest = intake.external_digest(held.vault, principal.client, external_id)
            rows = items.by_external(session, principal.client, digest)
            older = [row for row in rows if cursor is None or row.id < cursor]
            shown = [one for one in views.items(session, older, now) if _listed(one["status"], state)]
    following = shown[PAGE - 1]["id"] if len(shown) > PAGE else None
    return {"items": shown[:PAGE], "next": following}


@router.get("/{item_id}", response_model=ItemOut, response_model_exclude_none=True)
def get_item(item_id: UUID, held: Held, principal: Reader) -> dict[str, Any]:
    """The status of an item and, once there is one, its outcome."""
    return _show(held, principal, item_id)


@router.delete("/{item_id}", status_code=204)
def delete_item(item_id: UUID, held: Held, principal: Writer) -> None:
    """Say that the post is gone: every revision of it is hidden at once and no longer processed.

    Content is destroyed at once, or, where it was limited or removed, when it can no longer be appealed.
    """
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        item = _visible(session, principal, item_id, now)
        items.lock_posts(session, [item.external_digest])
        revisions = items.by_external(session, principal.client, item.external_digest, lock=True)
        live = [revision for revision in revisions if revision.state != ItemState.DELETED]
        policy = held.policies.current(session)
        erasure.mark_deleted(session, live, policy.retention, principal.actor, now)
        notices = [
            Notice(r.client, r.id, "item.deleted", {"item_id": str(r.id)}, r.callback_id) for r in live
        ]
        outbox.enqueue(session, notices, now)
        ids = [revision.id for revision in revisions]
    erasure.destroy(held.databases, held.vault, held.blobs, ids, now)


def _accept_one(
    held: Services,
    principal: Principal,
    body: ItemIn,
    files: Mapping[str, bytes],
    lane: Lane,
    key: str | None,
) -> Accepted:
    post = bodies.submission(body, files, lane, held.settings.limits)
    if key is not None:
        content.checked_reference(key, "Idempotency-Key")
    answer = _store(held, principal, [intake.Request(post, _key(key, post.external_id))])[0]
    if isinstance(answer, Refusal):
        raise answer
    return answer


def _key(header: str | None, external_id: str) -> str:
    # Kept apart, so that a header can't collide with somebody's external id.
    return f"key:{header}" if header is not None else f"external:{external_id}"


def _accept_batch(held: Services, principal: Principal, raw: Sequence[Any], lane: Lane) -> dict[str, Any]:
    refused: dict[int, dict[str, Any]] = {}
    requests: dict[int, intake.Request] = {}
    for index, one in enumerate(raw):
        try:
            post = bodies.submission(bodies.validated(one), {}, lane, held.settings.limits)
            requests[index] = intake.Request(post, _key(None, post.external_id))
        except RequestValidationError as error:
            refused[index] = problems.of_validation(list(error.errors()))
        except InvalidInput as error:
            refused[index] = problems.of_refusal(error)
    answers = dict(zip(requests, _store(held, principal, list(requests.values())), strict=True))
    results = []
    for index in range(len(raw)):
        answer = answers.get(index)
        if isinstance(answer, Accepted):
            results.append({"item": views.accepted(answer.id)})
        else:
            results.append({"problem": refused[index] if answer is None else problems.of_refusal(answer)})
    return {"results": results}


def _store(
    held: Services, principal: Principal, requests: Sequence[intake.Request]
) -> list[Accepted | Refusal]:
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        held.backlog.check(session, principal.client)
        policy = held.policies.current(session)
        answers = intake.accept(session, held.vault, held.blobs, policy, principal.client, requests, now)
    for request, answer in zip(requests, answers, strict=True):
        if isinstance(answer, Accepted) and answer.fresh:
            metrics.ITEMS.labels(principal.client, metrics.kind_label(request.submission.kind)).inc()
    return answers


def _show(held: Services, principal: Principal, item_id: UUID) -> dict[str, Any]:
    with transaction(held.databases.content) as session:
        now = datetime.now(UTC)
        return views.items(session, [_visible(session, principal, item_id, now)], now)[0]


def _visible(session: Session, principal: Principal, item_id: UUID, now: datetime) -> Item:
    item = items.of_client(session, principal.client, item_id)
    if item is None:
        raise NotFound("There is no such item.")
    if item.state == ItemState.DELETED:
        raise NotFound(f"This item is gone: {item.deleted_because}.", code="deleted")
    if erasure.hidden(session, item, now):
        raise NotFound(f"This item is gone: {erasure.EXPIRED}.", code="deleted")
    return item


def _listed(status: str, wanted: Status | None) -> bool:
    return status == wanted if wanted else status != "deleted"


def _settled(shown: dict[str, Any]) -> bool:
    return "verdict" in shown


async def _await_outcome(
    held: Services, principal: Principal, item_id: UUID, deadline: float
) -> dict[str, Any]:
    event = held.verdicts.subscribe(item_id)
    try:
        while True:
            event.clear()
            shown = await run_in_threadpool(_show, held, principal, item_id)
            left = deadline - time.monotonic()
            if _settled(shown) or left <= 0:
                return shown
            try:
                await asyncio.wait_for(event.wait(), min(left, held.verdicts.LOOK_AGAIN))
            except TimeoutError:
                continue
    finally:
        held.verdicts.unsubscribe(item_id, event)
