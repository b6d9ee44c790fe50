"""Outcomes and the people who judge: decisions, cases, opinions, reports, appeals, and what trainers read."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Boolean,
    CheckConstraint,
    Double,
    Float,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped

from moderation.domain.retention import RecordClass
from moderation.storage.columns import Ciphertext, Digest, Pii, columns
from moderation.storage.tables.base import Base, Moment

_decision = columns(RecordClass.DECISION, "author_id")
_item = columns(RecordClass.ITEM, "author_id")
_report = columns(RecordClass.ITEM, "author_id")
_reporter = columns(RecordClass.REPORTER, "digest>authors.reference_digest")
_bundle = columns(RecordClass.CONFIGURATION, None)
_suggestion = columns(RecordClass.SUGGESTION, "author_id")
_member = columns(RecordClass.ITEM, "author_id")
_skip = columns(RecordClass.ACCOUNT, None)


class Decision(Base):
    """An append-only record of an outcome. Only `superseded_at`, `undone_at` and `informed_at` are set later.

    A decision is in force from `effective_at` until `superseded_at`. A person's takes effect when its undo
    window ends, so that the one before it stays in force until then.
    """

    __tablename__ = "decisions"
    __table_args__ = (
        Index(
            "uq_decisions_effective",
            "item_id",
            "policy_version",
            unique=True,
            postgresql_where=text("superseded_at IS NULL"),
        ),
        Index("ix_decisions_author_id", "author_id"),
        # What is in force is found by the index above, what was in force by this one; time by the id, a UUIDv7.
        Index("ix_decisions_superseded", "item_id", postgresql_where=text("superseded_at IS NOT NULL")),
        Index("ix_decisions_undo_id", "undo_id", postgresql_where=text("undo_id IS NOT NULL")),
        # What matched a bank, of which there is little: how banks do is asked without reading the rest.
        Index("ix_decisions_matched", "id", postgresql_where=text("matches <> '[]'")),
        # What restricts: of these statements of reasons are made, sent and counted.
        Index("ix_decisions_restrictive", "id", postgresql_where=text("route IN ('limit', 'remove')")),
    )

    id: Mapped[UUID] = _decision(Uuid, primary_key=True)
    item_id: Mapped[UUID] = _decision(Uuid, pii=Pii.PSEUDONYM)
    author_id: Mapped[UUID] = _decision(Uuid, pii=Pii.PSEUDONYM)
    client: Mapped[str] = _decision(Text)
    route: Mapped[str] = _decision(Text)
    category: Mapped[str | None] = _decision(Text)
    reasons: Mapped[list[str]] = _decision(JSONB)
    findings: Mapped[list[dict[str, Any]]] = _decision(JSONB)
    # The matches that counted: part, bank, entry, action, verified. Names and ids, as they were at the time.
    matches: Mapped[list[dict[str, Any]]] = _decision(JSONB, server_default=text("'[]'"))
    detectors: Mapped[list[dict[str, str]]] = _decision(JSONB)
    decided_by: Mapped[str] = _decision(Text)
    policy_version: Mapped[int] = _decision(Integer, ForeignKey("policies.version"))
    decided_at: Mapped[datetime] = _decision(Moment)
    supersedes: Mapped[UUID | None] = _decision(Uuid)
    superseded_at: Mapped[datetime | None] = _decision(Moment)
    effective_at: Mapped[datetime] = _decision(Moment, server_default=text("'epoch'"))
    undone_at: Mapped[datetime | None] = _decision(Moment)
    undo_id: Mapped[UUID | None] = _decision(Uuid)  # shared by what one act decided together
    person_id: Mapped[UUID | None] = _decision(Uuid, ForeignKey("people.id"), pii=Pii.PSEUDONYM)
    case_id: Mapped[UUID | None] = _decision(Uuid)
    reverses: Mapped[UUID | None] = _decision(Uuid)
    clause: Mapped[str | None] = _decision(Text)
    restrictions: Mapped[list[str]] = _decision(ARRAY(Text), server_default=text("'{}'"))
    informed_at: Mapped[datetime | None] = _decision(Moment)
    # What a statement of reasons says of the content, kept here because the content ends first.
    content_types: Mapped[list[str]] = _decision(ARRAY(Text), server_default=text("'{}'"))
    content_at: Mapped[datetime | None] = _decision(Moment)
    language: Mapped[str | None] = _decision(Text)
    source: Mapped[str | None] = _decision(Text)  # `domain.statements.Source`: how it was found
    # The item's retention clock as it was before: what an undo puts back, and what callers are shown until then.
    clock_before: Mapped[dict[str, Any] | None] = _decision(JSONB)
    # Of a machine's decision: which certificates it stands on, for which slice of languages, and from which stratum
    # of scores a check of it was drawn with which probability, whether it was drawn or not.
    certificates: Mapped[list[UUID]] = _decision(ARRAY(Uuid), server_default=text("'{}'"))
    slice: Mapped[str | None] = _decision(Text)
    stratum: Mapped[str | None] = _decision(Text)
    propensity: Mapped[float | None] = _decision(Double)


class AccountAction(Base):
    """What a decision does to an account: a warning, a strike, a suspension, a ban; until when; undone when."""

    __tablename__ = "account_actions"
    __table_args__ = (
        Index("ix_account_actions_author_id", "author_id"),
        Index("ix_account_actions_decision_id", "decision_id"),
        CheckConstraint("kind IN ('warn','strike','suspend','ban')", name="kind"),
    )

    id: Mapped[UUID] = _decision(Uuid, primary_key=True)
    author_id: Mapped[UUID] = _decision(Uuid, pii=Pii.PSEUDONYM)
    client: Mapped[str] = _decision(Text)
    decision_id: Mapped[UUID] = _decision(Uuid, ForeignKey("decisions.id"))
    kind: Mapped[str] = _decision(Text)
    effective_at: Mapped[datetime] = _decision(Moment)
    until: Mapped[datetime | None] = _decision(Moment)
    reversed_at: Mapped[datetime | None] = _decision(Moment)
    reversed_by: Mapped[UUID | None] = _decision(Uuid)


class Case(Base):
    """One item's stay before people, claimed by one of them at a time.

    `claim_number` is the fencing token: it rises with every claim, and only who holds the newest may decide.
    `propensity` is the probability with which this item was put before people: 1 unless it was drawn.
    """

    __tablename__ = "cases"
    __table_args__ = (
        Index(
            "uq_cases_open",
            "item_id",
            "kind",
            unique=True,
            postgresql_where=text("state = 'open' AND kind <> 'golden'"),
        ),
        # What the next case is looked for by: deadlines first, then expected harm, and now and then the oldest.
        Index("ix_cases_urgent", "deadline", postgresql_where=text("state = 'open' AND urgent")),
        Index(
            "ix_cases_harm",
            text("priority DESC"),
            "id",
            postgresql_where=text("state = 'open' AND NOT urgent"),
        ),
        Index("ix_cases_oldest", "opened_at", postgresql_where=text("state = 'open' AND NOT urgent")),
        Index(
            "ix_cases_queue", "queue", text("priority DESC"), "id", postgresql_where=text("state = 'open'")
        ),
        Index(
            "ix_cases_claimed",
            "claimed_by",
            postgresql_where=text("state = 'open' AND claimed_by IS NOT NULL"),
        ),
        Index(
            "ix_cases_reserved",
            "reserved_for",
            postgresql_where=text("state = 'open' AND reserved_for IS NOT NULL"),
        ),
        Index("ix_cases_item_id", "item_id"),
        Index("ix_cases_author_id", "author_id"),
        Index("ix_cases_closed_at", "closed_at", postgresql_where=text("state = 'closed'")),
        CheckConstraint("state IN ('open','closed')", name="state"),
        CheckConstraint("stage IN ('review','second','adjudication')", name="stage"),
        CheckConstraint("kind IN ('review','quality','appeal','golden')", name="kind"),
    )

    id: Mapped[UUID] = _decision(Uuid, primary_key=True)
    item_id: Mapped[UUID] = _decision(Uuid, pii=Pii.PSEUDONYM)
    author_id: Mapped[UUID] = _decision(Uuid, pii=Pii.PSEUDONYM)
    client: Mapped[str] = _decision(Text)
    decision_id: Mapped[UUID] = _decision(Uuid, ForeignKey("decisions.id"))
    kind: Mapped[str] = _decision(Text, server_default=text("'review'"))
    reason: Mapped[str] = _decision(Text)
    queue: Mapped[str] = _decision(Text, server_default=text("'other'"))
    category: Mapped[str | None] = _decision(Text)
    language: Mapped[str | None] = _decision(Text)
    severity: Mapped[int] = _decision(SmallInteger)
    priority: Mapped[float] = _decision(Float)
    deadline: Mapped[datetime] = _decision(Moment)
    urgent: Mapped[bool] = _decision(Boolean, server_default=text("false"))
    blind: Mapped[bool] = _decision(Boolean, server_default=text("false"))
    propensity: Mapped[float] = _decision(Float, server_default=text("1"))
    state: Mapped[str] = _decision(Text)
    stage: Mapped[str] = _decision(Text, server_default=text("'review'"))
    opinions_wanted: Mapped[int] = _decision(SmallInteger, server_default=text("1"))
    opened_at: Mapped[datetime] = _decision(Moment)
    closed_at: Mapped[datetime | None] = _decision(Moment)
    claimed_by: Mapped[UUID | None] = _decision(Uuid, ForeignKey("people.id"), pii=Pii.PSEUDONYM)
    claim_number: Mapped[int] = _decision(Integer, server_default=text("0"))
    claimed_at: Mapped[datetime | None] = _decision(Moment)
    claim_until: Mapped[datetime | None] = _decision(Moment)
    reserved_for: Mapped[UUID | None] = _decision(Uuid, ForeignKey("people.id"), pii=Pii.PSEUDONYM)
    appeal_id: Mapped[UUID | None] = _decision(Uuid)
    # What a search for new entries of a bank found in an item that people have or had, as decisions keep it.
    matches: Mapped[list[dict[str, Any]]] = _decision(JSONB, server_default=text("'[]'"))


class Opinion(Base):
    """What one person thought of a case. Opinions that agree, or an adjudicator's, become the decision."""

    __tablename__ = "opinions"
    __table_args__ = (
        Index("ix_opinions_case_id", "case_id"),
        Index("ix_opinions_item_id", "item_id"),
        Index("ix_opinions_person_id", "person_id", "given_at"),
    )

    id: Mapped[UUID] = _decision(Uuid, primary_key=True)
    case_id: Mapped[UUID] = _decision(Uuid, ForeignKey("cases.id"))
    item_id: Mapped[UUID] = _decision(Uuid, pii=Pii.PSEUDONYM)
    author_id: Mapped[UUID] = _decision(Uuid, pii=Pii.PSEUDONYM)
    person_id: Mapped[UUID] = _decision(Uuid, ForeignKey("people.id"), pii=Pii.PSEUDONYM)
    form_key: Mapped[UUID] = _decision(
        Uuid, unique=True
    )  # of the form it came by: sent twice, it counts once
    stage: Mapped[str] = _decision(Text)  # of the case when it was given
    verdict: Mapped[str] = _decision(Text)
    category: Mapped[str | None] = _decision(Text)
    clause: Mapped[str | None] = _decision(Text)
    restrictions: Mapped[list[str]] = _decision(ARRAY(Text), server_default=text("'{}'"))
    account_action: Mapped[str | None] = _decision(Text)
    account_until: Mapped[datetime | None] = _decision(Moment)
    score_shown: Mapped[bool] = _decision(Boolean)
    late: Mapped[bool] = _decision(Boolean)
    propensity: Mapped[float] = _decision(Float)
    policy_version: Mapped[int] = _decision(Integer)
    given_at: Mapped[datetime] = _decision(Moment)
    undone_at: Mapped[datetime | None] = _decision(Moment)
    decision_id: Mapped[UUID | None] = _decision(Uuid)  # the decision it led to, if any
    contested: Mapped[str | None] = _decision(Text)  # of a golden item: open, upheld or withdrawn


