"""Disputes, refunds by quote, webhooks whose bodies are forgotten in time.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from shared.tenancy import policy_statements

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)
_MONEY = sa.Numeric(12, 2)


def upgrade() -> None:
    op.add_column(
        "payment_transactions",
        sa.Column("disputed_amount", _MONEY, server_default=sa.text("0"), nullable=False),
    )
    op.add_column("refunds", sa.Column("quote_id", sa.BigInteger))
    op.create_unique_constraint(op.f("uq_refunds_quote_id"), "refunds", ["quote_id"])
    op.alter_column("webhook_events", "body", nullable=True)
    op.create_index(
        "ix_webhook_events_kept_received_at",
        "webhook_events",
        ["received_at"],
        postgresql_where=sa.text("body IS NOT NULL"),
    )
    _create_disputes()


def _create_disputes() -> None:
    op.create_table(
        "disputes",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", sa.BigInteger, nullable=False),
        sa.Column("transaction_id", sa.BigInteger, nullable=False),
        sa.Column("client_id", sa.BigInteger, nullable=False),
        sa.Column("amount", _MONEY, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("payment_gateway", sa.Text, nullable=False),
        sa.Column("gateway_dispute_id", sa.Text, nullable=False),
        sa.Column("gateway_response", postgresql.JSONB),
        sa.Column("closed_at", _INSTANT),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "status IN ('open', 'won', 'lost')", name=op.f("ck_disputes_status_known")
        ),
        sa.CheckConstraint(
            "(status = 'open') = (closed_at IS NULL)", name=op.f("ck_disputes_closed_at")
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "transaction_id"],
            ["payment_transactions.organization_id", "payment_transactions.id"],
            name=op.f("fk_disputes_organization_id_transaction_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_disputes")),
        sa.UniqueConstraint(
            "payment_gateway",
            "gateway_dispute_id",
            name=op.f("uq_disputes_payment_gateway_gateway_dispute_id"),
        ),
    )
    op.create_index("ix_disputes_transaction_id", "disputes", ["transaction_id"])
    op.create_index("ix_disputes_organization_id_id", "disputes", ["organization_id", "id"])
    for statement in policy_statements("disputes", user_column="client_id"):
        op.execute(statement)
    role = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(f"REVOKE DELETE ON disputes FROM {role}")


def downgrade() -> None:
    raise NotImplementedError("disputes would be forgotten; restore a backup instead")
