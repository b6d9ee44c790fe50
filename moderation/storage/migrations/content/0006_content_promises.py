"""Promises and the learning loop

Revision ID: 0006_content
Revises: 0005_content

Certifications and certificates, what decisions stand on, shadows and canaries, the lineage of models, learning.

Rules: never break the release before this one (add, then use, then drop in a later release); no rewrite of a
large table; new columns are nullable or have a constant default; indexes on filled tables are created
concurrently in a revision of their own. Locks wait at most five seconds.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006_content"
down_revision = "0005_content"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _decisions()
    _models()
    _certificates()
    _learning()


def _decisions() -> None:
    """What a machine's decision stands on, and from which stratum a check of it was drawn."""
    uuids = postgresql.ARRAY(sa.Uuid())
    op.add_column(
        "decisions", sa.Column("certificates", uuids, server_default=sa.text("'{}'"), nullable=False)
    )
    op.add_column("decisions", sa.Column("slice", sa.Text(), nullable=True))
    op.add_column("decisions", sa.Column("stratum", sa.Text(), nullable=True))
    op.add_column("decisions", sa.Column("propensity", sa.Double(), nullable=True))
    op.add_column(
        "signals", sa.Column("shadow", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )


def _models() -> None:
    """Canaries' shares; what models learned from, and what of it was erased since."""
    op.add_column("model_aliases", sa.Column("share", sa.Double(), nullable=True))
    op.add_column("model_proposals", sa.Column("share", sa.Double(), nullable=True))
    uuids = postgresql.ARRAY(sa.Uuid())
    op.add_column("models", sa.Column("bundles", uuids, server_default=sa.text("'{}'"), nullable=False))
    op.add_column("models", sa.Column("erased", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("models", sa.Column("tainted_at", MOMENT, nullable=True))
    op.add_column("models", sa.Column("retired_at", MOMENT, nullable=True))
    op.add_column(
        "models", sa.Column("outputs", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False)
    )
    op.add_column(
        "bundles", sa.Column("withdrawn", sa.Integer(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column("bundles", sa.Column("withdrawn_at", MOMENT, nullable=True))


def _certificates() -> None:
    op.create_table(
        "certifications",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("term", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("level", sa.Double(), nullable=False),
        sa.Column("since", MOMENT, nullable=False),
        sa.Column("until", MOMENT, nullable=False),
        sa.Column("document", postgresql.JSONB(), nullable=False),
        sa.ForeignKeyConstraint(
            ["policy_version"], ["policies.version"], name=op.f("fk_certifications_policy_version")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_certifications")),
        sa.UniqueConstraint("term", "number", name=op.f("uq_certifications_term_number")),
    )
    op.create_table(
        "certificates",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("certification_id", sa.Uuid(), nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("slice", sa.Text(), nullable=False),
        sa.Column("lineup", sa.Text(), nullable=False),
        *(
            sa.Column(name, sa.Double(), nullable=False)
            for name in ("threshold", "allowed", "bound", "level")
        ),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("checks", "mistakes")),
        *(sa.Column(name, MOMENT, nullable=False) for name in ("since", "until", "issued_at", "expires_at")),
        sa.Column("document", postgresql.JSONB(), nullable=False),
        sa.Column("watch", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("watched_at", MOMENT, nullable=False),
        sa.Column("voided_at", MOMENT, nullable=True),
        sa.Column("void_reason", sa.Text(), nullable=True),
        sa.CheckConstraint("side IN ('remove','allow')", name=op.f("ck_certificates_side")),
        sa.CheckConstraint(
            "(voided_at IS NULL) = (void_reason IS NULL)", name=op.f("ck_certificates_voided")
        ),
        sa.ForeignKeyConstraint(
            ["certification_id"], ["certifications.id"], name=op.f("fk_certificates_certification_id")
        ),
        sa.ForeignKeyConstraint(
            ["policy_version"], ["policies.version"], name=op.f("fk_certificates_policy_version")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_certificates")),
    )
    op.create_index(
        "ix_certificates_live",
        "certificates",
        ["policy_version"],
        unique=False,
        postgresql_where=sa.text("voided_at IS NULL"),
    )


def _learning() -> None:
    op.create_table(
        "learning_rounds",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("started_by", sa.Text(), nullable=False),
        sa.Column("client", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("moved_at", MOMENT, nullable=False),
        sa.Column("bundle_id", sa.Uuid(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("document", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("trouble", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('exported','fitted','registered','shadowed','certified','proposed','ended')",
            name=op.f("ck_learning_rounds_state"),
        ),
        sa.ForeignKeyConstraint(["bundle_id"], ["bundles.id"], name=op.f("fk_learning_rounds_bundle_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_learning_rounds")),
    )