class CaseNote(Base):
    """What somebody wrote down of a case, under the item's key; it ends with the item."""

    __tablename__ = "case_notes"
    __table_args__ = (Index("ix_case_notes_item_id", "item_id"),)

    id: Mapped[UUID] = _item(Uuid, primary_key=True)
    case_id: Mapped[UUID] = _item(Uuid, ForeignKey("cases.id"))
    item_id: Mapped[UUID] = _item(Uuid, pii=Pii.PSEUDONYM)
    author_id: Mapped[UUID] = _item(Uuid, pii=Pii.PSEUDONYM)
    person_id: Mapped[UUID] = _item(Uuid, ForeignKey("people.id"), pii=Pii.PSEUDONYM)
    kind: Mapped[str] = _item(Text)  # note, escalation, hand_over, contest
    text: Mapped[bytes | None] = _item(Ciphertext, pii=Pii.CONTENT)
    at: Mapped[datetime] = _item(Moment)


class CaseSkip(Base):
    """A case that a person passed on, and does not get again. A skip for distress keeps no reason at all."""

    __tablename__ = "case_skips"

    case_id: Mapped[UUID] = _skip(Uuid, ForeignKey("cases.id"), primary_key=True)
    person_id: Mapped[UUID] = _skip(Uuid, ForeignKey("people.id"), primary_key=True, pii=Pii.PSEUDONYM)
    reason: Mapped[str | None] = _skip(Text)
    at: Mapped[datetime] = _skip(Moment)


