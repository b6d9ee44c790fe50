"""Text

Revision ID: 0004_content
Revises: 0003_content

Banks of terms, links and claims, the language of a part, bursts, suggested labels, proposals for models.

Rules: never break the release before this one (add, then use, then drop in a later release); no rewrite of a
large table; new columns are nullable or have a constant default; indexes on filled tables are created
concurrently in a revision of their own. Locks wait at most five seconds.
"""

from __future__ import annotations

from alembic import op

revision = "0004_content"
down_revision = "0003_content"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
