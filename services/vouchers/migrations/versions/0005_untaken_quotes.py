"""Quotes that nobody took may be dropped; those that money went by may not, as before.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE POLICY untaken_quotes_may_go ON refund_quotes AS RESTRICTIVE FOR DELETE"
        " USING (status = 'open')"
    )
    op.execute(f"GRANT DELETE ON refund_quotes TO {_role()}")


def downgrade() -> None:
    op.execute(f"REVOKE DELETE ON refund_quotes FROM {_role()}")
    op.execute("DROP POLICY untaken_quotes_may_go ON refund_quotes")


def _role() -> str:
    # The service's role is named as its schema is.
    name: str = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    return name
