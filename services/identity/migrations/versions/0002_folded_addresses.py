"""An address is one whatever its case and Unicode form, by a function of ours and not by lower().

Users who had one address in two spellings keep it: all but the first are marked, and printed.

Revision ID: 0002
Revises: 0001
"""

import sys

import sqlalchemy as sa
from alembic import op

from shared.text import create_folding_statement

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_MARK = """
    UPDATE users SET shares_address = true
    FROM (
        SELECT id, first_value(id) OVER (PARTITION BY folded(email) ORDER BY id) AS first_id
        FROM users
    ) same
    WHERE same.id = users.id AND same.first_id <> users.id
    RETURNING users.id, same.first_id
"""


def upgrade() -> None:
    op.execute(create_folding_statement())
    op.add_column(
        "users",
        sa.Column("shares_address", sa.Boolean, nullable=False, server_default=sa.text("false")),
    )
    op.execute("SELECT set_config('carnet.scope', 'all', true)")
    for user_id, first_id in op.get_bind().execute(sa.text(_MARK)).all():
        sys.stdout.write(
            f"identity: user {user_id} has the e-mail address of user {first_id} in another"
            " spelling. Both keep it, and each signs in with exactly their own spelling.\n"
        )
    op.execute("SELECT set_config('carnet.scope', '', true)")
    op.create_index(
        "uq_users_email_folded",
        "users",
        [sa.text("folded(email)")],
        unique=True,
        postgresql_where=sa.text("NOT shares_address"),
    )


def downgrade() -> None:
    op.drop_index("uq_users_email_folded", "users")
    op.drop_column("users", "shares_address")
    op.execute("DROP FUNCTION folded")
