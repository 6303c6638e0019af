"""A founding that cannot be settled is tried again later, and keeps no other one waiting.

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
    # With a default: instances of the version before insert rows without it.
    op.add_column(
        "foundings", sa.Column("failures", sa.BigInteger, nullable=False, server_default="0")
    )
    op.add_column("foundings", sa.Column("next_attempt_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("foundings", "next_attempt_at")
    op.drop_column("foundings", "failures")
