"""An organization sees the names of those who hold its vouchers, not of its own members alone.

Revision ID: 0006
Revises: 0005
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# It sees what its caller sees. A function, so that the planner never looks at all vouchers at once.
_HOLDS = """
CREATE FUNCTION holds_voucher(client bigint) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (SELECT FROM vouchers WHERE client_id = client);
END $$
"""
# Who is seen as a member is not asked about: a list of fifty would ask fifty times.
_HOLDER = """
CREATE POLICY holder ON client_copies FOR SELECT USING (
    (SELECT current_setting('carnet.scope', true)) IS DISTINCT FROM 'all'
    AND organization_id IS DISTINCT FROM
        (SELECT NULLIF(current_setting('carnet.organization_id', true), '')::bigint)
    AND holds_voucher(id)
)
"""


def upgrade() -> None:
    op.execute(_HOLDS)
    op.execute(_HOLDER)


def downgrade() -> None:
    op.execute("DROP POLICY holder ON client_copies")
    op.execute("DROP FUNCTION holds_voucher")
