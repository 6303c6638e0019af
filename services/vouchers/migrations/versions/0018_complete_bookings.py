"""Every session has its times, and every reservation its session and a state of version 2.

Revision ID: 0018
Revises: 0017
"""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "ALTER TABLE therapy_classes"
    " ADD CONSTRAINT ck_therapy_classes_capacity CHECK (capacity >= 1),"
    " ADD CONSTRAINT ck_therapy_classes_duration_minutes"
    " CHECK (duration_minutes BETWEEN 1 AND 1440)",
    "ALTER TABLE sessions ALTER COLUMN ends_at SET NOT NULL,"
    " ALTER COLUMN timezone SET NOT NULL, ALTER COLUMN starts_local SET NOT NULL,"
    " ALTER COLUMN status SET NOT NULL",
    """
    ALTER TABLE reservations
        ALTER COLUMN session_id SET NOT NULL,
        ALTER COLUMN ends_at SET NOT NULL,
        ALTER COLUMN status SET NOT NULL,
        DROP CONSTRAINT ck_reservations_session,
        DROP CONSTRAINT ck_reservations_status,
        ADD CONSTRAINT ck_reservations_status CHECK (status IN ('waitlisted', 'held', 'booked',
            'attended', 'no_show', 'late_cancelled', 'cancelled'))
    """,
)
# As in 0009, without the states of version 1.
_GUARD_RESERVATION = """
CREATE OR REPLACE FUNCTION guard_reservation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status <> NEW.status AND NOT (
        (OLD.status = 'waitlisted' AND NEW.status IN ('held', 'booked', 'cancelled'))
        OR (OLD.status = 'held' AND NEW.status IN ('booked', 'cancelled'))
        OR (OLD.status = 'booked'
            AND NEW.status IN ('attended', 'no_show', 'late_cancelled', 'cancelled'))
        OR (OLD.status = 'booked' AND NEW.status = 'held' AND NEW.held_for = 'approval')
        OR (OLD.status IN ('attended', 'no_show', 'late_cancelled') AND NEW.status = 'booked')
    ) THEN
        RAISE EXCEPTION 'a reservation does not go from % to %', OLD.status, NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_reservations_status_edge';
    END IF;
    RETURN NEW;
END $$
"""


def upgrade() -> None:
    for statement in (*_STATEMENTS, _GUARD_RESERVATION):
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("the states of version 1 are lost; restore a backup instead")
