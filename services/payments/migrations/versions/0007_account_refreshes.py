"""When the state of a connected account is to be read again.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("payment_accounts", sa.Column("refresh_at", sa.DateTime(timezone=True)))
    op.create_index(
        "ix_payment_accounts_refresh_at",
        "payment_accounts",
        ["refresh_at"],
        postgresql_where=sa.text("status <> 'disconnected'"),
    )


def downgrade() -> None:
    op.drop_index("ix_payment_accounts_refresh_at")
    op.drop_column("payment_accounts", "refresh_at")
