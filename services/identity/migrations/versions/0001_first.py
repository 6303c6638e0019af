"""Users, permissions, sessions, signing keys, copies of organizations.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from shared.migrations import create_shared_tables
from shared.tenancy import policy_statements

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)
_ROLES = "'admin', 'organization_owner', 'therapist', 'client', 'staff'"
_PERMISSIONS = (
    "'manage_organization', 'manage_users', 'manage_voucher_types', 'manage_vouchers',"
    " 'manage_payments', 'view_payments', 'view_audit_logs', 'all'"
)


def upgrade() -> None:
    create_shared_tables()
    _create_users()
    _create_permissions()
    _create_sessions()
    _create_small_tables()


def _create_users() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("phone", sa.Text),
        sa.Column("password_hash", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("organization_id", sa.BigInteger),
        sa.Column("is_organization_owner", sa.Boolean, nullable=False),
        sa.Column("is_active", sa.Boolean, nullable=False),
        sa.Column("approved_at", _INSTANT),
        sa.Column("approved_by", sa.BigInteger, sa.ForeignKey("users.id")),
        sa.Column("last_login", _INSTANT),
        sa.Column("deleted_at", _INSTANT),
        sa.Column("requested_organization", sa.Text),
        sa.Column("tokens_not_before", _INSTANT),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("organization_id", "id"),
        sa.CheckConstraint(f"role IN ({_ROLES})", name="role"),
        sa.CheckConstraint(
            "is_organization_owner = (role = 'organization_owner')", name="owner_by_role"
        ),
        sa.CheckConstraint("NOT is_active OR approved_at IS NOT NULL", name="active_when_approved"),
        sa.CheckConstraint("NOT is_active OR deleted_at IS NULL", name="deleted_is_inactive"),
    )
    op.create_index("uq_users_email", "users", [sa.text("lower(email)")], unique=True)
    op.create_index(
        "ix_users_pending",
        "users",
        ["organization_id", "id"],
        postgresql_where=sa.text("approved_at IS NULL"),
    )
    op.create_index(
        "ix_users_tokens_not_before",
        "users",
        ["tokens_not_before"],
        postgresql_where=sa.text("tokens_not_before IS NOT NULL"),
    )
    for statement in policy_statements("users", user_column="id"):
        op.execute(statement)


def _create_permissions() -> None:
    op.create_table(
        "permissions",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("organization_id", sa.BigInteger, nullable=False, index=True),
        sa.Column("permission", sa.Text, nullable=False),
        sa.Column("granted_by", sa.BigInteger, sa.ForeignKey("users.id")),
        sa.Column("granted_at", _INSTANT, nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("user_id", "organization_id", "permission"),
        sa.ForeignKeyConstraint(
            ["organization_id", "user_id"], ["users.organization_id", "users.id"]
        ),
        sa.CheckConstraint(f"permission IN ({_PERMISSIONS})", name="permission"),
    )
    for statement in policy_statements("permissions", user_column="user_id"):
        op.execute(statement)


def _create_sessions() -> None:
    op.create_table(
        "sign_in_sessions",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("user_id", sa.BigInteger, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("started_at", _INSTANT, nullable=False),
        sa.Column("last_used_at", _INSTANT, nullable=False),
        sa.Column("expires_at", _INSTANT, nullable=False, index=True),
        sa.Column("ended_at", _INSTANT, index=True),
        sa.Column("end_reason", sa.Text),
        sa.Column("ip_address", sa.Text),
        sa.Column("user_agent", sa.Text),
        sa.Column("network", sa.Text, nullable=False),
    )
    op.create_index(
        "ix_sign_in_sessions_user_id_network", "sign_in_sessions", ["user_id", "network"]
    )
    op.create_table(
        "refresh_tokens",
        sa.Column("token_hash", sa.LargeBinary, primary_key=True),
        sa.Column(
            "session_id",
            sa.Uuid,
            sa.ForeignKey("sign_in_sessions.id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column("issued_at", _INSTANT, nullable=False),
        sa.Column("used_at", _INSTANT),
    )


def _create_small_tables() -> None:
    op.create_table(
        "organization_copies",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("slug", sa.Text, unique=True),
        sa.Column("slug_version", sa.BigInteger, nullable=False),
        sa.Column("is_active", sa.Boolean),
        sa.Column("is_active_version", sa.BigInteger, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False, index=True),
    )
    op.create_table(
        "signing_keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("public_key", postgresql.JSONB, nullable=False),
        sa.Column("private_key", sa.Text),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("signs_from", _INSTANT, nullable=False),
        sa.Column("published_until", _INSTANT),
    )
    op.create_table(
        "attempt_counts",
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("ends_at", _INSTANT, nullable=False, index=True),
    )


def downgrade() -> None:
    raise NotImplementedError("version 2 begins here; restore a backup to go further back")
