"""Names are searched without case and Unicode form.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

from shared.text import create_folding_statement

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(create_folding_statement())


def downgrade() -> None:
    op.execute("DROP FUNCTION folded")
