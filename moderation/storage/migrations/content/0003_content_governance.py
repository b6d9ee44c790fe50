"""Governance

Revision ID: 0003_content
Revises: 0002_content

Duties: the tree over the log, erasures, holds, disclosures, requests, minors, partners, incidents, reports.

Rules: never break the release before this one (add, then use, then drop in a later release); no rewrite of a
large table; new columns are nullable or have a constant default; indexes on filled tables are created
concurrently in a revision of their own. Locks wait at most five seconds.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003_content"
down_revision = "0002_content"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "audit_checkpoints",
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("size", name=op.f("pk_audit_checkpoints")),
    )
    op.create_table(
        "audit_tiles",
        sa.Column("level", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "index", name=op.f("pk_audit_tiles")),
    )
    op.create_table(
        "erasures",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=True),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("hidden_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("before", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("after", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "kept", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'"), nullable=False
        ),
        sa.Column("receipt", sa.Text(), nullable=True),
        sa.CheckConstraint("(scope = 'item') = (item_id IS NOT NULL)", name=op.f("ck_erasures_item")),
        sa.CheckConstraint("scope IN ('author','item')", name=op.f("ck_erasures_scope")),
        sa.CheckConstraint("state IN ('hidden','held','done')", name=op.f("ck_erasures_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasures")),
    )
    op.create_index("ix_erasures_author_id", "erasures", ["author_id"], unique=False)
    op.create_index(
        "ix_erasures_open",
        "erasures",
        ["requested_at"],
        unique=False,
        postgresql_where=sa.text("completed_at IS NULL"),
    )
    op.create_table(
        "incidents",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("severity", sa.SmallInteger(), nullable=False),
        sa.Column("description", sa.LargeBinary(), nullable=True),
        sa.Column("detected_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("opened_by", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("notify_by", sa.DateTime(timezone=True), nullable=False),
        sa.Column("scope", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("affected", sa.Integer(), nullable=True),
        sa.Column("authority_told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("authors_told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("severity BETWEEN 1 AND 5", name=op.f("ck_incidents_severity")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incidents")),
    )
    op.create_index(
        "ix_incidents_open",
        "incidents",
        ["notify_by"],
        unique=False,
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "partners",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_digest", sa.LargeBinary(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("fields", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_partners")),
        sa.UniqueConstraint("name", name=op.f("uq_partners_name")),
    )
    op.create_table(
        "policy_drafts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("base", sa.Integer(), nullable=False),
        sa.Column("saved_by", sa.Text(), nullable=False),
        sa.Column("saved_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policy_drafts")),
    )
    op.create_table(
        "signed_reports",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signed_reports")),
    )
    op.create_index("uq_signed_reports_period", "signed_reports", ["kind", "since"], unique=True)
    op.create_table(
        "subject_requests",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("identity_verified", sa.Boolean(), nullable=False),
        sa.Column("details", sa.LargeBinary(), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("closed_by", sa.Text(), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("erasure_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint("state IN ('open','done','refused')", name=op.f("ck_subject_requests_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subject_requests")),
    )
    op.create_index("ix_subject_requests_author_id", "subject_requests", ["author_id"], unique=False)
    op.create_index(
        "ix_subject_requests_open",
        "subject_requests",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_table(
        "tombstones",
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("erasure_id", sa.Uuid(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('author','post')", name=op.f("ck_tombstones_kind")),
        sa.PrimaryKeyConstraint("client", "kind", "digest", name=op.f("pk_tombstones")),
    )
    op.create_index("ix_tombstones_expires_at", "tombstones", ["expires_at"], unique=False)
    op.create_table(
        "holds",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=True),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("authority", sa.Text(), nullable=False),
        sa.Column("basis", sa.Text(), nullable=False),
        sa.Column("reference", sa.LargeBinary(), nullable=True),
        sa.Column("requested_by", sa.Uuid(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("approved_by", sa.Uuid(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("review_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("released_by", sa.Uuid(), nullable=True),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(scope = 'item') = (item_id IS NOT NULL)", name=op.f("ck_holds_item")),
        sa.CheckConstraint("scope IN ('author','item')", name=op.f("ck_holds_scope")),
        sa.CheckConstraint(
            "state IN ('requested','active','refused','released')", name=op.f("ck_holds_state")
        ),
        sa.CheckConstraint(
            "approved_by IS NULL OR approved_by <> requested_by", name=op.f("ck_holds_four_eyes")
        ),
        sa.CheckConstraint("state <> 'active' OR approved_by IS NOT NULL", name=op.f("ck_holds_approved")),
        sa.ForeignKeyConstraint(["approved_by"], ["people.id"], name=op.f("fk_holds_approved_by")),
        sa.ForeignKeyConstraint(["released_by"], ["people.id"], name=op.f("fk_holds_released_by")),
        sa.ForeignKeyConstraint(["requested_by"], ["people.id"], name=op.f("fk_holds_requested_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_holds")),
    )
    op.create_index("ix_holds_author_id", "holds", ["author_id"], unique=False)
    op.create_index(
        "ix_holds_open", "holds", ["review_at"], unique=False, postgresql_where=sa.text("state = 'active'")
    )
    op.create_table(
        "incident_authors",
        sa.Column("incident_id", sa.Uuid(), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["incident_id"], ["incidents.id"], name=op.f("fk_incident_authors_incident_id")
        ),
        sa.PrimaryKeyConstraint("incident_id", "author_id", name=op.f("pk_incident_authors")),
    )
    op.create_index("ix_incident_authors_author_id", "incident_authors", ["author_id"], unique=False)
    op.create_table(
        "minor_checks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deadline", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("decided_by", sa.Uuid(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("erasure_id", sa.Uuid(), nullable=True),
        sa.Column("preservation_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint(
            "source IN ('signal','report','notice','person')", name=op.f("ck_minor_checks_source")
        ),
        sa.CheckConstraint(
            "state IN ('suspected','confirmed','cleared')", name=op.f("ck_minor_checks_state")
        ),
        sa.ForeignKeyConstraint(["decided_by"], ["people.id"], name=op.f("fk_minor_checks_decided_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_minor_checks")),
    )
    op.create_index("ix_minor_checks_author_id", "minor_checks", ["author_id"], unique=False)
    op.create_index(
        "ix_minor_checks_due",
        "minor_checks",
        ["deadline"],
        unique=False,
        postgresql_where=sa.text("state = 'suspected'"),
    )
    op.create_index(
        "uq_minor_checks_open",
        "minor_checks",
        ["author_id"],
        unique=True,
        postgresql_where=sa.text("state = 'suspected'"),
    )
    op.create_table(
        "partner_items",
        sa.Column("partner_id", sa.Text(), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("assigned_by", sa.Text(), nullable=False),
        sa.Column("assigned_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["partner_id"], ["partners.id"], name=op.f("fk_partner_items_partner_id")),
        sa.PrimaryKeyConstraint("partner_id", "item_id", name=op.f("pk_partner_items")),
    )
    op.create_index("ix_partner_items_author_id", "partner_items", ["author_id"], unique=False)
    op.create_index(
        "ix_partner_items_deleted",
        "partner_items",
        ["partner_id"],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NOT NULL AND acknowledged_at IS NULL"),
    )
    op.create_index("ix_partner_items_item_id", "partner_items", ["item_id"], unique=False)
    op.create_table(
        "held_items",
        sa.Column("hold_id", sa.Uuid(), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["hold_id"], ["holds.id"], name=op.f("fk_held_items_hold_id")),
        sa.PrimaryKeyConstraint("hold_id", "item_id", name=op.f("pk_held_items")),
    )
    op.create_index("ix_held_items_author_id", "held_items", ["author_id"], unique=False)
    op.create_index("ix_held_items_item_id", "held_items", ["item_id"], unique=False)
    op.create_table(
        "preservations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("hold_id", sa.Uuid(), nullable=True),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("basis", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("keep_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("items", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("blob", sa.Text(), nullable=True),
        sa.Column("destroyed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["hold_id"], ["holds.id"], name=op.f("fk_preservations_hold_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_preservations")),
    )
    op.create_index("ix_preservations_author_id", "preservations", ["author_id"], unique=False)
    op.create_index(
        "ix_preservations_due",
        "preservations",
        ["keep_until"],
        unique=False,
        postgresql_where=sa.text("destroyed_at IS NULL"),
    )
    op.create_table(
        "statement_deliveries",
        sa.Column("decision_id", sa.Uuid(), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("puid", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending','sent','refused')", name=op.f("ck_statement_deliveries_state")
        ),
        sa.ForeignKeyConstraint(
            ["decision_id"], ["decisions.id"], name=op.f("fk_statement_deliveries_decision_id")
        ),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_statement_deliveries")),
        sa.UniqueConstraint("puid", name=op.f("uq_statement_deliveries_puid")),
    )
    op.create_index("ix_statement_deliveries_author_id", "statement_deliveries", ["author_id"], unique=False)
    op.create_index(
        "ix_statement_deliveries_due",
        "statement_deliveries",
        ["not_before"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_statement_deliveries_unsent",
        "statement_deliveries",
        ["state"],
        unique=False,
        postgresql_where=sa.text("state <> 'sent'"),
    )
    op.create_table(
        "disclosures",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("preservation_id", sa.Uuid(), nullable=False),
        sa.Column("authority", sa.Text(), nullable=False),
        sa.Column("basis", sa.Text(), nullable=False),
        sa.Column("reference", sa.LargeBinary(), nullable=True),
        sa.Column("requested_by", sa.Uuid(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("approved_by", sa.Uuid(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("exported_by", sa.Uuid(), nullable=True),
        sa.Column("exported_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(state = 'exported') = (sha256 IS NOT NULL)", name=op.f("ck_disclosures_manifest")
        ),
        sa.CheckConstraint(
            "state IN ('requested','approved','refused','exported')", name=op.f("ck_disclosures_state")
        ),
        sa.CheckConstraint(
            "approved_by IS NULL OR approved_by <> requested_by", name=op.f("ck_disclosures_four_eyes")
        ),
        sa.CheckConstraint(
            "state NOT IN ('approved','exported') OR approved_by IS NOT NULL",
            name=op.f("ck_disclosures_approved"),
        ),
        sa.ForeignKeyConstraint(["approved_by"], ["people.id"], name=op.f("fk_disclosures_approved_by")),
        sa.ForeignKeyConstraint(["exported_by"], ["people.id"], name=op.f("fk_disclosures_exported_by")),
        sa.ForeignKeyConstraint(
            ["preservation_id"], ["preservations.id"], name=op.f("fk_disclosures_preservation_id")
        ),
        sa.ForeignKeyConstraint(["requested_by"], ["people.id"], name=op.f("fk_disclosures_requested_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_disclosures")),
    )
    op.create_index("ix_disclosures_author_id", "disclosures", ["author_id"], unique=False)
    op.add_column("audit_events", sa.Column("salt", sa.LargeBinary(), nullable=True))
    op.add_column("audit_events", sa.Column("commitment", sa.LargeBinary(), nullable=True))
    op.add_column("audit_events", sa.Column("leaf_index", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_audit_events_waiting",
        "audit_events",
        ["id"],
        unique=False,
        postgresql_where=sa.text("leaf_index IS NULL"),
    )
    op.create_index(
        "uq_audit_events_leaf_index",
        "audit_events",
        ["leaf_index"],
        unique=True,
        postgresql_where=sa.text("leaf_index IS NOT NULL"),
    )
    op.add_column(
        "authors", sa.Column("holds", sa.SmallInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column("authors", sa.Column("restricted_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("authors", sa.Column("restricted_because", sa.Text(), nullable=True))
    op.add_column("authors", sa.Column("erasing_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "decisions",
        sa.Column("content_types", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    )
    op.add_column("decisions", sa.Column("content_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("decisions", sa.Column("language", sa.Text(), nullable=True))
    op.add_column("decisions", sa.Column("source", sa.Text(), nullable=True))
    op.create_index(
        "ix_decisions_restrictive",
        "decisions",
        ["id"],
        unique=False,
        postgresql_where=sa.text("route IN ('limit', 'remove')"),
    )
    op.add_column("items", sa.Column("holds", sa.SmallInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column("items", sa.Column("doomed_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_items_doomed_at",
        "items",
        ["doomed_at"],
        unique=False,
        postgresql_where=sa.text("doomed_at IS NOT NULL AND destroyed_at IS NULL"),
    )
    op.create_index(
        "ix_items_destroyed_at",
        "items",
        ["destroyed_at"],
        unique=False,
        postgresql_where=sa.text("destroyed_at IS NOT NULL"),
    )
    op.create_index(
        "ix_parts_blob", "parts", ["blob"], unique=False, postgresql_where=sa.text("blob IS NOT NULL")
    )
    op.add_column("bundles", sa.Column("path", sa.Text(), nullable=True))
    op.add_column("bundles", sa.Column("key_path", sa.Text(), nullable=True))
    op.add_column("bundles", sa.Column("erased", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("bundles", sa.Column("tainted_at", sa.DateTime(timezone=True), nullable=True))
    op.alter_column("outbox", "item_id", existing_type=sa.UUID(), nullable=True)
    op.add_column("policies", sa.Column("effective_at", sa.DateTime(timezone=True), nullable=True))

    # An event is numbered once; one from before commitments gets its own then. After that only details may go,
    # with their salt, never what they were committed to.
    op.execute(
        """
        CREATE FUNCTION refuse_rewrite() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF (OLD.id, OLD.at, OLD.actor, OLD.action, OLD.subject, OLD.subject_id)
                IS NOT DISTINCT FROM (NEW.id, NEW.at, NEW.actor, NEW.action, NEW.subject, NEW.subject_id)
                AND NEW.leaf_index >= 0
                AND NEW.commitment IS NOT NULL
                AND (OLD.commitment IS NULL OR OLD.commitment = NEW.commitment)
                AND (
                    (OLD.leaf_index IS NULL
                        AND NEW.details::text = OLD.details::text
                        AND NEW.salt IS NOT NULL
                        AND (OLD.commitment IS NULL OR OLD.salt = NEW.salt))
                    OR (OLD.leaf_index = NEW.leaf_index AND NEW.details = '{}' AND NEW.salt IS NULL)
                )
            THEN RETURN NEW;
            END IF;
            RAISE EXCEPTION 'rows of % are never changed', TG_TABLE_NAME USING ERRCODE = 'raise_exception';
        END $$
        """
    )
    op.execute("DROP TRIGGER refuse_change ON audit_events")
    op.execute(
        "CREATE TRIGGER refuse_rewrite BEFORE UPDATE ON audit_events FOR EACH ROW EXECUTE FUNCTION refuse_rewrite()"
    )
    op.execute(
        "CREATE TRIGGER refuse_delete BEFORE DELETE ON audit_events FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )
    for table in ("audit_tiles", "audit_checkpoints"):
        op.execute(
            f"CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            f"CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    _partition_functions()


def _partition_functions() -> None:
    """Partitions are the owner's to make and drop; the application does both through these two, and no other way."""
    schema = op.get_bind().scalar(sa.text("SELECT current_schema()"))
    fixed = f"SECURITY DEFINER SET search_path = {schema}, pg_temp SET lock_timeout = '5s'"
    key = (
        """CASE parent WHEN 'items' THEN 'id' WHEN 'parts' THEN 'item_id' WHEN 'signals' THEN 'item_id' END"""
    )
    refuse = """
            IF key IS NULL OR month IS NULL OR month <> date_trunc('month', month)::date
                OR month NOT BETWEEN date '2020-01-01' AND date '2100-01-01' THEN
                RAISE EXCEPTION 'no such partition' USING ERRCODE = 'invalid_parameter_value';
            END IF;
    """
    op.execute(
        """
        CREATE FUNCTION partition_bound(month date) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
            SELECT (lpad(to_hex((extract(epoch FROM month) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
        $$
        """
    )
    op.execute(
        f"""
        CREATE FUNCTION ensure_partition(parent text, month date) RETURNS text LANGUAGE plpgsql {fixed} AS $$
        DECLARE
            key text := {key};
            name text := parent || '_p' || to_char(month, 'YYYYMM');
            fallback text := parent || '_default';
            low uuid := partition_bound(month);
            high uuid := partition_bound((month + interval '1 month')::date);
        BEGIN
            {refuse}
            IF to_regclass(quote_ident(name)) IS NOT NULL THEN RETURN NULL; END IF;
            EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', fallback);
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name, parent);
            -- What the default partition caught of this month comes along: it could not be attached otherwise.
            EXECUTE format(
                'WITH caught AS (DELETE FROM %I WHERE %I >= %L AND %I < %L RETURNING *) INSERT INTO %I SELECT * FROM caught',
                fallback, key, low, key, high, name);
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, name, low, high);
            RETURN name;
        END $$
        """
    )
    op.execute(
        f"""
        CREATE FUNCTION drop_partition(parent text, month date) RETURNS boolean LANGUAGE plpgsql {fixed} AS $$
        DECLARE
            key text := {key};
            name text := parent || '_p' || to_char(month, 'YYYYMM');
            siblings text;
            filled boolean;
        BEGIN
            {refuse}
            IF to_regclass(quote_ident(name)) IS NULL OR month + interval '1 month' > now() THEN RETURN false; END IF;
            -- Nobody writes to it from here on; whoever reads the other months is not kept waiting by the look.
            EXECUTE format('LOCK TABLE %I IN SHARE MODE', name);
            IF parent = 'items' THEN
                -- What ended a month ago, and of accounts that nothing restricts any more.
                EXECUTE format($q$SELECT EXISTS (SELECT FROM %I i WHERE i.destroyed_at IS NULL
                    OR i.destroyed_at > now() - interval '30 days' OR i.holds > 0
                    OR EXISTS (SELECT FROM account_actions a WHERE a.author_id = i.author_id AND a.kind <> 'warn'
                        AND (a.reversed_at IS NULL OR a.reversed_at > now())
                        AND (a.until IS NULL OR a.until > now())))$q$, name) INTO filled;
            ELSE
                -- What is left of items that were destroyed.
                siblings := 'items_p' || to_char(month, 'YYYYMM');
                IF to_regclass(quote_ident(siblings)) IS NULL THEN
                    EXECUTE format('SELECT EXISTS (SELECT FROM %I)', name) INTO filled;
                ELSE
                    -- Two questions: of one, the planner would think that hardly anything was destroyed.
                    EXECUTE format($q$SELECT EXISTS (SELECT FROM %2$I WHERE destroyed_at IS NULL) OR EXISTS (
                        SELECT FROM %1$I p WHERE NOT EXISTS (SELECT FROM %2$I i WHERE i.id = p.item_id))$q$,
                        name, siblings) INTO filled;
                END IF;
            END IF;
            IF filled THEN RETURN false; END IF;
            EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', parent);
            EXECUTE format('DROP TABLE %I', name);
            RETURN true;
        END $$
        """
    )
    for function in ("ensure_partition(text, date)", "drop_partition(text, date)"):
        op.execute(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")
