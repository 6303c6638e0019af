"""Selects of granted permissions."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.models import Permission


async def permissions_of(session: AsyncSession, user_id: int) -> Sequence[Permission]:
    """Return the permissions that a user was granted, ordered by name."""
    statement = select(Permission).where(Permission.user_id == user_id)
    return (await session.scalars(statement.order_by(Permission.permission))).all()


async def find_permission(session: AsyncSession, user_id: int, name: str) -> Permission | None:
    """Return a user's permission with this name, or None."""
    return await session.scalar(
        select(Permission).where(Permission.user_id == user_id, Permission.permission == name)
    )
