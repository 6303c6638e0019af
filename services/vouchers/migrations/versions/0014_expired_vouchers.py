"""An expired voucher becomes active again when it is extended.

Revision ID: 0014
Revises: 0013
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# As in 0009, with the transition from expired to active: it needs a later last day and a session.
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
        OLD.validity_days, OLD.booking_rules, OLD.booking_policy)
       IS DISTINCT FROM
       (NEW.organization_id, NEW.client_id, NEW.voucher_type_id, NEW.voucher_type_version, NEW.name,
        NEW.session_name, NEW.total_sessions, NEW.backup_sessions, NEW.session_duration_minutes,
        NEW.max_clients_per_session, NEW.frequency, NEW.custom_days, NEW.price, NEW.currency,
        NEW.validity_days, NEW.booking_rules, NEW.booking_policy) THEN
        RAISE EXCEPTION 'the terms of a sold voucher do not change'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_vouchers_terms_frozen';
    END IF;
    RETURN NEW;
END $$
"""


def upgrade() -> None:
    op.execute(_GUARD_VOUCHER)


def downgrade() -> None:
    raise NotImplementedError("extended vouchers would not expire again; restore a backup instead")
