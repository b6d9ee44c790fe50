"""Text

Revision ID: 0004_content
Revises: 0003_content

Banks of terms, links and claims, the language of a part, bursts, suggested labels, proposals for models.

Rules: never break the release before this one (add, then use, then drop in a later release); no rewrite of a
large table; new columns are nullable or have a constant default; indexes on filled tables are created
concurrently in a revision of their own. Locks wait at most five seconds.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004_content"
down_revision = "0003_content"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _banks()
    _models()
    _suggestions()
    _signals()


def _banks() -> None:
    """Five kinds of banks; an entry that is there stays as it is."""
    op.add_column("banks", sa.Column("distance", sa.Double(), nullable=True))
    op.add_column("banks", sa.Column("version", sa.BigInteger(), server_default=sa.text("1"), nullable=False))
    op.drop_constraint(op.f("ck_banks_kind"), "banks")
    op.create_check_constraint("kind", "banks", "kind IN ('image','text','term','link','claim')")
    op.create_check_constraint("claim", "banks", "kind <> 'claim' OR action IN ('review','label')")
    op.create_check_constraint("distance", "banks", "distance BETWEEN 0 AND 1")
    for name in ("form", "category", "features_by"):
        op.add_column("bank_entries", sa.Column(name, sa.Text(), nullable=True))
    for name in ("value", "features"):
        op.add_column("bank_entries", sa.Column(name, sa.LargeBinary(), nullable=True))


def _models() -> None:
    """Versions added here, what kept one from serving, and proposals of two people."""
    op.add_column(
        "models", sa.Column("origin", sa.Text(), server_default=sa.text("'shipped'"), nullable=False)
    )
    op.create_check_constraint("origin", "models", "origin IN ('shipped','own')")
    op.add_column("model_aliases", sa.Column("trouble", sa.Text(), nullable=True))
    op.create_table(
        "model_proposals",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("gates", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("proposed_by", sa.Uuid(), nullable=False),
        sa.Column("proposed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by_operator", sa.Boolean(), nullable=False),
        sa.Column("decided_by", sa.Uuid(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.CheckConstraint("state IN ('open','promoted','refused')", name=op.f("ck_model_proposals_state")),
        sa.CheckConstraint(
            "(state = 'open') = (decided_by IS NULL)", name=op.f("ck_model_proposals_decided")
        ),
        sa.CheckConstraint(
            "state <> 'promoted' OR decided_by <> proposed_by", name=op.f("ck_model_proposals_four_eyes")
        ),
        sa.ForeignKeyConstraint(["decided_by"], ["people.id"], name=op.f("fk_model_proposals_decided_by")),
        sa.ForeignKeyConstraint(["proposed_by"], ["people.id"], name=op.f("fk_model_proposals_proposed_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_proposals")),
    )
    op.create_index(
        "uq_model_proposals_open",
        "model_proposals",
        ["name", "version", "alias"],
        unique=True,
        postgresql_where=sa.text("state = 'open'"),
    )


def _suggestions() -> None:
    """Suggested labels, for 30 days each."""
    op.create_table(
        "suggestions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("text", sa.LargeBinary(), nullable=False),
        sa.Column("scores", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("suggested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suggestions")),
    )
    op.create_index("ix_suggestions_expires_at", "suggestions", ["expires_at"], unique=False)
    op.create_index("ix_suggestions_author_id", "suggestions", ["author_id"], unique=False)


def _signals() -> None:
    """The language of a text, and what was said lately by whom."""
    op.add_column("parts", sa.Column("language", sa.Text(), nullable=True))
    op.create_table(
        "bursts",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", "author_id", name=op.f("pk_bursts")),
        prefixes=["UNLOGGED"],
    )
    op.create_index("ix_bursts_seen_at", "bursts", ["seen_at"], unique=False)
