"""Organizations' own accounts at gateways.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from shared.tenancy import policy_statements

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    # Earlier payments and webhooks have null: they are the installation's own account's.
    op.add_column("payment_transactions", sa.Column("gateway_account", sa.Text))
    op.add_column("webhook_events", sa.Column("account", sa.Text))
    _create_accounts()
    op.create_index(
        "uq_payment_accounts_organization_id_payment_gateway",
        "payment_accounts",
        ["organization_id", "payment_gateway"],
        unique=True,
        postgresql_where=sa.text("status <> 'disconnected'"),
    )
    op.create_index(
        "ix_payment_accounts_connected_caught_up_at",
        "payment_accounts",
        ["caught_up_at"],
        postgresql_where=sa.text("status = 'connected'"),
    )
    for statement in policy_statements("payment_accounts"):
        op.execute(statement)
    role = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(f"REVOKE DELETE ON payment_accounts FROM {role}")


def _create_accounts() -> None:
    op.create_table(
        "payment_accounts",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", sa.BigInteger, nullable=False),
        sa.Column("payment_gateway", sa.Text, nullable=False),
        sa.Column("gateway_account", sa.Text),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("live", sa.Boolean, nullable=False),
        sa.Column("country", sa.Text),
        sa.Column("currency", sa.Text),
        sa.Column("charges_enabled", sa.Boolean, nullable=False),
        sa.Column("payouts_enabled", sa.Boolean, nullable=False),
        sa.Column("requirements", postgresql.JSONB, nullable=False),
        sa.Column("disabled_reason", sa.Text),
        sa.Column("disconnected_at", _INSTANT),
        sa.Column("caught_up_at", _INSTANT),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "status IN ('connecting', 'connected', 'disconnected')",
            name=op.f("ck_payment_accounts_status_known"),
        ),
        sa.CheckConstraint(
            "status <> 'connected' OR gateway_account IS NOT NULL",
            name=op.f("ck_payment_accounts_connected_has_account"),
        ),
        sa.CheckConstraint(
            "(status = 'disconnected') = (disconnected_at IS NOT NULL)",
            name=op.f("ck_payment_accounts_disconnected_at"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment_accounts")),
        sa.UniqueConstraint(
            "organization_id", "id", name=op.f("uq_payment_accounts_organization_id_id")
        ),
        sa.UniqueConstraint(
            "payment_gateway",
            "gateway_account",
            name=op.f("uq_payment_accounts_payment_gateway_gateway_account"),
        ),
    )


def downgrade() -> None:
    raise NotImplementedError(
        "payments on connected accounts would be taken for the installation's; restore a backup"
    )
