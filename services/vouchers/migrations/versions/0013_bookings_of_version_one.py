"""Classes, sessions and reservations that an upgrade from version 1 copied become bookings.

Revision ID: 0013
Revises: 0012
"""

from alembic import op

from services.vouchers.version_one.conversion import convert_in_place

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SELECT set_config('carnet.scope', 'all', true)")
    convert_in_place(op.get_bind())
    op.execute("SELECT set_config('carnet.scope', '', true)")


def downgrade() -> None:
    raise NotImplementedError("the states of version 1 are lost; restore a backup instead")
