"""An exchange of a refresh token can be repeated for a moment: its answer is kept, encrypted.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("refresh_tokens", sa.Column("answer", sa.Text))
    op.create_index(
        "ix_refresh_tokens_answered",
        "refresh_tokens",
        ["used_at"],
        postgresql_where=sa.text("answer IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_refresh_tokens_answered", "refresh_tokens")
    op.drop_column("refresh_tokens", "answer")
