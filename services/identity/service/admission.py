"""Whether an authenticated user may sign in."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from services.identity.errors import (
    AccountDeactivated,
    AwaitingApproval,
    OrganizationDeactivated,
)
from services.identity.models import User
from shared.errors import AppError


async def refusal_of(session: AsyncSession, user: User) -> AppError | None:
    """Return the error for a user who may not sign in, or None for one who may."""
    if user.awaits_approval:
        return AwaitingApproval()
    if not user.is_active:
        return AccountDeactivated()
    if user.organization_id is not None:
        copy = await queries.find_organization_copy(session, user.organization_id)
        if copy is None or not copy.is_active:
            return OrganizationDeactivated()
    return None
