"""Scores for clients of other services, which move over by changing an address: OpenAI's and Perspective's.

Nothing of what is scored is stored or logged. Only a suggestion is kept, because that is what it is for.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool

from api import bodies, compat_inputs, compat_schemas, compat_scores
from api.auth import caller, services
from api.compat_inputs import Span
from api.compat_schemas import AnalyzeIn, AnalyzeOut, ModerationOut, SuggestIn, SuggestOut
from api.services import Services
from moderation.domain.content import TextPart
from moderation.domain.errors import InvalidInput
from moderation.domain.policy import Policy
from moderation.features import language
from moderation.governance.accounts import Principal, Scope
from moderation.pipeline.scoring import Scored
from moderation.review import suggestions
from moderation.storage.database import transaction

router = APIRouter(prefix="/v1", tags=["scores"])
perspective = APIRouter(prefix="/v1alpha1", tags=["scores"])

Held = Annotated[Services, Depends(services)]
Scorer = Annotated[Principal, Depends(caller(Scope.MODERATIONS_SCORE))]


@router.post("/moderations", response_model=ModerationOut)
async def create_moderation(request: Request, held: Held, principal: Scorer) -> dict[str, Any]:
    """Score texts and pictures without submitting them, in the shape of OpenAI's moderation endpoint.

    The scores are ours: see the table in docs/compat.md. Nothing is stored.
    """
    limits = held.settings.limits
    sent = await bodies.document(request, limits, compat_schemas.MODERATION)
    posts = await run_in_threadpool(compat_inputs.posts, sent.input, limits)
    policy = await run_in_threadpool(_policy, held)
    answer = await held.scoring.score(posts, policy, datetime.now(UTC), principal.client)
    return {
        "id": f"modr-{uuid4().hex}",
        "model": answer.model,
        "results": [compat_scores.result(scored, policy) for scored in answer.scored],
    }


@perspective.post("/comments:analyze", response_model=AnalyzeOut, response_model_exclude_none=True)
async def analyze_comment(request: Request, held: Held, principal: Scorer) -> dict[str, Any]:
    """Score a comment without submitting it, in the shape of Perspective's `comments:analyze`.

    The scores are ours: see the table in docs/compat.md. Nothing is stored, whatever `doNotStore` says.
    """
    limits = held.settings.limits
    sent = await bodies.document(request, limits, compat_schemas.ANALYZE)
    text = compat_inputs.comment(sent.comment, limits)
    _check_attributes(sent.requested_attributes)
    asked = compat_inputs.primary(sent.languages or ())
    spans = compat_inputs.sentences(text) if sent.span_annotations else []
    pieces = [compat_inputs.whole(text), *spans]
    policy = await run_in_threadpool(_policy, held)
    posts = [(TextPart("comment", piece.text),) for piece in pieces]
    answer = await held.scoring.score(posts, policy, datetime.now(UTC), principal.client)
    spoken = [language for language in asked if language in answer.languages] or sorted(answer.languages)
    if asked and not set(asked) & answer.languages:
        raise InvalidInput(
            f"No quality is claimed in the requested languages; there is {', '.join(spoken)}. Without `languages` "
            "a comment is scored as it is.",
            code="language_not_supported_by_attribute",
        )
    return {
        "attribute_scores": _attributes(sent, pieces, answer.scored),
        "languages": spoken,
        "detected_languages": None if asked else await run_in_threadpool(_detected, text),
        "client_token": sent.client_token,
    }


@perspective.post("/comments:suggestscore", response_model=SuggestOut, response_model_exclude_none=True)
async def suggest_score(request: Request, held: Held, principal: Scorer) -> dict[str, Any]:
    """Say how a comment should have been scored, in the shape of Perspective's `comments:suggestscore`.

    The comment is kept, encrypted, for 30 days, under an author that stands for your service.
    """
    sent = await bodies.document(request, held.settings.limits, compat_schemas.SUGGEST)
    text = compat_inputs.comment(sent.comment, held.settings.limits)
    _check_attributes(sent.attribute_scores)
    if any(compat_scores.category(name) is None for name in sent.attribute_scores):
        raise InvalidInput(
            "SEVERE_TOXICITY is made of other scores; suggest TOXICITY, IDENTITY_ATTACK or THREAT.",
            code="unknown_attribute",
        )
    await run_in_threadpool(_keep, held, principal, text, sent)
    return {
        "requested_languages": sent.languages,
        "detected_languages": None if sent.languages else await run_in_threadpool(_detected, text),
        "client_token": sent.client_token,
    }


def _policy(held: Services) -> Policy:
    with transaction(held.databases.content) as session:
        return held.policies.current(session)


def _detected(text: str) -> list[str] | None:
    """The language a comment is in, where nobody said; nothing where it is too short to tell."""
    code = language.identify(text).code
    return None if code == language.UNDETERMINED else [code]


def _check_attributes(names: Collection[str]) -> None:
    if not names:
        raise InvalidInput("Name at least one attribute, such as TOXICITY.", code="no_requested_attributes")
    if not all(map(compat_scores.known_attribute, names)):
        offered = ", ".join(compat_scores.PERSPECTIVE)
        raise InvalidInput(
            f"An attribute that was named is not offered here; there are {offered}.", code="unknown_attribute"
        )


def _attributes(sent: AnalyzeIn, pieces: Sequence[Span], scored: Sequence[Scored]) -> dict[str, Any]:
    """The scores of each attribute, first of the whole comment; without those below their threshold."""
    shown: dict[str, Any] = {}
    for name, wanted in sent.requested_attributes.items():
        values = [compat_scores.attribute(one, name) for one in scored]
        if values[0] is None:
            raise InvalidInput(
                "No model that serves here looks for one of the attributes; leave it out.",
                code="unknown_attribute",
            )
        least = wanted.score_threshold or 0.0
        spans = [
            {"begin": piece.begin, "end": piece.end, "score": {"value": value}}
            for piece, value in list(zip(pieces, values, strict=True))[len(pieces) > 1 :]
            if value is not None and value >= least
        ]
        summary = {"value": values[0]} if values[0] >= least else None
        if summary or spans:
            shown[name] = {"summary_score": summary, "span_scores": spans or None}
    return shown


def _keep(held: Services, principal: Principal, text: str, sent: SuggestIn) -> None:
    named = {compat_scores.category(name): one for name, one in sent.attribute_scores.items()}
    scores = {category: one.summary_score.value for category, one in named.items() if category}
    with transaction(held.databases.content) as session:
        suggestions.keep(session, held.vault, principal.client, text, scores, datetime.now(UTC))
