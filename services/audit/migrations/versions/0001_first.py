"""The audit trail, partitioned by month, its chains, and the personal data beside it.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from shared.migrations import create_shared_tables
from shared.tenancy import policy_statements

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)

# Statement triggers refuse even a change that would meet no row; row triggers are the ones that
# PostgreSQL copies to every partition, so that a change of a partition itself is refused too.
_REFUSAL = (
    """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'audit_logs is append-only: % is refused', TG_OP
            USING ERRCODE = 'insufficient_privilege';
    END $$
    """,
    """
    CREATE TRIGGER refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_logs
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
    """
    CREATE TRIGGER refuse_row BEFORE UPDATE OR DELETE ON audit_logs
        FOR EACH ROW EXECUTE FUNCTION refuse_change()
    """,
)

# A partition is made on demand too, so that an event of any age finds its place; there is no
# default partition, because with one PostgreSQL no longer reads months in order of time and stops.
# Made apart and attached: CREATE ... PARTITION OF would lock out every reader. The service reaches
# rows through the parent alone, where the policy is.
_ENSURE_PARTITION = """
    CREATE FUNCTION ensure_partition(instant timestamptz) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = audit, pg_temp AS $$
    DECLARE
        month timestamp := date_trunc('month', instant AT TIME ZONE 'UTC');
        name text := 'audit_logs_' || to_char(month, 'YYYY_MM');
    BEGIN
        IF to_regclass(format('audit.%I', name)) IS NOT NULL THEN
            RETURN false;
        END IF;
        PERFORM pg_advisory_xact_lock(hashtextextended('audit.partitions', 0));
        IF to_regclass(format('audit.%I', name)) IS NOT NULL THEN
            RETURN false;
        END IF;
        EXECUTE format('CREATE TABLE audit.%I (LIKE audit.audit_logs INCLUDING DEFAULTS)', name);
        EXECUTE format('REVOKE ALL ON audit.%I FROM audit', name);
        EXECUTE format(
            'CREATE TRIGGER refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.%I'
            ' FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()', name);
        EXECUTE format(
            'ALTER TABLE audit.audit_logs ATTACH PARTITION audit.%I FOR VALUES FROM (%L) TO (%L)',
            name, month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
        RETURN true;
    END $$
"""

_GRANTS = (
    "REVOKE ALL ON audit_logs, erasures, personal_values FROM audit",
    "GRANT SELECT, INSERT ON audit_logs, erasures, personal_values TO audit",
    "GRANT UPDATE (salt, value, erased_for) ON personal_values TO audit",
    "REVOKE INSERT, UPDATE, DELETE ON archives, archived_ranges FROM audit",
    "REVOKE DELETE ON chain_heads FROM audit",
    "REVOKE ALL ON FUNCTION ensure_partition(timestamptz) FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION ensure_partition(timestamptz) TO audit",
)


def upgrade() -> None:
    create_shared_tables()
    _create_audit_logs()
    op.create_table(
        "chain_heads",
        sa.Column("organization_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "personal_values",
        sa.Column("commitment", sa.LargeBinary, primary_key=True),
        sa.Column("organization_id", sa.BigInteger),
        sa.Column("event_id", sa.Text, nullable=False, index=True),
        sa.Column("subject_id", sa.BigInteger, index=True),
        sa.Column("field", sa.Text, nullable=False),
        sa.Column("salt", sa.LargeBinary),
        sa.Column("value", sa.Text),
        sa.Column("erased_for", sa.BigInteger),
    )
    op.create_table(
        "erasures",
        sa.Column("user_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("erased_at", _INSTANT, nullable=False),
    )
    _create_archives()
    for statement in (*_REFUSAL, _ENSURE_PARTITION, *_GRANTS):
        op.execute(statement)
    for table in ("audit_logs", "chain_heads", "personal_values", "archived_ranges"):
        for statement in policy_statements(table):
            op.execute(statement)


def _create_audit_logs() -> None:
    op.create_table(
        "audit_logs",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.BigInteger),
        sa.Column("organization_id", sa.BigInteger),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("entity_type", sa.Text, nullable=False),
        sa.Column("entity_id", sa.BigInteger),
        sa.Column("old_values", postgresql.JSONB, nullable=False),
        sa.Column("new_values", postgresql.JSONB, nullable=False),
        sa.Column("ip_address", sa.Text),
        sa.Column("user_agent", sa.Text),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("envelope", postgresql.JSONB, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("previous_hash", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("created_at", "id"),
        postgresql_partition_by="RANGE (created_at)",
    )
    for columns in (
        ["organization_id", "created_at", "id"],
        ["organization_id", "position"],
        ["entity_type", "entity_id", "created_at", "id"],
        ["user_id", "created_at", "id"],
        ["correlation_id"],
    ):
        op.create_index(None, "audit_logs", columns)


def _create_archives() -> None:
    op.create_table(
        "archives",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("month", sa.Date, nullable=False),
        sa.Column("file", sa.Text, nullable=False),
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("archived_at", _INSTANT, nullable=False),
    )
    op.create_table(
        "archived_ranges",
        sa.Column("organization_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("first_position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("last_position", sa.BigInteger, nullable=False),
        sa.Column("previous_hash", sa.LargeBinary, nullable=False),
        sa.Column("last_hash", sa.LargeBinary, nullable=False),
        sa.Column("archive_id", sa.BigInteger, sa.ForeignKey("archives.id"), nullable=False),
    )


def downgrade() -> None:
    raise NotImplementedError("version 2 begins here; restore a backup to go further back")
