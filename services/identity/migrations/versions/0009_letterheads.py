"""What messages need: the letterhead of organizations, languages, and undeliverable addresses.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_FIELDS = ("name", "logo_url", "email", "timezone", "locale")


def upgrade() -> None:
    for field in _FIELDS:
        op.add_column("organization_copies", sa.Column(field, sa.Text))
        op.add_column(
            "organization_copies",
            sa.Column(f"{field}_version", sa.BigInteger, nullable=False, server_default="0"),
        )
    op.add_column("users", sa.Column("locale", sa.Text))
    op.add_column("users", sa.Column("email_undeliverable_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("users", "email_undeliverable_at")
    op.drop_column("users", "locale")
    for field in reversed(_FIELDS):
        op.drop_column("organization_copies", f"{field}_version")
        op.drop_column("organization_copies", field)
