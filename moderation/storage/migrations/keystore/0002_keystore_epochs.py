"""Epochs and package keys

Revision ID: 0002_keystore
Revises: 0001_keystore

Which key-encryption key wraps a row, and keys that outlive those of their authors.

Rules: never break the release before this one (add, then use, then drop in a later release); no rewrite of a
large table; new columns are nullable or have a constant default; indexes on filled tables are created
concurrently in a revision of their own. Locks wait at most five seconds.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002_keystore"
down_revision = "0001_keystore"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "kek_epochs",
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("grace_hours", sa.Float(), nullable=True),
        sa.Column("rewrapped_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("epoch", name=op.f("pk_kek_epochs")),
    )
    op.create_table(
        "package_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("epoch", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_package_keys")),
    )
    op.create_table(
        "held_keys",
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("package_id", sa.Uuid(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("held_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["package_id"], ["package_keys.id"], name=op.f("fk_held_keys_package_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("item_id", name=op.f("pk_held_keys")),
    )
    op.create_index(op.f("ix_held_keys_author_id"), "held_keys", ["author_id"], unique=False)
    op.create_index(op.f("ix_held_keys_package_id"), "held_keys", ["package_id"], unique=False)
    op.add_column(
        "author_keys", sa.Column("epoch", sa.Integer(), server_default=sa.text("1"), nullable=False)
    )
    op.create_index(op.f("ix_author_keys_epoch"), "author_keys", ["epoch"], unique=False)
    op.add_column(
        "service_keys", sa.Column("epoch", sa.Integer(), server_default=sa.text("1"), nullable=False)
    )
    op.create_table(
        "erased",
        sa.Column("erasure_id", sa.Uuid(), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=True),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("erasure_id", name=op.f("pk_erased")),
    )
    op.create_index(op.f("ix_erased_author_id"), "erased", ["author_id"], unique=False)
    # A process that knows only a key whose epoch has ended must fail, not write what nobody could open again.
    op.execute("""
        CREATE FUNCTION refuse_ended_epoch() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF EXISTS (SELECT FROM kek_epochs WHERE epoch = NEW.epoch AND retired_at IS NOT NULL) THEN
                RAISE EXCEPTION 'key-encryption epoch % was retired: give this process the newer key', NEW.epoch
                    USING ERRCODE = 'restrict_violation';
            END IF;
            RETURN NEW;
        END $$
    """)
    for table in ("service_keys", "author_keys", "package_keys"):
        op.execute(
            f"CREATE TRIGGER ended_epoch BEFORE INSERT OR UPDATE OF epoch ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_ended_epoch()"
        )
