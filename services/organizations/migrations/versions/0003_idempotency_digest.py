"""Repeated requests are recognized by a secret of its own, not by the signing key.

Revision ID: 0003
Revises: 0002
"""

from alembic import op

from shared.migrations import add_body_digest

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    add_body_digest()


def downgrade() -> None:
    op.drop_column("idempotency_keys", "body_digest")
