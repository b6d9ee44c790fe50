"""Images

Revision ID: 0005_content
Revises: 0004_content

Texts read in pictures, what machines made of a picture to find its like, banks of pictures, floods, rescans.

Rules: never break the release before this one (add, then use, then drop in a later release); no rewrite of a
large table; new columns are nullable or have a constant default; indexes on filled tables are created
concurrently in a revision of their own. Locks wait at most five seconds.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005_content"
down_revision = "0004_content"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _parts()
    _partitions()
    _banks()
    _entries()
    _rescans()


def _parts() -> None:
    """Texts read in pictures, and what pictures are found again by."""
    op.add_column("parts", sa.Column("derived_from", sa.SmallInteger(), nullable=True))
    op.add_column("parts", sa.Column("layout", sa.LargeBinary(), nullable=True))
    op.create_table(
        "part_features",
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("maker", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("name IN ('hashes','embedding')", name=op.f("ck_part_features_name")),
        sa.PrimaryKeyConstraint("item_id", "position", "name", name=op.f("pk_part_features")),
        postgresql_partition_by="RANGE (item_id)",
    )
    op.execute("CREATE TABLE part_features_default PARTITION OF part_features DEFAULT")


def _partitions() -> None:
    """The functions that make and drop partitions learn of the new table; it gets the months that there are."""
    known = "WHEN 'signals' THEN 'item_id' END"
    for function in ("ensure_partition(text,date)", "drop_partition(text,date)"):
        source = op.get_bind().scalar(
            sa.text("SELECT pg_get_functiondef(CAST(:name AS regprocedure))"), {"name": function}
        )
        if str(source).count(known) != 1:
            raise RuntimeError(f"{function} is not the one of migration 0003_content")
        more = "WHEN 'part_features' THEN 'item_id' " + known
        # As the driver takes it: the statement has percent signs and colons of its own.
        op.get_bind().exec_driver_sql(str(source).replace(known, more).replace("%", "%%"))
    # A search through what is there writes for the months before this release too, and ends with them.
    op.execute(
        """
        SELECT ensure_partition('part_features', to_date(right(child.relname, 6), 'YYYYMM'))
        FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
        WHERE inhparent = 'items'::regclass AND child.relname ~ '^items_p[0-9]{6}$'
        """
    )


def _banks() -> None:
    """Distances in bits for pictures, a share of the items for a gentle beginning, and whose list it is."""
    op.add_column(
        "banks", sa.Column("sample_share", sa.Double(), server_default=sa.text("1"), nullable=False)
    )
    op.add_column("banks", sa.Column("source", sa.Text(), nullable=True))
    op.drop_constraint(op.f("ck_banks_distance"), "banks")
    op.create_check_constraint(
        "distance", "banks", "distance BETWEEN 0 AND CASE kind WHEN 'image' THEN 48 ELSE 1 END"
    )
    op.create_check_constraint("sample_share", "banks", "sample_share > 0 AND sample_share <= 1")


def _entries() -> None:
    """By which change of the bank an entry is as it is, who left, and how often each matched."""
    op.add_column(
        "bank_entries", sa.Column("version", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column("bank_entries", sa.Column("source", sa.Text(), nullable=True))
    for name in ("quarantined_at", "released_at", "last_matched_at"):
        op.add_column("bank_entries", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    # Banks hold some hundred thousand entries at most before this release: this takes less than a second.
    op.create_index("ix_bank_entries_version", "bank_entries", ["bank_id", "version"], unique=False)
    op.create_index(
        "ix_bank_entries_quarantined",
        "bank_entries",
        ["bank_id"],
        unique=False,
        postgresql_where=sa.text("quarantined_at IS NOT NULL"),
    )
    op.create_table(
        "bank_references",
        sa.Column("entry_id", sa.Uuid(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["entry_id"],
            ["bank_entries.id"],
            name=op.f("fk_bank_references_entry_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("entry_id", "source", "reference", name=op.f("pk_bank_references")),
    )
    op.create_index("ix_bank_references_reference", "bank_references", ["source", "reference"], unique=False)
    op.create_table(
        "bank_removals",
        sa.Column("bank_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("entry_id", sa.Uuid(), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["bank_id"], ["banks.id"], name=op.f("fk_bank_removals_bank_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("bank_id", "version", "entry_id", name=op.f("pk_bank_removals")),
    )
    op.create_table(
        "bank_hits",
        sa.Column("entry_id", sa.Uuid(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("hits", sa.Integer(), nullable=False),
        sa.Column("authors", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("entry_id", "hour", name=op.f("pk_bank_hits")),
    )
    op.create_index("ix_bank_hits_hour", "bank_hits", ["hour"], unique=False)


def _rescans() -> None:
    """Searches for a bank's entries in everything that is retained, and what they bring before people."""
    op.add_column(
        "cases",
        sa.Column("matches", postgresql.JSONB(), server_default=sa.text("'[]'"), nullable=False),
    )
    op.create_table(
        "rescans",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("bank_id", sa.Uuid(), nullable=False),
        sa.Column("dry", sa.Boolean(), nullable=False),
        sa.Column("since_version", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("started_by", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cursor", sa.Uuid(), nullable=True),
        sa.Column("seen", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("matched", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("changed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["bank_id"], ["banks.id"], name=op.f("fk_rescans_bank_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rescans")),
    )
    op.create_index(
        "uq_rescans_open",
        "rescans",
        ["bank_id", "dry"],
        unique=True,
        postgresql_where=sa.text("finished_at IS NULL"),
    )
