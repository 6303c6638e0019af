"""Messages wait in a table until they are sent.

Revision ID: 0011
Revises: 0010
"""

from alembic import op

from shared.migrations import create_outgoing_mails

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_outgoing_mails()


def downgrade() -> None:
    op.drop_table("outgoing_mails")
