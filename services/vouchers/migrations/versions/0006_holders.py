"""An organization sees the names of those who hold its vouchers, not of its own members alone.

Revision ID: 0006
Revises: 0005
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# A function, so that the planner does not look at the vouchers for every member as well; it sees
# what its caller sees.
_HOLDS = """
CREATE FUNCTION holds_voucher(client bigint) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (SELECT FROM vouchers WHERE client_id = client);
END $$
"""


def upgrade() -> None:
    op.execute(_HOLDS)
    # Policies are tried in the order of their names: members are known by `tenant`, at no cost.
    op.execute("CREATE POLICY voucher_holder ON client_copies FOR SELECT USING (holds_voucher(id))")


def downgrade() -> None:
    op.execute("DROP POLICY voucher_holder ON client_copies")
    op.execute("DROP FUNCTION holds_voucher")
