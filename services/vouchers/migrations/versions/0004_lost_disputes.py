"""Disputes that were lost: their vouchers do not go on when a session is taken back later.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "voucher_disputes",
        sa.Column("is_lost", sa.Boolean, server_default=sa.false(), nullable=False),
    )


def downgrade() -> None:
    op.drop_column("voucher_disputes", "is_lost")
