"""Payouts of connected accounts, and the lines that they consist of.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

from shared.tenancy import policy_statements

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)
_MONEY = sa.Numeric(12, 2)
_TABLES = ("payouts", "payout_lines")


def upgrade() -> None:
    op.add_column("payment_accounts", sa.Column("balance_checked_at", _INSTANT))
    op.add_column("payment_accounts", sa.Column("balance_read_until", _INSTANT))
    op.create_unique_constraint(
        op.f("uq_disputes_organization_id_id"), "disputes", ["organization_id", "id"]
    )
    _create_payouts()
    _create_lines()
    _create_indexes()
    for table in _TABLES:
        for statement in policy_statements(table):
            op.execute(statement)
    role = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(f"REVOKE DELETE ON {', '.join(_TABLES)} FROM {role}")


def _create_payouts() -> None:
    op.create_table(
        "payouts",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", sa.BigInteger, nullable=False),
        sa.Column("payment_gateway", sa.Text, nullable=False),
        sa.Column("gateway_account", sa.Text, nullable=False),
        sa.Column("gateway_payout_id", sa.Text, nullable=False),
        sa.Column("amount", _MONEY, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("is_automatic", sa.Boolean, nullable=False),
        sa.Column("is_listed", sa.Boolean, nullable=False),
        sa.Column("initiated_at", _INSTANT, nullable=False),
        sa.Column("arrival_date", sa.Date),
        sa.Column("failure_code", sa.Text),
        sa.Column("failure_message", sa.Text),
        sa.Column("reconciliation", sa.Text, nullable=False),
        sa.Column("difference", _MONEY),
        sa.Column("unknown_lines", sa.BigInteger, nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "status IN ('pending', 'in_transit', 'paid', 'failed', 'cancelled')",
            name=op.f("ck_payouts_status_known"),
        ),
        sa.CheckConstraint(
            "reconciliation IN ('pending', 'matched', 'mismatched', 'unlisted')",
            name=op.f("ck_payouts_reconciliation_known"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payouts")),
        sa.UniqueConstraint("organization_id", "id", name=op.f("uq_payouts_organization_id_id")),
        sa.UniqueConstraint(
            "payment_gateway",
            "gateway_payout_id",
            name=op.f("uq_payouts_payment_gateway_gateway_payout_id"),
        ),
    )


def _create_lines() -> None:
    references = (
        ("payout_id", "payouts"),
        ("transaction_id", "payment_transactions"),
        ("refund_id", "refunds"),
        ("dispute_id", "disputes"),
    )
    op.create_table(
        "payout_lines",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", sa.BigInteger, nullable=False),
        sa.Column("payout_id", sa.BigInteger),
        sa.Column("payment_gateway", sa.Text, nullable=False),
        sa.Column("gateway_account", sa.Text, nullable=False),
        sa.Column("gateway_line_id", sa.Text, nullable=False),
        sa.Column("gateway_source_id", sa.Text),
        sa.Column("gateway_payment_id", sa.Text),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        *(
            sa.Column(name, _MONEY, nullable=False)
            for name in ("amount", "gateway_fee", "platform_fee", "net")
        ),
        sa.Column("occurred_at", _INSTANT, nullable=False),
        *(sa.Column(name, sa.BigInteger) for name in ("transaction_id", "refund_id", "dispute_id")),
        sa.Column("is_known", sa.Boolean, nullable=False),
        sa.CheckConstraint(
            "amount - gateway_fee - platform_fee = net", name=op.f("ck_payout_lines_net")
        ),
        *(
            sa.ForeignKeyConstraint(
                ["organization_id", column],
                [f"{table}.organization_id", f"{table}.id"],
                name=op.f(f"fk_payout_lines_organization_id_{column}"),
            )
            for column, table in references
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payout_lines")),
        sa.UniqueConstraint(
            "payment_gateway",
            "gateway_line_id",
            name=op.f("uq_payout_lines_payment_gateway_gateway_line_id"),
        ),
    )


def _create_indexes() -> None:
    op.create_index(
        "ix_payouts_mismatched_organization_id",
        "payouts",
        ["organization_id"],
        postgresql_where=sa.text("reconciliation = 'mismatched'"),
    )
    op.create_index("ix_payout_lines_payout_id", "payout_lines", ["payout_id"])
    op.create_index(
        "ix_payout_lines_organization_id_occurred_at",
        "payout_lines",
        ["organization_id", "occurred_at"],
    )
    op.create_index(
        "ix_payout_lines_unknown_gateway_account",
        "payout_lines",
        ["gateway_account"],
        postgresql_where=sa.text("NOT is_known"),
    )


def downgrade() -> None:
    raise NotImplementedError("payouts would be forgotten; restore a backup instead")
