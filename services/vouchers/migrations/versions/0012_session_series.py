"""Series that continue others, and the zone for which the zone of a series was chosen.

Revision ID: 0012
Revises: 0011
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # No version before this one writes series; the default is for the statement only.
    op.execute(
        "ALTER TABLE session_series"
        " ADD COLUMN organization_timezone text NOT NULL DEFAULT 'UTC',"
        " ADD COLUMN follows_id bigint,"
        " ADD CONSTRAINT fk_session_series_follows FOREIGN KEY (organization_id, follows_id)"
        " REFERENCES session_series (organization_id, id)"
    )
    op.execute("ALTER TABLE session_series ALTER COLUMN organization_timezone DROP DEFAULT")
    op.execute(
        "CREATE INDEX ix_session_series_active ON session_series (made_until)"
        " WHERE status = 'active'"
    )


def downgrade() -> None:
    op.execute("DROP INDEX ix_session_series_active")
    op.execute(
        "ALTER TABLE session_series DROP CONSTRAINT fk_session_series_follows,"
        " DROP COLUMN follows_id, DROP COLUMN organization_timezone"
    )
