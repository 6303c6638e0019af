"""Money that a person must give back.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

from shared.tenancy import policy_statements

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "repayments",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", sa.BigInteger, nullable=False),
        sa.Column("transaction_id", sa.BigInteger, nullable=False),
        sa.Column("voucher_id", sa.BigInteger, nullable=False),
        sa.Column("client_id", sa.BigInteger, nullable=False),
        sa.Column("refund_id", sa.BigInteger),
        sa.Column("amount", sa.Numeric(12, 2), nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("note", sa.Text),
        sa.Column("settled_at", _INSTANT),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint("amount > 0", name=op.f("ck_repayments_amount_positive")),
        sa.CheckConstraint("status IN ('due', 'settled')", name=op.f("ck_repayments_status_known")),
        sa.CheckConstraint(
            "(status = 'due') = (settled_at IS NULL)", name=op.f("ck_repayments_settled_at")
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "transaction_id"],
            ["payment_transactions.organization_id", "payment_transactions.id"],
            name=op.f("fk_repayments_organization_id_transaction_id"),
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "refund_id"],
            ["refunds.organization_id", "refunds.id"],
            name=op.f("fk_repayments_organization_id_refund_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_repayments")),
        sa.UniqueConstraint("refund_id", name=op.f("uq_repayments_refund_id")),
    )
    _create_indexes()
    for statement in policy_statements("repayments", user_column="client_id"):
        op.execute(statement)
    role = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(f"REVOKE DELETE ON repayments FROM {role}")


def _create_indexes() -> None:
    op.create_index(
        "uq_repayments_due_transaction_id",
        "repayments",
        ["transaction_id"],
        unique=True,
        postgresql_where=sa.text("status = 'due' AND refund_id IS NULL"),
    )
    op.create_index("ix_repayments_transaction_id", "repayments", ["transaction_id"])
    op.create_index("ix_repayments_organization_id_id", "repayments", ["organization_id", "id"])
    op.create_index(
        "ix_repayments_due_reason",
        "repayments",
        ["reason"],
        postgresql_where=sa.text("status = 'due'"),
    )


def downgrade() -> None:
    raise NotImplementedError("money to give back would be forgotten; restore a backup instead")
