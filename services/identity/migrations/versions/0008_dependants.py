"""Clients without an account, for whom another client acts.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

from shared.tenancy import policy_statements

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_TABLE = """
CREATE TABLE dependants (
    id BIGINT NOT NULL DEFAULT nextval('users_id_seq'),
    guardian_id BIGINT NOT NULL,
    organization_id BIGINT,
    name TEXT NOT NULL,
    date_of_birth DATE,
    is_active BOOLEAN NOT NULL,
    deleted_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    version BIGINT NOT NULL,
    CONSTRAINT pk_dependants PRIMARY KEY (id),
    CONSTRAINT fk_dependants_guardian_id FOREIGN KEY (guardian_id) REFERENCES users (id),
    CONSTRAINT ck_dependants_deleted_is_inactive CHECK (NOT is_active OR deleted_at IS NULL)
)
"""


def upgrade() -> None:
    op.execute(_TABLE)
    op.create_index("ix_dependants_guardian", "dependants", ["guardian_id", "id"])
    for statement in policy_statements("dependants", user_column="guardian_id"):
        op.execute(statement)
    role = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(f"REVOKE DELETE ON dependants FROM {role}")


def downgrade() -> None:
    op.drop_table("dependants")
