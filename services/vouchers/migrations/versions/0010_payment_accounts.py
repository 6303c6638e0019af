"""Copies of the accounts that organizations have at payment gateways.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

from shared.tenancy import policy_statements

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_TABLE = "payment_account_copies"


def upgrade() -> None:
    op.create_table(
        _TABLE,
        sa.Column("id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("organization_id", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("charges_enabled", sa.Boolean, nullable=False),
        sa.Column("live", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment_account_copies")),
    )
    op.create_index(op.f("ix_payment_account_copies_organization_id"), _TABLE, ["organization_id"])
    for statement in policy_statements(_TABLE):
        op.execute(statement)


def downgrade() -> None:
    op.drop_table(_TABLE)
