"""Organizations and foundings.

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


def upgrade() -> None:
    create_shared_tables()
    op.create_table(
        "organizations",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("slug", sa.Text, nullable=False, unique=True),
        sa.Column("address", sa.Text),
        sa.Column("phone", sa.Text),
        sa.Column("email", sa.Text),
        sa.Column("tax_id", sa.Text),
        sa.Column("logo_url", sa.Text),
        sa.Column("timezone", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("is_active", sa.Boolean, nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    for statement in policy_statements("organizations", column="id"):
        op.execute(statement)
    op.create_table(
        "foundings",
        sa.Column("organization_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("slug", sa.Text, nullable=False, unique=True),
        sa.Column("fields", postgresql.JSONB, nullable=False),
        sa.Column("started_at", _INSTANT, nullable=False),
        sa.Column("user_id", sa.BigInteger),
        sa.Column("role", sa.Text, nullable=False),
    )


def downgrade() -> None:
    raise NotImplementedError("version 2 begins here; restore a backup to go further back")
