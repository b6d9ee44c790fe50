"""${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}

Rules: never break the release before this one (add, then use, then drop in a later release); no rewrite of a
large table; new columns are nullable or have a constant default; indexes on filled tables are created
concurrently in a revision of their own. Locks wait at most five seconds.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    ${upgrades if upgrades else "pass"}
