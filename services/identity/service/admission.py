"""Who is let in, once it is certain who it is."""

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
    """Return why a user may not be signed in, or None."""
    if user.awaits_approval:
        return AwaitingApproval()
    if not user.is_active:
        return AccountDeactivated()
    if user.organization_id is not None:
        copy = await queries.find_organization_copy(session, user.organization_id)
        if copy is None or not copy.is_active:
            return OrganizationDeactivated()
    return None
