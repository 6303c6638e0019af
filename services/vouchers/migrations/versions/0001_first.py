"""Voucher types, vouchers, codes, redemptions, copies.

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

_TENANT_TABLES = {
    "voucher_types": None,
    "vouchers": "client_id",
    "voucher_codes": "client_id",
    "redemptions": "client_id",
    "adjustments": "client_id",
    "client_copies": "id",
    "therapy_classes": None,
}
"""Table → the column that names the user who sees a row beside its organization."""

# completed → active is a reversal's: it needs a session given back in the same statement.
_GUARD = """
CREATE FUNCTION guard_voucher() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status <> NEW.status AND NOT (
        (OLD.status = 'pending' AND NEW.status IN ('active', 'cancelled'))
        OR (OLD.status = 'active' AND NEW.status IN ('completed', 'expired', 'cancelled'))
        OR (OLD.status = 'completed' AND NEW.status = 'active'
            AND NEW.used_sessions < NEW.total_sessions)
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

_KEPT = (
    ("UPDATE, DELETE", "redemptions"),
    ("DELETE", "vouchers"),
    ("DELETE", "voucher_codes"),
)
"""What the service's role may not do: a ledger is written once, what was sold stays."""


def upgrade() -> None:
    create_shared_tables()
    _create_tables()
    op.execute(_GUARD)
    op.execute(
        "CREATE TRIGGER guard_voucher BEFORE UPDATE ON vouchers"
        " FOR EACH ROW EXECUTE FUNCTION guard_voucher()"
    )
    for table, user_column in _TENANT_TABLES.items():
        for statement in policy_statements(table, user_column=user_column):
            op.execute(statement)
    # The service's role is named as its schema.
    role = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    for privileges, table in _KEPT:
        op.execute(f"REVOKE {privileges} ON {table} FROM {role}")


def _create_tables() -> None:
    op.create_table(
        "client_copies",
        sa.Column("id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("email", sa.Text),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("organization_id", sa.BigInteger),
        sa.Column("is_active", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_client_copies")),
    )
    op.create_index(op.f("ix_client_copies_organization_id"), "client_copies", ["organization_id"])
    op.create_table(
        "organization_copies",
        sa.Column("id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("slug", sa.Text, nullable=False),
        sa.Column("address", sa.Text),
        sa.Column("phone", sa.Text),
        sa.Column("email", sa.Text),
        sa.Column("tax_id", sa.Text),
        sa.Column("logo_url", sa.Text),
        sa.Column("timezone", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("is_active", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organization_copies")),
    )
    op.create_table(
        "therapy_classes",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", sa.BigInteger, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("duration_minutes", sa.BigInteger, nullable=False),
        sa.Column("capacity", sa.BigInteger, nullable=False),
        sa.Column("therapist_id", sa.BigInteger),
        sa.Column("is_active", sa.Boolean, nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_therapy_classes")),
        sa.UniqueConstraint(
            "organization_id", "id", name=op.f("uq_therapy_classes_organization_id_id")
        ),
    )
    op.create_table(
        "voucher_types",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", sa.BigInteger, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("session_name", sa.Text),
        sa.Column("description", sa.Text),
        sa.Column("total_sessions", sa.BigInteger, nullable=False),
        sa.Column("backup_sessions", sa.BigInteger, nullable=False),
        sa.Column("session_duration_minutes", sa.BigInteger, nullable=False),
        sa.Column("max_clients_per_session", sa.BigInteger, nullable=False),
        sa.Column("frequency", sa.Text, nullable=False),
        sa.Column("custom_days", sa.ARRAY(sa.SmallInteger())),
        sa.Column("price", sa.Numeric(precision=12, scale=2), nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("validity_days", sa.BigInteger, nullable=False),
        sa.Column("booking_rules", postgresql.JSONB, nullable=False),
        sa.Column("is_active", sa.Boolean, nullable=False),
        sa.Column("deactivated_at", _INSTANT),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "(frequency = 'custom') = (custom_days IS NOT NULL)",
            name=op.f("ck_voucher_types_custom_days"),
        ),
        sa.CheckConstraint(
            "frequency IN ('daily', 'weekly', 'biweekly', 'custom')",
            name=op.f("ck_voucher_types_frequency"),
        ),
        sa.CheckConstraint("backup_sessions >= 0", name=op.f("ck_voucher_types_backup_sessions")),
        sa.CheckConstraint(
            "is_active = (deactivated_at IS NULL)", name=op.f("ck_voucher_types_deactivated_at")
        ),
        sa.CheckConstraint(
            "max_clients_per_session >= 1", name=op.f("ck_voucher_types_max_clients_per_session")
        ),
        sa.CheckConstraint("price >= 0", name=op.f("ck_voucher_types_price")),
        sa.CheckConstraint(
            "session_duration_minutes BETWEEN 1 AND 1440",
            name=op.f("ck_voucher_types_session_duration"),
        ),
        sa.CheckConstraint("total_sessions >= 1", name=op.f("ck_voucher_types_total_sessions")),
        sa.CheckConstraint("validity_days >= 1", name=op.f("ck_voucher_types_validity_days")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_voucher_types")),
        sa.UniqueConstraint(
            "organization_id", "id", name=op.f("uq_voucher_types_organization_id_id")
        ),
    )
    op.create_table(
        "vouchers",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", sa.BigInteger, nullable=False),
        sa.Column("client_id", sa.BigInteger),
        sa.Column("voucher_type_id", sa.BigInteger),
        sa.Column("voucher_type_version", sa.BigInteger),
        sa.Column("therapy_class_id", sa.BigInteger),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("session_name", sa.Text),
        sa.Column("total_sessions", sa.BigInteger, nullable=False),
        sa.Column("backup_sessions", sa.BigInteger, nullable=False),
        sa.Column("session_duration_minutes", sa.BigInteger),
        sa.Column("max_clients_per_session", sa.BigInteger),
        sa.Column("frequency", sa.Text),
        sa.Column("custom_days", sa.ARRAY(sa.SmallInteger())),
        sa.Column("price", sa.Numeric(precision=12, scale=2)),
        sa.Column("currency", sa.Text),
        sa.Column("validity_days", sa.BigInteger),
        sa.Column("booking_rules", postgresql.JSONB, nullable=False),
        sa.Column("used_sessions", sa.BigInteger, nullable=False),
        sa.Column("used_backup_sessions", sa.BigInteger, nullable=False),
        sa.Column("purchase_date", sa.Date, nullable=False),
        sa.Column("valid_from", sa.Date),
        sa.Column("valid_until", sa.Date),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("payment_method", sa.Text),
        sa.Column("payment_status", sa.Text, nullable=False),
        sa.Column("payment_amount", sa.Numeric(precision=12, scale=2)),
        sa.Column("payment_date", _INSTANT),
        sa.Column("invoice_number", sa.Text),
        sa.Column("notes", sa.Text),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "payment_method IN ('credit_card', 'bank_transfer', 'cash', 'other')",
            name=op.f("ck_vouchers_payment_method"),
        ),
        sa.CheckConstraint(
            "payment_status IN ('pending', 'paid', 'failed', 'refunded', 'partially_refunded')",
            name=op.f("ck_vouchers_payment_status"),
        ),
        sa.CheckConstraint(
            "status <> 'completed' OR used_sessions = total_sessions",
            name=op.f("ck_vouchers_completed"),
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'active', 'completed', 'expired', 'cancelled')",
            name=op.f("ck_vouchers_status"),
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'cancelled') OR valid_until IS NOT NULL",
            name=op.f("ck_vouchers_validity_known"),
        ),
        sa.CheckConstraint(
            "used_backup_sessions BETWEEN 0 AND backup_sessions",
            name=op.f("ck_vouchers_used_backup"),
        ),
        sa.CheckConstraint(
            "used_sessions BETWEEN 0 AND total_sessions", name=op.f("ck_vouchers_used_sessions")
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "therapy_class_id"],
            ["therapy_classes.organization_id", "therapy_classes.id"],
            name=op.f("fk_vouchers_organization_id_therapy_class_id"),
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "voucher_type_id"],
            ["voucher_types.organization_id", "voucher_types.id"],
            name=op.f("fk_vouchers_organization_id_voucher_type_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vouchers")),
        sa.UniqueConstraint("organization_id", "id", name=op.f("uq_vouchers_organization_id_id")),
    )
    op.create_index("ix_vouchers_client", "vouchers", ["client_id", "id"])
    op.create_index(
        "ix_vouchers_organization_client", "vouchers", ["organization_id", "client_id", "id"]
    )
    op.create_index(
        "ix_vouchers_organization_status", "vouchers", ["organization_id", "status", "id"]
    )
    op.create_index(
        "ix_vouchers_organization_type", "vouchers", ["organization_id", "voucher_type_id", "id"]
    )
    op.create_index(
        "ix_vouchers_running_out",
        "vouchers",
        ["valid_until"],
        postgresql_where=sa.text("status = 'active'"),
    )
    op.create_index(
        "ix_vouchers_unpaid",
        "vouchers",
        ["created_at"],
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_table(
        "adjustments",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", sa.BigInteger, nullable=False),
        sa.Column("voucher_id", sa.BigInteger, nullable=False),
        sa.Column("client_id", sa.BigInteger),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("starts_on", sa.Date),
        sa.Column("ends_on", sa.Date),
        sa.Column("days", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("made_by", sa.BigInteger, nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("reversed_at", _INSTANT),
        sa.Column("reversed_by", sa.BigInteger),
        sa.CheckConstraint(
            "(kind = 'freeze') = (starts_on IS NOT NULL AND ends_on IS NOT NULL)",
            name=op.f("ck_adjustments_freeze"),
        ),
        sa.CheckConstraint("kind IN ('freeze', 'extension')", name=op.f("ck_adjustments_kind")),
        sa.CheckConstraint("days >= 1", name=op.f("ck_adjustments_days")),
        sa.ForeignKeyConstraint(
            ["organization_id", "voucher_id"],
            ["vouchers.organization_id", "vouchers.id"],
            name=op.f("fk_adjustments_organization_id_voucher_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adjustments")),
    )
    op.create_index(
        "ix_adjustments_voucher", "adjustments", ["organization_id", "voucher_id", "id"]
    )
    op.create_table(
        "voucher_codes",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", sa.BigInteger, nullable=False),
        sa.Column("voucher_id", sa.BigInteger),
        sa.Column("client_id", sa.BigInteger),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("is_backup", sa.Boolean, nullable=False),
        sa.Column("is_used", sa.Boolean, nullable=False),
        sa.Column("used_at", _INSTANT),
        sa.Column("used_by", sa.BigInteger),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.CheckConstraint(
            "is_used OR (used_at IS NULL AND used_by IS NULL)", name=op.f("ck_voucher_codes_unused")
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "voucher_id"],
            ["vouchers.organization_id", "vouchers.id"],
            name=op.f("fk_voucher_codes_organization_id_voucher_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_voucher_codes")),
        sa.UniqueConstraint("code", name=op.f("uq_voucher_codes_code")),
        sa.UniqueConstraint(
            "organization_id", "id", name=op.f("uq_voucher_codes_organization_id_id")
        ),
        sa.UniqueConstraint(
            "organization_id",
            "voucher_id",
            "id",
            name=op.f("uq_voucher_codes_organization_id_voucher_id_id"),
        ),
    )
    op.create_table(
        "redemptions",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", sa.BigInteger, nullable=False),
        sa.Column("voucher_id", sa.BigInteger, nullable=False),
        sa.Column("client_id", sa.BigInteger),
        sa.Column("voucher_code_id", sa.BigInteger),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("session_date", sa.Date, nullable=False),
        sa.Column("therapist_id", sa.BigInteger),
        sa.Column("reversal_of", sa.BigInteger),
        sa.Column("reason", sa.Text),
        sa.Column("note", sa.Text),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint("kind IN ('regular', 'backup')", name=op.f("ck_redemptions_kind")),
        sa.CheckConstraint(
            "reason IN ('missed', 'late_cancelled')", name=op.f("ck_redemptions_reason")
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "voucher_id", "reversal_of"],
            ["redemptions.organization_id", "redemptions.voucher_id", "redemptions.id"],
            name="fk_redemptions_reversal_of",
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "voucher_id", "voucher_code_id"],
            ["voucher_codes.organization_id", "voucher_codes.voucher_id", "voucher_codes.id"],
            name="fk_redemptions_voucher_code",
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "voucher_id"],
            ["vouchers.organization_id", "vouchers.id"],
            name=op.f("fk_redemptions_organization_id_voucher_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_redemptions")),
        sa.UniqueConstraint(
            "organization_id",
            "voucher_id",
            "id",
            name=op.f("uq_redemptions_organization_id_voucher_id_id"),
        ),
        sa.UniqueConstraint("reversal_of", name=op.f("uq_redemptions_reversal_of")),
    )


def downgrade() -> None:
    raise NotImplementedError("version 2 begins here; restore a backup to go further back")
