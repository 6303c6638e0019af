"""Cards that clients store with organizations.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from shared.tenancy import policy_statements

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    _create_cards()
    op.create_index("ix_saved_cards_client_id_id", "saved_cards", ["client_id", "id"])
    op.create_index("ix_saved_cards_organization_id_id", "saved_cards", ["organization_id", "id"])
    op.create_index(
        "ix_saved_cards_unfinished_checked_at",
        "saved_cards",
        ["checked_at"],
        postgresql_where=sa.text(
            "status IN ('pending', 'requires_action') OR status = 'removed' AND detached_at IS NULL"
        ),
    )
    for statement in policy_statements("saved_cards", user_column="client_id"):
        op.execute(statement)
    role = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(f"REVOKE DELETE ON saved_cards FROM {role}")


def _create_cards() -> None:
    op.create_table(
        "saved_cards",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", sa.BigInteger, nullable=False),
        sa.Column("client_id", sa.BigInteger, nullable=False),
        sa.Column("payment_gateway", sa.Text, nullable=False),
        sa.Column("gateway_account", sa.Text),
        sa.Column("gateway_customer", sa.Text),
        sa.Column("gateway_setup", sa.Text),
        sa.Column("gateway_method", sa.Text),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("brand", sa.Text),
        sa.Column("last4", sa.Text),
        sa.Column("exp_month", sa.BigInteger),
        sa.Column("exp_year", sa.BigInteger),
        sa.Column("mandate_text", sa.Text, nullable=False),
        sa.Column("mandate_accepted_at", _INSTANT, nullable=False),
        sa.Column("failure_code", sa.Text),
        sa.Column("failure_message", sa.Text),
        sa.Column("next_action", postgresql.JSONB),
        sa.Column("removed_at", _INSTANT),
        sa.Column("detached_at", _INSTANT),
        sa.Column("checked_at", _INSTANT, nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "status IN ('pending', 'requires_action', 'active', 'failed', 'removed')",
            name=op.f("ck_saved_cards_status_known"),
        ),
        sa.CheckConstraint(
            "status <> 'active' OR gateway_method IS NOT NULL",
            name=op.f("ck_saved_cards_active_has_method"),
        ),
        sa.CheckConstraint(
            "(status = 'removed') = (removed_at IS NOT NULL)",
            name=op.f("ck_saved_cards_removed_at"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_saved_cards")),
        sa.UniqueConstraint(
            "organization_id", "id", name=op.f("uq_saved_cards_organization_id_id")
        ),
        sa.UniqueConstraint(
            "payment_gateway",
            "gateway_setup",
            name=op.f("uq_saved_cards_payment_gateway_gateway_setup"),
        ),
    )


def downgrade() -> None:
    raise NotImplementedError("the mandates of stored cards would be lost; restore a backup")
