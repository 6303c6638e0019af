"""Guardians of clients without an account, who act for them.

Revision ID: 0017
Revises: 0016
"""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE client_copies ADD COLUMN guardian_id bigint")
    for table, order in (("vouchers", "id"), ("reservations", "starts_at, id")):
        op.execute(f"ALTER TABLE {table} ADD COLUMN guardian_id bigint")
        op.execute(
            f"CREATE INDEX ix_{table}_guardian ON {table} (guardian_id, {order})"
            " WHERE guardian_id IS NOT NULL"
        )


def downgrade() -> None:
    for table in ("reservations", "vouchers", "client_copies"):
        op.execute(f"ALTER TABLE {table} DROP COLUMN guardian_id")
