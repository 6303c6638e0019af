"""A month that somebody else made meanwhile is seen as made.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_AS_REMEMBERED = "to_regclass(format('audit.%I', name)) IS NOT NULL"
_AS_COMMITTED = "EXISTS (SELECT FROM pg_tables WHERE tablename = name AND schemaname = 'audit')"


def upgrade() -> None:
    # Waiting for an advisory lock, a session does not hear of new tables: `to_regclass` goes on
    # answering as it did before. A statement's own snapshot, taken after the wait, knows them.
    op.execute(_ensure_partition(_AS_COMMITTED))


def downgrade() -> None:
    op.execute(_ensure_partition(_AS_REMEMBERED))


def _ensure_partition(is_made_meanwhile: str) -> str:
    return f"""
        CREATE OR REPLACE FUNCTION ensure_partition(instant timestamptz) RETURNS boolean
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = audit, pg_temp AS $$
        DECLARE
            month timestamp := date_trunc('month', instant AT TIME ZONE 'UTC');
            name text := 'audit_logs_' || to_char(month, 'YYYY_MM');
        BEGIN
            IF to_regclass(format('audit.%I', name)) IS NOT NULL THEN
                RETURN false;
            END IF;
            PERFORM pg_advisory_xact_lock(hashtextextended('audit.partitions', 0));
            IF {is_made_meanwhile} THEN
                RETURN false;
            END IF;
            EXECUTE format(
                'CREATE TABLE audit.%I (LIKE audit.audit_logs INCLUDING DEFAULTS)', name);
            EXECUTE format('REVOKE ALL ON audit.%I FROM audit', name);
            EXECUTE format(
                'CREATE TRIGGER refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.%I'
                ' FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()', name);
            EXECUTE format(
                'ALTER TABLE audit.audit_logs ATTACH PARTITION audit.%I'
                ' FOR VALUES FROM (%L) TO (%L)',
                name, month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
            RETURN true;
        END $$
    """  # noqa: S608 - one of the two conditions above
