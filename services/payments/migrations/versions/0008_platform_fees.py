"""The operator's fee on the card payments of organizations.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

from shared.tenancy import policy_statements

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)
_MONEY = sa.Numeric(12, 2)


def upgrade() -> None:
    op.add_column(
        "payment_transactions",
        sa.Column("platform_fee", _MONEY, nullable=False, server_default=sa.text("0")),
    )
    op.create_table(
        "platform_fees",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", sa.BigInteger, nullable=False),
        sa.Column("percent", sa.Numeric(5, 2), nullable=False),
        sa.Column("fixed_amount", _MONEY, nullable=False),
        sa.Column("fixed_currency", sa.Text),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "percent BETWEEN 0 AND 100", name=op.f("ck_platform_fees_percent_in_range")
        ),
        sa.CheckConstraint(
            "fixed_amount >= 0", name=op.f("ck_platform_fees_fixed_amount_not_negative")
        ),
        sa.CheckConstraint(
            "(fixed_amount > 0) = (fixed_currency IS NOT NULL)",
            name=op.f("ck_platform_fees_fixed_has_currency"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_platform_fees")),
        sa.UniqueConstraint("organization_id", name=op.f("uq_platform_fees_organization_id")),
    )
    for statement in policy_statements("platform_fees"):
        op.execute(statement)
    role = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(f"REVOKE DELETE ON platform_fees FROM {role}")


def downgrade() -> None:
    raise NotImplementedError("the fees of payments would be forgotten; restore a backup instead")