class GoldenItem(Base):
    """An item whose right answer a lead has set, to be asked again of others who can't tell it from the rest."""

    __tablename__ = "golden_items"

    item_id: Mapped[UUID] = _item(Uuid, primary_key=True, pii=Pii.PSEUDONYM)
    author_id: Mapped[UUID] = _item(Uuid, pii=Pii.PSEUDONYM)
    verdict: Mapped[str] = _item(Text)
    category: Mapped[str | None] = _item(Text)
    added_by: Mapped[UUID] = _item(Uuid, ForeignKey("people.id"), pii=Pii.PSEUDONYM)
    added_at: Mapped[datetime] = _item(Moment)
    retired_at: Mapped[datetime | None] = _item(Moment)


class Report(Base):
    """A user of the content service says that an item breaks a rule."""

    __tablename__ = "reports"
    __table_args__ = (
        Index("uq_reports_once", "item_id", "reporter_digest", unique=True),
        Index("ix_reports_reporter_digest", "reporter_digest"),
        Index("ix_reports_author_id", "author_id"),
        Index("ix_reports_settled_by", "settled_by", postgresql_where=text("settled_by IS NOT NULL")),
    )

    id: Mapped[UUID] = _report(Uuid, primary_key=True)
    item_id: Mapped[UUID] = _report(Uuid, pii=Pii.PSEUDONYM)
    author_id: Mapped[UUID] = _report(Uuid, pii=Pii.PSEUDONYM)
    client: Mapped[str] = _report(Text)
    reporter_digest: Mapped[bytes] = _report(Digest, pii=Pii.DIGEST)
    category: Mapped[str] = _report(Text)
    comment: Mapped[bytes | None] = _report(Ciphertext, pii=Pii.CONTENT)  # under the item's key
    weight: Mapped[float] = _report(Float)
    case_id: Mapped[UUID | None] = _report(Uuid)
    reported_at: Mapped[datetime] = _report(Moment)
    outcome: Mapped[str | None] = _report(Text)  # upheld or rejected, once somebody decided
    settled_by: Mapped[UUID | None] = _report(Uuid)  # the decision that said so


