"""For which start the reminders of a reservation were planned.

Revision ID: 0019
Revises: 0018
"""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE reservations ADD COLUMN reminders_for timestamptz")
    op.execute(
        "CREATE INDEX ix_reservations_unplanned ON reservations (starts_at)"
        " WHERE status = 'booked' AND reminders_for IS DISTINCT FROM starts_at"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE reservations DROP COLUMN reminders_for")
