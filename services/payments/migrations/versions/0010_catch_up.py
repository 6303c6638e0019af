"""When each connected account had its last turn to be caught up with.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "payment_accounts", sa.Column("catch_up_attempted_at", sa.DateTime(timezone=True))
    )
    op.drop_index("ix_payment_accounts_connected_caught_up_at")
    op.create_index(
        "ix_payment_accounts_catch_up_attempted_at",
        "payment_accounts",
        ["catch_up_attempted_at"],
        postgresql_where=sa.text("gateway_account IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_payment_accounts_catch_up_attempted_at")
    op.create_index(
        "ix_payment_accounts_connected_caught_up_at",
        "payment_accounts",
        ["caught_up_at"],
        postgresql_where=sa.text("status = 'connected'"),
    )
    op.drop_column("payment_accounts", "catch_up_attempted_at")
