"""The permission manage_bookings; who holds manage_vouchers is granted it, as an audited event.

Owners have every permission by their role.

Revision ID: 0006
Revises: 0005
"""

from datetime import UTC, datetime
from math import ceil

import sqlalchemy as sa
from alembic import op

from shared.change_events import Subject, event_data, new_event
from shared.context import system_origin

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_OTHERS = (
    "'manage_organization', 'manage_users', 'manage_voucher_types', 'manage_vouchers',"
    " 'manage_payments', 'view_payments', 'view_audit_logs', 'all'"
)
_GRANT = sa.text(
    "INSERT INTO permissions (user_id, organization_id, permission, granted_at, created_at,"
    " updated_at, version)"
    " SELECT user_id, organization_id, 'manage_bookings', :moment, :moment, :moment, 1"
    " FROM permissions WHERE permission = 'manage_vouchers' ORDER BY id"
    " RETURNING id, user_id, organization_id"
)
_VOID_TOKENS = sa.text("UPDATE users SET tokens_not_before = :moment WHERE id = :user_id")
_APPEND = sa.text(
    "INSERT INTO outbox (event_id, type, body, created_at) VALUES (:id, :type, :body, :moment)"
)


def upgrade() -> None:
    op.drop_constraint(op.f("ck_permissions_permission"), "permissions")
    op.create_check_constraint(
        op.f("ck_permissions_permission"),
        "permissions",
        f"permission IN ('manage_bookings', {_OTHERS})",
    )
    op.execute("SELECT set_config('carnet.scope', 'all', true)")
    _grant_to_voucher_managers()
    op.execute("SELECT set_config('carnet.scope', '', true)")


def _grant_to_voucher_managers() -> None:
    """Grant the permission, with the event and the void tokens that every grant has."""
    connection, origin = op.get_bind(), system_origin()
    milliseconds = ceil(datetime.now(UTC).timestamp() * 1000)
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    for permission_id, user_id, organization_id in connection.execute(
        _GRANT, {"moment": moment}
    ).all():
        values = {
            "id": permission_id,
            "user_id": user_id,
            "organization_id": organization_id,
            "permission": "manage_bookings",
            "granted_by": None,
            "granted_at": moment,
            "tokens_not_before": milliseconds / 1000,
        }
        subject = Subject("permission", permission_id, 1, organization_id)
        data = event_data("GRANT", subject, origin, old={}, new=values)
        event = new_event("carnet/identity", "identity.permission.granted.v1", data)
        connection.execute(_VOID_TOKENS, {"moment": moment, "user_id": user_id})
        body = {"body": event.model_dump_json(), "moment": moment}
        connection.execute(_APPEND, {"id": event.id, "type": event.type, **body})


def downgrade() -> None:
    op.execute("SELECT set_config('carnet.scope', 'all', true)")
    op.execute("DELETE FROM permissions WHERE permission = 'manage_bookings'")
    op.execute("SELECT set_config('carnet.scope', '', true)")
    op.drop_constraint(op.f("ck_permissions_permission"), "permissions")
    op.create_check_constraint(
        op.f("ck_permissions_permission"), "permissions", f"permission IN ({_OTHERS})"
    )
