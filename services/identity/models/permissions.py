"""Permissions that users were granted."""

from datetime import datetime

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from services.identity.models.base import Base, one_of
from shared.db import Entity, now

PERMISSIONS = (
    "manage_organization",
    "manage_users",
    "manage_voucher_types",
    "manage_vouchers",
    "manage_bookings",
    "manage_payments",
    "view_payments",
    "view_audit_logs",
    "all",
)


class Permission(Entity, Base):
    """A permission of a member of an organization, beyond what the role allows."""

    __tablename__ = "permissions"
    __table_args__ = (
        UniqueConstraint("user_id", "organization_id", "permission"),
        # Together: no permission can exist in an organization that its user does not belong to.
        ForeignKeyConstraint(["organization_id", "user_id"], ["users.organization_id", "users.id"]),
        CheckConstraint(one_of("permission", PERMISSIONS), name="permission"),
    )
    entity_type = "permission"

    user_id: Mapped[int]
    organization_id: Mapped[int] = mapped_column(index=True)
    permission: Mapped[str]
    granted_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    granted_at: Mapped[datetime] = mapped_column(default=now)
