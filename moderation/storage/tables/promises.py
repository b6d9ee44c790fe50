"""Promises and what is learned: certifications, certificates and their watch, rounds of learning."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Double, ForeignKey, Index, Integer, Text, UniqueConstraint, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped

from moderation.domain.retention import RecordClass
from moderation.storage.columns import columns
from moderation.storage.tables.base import Base, Moment

_duty = columns(RecordClass.GOVERNANCE, None)
_setup = columns(RecordClass.CONFIGURATION, None)


class Certification(Base):
    """One attempt to prove the promises of a policy: numbered in its term, for each spends some of the confidence.

    `document` says for every promise what was found: certified or not, the checks, what is still needed.
    """

    __tablename__ = "certifications"
    __table_args__ = (UniqueConstraint("term", "number"),)

    id: Mapped[UUID] = _duty(Uuid, primary_key=True)
    term: Mapped[str] = _duty(Text)  # a quarter, such as 2026-Q4
    number: Mapped[int] = _duty(Integer)  # in the term, from 1
    at: Mapped[datetime] = _duty(Moment)
    by: Mapped[str] = _duty(Text)
    cause: Mapped[str] = _duty(Text)  # `domain.promises.Occasion`
    policy_version: Mapped[int] = _duty(Integer, ForeignKey("policies.version"))
    level: Mapped[float] = _duty(Double)  # of the whole attempt, before it is divided over promises
    since: Mapped[datetime] = _duty(Moment)
    until: Mapped[datetime] = _duty(Moment)
    document: Mapped[dict[str, Any]] = _duty(JSONB)


class CertificateRow(Base):
    """That one rule keeps its promise: for a category, a side, a slice of languages, and exactly these models.

    Never changed but for its watch and its end. In force until `expires_at`, unless voided before or replaced by a
    newer one of the same promise; only while somebody watches it (`watched_at`).
    """

    __tablename__ = "certificates"
    __table_args__ = (
        Index("ix_certificates_live", "policy_version", postgresql_where=text("voided_at IS NULL")),
        CheckConstraint("side IN ('remove','allow')", name="side"),
        CheckConstraint("(voided_at IS NULL) = (void_reason IS NULL)", name="voided"),
    )

    id: Mapped[UUID] = _duty(Uuid, primary_key=True)
    certification_id: Mapped[UUID] = _duty(Uuid, ForeignKey("certifications.id"))
    policy_version: Mapped[int] = _duty(Integer, ForeignKey("policies.version"))
    category: Mapped[str] = _duty(Text)
    side: Mapped[str] = _duty(Text)
    slice: Mapped[str] = _duty(Text)  # a language, or * for all that are not named
    lineup: Mapped[str] = _duty(Text)  # `domain.promises.lineup`: which versions score the category
    threshold: Mapped[float] = _duty(Double)
    allowed: Mapped[float] = _duty(Double)  # the promise: this share of mistakes at most
    bound: Mapped[float] = _duty(Double)  # what was proved at `level`
    level: Mapped[float] = _duty(Double)  # the chance that the proof is wrong, after every division
    checks: Mapped[int] = _duty(Integer)
    mistakes: Mapped[int] = _duty(Integer)
    since: Mapped[datetime] = _duty(Moment)
    until: Mapped[datetime] = _duty(Moment)
    issued_at: Mapped[datetime] = _duty(Moment)
    expires_at: Mapped[datetime] = _duty(Moment)
    # Models with their manifests' and calibrations' digests, the manifest of the data, the curve, the reference.
    document: Mapped[dict[str, Any]] = _duty(JSONB)
    watch: Mapped[dict[str, Any]] = _duty(JSONB, server_default=text("'{}'"))
    watched_at: Mapped[datetime] = _duty(Moment)
    voided_at: Mapped[datetime | None] = _duty(Moment)
    void_reason: Mapped[str | None] = _duty(Text)  # `domain.promises.Void`


class LearningRound(Base):
    """One turn of the loop: labels out, a model fitted, judged, registered, watched in the shadow, proposed."""

    __tablename__ = "learning_rounds"
    __table_args__ = (
        CheckConstraint(
            "state IN ('exported','fitted','registered','shadowed','certified','proposed','ended')",
            name="state",
        ),
    )

    id: Mapped[UUID] = _setup(Uuid, primary_key=True)
    started_at: Mapped[datetime] = _setup(Moment)
    started_by: Mapped[str] = _setup(Text)
    client: Mapped[str | None] = _setup(Text)  # the content service whose own head is learned; None: for all
    state: Mapped[str] = _setup(Text)
    moved_at: Mapped[datetime] = _setup(Moment)
    bundle_id: Mapped[UUID | None] = _setup(Uuid, ForeignKey("bundles.id"))
    name: Mapped[str | None] = _setup(Text)
    version: Mapped[str | None] = _setup(Text)
    document: Mapped[dict[str, Any]] = _setup(
        JSONB, server_default=text("'{}'")
    )  # numbers of each step, no content
    trouble: Mapped[str | None] = _setup(Text)  # why it ended without a proposal
