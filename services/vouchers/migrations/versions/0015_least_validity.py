"""The least validity of a voucher type, which is a term of its vouchers.

Revision ID: 0015
Revises: 0014
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_CHECKS = (
    "CHECK (least_validity_months BETWEEN 1 AND 120)",
    "CHECK (least_validity_years BETWEEN 1 AND 10)",
    "CHECK (least_validity_months IS NULL OR least_validity_years IS NULL)",
)
_COLUMNS = tuple(
    f"ALTER TABLE {table} ADD COLUMN least_validity_months bigint,"
    f" ADD COLUMN least_validity_years bigint,"
    f" ADD CONSTRAINT ck_{table}_least_validity_months {_CHECKS[0]},"
    f" ADD CONSTRAINT ck_{table}_least_validity_years {_CHECKS[1]},"
    f" ADD CONSTRAINT ck_{table}_least_validity_form {_CHECKS[2]}"
    for table in ("voucher_types", "vouchers")
)
_LAST_DAY = (
    "ALTER TABLE vouchers ADD COLUMN least_valid_until date,"
    " ADD CONSTRAINT ck_vouchers_least_validity CHECK (valid_until >= least_valid_until)"
)
# As in 0014, with the least validity among the terms; its last day is set once.
_GUARD_VOUCHER = """
CREATE OR REPLACE FUNCTION guard_voucher() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status <> NEW.status AND NOT (
        (OLD.status = 'pending' AND NEW.status IN ('active', 'cancelled'))
        OR (OLD.status = 'active' AND NEW.status IN ('completed', 'expired', 'cancelled'))
        OR (OLD.status = 'completed' AND NEW.status = 'active'
            AND NEW.used_sessions + NEW.refunded_sessions < NEW.total_sessions)
        OR (OLD.status = 'expired' AND NEW.status = 'active'
            AND NEW.valid_until > OLD.valid_until
            AND NEW.used_sessions + NEW.refunded_sessions < NEW.total_sessions)
    ) THEN
        RAISE EXCEPTION 'a voucher does not go from % to %', OLD.status, NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_vouchers_status_edge';
    END IF;
    IF (OLD.organization_id, OLD.client_id, OLD.voucher_type_id, OLD.voucher_type_version, OLD.name,
        OLD.session_name, OLD.total_sessions, OLD.backup_sessions, OLD.session_duration_minutes,
        OLD.max_clients_per_session, OLD.frequency, OLD.custom_days, OLD.price, OLD.currency,
        OLD.validity_days, OLD.least_validity_months, OLD.least_validity_years, OLD.booking_rules,
        OLD.booking_policy)
       IS DISTINCT FROM
       (NEW.organization_id, NEW.client_id, NEW.voucher_type_id, NEW.voucher_type_version, NEW.name,
        NEW.session_name, NEW.total_sessions, NEW.backup_sessions, NEW.session_duration_minutes,
        NEW.max_clients_per_session, NEW.frequency, NEW.custom_days, NEW.price, NEW.currency,
        NEW.validity_days, NEW.least_validity_months, NEW.least_validity_years, NEW.booking_rules,
        NEW.booking_policy)
       OR (OLD.least_valid_until IS NOT NULL
           AND OLD.least_valid_until IS DISTINCT FROM NEW.least_valid_until) THEN
        RAISE EXCEPTION 'the terms of a sold voucher do not change'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_vouchers_terms_frozen';
    END IF;
    RETURN NEW;
END $$
"""


def upgrade() -> None:
    for statement in (*_COLUMNS, _LAST_DAY, _GUARD_VOUCHER):
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("sold terms would be lost; restore a backup instead")
