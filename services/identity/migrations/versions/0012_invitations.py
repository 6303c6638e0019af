"""Users are invited, and set their first password themselves.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in ("invited_at", "invitation_accepted_at"):
        op.add_column("users", sa.Column(column, sa.DateTime(timezone=True)))


def downgrade() -> None:
    for column in ("invitation_accepted_at", "invited_at"):
        op.drop_column("users", column)