class Reporter(Base):
    """How often somebody's reports were right: what their next one weighs."""

    __tablename__ = "reporters"

    client: Mapped[str] = _reporter(Text, primary_key=True)
    digest: Mapped[bytes] = _reporter(Digest, primary_key=True, pii=Pii.DIGEST)
    upheld: Mapped[int] = _reporter(Integer)
    rejected: Mapped[int] = _reporter(Integer)
    last_at: Mapped[datetime] = _reporter(Moment)


class Appeal(Base):
    """Somebody asks that a decision be looked at again, by a person who had no part in it."""

    __tablename__ = "appeals"
    __table_args__ = (
        Index(
            "uq_appeals_once",
            "decision_id",
            "by",
            "reporter_digest",
            unique=True,
            postgresql_nulls_not_distinct=True,
        ),
        Index("ix_appeals_item_id", "item_id"),
        Index("ix_appeals_author_id", "author_id"),
        Index("ix_appeals_open", "deadline", postgresql_where=text("state = 'open'")),
        CheckConstraint("state IN ('open','upheld','reversed','withdrawn')", name="state"),
        CheckConstraint("by IN ('author','reporter')", name="by"),
    )

    id: Mapped[UUID] = _decision(Uuid, primary_key=True)
    decision_id: Mapped[UUID] = _decision(Uuid, ForeignKey("decisions.id"))
    item_id: Mapped[UUID] = _decision(Uuid, pii=Pii.PSEUDONYM)
    author_id: Mapped[UUID] = _decision(Uuid, pii=Pii.PSEUDONYM)
    client: Mapped[str] = _decision(Text)
    by: Mapped[str] = _decision(Text)
    reporter_digest: Mapped[bytes | None] = _decision(Digest, pii=Pii.DIGEST)
    statement: Mapped[bytes | None] = _decision(Ciphertext, pii=Pii.CONTENT)  # under the author's key
    lodged_at: Mapped[datetime] = _decision(Moment)
    deadline: Mapped[datetime] = _decision(Moment)
    state: Mapped[str] = _decision(Text)
    outcome_id: Mapped[UUID | None] = _decision(Uuid)  # the decision that answered it
    closed_at: Mapped[datetime | None] = _decision(Moment)


