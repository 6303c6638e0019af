"""Version 1's sessions and reservations, for the upgrade to keep.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

from shared.tenancy import policy_statements

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", sa.BigInteger, nullable=False),
        sa.Column("therapy_class_id", sa.BigInteger),
        sa.Column("session_date", _INSTANT, nullable=False),
        sa.Column("status", sa.Text),
        sa.Column("notes", sa.Text),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.CheckConstraint(
            "status IN ('scheduled', 'completed', 'cancelled')", name=op.f("ck_sessions_status")
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "therapy_class_id"],
            ["therapy_classes.organization_id", "therapy_classes.id"],
            name=op.f("fk_sessions_organization_id_therapy_class_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
    )
    op.create_index(
        "ix_sessions_therapy_class",
        "sessions",
        ["organization_id", "therapy_class_id", "session_date"],
    )
    op.create_table(
        "reservations",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", sa.BigInteger, nullable=False),
        sa.Column("client_id", sa.BigInteger),
        sa.Column("therapy_class_id", sa.BigInteger),
        sa.Column("session_date", _INSTANT, nullable=False),
        sa.Column("voucher_code_id", sa.BigInteger),
        sa.Column("status", sa.Text),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.CheckConstraint(
            "status IN ('pending', 'confirmed', 'cancelled', 'completed')",
            name=op.f("ck_reservations_status"),
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "therapy_class_id"],
            ["therapy_classes.organization_id", "therapy_classes.id"],
            name=op.f("fk_reservations_organization_id_therapy_class_id"),
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "voucher_code_id"],
            ["voucher_codes.organization_id", "voucher_codes.id"],
            name=op.f("fk_reservations_organization_id_voucher_code_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reservations")),
        sa.UniqueConstraint(
            "organization_id",
            "client_id",
            "therapy_class_id",
            "session_date",
            name=op.f("uq_reservations_organization_id_client_id_therapy_class_id_session_date"),
        ),
    )
    for table, user_column in (("sessions", None), ("reservations", "client_id")):
        for statement in policy_statements(table, user_column=user_column):
            op.execute(statement)


def downgrade() -> None:
    op.drop_table("reservations")
    op.drop_table("sessions")
