"""Links in messages: forgotten passwords, confirmed addresses, invitations.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "account_links",
        sa.Column("token_hash", sa.LargeBinary, primary_key=True),
        sa.Column("user_id", sa.BigInteger, sa.ForeignKey("users.id"), nullable=False, index=True),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("expires_at", _INSTANT, nullable=False, index=True),
        sa.Column("ended_at", _INSTANT),
        sa.Column("end_reason", sa.Text),
        sa.CheckConstraint(
            "purpose IN ('password_reset', 'address_confirmation', 'invitation')", name="purpose"
        ),
    )
    op.create_index(
        "uq_account_links_open",
        "account_links",
        ["user_id", "purpose"],
        unique=True,
        postgresql_where=sa.text("ended_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_table("account_links")