class Suggestion(Base):
    """What a content service says a text should have scored, under an author of the service's own."""

    __tablename__ = "suggestions"
    __table_args__ = (
        Index("ix_suggestions_expires_at", "expires_at"),
        Index("ix_suggestions_author_id", "author_id"),
    )

    id: Mapped[UUID] = _suggestion(Uuid, primary_key=True, pii=Pii.PSEUDONYM)
    author_id: Mapped[UUID] = _suggestion(Uuid, pii=Pii.PSEUDONYM)
    client: Mapped[str] = _suggestion(Text)
    text: Mapped[bytes] = _suggestion(Ciphertext, pii=Pii.CONTENT)  # under a key of its own
    scores: Mapped[dict[str, float]] = _suggestion(JSONB)
    suggested_at: Mapped[datetime] = _suggestion(Moment)
    expires_at: Mapped[datetime] = _suggestion(Moment)


class Bundle(Base):
    """Labels handed to a trainer: sealed under a key of its own, registered, and ended by a date."""

    __tablename__ = "bundles"

    id: Mapped[UUID] = _bundle(Uuid, primary_key=True)
    created_at: Mapped[datetime] = _bundle(Moment)
    created_by: Mapped[str] = _bundle(Text)
    rows: Mapped[int] = _bundle(Integer)
    sha256: Mapped[str] = _bundle(Text)
    key: Mapped[bytes | None] = _bundle(Ciphertext)  # under the service's own key, until the bundle ends
    expires_at: Mapped[datetime] = _bundle(Moment)
    ended_at: Mapped[datetime | None] = _bundle(Moment)
    # Where its files were written, so that they can be written again; and since when copies hold erased rows.
    path: Mapped[str | None] = _bundle(Text)
    key_path: Mapped[str | None] = _bundle(Text)
    erased: Mapped[int] = _bundle(Integer, server_default=text("0"))
    tainted_at: Mapped[datetime | None] = _bundle(Moment)
    # Rows that were taken out for somebody's sake, and the first of them when, wherever its file is; what only came
    # to its end is not counted.
    withdrawn: Mapped[int] = _bundle(Integer, server_default=text("0"))
    withdrawn_at: Mapped[datetime | None] = _bundle(Moment)


class BundleItem(Base):
    """Which items a bundle holds, so that an erasure knows what to write again."""

    __tablename__ = "bundle_items"

    bundle_id: Mapped[UUID] = _member(Uuid, ForeignKey("bundles.id"), primary_key=True)
    item_id: Mapped[UUID] = _member(Uuid, primary_key=True, pii=Pii.PSEUDONYM)
    author_id: Mapped[UUID] = _member(Uuid, index=True, pii=Pii.PSEUDONYM)
