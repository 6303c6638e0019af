"""Devices and networks that knew an older password are not known any more.

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
    op.add_column("users", sa.Column("known_since", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("users", "known_since")
