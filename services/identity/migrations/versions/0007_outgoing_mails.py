"""Messages wait in a table until they are sent.

Revision ID: 0007
Revises: 0006
"""

from alembic import op

from shared.migrations import create_outgoing_mails

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_outgoing_mails()


def downgrade() -> None:
    op.drop_table("outgoing_mails")
