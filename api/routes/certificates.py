"""Promises and certificates for programs of people: how each promise stands, and what a certificate says."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends

from api import promised
from api.auth import services
from api.certificate_schemas import CertificateOut, PromiseOut
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.governance import certificate_lists
from moderation.governance.certificate_lists import CertificateView, PromiseView
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.database import transaction

router = APIRouter(prefix="/v1/certificates", tags=["certificates"])

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.POLICY_READ))]


@router.get("", response_model=list[PromiseOut])
def list_promises(held: Held, me: Reader) -> list[dict[str, Any]]:  # noqa: ARG001
    """Every promise of the policy in force, with the certificate that keeps it or why there is none."""
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        policy = held.policies.current(session, now)
        return [_promise(one) for one in certificate_lists.listing(session, policy, now)]


@router.get("/{certificate_id}", response_model=CertificateOut)
def show_certificate(held: Held, me: Reader, certificate_id: UUID) -> dict[str, Any]:  # noqa: ARG001
    """One certificate, as `certificates` of an item or a decision names it; also one that ended."""
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        policy = held.policies.current(session, now)
        return _certificate(certificate_lists.one(session, policy, certificate_id, now))


def _promise(one: PromiseView) -> dict[str, Any]:
    names = ("category", "side", "slice", "lineup", "allowed", "certificate", "why", "threshold", "bound",
             "checks", "mistakes", "needed", "expires_at")  # fmt: skip
    return {name: getattr(one, name) for name in names} | {
        "promise": promised.in_words(one.category, one.side, one.allowed),
        "certified": one.certificate is not None,
        "automated": one.share,
    }


def _certificate(one: CertificateView) -> dict[str, Any]:
    names = ("id", "state", "category", "side", "slice", "lineup", "policy_version", "allowed", "bound",
             "threshold", "checks", "mistakes", "confidence", "level", "since", "until", "issued_at", "expires_at",
             "watched_at", "voided_at", "void_reason")  # fmt: skip
    return {name: getattr(one, name) for name in names} | {
        "promise": promised.in_words(one.category, one.side, one.allowed),
        "automated": one.share,
        "models": one.document["models"],
        "data_sha256": one.document["data"]["sha256"],
        "curve": [asdict(point) for point in one.curve],
    }
