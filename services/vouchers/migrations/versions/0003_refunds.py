"""What goes back of a voucher: sessions and codes given back, refund quotes, disputes.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

from shared.tenancy import policy_statements

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)
_MONEY = sa.Numeric(precision=12, scale=2)

# As in 0001, but for the sessions that were given back: they do not reopen a completed voucher.
_GUARD = """
CREATE OR REPLACE FUNCTION guard_voucher() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status <> NEW.status AND NOT (
        (OLD.status = 'pending' AND NEW.status IN ('active', 'cancelled'))
        OR (OLD.status = 'active' AND NEW.status IN ('completed', 'expired', 'cancelled'))
        OR (OLD.status = 'completed' AND NEW.status = 'active'
            AND NEW.used_sessions + NEW.refunded_sessions < NEW.total_sessions)
    ) THEN
        RAISE EXCEPTION 'a voucher does not go from % to %', OLD.status, NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_vouchers_status_edge';
    END IF;
    IF (OLD.organization_id, OLD.client_id, OLD.voucher_type_id, OLD.voucher_type_version, OLD.name,
        OLD.session_name, OLD.total_sessions, OLD.backup_sessions, OLD.session_duration_minutes,
        OLD.max_clients_per_session, OLD.frequency, OLD.custom_days, OLD.price, OLD.currency,
        OLD.validity_days, OLD.booking_rules)
       IS DISTINCT FROM
       (NEW.organization_id, NEW.client_id, NEW.voucher_type_id, NEW.voucher_type_version, NEW.name,
        NEW.session_name, NEW.total_sessions, NEW.backup_sessions, NEW.session_duration_minutes,
        NEW.max_clients_per_session, NEW.frequency, NEW.custom_days, NEW.price, NEW.currency,
        NEW.validity_days, NEW.booking_rules) THEN
        RAISE EXCEPTION 'the terms of a sold voucher do not change'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_vouchers_terms_frozen';
    END IF;
    RETURN NEW;
END $$
"""


def upgrade() -> None:
    _count_what_goes_back()
    op.execute(_GUARD)
    _create_quotes()
    _create_disputes()
    role = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    for table in ("refund_quotes", "voucher_disputes"):
        op.execute(f"REVOKE DELETE ON {table} FROM {role}")


def _count_what_goes_back() -> None:
    op.add_column(
        "vouchers",
        sa.Column("refunded_sessions", sa.BigInteger, server_default=sa.text("0"), nullable=False),
    )
    op.add_column("vouchers", sa.Column("disputed_at", _INSTANT))
    op.add_column(
        "voucher_codes",
        sa.Column("is_refunded", sa.Boolean, server_default=sa.false(), nullable=False),
    )
    op.create_check_constraint(
        op.f("ck_voucher_codes_refunded"), "voucher_codes", "NOT (is_used AND is_refunded)"
    )
    op.drop_constraint(op.f("ck_vouchers_used_sessions"), "vouchers")
    op.create_check_constraint(
        op.f("ck_vouchers_used_sessions"),
        "vouchers",
        "used_sessions >= 0 AND refunded_sessions >= 0"
        " AND used_sessions + refunded_sessions <= total_sessions",
    )
    op.drop_constraint(op.f("ck_vouchers_completed"), "vouchers")
    op.create_check_constraint(
        op.f("ck_vouchers_completed"),
        "vouchers",
        "status <> 'completed' OR used_sessions + refunded_sessions = total_sessions",
    )


def _to_voucher(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["organization_id", "voucher_id"],
        ["vouchers.organization_id", "vouchers.id"],
        name=op.f(f"fk_{table}_organization_id_voucher_id"),
    )


def _create_quotes() -> None:
    op.create_table(
        "refund_quotes",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", sa.BigInteger, nullable=False),
        sa.Column("voucher_id", sa.BigInteger, nullable=False),
        sa.Column("client_id", sa.BigInteger),
        sa.Column("transaction_id", sa.BigInteger, nullable=False),
        sa.Column("voucher_version", sa.BigInteger, nullable=False),
        sa.Column("unused_sessions", sa.BigInteger, nullable=False),
        sa.Column("sessions", sa.BigInteger, nullable=False),
        sa.Column("amount", _MONEY, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("quoted_by", sa.BigInteger, nullable=False),
        sa.Column("taken_by", sa.BigInteger),
        sa.Column("valid_until", _INSTANT, nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.CheckConstraint(
            "status IN ('open', 'taken', 'refunded', 'failed')",
            name=op.f("ck_refund_quotes_status"),
        ),
        sa.CheckConstraint("sessions >= 1", name=op.f("ck_refund_quotes_sessions")),
        sa.CheckConstraint("amount > 0", name=op.f("ck_refund_quotes_amount")),
        _to_voucher("refund_quotes"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refund_quotes")),
    )
    op.create_index(
        "ix_refund_quotes_voucher", "refund_quotes", ["organization_id", "voucher_id", "id"]
    )
    for statement in policy_statements("refund_quotes", user_column="client_id"):
        op.execute(statement)


def _create_disputes() -> None:
    op.create_table(
        "voucher_disputes",
        sa.Column("id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("organization_id", sa.BigInteger, nullable=False),
        sa.Column("voucher_id", sa.BigInteger, nullable=False),
        sa.Column("is_open", sa.Boolean, nullable=False),
        _to_voucher("voucher_disputes"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_voucher_disputes")),
    )
    op.create_index(
        "ix_voucher_disputes_voucher", "voucher_disputes", ["organization_id", "voucher_id"]
    )
    for statement in policy_statements("voucher_disputes"):
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("what was given back would be usable again; restore a backup instead")
