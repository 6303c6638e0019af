"""Addresses are confirmed by a link. Users who exist need not confirm theirs.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("email_confirmed_at", sa.DateTime(timezone=True)))
    op.add_column(
        "users",
        sa.Column(
            "awaits_confirmation", sa.Boolean, nullable=False, server_default=sa.text("false")
        ),
    )


def downgrade() -> None:
    op.drop_column("users", "awaits_confirmation")
    op.drop_column("users", "email_confirmed_at")
