"""What changed of the organizations that sell: documents name the seller as it is when issued.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from shared.tenancy import policy_statements

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "seller_changes",
        sa.Column("organization_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("changes", postgresql.JSONB, nullable=False),
        sa.PrimaryKeyConstraint("organization_id", name=op.f("pk_seller_changes")),
    )
    for statement in policy_statements("seller_changes"):
        op.execute(statement)


def downgrade() -> None:
    op.drop_table("seller_changes")
