"""Second factors, and when a user last proved who they are.

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)


def _user_id(*, is_key: bool) -> sa.Column[int]:
    return sa.Column(
        "user_id",
        sa.BigInteger,
        sa.ForeignKey("users.id"),
        primary_key=is_key,
        nullable=False,
        index=not is_key,
        autoincrement=False,
    )


def upgrade() -> None:
    op.add_column("sign_in_sessions", sa.Column("authenticated_at", _INSTANT))
    op.add_column("sign_in_sessions", sa.Column("amr", sa.Text))
    op.create_table(
        "second_factors",
        _user_id(is_key=True),
        sa.Column("secret", sa.Text, nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("confirmed_at", _INSTANT),
        sa.Column("last_step", sa.BigInteger),
    )
    op.create_table(
        "recovery_codes",
        _user_id(is_key=True),
        sa.Column("code_hash", sa.LargeBinary, primary_key=True),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("used_at", _INSTANT),
    )
    op.create_table(
        "sign_in_challenges",
        sa.Column("token_hash", sa.LargeBinary, primary_key=True),
        _user_id(is_key=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("expires_at", _INSTANT, nullable=False, index=True),
        sa.Column("used_at", _INSTANT),
    )


def downgrade() -> None:
    for table in ("sign_in_challenges", "recovery_codes", "second_factors"):
        op.drop_table(table)
    for column in ("amr", "authenticated_at"):
        op.drop_column("sign_in_sessions", column)
