"""Selects of granted permissions."""

from collections.abc import Sequence

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.models import Permission
from services.identity.schemas.users import PermissionRead
from shared.reads import JsonQuery, Reader

_LIST = JsonQuery(
    PermissionRead,
    select().select_from(Permission).where(Permission.user_id == bindparam("user_id")),
    dict(Permission.__table__.columns),
    order=(Permission.permission,),
    newest_first=False,
)


async def list_permissions(reader: Reader, user_id: int) -> bytes:
    """Return the permissions that a user was granted as JSON, ordered by name."""
    return await _LIST.list(reader, user_id=user_id)


async def permissions_of(session: AsyncSession, user_id: int) -> Sequence[Permission]:
    """Return the permissions that a user was granted, ordered by name."""
    statement = select(Permission).where(Permission.user_id == user_id)
    return (await session.scalars(statement.order_by(Permission.permission))).all()


async def find_permission(session: AsyncSession, user_id: int, name: str) -> Permission | None:
    """Return a user's permission with this name, or None."""
    return await session.scalar(
        select(Permission).where(Permission.user_id == user_id, Permission.permission == name)
    )
