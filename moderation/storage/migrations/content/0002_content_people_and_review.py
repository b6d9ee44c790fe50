"""People and review

Revision ID: 0002_content
Revises: 0001_content

`cases` holds what waits for people, and is small: its indexes are made in place.

Rules: never break the release before this one (add, then use, then drop in a later release); no rewrite of a
large table; new columns are nullable or have a constant default; indexes on filled tables are created
concurrently in a revision of their own. Locks wait at most five seconds.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002_content"
down_revision = "0001_content"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "bundles",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bundles")),
    )
    op.create_table(
        "login_failures",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_login_failures")),
    )
    op.create_table(
        "reporters",
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("upheld", sa.Integer(), nullable=False),
        sa.Column("rejected", sa.Integer(), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("client", "digest", name=op.f("pk_reporters")),
    )
    op.create_table(
        "reports",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("reporter_digest", sa.LargeBinary(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("comment", sa.LargeBinary(), nullable=True),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.Column("case_id", sa.Uuid(), nullable=True),
        sa.Column("reported_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("settled_by", sa.Uuid(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reports")),
    )
    op.create_index(
        "ix_reports_settled_by",
        "reports",
        ["settled_by"],
        unique=False,
        postgresql_where=sa.text("settled_by IS NOT NULL"),
    )
    op.create_index("ix_reports_reporter_digest", "reports", ["reporter_digest"], unique=False)
    op.create_index("ix_reports_author_id", "reports", ["author_id"], unique=False)
    op.create_index("uq_reports_once", "reports", ["item_id", "reporter_digest"], unique=True)
    op.create_table(
        "sketches",
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("part", sa.Text(), nullable=False),
        sa.Column("band", sa.SmallInteger(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("item_id", "part", "band", name=op.f("pk_sketches")),
    )
    op.create_index("ix_sketches_key", "sketches", ["key", "item_id"], unique=False)
    op.create_table(
        "bundle_items",
        sa.Column("bundle_id", sa.Uuid(), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["bundle_id"], ["bundles.id"], name=op.f("fk_bundle_items_bundle_id")),
        sa.PrimaryKeyConstraint("bundle_id", "item_id", name=op.f("pk_bundle_items")),
    )
    op.create_index(op.f("ix_bundle_items_author_id"), "bundle_items", ["author_id"], unique=False)
    op.create_table(
        "exposures",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("case_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("severity", sa.SmallInteger(), nullable=False),
        sa.Column("category", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_exposures_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exposures")),
    )
    op.create_index("ix_exposures_recent", "exposures", ["person_id", "at"], unique=False)
    op.create_table(
        "golden_items",
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=True),
        sa.Column("added_by", sa.Uuid(), nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["added_by"], ["people.id"], name=op.f("fk_golden_items_added_by")),
        sa.PrimaryKeyConstraint("item_id", name=op.f("pk_golden_items")),
    )
    op.create_table(
        "invitations",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("email", sa.LargeBinary(), nullable=False),
        sa.Column("roles", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_invitations_person_id")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_invitations")),
        sa.UniqueConstraint("id", name=op.f("uq_invitations_id")),
    )
    op.create_table(
        "passkeys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("credential_digest", sa.LargeBinary(), nullable=False),
        sa.Column("credential", sa.LargeBinary(), nullable=False),
        sa.Column("sign_count", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_passkeys_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_passkeys")),
        sa.UniqueConstraint("credential_digest", name=op.f("uq_passkeys_credential_digest")),
    )
    op.create_index(op.f("ix_passkeys_person_id"), "passkeys", ["person_id"], unique=False)
    op.create_table(
        "person_sessions",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("challenge", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_person_sessions_person_id")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_person_sessions")),
        sa.UniqueConstraint("id", name=op.f("uq_person_sessions_id")),
    )
    op.create_index("ix_person_sessions_person_id", "person_sessions", ["person_id"], unique=False)
    op.create_table(
        "recovery_codes",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_recovery_codes_person_id")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_recovery_codes")),
    )
    op.create_index(op.f("ix_recovery_codes_person_id"), "recovery_codes", ["person_id"], unique=False)
    op.create_table(
        "saved_filters",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_saved_filters_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_saved_filters")),
    )
    op.create_index(op.f("ix_saved_filters_person_id"), "saved_filters", ["person_id"], unique=False)
    op.create_table(
        "account_actions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("decision_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("effective_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reversed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reversed_by", sa.Uuid(), nullable=True),
        sa.CheckConstraint("kind IN ('warn','strike','suspend','ban')", name=op.f("ck_account_actions_kind")),
        sa.ForeignKeyConstraint(
            ["decision_id"], ["decisions.id"], name=op.f("fk_account_actions_decision_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account_actions")),
    )
    op.create_index("ix_account_actions_author_id", "account_actions", ["author_id"], unique=False)
    op.create_index("ix_account_actions_decision_id", "account_actions", ["decision_id"], unique=False)
    op.create_table(
        "appeals",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("decision_id", sa.Uuid(), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("reporter_digest", sa.LargeBinary(), nullable=True),
        sa.Column("statement", sa.LargeBinary(), nullable=True),
        sa.Column("lodged_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deadline", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("outcome_id", sa.Uuid(), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("by IN ('author','reporter')", name=op.f("ck_appeals_by")),
        sa.CheckConstraint(
            "state IN ('open','upheld','reversed','withdrawn')", name=op.f("ck_appeals_state")
        ),
        sa.ForeignKeyConstraint(["decision_id"], ["decisions.id"], name=op.f("fk_appeals_decision_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_appeals")),
    )
    op.create_index("ix_appeals_item_id", "appeals", ["item_id"], unique=False)
    op.create_index("ix_appeals_author_id", "appeals", ["author_id"], unique=False)
    op.create_index(
        "ix_appeals_open", "appeals", ["deadline"], unique=False, postgresql_where=sa.text("state = 'open'")
    )
    op.create_index(
        "uq_appeals_once",
        "appeals",
        ["decision_id", "by", "reporter_digest"],
        unique=True,
        postgresql_nulls_not_distinct=True,
    )
    op.create_table(
        "case_notes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("case_id", sa.Uuid(), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("text", sa.LargeBinary(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name=op.f("fk_case_notes_case_id")),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_case_notes_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_case_notes")),
    )
    op.create_index("ix_case_notes_item_id", "case_notes", ["item_id"], unique=False)
    op.create_table(
        "case_skips",
        sa.Column("case_id", sa.Uuid(), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name=op.f("fk_case_skips_case_id")),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_case_skips_person_id")),
        sa.PrimaryKeyConstraint("case_id", "person_id", name=op.f("pk_case_skips")),
    )
    op.create_table(
        "opinions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("case_id", sa.Uuid(), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("form_key", sa.Uuid(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=True),
        sa.Column("clause", sa.Text(), nullable=True),
        sa.Column("restrictions", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("account_action", sa.Text(), nullable=True),
        sa.Column("account_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("score_shown", sa.Boolean(), nullable=False),
        sa.Column("late", sa.Boolean(), nullable=False),
        sa.Column("propensity", sa.Float(), nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("given_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("undone_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decision_id", sa.Uuid(), nullable=True),
        sa.Column("contested", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name=op.f("fk_opinions_case_id")),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_opinions_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_opinions")),
        sa.UniqueConstraint("form_key", name=op.f("uq_opinions_form_key")),
    )
    op.create_index("ix_opinions_case_id", "opinions", ["case_id"], unique=False)
    op.create_index("ix_opinions_item_id", "opinions", ["item_id"], unique=False)
    op.create_index("ix_opinions_person_id", "opinions", ["person_id", "given_at"], unique=False)
    op.add_column("cases", sa.Column("kind", sa.Text(), server_default=sa.text("'review'"), nullable=False))
    op.add_column("cases", sa.Column("queue", sa.Text(), server_default=sa.text("'other'"), nullable=False))
    op.add_column("cases", sa.Column("language", sa.Text(), nullable=True))
    op.add_column("cases", sa.Column("urgent", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("cases", sa.Column("blind", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("cases", sa.Column("propensity", sa.Float(), server_default=sa.text("1"), nullable=False))
    op.add_column("cases", sa.Column("stage", sa.Text(), server_default=sa.text("'review'"), nullable=False))
    op.add_column(
        "cases", sa.Column("opinions_wanted", sa.SmallInteger(), server_default=sa.text("1"), nullable=False)
    )
    op.add_column("cases", sa.Column("claimed_by", sa.Uuid(), nullable=True))
    op.add_column(
        "cases", sa.Column("claim_number", sa.Integer(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column("cases", sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("cases", sa.Column("claim_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("cases", sa.Column("reserved_for", sa.Uuid(), nullable=True))
    op.add_column("cases", sa.Column("appeal_id", sa.Uuid(), nullable=True))
    op.execute("UPDATE cases SET queue = category WHERE category IS NOT NULL")
    op.create_check_constraint("stage", "cases", "stage IN ('review','second','adjudication')")
    op.create_check_constraint("kind", "cases", "kind IN ('review','quality','appeal','golden')")
    op.drop_index(op.f("ix_cases_waiting"), table_name="cases", postgresql_where="(state = 'open'::text)")
    op.drop_index(op.f("uq_cases_open"), table_name="cases", postgresql_where="(state = 'open'::text)")
    op.create_index(
        "uq_cases_open",
        "cases",
        ["item_id", "kind"],
        unique=True,
        postgresql_where=sa.text("state = 'open' AND kind <> 'golden'"),
    )
    op.create_index("ix_cases_author_id", "cases", ["author_id"], unique=False)
    op.create_index(
        "ix_cases_claimed",
        "cases",
        ["claimed_by"],
        unique=False,
        postgresql_where=sa.text("state = 'open' AND claimed_by IS NOT NULL"),
    )
    op.create_index(
        "ix_cases_closed_at",
        "cases",
        ["closed_at"],
        unique=False,
        postgresql_where=sa.text("state = 'closed'"),
    )
    op.create_index(
        "ix_cases_harm",
        "cases",
        [sa.literal_column("priority DESC"), "id"],
        unique=False,
        postgresql_where=sa.text("state = 'open' AND NOT urgent"),
    )
    op.create_index("ix_cases_item_id", "cases", ["item_id"], unique=False)
    op.create_index(
        "ix_cases_oldest",
        "cases",
        ["opened_at"],
        unique=False,
        postgresql_where=sa.text("state = 'open' AND NOT urgent"),
    )
    op.create_index(
        "ix_cases_queue",
        "cases",
        ["queue", sa.literal_column("priority DESC"), "id"],
        unique=False,
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index(
        "ix_cases_urgent",
        "cases",
        ["deadline"],
        unique=False,
        postgresql_where=sa.text("state = 'open' AND urgent"),
    )
    op.create_index(
        "ix_cases_reserved",
        "cases",
        ["reserved_for"],
        unique=False,
        postgresql_where=sa.text("state = 'open' AND reserved_for IS NOT NULL"),
    )
    op.create_foreign_key(op.f("fk_cases_reserved_for"), "cases", "people", ["reserved_for"], ["id"])
    op.create_foreign_key(op.f("fk_cases_claimed_by"), "cases", "people", ["claimed_by"], ["id"])
    op.add_column(
        "decisions",
        sa.Column(
            "effective_at", sa.DateTime(timezone=True), server_default=sa.text("'epoch'"), nullable=False
        ),
    )
    op.add_column("decisions", sa.Column("undone_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("decisions", sa.Column("undo_id", sa.Uuid(), nullable=True))
    op.add_column("decisions", sa.Column("person_id", sa.Uuid(), nullable=True))
    op.add_column("decisions", sa.Column("case_id", sa.Uuid(), nullable=True))
    op.add_column("decisions", sa.Column("reverses", sa.Uuid(), nullable=True))
    op.add_column("decisions", sa.Column("clause", sa.Text(), nullable=True))
    op.add_column(
        "decisions",
        sa.Column("restrictions", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    )
    op.add_column("decisions", sa.Column("informed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "decisions", sa.Column("clock_before", postgresql.JSONB(astext_type=sa.Text()), nullable=True)
    )
    op.add_column(
        "decisions",
        sa.Column(
            "matches",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
    )
    op.create_index(
        "ix_decisions_superseded",
        "decisions",
        ["item_id"],
        unique=False,
        postgresql_where=sa.text("superseded_at IS NOT NULL"),
    )
    op.create_index(
        "ix_decisions_undo_id",
        "decisions",
        ["undo_id"],
        unique=False,
        postgresql_where=sa.text("undo_id IS NOT NULL"),
    )
    op.create_index(
        "ix_decisions_matched",
        "decisions",
        ["id"],
        unique=False,
        postgresql_where=sa.text("matches <> '[]'"),
    )
    op.create_foreign_key(op.f("fk_decisions_person_id"), "decisions", "people", ["person_id"], ["id"])
    op.add_column("outbox", sa.Column("undo_id", sa.Uuid(), nullable=True))
    op.create_index(
        "ix_outbox_undo_id",
        "outbox",
        ["undo_id"],
        unique=False,
        postgresql_where=sa.text("undo_id IS NOT NULL"),
    )
    op.create_index(
        "ix_outbox_told",
        "outbox",
        ["item_id"],
        unique=False,
        postgresql_where=sa.text("event = 'item.decided' AND delivered_at IS NOT NULL"),
    )
    op.add_column("people", sa.Column("name", sa.LargeBinary(), nullable=True))
    op.add_column(
        "people", sa.Column("totp_step", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column(
        "people", sa.Column("queues", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False)
    )
    op.add_column(
        "people", sa.Column("languages", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False)
    )
    op.add_column(
        "people", sa.Column("opt_outs", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False)
    )
    op.add_column(
        "people",
        sa.Column(
            "preferences",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
    )
    op.add_column("people", sa.Column("oidc_subject", sa.LargeBinary(), nullable=True))
    op.alter_column("people", "totp_secret", existing_type=postgresql.BYTEA(), nullable=True)
    op.create_unique_constraint(op.f("uq_people_oidc_subject"), "people", ["oidc_subject"])
