"""Payment transactions, refunds, invoices with their series, received webhooks.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from shared.migrations import create_shared_tables
from shared.tenancy import policy_statements

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)
_MONEY = sa.Numeric(12, 2)

_UNFINISHED = "status IN ('pending', 'processing', 'requires_action')"
# What states.NEXT allows: a test compares the two.
_STEPS = {
    "pending": "processing requires_action succeeded failed cancelled quarantined",
    "processing": "requires_action succeeded failed cancelled quarantined",
    "requires_action": "succeeded failed cancelled quarantined",
    "succeeded": "partially_refunded refunded",
    "partially_refunded": "refunded",
    "failed": "quarantined",
    "cancelled": "quarantined",
}


def upgrade() -> None:
    create_shared_tables()
    _create_transactions()
    _guard_transactions()
    _create_refunds()
    _create_invoices()
    _create_webhook_events()


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True)


def _bookkeeping() -> list[sa.Column[object]]:
    return [
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
    ]


def _create_transactions() -> None:
    op.create_table(
        "payment_transactions",
        _id(),
        sa.Column("organization_id", sa.BigInteger, nullable=False),
        sa.Column("voucher_id", sa.BigInteger, nullable=False),
        sa.Column("client_id", sa.BigInteger, nullable=False),
        sa.Column("amount", _MONEY, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("payment_method", sa.Text, nullable=False),
        sa.Column("payment_gateway", sa.Text, nullable=False),
        sa.Column("gateway_transaction_id", sa.Text),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("failure_code", sa.Text),
        sa.Column("failure_message", sa.Text),
        sa.Column("quarantine_reason", sa.Text),
        sa.Column("captured_amount", _MONEY, nullable=False),
        sa.Column("refunded_amount", _MONEY, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("completed_at", _INSTANT),
        sa.Column("buyer", postgresql.JSONB, nullable=False),
        sa.Column("seller", postgresql.JSONB, nullable=False),
        sa.Column("next_action", postgresql.JSONB),
        sa.Column("gateway_response", postgresql.JSONB),
        sa.Column("void_requested_at", _INSTANT),
        sa.Column("checked_at", _INSTANT, nullable=False),
        *_bookkeeping(),
        sa.UniqueConstraint("payment_gateway", "gateway_transaction_id"),
        sa.UniqueConstraint("organization_id", "id"),
        sa.CheckConstraint("amount >= 0", name="amount_not_negative"),
        sa.CheckConstraint(
            "0 <= refunded_amount AND refunded_amount <= captured_amount",
            name="refunded_at_most_captured",
        ),
    )
    table = "payment_transactions"
    op.create_index(
        f"uq_{table}_unfinished_voucher_id",
        table,
        ["voucher_id"],
        unique=True,
        postgresql_where=sa.text(_UNFINISHED),
    )
    op.create_index(
        f"ix_{table}_unfinished_checked_at",
        table,
        ["checked_at"],
        postgresql_where=sa.text(_UNFINISHED),
    )
    op.create_index(f"ix_{table}_voucher_id", table, ["voucher_id"])
    op.create_index(f"ix_{table}_client_id_id", table, ["client_id", "id"])
    op.create_index(
        f"ix_{table}_organization_id_completed_at", table, ["organization_id", "completed_at"]
    )
    _protect(table)


def _guard_transactions() -> None:
    """Refuse every step that the state machine does not have, whoever tries it."""
    states = sorted({*_STEPS, *" ".join(_STEPS.values()).split()})
    known = ", ".join(f"'{state}'" for state in states)
    op.create_check_constraint("status_known", "payment_transactions", f"status IN ({known})")
    steps = ", ".join(
        f"('{before}', '{after}')" for before, afters in _STEPS.items() for after in afters.split()
    )
    op.execute(
        "CREATE FUNCTION refuse_backward_payment() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF (OLD.status, NEW.status) NOT IN ({steps}) THEN"
        " RAISE EXCEPTION 'payment % cannot go from % to %', OLD.id, OLD.status, NEW.status"
        " USING ERRCODE = 'check_violation';"
        " END IF; RETURN NEW; END $$"
    )
    op.execute(
        "CREATE TRIGGER only_forward BEFORE UPDATE OF status ON payment_transactions"
        " FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status)"
        " EXECUTE FUNCTION refuse_backward_payment()"
    )


def _create_refunds() -> None:
    op.create_table(
        "refunds",
        _id(),
        sa.Column("organization_id", sa.BigInteger, nullable=False),
        sa.Column("transaction_id", sa.BigInteger, nullable=False),
        sa.Column("client_id", sa.BigInteger, nullable=False),
        sa.Column("amount", _MONEY, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("failure_message", sa.Text),
        sa.Column("payment_gateway", sa.Text, nullable=False),
        sa.Column("gateway_refund_id", sa.Text),
        sa.Column("gateway_response", postgresql.JSONB),
        sa.Column("completed_at", _INSTANT),
        sa.Column("attempted_at", _INSTANT),
        *_bookkeeping(),
        _to_transaction(),
        sa.UniqueConstraint("organization_id", "id"),
        sa.UniqueConstraint("payment_gateway", "gateway_refund_id"),
        sa.CheckConstraint("amount > 0", name="amount_positive"),
    )
    op.create_index("ix_refunds_transaction_id", "refunds", ["transaction_id"])
    op.create_index(
        "ix_refunds_pending_attempted_at",
        "refunds",
        ["attempted_at"],
        postgresql_where=sa.text("status = 'pending'"),
    )
    _protect("refunds")


def _create_invoices() -> None:
    op.create_table(
        "invoices",
        _id(),
        sa.Column("organization_id", sa.BigInteger, nullable=False),
        sa.Column("client_id", sa.BigInteger, nullable=False),
        sa.Column("transaction_id", sa.BigInteger, nullable=False),
        sa.Column("refund_id", sa.BigInteger),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("number", sa.Text, nullable=False),
        sa.Column("year", sa.BigInteger, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("issued_at", _INSTANT, nullable=False),
        sa.Column("issue_date", sa.Date, nullable=False),
        sa.Column("corrects_number", sa.Text),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("total", _MONEY, nullable=False),
        sa.Column("lines", postgresql.JSONB, nullable=False),
        sa.Column("payment_method", sa.Text, nullable=False),
        sa.Column("seller", postgresql.JSONB, nullable=False),
        sa.Column("buyer", postgresql.JSONB, nullable=False),
        *_bookkeeping(),
        _to_transaction(),
        sa.ForeignKeyConstraint(
            ["organization_id", "refund_id"], ["refunds.organization_id", "refunds.id"]
        ),
        sa.UniqueConstraint("organization_id", "number"),
        sa.UniqueConstraint("organization_id", "kind", "year", "sequence"),
        sa.UniqueConstraint("refund_id"),
        sa.CheckConstraint(
            "(kind = 'invoice') = (refund_id IS NULL)", name="credit_note_has_refund"
        ),
    )
    op.create_index(
        "uq_invoices_transaction_id",
        "invoices",
        ["transaction_id"],
        unique=True,
        postgresql_where=sa.text("kind = 'invoice'"),
    )
    op.create_index("ix_invoices_transaction_id", "invoices", ["transaction_id"])
    op.create_index("ix_invoices_organization_id_id", "invoices", ["organization_id", "id"])
    op.create_index(
        "ix_invoices_organization_id_issue_date", "invoices", ["organization_id", "issue_date"]
    )
    _protect("invoices")
    # What was issued stays as it was issued, and no payment or refund goes away.
    op.execute("REVOKE UPDATE, DELETE ON invoices FROM payments")
    op.execute("REVOKE DELETE ON payment_transactions, refunds FROM payments")
    op.create_table(
        "invoice_series",
        sa.Column("organization_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("year", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("last_sequence", sa.BigInteger, nullable=False),
    )
    for statement in policy_statements("invoice_series"):
        op.execute(statement)


def _to_transaction() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["organization_id", "transaction_id"],
        ["payment_transactions.organization_id", "payment_transactions.id"],
    )


def _create_webhook_events() -> None:
    op.create_table(
        "webhook_events",
        _id(),
        sa.Column("gateway", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("signed_at", _INSTANT, nullable=False),
        sa.Column("received_at", _INSTANT, nullable=False),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sa.Column("next_attempt_at", _INSTANT),
        sa.Column("outcome", sa.Text),
        sa.UniqueConstraint("gateway", "event_id"),
    )
    op.create_index(
        "ix_webhook_events_waiting_next_attempt_at",
        "webhook_events",
        ["next_attempt_at"],
        postgresql_where=sa.text("next_attempt_at IS NOT NULL"),
    )
    # A webhook belongs to no organization until it is read: no tenant sees any.
    op.execute("ALTER TABLE webhook_events ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE webhook_events FORCE ROW LEVEL SECURITY")
    op.execute(
        "CREATE POLICY system ON webhook_events"
        " USING ((SELECT current_setting('carnet.scope', true)) = 'all')"
    )


def _protect(table: str) -> None:
    for statement in policy_statements(table, user_column="client_id"):
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("version 2 begins here; restore a backup to go further back")
