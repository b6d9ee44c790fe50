"""Initial tables

Revision ID: 0001_keystore
Revises:

Rules: never break the release before this one (add, then use, then drop in a later release); no rewrite of a
large table; new columns are nullable or have a constant default; indexes on filled tables are created
concurrently in a revision of their own. Locks wait at most five seconds.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op


revision = "0001_keystore"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "author_keys",
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("author_id", name=op.f("pk_author_keys")),
    )
    op.create_table(
        "service_keys",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_service_keys")),
    )
    op.create_table(
        "item_keys",
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["author_id"], ["author_keys.author_id"], name=op.f("fk_item_keys_author_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("item_id", name=op.f("pk_item_keys")),
    )
    op.create_index(op.f("ix_item_keys_author_id"), "item_keys", ["author_id"], unique=False)
