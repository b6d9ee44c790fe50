"""Rights of data subjects, passed on by the content service that knows who they are; and notices of minors.

`{author}` is the service's own reference of the account, as in items; a slash in it may stand as it is.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from fastapi.responses import StreamingResponse

from api.auth import caller, services
from api.rights_schemas import MinorCheckOut, RequestIn, RequestOut, RequestsOut
from api.services import Services
from moderation.domain.subjects import MinorSource, Result
from moderation.governance import audit, exports, minors, restriction, subjects
from moderation.governance.accounts import Principal, Scope
from moderation.review import suspicion
from moderation.storage.database import transaction
from moderation.storage.tables import MinorCheck, SubjectRequest

router = APIRouter(prefix="/v1", tags=["subjects"])

Held = Annotated[Services, Depends(services)]
Caller = Annotated[Principal, Depends(caller(Scope.SUBJECTS_WRITE))]


@router.post(
    "/subjects/{author:path}/requests",
    status_code=201,
    response_model=RequestOut,
    response_model_exclude_none=True,
    responses={
        200: {"model": RequestOut, "description": "The same is asked for already; the request that is open."}
    },
)
def ask(author: str, body: RequestIn, response: Response, held: Held, principal: Caller) -> dict[str, Any]:
    """Pass on that somebody uses a right over what is held of them.

    With `identity_verified` the service does at once what it can do alone: an erasure is begun and everything
    hidden, a restriction stands, a copy is ready. The rest waits for an officer, until `due_at` at the latest; the
    webhook `subject_request.closed` tells the outcome. Of an account of which nothing is held the answer is
    `not_found`.
    """
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        asked = subjects.Asked(body.kind, body.identity_verified, body.details)
        policy = held.policies.current(session)
        row, fresh = subjects.ask(session, held.vault, policy, principal.client, author, asked, now)
        if not fresh:
            response.status_code = 200
        response.headers["Location"] = _address(author, row)
        return _shown(author, row, now)


@router.get("/subjects/{author:path}/requests", response_model=RequestsOut, response_model_exclude_none=True)
def list_requests(author: str, held: Held, principal: Caller) -> dict[str, Any]:
    """Every request of an author, newest first; none once nothing is held of them."""
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        rows = subjects.of_author(session, held.vault, principal.client, author)
        return {"requests": [_shown(author, row, now) for row in rows]}


@router.get(
    "/subjects/{author:path}/requests/{request_id}",
    response_model=RequestOut,
    response_model_exclude_none=True,
)
def get_request(author: str, request_id: UUID, held: Held, principal: Caller) -> dict[str, Any]:
    """One request, and how it ended; also after its author was erased."""
    with transaction(held.databases.content) as session:
        row = subjects.of_client(session, held.vault, principal.client, author, request_id)
        return _shown(author, row, datetime.now(UTC))


@router.get(
    "/subjects/{author:path}/requests/{request_id}/export",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/zip": {}}, "description": "`export.json`, and the pictures."}},
)
def get_export(author: str, request_id: UUID, held: Held, principal: Caller) -> StreamingResponse:
    """Everything that is held of an author, as it is now: made while it is sent, and stored nowhere.

    It can be fetched for a week after the request was answered. Who fetched it is in the audit log.
    """
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        row = subjects.of_client(session, held.vault, principal.client, author, request_id)
        found = subjects.known_author(session, held.vault, principal.client, author)
        subjects.exportable(row, found, now)
        event = audit.Event(principal.actor, "subject_request.exported", "subject_request", str(request_id))
        audit.record(session, [event], now)
    # Only now, with the event committed, is anything read.
    with transaction(held.databases.content) as session:
        copy = exports.make(session, held.vault, found, now)
    headers = {"Content-Disposition": f'attachment; filename="export-{request_id}.zip"'}
    return StreamingResponse(exports.archive(copy, held.blobs), headers=headers, media_type="application/zip")


@router.delete("/subjects/{author:path}/restriction", status_code=204)
def lift_restriction(author: str, held: Held, principal: Caller) -> Response:
    """End a restriction, which the author was told of before: from now on machines judge their posts again."""
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        found = subjects.known_author(session, held.vault, principal.client, author)
        restriction.lift(session, found, principal.actor, now)
    return Response(status_code=204)


@router.post(
    "/subjects/{author:path}/minor-notice",
    status_code=202,
    response_model=MinorCheckOut,
    response_model_exclude_none=True,
)
def notify_of_minor(author: str, held: Held, principal: Caller) -> dict[str, Any]:
    """Say that an account may be a minor's: treat it as suspended from now on, a person looks by `deadline`.

    The webhook `author.suspected_minor` tells whether they confirmed it, and then everything of it is erased.
    """
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        found = subjects.known_author(session, held.vault, principal.client, author)
        policy = held.policies.current(session)
        row = suspicion.of_author(session, policy, found, MinorSource.NOTICE, principal.actor, now)
        assert row is not None, "a notice always opens a check"
        return _check(row, author)


@router.get("/minor-checks/{check_id}", response_model=MinorCheckOut, response_model_exclude_none=True)
def get_minor_check(check_id: UUID, held: Held, principal: Caller) -> dict[str, Any]:
    """How the check of a suspected minor stands, and whose account it is."""
    with transaction(held.databases.content) as session:
        row = minors.one(session, check_id, principal.client)
        return _check(row, minors.reference_of(session, held.vault, row.author_id))


def _address(author: str, row: SubjectRequest) -> str:
    return f"/v1/subjects/{quote(author, safe='')}/requests/{row.id}"


def _shown(author: str, row: SubjectRequest, now: datetime) -> dict[str, Any]:
    ready = (
        row.outcome == Result.READY and row.closed_at is not None and now <= row.closed_at + subjects.FRESH
    )
    return {
        "id": str(row.id),
        "kind": row.kind,
        "state": row.state,
        "identity_verified": row.identity_verified,
        "received_at": row.received_at,
        "due_at": row.due_at,
        "outcome": row.outcome,
        "closed_at": row.closed_at,
        "erasure_id": str(row.erasure_id) if row.erasure_id else None,
        "export_url": f"{_address(author, row)}/export" if ready else None,
    }


def _check(row: MinorCheck, author: str | None) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "author": author,
        "state": row.state,
        "opened_at": row.opened_at,
        "deadline": row.deadline,
        "item_id": str(row.item_id) if row.item_id else None,
        "decided_at": row.decided_at,
        "erasure_id": str(row.erasure_id) if row.erasure_id else None,
    }
